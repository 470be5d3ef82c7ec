"""The two drivers of a flow: threads and event loops. The only place that sends and sleeps.

Each process has one blocking client and each event loop one of its own; both are made on first use and again after a
fork, a close or a finished loop.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import os
import socket
import ssl
import time
import weakref
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from jinaclip.backends.api.policy import Flow
from jinaclip.backends.api.steps import Failure, Reply, Result, Send, Sleep, Step
from jinaclip.backends.api.wires.jina import HEADERS
from jinaclip.config import EmbedderConfig
from jinaclip.deadlines import AsyncDeadlineBackend, DeadlineBackend, deadline
from jinaclip.errors import ConfigError, MissingDependencyError
from jinaclip.secret import Secret

TIMEOUT = {"timeout": {"connect": 5.0, "read": None, "write": None, "pool": None}}
"""Seconds, beside the deadline of the attempt."""
ECHOES = 4
IDLE_SECONDS = 30.0
"""How long an unused connection is kept."""


class Transport(httpx.HTTPTransport):
    """httpx's own, with total deadlines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pool._network_backend = DeadlineBackend(self._pool._network_backend)


class AsyncTransport(httpx.AsyncHTTPTransport):
    """httpx's own, with total deadlines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._pool._network_backend = AsyncDeadlineBackend(self._pool._network_backend)


class Client:
    """Sends the requests of one configuration."""

    def __init__(self, config: EmbedderConfig) -> None:
        self._config = config
        self._url = httpx.URL(config.base_url)
        self._blocking: dict[Identity, ThreadClient] = {}
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopClient] = weakref.WeakKeyDictionary()

    # -- threads

    def drive(self, flow: Flow, stopped: Future[None]) -> None:
        """Runs a flow to its end in this thread."""
        try:
            step = next(flow)
            while True:
                step = flow.send(self._perform(step, stopped))
        except StopIteration:
            return
        finally:
            flow.close()

    def _perform(self, step: Step, stopped: Future[None]) -> Result:
        if isinstance(step, Send):
            return self._send(step)
        if isinstance(step, Sleep):
            wait([stopped], step.seconds)
        else:
            wait([step.future, stopped], max(0, step.until - time.monotonic()), FIRST_COMPLETED)
        return None

    def _send(self, step: Send) -> Reply | Failure:
        held = self._client()
        client = held.client
        try:
            request = self._request(client.headers, step.body)
            with deadline(step.until):
                response = client.send(request, stream=True)
                try:
                    most = most_of(response, step)
                    return reply(response, gather(response.iter_raw(), most), most)
                finally:
                    response.close()
        except (httpx.HTTPError, httpx.InvalidURL, Oversize) as error:
            return self._explain(error)

    def _client(self) -> ThreadClient:
        identity = (os.getpid(), self._config.key)
        known = self._blocking.get(identity)
        if known is None:
            made = ThreadClient(httpx.Client(transport=Transport(**self._transport()), **self._session()))
            known = self._blocking.setdefault(identity, made)  # of threads that start together one wins
            for old in [other for other in list(self._blocking) if other != identity]:
                self._blocking.pop(old, None)
        return known

    def close(self) -> None:
        """Closes the connections of threads, those in use when they no longer are."""
        self._blocking.clear()

    # -- event loops

    async def adrive(self, flow: Flow, stopped: asyncio.Future[None]) -> None:
        """Runs a flow to its end in this task."""
        try:
            step = next(flow)
            while True:
                step = flow.send(await self._aperform(step, stopped))
        except StopIteration:
            return
        finally:
            flow.close()

    async def _aperform(self, step: Step, stopped: asyncio.Future[None]) -> Result:
        if isinstance(step, Send):
            return await self._asend(step)
        if isinstance(step, Sleep):
            await asyncio.wait([stopped], timeout=step.seconds)
        else:
            granted, seconds = asyncio.wrap_future(step.future), max(0, step.until - time.monotonic())
            await asyncio.wait([granted, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return None

    async def _asend(self, step: Send) -> Reply | Failure:
        known = self._aclient()
        known.users += 1
        try:
            client = await asyncio.shield(known.opening)
            request = self._request(client.headers, step.body)
            with deadline(step.until):
                response = await client.send(request, stream=True)
                try:
                    most = most_of(response, step)
                    return reply(response, await agather(response.aiter_raw(), most), most)
                finally:
                    await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, Oversize) as error:
            return self._explain(error)
        finally:
            known.users -= 1
            await known.close_unused()

    def _aclient(self) -> LoopClient:
        loop, identity = asyncio.get_running_loop(), (os.getpid(), self._config.key)
        known = self._loops.get(loop)
        if known is None or known.identity != identity:
            for old in [loop for loop in list(self._loops) if loop.is_closed()]:
                self._loops.pop(old, None)  # a client knows its loop, so the two would stay for ever
            keeper = open_client({"transport": AsyncTransport(**self._transport()), **self._session()})
            known = self._loops[loop] = LoopClient(identity, keeper, asyncio.ensure_future(anext(keeper)))
        return known

    async def aclose(self) -> None:
        """Closes the connections of the running loop, and those of threads; those in use when they no longer are."""
        self.close()
        known = self._loops.pop(asyncio.get_running_loop(), None)
        if known is not None:
            await asyncio.wait([known.opening])
            known.closing = True
            await known.close_unused()

    # -- both

    def _request(self, headers: httpx.Headers, body: bytes) -> httpx.Request:
        """A request made once; `client.build_request` would merge URL, headers and cookies each time anew."""
        return httpx.Request("POST", self._url, headers=headers, content=body, extensions=TIMEOUT)

    def _session(self) -> dict[str, Any]:
        authorization = {"Authorization": f"Bearer {self._config.key.reveal()}"}
        return {"headers": HEADERS | authorization, "trust_env": False}

    def _transport(self) -> dict[str, Any]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=IDLE_SECONDS)
        name, proxy = proxy_for(self._config.base_url)
        if proxy and proxy.startswith("socks") and importlib.util.find_spec("socksio") is None:
            raise MissingDependencyError(
                f"{name} names a SOCKS proxy, which needs an extra: pip install 'httpx[socks]'"
            )
        return {"verify": tls_context(), "limits": limits, "proxy": proxy}

    def _explain(self, error: Exception) -> Failure:
        """Why nothing came back, with the two settings that are most often the reason."""
        failure = explain(error)
        name = proxy_for(self._config.base_url)[0]
        via = f", by way of the proxy of {name}" if name else ""
        limit = f" (timeout={self._config.timeout:g})" if failure.kind == "timeout" else ""
        return replace(failure, detail=failure.detail + limit + via)


Identity = tuple[int, Secret]
"""Of a process and a key."""


class ThreadClient:
    """A client of threads, closed once nobody holds it: neither its owner nor a request in flight."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client
        weakref.finalize(self, close_here, client, os.getpid())


def close_here(client: httpx.Client, pid: int) -> None:
    """Closes a client, but not in a forked child: another thread of the parent may have held its lock."""
    if pid == os.getpid():
        client.close()


async def open_client(options: dict[str, Any]) -> AsyncGenerator[httpx.AsyncClient]:
    """A client that closes with its loop: `asyncio.run` ends by closing the generators that are still open."""
    async with httpx.AsyncClient(**options) as client:
        yield client


@dataclass(slots=True, eq=False)
class LoopClient:
    """The client of one event loop, held open by a generator."""

    identity: Identity
    keeper: AsyncGenerator[httpx.AsyncClient]
    opening: asyncio.Future[httpx.AsyncClient]
    users: int = 0
    closing: bool = False

    async def close_unused(self) -> None:
        """Closes it if that is due and no request is in flight."""
        if self.closing and not self.users:
            self.closing = False  # only once
            await self.keeper.aclose()


class Oversize(Exception):
    """An answer is larger than any honest one."""


def most_of(response: httpx.Response, step: Send) -> int:
    """Bytes the body may have: a refusal may repeat the inputs, even once for each kind of input they are not."""
    return step.most_bytes + (0 if response.is_success else ECHOES * len(step.body))


def gather(chunks: Iterator[bytes], most: int) -> bytes:
    """Reads a body up to a size."""
    parts, size = [], 0
    for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise Oversize
        parts.append(chunk)
    return b"".join(parts)


async def agather(chunks: AsyncIterator[bytes], most: int) -> bytes:
    """Reads a body up to a size."""
    parts, size = [], 0
    async for chunk in chunks:
        size += len(chunk)
        if size > most:
            raise Oversize
        parts.append(chunk)
    return b"".join(parts)


def reply(response: httpx.Response, body: bytes, most: int) -> Reply | Failure:
    """The answer, unpacked if a proxy packed it all the same, and never beyond its size."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding in ("gzip", "x-gzip", "deflate"):
        unpacker = zlib.decompressobj(wbits=47)
        try:
            body = unpacker.decompress(body, most + 1)
        except zlib.error:
            return Failure("broken", f"its {encoding} cannot be unpacked")
        if len(body) > most:
            raise Oversize
    elif encoding != "identity":
        return Failure("setup", f"it answers in the unknown encoding {encoding[:32]!r}")
    return Reply(response.status_code, response.headers, body)


def explain(error: Exception) -> Failure:
    """Why nothing came back, in words: the exception itself would carry the key in the frames of its traceback."""
    text = f"{type(error).__name__}: {error}"[:300]
    if isinstance(error, Oversize):
        return Failure("oversize", "")
    if isinstance(error, httpx.TimeoutException):
        return Failure("timeout", type(error).__name__)
    causes = list(_causes(error))
    unknown_host = any(isinstance(c, socket.gaierror) and c.errno != socket.EAI_AGAIN for c in causes)
    if unknown_host or any(isinstance(c, ssl.SSLCertVerificationError) for c in causes):
        return Failure("setup", text)
    if isinstance(error, httpx.ProxyError | httpx.UnsupportedProtocol | httpx.InvalidURL):
        return Failure("setup", f"{type(error).__name__}; see the proxy variables of the environment")
    return Failure("connect" if isinstance(error, httpx.ConnectError) else "broken", text)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def proxy_for(url: str) -> tuple[str | None, str | None]:
    """The variable of the environment that names a proxy for the endpoint, and the proxy.

    Raises:
        ConfigError: its value is no URL; the message names the variable and not the value, which may hold a password.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    name = next((scheme for scheme in (parts.scheme, "all") if proxies.get(scheme)), None)
    if name is None or proxy_bypass(parts.hostname or ""):
        return None, None
    proxy = proxies[name] if "://" in proxies[name] else f"http://{proxies[name]}"
    with suppress(ValueError, httpx.InvalidURL):
        httpx.Proxy(proxy)
        return f"{name.upper()}_PROXY", proxy
    raise ConfigError(f"the environment variable {name.upper()}_PROXY is no proxy URL (value not shown)")


def tls_context() -> ssl.SSLContext:
    """One TLS context for all clients: making one takes 30 ms.

    Raises:
        ConfigError: the environment names certificates that cannot be read.
    """
    try:
        return _tls_context(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
    except OSError as error:
        raise ConfigError(f"SSL_CERT_FILE or SSL_CERT_DIR of the environment cannot be used: {error}") from None


@functools.lru_cache(maxsize=4)
def _tls_context(_file: str | None, _folder: str | None) -> ssl.SSLContext:
    return httpx.create_ssl_context()
