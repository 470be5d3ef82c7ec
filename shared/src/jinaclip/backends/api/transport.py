"""A transport for httpx over httpcore's pool: safe to cancel at any time, and strict about where an answer ends.

Three things differ from httpx's own transport.

- Cancelling: httpcore 1.0 loses connections and places in its pool when a task inside it is cancelled. Here its code
  runs in a task that is never cancelled. What ends early is the connection, so that httpcore unwinds on an error.
- Surplus bytes: a second parser follows every answer. What comes after its end makes the connection unfit, where
  httpcore would read it as the beginning of the next answer. Only what comes after the next request was written cannot
  be told from the answer to that.
- Keep-alive: a connection that was used before and closes before one byte of an answer is replaced once.

The stream is our own, and not one around httpcore's: anyio keeps received bytes in a queue that nobody can look into.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import selectors
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterable, Coroutine, Iterable
from contextlib import suppress
from contextvars import ContextVar
from itertools import zip_longest
from typing import Any, TypeVar, cast

import h11
import httpcore
import httpx

QUEUE_BYTES = 2**20
"""May wait before the connection is told to receive no more. A read takes all of it, whatever httpcore asks for."""
HEAD_BYTES = 100 * 1024
"""The longest head of an answer; httpcore has the same limit."""
IDLE_SECONDS = 30.0
"""How long an unused connection is kept."""
IDLE_CONNECTIONS = 64
EYEBALLS_SECONDS = 0.25
"""How long one address of a host may take until the next one is tried beside it (RFC 8305)."""
FOREIGN = (
    httpcore.ConnectionNotAvailable,
    httpcore.ProxyError,
    httpcore.UnsupportedProtocol,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.NetworkError,
    h11.ProtocolError,
)
"""What httpcore raises; it lets some errors of h11 through."""
DROPPED = (httpcore.RemoteProtocolError, httpcore.NetworkError)
"""How the end of a connection shows."""

Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)
"""Windows has no poll, and elsewhere select refuses descriptors above 1024."""

T = TypeVar("T")


class TooLarge(httpx.RemoteProtocolError):
    """The body of an answer is larger than the request allows."""


class Transport(httpx.AsyncBaseTransport):
    """Sends requests of httpx from one event loop, over connections that it keeps for later requests.

    Args:
        ssl_context: For https, of the service and of the proxy. None: httpcore's own, made anew for each connection.
        proxy: URL of a proxy with scheme http, https or, if `socksio` is installed, socks5.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None, proxy: str | None) -> None:
        self._tasks: dict[asyncio.Task[httpx.Response], Exchange] = {}
        self._pool = Pool(
            ssl_context=ssl_context,
            proxy=None if proxy is None else proxy_of(proxy, ssl_context),
            max_connections=None,
            max_keepalive_connections=IDLE_CONNECTIONS,
            keepalive_expiry=IDLE_SECONDS,
            network_backend=Network(),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request and reads the whole answer. May be cancelled at any time; nothing stays behind then.

        The stream of the request is read once the connection is there, and must be one that can be read again.

        The extension `most_bytes` of the request, a pair, limits the body of a success and that of any other answer;
        None means no limit.

        If the connection was used before and ends before one byte of the answer, the request is sent once more, over
        a new connection. Most often the service closed it while it was idle, perhaps while this process was frozen.
        But that is no proof that the service did not process the request: one that fails after it did looks the same.

        Raises:
            httpx.TransportError: No complete answer came; what the system said is in the chain of causes.
            TooLarge: The body is larger than `most_bytes`.
        """
        exchange = Exchange()
        try:
            try:
                return await self._run(request, exchange)
            except DROPPED:
                if not exchange.lost_a_race():
                    raise
            return await self._run(request, Exchange(wants_new=True))
        except FOREIGN as error:
            raise translated(error) from error

    async def _run(self, request: httpx.Request, exchange: Exchange) -> httpx.Response:
        task = exchange.start(self._perform(request))
        self._tasks[task] = exchange
        task.add_done_callback(self._forget)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            exchange.kill()
            await asyncio.wait([task])  # a few turns of the loop: all that httpcore waits for has ended
            raise
        return task.result()

    def _forget(self, task: asyncio.Task[httpx.Response]) -> None:
        del self._tasks[task]
        retrieve(task)

    async def _perform(self, request: httpx.Request) -> httpx.Response:
        response = await self._pool.handle_async_request(outgoing(request))
        success, other = request.extensions.get("most_bytes") or (None, None)
        try:
            most = success if 200 <= response.status < 300 else other
            body = await gather(cast("AsyncIterable[bytes]", response.stream), most)
        finally:
            await response.aclose()
        kept = {name: response.extensions[name] for name in ("http_version", "reason_phrase")}
        return httpx.Response(response.status, headers=response.headers, stream=httpx.ByteStream(body), extensions=kept)

    async def aclose(self) -> None:
        """Closes all connections; requests in flight fail."""
        tasks = list(self._tasks)
        for exchange in list(self._tasks.values()):
            exchange.kill()
        if tasks:
            await asyncio.wait(tasks)
        await self._pool.aclose()
        await asyncio.sleep(0)  # the loop closes sockets in its next turn


async def gather(chunks: AsyncIterable[bytes], most: int | None) -> bytes:
    """Reads a body up to a size.

    Raises:
        TooLarge: There is more.
    """
    parts, size = [], 0
    async for chunk in chunks:
        size += len(chunk)
        if most is not None and size > most:
            raise TooLarge(f"the body is larger than {most} bytes")
        parts.append(chunk)
    return b"".join(parts)


def outgoing(request: httpx.Request) -> httpcore.Request:
    """The same request for httpcore; httpx has added Host and Content-Length."""
    url = request.url
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    body = cast("AsyncIterable[bytes]", request.stream)
    return httpcore.Request(
        request.method, target, headers=request.headers.raw, content=body, extensions=request.extensions
    )


def proxy_of(url: str, ssl_context: ssl.SSLContext | None) -> httpcore.Proxy:
    """A proxy, its user and password taken out of the URL."""
    proxy = httpx.Proxy(url)
    parts = proxy.url
    target = httpcore.URL(scheme=parts.raw_scheme, host=parts.raw_host, port=parts.port, target=parts.raw_path)
    return httpcore.Proxy(target, auth=proxy.raw_auth, ssl_context=ssl_context if parts.scheme == "https" else None)


def translated(error: Exception) -> httpx.TransportError:
    """The error of httpx with the same name, or else the name of a parent."""
    if error.__cause__ is None:
        error.__cause__ = error.__context__  # the pool raises `from None`, which drops what the system said
    names = (kind.__name__ for kind in type(error).__mro__)
    kind = next((getattr(httpx, name) for name in names if hasattr(httpx, name)), httpx.ConnectError)
    return cast("httpx.TransportError", kind(str(error)))


class Pool(httpcore.AsyncConnectionPool):
    """httpcore's, but a tunnel whose handshake fails leaves it; httpcore 1.0 would keep its place for ever."""

    def create_connection(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface:  # noqa: D102
        return cast("httpcore.AsyncConnectionInterface", Connection(super().create_connection(origin)))


class Connection:
    """One of httpcore's, that closes when a request on it fails."""

    def __init__(self, connection: httpcore.AsyncConnectionInterface) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:  # noqa: D102
        try:
            return await self._connection.handle_async_request(request)
        except httpcore.ConnectionNotAvailable:  # closed, or busy with another request
            raise
        except BaseException:
            await self._connection.aclose()
            raise


class Exchange:
    """One request and its answer, as the streams see them and as the caller ends them."""

    def __init__(self, *, wants_new: bool = False) -> None:
        self.killed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.wants_new = wants_new
        """Takes no connection that was used before."""
        self.stream: Stream | None = None
        self.reused = self.received = False
        """The connection was used before; a byte of the answer came."""

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Runs this in a task in which streams find the exchange; the variable is seen nowhere else."""
        token = IN_HAND.set(self)
        try:
            return asyncio.create_task(work)
        finally:
            IN_HAND.reset(token)

    def kill(self) -> None:
        """Ends whatever the task waits for."""
        if not self.killed.done():
            self.killed.set_result(None)
        if self.stream is not None and self.stream.exchange is self:
            self.stream.kill(httpcore.ReadError("given up"))

    def lost_a_race(self) -> bool:
        """Whether the service may have closed the connection before it saw the request."""
        return self.reused and not self.received and not self.killed.done()


IN_HAND: ContextVar[Exchange] = ContextVar("IN_HAND")
"""Read only by what httpcore calls. A callback of a connection runs with that of the request that opened it."""


class Network(httpcore.AsyncNetworkBackend):
    """Opens connections on the running loop, which resolves the names."""

    async def connect_tcp(  # noqa: D102
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        race = Race(IN_HAND.get(), local_address)
        try:
            stream = race.winner = await finish(race.run(host, port), race.exchange, timeout)
        finally:
            race.end()
        race.exchange.stream = stream
        for option in socket_options or ():  # TCP_NODELAY is set by asyncio
            stream.get_extra_info("socket").setsockopt(*option)
        return stream

    async def connect_unix_socket(  # noqa: D102
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.UnsupportedProtocol("no Unix sockets")

    async def sleep(self, seconds: float) -> None:  # noqa: D102
        await asyncio.sleep(seconds)


class Race:
    """Tries the addresses of a host, one beside the other when it takes long.

    That is what `happy_eyeballs_delay` of asyncio does, but it loses sockets when it is cancelled.
    """

    def __init__(self, exchange: Exchange, local_address: str | None) -> None:
        self.exchange = exchange
        self.winner: Stream | None = None
        self._local = None if local_address is None else (local_address, 0)
        self._runners: dict[asyncio.Task[Any], Stream] = {}

    async def run(self, host: str, port: int) -> Stream:
        """The first connection that opens, or else the last error."""
        error: BaseException = OSError(f"{host!r} has no address")
        waiting = deque(await addresses(host, port))
        while waiting or self._runners:
            if waiting:
                self._start(*waiting.popleft())
            seconds = EYEBALLS_SECONDS if waiting else None
            done, _ = await asyncio.wait(self._runners, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                failed = task.exception()
                if failed is None:
                    return self._runners[task]
                del self._runners[task]
                error = failed
        raise error

    def _start(self, host: str, port: int) -> None:
        stream, loop = Stream(self.exchange), asyncio.get_running_loop()
        task = loop.create_task(loop.create_connection(lambda: stream, host, port, local_addr=self._local))
        task.add_done_callback(retrieve)
        self._runners[task] = stream

    def end(self) -> None:
        """Closes all but the winner, also those that open later."""
        for task, stream in self._runners.items():
            if stream is not self.winner:
                task.cancel()
                stream.kill(httpcore.ConnectError("given up"))


async def addresses(host: str, port: int) -> list[tuple[str, int]]:
    """Of a host, by turns of one family and the other."""
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return [(host, port)]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    first = [(str(address[0]), port) for family, *_, address in found if family == found[0][0]]
    other = [(str(address[0]), port) for family, *_, address in found if family != found[0][0]]
    return [address for pair in zip_longest(first, other) for address in pair if address is not None]


async def finish(work: Coroutine[Any, Any, T], exchange: Exchange, seconds: float | None) -> T:
    """The result of connecting or of a handshake, with its errors in the words of httpcore; ends with the exchange."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(retrieve)
    ends: list[asyncio.Future[Any]] = [task, exchange.killed]
    try:
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise httpcore.ConnectError("given up") if exchange.killed.done() else httpcore.ConnectTimeout
        return task.result()
    except TimeoutError as error:
        raise httpcore.ConnectTimeout(str(error)) from error
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(str(error)) from error
    finally:
        task.cancel()


class Stream(httpcore.AsyncNetworkStream, asyncio.Protocol):
    """A connection, as httpcore uses it and as the event loop feeds it. It never waits for more than its own I/O."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._queue: list[bytes] = []
        self._queued = 0
        self._head = b""
        self._shadow: h11.Connection | None = None
        """Follows the answer in hand; None until the first request."""
        self._idle = True
        """No exchange is under way, so no byte may come."""
        self._ended = self._full = False
        """Nothing more will come; the loop asks to write no more for now."""
        self._error: Exception | None = None

    # -- what httpcore calls

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109, D102
        if self._head:
            await self.write(b"", timeout)
        while not self._queue and not self._ended:
            await self._wait(timeout, httpcore.ReadTimeout)
        if not self._queue and self._error is not None:
            raise self._error
        data = b"".join(self._queue)
        self._queue.clear()
        self._queued = 0
        self._open.resume_reading()
        self._follow(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109, D102
        if self._idle or self._shadow is None:
            self._begin(buffer)
        if self._idle:  # the head waits for the body: one packet, not two
            self._idle, self._head = False, buffer
            return
        data, self._head = self._head + buffer, b""
        if data:
            self._raise_if_closed()
            self._open.write(data)
            while self._full:
                await self._wait(timeout, httpcore.WriteTimeout)
                self._raise_if_closed()

    async def start_tls(  # noqa: D102
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        if not self._is_fit():  # the handshake would wait for ever
            raise self._closed_at_once()
        stream, loop = Stream(self.exchange), asyncio.get_running_loop()
        upgrade = loop.start_tls(self._open, stream, ssl_context, server_hostname=server_hostname)
        try:
            transport = await finish(upgrade, self.exchange, timeout)
        except BaseException:
            self.kill(httpcore.ConnectError("no TLS"))
            raise
        if transport is None:  # asyncio's answer if the connection ended just then
            raise self._closed_at_once()
        self.exchange.stream = stream
        stream.connection_made(transport)
        return stream

    async def aclose(self) -> None:  # noqa: D102
        self.kill(httpcore.ReadError("closed"))

    def get_extra_info(self, info: str) -> Any:  # noqa: D102
        if info == "is_readable":  # for httpcore: to be closed and not used again
            return not self._is_fit()
        name = {"client_addr": "sockname", "server_addr": "peername"}.get(info, info)
        return self._open.get_extra_info(name)

    # -- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:  # noqa: D102
        self._transport = cast("asyncio.Transport", transport)
        if self._ended:  # too late: the exchange has been given up
            self._transport.abort()

    def data_received(self, data: bytes) -> None:  # noqa: D102
        if self._idle:
            self.kill(httpcore.RemoteProtocolError("bytes without a request"))
        if self._ended:
            return
        self.exchange.received = True
        self._queue.append(data)
        self._queued += len(data)
        if self._queued > QUEUE_BYTES:
            self._open.pause_reading()
        self._wake()

    def eof_received(self) -> None:  # noqa: D102
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        error = None if exc is None else httpcore.ReadError(str(exc))
        if error is not None:
            error.__context__ = exc  # not the cause, which the pool drops
        self._end(error)

    def pause_writing(self) -> None:  # noqa: D102
        self._full = True

    def resume_writing(self) -> None:  # noqa: D102
        self._full = False
        self._wake()

    # -- ending

    def kill(self, error: Exception) -> None:
        """Closes the connection now; whoever reads or writes gets the error. A connection still to come is closed."""
        self._queue.clear()
        self._end(error)
        if self._transport is not None:
            self._transport.abort()

    def _end(self, error: Exception | None) -> None:
        self._ended = True
        self._error = self._error or error
        self._wake()

    # -- waiting

    async def _wait(self, seconds: float | None, error: type[Exception]) -> None:
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

    # -- the guard

    def _begin(self, head: bytes) -> None:
        """Takes up an exchange, if this connection can still carry one."""
        exchange, reused = IN_HAND.get(), self._shadow is not None
        if exchange.killed.done():
            raise httpcore.ConnectError("given up")
        if reused and (exchange.wants_new or not self._is_fit() or has_bytes(self._open)):
            raise httpcore.ConnectionNotAvailable  # nothing was sent: the pool takes another
        if not self._is_fit():
            raise self._closed_at_once()  # or else the pool would try for ever
        self.exchange, exchange.stream, exchange.reused = exchange, self, reused
        if head[:1].isalpha():
            self._idle, self._shadow = True, shadow_of(head.split(b" ", 1)[0])
        else:  # SOCKS, which begins with its version
            self._idle = False

    def _follow(self, data: bytes) -> None:
        """Finds the end of the answer in what httpcore is given; whatever comes after it makes the connection unfit."""
        shadow = self._shadow
        if shadow is None:
            return
        try:
            shadow.receive_data(data)
            while shadow.their_state is not h11.DONE:
                if shadow.next_event() in (h11.NEED_DATA, h11.PAUSED) or shadow.their_state in LAST_STATES:
                    return
        except h11.RemoteProtocolError:  # httpcore comes to the same conclusion
            return
        self._idle = True
        if self._ended or any(shadow.trailing_data):
            self.kill(httpcore.RemoteProtocolError("bytes after the answer"))

    # -- small things

    @property
    def _open(self) -> asyncio.Transport:
        assert self._transport is not None  # noqa: S101 - httpcore gets no stream before there is one
        return self._transport

    def _is_fit(self) -> bool:
        return not (self._ended or self._open.is_closing())

    def _raise_if_closed(self) -> None:
        if not self._is_fit():  # httpcore then looks for an answer that came early
            raise httpcore.WriteError("the connection is closed")

    def _closed_at_once(self) -> Exception:
        error = httpcore.ConnectError("the connection was closed at once")
        error.__context__ = self._error
        return error


LAST_STATES = (h11.CLOSED, h11.MUST_CLOSE, h11.ERROR, h11.SWITCHED_PROTOCOL)
"""Of the server: no other exchange follows in this protocol."""


def shadow_of(method: bytes) -> h11.Connection:
    """A parser that waits for the answer to a request with this method."""
    shadow = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
    shadow.send(request_event(method))
    shadow.send(h11.EndOfMessage())
    return shadow


@functools.lru_cache(maxsize=16)
def request_event(method: bytes) -> h11.Request:
    """A request of which only the method matters. Making one takes longer than all the rest of a shadow."""
    return h11.Request(method=method, target=b"/", headers=[(b"Host", b"-")])


def has_bytes(transport: asyncio.Transport) -> bool:
    """Whether bytes or an end wait in the socket that the loop has not seen yet."""
    with Selector() as selector:
        selector.register(transport.get_extra_info("socket"), selectors.EVENT_READ)
        return bool(selector.select(0))


def expire(waiter: asyncio.Future[None], error: type[Exception]) -> None:
    """Ends a wait with an error."""
    if not waiter.done():
        waiter.set_exception(error())


def retrieve(task: asyncio.Task[Any]) -> None:
    """Takes note of an error that nobody may be left to hear of; asyncio would log it."""
    if not task.cancelled():
        task.exception()
