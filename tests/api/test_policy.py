"""What becomes of a batch, by a hand clock: retries, rate limits, division, deadlines, batches of several callers."""

import math
from email.utils import formatdate

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinaclip.backends.api.charges import split_bill
from jinaclip.backends.api.limits import RETRY_COST, RETRY_TOKENS
from jinaclip.backends.api.steps import Failure, Reply
from jinaclip.backends.api.wires import jina as wire
from jinaclip.call.usage import Meter
from jinaclip.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    BadResponseError,
    BudgetError,
    ItemError,
    JinaClipError,
    NotSentError,
    QuotaError,
    RateLimitError,
    RequestRejectedError,
    ServerError,
)
from tests.api.world import (
    START,
    World,
    check,
    honest,
    limit,
    named,
    names,
    refusal,
    rejecting,
    results,
    scripted,
    vector,
)

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
    np.testing.assert_allclose(np.diff(world.times), [0.5, 1, 2, 4, 8, 16, 20, 20])


def test_the_account_s_reserve_ends_retries_in_an_outage():
    world = World(lambda texts, world: refusal(503), max_retries=100, timeout=10_000, batch_size=1)
    with pytest.raises(ServerError):
        world.embed(names(4))
    assert len(world.sent) - 4 <= RETRY_TOKENS // RETRY_COST
    world.sent.clear()
    with pytest.raises(ServerError):
        world.embed(["b"])
    assert len(world.sent) == 1, "nothing is left for the next call either"


def test_answers_fill_the_reserve_again():
    world = World(lambda texts, world: refusal(503), max_retries=100, timeout=10_000, batch_size=1)
    with pytest.raises(ServerError):
        world.embed(["a"])
    world.service = lambda texts, world: honest(texts)
    world.embed(names(3))
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
    assert 1 <= world.times[1] - world.times[0] <= 1.1
    world = World(scripted(refusal(503, retry_after=value)))
    world.embed(["a"])
    assert world.times[1] - world.times[0] <= 0.5


def test_two_minutes_are_waited_for_and_more_is_not_believed():
    world = World(scripted(limit("REQUEST", retry_after="120")))
    world.embed(["a"])
    assert 120 <= world.times[1] - world.times[0] <= 132
    world = World(scripted(limit("REQUEST", retry_after="121")))
    world.embed(["a"])
    assert 1 <= world.times[1] - world.times[0] <= 1.1


def test_a_call_ends_by_its_own_time_and_says_what_the_service_asked_for():
    world = World(lambda texts, world: limit("REQUEST", retry_after="86400"), deadline=20)
    with pytest.raises(RateLimitError) as caught:
        world.embed(["a"])
    assert (caught.value.retry_after, caught.value.attempts, caught.value.status) == (86_400, 5, 429)
    assert world.now - START <= 20


@pytest.mark.parametrize("kind", ["REQUEST", "TOKEN", "IP", "CONCURRENCY", "OTHER"])
def test_retry_after_stops_everybody_whatever_the_limit(kind):
    world = World(scripted(limit(kind, retry_after="20")), latency=1, batch_size=1)
    check(world.embed(names(12)), names(12))
    assert min(moment for moment in world.times if moment > START) >= 1021


# The four 429


@pytest.mark.parametrize("kind", ["REQUEST", "TOKEN", "IP"])
def test_a_rate_limit_is_waited_for_by_all_of_the_account(kind):
    world = World(scripted(limit(kind)))
    first = world.start(["a"])
    other = world.start(["b"])
    world.run()
    check(results(first).unwrap(), ["a"])
    check(results(other).unwrap(), ["b"])
    assert world.meter.usage.retries == 1
    late = [moment - 1000 for moment in world.times if moment > 1000]
    assert late
    assert 1 <= late[0] <= 1.1


def test_after_a_gate_one_request_probes_before_the_rest_go():
    world = World(lambda texts, world: limit("REQUEST") if world.now < 1060 else honest(texts), latency=2, batch_size=1)
    check(world.embed(names(8)), names(8))
    late = sorted(moment for moment in world.times if moment > 1060)
    between = [moment for moment in world.times if 1010 < moment < 1060]
    assert len(between) <= 4, "one at a time, ever more seldom"
    assert len(late) == 8
    assert late[1] - late[0] == 2, "the second waits for the answer to the first"
    waves = [late.count(moment) for moment in sorted(set(late))]
    assert waves == [1, 2, 5], "each answer doubles how many may go"


def test_each_probe_in_vain_doubles_the_pause_up_to_twenty_seconds(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: low)
    world = World(lambda texts, world: limit("REQUEST") if world.now < 1100 else honest(texts), batch_size=1)
    check(world.embed(names(4)), names(4))
    probes = [moment for moment in world.times if moment > START]
    np.testing.assert_allclose(np.diff([START, *probes[:9]]), [1, 2, 4, 8, 16, 20, 20, 20, 20])
    assert len(probes) == 9 + 3


def test_those_who_wait_for_their_pace_let_one_probe_too():
    world = World(latency=2, requests_per_minute=4, batch_size=1)
    world.service = lambda texts, world: limit("REQUEST", retry_after="70") if len(world.sent) == 4 else honest(texts)
    check(world.embed(names(8)), names(8))
    late = sorted(moment for moment in world.times if moment > 1060)
    assert late[1] - late[0] >= 2


def test_a_query_does_not_wait_for_a_window():
    world = World(lambda texts, world: limit("TOKEN"))
    with pytest.raises(RateLimitError) as caught:
        world.embed(["a"], query=True)
    assert caught.value.retry_after == 16
    assert world.now - START < 20
    world = World(lambda texts, world: limit("TOKEN", retry_after="60"))
    with pytest.raises(RateLimitError) as caught:
        world.embed(["a"], query=True)
    assert caught.value.retry_after == 60
    assert len(world.sent) == 1


def test_an_unknown_limit_is_waited_for_like_any_fault_but_costs_no_retries(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    world = World(scripted(*[refusal(429)] * 6), max_retries=1)
    check(world.embed(["a"]), ["a"])
    gaps = np.diff(world.times)
    np.testing.assert_allclose(gaps, [1.1, 2.2, 4.4, 8.8, 17.6, 22])


# Deadlines


def test_a_query_ends_at_its_deadline_and_a_call_after_five_timeouts_without_progress():
    world = World(lambda texts, world: refusal(503), max_retries=100, timeout=60, latency=5)
    with pytest.raises(ServerError):
        world.embed(["a"])
    assert 300 - 21 < world.now - START <= 300 + 5, "the last attempt began before"
    world = World(lambda texts, world: refusal(503), max_retries=2, timeout=60, latency=20)
    with pytest.raises(APITimeoutError, match="deadline=30 seconds; the last attempt: the service failed"):
        world.embed(["a"], query=True)
    assert world.now == START + 30
    assert world.in_flight == world.scheduler.in_flight == 0, "what nobody waits for is broken off"


def test_a_deadline_that_is_set_holds_for_every_call():
    for options in ({"query": True}, {}):
        world = World(lambda texts, world: refusal(503), max_retries=100, latency=4, deadline=7)
        with pytest.raises(APITimeoutError, match="deadline=7"):
            world.embed(["a"], **options)
        assert world.now == START + 7


def test_waiting_for_a_slot_counts_for_a_deadline_and_for_no_timeout():
    """A slot is the caller's own: that all are taken is not the service's slowness."""
    world = World(latency=50, timeout=60, max_concurrency=1, batch_size=1)
    bulk = world.start(names(20))
    query = world.start(["a"], query=True)
    world.run()
    assert results(bulk).ok.all()
    assert world.now > START + 5 * 60
    with pytest.raises(APITimeoutError, match="deadline=30"):
        results(query).unwrap()
    assert ["a"] not in [texts for _, texts in world.sent]


def test_each_vector_gives_a_call_more_time():
    world = World(
        lambda texts, world: refusal(429, retry_after="100") if len(world.sent) % 2 else honest(texts),
        timeout=30,
        max_concurrency=1,
        batch_size=1,
    )
    texts = names(10)
    check(world.embed(texts), texts)
    assert world.now - START > 150


def test_an_attempt_gets_its_timeout_however_long_the_caller_s_iterator_took():
    world = World(scripted(Failure("broken", "why")))
    consumer = world.join(["a"])
    world.wait(10_000)
    world.hand_in(consumer)
    world.run()
    check(results(consumer).unwrap(), ["a"])
    assert [step.seconds for step in world.steps] == [world.config.timeout] * 2, "and its retries"


def test_an_attempt_takes_its_timeout_and_not_more():
    world = World(timeout=60, latency=70, max_retries=0)
    with pytest.raises(APITimeoutError):
        world.embed(["a"])
    assert world.now == START + 60
    assert world.meter.usage.maybe_billed == 1


# Division


@pytest.mark.parametrize("count", [2, 5, 64, 512])
def test_one_unnamed_bad_item_costs_two_requests_a_level(count):
    for place in {0, count // 3, count - 1}:
        world = World(rejecting({f"text {place}"}), batch_size=count)
        with pytest.raises(ItemError) as caught:
            world.embed(names(count))
        assert caught.value.index == place
        assert caught.value.partial.ok.sum() == count - 1
        assert len(world.sent) <= 2 * math.ceil(math.log2(count)) + 1


def test_several_unnamed_bad_items_cost_no_more_each():
    bad = {"text 3", "text 100", "text 101", "text 400"}
    world = World(rejecting(bad), batch_size=512)
    with pytest.raises(ItemError) as caught:
        world.embed(names(512))
    assert sorted(caught.value.partial.errors) == [3, 100, 101, 400]
    assert len(world.sent) <= len(bad) * (2 * 9 + 1)


def test_a_refusal_of_everything_ends_once_eight_inputs_were_refused_alone():
    world = World(lambda texts, world: refusal(422, message="no"), batch_size=64)
    with pytest.raises(RequestRejectedError) as caught:
        world.embed(names(64))
    assert len(world.sent) <= 24
    assert caught.value.status == 422


def test_a_named_item_is_sent_alone_and_the_others_go_on_together():
    def service(texts, world):
        place = next((i for i, text in enumerate(texts) if text in ("text 7", "text 40")), None)
        return honest(texts) if place is None else named(place)

    world = World(service, batch_size=64)
    with pytest.raises(ItemError) as caught:
        world.embed(names(64))
    assert sorted(caught.value.partial.errors) == [7, 40]
    assert world.sizes == [64, 1, 63, 1, 62]


def test_named_items_do_not_make_a_later_unnamed_one_look_like_everybody_s_fault():
    def service(texts, world):
        bad = [i for i, text in enumerate(texts) if text in ("text 1", "text 2", "text 3")]
        if bad:
            return named(bad[0])
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
    world = World(lambda texts, world: named(99) if "text 3" in texts else honest(texts))
    with pytest.raises(ItemError) as caught:
        world.embed(names(8))
    assert sorted(caught.value.partial.errors) == [3]


@pytest.mark.parametrize(
    "too_many", [refusal(413), refusal(422, message="List should have at most 16 items", field="body -> input")]
)
def test_too_many_items_are_halved_and_the_cap_is_kept(too_many):
    world = World(lambda texts, world: too_many if len(texts) > 16 else honest(texts), batch_size=64)
    check(world.embed(names(64)), names(64))
    assert len(world.sent) == 7
    assert world.limits.batch.items == 16


def test_a_gateway_timeout_halves_at_once_and_a_500_after_three():
    for status, requests in ((504, 3), (500, 5)):
        world = World(lambda texts, world, status=status: refusal(status) if len(texts) > 4 else honest(texts))
        check(world.embed(names(8)), names(8))
        assert len(world.sent) == requests


def test_two_timeouts_halve():
    world = World(latency=lambda items: 1 if items <= 4 else 100, batch_size=8)
    check(world.embed(names(8)), names(8))
    assert world.sizes == [8, 8, 4, 4]
    assert world.limits.batch.items == 4
    world = World(lambda texts, world: Failure("timeout", "why"), batch_size=8)
    with pytest.raises(APITimeoutError):
        world.embed(names(8))
    assert len(world.sent) <= 20, "if nothing is answered in time no item is to blame"
    world = World(lambda texts, world: Failure("timeout", "why") if "text 3" in texts else honest(texts), batch_size=8)
    with pytest.raises(JinaClipError) as caught:
        world.embed(names(8))
    assert sorted(caught.value.partial.errors) == [3]


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
    assert world.meter.usage.maybe_billed == (0 if kind == "connect" else requests)


def test_a_budget_ends_a_call_before_it_is_passed():
    world = World(lambda texts, world: honest(texts, tokens=30), token_budget=100, batch_size=1, max_concurrency=1)
    with pytest.raises(BudgetError) as caught:
        world.embed(names(10), tokens=30)
    assert len(world.sent) == caught.value.partial.ok.sum() == 3


def test_what_is_in_flight_counts_against_a_budget_and_is_kept():
    world = World(token_budget=100, batch_size=1, latency=1)
    with pytest.raises(BudgetError) as caught:
        world.embed(names(10), tokens=30)
    assert len(world.sent) == caught.value.partial.ok.sum() == 3
    assert world.meter.usage.maybe_billed == 0


def test_nothing_is_sent_once_a_call_is_stopped():
    world = World(latency=1, max_concurrency=2, batch_size=1)
    world.service = lambda texts, world: refusal(401) if texts == ["text 1"] else honest(texts)
    with pytest.raises(AuthenticationError) as caught:
        world.embed(names(20))
    assert len(world.sent) == 2
    assert caught.value.partial.ok[0]
    errors = caught.value.partial.errors
    assert all(isinstance(errors[place].reason, NotSentError) for place in range(2, 20))
    assert world.scheduler.in_flight == 0, "all slots came back"


@pytest.mark.parametrize("seconds", [0, 0.5, 1.5, 1.9, 3, 6])
def test_a_call_that_is_let_go_at_any_moment_gives_back_its_slot_and_its_tokens(seconds):
    world = World(lambda texts, world: refusal(503), latency=1.5, token_budget=10, max_concurrency=1)
    consumer = world.start(["a"], tokens=10)
    world.wait(seconds)
    world.hub.leave(consumer)
    world.wait(0)
    sent = len(world.sent)
    world.wait(60)
    assert len(world.sent) == sent, "nothing more is sent"
    assert world.scheduler.in_flight == consumer.bounds.in_flight == world.in_flight == 0
    assert world.scheduler.is_idle
    if not world.meter.usage.maybe_billed:
        world.meter.check(10)


# Batches of several callers


def together(world, calls, **how):
    """Calls whose items wait for the one slot, so that they go out in one request."""
    blocker = world.start(["blocker"], **how)
    consumers = [world.start(texts, **how) for texts in calls]
    return blocker, consumers


def merging(service=lambda texts, world: honest(texts), **options):
    return World(service, **{"latency": 1, "max_concurrency": 1, **options})


def test_what_waits_is_merged_whoever_asked():
    world = merging()
    _, consumers = together(world, [names(3, name) for name in "abc"])
    world.run()
    for name, consumer in zip("abc", consumers, strict=True):
        check(results(consumer).unwrap(), names(3, name))
    assert world.sizes == [1, 9]


def test_of_a_merged_batch_an_item_that_is_named_is_refused_alone_and_the_others_go_on_merged():
    def service(texts, world):
        return named(texts.index("b 1")) if "b 1" in texts else honest(texts)

    world = merging(service)
    _, consumers = together(world, [names(3, name) for name in "abc"])
    world.run()
    assert world.sizes == [1, 9, 8, 1], "the one that is named goes alone"
    assert results(consumers[0]).ok.all()
    assert results(consumers[2]).ok.all()
    with pytest.raises(ItemError) as caught:
        results(consumers[1]).unwrap()
    assert (caught.value.index, len(caught.value.partial.errors)) == (1, 1)


def test_an_unnamed_refusal_of_a_merged_batch_is_looked_for_apart_by_caller():
    world = merging(rejecting({"b 1"}))
    _, consumers = together(world, [names(4, name) for name in "abc"])
    world.run()
    assert world.sizes[:2] == [1, 12]
    for texts in [texts for _, texts in world.sent[2:]]:
        assert len({text[0] for text in texts}) == 1, "nobody shares a request with the culprit again"
    assert results(consumers[0]).ok.all()
    assert results(consumers[2]).ok.all()
    assert results(consumers[0]).usage.requests == 2
    with pytest.raises(ItemError) as caught:
        results(consumers[1]).unwrap()
    assert caught.value.index == 1


def test_retries_count_only_for_the_one_to_blame():
    """The service breaks whenever it meets one caller's item: the others need not a second retry."""
    world = merging(lambda texts, world: refusal(503) if "b 0" in texts else honest(texts), max_retries=4)
    _, consumers = together(world, [["a 0"], ["b 0"], ["c 0"]])
    world.run()
    assert results(consumers[0]).usage.requests == results(consumers[2]).usage.requests == 2
    with pytest.raises(ServerError) as caught:
        results(consumers[1]).unwrap()
    assert caught.value.attempts == 5, "the merged one among them"
    assert results(consumers[1]).usage.requests == 5


def test_what_a_merged_batch_failed_of_is_nobodys_until_each_was_sent_by_itself():
    """Whatever retries are left: it may be another's item."""
    world = merging(lambda texts, world: refusal(503) if "b 0" in texts else honest(texts), max_retries=0)
    _, consumers = together(world, [["a 0"], ["b 0"], ["c 0"]])
    world.run()
    assert results(consumers[0]).ok.all()
    assert results(consumers[2]).ok.all()
    with pytest.raises(ServerError) as caught:
        results(consumers[1]).unwrap()
    assert caught.value.attempts == 2, "the merged one among them"


@pytest.mark.parametrize(("status", "error"), [(401, AuthenticationError), (402, QuotaError)])
def test_a_bad_key_or_an_empty_balance_ends_all_at_once(status, error):
    world = merging(lambda texts, world: refusal(status) if len(texts) > 1 else honest(texts))
    _, consumers = together(world, [names(3, name) for name in "abc"])
    world.run()
    assert len(world.sent) == 2
    for consumer in consumers:
        with pytest.raises(error):
            results(consumer).unwrap()


def test_settings_that_are_refused_end_each_call_by_its_own_request():
    world = merging(lambda texts, world: refusal(404) if len(texts) > 1 else honest(texts))
    _, consumers = together(world, [["a 0"], ["b 0"]])
    world.run()
    assert all(results(consumer).ok.all() for consumer in consumers)


def test_a_rate_limit_does_not_part_a_merged_batch():
    world = merging(scripted(honest(["blocker"]), limit("REQUEST"), limit("CONCURRENCY"), refusal(429)), max_retries=0)
    _, consumers = together(world, [names(3, name) for name in "abc"])
    world.run()
    assert all(results(consumer).ok.all() for consumer in consumers)
    assert world.sizes == [1, 9, 9, 9, 9]


def test_of_a_merged_batch_only_those_who_cannot_wait_are_told():
    world = merging(scripted(honest(["blocker"]), limit("REQUEST", retry_after="61")))
    blocker = world.start(["blocker"])
    bulk, query = world.start(["a"]), world.start(["b"], urgent=True)
    world.run()
    check(results(blocker).unwrap(), ["blocker"])
    check(results(bulk).unwrap(), ["a"])
    with pytest.raises(RateLimitError) as caught:
        results(query).unwrap()
    assert caught.value.retry_after == 61
    assert [texts for _, texts in world.sent] == [["blocker"], ["b", "a"], ["a"]]


def test_unusable_rows_of_a_merged_batch_are_asked_for_apart():
    def service(texts, world):
        rows = np.stack([vector(text) * (np.nan if text == "b 1" else 1) for text in texts])
        return Reply(200, {}, orjson.dumps(wire.write_answer("jina-clip-v2", rows, len(texts))))

    world = merging(service)
    _, consumers = together(world, [names(3, name) for name in "abc"])
    world.run()
    assert [texts for _, texts in world.sent[2:]] == [["b 1"]] * 2
    assert results(consumers[0]).ok.all()
    assert results(consumers[2]).ok.all()
    with pytest.raises(ItemError, match="3 times") as caught:
        results(consumers[1]).unwrap()
    assert caught.value.partial.ok.tolist() == [True, False, True]
    assert [results(consumer).usage.items for consumer in consumers] == [3, 2, 3]


def test_a_merged_request_counts_once_for_the_object_and_once_for_each_call():
    world = merging(lambda texts, world: honest(texts, tokens=100 if len(texts) > 1 else 1))
    _, consumers = together(world, [["a 0"], ["b 0", "b 1"], ["c 0"]])
    world.run()
    assert [results(consumer).usage.requests for consumer in consumers] == [1, 1, 1]
    assert [results(consumer).usage.tokens for consumer in consumers] == [25, 50, 25]
    usage = world.meter.usage
    assert (usage.requests, usage.items, usage.tokens, usage.retries) == (2, 5, 101, 0)


def test_a_budget_that_is_used_up_does_not_stop_the_others():
    world = merging()
    world.start(["blocker"])
    poor = world.start(names(3, "poor"), user="poor", meter=Meter(2))
    rich = world.start(names(3, "rich"))
    world.run()
    with pytest.raises(BudgetError):
        results(poor).unwrap()
    check(results(rich).unwrap(), names(3, "rich"))
    assert [text for _, texts in world.sent for text in texts] == ["blocker", *names(3, "rich")]


def test_an_attempt_lasts_the_longest_timeout_and_each_caller_its_own():
    world = merging(latency=8, max_retries=0)
    world.start(["blocker"], timeout=10)
    hurried, patient = world.start(["a"], timeout=3), world.start(["b"], timeout=10)
    world.run()
    assert [texts for _, texts in world.sent] == [["blocker"], ["a", "b"]]
    assert world.steps[1].seconds == 10
    with pytest.raises(APITimeoutError, match="timeout=3"):
        results(hurried).unwrap()
    check(results(patient).unwrap(), ["b"])
    assert world.now == START + 16


def test_a_caller_whose_timeout_is_over_is_told_then():
    world = merging(latency=8, max_retries=0)
    world.start(["blocker"], timeout=10)
    hurried = world.start(["a"], timeout=3)
    world.start(["b"], timeout=10)
    world.wait(8 + 3)
    assert hurried.over.done()
    assert results(hurried).usage.maybe_billed == 1


def test_a_request_goes_on_while_one_of_its_callers_waits_and_is_broken_off_with_the_last():
    world = merging(latency=10)
    _, (one, other) = together(world, [["a"], ["b"]])
    world.wait(11)
    world.hub.leave(one)
    world.wait(1)
    assert world.in_flight == 1
    world.hub.leave(other)
    world.wait(0.1)
    assert world.in_flight == world.scheduler.in_flight == 0
    assert [results(consumer).usage.maybe_billed for consumer in (one, other)] == [1, 1]
    assert world.meter.usage.requests == 2


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_shares_of_a_bill_add_up_to_it(bill, weights):
    shares = split_bill(bill, weights)
    assert sum(shares) == bill
    assert len(shares) == len(weights)
    total = sum(weights) or len(weights)
    for share, weight in zip(shares, weights if sum(weights) else [1] * len(weights), strict=True):
        assert abs(share - bill * weight / total) < 1.001, "to a token"


# A process that stood still


def frozen(result):
    """A service during whose first answer the process stands still."""

    def service(texts, world):
        if len(world.sent) > 1:
            return honest(texts)
        world.freeze(3600)
        return result

    return service


@pytest.mark.parametrize("kind", ["timeout", "broken"])
def test_a_failure_while_the_process_stood_still_costs_no_retry(kind):
    world = World(frozen(Failure(kind, "why")), latency=1, max_retries=0, batch_size=8)
    check(world.embed(names(8)), names(8))
    assert world.sizes == [8, 8]
    assert world.limits.batch.items == math.inf, "and says nothing about sizes"


def test_nor_does_it_for_a_batch_of_several():
    world = merging(max_retries=0)
    _, consumers = together(world, [["a 0"], ["b 0"]])
    world.wait(0.5)
    world.service = frozen(Failure("broken", "why"))
    world.sent.clear()
    world.run()
    assert all(results(consumer).ok.all() for consumer in consumers)


def test_a_jump_of_the_clock_long_before_excuses_no_failure():
    world = World(lambda texts, world: Failure("broken", "why"), max_retries=0)
    world.freeze(3600)
    world.wait(1)
    with pytest.raises(APIConnectionError):
        world.embed(["a"])


def test_a_batch_is_written_once_it_has_a_slot_of_what_is_still_wanted():
    """One of two callers leaves while the rate limit keeps their request waiting."""
    world = merging(scripted(honest(["blocker"]), limit("REQUEST", retry_after="20")))
    world.start(["blocker"])
    leaver, stayer = world.start(["a"]), world.start(["b"])
    world.wait(10)
    world.hub.leave(leaver)
    world.run()
    check(results(stayer).unwrap(), ["b"])
    assert [texts for _, texts in world.sent] == [["blocker"], ["a", "b"], ["b"]]


def test_a_request_counts_in_the_totals_whoever_of_its_callers_leaves():
    for place in (0, 1):
        world = merging(latency=5)
        world.start(["blocker"])
        pair = world.start(["a"]), world.start(["b"])
        world.wait(7)
        world.hub.leave(pair[place])
        world.run()
        assert world.meter.usage.requests == len(world.sent) == 2
