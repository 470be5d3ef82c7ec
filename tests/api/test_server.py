"""The test server misbehaves as it says: every fault once, over real sockets."""

import base64
import io
import socket
import time
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import httpx
import numpy as np
import orjson
import pytest
from PIL import Image

from jinaclip.backends.api.wires import base
from jinaclip.backends.api.wires import jina as wire
from jinaclip.config import EmbedderConfig
from jinaclip.specs import JINA_CLIP_V1, JINA_CLIP_V2
from jinaclip.testing.faults import FAULTS, PASSING
from jinaclip.testing.vectors import expected_vector, write_fast

KEY = {"Authorization": "Bearer jina_test_1"}
TEXTS = ["red", "green", "blue", "a grey cat", "two [bad] dogs"]
DIMENSIONS = JINA_CLIP_V2.dimensions

STATUSES = {
    "status_408": 408,
    "status_409": 409,
    "status_425": 425,
    "status_500": 500,
    "status_502_html": 502,
    "status_503": 503,
    "status_504": 504,
    "status_529": 529,
    "poison_500": 500,
    "auth_401": 401,
    "rate_request": 429,
    "rate_token": 429,
    "rate_concurrency": 429,
    "rate_ip": 429,
    "rate_unknown": 429,
    "balance_402": 402,
    "balance_403": 403,
    "forbidden_403": 403,
    "not_found_404": 404,
    "redirect_302": 302,
    "too_large_413": 413,
    "too_many_422": 422,
    "too_many_400": 400,
    "reject_all_422": 422,
    "bad_item_400": 400,
    "bad_item_unnamed_400": 400,
}
CODES = {
    "status_409": "CONFLICT_RESOURCE_BUSY",
    "status_500": "INTERNAL_ERROR",
    "status_503": "SERVICE_UNAVAILABLE",
    "status_504": "SERVICE_TIMEOUT",
    "rate_request": "RATE_REQUEST_LIMIT_EXCEEDED",
    "rate_token": "RATE_TOKEN_LIMIT_EXCEEDED",
    "rate_concurrency": "RATE_CONCURRENCY_LIMIT_EXCEEDED",
    "rate_ip": "RATE_IP_LIMIT_EXCEEDED",
    "auth_401": "AUTH_INVALID_API_KEY",
    "balance_403": "AUTHZ_INSUFFICIENT_BALANCE",
}
WAITS = {"retry_after_seconds": ["0.02"], "retry_after_huge": ["3600"], "retry_after_bad": ["NaN", "-1", "0"]}
INDICES = {
    "long_reply": [0, 1, 2, 3, 4, 5],
    "bool_index": [False, True, 2, 3, 4],
    "string_index": ["0", "1", "2", "3", "4"],
}
ROWS = {
    "nan_row": lambda row: np.isnan(row).sum() == 1,
    "inf_row": lambda row: np.isinf(row).sum() == 1,
    "zero_row": lambda row: not row.any(),
    "null_row": lambda row: row is None,
    "wrong_dimension_one": lambda row: len(row) == DIMENSIONS - 1,
}
NOT_JSON = ["truncated_json", "trailing_bytes", "not_json", "html_200", "empty_200"]
ELSEWHERE = {"short_reply", "repeated_index", "gap_index", "permuted", "wrong_dimension_all", "deep_json", "gzip_bomb"}
ELSEWHERE |= {"oversize_body", "retry_after_date", "reset_before_headers", "reset_mid_body", "close_mid_body", "hang"}
ELSEWHERE |= {"slow_drip", "slow_headers"}


@pytest.fixture(scope="module")
def client(service):
    with httpx.Client(base_url=service.url, headers=KEY, trust_env=False, timeout=5) as client:
        yield client


def request(inputs=None, query=False, spec=JINA_CLIP_V2, config=None, **fields):
    body = wire.settings(config or EmbedderConfig(), spec, query=query) | fields
    return wire.write_request(body, [wire.text_input(text) for text in TEXTS] if inputs is None else inputs)


def post(client, **how):
    return client.post("/v1/embeddings", content=request(**how))


def ask(server, client, fault, **how):
    server.configure(script=[fault])
    return post(client, **how)


def cells(response):
    return orjson.loads(response.content)["data"]


def indices(response):
    return [cell["index"] for cell in cells(response)]


def vector(cell):
    letters = cell["embedding"]
    return None if letters is None else np.frombuffer(base64.b64decode(letters), "<f4")


def png(picture):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


# Honest


@pytest.mark.parametrize("encoding", ["base64", "float"])
@pytest.mark.parametrize(("dimensions", "normalized"), [(None, True), (64, True), (64, False), (3, True)])
def test_vectors_encode_their_inputs(server, client, encoding, dimensions, normalized):
    config = EmbedderConfig(dimensions=dimensions, normalized=normalized)
    picture = Image.effect_noise((30, 20), 90).convert("RGB")
    inputs = [wire.text_input("red"), wire.image_input(png(picture)), wire.url_input("https://example.org/a.jpg")]
    response = post(client, inputs=inputs, config=config, embedding_type=encoding)
    rows = wire.read_answer(response.content, 3, dimensions or DIMENSIONS).rows
    contents = [("text", "red"), ("image", picture), ("url", "https://example.org/a.jpg")]
    for row, (kind, content) in zip(rows, contents, strict=True):
        expected = expected_vector(kind, content, dimensions=dimensions, normalized=normalized)
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-6)
        assert bool(abs(np.linalg.norm(row) - 1) < 1e-6) is normalized


def test_queries_and_models_have_vectors_of_their_own(server, client):
    one = [wire.text_input("red")]
    query = wire.read_answer(post(client, inputs=one, query=True).content, 1, 1024)
    older = wire.read_answer(post(client, inputs=one, spec=JINA_CLIP_V1).content, 1, 768)
    document = expected_vector("text", "red")
    np.testing.assert_allclose(query.rows[0], expected_vector("text", "red", task="retrieval.query"), atol=1e-6)
    np.testing.assert_allclose(older.rows[0], expected_vector("text", "red", "jina-clip-v1"), atol=1e-6)
    assert abs(query.rows[0] - document).max() > 0.01
    assert query.tokens > older.tokens


def test_the_fast_answer_is_the_wire_s_own():
    digests = [bytes(range(i, i + 16)) for i in range(3)]
    rows = np.stack([vector(cell) for cell in orjson.loads(fast(digests))["data"]])
    assert orjson.loads(fast(digests)) == wire.write_answer("jina-clip-v2", rows, 7)


def fast(digests):
    return write_fast(digests, JINA_CLIP_V2, DIMENSIONS, 7, normalized=True)


def test_the_ledger_counts_what_was_answered(server, client):
    post(client)
    post(client, inputs=[wire.text_input("red"), wire.image_input(png(Image.new("RGB", (513, 10))))])
    ask(server, client, "not_json")
    books = server.ledger()
    assert (books["requests"], books["ok"], books["faults"]) == (3, 2, {"not_json": 1})
    assert books["answered"] == {"1": 5, "2": 1}
    assert books["received"] == {"1": 1, "2": 4, "3": 1}
    assert (books["tiles"], books["images"], books["texts"]) == (2, 1, 6)
    assert books["tokens"] > 8000 > books["tokens_lost"] > 0
    assert len(books["repeated"]) == books["connections"] == books["in_flight_max"] == 1
    assert server.history("text", "red") == {"received": 3, "answered": 2}
    assert "authorization" not in books["last"]["headers"]


def test_an_answer_nobody_waits_for_is_not_answered(server):
    server.configure(base_ms=60)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/embeddings", content=request(), headers=KEY, timeout=0.02)
    time.sleep(0.1)
    books = server.ledger()
    assert (books["unsent"], books["ok"], books["answered"], books["in_flight"]) == (1, 0, {}, 0)


@pytest.mark.parametrize(
    ("how", "status", "code", "place"),
    [
        ({"inputs": []}, 422, "", "body -> input"),
        ({"inputs": [wire.text_input("a")] * 513}, 422, "", "body -> input"),
        ({"model": "jina-clip-v3"}, 400, "INPUT_MODEL_NOT_FOUND", None),
        ({"dimensions": 1025}, 422, "", "body -> dimensions"),
        ({"task": "retrieval.passage"}, 422, "", "body -> task"),
        ({"inputs": [wire.text_input("a " * 9000)]}, 400, "INPUT_TOKEN_LIMIT_EXCEEDED", None),
        ({"inputs": [wire.text_input("a"), wire.image_input(b"no picture")]}, 422, "", "body -> input -> 1"),
        ({"inputs": [[1, 2]]}, 422, "", "body -> input -> 0"),
    ],
)
def test_wrong_requests_are_refused(server, client, how, status, code, place):
    response = post(client, **how)
    assert (response.status_code, wire.read_refusal(response.content).code) == (status, code)
    if place:
        (error,) = response.json()["errors"]
        assert error["field"] == place
        assert "input" in error
    assert server.ledger()["answered_items"] == 0


def test_too_long_a_text_is_cut_on_request(server, client):
    long = [wire.text_input("a " * 9000)]
    assert wire.read_answer(post(client, inputs=long, truncate=True).content, 1, DIMENSIONS).tokens == 8194


@pytest.mark.parametrize(
    ("header", "code"),
    [(None, "MISSING_API_KEY"), ("Basic x", "INVALID_FORMAT"), ("Bearer jina_other", "INVALID_API_KEY")],
)
def test_wrong_keys_are_refused(server, header, code):
    server.configure(echo_key=True)
    headers = {"Authorization": header} if header else {}
    response = httpx.post(f"{server.url}/v1/embeddings", content=request(), headers=headers)
    body = response.json()
    assert (response.status_code, body["code"]) == (401, f"AUTH_{code}")
    assert ("jina_other" in body["detail"]) is (code == "INVALID_API_KEY")
    assert body["request_id"]


def test_limits_are_enforced(server, client):
    server.configure(requests_per_minute=60, burst_s=1, send_retry_after=True)
    assert [post(client).status_code for _ in range(2)] == [200, 429]
    assert post(client).headers["Retry-After"] == "1"
    server.configure(requests_per_minute=0, tokens_per_minute=60)
    assert [post(client).status_code for _ in range(2)] == [200, 429]
    server.configure(tokens_per_minute=0, balance=1)
    assert post(client).status_code == 403
    server.configure(balance=0, max_bytes=50)
    assert post(client).status_code == 413
    assert server.ledger()["refused"]["RATE_TOKEN_LIMIT_EXCEEDED"] == 1


def test_answers_take_their_time_and_can_be_shuffled(server, client):
    server.configure(base_ms=20, text_ms=2, slots=1, shuffle=True, seed=3)
    start = time.monotonic()
    response = post(client)
    assert time.monotonic() - start >= 0.03
    assert sorted(indices(response)) == list(range(5)) != indices(response)


# Faults


def test_every_fault_is_shown_here():
    shown = {*STATUSES, *WAITS, *INDICES, *ROWS, *NOT_JSON, *ELSEWHERE}
    assert shown == set(FAULTS)
    assert set(PASSING) <= set(FAULTS)


@pytest.mark.parametrize("fault", STATUSES)
def test_refusals(server, client, fault):
    response = ask(server, client, fault)
    assert response.status_code == STATUSES[fault]
    if fault in CODES:
        assert wire.read_refusal(response.content).code == CODES[fault]
    books = server.ledger()
    assert (books["faults"], books["answered_items"], books["tokens_lost"]) == ({fault: 1}, 0, 0)


def test_refusals_name_what_they_should(server, client):
    assert wire.read_refusal(ask(server, client, "bad_item_400").content).index == 3
    assert wire.read_refusal(ask(server, client, "bad_item_unnamed_400").content).index is None
    assert "512" in wire.read_refusal(ask(server, client, "too_many_422").content).message
    assert "largest allowed size" in wire.read_refusal(ask(server, client, "too_many_400").content).message
    assert ask(server, client, "redirect_302").headers["Location"] == "/redirected"


@pytest.mark.parametrize("fault", WAITS)
def test_waits(server, client, fault):
    response = ask(server, client, fault)
    assert response.status_code == 429
    assert response.headers["Retry-After"] in WAITS[fault]


def test_a_date_to_wait_for_goes_by_the_server_s_clock(server, client):
    headers = ask(server, client, "retry_after_date").headers
    now, then = (parsedate_to_datetime(headers[name]) for name in ("Date", "Retry-After"))
    assert (then - now).total_seconds() == 1
    assert abs(now.timestamp() - time.time()) > 3600


@pytest.mark.parametrize("fault", INDICES)
def test_indices(server, client, fault):
    found = indices(ask(server, client, fault))
    assert repr(found) == repr(INDICES[fault])


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("fault", ["short_reply", "repeated_index", "gap_index", "bool_index", "string_index"])
def test_indices_do_not_hold(server, client, fault, count):
    response = ask(server, client, fault, inputs=[wire.text_input(text) for text in TEXTS[:count]])
    with pytest.raises(base.Malformed):
        wire.read_answer(response.content, count, DIMENSIONS)
    assert server.ledger()["answered_items"] == 0


def test_short_replies_come_renumbered_and_not(server, client):
    server.configure(script=["short_reply"] * 16)
    found = {tuple(indices(post(client))) for _ in range(16)}
    assert (0, 1, 2, 3) in found
    assert len(found) > 1


def test_permuted_answers_are_valid(server, client):
    response = ask(server, client, "permuted")
    assert indices(response) != list(range(5))
    assert not wire.read_answer(response.content, 5, DIMENSIONS).bad
    assert server.ledger()["answered"] == {"1": 5}


@pytest.mark.parametrize("fault", ROWS)
def test_rows(server, client, fault):
    vectors = [vector(cell) for cell in cells(ask(server, client, fault))]
    spoilt = [row is None or len(row) != DIMENSIONS or not abs(np.linalg.norm(row) - 1) < 1e-6 for row in vectors]
    assert sum(spoilt) == 1
    assert ROWS[fault](vectors[spoilt.index(True)])
    assert server.ledger()["answered"] == {"1": 4}


def test_all_rows_of_a_wrong_dimension(server, client):
    with pytest.raises(base.WrongDimensions):
        wire.read_answer(ask(server, client, "wrong_dimension_all").content, 5, DIMENSIONS)


@pytest.mark.parametrize("fault", NOT_JSON)
def test_bodies_that_are_not_json(server, client, fault):
    response = ask(server, client, fault)
    assert response.status_code == 200
    with pytest.raises(ValueError, match=r".*"):
        orjson.loads(response.content)
    assert server.ledger()["tokens_lost"] > 0


def test_bodies_that_are_too_much(server, client):
    assert ask(server, client, "deep_json").content.count(b"[") > 10_000
    assert len(ask(server, client, "oversize_body").content) > 4 * base.most_bytes(5, DIMENSIONS)
    server.configure(script=["gzip_bomb"])
    with client.stream("POST", "/v1/embeddings", content=request()) as response:
        sent = int(response.headers["Content-Length"])
        unpacked = sum(len(part) for part in response.iter_bytes())
    assert sent < 2**20 < 200 * 2**20 <= unpacked


def raw_exchange(server, fault, seconds=2.0, **settings):
    """Everything that the server sends, how it ended, and after how long."""
    server.configure(script=[fault], **settings)
    address = urlsplit(server.url)
    body, received, start = request(), b"", time.monotonic()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nAuthorization: {KEY['Authorization']}\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=seconds) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        try:
            while part := connection.recv(65536):
                received += part
            ended = "closed"
        except ConnectionResetError:
            ended = "reset"
        except TimeoutError:
            ended = "silent"
    return received, ended, time.monotonic() - start


def test_connections_that_break(server):
    assert raw_exchange(server, "reset_before_headers")[:2] == (b"", "reset")
    for fault, how in (("reset_mid_body", "reset"), ("close_mid_body", "closed")):
        received, ended, _ = raw_exchange(server, fault)
        head, _, body = received.partition(b"\r\n\r\n")
        assert ended == how
        assert 0 < len(body) < int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert server.ledger()["answered_items"] == 0


def test_connections_that_stall(server):
    assert raw_exchange(server, "hang", seconds=0.1)[:2] == (b"", "silent")
    received, ended, _ = raw_exchange(server, "slow_headers", seconds=0.2, drip_s=10)
    assert (received, ended) == (b"H", "silent")
    received, ended, _ = raw_exchange(server, "slow_drip", seconds=0.2, drip_s=10)
    assert (received.partition(b"\r\n\r\n")[2], ended) == (b"{", "silent")
    assert server.ledger()["answered_items"] == 0


def test_a_patient_client_gets_its_drips(server, client):
    server.configure(script=["slow_drip", "slow_headers"], drip_s=0)
    small = EmbedderConfig(dimensions=8)
    for _ in range(2):
        assert not wire.read_answer(post(client, config=small).content, 5, 8).bad
    assert server.ledger()["answered"] == {"2": 5}


# Who gets which


def test_draws_can_be_replayed(server, client):
    def statuses(seed):
        server.configure(fault_rate=0.5, seed=seed, faults=["status_500", "status_503"])
        return [post(client).status_code for _ in range(20)]

    first = statuses(7)
    assert set(first) == {200, 500, 503}
    assert statuses(7) == first != statuses(8)


def test_faults_in_row_are_limited(server, client):
    server.configure(fault_rate=1, faults=["status_500"], faults_in_row=2)
    assert [post(client).status_code for _ in range(6)] == [500, 500, 200] * 2


def test_poison_sticks_to_its_item(server, client):
    server.configure(poison={"[bad]": "bad_item_400", "cat": "nan_row"})
    assert wire.read_refusal(post(client).content).index == 4
    answer = wire.read_answer(post(client, inputs=[wire.text_input(text) for text in TEXTS[:4]]).content, 4, DIMENSIONS)
    assert answer.bad == (3,)
    assert post(client, inputs=[wire.text_input("red")]).status_code == 200


def test_settings_that_do_not_exist_are_refused(server):
    with pytest.raises(ValueError, match="colour"):
        server.configure(colour="red")
    with pytest.raises(ValueError, match="status_999"):
        server.configure(script=["status_999"])
