"""Total deadlines for HTTP.

A timeout of httpx bounds each read and write, so a server that drips a byte a second never meets it. Here every
operation of a connection, TLS included, gets what is left of one deadline for the whole exchange. It is done below
httpx, where running out of time closes the connection in order; cancelling a request from outside would cost httpx
0.28 a place in its pool.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import httpcore

READ_BYTES = 2**20
"""At a time; httpcore asks for a sixteenth, and each read of a large answer hands the interpreter to another thread."""

_deadline: ContextVar[float] = ContextVar("deadline", default=float("inf"))


@contextmanager
def deadline(at: float) -> Iterator[None]:
    """All connections used inside run out of time at this moment of `time.monotonic`, or when one around does."""
    token = _deadline.set(min(at, _deadline.get()))
    try:
        yield
    finally:
        _deadline.reset(token)


def left(timeout: float | None, error: type[Exception]) -> float | None:
    """The shorter of a timeout and what is left until the deadline."""
    remaining = _deadline.get() - time.monotonic()
    if remaining <= 0:
        raise error("the deadline of the request has passed")
    if remaining == float("inf"):
        return timeout
    return remaining if timeout is None else min(timeout, remaining)


@dataclass(slots=True)
class Quota:
    """How much more a server may send.

    What the client reads between two looks at the deadline is bounded by it, too: a server can make much work of few
    bytes.

    Attributes:
        left: bytes.
    """

    left: int


class DeadlineStream(httpcore.NetworkStream):
    """A connection of threads, under the deadline and a quota.

    The head of a request waits for its body: one packet, not two.
    """

    def __init__(self, stream: httpcore.NetworkStream, quota: Quota) -> None:
        self._stream, self._quota = stream, quota
        self._begins, self._head = True, b""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: D102
        if self._head:
            self.write(b"", timeout)
        self._begins = True
        if self._quota.left <= 0:
            raise httpcore.RemoteProtocolError("it sent too much beside the image")
        most = min(max(max_bytes, READ_BYTES), self._quota.left)
        data = self._stream.read(most, left(timeout, httpcore.ReadTimeout))
        self._quota.left -= len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: D102
        if self._begins:
            self._begins, self._head = False, buffer
            return
        buffer, self._head = self._head + buffer, b""
        self._stream.write(buffer, left(timeout, httpcore.WriteTimeout))

    def start_tls(  # noqa: D102
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = left(timeout, httpcore.ConnectTimeout)
        return DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, seconds), self._quota)

    def get_extra_info(self, info: str) -> Any:  # noqa: D102
        return self._stream.get_extra_info(info)

    def close(self) -> None:  # noqa: D102
        self._stream.close()


class DeadlineBackend(httpcore.NetworkBackend):
    """Opens connections of threads, under the deadline and a quota."""

    def __init__(self, backend: httpcore.NetworkBackend, quota: Quota) -> None:
        self._backend, self._quota = backend, quota

    def connect_tcp(  # noqa: D102
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        seconds = left(timeout, httpcore.ConnectTimeout)
        stream = self._backend.connect_tcp(host, port, seconds, local_address, socket_options)
        return DeadlineStream(stream, self._quota)
