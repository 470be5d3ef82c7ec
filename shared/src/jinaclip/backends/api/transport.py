"""A transport for httpx over httpcore's connections: safe to cancel at any time, and strict about where an answer ends.

Three things differ from httpx's own transport.

- Cancelling: httpcore 1.0 loses connections and places in its pool when a task inside it is cancelled. Here each of its
  connections is held by one request alone, and closed if that ends in any other way than by a whole answer.
- Surplus bytes: a guard follows every answer. What comes after its end makes the connection unfit, where
  httpcore would read it as the beginning of the next answer. Only what comes after the next request was written cannot
  be told from the answer to that.
- Keep-alive: a connection that was used before and closes before one byte of an answer is replaced once.

The stream is our own, and not one around httpcore's: anyio keeps received bytes in a queue that nobody can look into.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import selectors
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterable, Coroutine, Iterable
from contextlib import suppress
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


class ClosedBefore(Exception):
    """A connection ended that was used before, and not one byte of the answer came."""


class Transport(httpx.AsyncBaseTransport):
    """Sends requests of httpx from one event loop, over connections that it keeps for later requests.

    Args:
        ssl_context: For https, of the service and of the proxy. None: httpcore's own, made anew for each connection.
        proxy: URL of a proxy with scheme http, https or, if `socksio` is installed, socks5.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None, proxy: str | None) -> None:
        self._ssl_context = ssl_context
        self._proxy = None if proxy is None else proxy_of(proxy, ssl_context)
        self._idle: deque[Connection] = deque()
        self._busy: set[Connection] = set()
        self._all_ended = asyncio.Event()

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
        try:
            return await self._send(request)
        except FOREIGN as error:
            raise translated(error) from error

    async def _send(self, request: httpx.Request) -> httpx.Response:
        if request.url.scheme not in ("http", "https"):
            raise httpcore.UnsupportedProtocol(f"{request.url.scheme}:// is neither http:// nor https://")
        origin = target_of(request.url).origin
        while (connection := self._take(origin)) is not None:
            try:
                return await self._exchange(connection, request)
            except httpcore.ConnectionNotAvailable:
                continue  # nothing was sent
            except ClosedBefore:
                break
        return await self._exchange(Connection(origin, self._ssl_context, self._proxy), request)

    def _take(self, origin: httpcore.Origin) -> Connection | None:
        """The connection to an origin that was used last; closes those that were idle for too long."""
        expired_at = asyncio.get_running_loop().time() - IDLE_SECONDS
        while self._idle and self._idle[0].idle_since <= expired_at:
            self._idle.popleft().kill()
        connection = next((one for one in reversed(self._idle) if one.origin == origin), None)
        if connection is not None:
            self._idle.remove(connection)
        return connection

    def _keep(self, connection: Connection) -> None:
        connection.idle_since = asyncio.get_running_loop().time()
        self._idle.append(connection)
        if len(self._idle) > IDLE_CONNECTIONS:
            self._idle.popleft().kill()

    async def _exchange(self, connection: Connection, request: httpx.Request) -> httpx.Response:
        self._busy.add(connection)
        try:
            response = await connection.send(request)
        finally:
            self._busy.discard(connection)
            if not self._busy:
                self._all_ended.set()
        if connection.is_fit:
            self._keep(connection)
        return response

    async def aclose(self) -> None:
        """Closes all connections; requests in flight fail."""
        for connection in [*self._busy, *self._idle]:
            connection.kill()
        self._idle.clear()
        if self._busy:
            self._all_ended.clear()
            await self._all_ended.wait()
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
    body = cast("AsyncIterable[bytes]", request.stream)
    return httpcore.Request(
        request.method, target_of(request.url), headers=request.headers.raw, content=body, extensions=request.extensions
    )


def target_of(url: httpx.URL) -> httpcore.URL:
    """The same address for httpcore."""
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def proxy_of(url: str, ssl_context: ssl.SSLContext | None) -> httpcore.Proxy:
    """A proxy, its user and password taken out of the URL."""
    proxy = httpx.Proxy(url)
    behind_tls = proxy.url.scheme == "https"
    return httpcore.Proxy(target_of(proxy.url), auth=proxy.raw_auth, ssl_context=ssl_context if behind_tls else None)


def translated(error: Exception) -> httpx.TransportError:
    """The error of httpx with the same name, or else the name of a parent."""
    if error.__cause__ is None:
        error.__cause__ = error.__context__  # httpcore raises some `from None`, which drops what the system said
    names = (kind.__name__ for kind in type(error).__mro__)
    kind = next((getattr(httpx, name) for name in names if hasattr(httpx, name)), httpx.ConnectError)
    return cast("httpx.TransportError", kind(str(error)))


class Connection(httpcore.AsyncNetworkBackend):
    """One of httpcore's connections, and what opens the stream for it, on the running loop.

    Attributes:
        origin: what it leads to, perhaps by way of a proxy.
        idle_since: moment of the loop's clock since when nobody uses it.
        is_reused: whether it carried a request before the present one.
        has_received: whether a byte of the answer to the present request came.
        is_killed: whether it was closed from this side.
    """

    def __init__(
        self, origin: httpcore.Origin, ssl_context: ssl.SSLContext | None, proxy: httpcore.Proxy | None
    ) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self.is_reused = self.has_received = self.is_killed = False
        self._stream: Stream | None = None
        self._opening: asyncio.Task[Any] | None = None
        maker = httpcore.AsyncConnectionPool(ssl_context=ssl_context, proxy=proxy, network_backend=self)
        self._http = maker.create_connection(origin)  # one that knows the proxy's ways; the maker never sees it again

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Sends a request and reads the whole answer. After any error it is closed.

        Raises:
            httpcore.ConnectionNotAvailable: it was closed meanwhile; nothing was sent.
            ClosedBefore: it ended without a byte of answer, perhaps before the service saw the request.
            TooLarge: the body is larger than the request allows.
        """
        self.is_reused, self.has_received = self._stream is not None, False
        try:
            return await self._send(request)
        except BaseException as error:
            lost_a_race = self.is_reused and not (self.has_received or self.is_killed)
            self.kill()
            if lost_a_race and isinstance(error, DROPPED):
                raise ClosedBefore from error
            raise

    async def _send(self, request: httpx.Request) -> httpx.Response:
        answer = await self._http.handle_async_request(outgoing(request))
        success, other = request.extensions.get("most_bytes") or (None, None)
        try:
            most = success if 200 <= answer.status < 300 else other
            body = await gather(cast("AsyncIterable[bytes]", answer.stream), most)
        finally:
            await answer.aclose()
        kept = {name: answer.extensions[name] for name in ("http_version", "reason_phrase")}
        return httpx.Response(answer.status, headers=answer.headers, stream=httpx.ByteStream(body), extensions=kept)

    @property
    def is_fit(self) -> bool:
        """Whether it can carry another request, as far as is known."""
        return self._stream is not None and self._stream.is_fit and self._http.is_idle()

    def kill(self) -> None:
        """Closes it now, or what opens it; a request under way fails."""
        self.is_killed = True
        if self._opening is not None:
            self._opening.cancel()
        if self._stream is not None:
            self._stream.kill(httpcore.ReadError("given up"))

    async def connect_tcp(  # noqa: D102
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        race = Race(self, local_address)
        try:
            self._stream = race.winner = await self.open(race.run(host, port), timeout)
        finally:
            race.end()
        for option in socket_options or ():  # TCP_NODELAY is set by asyncio
            self._stream.get_extra_info("socket").setsockopt(*option)
        return self._stream

    async def start_tls(self, stream: Stream, upgrade: Coroutine[Any, Any, Any], seconds: float | None) -> Any:
        """Finishes a handshake, after which this stream takes the place of the one below."""
        transport = await self.open(upgrade, seconds)
        if transport is not None:
            self._stream = stream
        return transport

    async def open(self, work: Coroutine[Any, Any, T], seconds: float | None) -> T:
        """The result of connecting or of a handshake, with its errors in the words of httpcore."""
        self._opening = task = asyncio.ensure_future(work)
        task.add_done_callback(retrieve)
        if self.is_killed:
            task.cancel()
        try:
            await asyncio.wait([task], timeout=seconds)
            if not task.done():
                raise httpcore.ConnectTimeout
            return task.result()
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(str(error)) from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from error
        except asyncio.CancelledError:
            if task.cancelled():  # by `kill`
                raise httpcore.ConnectError("given up") from None
            raise
        finally:
            self._opening = None
            task.cancel()

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

    def __init__(self, connection: Connection, local_address: str | None) -> None:
        self._connection = connection
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
        stream, loop = Stream(self._connection), asyncio.get_running_loop()
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


class Stream(httpcore.AsyncNetworkStream, asyncio.Protocol):
    """A connection, as httpcore uses it and as the event loop feeds it. It never waits for more than its own I/O."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._queue: list[bytes] = []
        self._queued = 0
        self._head = b""
        self._answer: AnswerEnd | None = None
        """Of the request in hand or the one before; None until the first."""
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
        if self._idle or self._answer is None:
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
        if not self.is_fit:  # the handshake would wait for ever
            raise self._closed_at_once()
        stream, loop = Stream(self._connection), asyncio.get_running_loop()
        upgrade = loop.start_tls(self._open, stream, ssl_context, server_hostname=server_hostname)
        transport = await self._connection.start_tls(stream, upgrade, timeout)
        if transport is None:  # asyncio's answer if the connection ended just then
            raise self._closed_at_once()
        stream.connection_made(transport)
        return stream

    async def aclose(self) -> None:  # noqa: D102
        self.kill(httpcore.ReadError("closed"))

    def get_extra_info(self, info: str) -> Any:  # noqa: D102
        if info == "is_readable":  # for httpcore: to be closed and not used again
            return not self.is_fit
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
        self._connection.has_received = True
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
            error.__context__ = exc  # not the cause, which httpcore drops
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
        if self._connection.is_reused and not (self.is_fit and not has_bytes(self._open)):
            raise httpcore.ConnectionNotAvailable  # nothing was sent: another one is taken
        if not self.is_fit:
            raise self._closed_at_once()
        if head[:1].isalpha():
            self._idle, self._answer = True, AnswerEnd(head.split(b" ", 1)[0])
        else:  # SOCKS, which begins with its version
            self._idle = False

    def _follow(self, data: bytes) -> None:
        """Finds the end of the answer in what httpcore is given; whatever comes after it makes the connection unfit."""
        if self._answer is None or not self._answer.follow(data):
            return
        self._idle = True
        if self._ended or self._answer.surplus:
            self.kill(httpcore.RemoteProtocolError("bytes after the answer"))

    # -- small things

    @property
    def _open(self) -> asyncio.Transport:
        assert self._transport is not None  # noqa: S101 - httpcore gets no stream before there is one
        return self._transport

    @property
    def is_fit(self) -> bool:
        """Whether it is open."""
        return not (self._ended or self._open.is_closing())

    def _raise_if_closed(self) -> None:
        if not self.is_fit:  # httpcore then looks for an answer that came early
            raise httpcore.WriteError("the connection is closed")

    def _closed_at_once(self) -> Exception:
        error = httpcore.ConnectError("the connection was closed at once")
        error.__context__ = self._error
        return error


class AnswerEnd:
    """Finds the end of an answer to a request.

    Where the head gives a length in the usual way, bytes are counted; else h11 follows the answer a second time.

    Attributes:
        surplus: bytes that came after it.
    """

    def __init__(self, method: bytes) -> None:
        self.surplus = 0
        self._method = method
        self._seen = b""
        self._left: int | None = None  # of the body, once it is known
        self._parser: h11.Connection | None = None

    def follow(self, data: bytes) -> bool:
        """Takes the next bytes; gives whether the answer ends in them."""
        if self._left is None and self._parser is None:
            data = self._read_head(data)
        if self._left is not None:
            self._left -= len(data)
            self.surplus = max(0, -self._left)
            return self._left <= 0
        return self._parser is not None and self._parse(self._parser, data)

    def _read_head(self, data: bytes) -> bytes:
        """What follows the head, or what there is so far, for the parser; nothing while the head is not whole."""
        self._seen += data
        end = self._seen.find(b"\r\n\r\n") + 4
        if end < 4 and len(self._seen) <= HEAD_BYTES:
            return b""
        self._left = length_of(self._seen[:end]) if self._method == b"POST" else None
        if self._left is None:
            self._parser, end = follower_of(self._method), 0
        rest, self._seen = self._seen[end:], b""
        return rest

    def _parse(self, parser: h11.Connection, data: bytes) -> bool:
        try:
            parser.receive_data(data)
            while parser.their_state is not h11.DONE:
                if parser.next_event() in (h11.NEED_DATA, h11.PAUSED) or parser.their_state in LAST_STATES:
                    return False
        except h11.RemoteProtocolError:  # httpcore comes to the same conclusion
            return False
        self.surplus = len(parser.trailing_data[0])
        return True


PLAIN_HEAD = re.compile(rb"HTTP/1\.1 (?!204|304)[2-5]\d\d[^\r\n]*\r\n(?:[!-9;-~]+:[^\r\n\0]*\r\n)+\r\n")
"""Of an answer with a body, each field on one line (RFC 9112, section 2)."""
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([^\r\n]*?)[ \t]*(?=\r\n)", re.IGNORECASE)
CODED = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)
LAST_STATES = (h11.CLOSED, h11.MUST_CLOSE, h11.ERROR, h11.SWITCHED_PROTOCOL)
"""Of the server: no other exchange follows in this protocol."""


def length_of(head: bytes) -> int | None:
    """Bytes of the body, if the head of an answer to a POST gives them beyond doubt."""
    lengths = LENGTH.findall(head)
    if len(lengths) != 1 or CODED.search(head) or not PLAIN_HEAD.fullmatch(head):
        return None
    return int(lengths[0]) if re.fullmatch(rb"\d{1,15}", lengths[0]) else None


def follower_of(method: bytes) -> h11.Connection:
    """A parser that waits for the answer to a request with this method."""
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
    parser.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"-")]))
    parser.send(h11.EndOfMessage())
    return parser


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
