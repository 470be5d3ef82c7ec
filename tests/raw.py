"""A service on bare sockets that knows nothing of `jinaclip.testing`, so that it does not share what that overlooks.

A test gives it a function from a request to the very bytes that go back. It speaks as much of Jina's wire as that
takes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

WIDTH = 64


def vector(content: str, width: int = WIDTH) -> np.ndarray:
    """The vector of a text, or of the base64 of an image: of length 1, and another for every content."""
    seed = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8], "big")
    row = np.random.default_rng(seed).standard_normal(width)
    return (row / np.linalg.norm(row)).astype("<f4")


def are_vectors_of(contents: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Which rows are the vectors of their contents."""
    expected = np.stack([vector(content, rows.shape[1]) for content in contents])
    return np.abs(rows - expected).max(axis=1) < 1e-5


@dataclass
class Asked:
    """A request that arrived.

    Attributes:
        number: of it, counted from 0 over all connections.
        connection: number of its connection.
        contents: what is to be embedded: texts, or images as base64 or URL.
        body: of the request, read as JSON.
        headers: by name in small letters.
        at: moment of arrival, of `time.monotonic`.
    """

    number: int
    connection: int
    contents: list[str]
    body: dict[str, Any]
    headers: dict[str, str]
    at: float = field(default_factory=time.monotonic)


@dataclass
class Sent:
    """Bytes to send back, in pieces as they are given, and whether the connection is closed after them."""

    pieces: Iterable[bytes]
    close: bool = False


Respond = Callable[[Asked], "Sent | bytes"]


def answer_body(contents: Sequence[str], *, width: int = WIDTH, tokens: int | None = None) -> bytes:
    """The JSON of a right answer."""
    rows = [base64.b64encode(vector(content, width).tobytes()).decode() for content in contents]
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    bill = sum(map(cost, contents)) if tokens is None else tokens
    usage = {"total_tokens": bill, "prompt_tokens": bill}
    return json.dumps({"model": "jina-clip-v2", "object": "list", "usage": usage, "data": data}).encode()


def cost(content: str) -> int:
    """Tokens that the service bills for a text: a word is one."""
    return len(content.split()) or 1


def http(body: bytes, status: int = 200, headers: Sequence[tuple[str, str]] = (), length: int | None = None) -> bytes:
    """An HTTP answer; `length` overrides the true Content-Length."""
    own = [("Content-Type", "application/json"), ("Content-Length", str(len(body) if length is None else length))]
    head = "".join(f"{name}: {value}\r\n" for name, value in [*own, *headers])
    return f"HTTP/1.1 {status} X\r\n{head}\r\n".encode("latin-1") + body


def right(asked: Asked) -> bytes:
    """A right answer."""
    return http(answer_body(asked.contents, width=width_of(asked)))


def width_of(asked: Asked) -> int:
    """The width that a request asks for."""
    return int(asked.body.get("dimensions", 1024 if asked.body["model"] == "jina-clip-v2" else 768))


def refusal(status: int, message: str = "refused", headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A refusal that names no input."""
    return http(json.dumps({"detail": message}).encode(), status, headers)


class RawServer(socketserver.ThreadingTCPServer):
    """Answers each request by what `respond` makes of it, in a thread for each connection.

    Attributes:
        asked: every request that arrived, in order.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, respond: Respond = right) -> None:
        super().__init__(("127.0.0.1", 0), Connection)
        self.respond = respond
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self.connections = 0

    @property
    def url(self) -> str:
        """For `base_url`."""
        host, port = self.server_address[:2]
        return f"http://{host}:{port}/v1"

    @property
    def sends(self) -> Counter[str]:
        """How often each content arrived."""
        return Counter(content for asked in list(self.asked) for content in asked.contents)

    def note(self, connection: int, headers: dict[str, str], body: bytes) -> Asked:
        """Notes a request."""
        fields = json.loads(body)
        with self._lock:
            asked = Asked(len(self.asked), connection, [*map(content_of, fields["input"])], fields, headers)
            self.asked.append(asked)
        return asked

    def next_connection(self) -> int:
        """Counts the connections."""
        with self._lock:
            self.connections += 1
            return self.connections

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes is nothing to print."""


def content_of(entry: Any) -> str:
    """The text or image of an input as the wire has it."""
    return entry if isinstance(entry, str) else next(iter(entry.values()))


class Connection(socketserver.StreamRequestHandler):
    """One connection."""

    server: RawServer

    def handle(self) -> None:
        """Answers its requests."""
        own = self.server.next_connection()
        with suppress(ConnectionError, BrokenPipeError):
            while (request := self._read()) is not None:
                made = self.server.respond(self.server.note(own, *request))
                sent = made if isinstance(made, Sent) else Sent([made])
                for piece in sent.pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                if sent.close:
                    return

    def _read(self) -> tuple[dict[str, str], bytes] | None:
        if not self.rfile.readline():
            return None
        headers: dict[str, str] = {}
        while (line := self.rfile.readline()).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        return headers, self.rfile.read(int(headers.get("content-length", 0)))


@contextmanager
def serving(respond: Respond = right) -> Iterator[RawServer]:
    """A server for as long as the block lasts."""
    server = RawServer(respond)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
