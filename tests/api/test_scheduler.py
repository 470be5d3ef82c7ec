"""What goes out when, by a hand clock: slots, batches, turns and paces."""

import math
import random
from functools import partial

import numpy as np
import pytest

from jinaclip.backends.api.batcher import BATCH_TOKENS, SMALL, Batch, Bounds, Latency, Queue, share_of
from jinaclip.backends.api.limits import (
    FIRST_SLOTS,
    HOLD,
    RATE_HOLD,
    SPREAD,
    WINDOW,
    BatchCap,
    Window,
    shared_limits,
)
from jinaclip.backends.api.route import Endpoint
from jinaclip.backends.api.scheduler import Departure, RetryQueue
from jinaclip.backends.api.steps import Failure
from jinaclip.backends.api.wires import USUAL
from jinaclip.config import MAX_BATCH, EmbedderConfig
from jinaclip.errors import RateLimitError
from tests.api.world import (
    START,
    Account,
    World,
    check,
    honest,
    item_of,
    limit,
    names,
    quick,
    refusal,
    results,
)
from tests.needs import long
from tests.steps import steps_of

# Slots: what the service takes at once


def explore(account, count, *, seconds=0.5, seed=0, **options):
    """A call whose requests take so long each, and refusals a moment; no retries are left for those."""
    random.seed(seed)
    world = World(account, latency=seconds, refusing=0.05, **{"max_retries": 0, **options})
    consumer = world.start(names(count))
    world.run()
    assert results(consumer).ok.all()
    return world


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("latency", [0.5, lambda items: 0.2 + 0.01 * items])
def test_at_most_eight_refusals_find_a_key_that_allows_two_at_once(seed, latency):
    account = Account(2)
    explore(account, 4_000, seconds=latency, seed=seed)
    assert len(account.refused) <= 8


@pytest.mark.slow
def test_a_key_that_allows_two_is_used_at_two_and_seldom_tried_for_more():
    account = Account(2)
    world = explore(account, 1_000, batch_size=1)
    minute = [moment for moment in account.refused if moment < START + 60]
    assert len(minute) <= 9
    assert len(account.refused) - len(minute) <= (world.now - START) / HOLD + 3
    assert account.at_work(START + 10, world.now - 1, 0.5) >= 1.9


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, long(1), long(2)])
def test_at_most_twenty_refusals_find_a_key_that_allows_fifty_at_once(seed):
    account = Account(50)
    world = explore(account, 2_500, batch_size=1, seed=seed)
    assert len(account.refused) <= 20
    assert account.at_work(START + 10, world.now - 1, 0.5) >= 45


@pytest.mark.slow
def test_so_do_times_that_differ():
    account = Account(50)
    world = explore(account, 2_500, seconds=lambda _: random.uniform(0.3, 0.7), batch_size=1)
    assert len(account.refused) <= 20
    assert account.at_work(START + 10, world.now - 1, 0.5) >= 45


def test_a_key_that_allows_one_at_once_gets_one():
    account = Account(1)
    world = explore(account, 200, batch_size=1)
    assert len(account.refused) <= 11
    assert account.at_work(START + 10, world.now - 1, 0.5) >= 0.9


@pytest.mark.slow
def test_a_limit_that_is_raised_is_found_within_minutes():
    account = Account(2)
    random.seed(0)
    world = World(account, latency=2, refusing=0.05, max_retries=0, batch_size=1)
    call = world.start(names(6_000))
    world.wait(300)
    assert account.at_work(START + 200, START + 300, 2) == pytest.approx(2, abs=0.2)
    account.most = 20
    world.wait(360)
    assert account.at_work(world.now - 20, world.now - 2, 2) >= 18
    world.hub.leave(call)
    world.wait(5)


@pytest.mark.slow
def test_a_limit_that_is_lowered_is_found_at_once():
    account = Account(50)
    random.seed(0)
    world = World(account, latency=0.5, refusing=0.05, max_retries=0, batch_size=1)
    call = world.start(names(6_000))
    world.wait(30)
    account.most, before = 5, len(account.refused)
    world.wait(60)
    assert len(account.refused) - before <= 60, "one for each slot there was, and some tries"
    assert account.at_work(START + 60, START + 90, 0.5) >= 4.5
    world.hub.leave(call)
    world.wait(5)


@pytest.mark.slow
def test_refusals_by_chance_do_not_take_the_slots_down_for_long():
    """Somebody else uses the key now and then, or the service counts badly: what is used is not what is to blame."""
    world = World(latency=0.5, refusing=0.05, max_concurrency=8, max_retries=0, batch_size=1)
    world.service = lambda texts, world: quick(texts) if len(world.sent) % 50 else limit("CONCURRENCY")
    world.embed(names(1_500))
    assert 1_500 * 0.5 / (world.now - START) >= 4


@pytest.mark.slow
def test_slots_that_somebody_else_gives_back_are_used_again():
    account = Account(8)
    world = World(account, latency=1, refusing=0.05, max_concurrency=8, max_retries=0, batch_size=1)
    call = world.start(names(4_000))
    for most in (8, 3, 8, 3):
        account.most = most
        world.wait(30)
    account.most = 8
    world.wait(250)
    assert account.at_work(world.now - 10, world.now, 1) >= 7.5
    world.hub.leave(call)
    world.wait(5)


def test_a_volley_that_is_refused_as_a_whole_leaves_one_slot():
    world = World(latency=1, max_concurrency=16, max_retries=0, batch_size=1)
    world.service = lambda texts, world: limit("CONCURRENCY") if world.now < START + 1 else honest(texts)
    check(world.embed(names(64)), names(64))
    assert world.most_in_flight == 16
    assert world.now - START < 64 / 4, "and they grow again"


def scaling(workers):
    """Seconds of a request at a service that works on so many at once, and divides its time among more."""
    return lambda world: 0.2 * max(1.0, world.in_flight / workers)


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "least", "most"), [(1000, 64, 64), long(20, 32, 64), long(8, 8, 16), (1, 8, 16)])
def test_slots_grow_while_the_throughput_does(workers, least, most):
    world = World(lambda texts, world: quick(texts), batch_size=1)
    world.latency = lambda _: scaling(workers)(world)
    world.embed(names(2_000 if workers > 1 else 600))
    assert least <= world.limits.slots.growth.slots <= most
    assert least <= world.most_in_flight <= most


def test_slots_do_not_grow_while_nobody_waits_for_one():
    world = World(lambda texts, world: quick(texts), latency=0.1)
    for _ in range(300):
        world.start(["a"])
        world.wait(0.1)
    world.run()
    assert world.limits.slots.growth.slots == FIRST_SLOTS


HARSH = {
    "kind": lambda texts, world: quick(texts),
    "of few slots": lambda texts, world: quick(texts) if world.accepted < 2 else limit("CONCURRENCY"),
    "of small batches": lambda texts, world: quick(texts) if len(texts) < 4 else refusal(413),
    "of few requests": lambda texts, world: quick(texts) if len(world.sent) % 50 else limit("REQUEST"),
}


@pytest.mark.parametrize("service", HARSH.values(), ids=HARSH)
def test_what_is_set_is_a_bound_that_is_never_left(service):
    world = World(service, latency=0.2, max_concurrency=3, batch_size=7)
    consumers = [world.start(names(400, name)) for name in "ab"]
    world.start(["a"], query=True)
    world.run()
    assert all(results(consumer).ok.all() for consumer in consumers)
    assert world.most_in_flight <= 3
    assert max(world.sizes) <= 7


def test_bounds_are_of_the_object_and_what_is_learnt_is_of_the_key():
    world = World(lambda texts, world: quick(texts), latency=1, batch_size=1)
    for user in ("one", "other"):
        world.start(names(20, user), user=user, max_concurrency=3)
    world.start(names(20, "open"), user="third")
    world.run()
    assert sum(moment == START for moment in world.times) == 3 + 3 + FIRST_SLOTS
    for user, most in (("one", 3), ("other", 3)):
        first = [texts for moment, texts in world.sent if moment == START and texts[0].startswith(user)]
        assert len(first) == most
    world = World(Account(2), latency=1, refusing=0.05, batch_size=1)
    for user in ("one", "other"):
        world.start(names(50, user), user=user, max_concurrency=3)
    world.wait(10)
    assert world.limits.slots.limit <= 3
    assert world.in_flight <= 3


# Batches


def test_a_small_job_goes_in_one_request_and_a_large_one_over_all_slots():
    world = World(lambda texts, world: quick(texts))
    world.embed(names(SMALL))
    assert world.sizes == [SMALL]
    world.sent.clear()
    world.embed(names(FIRST_SLOTS * 50))
    assert world.sizes == [50] * FIRST_SLOTS


def test_batches_are_as_small_as_the_fixed_time_of_a_request_allows():
    world = World(lambda texts, world: quick(texts), latency=lambda items: 0.02 + 0.01 * items)
    for count in (5, 50, 20, 200):
        world.embed(names(count))
    world.sent.clear()
    world.embed(names(40))
    assert world.sizes == [5] * 8, "0.07 s, where one request would take 0.42 s"


@pytest.mark.parametrize(("fixed", "per_item"), [(0.1, 0.001), (0.1, 0.01), (1.0, 0.01), (0.01, 0.02)])
def test_the_times_of_requests_are_fitted(fixed, per_item):
    latency = Latency()
    assert latency.smallest == SMALL, "nothing is known yet"
    shaken = random.Random(1)
    for _ in range(50):
        items = shaken.choice([1, 8, 32, 100, 256])
        latency.add(items, (fixed + per_item * items) * shaken.uniform(0.98, 1.02))
    exact = min(2 * SMALL, max(1, fixed / per_item / 4))
    assert abs(latency.smallest - exact) <= max(1, 0.5 * exact)


def test_a_fit_follows_a_service_that_changes():
    latency = Latency()
    for fixed in (1.0, 0.02):
        for number in range(200):
            items = 1 + number % 50
            latency.add(items, fixed + 0.01 * items)
    assert latency.smallest == 1


def test_times_of_one_size_say_nothing_about_others():
    latency = Latency()
    for _ in range(100):
        latency.add(40, 0.3)
    assert latency.smallest == SMALL


@pytest.mark.parametrize("waiting", [1, 31, 100, 4_000])
@pytest.mark.parametrize("slots", [1, 8, math.inf])
def test_shares_take_up_all_that_waits(waiting, slots):
    share = share_of(waiting, slots, 10)
    assert share >= 10
    assert share * slots >= waiting


def test_a_batch_keeps_to_all_limits_and_what_exceeds_one_alone_goes_alone():
    world = World(tokens_per_minute=1_000)
    consumer = world.join(names(3))

    def sizes(*items, cap=math.inf, options=None):
        consumer.config = world.config.replace(**(options or {"tokens_per_minute": None}))
        waiting, found = list(items), []
        while waiting:
            batch = Batch(cap, None)
            batch.fill(consumer, waiting)
            found.append(len(batch.items))
            waiting = waiting[found[-1] :]
        return found

    def item(size=1, tokens=1):
        made = item_of(consumer, 0, "text", tokens)
        made.size = size
        return made

    assert sizes(*[item() for _ in range(1_100)]) == [MAX_BATCH, MAX_BATCH, 1_100 - 2 * MAX_BATCH]
    assert sizes(*[item(size=USUAL.most_bytes // 3)] * 7) == [3, 3, 1]
    assert sizes(*[item(tokens=BATCH_TOKENS // 4)] * 9) == [4, 4, 1]
    assert sizes(item(), item(size=2 * USUAL.most_bytes), item(tokens=2 * BATCH_TOKENS), item()) == [1, 1, 1, 1]
    assert sizes(*[item(tokens=300)] * 7, options={"tokens_per_minute": 1_000}) == [3, 3, 1]
    assert sizes(*[item()] * 7, cap=3) == [3, 3, 1]
    assert sizes(*[item()] * 7, options={"batch_size": 2}) == [2, 2, 2, 1]


def test_too_large_a_request_lowers_the_cap_and_it_heals():
    most = 100
    world = World(lambda texts, world: quick(texts) if len(texts) <= most else refusal(413), latency=0.1)
    world.embed(names(8_000), max_concurrency=FIRST_SLOTS)
    refused = [size for size in world.sizes if size > most]
    first = FIRST_SLOTS * (1 + 2 + 4)  # of 512, 256 and 128, by those who were under way
    assert len(refused) - first <= FIRST_SLOTS * math.log2(len(world.sizes) / 16), "growth in vain gets rarer"
    assert world.limits.batch.items <= 2 * most
    most = 512
    world.sent.clear()
    world.embed(names(30_000))
    assert world.limits.batch.items >= MAX_BATCH
    world.embed(names(MAX_BATCH), batch_size=MAX_BATCH)
    assert world.sizes[-1] == MAX_BATCH


def test_a_timeout_of_a_batch_lowers_the_cap_too():
    world = World(latency=lambda items: 0.1 * items, timeout=20)
    check(world.embed(names(2_000)), names(2_000))
    assert world.limits.batch.items <= 256
    assert world.sizes[-1] <= 200


def test_one_slow_answer_lowers_no_cap_and_a_second_does():
    cap = BatchCap()
    cap.answer(64)
    cap.doubt(32)
    assert cap.items == math.inf
    cap.doubt(32)
    assert cap.items == 16
    cap.answer(16)
    cap.refuse(16)
    assert cap.items == 8, "a refusal says so itself"


@pytest.mark.parametrize("learnt", [False, True])
def test_where_requests_are_few_batches_are_full(learnt):
    world = World(lambda texts, world: quick(texts), requests_per_minute=None if learnt else 20)
    if learnt:
        world.service = fixed_windows(5)
        world.embed(names(40), batch_size=1)
        world.service = lambda texts, world: quick(texts)
    world.sent.clear()
    world.embed(names(4_000))
    assert world.sizes[:6] == [MAX_BATCH] * 6
    assert len(world.sizes) == 8
    world.sent.clear()
    world.embed(names(300))
    assert world.sizes == [300]


# Turns


@pytest.mark.parametrize("options", [{}, {"max_concurrency": 1}, {"batch_size": 32, "max_concurrency": 2}])
def test_a_query_beside_a_large_call_waits_for_one_request_at_most(options):
    world = World(lambda texts, world: quick(texts), latency=1, **options)
    bulk = world.start(names(40_000 if not options else 10_000))
    for seconds in (0.3, 0.6, 0.35):
        world.wait(seconds)
        begun = world.now
        assert not bulk.over.done()
        query = world.start(["a"], query=True)
        while not query.over.done():
            world.wait(0.05)
        assert world.now - begun <= 1 + 1 + 0.1
    world.hub.leave(bulk)


def test_calls_of_an_object_take_turns():
    world = World(lambda texts, world: quick(texts), latency=1, max_concurrency=1, batch_size=10)
    world.start(["x"])
    for name in "abc":
        world.start(names(50, name))
    world.run()
    assert "".join(texts[0][0] for _, texts in world.sent) == "x" + "abc" * 5


def test_objects_take_turns():
    """Where the key allows one request at once, no object waits until another has sent all that it has."""
    world = World(Account(1), latency=1, refusing=0.05, max_concurrency=4, batch_size=10)
    for name in "abc":
        world.start(names(200, name), user=name)
    world.wait(25)
    taken = "".join(texts[0][0] for _, texts in world.sent)[-9:]
    assert {taken.count(name) for name in "abc"} == {3}


def test_settings_take_turns():
    world = World(lambda texts, world: quick(texts), latency=1, max_concurrency=1, batch_size=10)
    world.start(["x"], truncate=True)
    for name, normalized in (("a", True), ("b", False)):
        world.start(names(50, name), normalized=normalized)
    world.run()
    assert "".join(texts[0][0] for _, texts in world.sent) == "x" + "ab" * 5


def test_a_batch_that_is_sent_again_goes_before_what_was_not_sent_yet():
    world = World(latency=1, max_concurrency=1, batch_size=1)
    world.service = lambda texts, world: refusal(503, retry_after="1.5") if len(world.sent) == 1 else honest(texts)
    world.embed(names(6))
    assert [texts[0] for _, texts in world.sent].index("text 0", 1) == 3


@pytest.mark.slow
@pytest.mark.parametrize("latency", [0.1, lambda items: 0.1 + 0.002 * items])
def test_a_thousand_queries_at_once_are_some_twenty_requests(latency):
    world = World(latency=latency)
    queries = [world.start([text], query=True) for text in names(1_000)]
    world.run()
    assert len(world.sent) <= 30
    assert world.now - START < 3
    for text, query in zip(names(1_000), queries, strict=True):
        check(results(query).unwrap()[None] if results(query).vectors.ndim == 1 else results(query).unwrap(), [text])


def one_call(world, count):
    consumer = world.join(names(1))
    return [item_of(consumer, number, "text") for number in range(count)]


def calls_of_an_object(world, count):
    return [item_of(world.join(names(1)), 0, "text") for _ in range(count)]


def objects(world, count):
    return [item_of(world.join(names(1), user=number, max_concurrency=1), 0, "text") for number in range(count)]


def objects_beside_a_large_call(world, count):
    large = world.join(names(1))
    return [*[item_of(large, number, "text") for number in range(40)], *objects(world, count)]


def calls_that_are_passed_over(world, count):
    """Their own `batch_size` is reached, as a call that is not so bound comes first."""
    large = world.join(names(1))
    small = [item_of(world.join(names(1), batch_size=8), 0, "text") for _ in range(count)]
    return [*[item_of(large, number, "text") for number in range(20)], *small]


@pytest.mark.slow
@pytest.mark.parametrize(
    "fill", [one_call, calls_of_an_object, objects, objects_beside_a_large_call, calls_that_are_passed_over]
)
@pytest.mark.parametrize("full", [long(False), True])
def test_picking_costs_about_the_batch_whatever_waits(fill, full):
    def steps(count):
        world, queue, found = World(), Queue(), 0
        for item in fill(world, count):
            queue.add([item])
        for _ in range(3):
            picked, batch = steps_of(partial(queue.select, lambda bounds: 1.0, 32, full=full))
            taken, _ = steps_of(queue.take, batch)
            assert 0 < len(batch) <= 32
            found += picked + taken
        return found

    assert steps(1_500) <= 1.2 * steps(300)


@pytest.mark.slow
def test_so_does_picking_what_is_sent_again():
    def steps(count):
        world, waiting, full, free = World(), RetryQueue(), Bounds(), Bounds()
        departures = [
            Departure([item_of(world.join(names(1)), 0, "text")], 1, lambda: None, bounds=[full]) for _ in range(count)
        ]
        departures.append(Departure([], 1, lambda: None, bounds=[free]))
        for departure in departures:
            waiting.add(departure)
        found, first = steps_of(waiting.first, lambda bounds: float(bounds is free))
        assert first is departures[-1]
        return found

    assert steps(1_500) == steps(300)


@pytest.mark.slow
def test_who_leaves_costs_what_it_has_waiting():
    def steps(count):
        world, queue = World(), Queue()
        for item in objects(world, count):
            queue.add([item])
        return steps_of(queue.remove, world.calls[count // 2])[0]

    assert steps(1_500) == steps(300)


def test_the_first_requests_of_a_large_job_are_small_so_that_slots_grow_sooner():
    world = World(latency=lambda items: 0.1 + 0.001 * items)
    world.embed(names(10_000))
    first = [len(texts) for moment, texts in world.sent if moment == START]
    assert first == [256] * 8
    assert max(world.sizes) == 512
    assert world.most_in_flight > 8


def test_a_job_that_fits_the_first_slots_goes_at_once():
    world = World(latency=1)
    world.embed(names(4_096))
    assert world.sizes == [512] * 8
    bound = World(latency=1, max_concurrency=8)
    bound.embed(names(5_000))
    assert bound.sizes[:8] == [512] * 8


def test_a_query_alone_goes_at_once():
    world = World()
    for text in names(5):
        begun = world.now
        world.embed([text], query=True)
        assert world.now == begun
    assert world.sizes == [1] * 5


def test_what_a_call_has_waiting_can_be_withdrawn_and_put_back():
    world = World(latency=1, max_concurrency=1, batch_size=2)
    consumer, other = world.start(names(6)), world.start(names(2, "other"))
    withdrawn = world.scheduler.withdraw(consumer)
    assert [[item.number for item in items] for _, items in withdrawn] == [[2, 3, 4, 5]]
    world.wait(5)
    assert other.over.done()
    assert len(world.sent) == 2
    for route, items in withdrawn:
        world.scheduler.add(route, items)
    world.scheduler.pump()
    world.run()
    check(results(consumer).unwrap(), names(6))


def test_a_call_that_leaves_takes_what_it_has_waiting_along():
    world = World(latency=1, max_concurrency=1, batch_size=2)
    consumer = world.start(names(100))
    world.wait(1.5)
    world.hub.leave(consumer)
    world.wait(10)
    assert len(world.sent) == 2
    assert world.scheduler.is_idle
    assert not world.scheduler.is_wanted


# Pace


def busiest_minute(times, costs=None):
    """Most requests, or most of their cost, that any 60 s hold."""
    costs = costs or [1] * len(times)
    return max(
        sum(cost for moment, cost in zip(times, costs, strict=True) if start <= moment < start + 60) for start in times
    )


@pytest.mark.parametrize("latency", [0, 0.7, 45])
def test_a_configured_request_rate_is_never_exceeded(latency):
    world = World(requests_per_minute=10, latency=latency, timeout=10_000, batch_size=1)
    world.embed(names(64))
    assert busiest_minute(world.times) == 10
    assert world.times[-1] - world.times[0] < 7 * 62 + 7 * latency, "and it is used"


def test_refusals_do_not_blur_a_configured_rate():
    """A refused request may not count, but what was sent in its place does, as long as it does."""
    world = World(requests_per_minute=10, latency=20, timeout=10_000, max_concurrency=4, batch_size=1)
    accepted = []

    def service(texts, world):
        if len(world.sent) % 3 == 0:
            return limit("CONCURRENCY")
        accepted.append(world.now)
        return honest(texts)

    world.service = service
    world.embed(names(64))
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
    world = World(tokens_per_minute=1000, latency=0.3, timeout=10_000, batch_size=3)
    world.embed(names(60), tokens=70)
    assert 700 < busiest_minute(world.times, [70 * len(texts) for _, texts in world.sent]) <= 1000


def test_what_exceeds_a_rate_alone_goes_into_an_empty_window():
    world = World(tokens_per_minute=100, timeout=10_000)
    check(world.embed(names(3), tokens=500), names(3))
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
    world = World(fixed_windows(30), latency=0.1, timeout=100_000, max_concurrency=4, batch_size=1)
    refused = []
    inner = world.service

    def counting(texts, world):
        reply = inner(texts, world)
        if reply.status == 429:
            refused.append(world.now)
        return reply

    world.service = counting
    texts = names(400)
    check(world.embed(texts), texts)
    assert len(refused) <= 8 * (world.now - START) / 60, "few requests a minute are refused"
    assert world.now - START < 400 / 30 * 60 * 1.1, "and what is allowed is used"


def test_a_window_that_others_filled_teaches_no_rate():
    """A second process, or the run before this one, has used up the minute."""
    world = World(
        lambda texts, world: limit("REQUEST") if world.now < 1030 else honest(texts), latency=0.1, batch_size=1
    )
    texts = names(100)
    check(world.embed(texts), texts)
    assert world.now - START < 80


def test_a_short_retry_after_teaches_no_rate():
    world = World(latency=0.1, batch_size=1)
    world.service = lambda texts, world: limit("REQUEST", retry_after="0.5") if len(world.sent) == 3 else honest(texts)
    texts = names(100)
    check(world.embed(texts), texts)
    assert world.now - START < 10


def test_a_learnt_rate_is_spent_evenly_and_forgotten_half_a_minute_after_the_service_accepts_again():
    window = Window()
    for second in range(10):
        window.book(1, second)
    window.learn(10)
    assert window.learnt == 10
    assert window.learnt_wait(1, 2 * WINDOW) == 0
    window.book(1, 200)
    assert window.learnt_wait(1, 200) == pytest.approx(SPREAD * WINDOW / 10)
    assert not window.forget(1_000), "while the service refuses, no time counts"
    window.accept(1_000, 0)
    window.accept(1_020, 0)
    assert not window.forget(1_000 + RATE_HOLD - 1)
    assert window.forget(1_000 + RATE_HOLD)
    assert window.learnt_wait(1, 1_000 + RATE_HOLD) == 0


def test_of_rates_that_differ_the_lowest_holds_while_its_call_does():
    world = World(lambda texts, world: quick(texts), latency=0.1, batch_size=1)
    slow = world.start(names(12, "slow"), user="slow", requests_per_minute=6)
    fast = world.start(names(100, "fast"), user="fast", requests_per_minute=600)
    world.wait(59)
    assert len(world.sent) == 6
    world.hub.leave(slow)
    world.run()
    assert results(fast).ok.all()
    assert world.now - START < 80


def test_who_cannot_wait_for_the_pace_is_told_at_once_and_others_wait():
    world = World(requests_per_minute=2, batch_size=1)
    bulk = world.start(names(4))
    world.wait(1)
    query = world.start(["a"], query=True)
    world.wait(0)
    assert world.now == START + 1
    with pytest.raises(RateLimitError, match="the next request may go in 60 s") as caught:
        results(query).unwrap()
    assert caught.value.retry_after == pytest.approx(60)
    world.run()
    check(results(bulk).unwrap(), names(4))
    assert "a" not in [texts[0] for _, texts in world.sent]


def test_a_query_waits_for_a_pace_that_lets_it_go_in_time():
    world = World(requests_per_minute=2, batch_size=1)
    world.start(names(2))
    world.wait(40)
    check(world.embed(["a"], query=True), ["a"])
    assert world.now - START == pytest.approx(WINDOW)


def test_requests_that_never_went_out_give_their_pace_back():
    world = World(requests_per_minute=3, max_retries=10, batch_size=1)
    world.service = lambda texts, world: honest(texts) if len(world.sent) > 5 else Failure("connect", "refused")
    check(world.embed(["a"]), ["a"])
    assert world.now - START < 60
    world.embed(names(2))
    assert world.now - START < 60
    assert world.meter.usage.requests == 3
    world.embed(["b"])
    assert world.now - START > 60


def test_a_request_that_is_broken_off_before_it_went_out_gives_its_pace_back():
    world = World(requests_per_minute=1)
    world.hub.leave(world.start(["a"]))
    world.wait(0)
    world.embed(["b"])
    assert world.now == START
    assert [texts for _, texts in world.sent] == [["b"]]


def test_limits_are_shared_by_key_and_address_and_by_nothing_else():
    def limits(**options):
        return shared_limits(Endpoint.of(EmbedderConfig(**{"api_key": "jina_shared", **options})))

    one = limits()
    assert limits(model="jina-clip-v1", max_concurrency=2) is one
    assert limits(api_key=" jina_shared\n") is one
    assert limits(base_url="https://api.jina.ai") is one
    assert limits(api_key="jina_other") is not one
    assert limits(base_url="https://example.org") is not one
