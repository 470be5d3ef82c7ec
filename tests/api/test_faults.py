"""Every row of the fault table, end to end over real sockets: what the caller gets, and how many requests it took."""

import socket
import ssl
import threading
from contextlib import contextmanager, suppress

import numpy as np
import pytest
import trustme

from jinaclip import AuthenticationError, ConfigError, InputError, JinaClipError
from jinaclip.errors import (
    APIConnectionError,
    APITimeoutError,
    BadResponseError,
    ItemError,
    QuotaError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
    WrongWidthError,
)
from jinaclip.testing.faults import BODY, FAULTS, INDEX, ROW, SOCKET, STATUS
from jinaclip.testing.vectors import expected_vector

TEXTS = [f"text {number}" for number in range(8)]
WAITING = ("rate_request", "rate_token", "rate_ip")
STALLING = ("hang", "slow_drip", "slow_headers")
HOPELESS = ("trailing_bytes", "deep_json", "oversize_body", "gzip_bomb")

# Fault that happens once to a request with eight texts -> requests it takes in all
SURVIVED = dict.fromkeys([*STATUS, *BODY, *SOCKET, *ROW, *STALLING, "wrong_dimension_one"], 2)
SURVIVED |= dict.fromkeys(["rate_concurrency", "rate_unknown", "retry_after_seconds", "retry_after_bad"], 2)
SURVIVED |= dict.fromkeys([*WAITING, "retry_after_huge"], 2)
SURVIVED |= dict.fromkeys([*INDEX, "status_504", "too_large_413", "too_many_422", "too_many_400"], 3)
SURVIVED |= {"permuted": 1, "bad_item_unnamed_400": 3, "retry_after_date": 2, "poison_500": 2}

# Fault that happens to every request with one text -> error, requests
FATAL = {
    **dict.fromkeys((*STATUS, "poison_500"), (ServerError, 5)),
    **dict.fromkeys((*BODY, *INDEX), (BadResponseError, 5)),
    **dict.fromkeys(HOPELESS, (BadResponseError, 1)),
    **dict.fromkeys(SOCKET, (APIConnectionError, 5)),
    **dict.fromkeys(STALLING, (APITimeoutError, 5)),
    **dict.fromkeys(ROW, (ItemError, 3)),
    **dict.fromkeys(("not_found_404", "redirect_302", "reject_all_422"), (ConfigError, 1)),
    **dict.fromkeys(("wrong_dimension_one", "wrong_dimension_all"), (WrongWidthError, 1)),
    **dict.fromkeys(("balance_402", "balance_403"), (QuotaError, 1)),
    **dict.fromkeys(("auth_401", "forbidden_403"), (AuthenticationError, 1)),
    **dict.fromkeys(("too_large_413", "too_many_422", "too_many_400"), (ItemError, 1)),
    **dict.fromkeys(("bad_item_400", "bad_item_unnamed_400"), (ItemError, 1)),
}
ENDLESS = {*WAITING, "rate_concurrency", "rate_unknown"}
ENDLESS |= {"retry_after_seconds", "retry_after_bad", "retry_after_date", "retry_after_huge"}
SILENT = {*SOCKET, *STALLING}
"""No status arrives."""
NAMED = {
    "status_409",
    "status_500",
    "status_503",
    "status_504",
    "status_529",
    "poison_500",
    "auth_401",
    "forbidden_403",
}
NAMED |= {"balance_402", "balance_403", "bad_item_400", "bad_item_unnamed_400", "too_many_400", "too_many_422"}
"""The refusal carries a request id."""

pytestmark = pytest.mark.usefixtures("hasty")


def expected(texts):
    return np.stack([expected_vector("text", text) for text in texts])


def options_for(fault):
    """Short deadlines where a fault makes us wait for one."""
    return {"timeout": 0.15} if fault in STALLING else {"timeout": 10}


def script(server, *faults):
    server.configure(script=list(faults), drip_s=10)


def always(server, fault):
    server.configure(faults=[fault], fault_rate=1, drip_s=10)


def test_every_fault_has_its_row():
    assert set(FATAL) | ENDLESS | {"permuted"} == set(FAULTS)


@pytest.mark.slow
@pytest.mark.parametrize("fault", SURVIVED)
async def test_a_passing_fault_costs_requests_and_nothing_else(server, clip, run, fault):
    script(server, fault)
    one = clip(**options_for(fault))
    vectors = await run(one, "embed_documents", TEXTS)
    np.testing.assert_allclose(vectors, expected(TEXTS), atol=1e-6)
    books = server.ledger()
    assert books["faults"] == {fault: 1}
    assert books["requests"] == one.usage.requests == SURVIVED[fault]
    assert books["answered"] == {"1": len(TEXTS)}, "each vector is paid for once"
    assert one.usage.items == len(TEXTS)


@pytest.mark.parametrize("fault", ROW)
async def test_only_unusable_rows_are_asked_for_again(server, clip, run, fault):
    script(server, fault, fault)
    vectors = await run(clip(), "embed_documents", TEXTS)
    np.testing.assert_allclose(vectors, expected(TEXTS), atol=1e-6)
    books = server.ledger()
    assert (books["requests"], books["last"]["items"], books["answered"]) == (3, 1, {"1": 8})


@pytest.mark.slow
@pytest.mark.parametrize("fault", FATAL)
async def test_a_lasting_fault_ends_in_its_error(server, clip, run, fault):
    always(server, fault)
    kind, requests = FATAL[fault]
    with pytest.raises(JinaClipError) as caught:
        await run(clip(**options_for(fault)), "embed_documents", ["one"])
    error = caught.value
    assert type(error) is kind
    assert server.ledger()["requests"] == requests
    assert error.attempts == requests
    assert error.retryable is issubclass(kind, ServerError | BadResponseError | APIConnectionError | RateLimitError)
    assert error.index == (0 if kind is ItemError else None)
    assert not error.partial.ok.any()
    if not issubclass(kind, ConfigError):
        assert (error.status is None) is (fault in SILENT or fault in ("oversize_body", "gzip_bomb"))
        assert bool(error.request_id) is (fault in NAMED)


async def test_a_limit_that_takes_too_long_says_how_long(server, clip, run):
    server.configure(faults=["retry_after_seconds"], fault_rate=1, retry_after=60)
    one = clip(timeout=5)
    with pytest.raises(RateLimitError) as caught:
        await run(one, "embed_query", "one")
    assert caught.value.retry_after == 60
    with pytest.raises(RateLimitError) as caught:
        await run(one, "embed_documents", ["two"])
    assert 55 < caught.value.retry_after < 60 * 1.1
    assert caught.value.attempts == 0
    assert server.ledger()["requests"] == 1, "the whole account waits"


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["rate_concurrency", "rate_unknown", "retry_after_seconds", "retry_after_bad"])
async def test_rate_limits_cost_no_retries(server, clip, run, fault):
    script(server, *[fault] * 12)
    server_answer = await run(clip(max_retries=0), "embed_documents", ["one"])
    np.testing.assert_allclose(server_answer, expected(["one"]), atol=1e-6)
    assert server.ledger()["requests"] == 13


@pytest.mark.parametrize("fault", ["status_503", "not_json", "reset_mid_body"])
@pytest.mark.parametrize(
    ("method", "argument", "requests"), [("embed_query", "one", 3), ("embed_documents", ["one"], 5)]
)
async def test_queries_are_retried_less(server, clip, run, fault, method, argument, requests):
    always(server, fault)
    with pytest.raises(JinaClipError):
        await run(clip(), method, argument)
    assert server.ledger()["requests"] == requests


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("bad_item_unnamed_400", RequestRejectedError),
        ("short_reply", BadResponseError),
        ("status_504", ServerError),
        ("status_500", ServerError),
    ],
)
async def test_what_fails_whatever_is_sent_is_no_item_s_fault(server, clip, run, fault, error):
    always(server, fault)
    with pytest.raises(error) as caught:
        await run(clip(), "embed_documents", TEXTS)
    assert type(caught.value) is error
    assert server.ledger()["requests"] <= 20, "the batch, parts of it, and each of the eight alone"
    assert caught.value.index is None


@pytest.mark.parametrize(
    ("fault", "requests"),
    [("bad_item_400", 3), ("bad_item_unnamed_400", 7), ("status_504", 16), ("poison_500", 20), ("too_large_413", 7)],
)
async def test_one_bad_item_gets_the_error_and_the_others_their_vectors(server, clip, run, fault, requests):
    server.configure(poison={"text 5": fault})
    with pytest.raises(ItemError, match="text 5") as caught:
        await run(clip(), "embed_documents", TEXTS)
    error = caught.value
    assert isinstance(error, InputError)
    assert error.index == 5
    assert error.partial.successes()[0].tolist() == [0, 1, 2, 3, 4, 6, 7]
    assert {index: type(item.reason) for index, item in error.partial.errors.items()} == {5: ItemError}
    for index, vector in zip(*error.partial.successes(), strict=True):
        np.testing.assert_allclose(vector, expected_vector("text", TEXTS[index]), atol=1e-6)
    books = server.ledger()
    assert books["requests"] <= requests
    assert books["answered"] == {"1": 7}


async def test_a_row_that_stays_unusable_is_asked_for_three_times(server, clip, run):
    server.configure(poison={"text 5": "nan_row"})
    with pytest.raises(ItemError) as caught:
        await run(clip(), "embed_documents", TEXTS)
    assert (caught.value.index, caught.value.attempts) == (5, 3)
    assert server.history("text", "text 5") == {"received": 3, "answered": 0}
    assert server.ledger()["answered"] == {"1": 7}


async def test_the_error_with_the_lowest_index_is_raised_and_has_the_rest(server, clip, run):
    server.configure(poison={"text 6": "bad_item_400", "text 1": "bad_item_400"})
    with pytest.raises(ItemError) as caught:
        await run(clip(), "embed_documents", TEXTS)
    assert caught.value.index == 1
    assert sorted(caught.value.partial.errors) == [1, 6]
    assert caught.value.partial.ok.sum() == 6


@pytest.mark.parametrize("fault", ["auth_401", "balance_403"])
async def test_what_was_answered_before_the_end_is_kept(server, clip, run, fault):
    script(server, None, fault)
    with pytest.raises(FATAL[fault][0]) as caught:
        await run(clip(batch_size=3, max_concurrency=1), "embed_documents", TEXTS)
    error = caught.value
    assert error.partial.successes()[0].tolist() == [0, 1, 2]
    np.testing.assert_allclose(error.partial.vectors[2], expected_vector("text", "text 2"), atol=1e-6)
    assert error.attempts == 1
    assert len(error.request_id) == 32
    assert server.ledger()["requests"] == 2, "nothing is sent after the end"


async def test_a_redirect_is_not_followed(server, clip, run):
    always(server, "redirect_302")
    with pytest.raises(ConfigError, match="base_url"):
        await run(clip(), "embed_query", "one")
    assert server.ledger()["redirected"] == 0


async def test_lost_answers_are_counted_as_maybe_billed(server, clip, run):
    script(server, "reset_mid_body", "not_json", "status_503")
    one = clip()
    await run(one, "embed_documents", TEXTS)
    assert (one.usage.requests, one.usage.retries, one.usage.maybe_billed) == (4, 3, 2)


async def test_the_ceiling_of_the_service_is_remembered_within_a_call(server, clip, run):
    server.configure(max_inputs=5)
    texts = [f"many {number}" for number in range(100)]
    vectors = await run(clip(batch_size=16, max_concurrency=1), "embed_documents", texts)
    np.testing.assert_allclose(vectors, expected(texts), atol=1e-6)
    books = server.ledger()
    assert books["answered"] == {"1": 100}
    assert books["refused"]["too_long"] <= 6, "16 and 8 and 8 for the groups cut before, then never again"


# No service at all


@contextmanager
def listening(handle):
    """A TCP server of one thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener, handle), daemon=True).start()
        yield listener.getsockname()[1]


def serve(listener, handle):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            handle(connection)


async def test_a_refused_connection_is_tried_again(clip, run):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    one = clip(base_url=f"http://127.0.0.1:{port}")
    with pytest.raises(APIConnectionError) as caught:
        await run(one, "embed_documents", ["one"])
    assert type(caught.value) is APIConnectionError
    assert (caught.value.attempts, caught.value.status, one.usage.maybe_billed) == (5, None, 0)


async def test_a_bad_certificate_is_a_matter_of_configuration(clip, run):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    met = []

    def handshake(connection):
        met.append(1)
        with suppress(OSError):
            context.wrap_socket(connection, server_side=True).close()

    with listening(handshake) as port:
        with pytest.raises(ConfigError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await run(clip(base_url=f"https://127.0.0.1:{port}"), "embed_query", "one")
        assert (len(met), caught.value.attempts) == (1, 1)


async def test_https_to_a_server_of_plain_http_names_the_remedy(clip, run, server):
    """As from base_url="localhost:8000", for which https is assumed."""
    with pytest.raises(ConfigError, match="write http://") as caught:
        await run(clip(base_url=server.url.replace("http:", "https:")), "embed_query", "one")
    assert caught.value.attempts == 1


async def test_tls_that_ends_early_is_tried_again(clip, run):
    with listening(lambda connection: connection.recv(1)) as port:
        with pytest.raises(APIConnectionError) as caught:
            await run(clip(base_url=f"https://127.0.0.1:{port}"), "embed_query", "one")
        assert caught.value.attempts == 3


@pytest.mark.parametrize(
    ("number", "error", "attempts"),
    [(socket.EAI_NONAME, ConfigError, 1), (socket.EAI_AGAIN, APIConnectionError, 3)],
)
async def test_unknown_hosts_are_final_and_resolvers_out_of_order_are_not(
    clip, run, monkeypatch, number, error, attempts
):
    def resolve(host, *_, **__):
        raise socket.gaierror(number, "no")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(error) as caught:
        await run(clip(base_url="https://api.example"), "embed_query", "one")
    assert caught.value.attempts == attempts


async def test_a_proxy_variable_that_is_no_url_is_named_and_its_value_is_not(clip, run, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "gopher://user:secretword@proxy")
    monkeypatch.setenv("http_proxy", "gopher://user:secretword@proxy")
    monkeypatch.setenv("no_proxy", "")
    one = clip()
    for _ in range(2):
        with pytest.raises(ConfigError, match="http_proxy names a proxy of scheme 'gopher'") as caught:
            await run(one, "embed_query", "one")
        assert "secretword" not in str(caught.value)
    monkeypatch.setenv("HTTP_PROXY", "")
    monkeypatch.setenv("http_proxy", "")
    np.testing.assert_allclose(
        await run(one, "embed_query", "one"), expected_vector("text", "one", task="retrieval.query"), atol=1e-6
    )


async def test_a_proxy_that_nobody_listens_at_is_named(clip, run, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://user:secretword@127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(APIConnectionError, match="by way of the proxy of http_proxy") as caught:
        await run(clip(max_retries=0), "embed_query", "one")
    assert "secretword" not in str(caught.value)


async def test_certificates_that_cannot_be_read_are_named(clip, run, monkeypatch, tmp_path):
    path = str(tmp_path / "none.pem")
    monkeypatch.setenv("SSL_CERT_FILE", path)
    with pytest.raises(ConfigError, match="SSL_CERT_FILE") as caught:
        await run(clip(base_url="https://localhost:1"), "embed_query", "one")
    assert path in str(caught.value)
    assert (await run(clip(), "embed_query", "one")).shape == (1024,)  # without TLS they are not needed
