"""The policy alone: flows driven by hand on a clock of our own, against a service that is a function."""

import heapq
import itertools
import math
import threading
from email.utils import formatdate

import numpy as np
import orjson
import pytest

from jinaclip.backends.api import policy
from jinaclip.backends.api.limits import RETRY_COST, RETRY_TOKENS, WINDOW, RateLimits, Window, shared_limits
from jinaclip.backends.api.steps import Failure, Reply, Send, Sleep, Wait
from jinaclip.backends.api.wires import jina as wire
from jinaclip.call.call import Call, Stopped
from jinaclip.call.request import read_many, read_one
from jinaclip.call.usage import CallMeter, Meter
from jinaclip.config import EmbedderConfig
from jinaclip.errors import (
    APIConnectionError,
    APITimeoutError,
    BadResponseError,
    BudgetError,
    ItemError,
    JinaClipError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
)
from jinaclip.inputs import as_text
from jinaclip.specs import JINA_CLIP_V2
from jinaclip.testing.vectors import expected_vector

WIDTH = 16


def vector(text):
    return expected_vector("text", text, dimensions=WIDTH)


def honest(texts):
    rows = np.stack([vector(text) for text in texts])
    return Reply(200, {}, orjson.dumps(wire.write_answer("jina-clip-v2", rows, len(texts))))


def refusal(status, code="", message="", field=None, **headers):
    body = {"detail": message, "code": code, "request_id": "0" * 32}
    if field:
        body["errors"] = [{"field": field, "message": message, "input": "echo"}]
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, orjson.dumps(body))


def limit(kind, **headers):
    return refusal(429, f"RATE_{kind}_LIMIT_EXCEEDED", **headers)


def item_of(number, text, tokens=1):
    return policy.Item(number, "text", wire.text_input(text), 1, tokens)


class World:
    """A clock, a service, an account, and the flows that meet in them, in the order of their times."""

    def __init__(self, service=lambda texts, world: honest(texts), latency=0.0, **options):
        self.now = 1000.0
        self.service, self.latency = service, latency
        self.config = EmbedderConfig(**{"api_key": "jina_test", "dimensions": WIDTH, **options})
        self.deadline = self.config.deadline
        self.limits = RateLimits(clock=lambda: self.now)
        self.meter = Meter(self.config.token_budget)
        self.sent = []
        """(time, texts) of each request."""
        self.pauses = []
        self.in_flight = self.most_in_flight = 0
        self._order = itertools.count()
        self._events = []
        self._waiting = []

    def call(self, texts, *, query=False):
        single = read_one(texts[0], as_text, "text", "query", urgent=True) if query else None
        call = Call(single or read_many(texts, as_text, "text"), WIDTH, CallMeter(self.meter), deadline=self.deadline)
        bodies = {kind: wire.settings(self.config, JINA_CLIP_V2, query=kind) for kind in (False, True)}
        return policy.Sending(call, self.config, self.limits, bodies, WIDTH, clock=lambda: self.now)

    def start(self, texts, *, query=False, groups=1, tokens=1):
        """Flows over equal groups of a new call, from now on."""
        call = self.call(texts, query=query)
        items = [item_of(i, text.value, tokens) for i, text in call.call.inputs()]
        size = -(-len(items) // groups)
        for begin in range(0, len(items), size):
            self._advance(call, policy.embed(call, items[begin : begin + size]), None)
        return call

    def embed(self, texts, **how):
        """The vectors of a call that runs to its end."""
        call = self.start(texts, **how)
        self.run()
        return call.call.conclude().unwrap()

    def run(self):
        while self._events:
            self.now, _, resume = heapq.heappop(self._events)
            resume()

    def _at(self, moment, resume):
        heapq.heappush(self._events, (moment, next(self._order), resume))

    def _advance(self, call, running, result):
        try:
            self._take(call, running, running.send(result))
        except StopIteration:
            pass
        except Stopped:
            pass
        except JinaClipError as error:
            call.call.stop(error)
        waiting, self._waiting = self._waiting, []
        for later, future in waiting:
            if future.done():
                self._at(self.now, later)
            else:
                self._waiting.append((later, future))

    def _take(self, call, running, step):
        if isinstance(step, Send):
            self._send(call, running, step)
        elif isinstance(step, Sleep):
            assert 0 <= step.seconds < math.inf
            self.pauses.append(step.seconds)
            self._at(self.now + step.seconds, lambda: self._advance(call, running, None))
        else:
            assert isinstance(step, Wait)
            self._waiting.append((lambda: self._advance(call, running, None), step.future))

    def _send(self, call, running, step):
        texts = [item["text"] for item in orjson.loads(step.body)["input"]]
        self.sent.append((self.now, texts))
        self.until = step.until
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        reply = self.service(texts, self)

        def arrive():
            self.in_flight -= 1
            self._advance(call, running, reply)

        if self.now + self.latency > step.until:
            reply = Failure("timeout", "ReadTimeout")
        self._at(min(self.now + self.latency, step.until), arrive)

    @property
    def times(self):
        return [moment for moment, _ in self.sent]


def scripted(*replies):
    """Gives these replies in turn, then honest ones."""
    left = list(replies)
    return lambda texts, world: left.pop(0) if left else honest(texts)


def names(count):
    return [f"text {number}" for number in range(count)]


def check(vectors, texts):
    np.testing.assert_allclose(vectors, np.stack([vector(text) for text in texts]), atol=1e-6)


# Retries


@pytest.mark.parametrize("retries", [0, 1, 4])
def test_a_passing_fault_is_retried_so_often(retries):
    world = World(lambda texts, world: refusal(503), max_retries=retries)
    with pytest.raises(ServerError) as caught:
        world.embed(["a"])
    assert len(world.sent) == caught.value.attempts == retries + 1
    assert world.meter.usage.retries == retries


def test_a_query_is_retried_twice_at_most():
    world = World(lambda texts, world: refusal(503))
    with pytest.raises(ServerError):
        world.embed(["a"], query=True)
    assert len(world.sent) == 3


def test_backoff_has_full_jitter_under_a_doubling_roof(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    world = World(lambda texts, world: refusal(503), max_retries=8)
    with pytest.raises(ServerError):
        world.embed(["a"])
    assert world.pauses == [0.5, 1, 2, 4, 8, 16, 20, 20]


def test_the_account_s_reserve_ends_retries_in_an_outage():
    world = World(lambda texts, world: refusal(503), max_retries=100, timeout=10_000)
    with pytest.raises(ServerError):
        world.embed(names(4), groups=4)
    assert len(world.sent) - 4 <= RETRY_TOKENS // RETRY_COST
    world.sent.clear()
    with pytest.raises(ServerError):
        world.embed(["b"])
    assert len(world.sent) == 1, "nothing is left for the next call either"


def test_answers_fill_the_reserve_again():
    world = World(lambda texts, world: refusal(503), max_retries=100, timeout=10_000)
    with pytest.raises(ServerError):
        world.embed(["a"])
    world.service = lambda texts, world: honest(texts)
    world.embed(names(3), groups=3)
    world.sent.clear()
    world.service = lambda texts, world: refusal(503)
    with pytest.raises(ServerError):
        world.embed(["b"])
    assert len(world.sent) == 4


# Retry-After


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_in_seconds_is_waited_for(status):
    world = World(scripted(refusal(status, retry_after="17")))
    check(world.embed(["a"]), ["a"])
    assert 17 <= world.times[1] - world.times[0] <= 17 * 1.1


@pytest.mark.parametrize("status", [429, 503])
def test_a_date_is_read_against_the_reply_s_own(status):
    dates = {"date": formatdate(5_000_000, usegmt=True), "retry_after": formatdate(5_000_030, usegmt=True)}
    world = World(scripted(refusal(status, **dates)))
    world.embed(["a"])
    assert 30 <= world.times[1] - world.times[0] <= 33


USELESS = ["NaN", "-5", "0", "", "soon", "inf", "1e999", formatdate(5_000_000, usegmt=True)]


@pytest.mark.parametrize("value", USELESS)
def test_a_useless_retry_after_is_ignored(value):
    world = World(scripted(limit("REQUEST", retry_after=value)))
    world.embed(["a"])
    assert WINDOW <= world.times[1] - world.times[0] <= WINDOW * 1.1
    world = World(scripted(refusal(503, retry_after=value)))
    world.embed(["a"])
    assert world.times[1] - world.times[0] <= 0.5


def test_two_minutes_are_waited_for_and_more_is_not():
    world = World(scripted(limit("REQUEST", retry_after="120")))
    world.embed(["a"])
    assert 120 <= world.times[1] - world.times[0] <= 132
    world = World(scripted(limit("REQUEST", retry_after="121")))
    with pytest.raises(RateLimitError) as caught:
        world.embed(["a"])
    assert (caught.value.retry_after, caught.value.attempts, caught.value.status) == (121, 1, 429)


@pytest.mark.parametrize("kind", ["REQUEST", "TOKEN", "IP", "CONCURRENCY", "OTHER"])
def test_retry_after_stops_everybody_whatever_the_limit(kind):
    world = World(scripted(limit(kind, retry_after="20")), latency=1)
    check(world.embed(names(12), groups=12), names(12))
    assert min(moment for moment in world.times if moment > 1001) >= 1021


# The four 429


@pytest.mark.parametrize("kind", ["REQUEST", "TOKEN", "IP"])
def test_a_window_s_end_is_waited_for_by_all_of_the_account(kind):
    world = World(scripted(limit(kind)))
    first = world.start(["a"])
    other = world.start(["b"])
    world.run()
    check(first.call.conclude().unwrap(), ["a"])
    check(other.call.conclude().unwrap(), ["b"])
    assert world.meter.usage.retries == 1
    late = [moment - 1000 for moment in world.times if moment > 1000]
    assert late
    assert WINDOW <= late[0] <= WINDOW * 1.1


def test_after_a_gate_one_request_probes_before_the_rest_go():
    world = World(lambda texts, world: limit("REQUEST") if world.now < 1060 else honest(texts), latency=2)
    check(world.embed(names(8), groups=8), names(8))
    late = sorted(moment for moment in world.times if moment > 1060)
    assert len(late) == 8
    assert late[1] - late[0] == 2, "the second waits for the answer to the first"
    waves = [late.count(moment) for moment in sorted(set(late))]
    assert waves == [1, 2, 5], "each answer doubles how many may go"


def test_a_probe_that_is_refused_closes_the_gate_again():
    world = World(lambda texts, world: limit("REQUEST") if world.now < 1100 else honest(texts), latency=1)
    check(world.embed(names(4), groups=4), names(4))
    between = [moment for moment in world.times if 1050 < moment < 1100]
    assert len(between) == 1


def test_those_who_wait_for_their_pace_let_one_probe_too():
    world = World(latency=2, requests_per_minute=4)
    world.service = lambda texts, world: limit("REQUEST", retry_after="70") if len(world.sent) == 4 else honest(texts)
    check(world.embed(names(8), groups=8), names(8))
    late = sorted(moment for moment in world.times if moment > 1060)
    assert late[1] - late[0] >= 2


def test_a_query_does_not_wait_for_a_window():
    world = World(lambda texts, world: limit("TOKEN"))
    with pytest.raises(RateLimitError) as caught:
        world.embed(["a"], query=True)
    assert caught.value.retry_after == WINDOW
    assert len(world.sent) == 1


def test_a_concurrency_limit_halves_what_is_in_flight_and_recovers_one_by_one():
    world, levels = World(latency=1, max_concurrency=16), []

    def observe(texts, world):
        levels.append((world.now, world.in_flight))
        return limit("CONCURRENCY") if world.in_flight > 5 else honest(texts)

    world.service = observe
    texts = names(200)
    check(world.embed(texts, groups=200), texts)
    refused = [flight for _, flight in levels if flight > 5]
    assert len(refused) < 60, "the limit is met again only by going up one by one"
    peaks = [
        max((flight for moment, flight in levels if begin <= moment < begin + 3), default=0)
        for begin in range(1005, 1030, 3)
    ]
    assert max(peaks) <= 7
    assert min(peak for peak in peaks if peak) >= 2


def test_refusals_of_one_volley_halve_once():
    world = World(latency=1, max_concurrency=16)
    world.service = lambda texts, world: limit("CONCURRENCY") if world.now < 1001 else honest(texts)
    world.embed(names(16), groups=16)
    assert world.most_in_flight == 16
    after = [moment for moment in world.times if moment > 1001]
    assert sum(moment < after[0] + 1 for moment in after) >= 4


def test_an_unknown_limit_is_waited_for_like_any_fault_but_costs_no_retries(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    world = World(scripted(*[refusal(429)] * 6), max_retries=1)
    check(world.embed(["a"]), ["a"])
    gaps = np.diff(world.times)
    np.testing.assert_allclose(gaps, [1.1, 2.2, 4.4, 8.8, 17.6, 22])


# Pace


def busiest_minute(times, costs=None):
    """Most requests, or most of their cost, that any 60 s hold."""
    costs = costs or [1] * len(times)
    return max(
        sum(cost for moment, cost in zip(times, costs, strict=True) if start <= moment < start + 60) for start in times
    )


@pytest.mark.parametrize("latency", [0, 0.7, 45])
def test_a_configured_request_rate_is_never_exceeded(latency):
    world = World(requests_per_minute=10, latency=latency, timeout=10_000)
    world.embed(names(64), groups=64)
    assert busiest_minute(world.times) == 10
    assert world.times[-1] - world.times[0] < 7 * 62 + 7 * latency, "and it is used"


def test_refusals_do_not_blur_a_configured_rate():
    """A refused request may not count, but what was sent in its place does, as long as it does."""
    world = World(requests_per_minute=10, latency=20, timeout=10_000, max_concurrency=4)
    accepted = []

    def service(texts, world):
        if len(world.sent) % 3 == 0:
            return limit("CONCURRENCY")
        accepted.append(world.now)
        return honest(texts)

    world.service = service
    world.embed(names(64), groups=64)
    assert busiest_minute(accepted) <= 10


def test_a_request_that_is_taken_back_takes_no_other_with_it():
    window = Window()
    window.book(1, 0)
    window.book(1, 5)
    assert window.wait(1, 2, 20) == WINDOW - 20
    window.take_back(1, 0)
    assert window.wait(1, 2, 20) == 0
    assert window.wait(1, 1, WINDOW + 1) == 4, "the one of second 5 still counts"


def test_a_configured_token_rate_is_never_exceeded():
    world = World(tokens_per_minute=1000, latency=0.3, timeout=10_000)
    world.embed(names(60), groups=20, tokens=70)
    assert 700 < busiest_minute(world.times, [70 * len(texts) for _, texts in world.sent]) <= 1000


def test_what_exceeds_a_rate_alone_goes_into_an_empty_window():
    world = World(tokens_per_minute=100, timeout=10_000)
    check(world.embed(names(3), groups=3, tokens=500), names(3))
    assert np.diff(world.times).min() >= 60


def fixed_windows(most):
    """A service that takes so many requests in each clock minute."""

    def service(texts, world):
        minute = world.now // 60
        taken[minute] = taken.get(minute, 0) + 1
        return honest(texts) if taken[minute] <= most else limit("REQUEST")

    taken = {}
    return service


def test_a_rate_is_learnt_and_then_kept():
    world = World(fixed_windows(30), latency=0.1, timeout=100_000, max_concurrency=4)
    refused = []
    inner = world.service

    def counting(texts, world):
        reply = inner(texts, world)
        if reply.status == 429:
            refused.append(world.now)
        return reply

    world.service = counting
    texts = names(400)
    check(world.embed(texts, groups=400), texts)
    volleys = [moment for moment, last in zip(refused[1:], refused, strict=False) if moment > last + 1]
    assert len(volleys) <= 7, "a rate that was learnt is only tried every other minute"
    assert world.now - 1000 < 400 / 30 * 60 * 1.1, "and what is allowed is used"


def test_a_window_that_others_filled_teaches_no_rate():
    """A second process, or the run before this one, has used up the minute."""
    world = World(lambda texts, world: limit("REQUEST") if world.now < 1030 else honest(texts), latency=0.1)
    texts = names(100)
    check(world.embed(texts, groups=100), texts)
    assert world.now - 1000 < 80


def test_a_short_retry_after_teaches_no_rate():
    world = World(latency=0.1)
    world.service = lambda texts, world: limit("REQUEST", retry_after="0.5") if len(world.sent) == 3 else honest(texts)
    texts = names(100)
    check(world.embed(texts, groups=100), texts)
    assert world.now - 1000 < 10


def test_a_learnt_rate_grows_again():
    world = World(latency=0.1)
    world.limits._since = world.limits._wanted = 0
    world.limits._requests.learnt = 10
    world.limits._taught = 1000
    world.now = 1000 + 3 * WINDOW
    world.embed(["a"])
    assert world.limits._requests.learnt == pytest.approx(11)


# Deadlines


def test_a_query_ends_after_half_a_timeout_and_a_call_after_five_without_progress():
    for query, most in ((True, 30), (False, 300)):
        world = World(lambda texts, world: refusal(503), max_retries=100, timeout=60, latency=5)
        with pytest.raises((ServerError, APITimeoutError)):
            world.embed(["a"], query=query)
        assert most - 21 < world.now - 1000 <= most + 1, "a last attempt has a second"


def test_each_vector_gives_a_call_more_time():
    world = World(lambda texts, world: refusal(429, retry_after="100") if len(world.sent) % 2 else honest(texts))
    world.config = world.config.replace(timeout=30, max_concurrency=1)
    texts = names(10)
    check(world.embed(texts, groups=10), texts)
    assert world.now - 1000 > 150


def test_an_attempt_gets_its_timeout_however_long_the_caller_s_iterator_took():
    world = World()
    call = world.call(["a"])
    world.now += 10_000
    running = policy.embed(call, [item_of(0, "a")])
    step = next(running)
    assert step.until == world.now + world.config.timeout
    step = running.send(refusal(503))
    assert isinstance(step, Sleep), "and its retries"
    running.close()


def test_an_attempt_may_take_its_timeout_and_a_query_what_is_left_of_its_own():
    world = World(timeout=60)
    world.embed(["a"])
    assert world.until == 1060
    world = World(timeout=60)
    world.embed(["a"], query=True)
    assert world.until == 1030


def test_who_gets_no_place_in_time_is_told():
    world = World(max_concurrency=1)
    holder = world.limits.enter(1)
    call = world.call(["a"])
    running = policy.embed(call, [item_of(0, "a")])
    step = next(running)
    assert isinstance(step, Wait)
    world.now = step.until
    with pytest.raises(APITimeoutError, match="max_concurrency"):
        running.send(None)
    world.limits.leave(holder)
    assert world.limits.enter(1).granted, "the place in the queue was given up"


# Division


def rejecting(bad, status=400):
    return lambda texts, world: refusal(status) if bad & set(texts) else honest(texts)


@pytest.mark.parametrize("count", [2, 5, 64, 512])
def test_one_unnamed_bad_item_costs_two_requests_a_level(count):
    for place in {0, count // 3, count - 1}:
        world = World(rejecting({f"text {place}"}))
        with pytest.raises(ItemError) as caught:
            world.embed(names(count))
        assert caught.value.index == place
        assert caught.value.partial.ok.sum() == count - 1
        assert len(world.sent) <= 2 * math.ceil(math.log2(count)) + 1


def test_several_unnamed_bad_items_cost_no_more_each():
    bad = {"text 3", "text 100", "text 101", "text 400"}
    world = World(rejecting(bad))
    with pytest.raises(ItemError) as caught:
        world.embed(names(512))
    assert sorted(caught.value.partial.errors) == [3, 100, 101, 400]
    assert len(world.sent) <= len(bad) * (2 * 9 + 1)


def test_a_refusal_of_everything_ends_after_seven_requests():
    world = World(lambda texts, world: refusal(422, message="no"))
    with pytest.raises(RequestRejectedError) as caught:
        world.embed(names(64))
    assert len(world.sent) == 7
    assert caught.value.status == 422


def test_a_named_item_is_dropped_at_once():
    def service(texts, world):
        place = next((i for i, text in enumerate(texts) if text in ("text 7", "text 40")), None)
        return honest(texts) if place is None else refusal(422, message="bad", field=f"body -> input -> {place}")

    world = World(service)
    with pytest.raises(ItemError) as caught:
        world.embed(names(64))
    assert sorted(caught.value.partial.errors) == [7, 40]
    assert len(world.sent) == 3


def test_named_items_do_not_make_a_later_unnamed_one_look_like_everybody_s_fault():
    def service(texts, world):
        named = [i for i, text in enumerate(texts) if text in ("text 1", "text 2", "text 3")]
        if named:
            return refusal(422, message="bad", field=f"body -> input -> {named[0]}")
        return refusal(400) if "text 9" in texts else honest(texts)

    world = World(service)
    with pytest.raises(ItemError) as caught:
        world.embed(names(16))
    assert sorted(caught.value.partial.errors) == [1, 2, 3, 9]
    assert caught.value.partial.ok.sum() == 12


def test_too_many_items_do_not_make_bad_ones_look_like_everybody_s_fault():
    bad = {"text 0", "text 5", "text 9", "text 13"}

    def service(texts, world):
        return refusal(413) if len(texts) > 4 else rejecting(bad)(texts, world)

    world = World(service)
    with pytest.raises(ItemError) as caught:
        world.embed(names(16))
    assert sorted(caught.value.partial.errors) == [0, 5, 9, 13]


def test_a_place_that_does_not_exist_is_looked_for():
    world = World(
        lambda texts, world: (
            refusal(422, message="bad", field="body -> input -> 99") if "text 3" in texts else honest(texts)
        )
    )
    with pytest.raises(ItemError) as caught:
        world.embed(names(8))
    assert sorted(caught.value.partial.errors) == [3]


@pytest.mark.parametrize(
    "too_many", [refusal(413), refusal(422, message="List should have at most 16 items", field="body -> input")]
)
def test_too_many_items_are_halved_and_the_ceiling_is_kept(too_many):
    world = World(lambda texts, world: too_many if len(texts) > 16 else honest(texts))
    call = world.start(names(64))
    world.run()
    check(call.call.conclude().unwrap(), names(64))
    assert len(world.sent) == 7
    assert call.ceiling == 16


def test_a_gateway_timeout_halves_at_once_and_a_500_after_three():
    for status, requests in ((504, 3), (500, 5)):
        world = World(lambda texts, world, status=status: refusal(status) if len(texts) > 4 else honest(texts))
        check(world.embed(names(8)), names(8))
        assert len(world.sent) == requests


def test_unusable_rows_are_asked_for_twice_more():
    def service(texts, world):
        rows = np.stack([vector(text) * (np.nan if text == "text 2" else 1) for text in texts])
        return Reply(200, {}, orjson.dumps(wire.write_answer("jina-clip-v2", rows, 1)))

    world = World(service)
    with pytest.raises(ItemError) as caught:
        world.embed(names(8))
    assert caught.value.index == 2
    assert [texts for _, texts in world.sent[1:]] == [["text 2"]] * 2


def test_rows_that_are_not_quite_unit_are_made_so():
    def service(texts, world):
        rows = np.stack([vector(text) * 1.01 for text in texts])
        return Reply(200, {}, orjson.dumps(wire.write_answer("jina-clip-v2", rows, 1)))

    check(World(service).embed(names(3)), names(3))
    rows = World(service, normalized=False).embed(names(3))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1.01, atol=1e-5)


# Failures of the transport, budget, stopping


@pytest.mark.parametrize(
    ("kind", "error", "requests"),
    [
        ("connect", APIConnectionError, 5),
        ("broken", APIConnectionError, 5),
        ("timeout", APITimeoutError, 5),
        ("oversize", BadResponseError, 1),
    ],
)
def test_failures_of_the_transport(kind, error, requests):
    world = World(lambda texts, world: Failure(kind, "why"))
    with pytest.raises(error) as caught:
        world.embed(["a"])
    assert type(caught.value) is error
    assert len(world.sent) == requests
    assert world.meter.usage.maybe_billed == (requests if kind in ("broken", "timeout") else 0)


def test_a_budget_ends_a_call_before_it_is_passed():
    world = World(token_budget=100)
    with pytest.raises(BudgetError) as caught:
        world.embed(names(10), groups=10, tokens=30)
    assert len(world.sent) == caught.value.partial.ok.sum() == 3


def test_nothing_is_sent_once_a_call_is_stopped():
    world = World(latency=1, max_concurrency=2)
    world.service = lambda texts, world: refusal(401) if texts == ["text 1"] else honest(texts)
    call = world.start(names(20), groups=20)
    world.run()
    with pytest.raises(JinaClipError) as caught:
        call.call.conclude().unwrap()
    assert len(world.sent) <= 4
    assert caught.value.partial.ok[0]
    assert world.limits.enter(1).granted, "all places came back"


def test_a_flow_that_is_closed_anywhere_gives_back_its_place_and_its_tokens():
    for steps in range(1, 6):
        world = World(token_budget=10, max_concurrency=1)
        call = world.call(["a"])
        running = policy.embed(call, [item_of(0, "a", 10)])
        step = next(running)
        for _ in range(steps - 1):
            step = running.send(refusal(503) if isinstance(step, Send) else None)
        running.close()
        assert world.limits.enter(1).granted
        world.meter.reserve(10)


def test_a_flow_collected_while_its_account_is_busy_does_not_lock_it():
    """The collector may run anywhere, inside the account too."""
    done = threading.Event()

    def collect():
        account.leave(permit)
        return 0.0

    account = RateLimits(clock=collect)
    permit = account.enter(1)

    def ask():
        account.pause(1, EmbedderConfig())
        done.set()

    threading.Thread(target=ask, daemon=True).start()
    assert done.wait(5)


def test_places_go_round_in_order_of_arrival():
    account = RateLimits()
    first = account.enter(1)
    queue = [account.enter(1) for _ in range(3)]
    account.leave(queue.pop(1))
    account.leave(first)
    assert [permit.granted for permit in queue] == [True, False]
    account.leave(queue[0])
    assert queue[1].granted


def test_accounts_are_shared_by_key_and_address_and_by_nothing_else():
    def account(**options):
        return shared_limits(EmbedderConfig(**{"api_key": "jina_shared", **options}))

    one = account()
    assert account(model="jina-clip-v1", max_concurrency=2) is one
    assert account(api_key=" jina_shared\n") is one
    assert account(base_url="https://api.jina.ai") is one
    assert account(api_key="jina_other") is not one
    assert account(base_url="https://example.org") is not one
