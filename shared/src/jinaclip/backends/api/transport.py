"""A transport for httpx over h11: safe to cancel at any time, and strict about where an answer ends.

Three things differ from httpx's own transport, which is httpcore's.

- Cancelling: httpcore 1.0 loses connections and places in its pool when a task inside it is cancelled. Here a
  connection is held by one request alone, and closed if that ends in any other way than by a whole answer.
- Surplus bytes: whatever comes after the end of an answer, or while no answer is due, ends the connection. httpcore
  would read it as the beginning of the next answer. Only what comes after the next request was written cannot be told
  from the answer to that.
- Keep-alive: a connection that was used before and closes before one byte of an answer is replaced once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Any, NamedTuple, TypeVar, cast

import h11
import httpx

from jinaclip.backends.api.connect import Proxy, greet_socks, open_socket, retrieve
from jinaclip.backends.api.stream import Stream

HEAD_BYTES = 100 * 1024
"""The longest head of an answer."""
IDLE_SECONDS = 30.0
"""How long an unused connection is kept."""
IDLE_CONNECTIONS = 64
PORTS = {"http": 80, "https": 443}
DROPPED = (httpx.RemoteProtocolError, httpx.NetworkError)
"""How the end of a connection shows."""

T = TypeVar("T")


class TooLarge(httpx.RemoteProtocolError):
    """The body of an answer is larger than the request allows."""


class Unfit(Exception):
    """A connection can carry no other request; nothing was sent."""


class ClosedBefore(Exception):
    """A connection ended that was used before, and not one byte of the answer came."""


class Origin(NamedTuple):
    """Where requests over one connection go."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """That of an address. Raises httpx.UnsupportedProtocol if it is none of HTTP."""
        if url.scheme not in PORTS:
            raise httpx.UnsupportedProtocol(f"{url.scheme}:// is neither http:// nor https://")
        return cls(url.scheme, url.raw_host.decode("ascii"), url.port or PORTS[url.scheme])

    @property
    def authority(self) -> bytes:
        """Host and port, as a proxy is told them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}".encode("ascii")


class Transport(httpx.AsyncBaseTransport):
    """Sends requests of httpx from one event loop, over connections that it keeps for later requests.

    Args:
        ssl_context: For https, of the service and of the proxy. None: that of the standard library.
        proxy: URL of a proxy with scheme http, https or, if `socksio` is installed, socks5.
    """

    def __init__(self, *, ssl_context: ssl.SSLContext | None, proxy: str | None) -> None:
        self._ssl_context = ssl_context
        self._proxy = None if proxy is None else Proxy.parse(proxy)
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
        origin = Origin.of(request.url)
        was_sent = False
        while (connection := self._take(origin)) is not None:
            try:
                return await self._exchange(connection, request)
            except Unfit:
                continue  # nothing was sent
            except ClosedBefore:
                was_sent = True
                break
        try:
            return await self._exchange(Connection(origin, self._ssl_context, self._proxy), request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if was_sent:  # who sees an error of connecting takes it that the service has never had the request
                raise httpx.ReadError(f"the connection ended without an answer, and then: {error}") from error
            raise

    def _take(self, origin: Origin) -> Connection | None:
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


async def gather(chunks: AsyncIterable[bytes | bytearray], most: int | None) -> bytes:
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


class Connection:
    """A connection, and the requests that go over it one after another.

    Attributes:
        origin: what it leads to, perhaps by way of a proxy.
        idle_since: moment of the loop's clock since when nobody uses it.
    """

    def __init__(self, origin: Origin, ssl_context: ssl.SSLContext | None, proxy: Proxy | None) -> None:
        self.origin = origin
        self.idle_since = 0.0
        self._ssl_context, self._proxy = ssl_context, proxy
        self._stream, self._parser = Stream(), new_parser()
        self._opening: asyncio.Task[None] | None = None
        self._is_new, self._is_killed = True, False

    @property
    def is_fit(self) -> bool:
        """Whether it can carry another request, as far as the event loop has seen."""
        return self._stream.is_open and not self._is_killed

    def kill(self) -> None:
        """Closes it now, or what opens it; a request under way fails."""
        self._is_killed = True
        if self._opening is not None:
            self._opening.cancel()
        self._stream.kill()

    # -- a request

    async def send(self, request: httpx.Request) -> httpx.Response:
        """Sends a request and reads the whole answer; opens the connection first, if it is new.

        After any error it is closed.

        Raises:
            httpx.TransportError: no complete answer came.
            Unfit: it was closed meanwhile; nothing was sent.
            ClosedBefore: it ended without a byte of answer, perhaps before the service saw the request.
            TooLarge: the body is larger than the request allows.
        """
        is_new, self._is_new, self._stream.has_received = self._is_new, False, False
        times = request.extensions.get("timeout") or {}
        try:
            await self._prepare(times.get("connect"), is_new=is_new)
            return await self._exchange(request, times.get("write"), times.get("read"))
        except BaseException as error:
            lost_a_race = not (is_new or self._stream.has_received or self._is_killed)
            self.kill()
            if lost_a_race and isinstance(error, DROPPED):
                raise ClosedBefore from error
            raise

    async def _prepare(self, seconds: float | None, *, is_new: bool) -> None:
        """Opens a new connection; looks whether one that was used before can carry another request."""
        if is_new:
            await self._open(seconds)
            self._stream.check()
        elif not self.is_fit or self._stream.has_news:
            raise Unfit

    async def _exchange(
        self, request: httpx.Request, write_seconds: float | None, read_seconds: float | None
    ) -> httpx.Response:
        success, other = request.extensions.get("most_bytes") or (None, None)
        self._stream.is_idle = False
        try:
            await self._write_request(request, write_seconds)
            head = await self._read_head(self._parser, read_seconds)
            most = success if 200 <= head.status_code < 300 else other
            body = await gather(self._read_body(read_seconds), most)
            self._finish()
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from error
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        facts = {"http_version": b"HTTP/" + head.http_version, "reason_phrase": head.reason}
        headers = head.headers.raw_items()
        return httpx.Response(head.status_code, headers=headers, stream=httpx.ByteStream(body), extensions=facts)

    async def _write_request(self, request: httpx.Request, seconds: float | None) -> None:
        target, headers = request.url.raw_path, request.headers.raw
        if self._proxy is not None and not self._proxy.is_socks and self.origin.scheme == "http":
            target, headers = b"http://" + request.url.netloc + target, [*self._proxy.headers, *headers]
        event = h11.Request(method=request.method, target=target, headers=headers)
        data = self._parser.send(event) or b""
        async for chunk in cast("AsyncIterable[bytes]", request.stream):
            data += self._parser.send(h11.Data(data=chunk)) or b""
            await self._stream.write(data, seconds)  # the head goes with the first piece: one packet, not two
            data = b""
            if self._stream.has_ended:
                return  # the service may have answered before it read everything
        await self._stream.write(data + (self._parser.send(h11.EndOfMessage()) or b""), seconds)

    async def _read_head(self, parser: h11.Connection, seconds: float | None) -> h11.Response:
        while not isinstance(event := await self._read_event(parser, seconds), h11.Response):
            if not isinstance(event, h11.InformationalResponse) or event.status_code == 101:
                raise httpx.RemoteProtocolError("the service ended the connection, or changed the protocol, unasked")
        return event

    async def _read_body(self, seconds: float | None) -> AsyncIterator[bytes | bytearray]:
        while isinstance(event := await self._read_event(self._parser, seconds), h11.Data):
            yield event.data

    async def _read_event(self, parser: h11.Connection, seconds: float | None) -> Any:
        while (event := parser.next_event()) is h11.NEED_DATA:
            data = await self._stream.read(seconds)
            if not data and not self._stream.has_received:
                raise httpx.RemoteProtocolError("the service closed the connection without an answer")
            parser.receive_data(data)
        return event

    def _finish(self) -> None:
        """Makes ready for the next request, or closes what can carry none."""
        self._stream.is_idle = True
        states = {self._parser.our_state, self._parser.their_state}
        if states != {h11.DONE} or self._stream.has_ended or self._stream.has_bytes or self._parser.trailing_data[0]:
            self.kill()
        else:
            self._parser.start_next_cycle()

    # -- opening

    async def _open(self, seconds: float | None) -> None:
        """Connects. It runs in a task of its own, so that `kill` can end it.

        Raises:
            httpx.ConnectError: it cannot be opened, or was given up.
            httpx.ConnectTimeout: it takes longer than this.
            httpx.ProxyError: the proxy refuses.
        """
        self._opening = task = asyncio.ensure_future(self._connect())
        task.add_done_callback(retrieve)
        if self._is_killed:
            task.cancel()
        try:
            await asyncio.wait([task], timeout=seconds)
            if not task.done():
                raise httpx.ConnectTimeout("")
            task.result()
        except (OSError, UnicodeError) as error:
            kind = httpx.ConnectTimeout if isinstance(error, TimeoutError) else httpx.ConnectError
            raise kind(str(error)) from error
        except asyncio.CancelledError:
            if task.cancelled():  # by `kill`
                raise httpx.ConnectError("given up") from None
            raise
        finally:
            self._opening = None
            task.cancel()

    async def _connect(self) -> None:
        proxy, (scheme, host, port) = self._proxy, self.origin
        first = (host, port) if proxy is None else (proxy.host, proxy.port)
        await self._stream.open(await open_socket(*first))
        if proxy is not None:
            await self._pass(proxy)
        if scheme == "https":
            await self._start_tls(host)

    async def _pass(self, proxy: Proxy) -> None:
        """Asks a proxy for the way to the origin. One that forwards is not asked: it reads each request."""
        if proxy.scheme == "https":
            await self._start_tls(proxy.host)
        self._stream.is_idle = False
        if proxy.is_socks:
            await greet_socks(self._read_exactly, partial(self._stream.write, seconds=None), proxy, *self.origin[1:])
        elif self.origin.scheme == "https":
            await self._ask_for_tunnel(proxy)
        self._stream.is_idle = True
        if self._stream.has_bytes:
            raise httpx.ProxyError("the proxy says more than it should")
        self._stream.has_received = False

    async def _read_exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = await self._stream.read(None)
            if not more:
                raise httpx.ProxyError("the SOCKS proxy ended the connection in the middle of its answer")
            data += more
        self._stream.unread(data[count:])
        return data[:count]

    async def _ask_for_tunnel(self, proxy: Proxy) -> None:
        parser, target = new_parser(), self.origin.authority
        headers = [(b"Host", target), (b"Accept", b"*/*"), *proxy.headers]
        try:
            data = parser.send(h11.Request(method=b"CONNECT", target=target, headers=headers)) or b""
            await self._stream.write(data + (parser.send(h11.EndOfMessage()) or b""), None)
            head = await self._read_head(parser, None)
        except h11.ProtocolError as error:
            raise httpx.ProxyError(str(error)) from error
        if not 200 <= head.status_code < 300:
            raise httpx.ProxyError(f"{head.status_code} {head.reason.decode('ascii', 'replace')}")
        if parser.trailing_data[0]:
            raise httpx.ProxyError("the proxy says more than it should")

    async def _start_tls(self, host: str) -> None:
        await self._stream.start_tls(self._ssl_context or ssl.create_default_context(), host)


def new_parser() -> h11.Connection:
    """A parser of answers."""
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
