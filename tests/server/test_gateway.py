"""A server in front of a hosted service: whose trouble is whose, and what goes out."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jinaclip import JinaClip
from jinaclip.testing import Server
from tests.server.processes import Serve, gateway_to, serving, texts

RED = base64.b64encode(b"no image").decode()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Server]:
    """The hosted service of this module alone, which may learn what it likes of it."""
    with Server() as running:
        yield running


@pytest.fixture(scope="module")
def module_gateway(upstream: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    log = tmp_path_factory.mktemp("gateway") / "log"
    with serving(log, *gateway_to(upstream.url), "--max-retries", "0", "--max-concurrency", "2") as running:
        yield running


@pytest.fixture
def gateway(upstream: Server, module_gateway: Serve) -> Serve:
    upstream.reset()
    return module_gateway


def test_requests_of_strangers_go_in_a_few_requests_with_one_key(gateway: Serve, upstream: Server) -> None:
    upstream.configure(base_ms=300)  # so that what comes meanwhile has to wait for one of two slots
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda i: gateway.embed(texts(f"text {i}"), key=f"stranger-{i}"), range(40)))
    assert {answer.status_code for answer in answers} == {200}
    ledger = upstream.ledger()
    assert ledger["texts"] == 40
    assert ledger["requests"] < 40


def test_it_has_the_vectors_and_the_space_of_the_service_at_every_width(gateway: Serve, upstream: Server) -> None:
    clip = JinaClip("jina-clip-v2", api_key="jina_test_own", base_url=upstream.url, dimensions=64)
    answer = gateway.embed(texts("a", dimensions=64)).json()
    (found,) = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in answer["data"]]
    np.testing.assert_allclose(found, clip.embed_documents(["a"])[0], atol=1e-6)
    assert answer["space"] == clip.space


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("status_503", 503, "SERVICE_UNAVAILABLE"),
        ("not_json", 503, "SERVICE_UNAVAILABLE"),
        ("balance_402", 403, "AUTHZ_INSUFFICIENT_BALANCE"),
        ("balance_403", 403, "AUTHZ_INSUFFICIENT_BALANCE"),
        ("auth_401", 503, "SERVICE_UNAVAILABLE"),
    ],
)
def test_trouble_of_the_service_is_told_as_what_it_is_for_the_client(
    gateway: Serve, upstream: Server, fault: str, status: int, code: str
) -> None:
    upstream.configure(fault_rate=1, faults=[fault])
    answer = gateway.embed(texts(f"a text for {fault}"))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert ("Retry-After" in answer.headers) == (fault in ("status_503", "not_json"))


def test_a_text_that_the_service_finds_too_long_is_400_by_index(gateway: Serve, upstream: Server) -> None:
    upstream.configure(max_tokens=20)
    answer = gateway.embed(texts("short", "long " * 200))
    assert (answer.status_code, answer.json()["code"]) == (400, "INPUT_TOKEN_LIMIT_EXCEEDED")
    assert answer.json()["errors"][0]["field"] == "body -> input -> 1"


def test_a_key_that_is_refused_is_the_operator_s_trouble_and_is_shown_nowhere(gateway: Serve, upstream: Server) -> None:
    upstream.configure(key="jina_another", echo_key=True)
    answer = gateway.embed(texts("a text of a client"))
    assert answer.status_code == 503
    assert "AuthenticationError (HTTP 401)" in gateway.log
    for shown in (answer.text, gateway.log, gateway.get("/metrics").text):
        assert "jina_test" not in shown
        assert "a text of a client" not in shown


def test_an_image_that_is_none_is_not_sent(gateway: Serve, upstream: Server) -> None:
    answer = gateway.embed(texts({"image": RED}))
    assert answer.status_code == 422
    assert upstream.ledger()["requests"] == 0


@pytest.mark.slow
def test_one_budget_holds_for_all_settings_of_requests(upstream: Server, tmp_path) -> None:
    upstream.reset()
    with serving(tmp_path / "log", *gateway_to(upstream.url), "--token-budget", "4200") as gateway:
        statuses = [
            gateway.embed(texts("word " * 50, str(i), normalized=i % 2 == 0, truncate=i > 5)).status_code
            for i in range(8)
        ]
    assert statuses[0] == 200
    assert statuses[-1] == 403


@pytest.mark.slow
def test_a_gateway_is_ready_once_its_service_answers(upstream: Server, tmp_path) -> None:
    upstream.reset()
    upstream.configure(script=["status_503"] * 2)
    with serving(tmp_path / "log", *gateway_to(upstream.url), "--max-retries", "0") as gateway:
        assert "not ready: " in gateway.log
        assert gateway.embed(texts("a")).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "words"), [("auth_401", "the service refuses this key"), ("redirect_302", "base_url")]
)
def test_a_gateway_that_can_never_be_ready_ends_with_the_reason(
    upstream: Server, tmp_path, fault: str, words: str
) -> None:
    upstream.reset()
    upstream.configure(script=[fault] * 2)
    command = [sys.executable, "-m", "jinaclip", "serve", "--port", "0", *gateway_to(upstream.url)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | {"JINA_API_KEY": "jina_test_of_a_gateway"}
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert words in last


@pytest.mark.slow
def test_a_service_that_hangs_is_a_504_and_one_that_wants_a_long_wait_a_429_with_retry_after(
    upstream: Server, tmp_path
) -> None:
    upstream.reset()
    options = ("--max-retries", "0", "--timeout", "0.5", "--deadline", "2")
    with serving(tmp_path / "log", *gateway_to(upstream.url), *options) as gateway:
        upstream.configure(base_ms=5000)
        hung = gateway.embed(texts("a"))
        upstream.configure(base_ms=0, fault_rate=1, faults=["retry_after_huge"])
        limited = gateway.embed(texts("a"))
    assert (hung.status_code, hung.json()["code"]) == (504, "SERVICE_TIMEOUT")
    assert (limited.status_code, limited.json()["code"]) == (429, "RATE_REQUEST_LIMIT_EXCEEDED")
    assert 3000 < int(limited.headers["Retry-After"]) <= 3600
