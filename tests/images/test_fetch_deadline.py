"""A fetch ends in time whatever a server sends: drops, floods of tiny parts, answers before the answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import httpcore
import pytest

from jinaclip import ImagePolicy, InputError
from jinaclip.images import fetch as module
from jinaclip.images.deadlines import deadline
from jinaclip.images.fetch import FREE_PARTS, MAX_HEAD, SMALL_PART, fetch
from jinaclip.images.urls import parse

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MEGABYTE = 2**20
Send = Callable[[bytes], None]


@dataclass
class RawServer:
    """Answers each connection with the bytes that it is given, for as long as the client takes them.

    Attributes:
        port: where it listens.
        answer: sends the answer.
        sent: bytes that the system took from it, over all connections.
        pieces: how often it sent.
        connections: how many it had.
        ending: whether the test is over.
    """

    port: int
    answer: Callable[[RawServer, Send], None]
    sent: int = 0
    pieces: int = 0
    connections: int = 0
    ending: threading.Event = field(default_factory=threading.Event)

    def serve(self, connection: socket.socket) -> None:
        """Until the client has gone."""

        def send(data: bytes) -> None:
            connection.sendall(data)
            self.sent += len(data)
            self.pieces += 1

        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            self.answer(self, send)

    def drip(self, send: Send, data: Iterable[bytes]) -> None:
        """Sends a piece at a time, slowly."""
        for piece in data:
            if self.ending.wait(0.02):
                return
            send(piece)

    def policy(self, **options: float) -> ImagePolicy:
        return ImagePolicy(schemes=("http", "https"), ports=(self.port,), allow_networks=("127.0.0.1/32",), **options)

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/a.png"


@contextlib.contextmanager
def serving(answer: Callable[[RawServer, Send], None]) -> Iterator[RawServer]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = RawServer(listener.getsockname()[1], answer)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    server.connections += 1
                    threading.Thread(target=server.serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield server
        server.ending.set()


def endless(head: bytes, piece: bytes) -> Callable[[RawServer, Send], None]:
    """Sends a head, and then a piece again and again, many at a time."""

    def answer(_: RawServer, send: Send) -> None:
        send(head)
        while True:
            send(piece * (65536 // len(piece) + 1))

    return answer


# ---------------------------------------------------------------- much work of few bytes

FLOODS = {
    "chunks of two bytes": (CHUNKED, b"2\r\nab\r\n", "parts of less than"),
    "chunks of one byte in long words": (CHUNKED, b"1;" + b"x" * 50_000 + b"\r\na\r\n", "beside the image"),
    "preliminary answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "beside the image"),
    "preliminary answers with headers": (b"", b"HTTP/1.1 103 Early\r\nLink: <a>\r\n\r\n", "beside the image"),
    "headers": (OK, b"X-Header: value\r\n", "beside the image"),
    "one header": (OK + b"X-Header: ", b"x", "beside the image"),
    "a reason": (b"HTTP/1.1 200 ", b"x", "beside the image"),
    "trailers": (CHUNKED + b"0\r\n", b"X-Trailer: value\r\n", "could not be fetched"),
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_long_before_the_deadline(name):
    """By the work that it makes: in 15 seconds, eight such servers took 24, and each a processor."""
    head, piece, said = FLOODS[name]
    with serving(endless(head, piece)) as server:
        began = time.thread_time()
        with pytest.raises(InputError, match=said):
            fetch(server.url(), server.policy(fetch_timeout=600))
        seconds = time.thread_time() - began
    assert server.sent < 64 * MEGABYTE, "what lies in the buffers of the system included"
    assert seconds < 5


@pytest.mark.parametrize(("size", "part"), [(3 * MEGABYTE, 1024), (3 * MEGABYTE, 300), (10_000, 10), (4000, 1)])
def test_an_image_in_small_parts_is_fetched(size, part):
    data = bytes(range(256)) * (size // 256 + 1)
    chunks = [data[at : min(at + part, size)] for at in range(0, size, part)]

    def answer(_: RawServer, send: Send) -> None:
        send(CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n")

    with serving(answer) as server:
        assert fetch(server.url(), server.policy(fetch_timeout=300)) == data[:size]


@pytest.mark.parametrize("count", [0, 1, 20])
def test_some_preliminary_answers_and_a_large_head_are_fine(count):
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" * count
    head = OK + b"Cookie-Notice: " + b"x" * (MAX_HEAD // 2) + b"\r\nContent-Length: 5\r\n\r\n"
    with serving(lambda _, send: send(hints + head + b"image")) as server:
        assert fetch(server.url(), server.policy(fetch_timeout=300)) == b"image"


# ---------------------------------------------------------------- the deadline


def test_the_deadline_is_looked_at_for_each_part_of_a_body():
    """One read from the network may hold a hundred thousand; here it passes while the third is on its way."""
    taken = []
    until = time.monotonic() + 0.5

    def parts() -> Iterator[bytes]:
        for number in range(100):
            while number == 2 and time.monotonic() <= until:
                pass
            taken.append(number)
            yield bytes(1000)

    response = httpcore.Response(200, content=parts())
    with deadline(until), pytest.raises(httpcore.ReadTimeout):
        module._read(response, parse("https://example.org/", ImagePolicy()), ImagePolicy())
    assert len(taken) <= 3


DROPS: dict[str, tuple[str, bytes, bytes]] = {
    "the first line": ("http", b"", OK * 100),
    "headers": ("http", OK, b"A: b\r\n" * 500),
    "preliminary answers": ("http", b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "a body": ("http", OK + b"Content-Length: 5000\r\n\r\n", b"x" * 5000),
    "chunks": ("http", CHUNKED, b"1\r\nx\r\n" * 500),
    "the size of a chunk": ("http", CHUNKED, b"0" * 5000),
    "trailers": ("http", CHUNKED + b"0\r\n", b"A: b\r\n" * 500),
    "the TLS handshake": ("https", b"\x16\x03\x03\x40\x00", b"\x02" * 5000),
}


@pytest.mark.parametrize("name", DROPS)
def test_drops_meet_the_deadline(name):
    """Of fifty a second, a few dozen are sent at most: a hundred times what the deadline leaves time for would fail."""
    scheme, head, rest = DROPS[name]

    def answer(server: RawServer, send: Send) -> None:
        send(head)
        server.drip(send, (rest[at : at + 1] for at in range(len(rest))))

    with serving(answer) as server, pytest.raises(InputError, match=r"did not answer within"):
        fetch(server.url(scheme), server.policy(fetch_timeout=0.3))
    assert server.pieces < 1500


def test_all_redirects_share_one_deadline():
    def answer(server: RawServer, send: Send) -> None:
        server.drip(send, [b"HTTP/1.1 302 Found\r\n", b"Location: /b.png\r\n", b"X: y\r\n"] + [b"Z: z\r\n"] * 5)
        send(b"\r\n")

    with serving(answer) as server:
        policy = ImagePolicy(
            schemes=("http",), ports=(server.port,), allow_networks=("127.0.0.1/32",), max_redirects=20,
            fetch_timeout=0.4,
        )  # fmt: skip
        with pytest.raises(InputError, match=r"did not answer within"):
            fetch(server.url(), policy)
    assert server.connections <= 4


def test_the_caps_leave_room():
    """A server that sends a kilobyte at a time is none that wastes our time."""
    assert FREE_PARTS + 20 * MEGABYTE // SMALL_PART > 20 * MEGABYTE // 1024
