"""The bytes of a connection, over an asyncio transport: read, written, put behind TLS, ended at any time."""

from __future__ import annotations

import asyncio
import selectors
import socket
import ssl
from typing import cast

import httpx

QUEUE_BYTES = 2**20
"""May wait before the connection is told to receive no more."""

Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""Windows has no poll, and elsewhere select refuses descriptors above 1024."""


class Stream(asyncio.Protocol):
    """One connection. It never waits for more than its own I/O.

    httpx's own library would hand us a stream of anyio, which keeps received bytes where nobody can look for them.

    Attributes:
        is_idle: whether no byte may come; one that does ends the connection.
        has_received: whether a byte came since this was last set to False.
        has_ended: whether nothing more will come.
    """

    def __init__(self) -> None:
        self.is_idle, self.has_received, self.has_ended = True, False, False
        self._transport: asyncio.Transport | None = None
        self._queue: list[bytes] = []
        self._queued = 0
        self._waiter: asyncio.Future[None] | None = None
        self._is_full = self._is_killed = False  # the loop asks to write no more for now; closed from this side
        self._error: Exception | None = None

    async def open(self, opened: socket.socket) -> None:
        """Takes a connected socket."""
        await asyncio.get_running_loop().create_connection(lambda: self, sock=opened)

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Puts what follows behind TLS.

        Raises:
            httpx.ConnectError: the connection has ended.
            OSError: the handshake fails.
        """
        self.check()  # the handshake would wait for ever
        context.set_alpn_protocols(["http/1.1"])
        loop = asyncio.get_running_loop()
        transport = await loop.start_tls(self._io, self, context, server_hostname=host)
        if transport is None:  # asyncio's answer if the connection ended just then
            raise self._closed_at_once()
        self.connection_made(transport)

    # -- its state

    @property
    def is_open(self) -> bool:
        """Whether it is open, as far as the event loop has seen."""
        return not (self.has_ended or self._transport is None or self._transport.is_closing())

    @property
    def has_bytes(self) -> bool:
        """Whether bytes wait to be read."""
        return bool(self._queue)

    @property
    def has_news(self) -> bool:
        """Whether bytes or an end wait in the socket that the event loop has not seen yet."""
        with Selector() as selector:
            selector.register(self._io.get_extra_info("socket"), selectors.EVENT_READ)
            return bool(selector.select(0))

    def check(self) -> None:
        """Raises httpx.ConnectError if it is not open."""
        if not self.is_open:
            raise self._closed_at_once()

    def kill(self) -> None:
        """Closes it now, or once it opens; whoever reads or writes gets an error."""
        self._is_killed = True
        self._queue.clear()
        self._end(httpx.ReadError("given up"))
        if self._transport is not None:
            self._transport.abort()

    def _end(self, error: Exception | None) -> None:
        self.has_ended = True
        self._error = self._error or error
        self._wake()

    def _closed_at_once(self) -> Exception:
        error = httpx.ConnectError("the connection was closed at once")
        error.__context__ = self._error
        return error

    # -- bytes

    async def read(self, seconds: float | None) -> bytes:
        """What has come, at least one byte; nothing at the end.

        Raises:
            httpx.ReadTimeout: nothing comes for so long.
            httpx.TransportError: the connection was reset, or killed.
        """
        while not self._queue and not self.has_ended:
            await self._wait(seconds, httpx.ReadTimeout)
        if not self._queue and self._error is not None:
            raise self._error
        data = b"".join(self._queue)
        self._queue.clear()
        self._queued = 0
        self._io.resume_reading()
        return data

    def unread(self, data: bytes) -> None:
        """Puts bytes back, to be read next."""
        if data:
            self._queue.insert(0, data)
            self._queued += len(data)

    async def write(self, data: bytes, seconds: float | None) -> None:
        """Writes bytes, unless the connection has ended: then an answer may have come early.

        Raises:
            httpx.WriteTimeout: nobody takes them for so long.
        """
        if data and self.is_open:
            self._io.write(data)
        while self._is_full and not self.has_ended:
            await self._wait(seconds, httpx.WriteTimeout)

    async def _wait(self, seconds: float | None, error: type[httpx.TransportError]) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = None if seconds is None else loop.call_later(seconds, expire, waiter, error)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def _io(self) -> asyncio.Transport:
        assert self._transport is not None  # noqa: S101 - nothing is read or written before there is one
        return self._transport

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = cast("asyncio.Transport", transport)
        if self._is_killed:  # too late
            self._transport.abort()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if self.is_idle:
            self._end(httpx.RemoteProtocolError("bytes without a request"))
            self._io.abort()
        if self.has_ended:
            return
        self.has_received = True
        self._queue.append(data)
        self._queued += len(data)
        if self._queued > QUEUE_BYTES:
            self._io.pause_reading()
        self._wake()

    def eof_received(self) -> None:  # noqa: D102
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        error = None if exc is None else httpx.ReadError(str(exc))
        if error is not None:
            error.__cause__ = exc
        self._end(error)

    def pause_writing(self) -> None:  # noqa: D102
        self._is_full = True

    def resume_writing(self) -> None:  # noqa: D102
        self._is_full = False
        self._wake()


def expire(waiter: asyncio.Future[None], error: type[httpx.TransportError]) -> None:
    """Ends a wait with an error."""
    if not waiter.done():
        waiter.set_exception(error(""))
