"""Connections that nobody can hold for nothing: time-outs around uvicorn's protocol, and an end to their number.

uvicorn waits for ever for the headers of a request and for a client that does not read. Here a connection that waits
for its client has a time by which the client must have moved on, and where there is no room for another, one that waits
makes room: first the one that has been in the middle of a request longest, as a good client sends in milliseconds.

    client                    connection                        until
    connects                  waits for headers                 header_timeout
    sends headers             waits for the body                the app says so: `read_body`
    has sent the body         works                             -
    has the answer            waits for the next request        keep_alive, then header_timeout from its first byte
    sends a refused body      throws it away, then says why     LINGER
    does not read             waits for room to send            send_timeout after it last read; SLOWEST for all
A connection carries one request at a time. What has come behind a request before its answer is never run: no client of
today sends the next one early, and whoever smuggles one past a proxy does.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from jinaclip.server.refusals import Refused, unavailable

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from jinaclip.server.settings import Settings

LINGER = 5.0
"""Seconds for which the rest of a body is read that nobody wants, before its client is told: one that is cut off while
it sends may never read why."""
PROMPT = (408, 503)
"""Statuses that are told at once, as the client or this server is late already."""
CLOSE = (b"connection", b"close")
AMBIGUOUS = "REQUEST_AMBIGUOUS"
GRACE = 1.0
"""Seconds for which a client may be in the middle of a request before it is the first to make room for others; then
come those that are idle."""
TICK = 1.0
"""Seconds between two looks at a connection; fewer where a time-out is short."""
STATE = "connection"
"""Where in the state of a request its connection is."""
SLICE = 8 * 1024
"""Bytes that the parser gets at a time while it reads headers: it measures them only between two."""
SLOWEST = 10
"""Of `send_timeout`: the longest that a client may take for all of an answer, however it reads."""
LARGE = 64 * 1024
"""Bytes of an answer from which the app waits until the client has nearly all of it."""


class Connections:
    """All connections of a server, and how long each may wait.

    Args:
        settings: `header_timeout`, `send_timeout`, `keep_alive` and `max_connections_per_peer` are read.
        most: connections.
    """

    def __init__(self, settings: Settings, most: int) -> None:
        self.settings = settings
        self.tick = min(TICK, settings.header_timeout / 4, settings.send_timeout / 4)
        self._most = most
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, float] = {}
        """Since when; the one that has waited longest comes first."""
        self._idle: dict[Connection, None] = {}
        """Those that wait for the next request. Also in order."""
        self._peers: dict[str, set[Connection]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Whether there is room for a connection, or another one made room."""
        own = self._peers.get(connection.peer, set())
        per_peer = self.settings.max_connections_per_peer
        if per_peer is not None and len(own) >= per_peer and not self._make_room(own):
            return False
        if len(self._open) >= self._most and not self._make_room(self._open):
            return False
        self._open.add(connection)
        self._peers.setdefault(connection.peer, set()).add(connection)
        return True

    def forget(self, connection: Connection) -> None:
        """It is gone; harmless if it was not there."""
        self._open.discard(connection)
        self.end_wait(connection)
        own = self._peers.get(connection.peer, set())
        own.discard(connection)
        if not own:
            self._peers.pop(connection.peer, None)

    def begin_wait(self, connection: Connection, *, idle: bool = False) -> None:
        """It waits for its client from now on; `idle`: for the next request, of which nothing has come."""
        self.end_wait(connection)
        if connection in self._open and idle:
            self._idle[connection] = None
        elif connection in self._open:
            self._waiting[connection] = time.monotonic()

    def end_wait(self, connection: Connection) -> None:
        """It does not wait any more."""
        self._waiting.pop(connection, None)
        self._idle.pop(connection, None)

    def protocol(self) -> type[asyncio.Protocol]:
        """What uvicorn takes as `http=`."""
        connections = self

        class Guarded(Connection):
            def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
                super().__init__(connections)
                self._http = H11Protocol(config, server_state, {**app_state, STATE: self}, _loop)

        return Guarded

    def _make_room(self, among: set[Connection]) -> bool:
        """Closes one of these that waits for its client, if there is one."""
        slow, idle = (next((one for one in some if one in among), None) for some in (self._waiting, self._idle))
        is_slow = slow is not None and time.monotonic() - self._waiting[slow] > GRACE
        chosen = slow if is_slow else idle or slow
        if chosen is not None:
            self.forget(chosen)
            chosen.abort()
        return chosen is not None


class Connection(asyncio.Protocol):
    """One connection: hands everything to uvicorn's protocol, and watches over the time."""

    _http: H11Protocol
    _transport: asyncio.Transport

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._loop = asyncio.get_running_loop()
        self._is_admitted = self._is_idle = self._is_in_request = False
        self._waits_until = math.inf
        self._unsent: Unsent | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.peer = ""
        """Address of the client."""
        self.lost = asyncio.Event()
        """Set once it is gone."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins, if there is room."""
        self._transport = cast(asyncio.Transport, transport)
        address = transport.get_extra_info("peername")
        self.peer = str(address[0]) if isinstance(address, tuple) else ""
        self._is_admitted = self._all.admit(self)
        if not self._is_admitted:
            self._transport.write(write_full())
            self._transport.close()
            return
        self._http.connection_made(self._transport)
        self._wait(self._all.settings.header_timeout)
        self._tick()

    def data_received(self, data: bytes) -> None:
        """Hands on what came, headers in slices."""
        if self._is_idle:
            self._is_idle = False
            self._wait(self._all.settings.header_timeout)
        size = len(data) if self._is_in_request else SLICE
        try:
            for start in range(0, len(data), size):
                if self._transport.is_closing():
                    break
                self._http.data_received(data[start : start + size])
        except h11.LocalProtocolError:  # nonsense behind an answer: nothing can be said about it any more
            self.abort()

    def eof_received(self) -> None:
        """Hands it on."""
        self._http.eof_received()

    def pause_writing(self) -> None:
        """Hands it on."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Hands it on."""
        self._http.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        self.lost.set()
        if self._timer is not None:
            self._timer.cancel()
        if self._is_admitted:
            self._all.forget(self)
            self._http.connection_lost(exc)

    def abort(self) -> None:
        """Closes it, whatever has not been sent."""
        self._transport.abort()

    def begin_request(self) -> None:
        """The headers of a request have come."""
        self._is_in_request, self._is_idle = True, False
        self._waits_until = math.inf
        if not self._transport.get_write_buffer_size():
            self._unsent = None  # or a client that is never idle would look like one that never reads
        self._all.end_wait(self)

    def begin_body(self) -> None:
        """The app wants the body, or more of it, and looks after the time itself."""
        self._all.begin_wait(self)

    def end_body(self) -> None:
        """The app has the body."""
        self._all.end_wait(self)

    def end_request(self) -> None:
        """The request is answered."""
        self._is_in_request, self._is_idle = False, True
        self._wait(self._all.settings.keep_alive + self._all.settings.header_timeout, idle=True)

    @property
    def is_closing(self) -> bool:
        """Whether nothing can be sent any more: uvicorn answers nonsense itself, and closes."""
        return self._transport.is_closing()

    @property
    def is_body_here(self) -> bool:
        """Whether the body of the request has come."""
        return self._http.conn.their_state is not h11.SEND_BODY

    @property
    def is_more_here(self) -> bool:
        """Whether more has come than the request."""
        return self.is_body_here and self._http.conn.trailing_data[0] != b""

    def _wait(self, seconds: float, *, idle: bool = False) -> None:
        """Closes the connection in so many seconds, unless something happens before."""
        self._waits_until = self._loop.time() + seconds
        self._all.begin_wait(self, idle=idle)

    def _tick(self) -> None:
        now = self._loop.time()
        if self._is_stuck(now):
            self.abort()
        elif now > self._waits_until:
            self._transport.close()
        self._timer = self._loop.call_later(self._all.tick, self._tick)

    def _is_stuck(self, now: float) -> bool:
        """Whether the client does not read what was written, or far too slowly."""
        left = self._transport.get_write_buffer_size()
        if not left:
            if self._unsent is not None and self._is_in_request:
                self._all.end_wait(self)
            self._unsent = None
            return False
        if self._unsent is None:
            self._unsent = Unsent(now, now, left)
            self._all.begin_wait(self)
        unsent = self._unsent
        if left < unsent.left:
            unsent.moved_at = now
        unsent.left = left
        patience = self._all.settings.send_timeout
        return now - unsent.moved_at > patience or now - unsent.since > SLOWEST * patience


def write_full() -> bytes:
    """What a client reads for whose connection there is no room."""
    response = unavailable("This server has no room for connections now.").response()
    headers = [b"%s: %s" % header for header in [*response.raw_headers, CLOSE]]
    return b"\r\n".join([b"HTTP/1.1 503 Service Unavailable", *headers, b"", response.body])


@dataclass(slots=True)
class Unsent:
    """What was written and is not on its way yet.

    Attributes:
        since: when there was nothing such for the last time.
        moved_at: when the client last read some of it.
        left: bytes.
    """

    since: float
    moved_at: float
    left: int


class Watched:
    """An app whose connections learn from it what they wait for.

    Args:
        app: any ASGI app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the app."""
        connection = scope.get("state", {}).get(STATE)
        if scope["type"] == "http" and isinstance(connection, Connection):
            await Exchange(connection, scope, receive, send).run(self._app)
        else:
            await self._app(scope, receive, send)


class Exchange:
    """A request and its answer, on their connection."""

    def __init__(self, connection: Connection, scope: Scope, receive: Receive, send: Send) -> None:
        self._connection, self._scope = connection, scope
        self._receive, self._send = receive, send
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._is_read = False

    async def run(self, app: ASGIApp) -> None:
        """Runs the app on it, unless nobody can tell where the request ends."""
        self._connection.begin_request()
        try:
            if self._is_ambiguous:
                app = Refused(
                    400, AMBIGUOUS, "A request must not have both Content-Length and Transfer-Encoding."
                ).response()
            await app(self._scope, self.receive, self.send)
        finally:
            self._connection.end_request()

    @property
    def _is_ambiguous(self) -> bool:
        return b"content-length" in self._headers and b"transfer-encoding" in self._headers

    async def receive(self) -> Message:
        """What the client sends."""
        if not self._is_read:
            self._is_read = True
            self._connection.begin_body()
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            self._connection.end_body()
        return message

    async def send(self, message: Message) -> None:
        """Sends, and waits until most of a large body is gone: until then it counts as held."""
        if message["type"] == "http.response.start":
            await self._linger(message["status"])
            if self._must_close:
                message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            if self._connection.is_closing:
                await self._connection.lost.wait()
        elif not message.get("more_body") and len(message.get("body", b"")) > LARGE:
            await self._send({**message, "more_body": True})
            message = {"type": "http.response.body"}
        await self._send(message)

    @property
    def _must_close(self) -> bool:
        return self._is_ambiguous or self._connection.is_more_here or not self._connection.is_body_here

    async def _linger(self, status: int) -> None:
        """Throws away what is left of a body that nobody wanted."""
        if status in PROMPT or b"expect" in self._headers:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while not self._connection.is_body_here:
                    if (await self._receive())["type"] == "http.disconnect":
                        return
