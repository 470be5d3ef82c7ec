"""What stands behind or between the lines of a request is never run as another one, whatever a proxy made of it."""

from contextlib import closing
from http.client import HTTPConnection

import pytest

from tests.server.processes import as_json, gateway_to, request_bytes, serving, texts

OWN = as_json(texts("own"))
BEHIND = as_json(texts("smuggled"))
SMUGGLED = request_bytes(BEHIND, f"Content-Length: {len(BEHIND)}")
CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(OWN), OWN)
WITH_LENGTH = f"Content-Length: {len(OWN)}"
LONGER = f"Content-Length: {len(OWN) + len(SMUGGLED)}"
CHUNKED = "Transfer-Encoding: chunked"

AMBIGUOUS = {
    "two lengths": ((WITH_LENGTH, LONGER), OWN),
    "two lengths, the longer first": ((LONGER, WITH_LENGTH), OWN),
    "lengths in a list": ((f"Content-Length: {len(OWN)}, {len(OWN) + len(SMUGGLED)}",), OWN),
    "length and chunks": ((LONGER, CHUNKED), CHUNKS),
    "chunks and length": ((CHUNKED, LONGER), CHUNKS),
    "length and no chunks": ((WITH_LENGTH, CHUNKED), OWN),
    "length with a plus": ((f"Content-Length: +{len(OWN)}",), OWN),
    "length in hex": ((f"Content-Length: {len(OWN):#x}",), OWN),
    "length with an underscore": (("Content-Length: 1_0",), OWN),
    "length below nought": (("Content-Length: -1",), OWN),
    "length without digits": (("Content-Length: ",), OWN),
    "space before the colon": ((f"Content-Length : {len(OWN)}",), OWN),
    "folded length": (("Content-Length:", f" {len(OWN)}"), OWN),
    "folded encoding": ((LONGER, "X: y", " Transfer-Encoding: chunked"), CHUNKS),
    "unknown encoding": ((LONGER, "Transfer-Encoding: xchunked"), CHUNKS),
    "encodings": (("Transfer-Encoding: gzip, chunked",), CHUNKS),
    "encoding twice": ((CHUNKED, "Transfer-Encoding: identity"), CHUNKS),
    "encoding behind a tab": ((LONGER, "Transfer-Encoding:\tchunked\x0b"), CHUNKS),
    "length behind NUL": ((f"X: y\x00{LONGER}", WITH_LENGTH + "\x00"), OWN),
    "length behind a bare CR": ((f"X: y\r{LONGER}", WITH_LENGTH), OWN),
    "chunk size in 0x": ((CHUNKED,), b"0x%b" % CHUNKS),
    "chunk size with a plus": ((CHUNKED,), b"+%b" % CHUNKS),
    "chunk size below nought": ((CHUNKED,), b"-%b" % CHUNKS),
    "chunk size beyond 64 bits": ((CHUNKED,), b"1%016x\r\n%b\r\n0\r\n\r\n" % (len(OWN), OWN)),
    "chunk longer than its size": ((CHUNKED,), b"5\r\n%b\r\n0\r\n\r\n" % OWN),
    "chunks without CR": ((CHUNKED,), CHUNKS.replace(b"\r\n", b"\n")),
    "chunk with an extension that never ends": ((CHUNKED,), b"5;%b\r\nhello\r\n0\r\n\r\n" % (b"a" * 100_000)),
    "no length": ((), OWN),
    "upgrade to HTTP/2": (("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"), b""),
    "upgrade to a web socket": (("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"), b""),
}
QUICK = ("--header-timeout", "1", "--body-timeout", "1", "--keep-alive", "1")


@pytest.fixture(scope="module")
def gateway(service, tmp_path_factory):
    with serving(tmp_path_factory.mktemp("log") / "log", *gateway_to(service.url), *QUICK) as running:
        yield running


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_request_whose_end_is_in_doubt_runs_nothing_behind_it(gateway, server, name):
    headers, body = AMBIGUOUS[name]
    answer = gateway.send_raw(request_bytes(body, *headers) + SMUGGLED)
    assert server.history("text", "smuggled")["received"] == 0
    assert answer.count(b"HTTP/1.1 ") <= 1


@pytest.mark.parametrize("name", ["length and chunks", "chunks and length"])
def test_a_request_with_two_ends_is_refused_and_its_connection_closed(gateway, server, name):
    headers, body = AMBIGUOUS[name]
    answer = gateway.send_raw(request_bytes(body, *headers))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"REQUEST_AMBIGUOUS" in answer
    assert server.ledger()["requests"] == 0


NONSENSE = {
    "nothing that is HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 4,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64),
    "a line of 200,000 letters": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a header of 200,000 letters": request_bytes(OWN, "X: " + "a" * 200_000, WITH_LENGTH),
    "50,000 headers": request_bytes(OWN, *["a:"] * 50_000, WITH_LENGTH),
    "headers of other letters": request_bytes(OWN, "X\u00e9: y", WITH_LENGTH),
    "two hosts": request_bytes(OWN, "Host: evil.example", WITH_LENGTH),
    "a bare CR": b"\r" * 1000,
    "lines that are blank": b"\r\n" * 1000,
}


@pytest.mark.parametrize("name", NONSENSE)
def test_nonsense_is_refused_and_costs_nobody_else_anything(gateway, server, name):
    answer = gateway.send_raw(NONSENSE[name])
    assert answer[:12] in (b"", b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 431")
    assert server.ledger()["requests"] == 0
    assert gateway.embed(texts("own")).status_code == 200


def test_nonsense_behind_a_refused_body_ends_the_connection_and_is_no_error_of_the_server(gateway):
    gateway.send_raw(request_bytes(b"5\r\nhello\r\nzz\r\n", CHUNKED, path="/nowhere"))
    assert "Traceback" not in gateway.log


def test_a_connection_carries_the_next_request_once_the_first_is_answered(gateway):
    with closing(HTTPConnection(*gateway.address, timeout=60)) as connection:
        connection.connect()
        own = connection.sock
        for _ in range(3):
            connection.request("GET", "/live")
            assert connection.getresponse().read() == b'{"status":"alive"}'
        assert connection.sock is own


def test_a_request_that_comes_before_its_turn_is_not_run(gateway):
    request = request_bytes(b"", path="/live", method="GET")
    answer = gateway.send_raw(request + request)
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close" in answer
