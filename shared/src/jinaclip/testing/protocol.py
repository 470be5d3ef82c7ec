"""A uvicorn protocol that lets an endpoint reach its connection, and the misbehaviour that needs it."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from jinaclip.testing.ledger import Ledger

POLL_S = 0.001
GAP_S = 0.01  # between the parts of an answer that breaks off, so that the first part arrives
NO_LINGER = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class Connection(H11Protocol):
    """An HTTP connection that endpoints find in their `scope["state"]`."""

    def __init__(self, config: Any, server_state: Any, app_state: dict[str, Any], _loop: Any = None) -> None:
        super().__init__(config, server_state, {**app_state, "connection": self}, _loop)
        self.ledger: Ledger | None = None
        """The last one with a request of this connection."""
        self.gone = asyncio.Event()
        self.broken = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Notes that it is gone, and whether in peace."""
        self.broken = exc is not None
        self.gone.set()
        super().connection_lost(exc)

    def resume_reading(self) -> None:
        """Goes on reading, or a client that leaves would go unseen."""
        self.flow.resume_reading()

    async def flush(self) -> bool:
        """Waits until all that was written is on its way; False if the client left before."""
        left = self.transport.get_write_buffer_size()
        while left and not self.gone.is_set():
            await asyncio.sleep(POLL_S)
            left = self.transport.get_write_buffer_size()
        return not self.broken

    def reset(self) -> None:
        """Breaks the connection with RST, if the client has not left."""
        if self.transport.is_closing():
            return
        with socket.socket(fileno=socket.dup(self.transport.get_extra_info("socket").fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
        self.transport.abort()


class RawResponse(Response):
    """An answer that goes around HTTP; the connection does not survive it."""

    media_type = "application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Does what it does, and waits for the end of the connection."""
        connection: Connection = scope["state"]["connection"]
        await self.act(connection)
        await connection.gone.wait()

    async def act(self, connection: Connection) -> None:
        """What is done to the connection; nothing at all is a server that hangs."""

    def head(self) -> bytes:
        """Status line and headers, as they would be sent."""
        lines = [b"%b: %b" % pair for pair in self.raw_headers]
        return b"\r\n".join([b"HTTP/1.1 %d OK" % self.status_code, *lines, b"Connection: close", b"", b""])


class ResetAtOnce(RawResponse):
    """RST instead of an answer."""

    async def act(self, connection: Connection) -> None:
        """Resets."""
        connection.reset()


class ResetMidBody(RawResponse):
    """RST after half of the body."""

    async def act(self, connection: Connection) -> None:
        """Sends a half, and resets."""
        connection.transport.write(self.head() + self.body[: len(self.body) // 2])
        await connection.flush()
        await asyncio.sleep(GAP_S)
        connection.reset()


class CloseMidBody(RawResponse):
    """FIN after half of the body."""

    async def act(self, connection: Connection) -> None:
        """Sends a half, and closes."""
        connection.transport.write(self.head() + self.body[: len(self.body) // 2])
        connection.transport.close()


class Drip(RawResponse):
    """An honest answer, byte by byte, from its start or from the body on."""

    def __init__(self, body: bytes, *, gap_s: float, headers_too: bool) -> None:
        super().__init__(body)
        self.finished = False
        self.gap_s = gap_s
        self.headers_too = headers_too

    async def act(self, connection: Connection) -> None:
        """Sends byte after byte, while the client is there."""
        at_once, slowly = (b"", self.head() + self.body) if self.headers_too else (self.head(), self.body)
        connection.transport.write(at_once)
        for byte in slowly:
            if connection.gone.is_set():
                return
            connection.transport.write(bytes([byte]))
            with suppress(TimeoutError):
                await asyncio.wait_for(connection.gone.wait(), self.gap_s)
        self.finished = True
        connection.transport.close()
