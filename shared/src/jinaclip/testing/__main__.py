"""`python -m jinaclip.testing`: serves until its standard input ends or it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import threading

import uvicorn

from jinaclip.testing.app import make_app
from jinaclip.testing.protocol import Connection
from jinaclip.testing.settings import Settings

try:
    import uvloop

    new_loop = uvloop.new_event_loop
except ImportError:
    new_loop = asyncio.new_event_loop


def main() -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(prog="python -m jinaclip.testing", description="A server that speaks Jina's wire.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--config", default="{}", help="settings as JSON; see jinaclip/testing/settings.py")
    parser.add_argument("--with-parent", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args()
    settings = Settings().updated(json.loads(arguments.config))
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve(settings, arguments.port, with_parent=arguments.with_parent))


async def serve(settings: Settings, port: int, *, with_parent: bool) -> None:
    """Serves on this port, and says where once it does."""
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio alone forgets it for such sockets
    config = uvicorn.Config(
        make_app(settings),
        http=Connection,
        ws="none",
        lifespan="off",
        log_level="error",
        server_header=False,
        date_header=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    if with_parent:
        threading.Thread(target=stop_at_eof, args=[server], daemon=True).start()
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await server.serve([listener])


def stop_at_eof(server: uvicorn.Server) -> None:
    """Ends the server when whoever started it is gone."""
    sys.stdin.read()
    server.should_exit = server.force_exit = True


main()
