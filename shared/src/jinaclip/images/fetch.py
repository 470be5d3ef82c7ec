"""Downloads an image from a URL that nobody has vouched for.

Built on httpcore because it takes a network backend. Ours resolves a name once, refuses it if any of its addresses is
not public, and dials what it checked, so a name cannot point elsewhere between check and use. Each request has a
connection of its own; a shared pool would offer host A's connection for host B on the same address.
"""

from __future__ import annotations

import functools
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urljoin

import httpcore

from jinaclip.config import ImagePolicy
from jinaclip.errors import ImageTooLargeError, InputError
from jinaclip.images.deadlines import DeadlineBackend, Quota, deadline, left
from jinaclip.images.urls import Location, find_problem, host_error, parse

REDIRECTS = {301, 302, 303, 307, 308}
MAX_ADDRESSES = 4
"""Most addresses of a name that are tried, in turn."""
MOST_ADDRESSES = 256
"""Of a name that has more, none is tried: each has to be checked."""
MAX_HEAD = 2**16
"""Most bytes of an answer before its body, preliminary answers (1xx) included."""
MAX_FRAMING = 2**20
"""Most bytes of a body beside the image: the sizes of its chunks, their extensions, trailers."""
SMALL_PART, FREE_PARTS = 256, 4096
"""Each part of a body costs as much work as thousands of bytes; so beyond the first, they must be larger on average."""
TRANSPORT_ERRORS = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError)


def fetch(url: str, policy: ImagePolicy) -> bytes:
    """Downloads the bytes of a URL. Blocks for at most `fetch_timeout`, name resolution and redirects included.

    Raises:
        InputError: the policy refuses the URL, a redirect or an address, or the download failed.
    """
    asked = location = parse(url, policy)
    with deadline(time.monotonic() + policy.fetch_timeout):
        for _ in range(policy.max_redirects + 1):
            try:
                answer = _get(location, policy)
            except HostProblem as problem:
                raise host_error(asked, location.host, str(problem), policy) from None
            if isinstance(answer, bytes):
                return answer
            location = _follow(location, answer, policy, asked)
    raise InputError(f"the image URL redirects more than image_policy.max_redirects={policy.max_redirects} times")


def _follow(location: Location, target: str, policy: ImagePolicy, asked: Location) -> Location:
    try:
        joined = urljoin(str(location), target)
    except ValueError:
        raise InputError(f"{location.url_for_messages} redirects to something that is no URL") from None
    redirect = parse(joined, policy, asked)
    if location.scheme == "https" and redirect.scheme != "https":
        raise InputError(f"{location.url_for_messages} redirects from https to http, which is not followed")
    return redirect


def _get(location: Location, policy: ImagePolicy) -> bytes | str:
    """Sends one request. Returns the body as bytes, or the URL of a redirect as a str."""
    url = httpcore.URL(scheme=location.scheme, host=location.host, port=location.port, target=location.target)
    headers: dict[bytes | str, bytes | str]
    headers = {"Host": location.authority, "Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "jinaclip"}
    quota = Quota(MAX_HEAD)
    backend = DeadlineBackend(CheckedBackend(policy), quota)
    # httpcore's own timeouts stay unset: DeadlineBackend gives each operation the time until the deadline
    options = {"timeout": {"connect": policy.connect_timeout}}
    try:
        with (
            httpcore.ConnectionPool(_tls(), max_keepalive_connections=0, network_backend=backend) as pool,
            pool.stream("GET", url, headers=headers, extensions=options) as response,
        ):
            quota.left += policy.max_bytes + MAX_FRAMING
            return _read(response, location, policy)
    except httpcore.TimeoutException:
        raise InputError(
            f"{location.url_for_messages} did not answer within image_policy.fetch_timeout={policy.fetch_timeout} s "
            f"(connect_timeout={policy.connect_timeout} s)"
        ) from None
    except TRANSPORT_ERRORS as error:
        raise InputError(f"{location.url_for_messages} could not be fetched: {_reason(error)}") from None


def _read(response: httpcore.Response, location: Location, policy: ImagePolicy) -> bytes | str:
    headers = {name.lower(): value for name, value in response.headers}
    if response.status in REDIRECTS and b"location" in headers:
        return headers[b"location"].decode("utf-8", "replace")
    if response.status != 200:
        raise InputError(f"{location.url_for_messages} answered with status {response.status} instead of an image")
    coding = headers.get(b"content-encoding", b"identity").strip().lower()
    if coding not in (b"", b"identity"):  # a few compressed bytes may unpack to gigabytes
        raise InputError(f"{location.url_for_messages} sent its image compressed, though asked not to")
    parts, size = [], 0
    for part in response.iter_stream():
        left(None, httpcore.ReadTimeout)  # of one read from the network come a hundred thousand small parts
        parts.append(part)
        size += len(part)
        if size > policy.max_bytes:
            raise ImageTooLargeError(
                f"{location.url_for_messages} sent more than image_policy.max_bytes={policy.max_bytes}"
            )
        if len(parts) > FREE_PARTS + size // SMALL_PART:
            raise InputError(f"{location.url_for_messages} sent its image in parts of less than {SMALL_PART} bytes")
    return b"".join(parts)


def _reason(error: Exception) -> str:
    text = str(error).partition("\n")[0][:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpcore.default_ssl_context()


class HostProblem(Exception):
    """A host must not be dialled, or has no address. The message says which, and is for the log alone."""


class CheckedBackend(httpcore.NetworkBackend):
    """Dials only addresses that the policy allows."""

    def __init__(self, policy: ImagePolicy) -> None:
        self._policy = policy
        self._plain = httpcore.SyncBackend()

    def connect_tcp(  # noqa: D102
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        until = time.monotonic() + (self._policy.connect_timeout if timeout is None else timeout)
        failure: Exception = HostProblem("it has no address")
        for address in self._addresses(host, port, until)[:MAX_ADDRESSES]:
            try:
                return self._plain.connect_tcp(address, port, _seconds_until(until), local_address, socket_options)
            except httpcore.ConnectError as error:
                failure = error
        raise failure

    def _addresses(self, host: str, port: int, until: float) -> list[str]:
        """The addresses of the name. All are checked before any is dialled."""
        found = dict.fromkeys(str(entry[4][0]) for entry in _resolve(host, port, _seconds_until(until)))
        if len(found) > MOST_ADDRESSES:
            raise HostProblem(f"it has {len(found)} addresses")
        try:
            addresses = [ipaddress.ip_address(address) for address in found]
        except ValueError:  # of a resolver that another library put in
            raise HostProblem("it has an address that is none") from None
        if problem := find_problem(addresses, self._policy):
            raise HostProblem(problem)
        return list(found)


def _seconds_until(moment: float) -> float:
    """Seconds from now until a moment of `time.monotonic`. Raises ConnectTimeout if it has passed."""
    seconds = moment - time.monotonic()
    if seconds <= 0:
        raise httpcore.ConnectTimeout("no connection in time")
    return seconds


def _resolve(host: str, port: int, timeout: float) -> list[Any]:
    """`socket.getaddrinfo` with a timeout, which it lacks: it runs in a thread that may outlive this call."""
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def resolve() -> None:
        try:
            answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except Exception as error:  # noqa: BLE001  libraries put resolvers of their own in
            answers.put(error)

    threading.Thread(target=resolve, name="jinaclip-resolver", daemon=True).start()
    try:
        answer = answers.get(timeout=left(timeout, httpcore.ConnectTimeout))
    except queue.Empty:
        raise HostProblem("it was not resolved in time") from None
    if isinstance(answer, Exception):
        raise HostProblem("it cannot be resolved")
    return answer
