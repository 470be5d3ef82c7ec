"""How a server stops, and what its connections may do: real processes and bare sockets."""

import signal
import socket
from contextlib import ExitStack

import httpx
import pytest

from jinaclip.cli.main import main
from jinaclip.testing import Server
from tests.server.processes import TEXTS, as_json, gateway_to, read_all, request_bytes, serving, texts

QUICK = ("--drain-delay", "0", "--header-timeout", "0.4", "--body-timeout", "0.5", "--send-timeout", "1")


@pytest.fixture(scope="module")
def slow_service():
    """A service that takes a while for each request, and for some of them for ever."""
    with Server(base_ms=700, poison={"never": "hang"}) as running:
        yield running


@pytest.fixture(scope="module")
def patient(service, tmp_path_factory):
    """A server whose connections have little time, for tests that leave it as it was."""
    service.reset()
    with serving(tmp_path_factory.mktemp("log") / "log", *gateway_to(service.url), *QUICK) as server:
        yield server


@pytest.fixture
def start(server, tmp_path):
    """Starts a server that a test may end."""
    with ExitStack() as servers:

        def start(*options, to=server):
            log = tmp_path / f"log-{options}"
            return servers.enter_context(serving(log, *gateway_to(to.url), *options))

        yield start


@pytest.mark.slow
def test_requests_in_flight_at_sigterm_get_200_or_503_and_the_exit_code_is_0(start, slow_service):
    server = start("--drain-delay", "0.2", "--drain-timeout", "2", to=slow_service)

    soon, never = {"task": "retrieval.passage"}, {"task": "retrieval.query"}  # a gateway merges neither with the other
    bodies = [as_json(texts(f"soon {number}", **soon)) for number in range(4)]
    bodies += [as_json(texts(f"never {number}", **never)) for number in range(4)]
    with ExitStack() as clients:
        connections = [clients.enter_context(server.connect()) for _ in bodies]
        for connection, body in zip(connections, bodies, strict=True):
            connection.sendall(request_bytes(body, f"Content-Length: {len(body)}"))
        server.wait_for(lambda: server.gauge("queue_depth") == 8)
        server.signal()
        statuses = [read_all(connection)[9:12] for connection in connections]
    assert server.wait() == 0
    assert statuses == [b"200"] * 4 + [b"503"] * 4


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stopping_server_is_not_ready_and_still_answers_until_it_stops_listening(start, number):
    server = start("--drain-delay", "3", "--drain-timeout", "0.5")
    server.signal(number)
    server.wait_for(lambda: server.get("/ready").status_code == 503)
    assert server.embed(texts("a")).status_code == 200
    assert server.get("/live").status_code == 200
    assert server.wait() == 0


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(start):
    server = start("--drain-delay", "600")
    server.signal()
    server.wait_for(lambda: server.get("/ready").status_code == 503)
    server.signal()
    assert server.wait() == -signal.SIGTERM


@pytest.mark.slow
def test_what_takes_longer_than_the_deadline_is_refused_with_503(start):
    server = start("--drain-delay", "0", "--drain-timeout", "0.3", "--body-timeout", "600")
    with server.connect() as slow:
        slow.sendall(request_bytes(b'{"model', "Content-Length: 100"))
        server.wait_for(lambda: server.get("/live").status_code == 200)
        server.signal()
        answer = read_all(slow)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"SERVICE_UNAVAILABLE" in answer
    assert server.wait() == 0


def test_connections_that_send_no_headers_are_closed(patient):
    for raw in (b"", b"POST /v1/emb", request_bytes(b"").removesuffix(b"\r\n")):
        assert patient.send_raw(raw) == b""


def test_a_second_request_that_never_ends_its_headers_is_closed(patient):
    with patient.connect() as connection:
        connection.sendall(request_bytes(b"", path="/live", method="GET"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
        connection.sendall(b"GET /live HTTP/1.1\r\nHost: local")
        assert b"HTTP" not in read_all(connection)


@pytest.mark.parametrize("header", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_body_that_does_not_come_is_refused_with_408(patient, header):
    answer = patient.send_raw(request_bytes(b'5\r\n{"mod\r\n', header, "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"SERVICE_TIMEOUT" in answer


def test_a_client_that_does_not_read_is_closed_and_holds_nothing(patient):
    body = as_json(texts(*["a"] * 2000, embedding_type="float"))
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(60)
        deaf.connect(patient.address)
        deaf.sendall(request_bytes(body, f"Content-Length: {len(body)}"))
        patient.wait_for(lambda: patient.has_connection(deaf))
        patient.wait_for(lambda: not patient.has_connection(deaf))
    assert patient.gauge("queue_depth") == 0


@pytest.mark.slow
def test_the_rest_of_a_refused_body_is_read_so_that_its_client_sees_why(start):
    server = start("--max-body", "1000")
    body = as_json(texts("x" * 5_000_000))
    response = httpx.post(server.url + TEXTS, content=body, timeout=60)
    assert response.status_code == 413
    assert "takes 1000" in response.json()["detail"]
    chunked = httpx.post(server.url + TEXTS, content=iter([body[:900], body[900:]]), timeout=60)
    assert chunked.status_code == 413


@pytest.mark.slow
def test_where_there_is_no_room_the_connection_that_waits_longest_makes_it(start):
    server = start("--max-connections", "20")
    before = server.open_files()
    with ExitStack() as open_ones:
        lorises = [open_ones.enter_context(server.connect()) for _ in range(60)]
        for loris in lorises[-20:]:
            loris.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: loc")
        for i in range(10):
            assert server.embed(texts(f"text {i}")).status_code == 200
        assert [read_all(loris) for loris in lorises[:40]] == [b""] * 40
        assert server.open_files() <= before + 20


@pytest.mark.slow
def test_one_peer_has_as_many_connections_as_it_may(start):
    server = start("--max-connections-per-peer", "3")
    with server.connect() as first, server.connect(), server.connect():
        assert server.get("/live").status_code == 200
        assert read_all(first) == b""


def test_a_port_that_is_taken_is_one_line(patient, capfd, monkeypatch):
    monkeypatch.setenv("JINA_API_KEY", "jina_test")
    port = str(patient.address[1])
    assert main(["serve", *gateway_to(patient.url), "--port", port]) == 1
    assert f"error: cannot listen on host='127.0.0.1', port={port}: " in capfd.readouterr().err


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
    ],
    ids=["rebound name", "name that begins well", "page of another site", "page of nobody"],
)
def test_without_keys_pages_of_other_sites_get_no_answer(patient, headers):
    assert patient.get("/v1/models", **headers).status_code == 403
    assert patient.get("/v1/models", **headers).json()["code"] == "FORBIDDEN_ORIGIN"


def test_without_keys_its_own_page_gets_answers(patient):
    host, port = patient.address
    assert patient.get("/v1/models", Origin=f"http://{host}:{port}").status_code == 200
    assert patient.get("/v1/models", Host=f"localhost:{port}", Origin=f"http://localhost:{port}").status_code == 200
