"""Token budgets, against the ledger of a service on bare sockets: never exceeded, and nothing of them gets lost."""

import asyncio
import itertools
import json
import os
import random
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinaclip import BudgetError, JinaClip, JinaClipError
from jinaclip.backends.api.steps import Failure
from jinaclip.call.usage import CallMeter, Meter
from jinaclip.errors import ClosedError
from tests.api.world import World, honest, refusal
from tests.raw import WIDTH, Sent, answer_body, http, serving
from tests.raw import refusal as refuse
from tests.raw import right as answer
from tests.watching import auntil, budget_left

LONG = 60
"""Seconds after which a wait has failed."""
ESTIMATE = 4
"""Tokens that a text of two words is expected to cost."""
keys = itertools.count()


def texts(count, name="text"):
    return [f"{name} {number}" for number in range(count)]


@contextmanager
def client(server, **options):
    """A JinaClip with a key of its own, one text a request unless the options say otherwise."""
    own = {"api_key": f"jina_budget{next(keys)}", "dimensions": WIDTH, "batch_size": 1, "max_retries": 0}
    with JinaClip("jina-clip-v2", base_url=server.url, **{**own, **options}) as clip:
        yield clip


def bill(tokens):
    """Answers, and bills this for each text: a number of tokens, or whatever stands there in its place."""

    def respond(asked):
        body = json.loads(answer_body(asked.contents, width=WIDTH))
        body["usage"]["total_tokens"] = tokens * len(asked.contents) if type(tokens) is int else tokens
        return http(json.dumps(body).encode())

    return respond


class Gate:
    """Answers once it is opened; a test waits until so many requests stand before it."""

    def __init__(self, respond=answer):
        self._respond = respond
        self._waiting = threading.Semaphore(0)
        self._is_open = threading.Event()

    def __call__(self, asked):
        self._waiting.release()
        self._is_open.wait(LONG)
        return self._respond(asked)

    def await_requests(self, count=1):
        for _ in range(count):
            assert self._waiting.acquire(timeout=LONG)

    async def await_requests_async(self, count=1):
        await asyncio.to_thread(self.await_requests, count)

    def open(self):
        self._is_open.set()


# Never exceeded


def spend(clip, name):
    """Embeds one text after another until the budget is used up."""
    for number in itertools.count():
        try:
            clip.embed_documents([f"{name} {number}"])
        except BudgetError:
            return


@pytest.mark.parametrize("rounds", [10, pytest.param(200, marks=pytest.mark.long)])
def test_eight_threads_spend_a_budget_to_the_last_token_and_not_one_more(rounds):
    with serving(bill(ESTIMATE)) as server, ThreadPoolExecutor(8) as pool:
        for turn in range(rounds):
            before = len(server.asked)
            with client(server, token_budget=20 * ESTIMATE) as clip:
                list(pool.map(lambda thread, clip=clip, turn=turn: spend(clip, f"t{turn}-{thread}"), range(8)))
                assert sum(len(asked.contents) for asked in server.asked[before:]) == 20
                assert clip.usage.tokens == 20 * ESTIMATE


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [5, pytest.param(100, marks=pytest.mark.long)])
async def test_coroutines_that_are_cancelled_at_random_moments_exceed_no_budget(rounds):
    chance = random.Random(7)
    with serving(bill(ESTIMATE)) as server:
        for turn in range(rounds):
            before = len(server.asked)
            with client(server, token_budget=50 * ESTIMATE, batch_size=None) as clip:
                tasks = [asyncio.create_task(clip.aembed_documents([f"c{turn} {number}"])) for number in range(200)]
                for task in chance.sample(tasks, 100):
                    await asyncio.sleep(chance.random() / 1000)
                    task.cancel()
                ends = await asyncio.gather(*tasks, return_exceptions=True)
                assert {type(end) for end in ends if isinstance(end, BaseException)} <= {
                    asyncio.CancelledError,
                    BudgetError,
                }
                charged = 50 * ESTIMATE - budget_left(clip)
                received = ESTIMATE * sum(len(asked.contents) for asked in server.asked[before:])
                assert received <= charged <= 50 * ESTIMATE


@pytest.mark.parametrize(
    "tokens", [None, -5, True, 4.0, "4", 0, [4], 10**18, 10**30], ids=lambda tokens: f"{type(tokens).__name__} {tokens}"
)
def test_an_answer_without_a_sound_bill_costs_its_estimate(tokens):
    with serving(bill(tokens)) as server, client(server, token_budget=10 * ESTIMATE) as clip:
        with pytest.raises(BudgetError) as caught:
            clip.embed_documents(iter(texts(300)))
        assert len(server.asked) == 10
        assert clip.usage.tokens == caught.value.partial.usage.tokens == 10 * ESTIMATE


def test_an_answer_without_any_usage_costs_its_estimate():
    def respond(asked):
        body = json.loads(answer_body(asked.contents, width=WIDTH))
        del body["usage"]
        return http(json.dumps(body).encode())

    with serving(respond) as server, client(server, token_budget=10 * ESTIMATE) as clip:
        with pytest.raises(BudgetError):
            clip.embed_documents(iter(texts(300)))
        assert len(server.asked) == 10


def test_a_bill_below_the_estimate_is_shown_but_makes_no_room():
    with serving(bill(1)) as server, client(server, token_budget=10 * ESTIMATE) as clip:
        with pytest.raises(BudgetError):
            clip.embed_documents(iter(texts(300)))
        assert (len(server.asked), clip.usage.tokens, budget_left(clip)) == (10, 10, 0)


def test_a_budget_is_overshot_by_no_more_than_what_the_bills_in_flight_exceed_their_estimates():
    with serving(bill(10 * ESTIMATE)) as server:
        with client(server, token_budget=100 * ESTIMATE, max_concurrency=3) as clip, pytest.raises(BudgetError):
            clip.embed_documents(iter(texts(300)))
        assert clip.usage.tokens == 10 * ESTIMATE * len(server.asked)
        assert 100 * ESTIMATE <= clip.usage.tokens <= 100 * ESTIMATE + 3 * (10 - 1) * ESTIMATE


def test_rows_that_are_asked_for_again_are_paid_again_within_the_budget():
    def respond(asked):
        body = json.loads(answer_body(asked.contents, width=WIDTH))
        body["usage"]["total_tokens"] = ESTIMATE * len(asked.contents)
        body["data"][0]["embedding"] = [0.0] * WIDTH
        return http(json.dumps(body).encode())

    with serving(respond) as server, client(server, token_budget=2 * ESTIMATE) as clip:
        with pytest.raises(BudgetError, match="0 of token_budget=8 are left; nothing was sent"):
            clip.embed_documents(["text 0"])
        assert (len(server.asked), clip.usage.tokens, clip.usage.items) == (2, 2 * ESTIMATE, 0)


# What each fate of a request costs


def break_off(asked):
    return Sent([], close=True)


def cut_short(asked):
    return Sent([answer(asked)[:-20]], close=True)


@pytest.mark.parametrize("status", [400, 401, 402, 404, 408, 413, 422, 500, 503])
def test_a_refusal_costs_nothing(status):
    with serving(lambda asked: refuse(status)) as server, client(server, token_budget=ESTIMATE) as clip:
        with pytest.raises(JinaClipError):
            clip.embed_documents(["text 0"])
        assert (len(server.asked), budget_left(clip), clip.usage.maybe_billed) == (1, ESTIMATE, 0)


def test_a_rate_limit_costs_nothing():
    replies = iter([refuse(429, headers=[("Retry-After", "1")])] * 2)
    respond = lambda asked: next(replies, None) or answer(asked)  # noqa: E731
    with serving(respond) as server, client(server, token_budget=ESTIMATE) as clip:
        clip.embed_documents(["text 0"])
        assert (len(server.asked), budget_left(clip), clip.usage.maybe_billed) == (3, 0, 0)


@pytest.mark.parametrize(
    "respond",
    [
        lambda asked: refuse(502),
        lambda asked: refuse(504),
        lambda asked: refuse(524),
        lambda asked: http(b"<html>"),
        lambda asked: http(answer_body(asked.contents, width=WIDTH - 1)),
        lambda asked: http(answer_body([*asked.contents, "more"], width=WIDTH)),
        lambda asked: http(b"", 204),
        lambda asked: http(b" " * 10**6),
        lambda asked: Sent([answer(asked)[:-1]], close=True),
        break_off,
        cut_short,
    ],
    ids=["502", "504", "524", "html", "width", "surplus", "204", "oversize", "short", "broken", "cut"],
)
def test_an_answer_that_was_lost_or_is_nonsense_costs_the_estimate(respond):
    with serving(respond) as server, client(server, token_budget=2 * ESTIMATE) as clip:
        results = clip.embed(["text 0"])
        assert not results.ok.any()
        assert (len(server.asked), budget_left(clip)) == (1, ESTIMATE)
        assert (results.usage.maybe_billed, results.usage.tokens) == (1, 0)
        assert results.usage == clip.usage


def test_each_try_costs_its_estimate_and_the_last_is_not_made(hasty):
    with serving(break_off) as server, client(server, token_budget=3 * ESTIMATE, max_retries=9) as clip:
        with pytest.raises(BudgetError):
            clip.embed_documents(["text 0"])
        assert (len(server.asked), clip.usage.maybe_billed, clip.usage.retries) == (3, 3, 2)


def test_what_never_reached_the_service_costs_nothing():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with JinaClip(api_key="jina_nobody", base_url=f"http://127.0.0.1:{port}", max_retries=1, token_budget=9) as clip:
        with pytest.raises(JinaClipError):
            clip.embed_documents(["text 0"])
        assert (budget_left(clip), clip.usage.requests, clip.usage.maybe_billed) == (9, 0, 0)


@pytest.mark.parametrize(("most", "requests"), [(2, 2), (3, 3)])
def test_a_request_over_a_connection_that_dies_goes_again_only_if_the_budget_holds_it_twice(most, requests):
    """The service may have billed what it did not answer."""
    dead = set()

    def respond(asked):
        if asked.number and not dead:
            dead.add(asked.connection)
            return break_off(asked)
        return answer(asked)

    with serving(respond) as server, client(server, token_budget=most * ESTIMATE) as clip:
        clip.embed_documents(["text 0"])
        with suppress(JinaClipError):
            clip.embed_documents(["text 1"])
        assert len(server.asked) == clip.usage.requests == requests
        assert (clip.usage.maybe_billed, clip.usage.items, budget_left(clip)) == (1, requests - 1, 0)


def test_a_request_whose_connection_dies_as_does_the_service_costs_its_estimate():
    """There is no other connection, but the first had the request."""
    with serving(answer) as server, client(server, token_budget=2 * ESTIMATE) as clip:
        clip.embed_documents(["text 0"])

        def respond(asked):
            server.socket.close()  # takes no other connection
            return break_off(asked)

        server.respond = respond
        with suppress(JinaClipError):
            clip.embed_documents(["text 1"])
        assert (len(server.asked), clip.usage.maybe_billed, budget_left(clip)) == (2, 1, 0)


class Twice(httpx.AsyncBaseTransport):
    """A transport of the caller's that asks twice."""

    def __init__(self):
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request):
        first = await self._inner.handle_async_request(request)
        await first.aread()
        await first.aclose()
        return await self._inner.handle_async_request(request)

    async def aclose(self):
        await self._inner.aclose()


def test_a_transport_that_sends_again_by_itself_is_held_by_the_budget():
    with serving(bill(ESTIMATE)) as server:
        with client(server, token_budget=2 * ESTIMATE, transport=Twice) as clip:
            clip.embed_documents(["text 0"])
            assert (len(server.asked), budget_left(clip)) == (2, 0)
        with client(server, token_budget=ESTIMATE, transport=Twice) as clip:
            with pytest.raises(JinaClipError, match="token_budget does not allow"):
                clip.embed_documents(["text 0"])
            assert (len(server.asked), budget_left(clip), clip.usage.maybe_billed) == (3, 0, 1)


# Letting go


async def cancel(task):
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_before_it_is_sent_costs_nothing_and_after_it_the_estimate():
    gate = Gate()
    with serving(gate) as server, client(server, token_budget=2 * ESTIMATE, max_concurrency=1) as clip:
        first = asyncio.create_task(clip.aembed_documents(["text 0"]))
        await gate.await_requests_async()
        second = asyncio.create_task(clip.aembed_documents(["text 1"]))
        await asyncio.sleep(0)
        await cancel(second)
        await cancel(first)
        await auntil(lambda: clip.usage.maybe_billed)
        gate.open()
        assert budget_left(clip) == ESTIMATE
        await clip.aembed_documents(["text 2"])
        assert (len(server.asked), budget_left(clip), clip.usage.maybe_billed) == (2, 0, 1)


@pytest.mark.parametrize("how", ["timeout", "deadline", "close"])
def test_a_call_that_ends_before_its_answer_counts_the_estimate_in_its_results(how):
    gate = Gate()
    options = {} if how == "close" else {how: 0.3}
    with serving(gate) as server, client(server, token_budget=2 * ESTIMATE, **options) as clip:
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(clip.embed, ["text 0"])
            gate.await_requests()
            if how == "close":
                clip.close()
            results = call.result(LONG)
        assert isinstance(results.stopped, ClosedError) == (how == "close")
        assert (results.usage.maybe_billed, budget_left(clip)) == (1, ESTIMATE)
        assert results.usage == clip.usage
        gate.open()


def test_a_generator_that_raises_pays_for_what_was_sent_and_no_more():
    def source():
        yield from texts(3)
        raise ValueError("no more")

    with serving(bill(ESTIMATE)) as server, client(server, token_budget=100) as clip:
        with pytest.raises(ValueError, match="no more"):
            clip.embed_documents(source())
        assert budget_left(clip) == 100 - ESTIMATE * len(server.asked)


async def test_a_forked_child_has_what_was_not_spent_and_frees_nothing_twice():
    gate = Gate()
    with serving(gate) as server, client(server, token_budget=2 * ESTIMATE) as clip:
        task = asyncio.create_task(clip.aembed_documents(["text 0"]))
        await gate.await_requests_async()
        assert budget_left(clip) == ESTIMATE
        child = os.fork()
        if not child:
            os._exit(budget_left(clip))
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 2 * ESTIMATE
        gate.open()
        await task
        assert budget_left(clip) == ESTIMATE


# Requests of several objects


async def test_objects_that_share_requests_pay_each_for_its_own():
    gate = Gate(bill(3 * ESTIMATE))
    options = {"api_key": "jina_shared", "batch_size": None, "max_concurrency": 1}
    with serving(gate) as server, client(server, **options) as blocker:
        first = asyncio.create_task(blocker.aembed_documents(["text 0"]))
        await gate.await_requests_async()
        budgets = {name: number * ESTIMATE for name, number in zip("abcd", (1, 2, 4, 8), strict=True)}
        clips = {
            name: JinaClip(base_url=server.url, dimensions=WIDTH, token_budget=most, **options)
            for name, most in budgets.items()
        }
        calls = [clip.aembed_documents(iter(texts(8, name))) for name, clip in clips.items()]
        ends = asyncio.gather(*calls, return_exceptions=True)
        gate.open()
        await first
        ends = await ends
        sent = Counter(content.split()[0] for asked in server.asked for content in asked.contents)
        for name, clip in clips.items():
            assert sent[name] * ESTIMATE <= budgets[name]
            assert clip.usage.tokens == 3 * ESTIMATE * sent[name]
            await clip.aclose()
        assert {type(end) for end in ends if isinstance(end, Exception)} <= {BudgetError}


def test_who_leaves_while_a_request_connects_pays_the_estimate_once_it_goes_out_for_others():
    world = World(token_budget=100, max_concurrency=1, latency=1)
    world.start(["blocker"], tokens=1)
    leaver, stayer = world.start(["a"], tokens=3), world.start(["b"], tokens=3)

    def service(texts, world):
        if texts == ["blocker"]:
            return honest(texts, tokens=1)
        world.hub.leave(leaver)
        assert world.meter.usage.maybe_billed == 0, "it may yet come to nothing"
        return honest(texts, tokens=10)

    world.service = service
    world.run()
    assert [texts for _, texts in world.sent] == [["blocker"], ["a", "b"]]
    assert (stayer.call.meter.usage.tokens, leaver.call.meter.usage.maybe_billed) == (5, 1)
    assert world.meter.left == 100 - 1 - 5 - 3
    assert world.meter.usage.requests == 2


def test_a_request_of_several_callers_that_is_lost_counts_once_for_their_object():
    world = World(token_budget=100, max_concurrency=1, latency=1)
    world.start(["blocker"], tokens=1)
    calls = [world.start([name], tokens=3, max_retries=0) for name in "abc"]
    world.service = lambda texts, world: honest(texts, tokens=1) if texts == ["blocker"] else Failure("broken", "why")
    world.wait(2.5)
    assert [texts for _, texts in world.sent][:2] == [["blocker"], ["a", "b", "c"]]
    assert [call.call.meter.usage.maybe_billed for call in calls] == [1, 1, 1]
    assert world.meter.usage.maybe_billed == 1
    world.run()
    assert world.meter.left == 100 - 1 - 2 * 3 * 3, "then each was sent by itself"


# When tokens are set aside


def test_a_request_that_waits_for_its_next_try_holds_nothing():
    world = World(lambda texts, world: refusal(503) if len(world.sent) < 3 else honest(texts), token_budget=10)
    held = []
    world.latency = lambda items: held.append(world.meter.left) or 1.0
    consumer = world.start(["a"], tokens=10)
    for _ in range(1000):
        if consumer.over.done():
            break
        assert world.meter.left == (0 if world.in_flight or consumer.settled else 10)
        world.wait(0.05)
    assert held == [0, 0, 0]
    assert world.meter.left == 0


def test_what_requests_in_flight_hold_is_not_waited_for():
    """It is nearly always spent a moment later, so that waiting would only put the error off."""
    world = World(token_budget=10, batch_size=1, latency=1)
    first, second = world.start(["a"], tokens=6), world.start(["b"], tokens=6)
    world.wait(0.5)
    assert isinstance(second.call.cause, BudgetError)
    assert not first.over.done()
    world.run()


# The arithmetic


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "spend", "doubt", "release", "lose", "fork"]), st.integers(0, 9), st.integers(0, 40)
    ),
    max_size=60,
)


@given(st.integers(0, 100), STEPS)
def test_whatever_is_reserved_settled_and_lost_the_budget_holds(budget, steps):
    meter = Meter(budget)
    held = {number: CallMeter(meter).reserve() for number in range(10)}
    spent = over = 0
    for step, number, tokens in steps:
        reservation = held[number]
        match step:
            case "add":
                with suppress(BudgetError):
                    reservation.add(tokens)
            case "spend" if reservation.is_open:
                spent += max(reservation.tokens, tokens)
                over += max(0, tokens - reservation.tokens)
                reservation.spend(reservation.tokens, tokens)
            case "doubt" if reservation.is_open:
                spent += reservation.tokens
                reservation.doubt()
            case "release":
                reservation.release()
            case "lose" | "fork":
                if step == "fork":
                    meter.renew()
                held[number] = None
                with suppress(BudgetError):
                    held[number] = CallMeter(meter).reserve()
                if held[number] is None:
                    return  # the budget is overshot: nothing can begin any more
        del reservation
        assert meter.left == budget - spent - sum(one.tokens for one in held.values() if one.is_open)
        assert all(one.tokens >= 0 for one in held.values())
        assert spent <= budget + over
