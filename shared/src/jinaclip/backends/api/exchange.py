"""One request and its answer: where it goes, the environment's proxy and certificates, and what a failure was."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from jinaclip.backends.api.route import Endpoint, remember_secrets, secrets_of_environment
from jinaclip.backends.api.steps import Failure, Reply, Send
from jinaclip.backends.api.transport import TooLarge, Transport, gather
from jinaclip.backends.api.wires.base import HEADERS, Signer
from jinaclip.errors import AuthenticationError, ConfigError, MissingDependencyError
from jinaclip.process import run_in_thread

CONNECT_SECONDS = 5.0
TIMEOUT = {"connect": CONNECT_SECONDS, "read": None, "write": None, "pool": None}
"""Seconds, beside those of the whole attempt."""
ECHOES = 4
"""A refusal may repeat the inputs, even once for each kind of input they are not."""
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")


class Upload(httpx.AsyncByteStream):
    """The body of a request; knows how often it has begun to go out: a transport may send it again.

    Args:
        body: of the request.
        may_go: is asked each time.
    """

    def __init__(self, body: bytes, may_go: Callable[[], bool]) -> None:
        self._body, self._may_go = body, may_go
        self.sends = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if not self._may_go():
            raise httpx.WriteError("its answer was lost, and token_budget does not allow to send it again")
        self.sends += 1
        yield self._body


class Exchange:
    """Sends requests to one endpoint. Lives on the hub's loop.

    Raises:
        ConfigError: the environment's proxy or certificates cannot be used, or `transport` makes none.
        MissingDependencyError: its proxy needs an extra.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._url = httpx.URL(endpoint.url)
        self._headers = headers_of(endpoint, self._url)
        self._signer = endpoint.wire.open_signer(endpoint.base_url)
        self._transport = open_transport(endpoint)

    async def send(self, step: Send, upload: Upload, until: float) -> Reply | Failure:
        """The answer, or why there is none, by this moment of the loop's clock. Safe to cancel."""
        try:
            async with asyncio.timeout_at(until):
                return await self._exchange(step, upload)
        except TimeoutError:
            return self._explain(httpx.ReadTimeout("") if upload.sends else httpx.ConnectTimeout(""), step)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return self._explain(error, step)
        except AuthenticationError as error:
            return Failure("unsigned", str(error))
        except BaseException as error:
            if isinstance(error, GeneratorExit) or is_cancelled():
                raise  # that is for us
            return Failure("setup", f"the transport failed: {type(error).__name__}: {error}")

    async def close(self) -> None:
        """Closes the connections."""
        with suppress(Exception):  # a transport of the caller's may raise anything, and there is nobody to tell
            await self._transport.aclose()

    async def _exchange(self, step: Send, upload: Upload) -> Reply | Failure:
        most = step.most_bytes, step.most_bytes + ECHOES * len(step.body)
        request = self._request(step, upload, most)
        if self._signer is not None:
            request.headers.update(await self._sign(self._signer, step.body))
        response = await self._transport.handle_async_request(request)
        limit = most[0] if response.is_success else most[1]
        try:
            return reply(response, await gather(cast(httpx.AsyncByteStream, response.stream), limit), limit)
        finally:
            await response.aclose()

    async def _sign(self, signer: Signer, body: bytes) -> Mapping[str, str]:
        """What a signature adds to the headers; looking for credentials may block, and hashing takes its time."""
        signature = await run_in_thread(signer.sign, self._endpoint.url, HEADERS, body)
        remember_secrets(signature.secrets)
        return signature.headers

    def _request(self, step: Send, upload: Upload, most: tuple[int, int]) -> httpx.Request:
        headers = self._headers.copy()
        headers["Content-Length"] = str(len(step.body))
        extensions = {"timeout": TIMEOUT, "most_bytes": most}
        return httpx.Request("POST", self._url, headers=headers, stream=upload, extensions=extensions)

    def _explain(self, error: Exception, step: Send) -> Failure:
        """Why nothing came back, with the two settings that are most often the reason."""
        failure = explain(error)
        name = None if self._endpoint.transport else proxy_for(self._endpoint.url)[0]
        via = f", by way of the proxy of {name}" if name else ""
        limit = f" (timeout={step.seconds:g})" if failure.kind == "timeout" else ""
        return replace(failure, detail=failure.detail + limit + via)


def is_cancelled() -> bool:
    """Whether this task was cancelled. A frame that held the task would be held by its exception: a cycle."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def headers_of(endpoint: Endpoint, url: httpx.URL) -> httpx.Headers:
    """The headers of every request: the wire's, the caller's own, and the key."""
    headers = httpx.Headers({"Host": url.netloc.decode("ascii"), **HEADERS})
    headers.update({name.encode(): value.encode("latin-1") for name, value in endpoint.headers.reveal().items()})
    if endpoint.authorization:
        headers["Authorization"] = endpoint.authorization.reveal()
    return headers


def open_transport(endpoint: Endpoint) -> httpx.AsyncBaseTransport:
    """The transport of an endpoint: the caller's own, or ours with the proxy and certificates of the environment."""
    if endpoint.transport is None:
        _, proxy = proxy_for(endpoint.url)
        secrets_of_environment()  # remembered, as the proxy's password may be replaced while its connections last
        is_secure = any(url.lower().startswith("https:") for url in (endpoint.url, proxy or ""))
        return Transport(ssl_context=tls_context() if is_secure else None, proxy=proxy)
    try:
        made: Any = endpoint.transport()
    except Exception as error:  # noqa: BLE001  it is the caller's own code
        text = endpoint.clean(f"{type(error).__name__}: {error}")
        raise ConfigError(f"transport() failed: {text}", option="transport") from None
    if not isinstance(made, httpx.AsyncBaseTransport):
        kind = type(made).__name__
        raise ConfigError(f"transport() must give an httpx.AsyncBaseTransport, not {kind}", option="transport")
    return made


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
            raise TooLarge("unpacked")
    elif encoding != "identity":
        return Failure("setup", f"it answers in the unknown encoding {encoding!r}")
    return Reply(response.status_code, response.headers, body)


def explain(error: Exception) -> Failure:
    """Why nothing came back, in words: the exception itself would carry the key in the frames of its traceback."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, TooLarge):
        return Failure("oversize", "")
    if isinstance(error, httpx.TimeoutException):
        return Failure("connect" if isinstance(error, httpx.ConnectTimeout) else "timeout", type(error).__name__)
    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLError) and cause.reason == "WRONG_VERSION_NUMBER" for cause in causes):
        return Failure("setup", f"{text}: what answers there speaks no TLS; for a server of plain HTTP write http://")
    if any(isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN for cause in causes):
        return Failure("setup", f"{text}; check base_url")
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return Failure("setup", f"{text}; check base_url, and SSL_CERT_FILE for a certificate of your own")
    if isinstance(error, httpx.ProxyError | httpx.UnsupportedProtocol | httpx.InvalidURL):
        return Failure("setup", f"{type(error).__name__}; see the proxy variables of the environment")
    return Failure("connect" if isinstance(error, httpx.ConnectError) else "broken", text)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def proxy_for(url: str) -> tuple[str | None, str | None]:
    """The variable of the environment that names a proxy for the endpoint, and the proxy; twice None without one.

    Raises:
        ConfigError: its value is no proxy; the message names variable and scheme, and not the value, which may hold a
            password.
        MissingDependencyError: it is a SOCKS proxy, which needs an extra.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    kind = next((scheme for scheme in (parts.scheme, "all") if proxies.get(scheme)), None)
    if kind is None or proxy_bypass(parts.hostname or ""):
        return None, None
    name = _variable(f"{kind}_proxy")
    proxy = proxies[kind] if "://" in proxies[kind] else f"http://{proxies[kind]}"
    check_proxy(name, proxy)
    return name, proxy


def check_proxy(name: str, proxy: str) -> None:
    """Whether the value of this variable can be used. Raises as `proxy_for`."""
    scheme = proxy.partition("://")[0].lower()
    if not re.fullmatch("[a-z][a-z0-9+.-]{0,15}", scheme):  # it may hold a password
        raise ConfigError(f"the environment variable {name} is no proxy URL (value not shown)")
    if scheme not in PROXY_SCHEMES:
        hint = "; write socks5://" if scheme.startswith("socks") else ""
        raise ConfigError(
            f"the environment variable {name} names a proxy of scheme {scheme!r}, which is none of "
            f"{', '.join(PROXY_SCHEMES)}{hint} (value not shown)"
        )
    if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise MissingDependencyError(
            f"the environment variable {name} names a {scheme} proxy, which needs an extra: pip install 'httpx[socks]'"
        )
    try:
        sound = bool(httpx.URL(proxy).host)
    except httpx.InvalidURL:
        sound = False
    if not sound:
        raise ConfigError(f"the environment variable {name} is no {scheme} proxy URL (value not shown)")


def _variable(name: str) -> str:
    """The variable as the environment spells it; small letters win, as in `getproxies`."""
    return name if os.environ.get(name) else name.upper()


def tls_context() -> ssl.SSLContext:
    """One TLS context for all connections, with the certificates of the environment: making one takes 30 ms.

    Raises:
        ConfigError: the environment names certificates that cannot be read; variable and path are named.
    """
    file, folder = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    for name, path, exists in (("SSL_CERT_FILE", file, Path.is_file), ("SSL_CERT_DIR", folder, Path.is_dir)):
        if path and not exists(Path(path)):
            raise ConfigError(
                f"the environment variable {name} names {path!r}, which does not exist or is of another kind"
            )
    try:
        return _tls_context(file, folder)
    except OSError as error:
        which = f"SSL_CERT_FILE={file!r}" if file else f"SSL_CERT_DIR={folder!r}"
        raise ConfigError(f"{which} of the environment cannot be used: {error}") from None


@lru_cache(maxsize=4)
def _tls_context(file: str | None, folder: str | None) -> ssl.SSLContext:
    if file:
        return ssl.create_default_context(cafile=file)
    if folder:
        return ssl.create_default_context(capath=folder)
    return httpx.create_ssl_context()
