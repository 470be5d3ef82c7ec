"""The options `headers` and `transport`: what goes out, and over what."""

import asyncio
import itertools

import httpx
import numpy as np
import pytest

from jinaclip import JinaClip
from jinaclip.errors import AuthenticationError, ConfigError
from jinaclip.testing.vectors import expected_vector
from tests.watching import is_quiet, until


def right(rows, texts):
    np.testing.assert_allclose(rows, np.stack([expected_vector("text", text) for text in texts]), atol=1e-6)


class Counted(httpx.AsyncHTTPTransport):
    """httpx's own transport, which knows how often it was made and closed."""

    made = closed = 0

    def __init__(self):
        super().__init__()
        type(self).made += 1

    async def aclose(self):
        type(self).closed += 1
        await super().aclose()


@pytest.fixture
def counted():
    return type("CountedHere", (Counted,), {})


# headers


async def test_headers_go_with_every_request_and_ours_stay(clip, server, run):
    one = clip(headers={"X-Team": "search", "User-Agent": "shop/1"})
    right(await run(one, "embed_documents", ["a"]), ["a"])
    sent = server.ledger()["last"]["headers"]
    assert (sent["x-team"], sent["user-agent"]) == ("search", "shop/1")
    assert (sent["content-type"], sent["accept"]) == ("application/json", "application/json")


async def test_an_authorization_of_one_s_own_stands_in_the_place_of_the_key(server, run, monkeypatch):
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    with JinaClip(base_url=server.url, headers={"authorization": "Bearer jina_test_gateway"}) as one:
        right(await run(one, "embed_documents", ["a"]), ["a"])
    with (
        JinaClip(base_url=server.url, headers={"Authorization": "Bearer wrong"}) as one,
        pytest.raises(AuthenticationError) as caught,
    ):
        await run(one, "embed_documents", ["a"])
    assert "wrong" not in str(caught.value).replace("wrong key", "")


def test_a_key_that_is_refused_is_looked_for_where_it_came_from(server, monkeypatch):
    monkeypatch.setenv("JINACLIP_API_KEY", "sk-wrong")
    with JinaClip(base_url=server.url) as clip, pytest.raises(AuthenticationError, match="JINACLIP_API_KEY"):
        clip.embed_documents(["a"])


async def test_calls_with_other_headers_share_no_request(clip, server):
    server.configure(base_ms=50)
    clips = [clip(headers={"X-Team": team}, max_concurrency=1) for team in ("one", "two")]
    await asyncio.gather(*(one.aembed_query(f"query {number}") for one in clips for number in range(20)))
    books = server.ledger()
    assert books["answered"] == {"2": 20}, "each asked its own"
    assert 2 <= books["requests"] <= 6


# transport


async def test_a_transport_of_one_s_own_is_made_once_and_closed_with_the_object(server, run, counted):
    one = JinaClip(base_url=server.url, api_key="jina_test_transport", transport=counted)
    texts = [f"text {number}" for number in range(200)]
    right(await run(one, "embed_documents", texts), texts)
    right(await run(one, "embed_documents", ["again"]), ["again"])
    assert (counted.made, counted.closed) == (1, 0)
    one.close()
    assert (counted.made, counted.closed) == (1, 1)


async def test_who_cancels_lets_go_of_a_transport_of_one_s_own_too(server, counted):
    server.configure(faults=["hang"], fault_rate=1)
    with JinaClip(base_url=server.url, api_key="jina_test_hang", transport=counted, max_concurrency=1) as one:
        task = asyncio.create_task(one.aembed_documents(["a"]))
        while not (await asyncio.to_thread(server.ledger))["in_flight"]:
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.configure(fault_rate=0)
        right(await one.aembed_documents(["b"]), ["b"])
        await asyncio.to_thread(until, lambda: is_quiet(one))


def broken():
    raise RuntimeError("no certificate")


class Raising(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request):
        raise ZeroDivisionError("inside")


class Cancelling(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request):
        raise asyncio.CancelledError


class Unhashable:
    __hash__ = None

    def __call__(self):
        return httpx.AsyncHTTPTransport()


async def test_a_factory_need_not_be_hashable(clip, run):
    right(await run(clip(transport=Unhashable()), "embed_documents", ["a"]), ["a"])


FAULTY = {
    "a factory that fails": (broken, r"transport\(\) failed: RuntimeError: no certificate"),
    "one that gives something else": (dict, r"must give an httpx.AsyncBaseTransport, not dict"),
    "a transport that raises": (Raising, "the transport failed: ZeroDivisionError: inside"),
    "a transport that is cancelled inside": (Cancelling, "the transport failed: CancelledError"),
}


@pytest.mark.parametrize(("factory", "message"), FAULTY.values(), ids=FAULTY)
async def test_a_transport_that_does_not_work_is_told(clip, run, factory, message):
    with pytest.raises(ConfigError, match=message):
        await run(clip(transport=factory), "embed_documents", ["a"])


async def test_a_transport_that_fails_now_and_then_is_retried(clip, server, run, hasty):
    turns = itertools.count()

    class Flaky(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request):
            if next(turns) % 2 == 0:
                raise httpx.ConnectError("not now")
            return await super().handle_async_request(request)

    one = clip(transport=Flaky)
    right(await run(one, "embed_documents", ["a"]), ["a"])
    assert one.usage.requests == server.ledger()["requests"] == 1, "what did not go out does not count"
