"""From listening to exit code 0: how the server starts, and how it stops.

SIGTERM or SIGINT   /ready says 503; all else goes on for `drain_delay`, so that balancers notice
then                nobody listens any more; what was let in is finished, idle connections are closed
`drain_timeout`     what is not finished by then is refused with 503
the end             exit code 0
a second signal     ends the process at once, by that signal
"""

from __future__ import annotations

import asyncio
import logging
import math
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any

import uvicorn

from jinaclip.backends.api.wires.jina import Code
from jinaclip.errors import ConfigError
from jinaclip.server.connections import Connections, Watched
from jinaclip.server.origins import OwnMachine
from jinaclip.server.refusals import Refused, unavailable

if TYPE_CHECKING:
    from types import FrameType

    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from jinaclip.server.health import Health
    from jinaclip.server.settings import Settings

logger = logging.getLogger("jinaclip.server")
BACKLOG = 2048
"""Connections that the system takes before the server does."""
OTHER_FILES = 256
"""Files and sockets that a server needs beside its connections."""
LAST_WORDS = 2
"""Seconds for the refusals at the end of `drain_timeout`."""


def run(app: Starlette, settings: Settings) -> int:
    """Serves until a signal ends it.

    Args:
        app: of `make_app`; its `state.health` is told that the server stops.
        settings: `host`, `port`, the time-outs and limits of connections, `drain_delay` and `drain_timeout` are read.

    Returns:
        exit code of the process: 0 when it was stopped.

    Raises:
        ConfigError: it cannot listen there.
        JinaClipError: the weights cannot be used.
    """
    listener = listen(settings.host, settings.port)
    requests = Requests(app if settings.keys else OwnMachine(app))
    connections = Connections(settings, most_connections(settings.max_connections))
    server = Server(make_config(Watched(requests), connections, settings), app.state.health, requests, settings)
    print(f"listening on {address_of(listener)}", flush=True)
    server.run([listener])
    if app.state.health.failure is not None:
        raise app.state.health.failure
    return 0


def make_config(app: ASGIApp, connections: Connections, settings: Settings) -> uvicorn.Config:
    """How uvicorn runs the app. It logs no requests: addresses may hold what others must not read."""
    return uvicorn.Config(
        app,
        http=connections.protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=math.ceil(settings.keep_alive),
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout) + LAST_WORDS,
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections.

    Raises:
        ConfigError: there is no such address, or it is taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(f"cannot listen on host={host!r}, port={port}: {error.strerror}", option="port") from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio alone forgets it for such sockets
    return listener


def address_of(listener: socket.socket) -> str:
    """Where a socket listens, as an address for clients."""
    host, port, *_ = listener.getsockname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def most_connections(wanted: int) -> int:
    """As many connections as are wanted, or as this process may have."""
    files = allow_files(wanted + OTHER_FILES)
    most = min(wanted, max(files - OTHER_FILES, files // 2))
    if most < wanted:
        logger.warning("this process may open %d files, so it has %d connections at most, not %d", files, most, wanted)
    return most


def allow_files(wanted: int) -> int:
    """Lets this process open so many files and sockets if it can; gives how many it may open then, if fewer."""
    if sys.platform == "win32":
        return wanted
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < wanted:  # below 0 is no limit at all
        soft = min(wanted, hard) if hard >= 0 else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(wanted, soft) if soft >= 0 else wanted


class Server(uvicorn.Server):
    """uvicorn's server, which drains before it stops.

    Args:
        config: of uvicorn.
        health: learns that the server is about to stop, and tells where it cannot go on.
        requests: those under way, which are ended when time is over.
        settings: `drain_delay` and `drain_timeout` are read.
    """

    def __init__(self, config: uvicorn.Config, health: Health, requests: Requests, settings: Settings) -> None:
        super().__init__(config)
        self._health, self._requests, self._settings = health, requests, settings
        self._is_signalled = False
        self._loop: asyncio.AbstractEventLoop

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serves on these sockets."""
        self._loop = asyncio.get_running_loop()
        failure = asyncio.create_task(self._stop_on_failure())
        await super().serve(sockets)
        failure.cancel()

    async def _stop_on_failure(self) -> None:
        await self._health.failed.wait()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Takes a signal. uvicorn's own would send the first one again at the end, and so lose the exit code 0."""
        if self._is_signalled:
            signal.signal(sig, signal.SIG_DFL)
            signal.raise_signal(sig)
        self._is_signalled = True
        self._loop.call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Says that it is about to stop, and stops in a while."""
        logger.info("stopping: not ready from now on, listening for another %g s", self._settings.drain_delay)
        self._health.drain()
        self._loop.call_later(self._settings.drain_delay, self.stop)

    def stop(self) -> None:
        """Takes no more connections, and ends what is under way in a while."""
        logger.info("stopped listening; %d requests have %g s", len(self._requests), self._settings.drain_timeout)
        self.should_exit = True
        self._loop.call_later(self._settings.drain_timeout, self.end)

    def end(self) -> None:
        """Refuses what is still under way."""
        if len(self._requests):
            logger.warning("%d requests are refused: they took too long", len(self._requests))
        self._requests.end()


class Requests:
    """An app whose requests can be ended with a refusal, and whose mishaps are told without what was in them.

    Args:
        app: any ASGI app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_over = False

    def __len__(self) -> int:
        return len(self._tasks)

    def end(self) -> None:
        """Ends those that are under way: their answer is a 503."""
        self._is_over = True
        for task in self._tasks:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the app."""
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self._app(scope, receive, send)
            return
        if self._is_over:
            await stopping().response()(scope, receive, send)
            return
        self._tasks.add(task)
        try:
            await self._answer(task, scope, receive, send)
        finally:
            self._tasks.discard(task)

    async def _answer(self, task: asyncio.Task[Any], scope: Scope, receive: Receive, send: Send) -> None:
        is_answered = False

        async def note(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        refusal = None
        try:
            await self._app(scope, receive, note)
        except asyncio.CancelledError:
            if is_answered or not self._is_over:
                raise
            task.uncancel()
            refusal = stopping()
        except Exception as error:  # noqa: BLE001  whatever it says may be what a client sent
            logger.error("a request failed with %s", place_of(error))  # noqa: TRY400
            refusal = Refused(500, Code.INTERNAL, "This server failed; its log says where.")
        if refusal is not None and not is_answered:
            await refusal.response()(scope, receive, send)


def stopping() -> Refused:
    """The refusal of a server that stops."""
    return unavailable("This server is stopping; another one, or this one in a moment, will answer.")


def place_of(error: BaseException) -> str:
    """What an error is and where it happened, without its words."""
    steps = traceback.extract_tb(error.__traceback__)
    places = [f"{step.filename.rpartition('/')[2]}:{step.lineno} {step.name}" for step in steps]
    return " < ".join([type(error).__name__, *reversed(places)])
