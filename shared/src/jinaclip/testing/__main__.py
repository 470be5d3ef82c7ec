"""`python -m jinaclip.testing`: serves until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import socket
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence

import uvicorn

from jinaclip.testing.app import make_app
from jinaclip.testing.faults import FAULTS, PASSING
from jinaclip.testing.protocol import Connection
from jinaclip.testing.settings import Settings

WIDTH = 100
DESCRIPTION = """\
A service that speaks Jina's wire and misbehaves on request. It prints "listening on URL" once it does.
Nothing is sent anywhere; by default a vector stands for a digest of its input."""
PATHS = """\
paths:
  POST /v1/embeddings   what clients call, with a key that starts with "jina_test"
  POST /configure       a JSON object of settings to change; scripts and limits start afresh
  POST /reset           empties the ledger and takes the settings back; with ?settings=keep the ledger alone
  GET /ledger           what was received, answered and billed, as JSON
  GET /ledger?digest=   how often one input, by its digest in hex, was received and answered"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the command line and serves."""
    parser = argparse.ArgumentParser(
        prog="python -m jinaclip.testing",
        description=DESCRIPTION,
        epilog=f"{PATHS}\n\n{settings_help()}\n\n{faults_help()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument("--config", default="{}", help="settings to start with, as a JSON object")
    parser.add_argument("--stop-at-eof", action="store_true", help="stop when standard input ends")
    options = parser.parse_args(arguments)
    try:
        settings = Settings().change(json.loads(options.config))
        app = make_app(settings)
    except (ValueError, TypeError) as error:
        parser.error(f"--config: {error}")
    with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
        runner.run(serve(app, options.host, options.port, stop_at_eof=options.stop_at_eof))


def settings_help() -> str:
    """The settings as their class describes them."""
    text = (inspect.getdoc(Settings) or "").partition("Attributes:\n")[2]
    return "settings:\n" + textwrap.indent(textwrap.dedent(text), "  ")


def faults_help() -> str:
    """The names of all faults."""
    names = textwrap.fill(", ".join(FAULTS), WIDTH, initial_indent="  ", subsequent_indent="  ")
    others = textwrap.fill(", ".join(sorted(FAULTS.keys() - set(PASSING))), WIDTH)
    note = "`fault_rate` draws from all but these, unless `faults` names others:"
    return f"faults:\n{names}\n\n  {note}\n{textwrap.indent(others, '  ')}"


def event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """That of uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


async def serve(app: object, host: str, port: int, *, stop_at_eof: bool) -> None:
    """Serves on this port, and says where once it does."""
    listener = socket.create_server((host, port), backlog=2048)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio alone forgets it for such sockets
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
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
    if stop_at_eof:
        threading.Thread(target=stop_after_stdin, args=[server], daemon=True).start()
    print(f"listening on http://{host}:{listener.getsockname()[1]}", flush=True)
    await server.serve([listener])


def stop_after_stdin(server: uvicorn.Server) -> None:
    """Ends the server when whoever started it is gone."""
    sys.stdin.read()
    server.should_exit = server.force_exit = True


if __name__ == "__main__":
    main()
