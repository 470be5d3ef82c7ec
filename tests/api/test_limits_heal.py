"""Limits heal: no window without success teaches, every wait has a cap, a floor and a probe, and a key is shared."""

import asyncio
import math
import random
import threading
from collections import Counter, deque
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinaclip import JinaClip
from jinaclip.backends.api.limits import LAST_PAUSE, LATEST, LONGEST_PAUSE, BatchCap, RateLimits
from jinaclip.backends.api.steps import Failure
from jinaclip.backends.api.verdicts import retry_after
from jinaclip.errors import RateLimitError
from tests import raw
from tests.api.world import START, Account, Process, World, limit, names, quick, refusal, results
from tests.needs import long

# Retry-After

DATE = "Fri, 27 Feb 1970 20:53:20 GMT"
UNREADABLE = [
    *[
        "",
        "-1",
        "-0",
        "0",
        "0.0",
        "00",
        "+5",
        "NaN",
        "inf",
        "-inf",
        "1e9",
        "0x10",
        "1_0",
        "5s",
        "5;6",
        "5, 7",
        "٣",
        "½",
    ],
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT",
    "Fri, 27 Feb 1970 20:53:19 GMT",
    "Fri, 99 Feb 1970 20:53:50 GMT",
    "Fri, 27 Feb 1970 20:53:50 +999999999999",
    *["9" * 5_000, "tomorrow", "Fri", ",", "\x00", "\xff\xfe"],
]
READABLE = {
    "1": 1,
    " 17 ": 17,
    "0.001": 0.001,
    "17.5": 17.5,
    "31536000": 31_536_000,
    "Fri, 27 Feb 1970 20:53:50 GMT": 30,
    "Fri, 27 Feb 1970 20:53:50 -0000": 30,
    "Fri, 27 Feb 1970 21:53:50 +0100": 30,
}


@pytest.mark.parametrize("value", UNREADABLE, ids=ascii)
def test_what_is_no_time_to_wait_is_as_if_absent(value):
    assert retry_after({"retry-after": value, "date": DATE}) is None


@pytest.mark.parametrize(("value", "seconds"), READABLE.items())
def test_seconds_and_dates_are_read(value, seconds):
    assert retry_after({"retry-after": value, "date": DATE}) == seconds


@pytest.mark.parametrize("date", [None, "", "now", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"])
def test_a_date_without_the_reply_s_own_is_as_if_absent(date):
    headers = {"retry-after": "Fri, 27 Feb 1970 20:53:50 GMT"} | ({} if date is None else {"date": date})
    assert retry_after(headers) is None


DATES = st.from_regex(
    r"[A-Z][a-z]{2}, [0-9]{1,3} [A-Z][a-z]{2} [0-9]{1,20} [0-9]{2}:[0-9]{2}:[0-9]{2} ([+-][0-9]{4}|GMT)"
)
HEADERS = st.text() | st.floats().map(str) | st.integers().map(str) | DATES


@given(value=HEADERS, date=HEADERS)
def test_any_header_gives_none_or_seconds(value, date):
    seconds = retry_after({"retry-after": value, "date": date})
    assert seconds is None or (math.isfinite(seconds) and seconds > 0)


ODD = ["31536000", "Mon, 01 Jan 9999 00:00:00 GMT", *UNREADABLE[:8], UNREADABLE[18]]


async def ask_twice(status, value):
    """Over sockets, once refused: the call and the next get their vectors, and nobody waits for a year."""
    headers = [("Retry-After", value.encode("utf-8").decode("latin-1")), ("Date", DATE)]
    with raw.serving() as server:
        server.respond = lambda asked: raw.refusal(status, headers=headers) if asked.number == 0 else raw.right(asked)
        async with JinaClip(base_url=server.url, api_key="jina_test", dimensions=raw.WIDTH) as clip:
            assert raw.are_vectors_of(["a"], await clip.aembed_documents(["a"])).all(), value
            assert raw.are_vectors_of(["b"], (await clip.aembed_query("b"))[None]).all(), value
        assert len(server.asked) == 3, value
        assert server.asked[1].at - server.asked[0].at < 30, f"a wait of about a second, not {value!r}"


@pytest.mark.slow
@pytest.mark.parametrize("status", [429, 503])
async def test_a_service_that_is_well_again_is_found_whatever_it_asked_for_and_the_wait_is_told(status, caplog):
    caplog.set_level("INFO", "jinaclip")
    await asyncio.gather(*(ask_twice(status, value) for value in ODD))
    waits = [record for record in caplog.records if record.getMessage().startswith("waiting")]
    assert len(waits) == len(ODD) * (status == 429)


def test_two_headers_are_as_if_absent():
    headers = [("Retry-After", "31536000"), ("Retry-After", "-7")]
    with raw.serving() as server:
        server.respond = lambda asked: raw.refusal(429, headers=headers) if asked.number == 0 else raw.right(asked)
        with JinaClip(base_url=server.url, api_key="jina_test", dimensions=raw.WIDTH) as clip:
            assert raw.are_vectors_of(["a"], clip.embed_documents(["a"])).all()


@pytest.mark.parametrize("value", ["0.001", "0", "1e-9", None])
def test_however_short_a_retry_after_one_refused_request_a_second_is_the_most(value):
    headers = {} if value is None else {"retry_after": value}
    world = World(lambda texts, world: limit("REQUEST", **headers), batch_size=1, deadline=30, max_concurrency=4)
    calls = [world.start(names(50, name), user=name) for name in "abc"]
    world.run()
    for call in calls:
        with pytest.raises(RateLimitError):
            results(call).unwrap()
    assert world.now - START <= 30
    probes = [moment for moment in world.times if moment > START]
    assert len(probes) <= 30
    assert len(world.sent) - len(probes) <= 12, "what was in flight when the first was refused"
    assert all(later - first >= 1 for first, later in pairwise(probes))


@pytest.mark.parametrize("seconds", ["31536000", "121", None])
def test_a_key_that_was_refused_is_asked_again_by_each_of_many_later_calls(seconds):
    headers = {} if seconds is None else {"retry_after": seconds}
    world = World(lambda texts, world: limit("REQUEST", **headers))
    for _ in range(40):
        world.start(["a"], query=True)
        world.wait(10)
    asked = len(world.sent)
    assert asked >= 400 / (LATEST * LAST_PAUSE + 10), "now and then a probe"
    world.service = lambda texts, world: quick(texts)
    well = world.now
    while world.now < well + 60:
        query = world.start(["a"], query=True)
        world.wait(1)
        if query.over.done() and results(query).ok.all():
            break
    assert world.now - well <= LATEST * LAST_PAUSE + 1


def test_calls_that_were_there_all_the_time_end_together_and_not_one_after_the_other():
    world = World(lambda texts, world: limit("REQUEST"), timeout=10)
    for number in range(20):
        world.start(["a"], user=number, max_concurrency=1, truncate=number % 2 == 0)
    world.run()
    assert world.now - START < 2 * 50


# What teaches nothing


def test_what_the_user_set_is_a_floor_for_what_is_learnt():
    """The first burst is refused, and the probe; then all is well: five hundred go within the minute."""
    world = World(requests_per_minute=500, latency=0.2, batch_size=1)
    world.service = lambda texts, world: limit("REQUEST") if len(world.sent) <= 9 else quick(texts)
    world.start(names(500))
    world.wait(60)
    assert len(world.sent) - 9 == 500


@pytest.mark.parametrize("scope", ["REQUEST", "TOKEN"])
def test_a_window_without_success_teaches_no_rate(scope):
    """After an hour of work everything is refused for longer than a window, but for nothing."""
    world = World(lambda texts, world: quick(texts), latency=2, batch_size=1, max_concurrency=8)
    world.start(names(3_000))
    world.wait(100)
    world.service = lambda texts, world: limit(scope)
    world.wait(75)
    learnt = min(world.limits._requests.learnt, world.limits._tokens.learnt)
    assert learnt > 200, "the pace of before, if any"
    world.hub.leave(world.calls[0])


# After an outage

OUTAGES = {
    "429 of requests": lambda: limit("REQUEST"),
    "429 of slots, a year": lambda: limit("CONCURRENCY", retry_after="31536000"),
    "503": lambda: refusal(503),
    "connections refused": lambda: Failure("connect", "refused"),
}
MORE_OUTAGES = {
    "429 of tokens": lambda: limit("TOKEN"),
    "429 of slots": lambda: limit("CONCURRENCY"),
    "429 without a word": lambda: refusal(429),
    "503, a day": lambda: refusal(503, retry_after="86400"),
    "504": lambda: refusal(504),
    "connections cut": lambda: Failure("broken", "cut"),
    "no answers": lambda: Failure("timeout", "ReadTimeout"),
}


def work(world, seconds):
    """Jobs one after the other, whatever becomes of each."""
    end = world.now + seconds
    while world.now < end:
        call = world.start(names(400), batch_size=4)
        while not call.over.done() and world.now < end:
            world.wait(0.5)
        world.calls.remove(call)
        world.hub.leave(call)


@pytest.mark.slow
@pytest.mark.parametrize(
    "outage", [*OUTAGES.values(), *map(long, MORE_OUTAGES.values())], ids=[*OUTAGES, *MORE_OUTAGES]
)
def test_a_minute_after_an_outage_the_speed_is_that_of_before(outage):
    random.seed(3)
    world = World(lambda texts, world: quick(texts), latency=1, timeout=5, max_concurrency=8)
    work(world, 80)
    world.service = lambda texts, world: outage()
    work(world, 75)
    world.service = lambda texts, world: quick(texts)
    work(world, 80)
    before = sum(START + 60 <= moment < START + 80 for moment in world.times)
    after = sum(START + 215 <= moment < START + 235 for moment in world.times)
    assert after >= 0.9 * before > 0


def test_a_minute_without_failures_fills_the_reserve_of_retries():
    now = [0.0]
    limits = RateLimits(clock=lambda: now[0])
    while limits.may_retry():
        now[0] += 1
    now[0] += 50
    assert not limits.may_retry()
    now[0] += 70
    assert limits.may_retry()


def test_where_nothing_is_answered_it_is_not_the_size():
    cap = BatchCap()
    for size in (512, 256, 128, 64):
        cap.doubt(size)
    assert cap.items == 256


# Two processes on one key


class Minute:
    """A service that allows so much in each minute of its clock, or in any 60 s."""

    def __init__(self, most, kind, *, sliding):
        self.most, self.kind, self.sliding = most, kind, sliding
        self.taken = deque()

    def __call__(self, texts, world):
        cost = 1 if self.kind == "REQUEST" else 100 * len(texts)
        begin = world.now - 60 if self.sliding else (world.now + 17) // 60 * 60 - 17
        while self.taken and self.taken[0][0] < begin:
            self.taken.popleft()
        if sum(cost for _, cost in self.taken) + cost > self.most:
            return limit(self.kind)
        self.taken.append((world.now, cost))
        return quick(texts)


def shares(service, *, latency, lead, seed, count, **options):
    """What each of two processes gets of `count` items within five windows; the second comes so much later."""
    random.seed(seed)
    world = World(service, latency=latency, refusing=0.05, timeout=100, **{"batch_size": 10, **options})
    got = Counter()

    def counting(texts, world):
        reply = service(texts, world)
        got[texts[0][0]] += reply.status == 200 and world.now >= START + lead
        return reply

    world.service = counting
    world.start(names(count, "a"), tokens=100)
    world.wait(lead)
    world.start(names(count, "b"), tokens=100, process=Process(world))
    world.wait(5 * 61)
    for call in list(world.calls):
        world.hub.leave(call)
    world.wait(5)
    return [got["a"] / got.total(), got["b"] / got.total()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "sliding", "lead"),
    [
        ("REQUEST", True, 0),
        ("TOKEN", False, 70),
        *(long("REQUEST", *case) for case in [(True, 70), (False, 0), (False, 70)]),
        *(long("TOKEN", *case) for case in [(True, 70), (True, 0), (False, 0)]),
    ],
)
def test_two_processes_on_one_key_get_a_quarter_each(kind, sliding, lead):
    """Chance decides who comes first in a window, so it is the mean of some runs, none of which leaves one without."""
    found = [
        min(
            shares(
                Minute(30 if kind == "REQUEST" else 30_000, kind, sliding=sliding),
                latency=0.3,
                lead=lead,
                seed=seed,
                count=2_000,
            )
        )
        for seed in range(3)
    ]
    print(kind, sliding, lead, found)
    assert sum(found) / len(found) >= 0.25, found
    assert min(found) >= 0.1, found


def slot_shares(most, seed, *, lead, seconds):
    """The smaller share of slots, of requests that take about so many seconds."""
    options = {"latency": lambda _: seconds * random.uniform(0.8, 1.2), "batch_size": 1, "max_concurrency": 64}
    count = min(25_000, int(800 * most / seconds))
    return min(shares(Account(most), lead=lead, seed=seed, count=count, **options))


@pytest.mark.slow
@pytest.mark.parametrize("most", [2, long(8), long(50)])
@pytest.mark.parametrize("lead", [long(0), 70])
def test_two_processes_under_a_limit_of_slots_get_a_quarter_each(most, lead):
    found = [slot_shares(most, seed, lead=lead, seconds=2) for seed in range(2)]
    assert sum(found) / len(found) >= 0.25, found
    assert min(found) >= 0.2, found


@pytest.mark.long
@pytest.mark.parametrize("most", [2, 8, 50])
@pytest.mark.parametrize("lead", [0, 70])
@pytest.mark.parametrize("seconds", [0.5, 2])
def test_so_they_do_in_many_runs(most, lead, seconds):
    found = [slot_shares(most, seed, lead=lead, seconds=seconds) for seed in range(5)]
    print([f"{share:.2f}" for share in found])
    assert sum(found) / len(found) >= 0.25, found
    assert min(found) >= 0.2, found


def unruly(texts, world):
    """Refuses at random, for too many requests at once above all: soon one slot is left, and given to others too."""
    chance = random.random()
    if chance < 0.2:
        return limit("CONCURRENCY")
    if chance < 0.3:
        return limit("REQUEST", retry_after="0.001")
    return refusal(409) if chance < 0.4 else quick(texts)


@pytest.mark.parametrize("seed", range(4))
def test_a_call_goes_on_when_its_only_slot_was_left_to_others_and_shorter_waits_fell_into_that(seed):
    random.seed(seed)
    world = World(unruly, latency=0.01, max_concurrency=8, batch_size=4, max_retries=4)
    consumer = world.start(names(1000))
    world.run()
    assert results(consumer).ok.all()


TROUBLE = (
    limit("CONCURRENCY"),
    limit("CONCURRENCY", retry_after="1"),
    limit("REQUEST", retry_after="0.001"),
    limit("TOKEN"),
    refusal(409),
    refusal(500),
    refusal(503, retry_after="2"),
    Failure("timeout", "ReadTimeout"),
)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100))
def test_no_mixture_of_troubles_brings_calls_to_a_standstill(seed):
    random.seed(seed)
    weights = [random.random() * random.choice([0, 1]) for _ in TROUBLE]
    share = random.choice([0.1, 0.3, 0.5]) if any(weights) else 0.0

    def serve(texts, world):
        return random.choices(TROUBLE, weights)[0] if random.random() < share else quick(texts)

    world = World(
        serve,
        latency=random.choice([0.0, 0.01, 0.5, 3.0]),
        refusing=random.choice([None, 0.0, 0.05]),
        max_concurrency=random.choice([None, 1, 2, 8]),
        batch_size=random.choice([None, 1, 4]),
        max_retries=random.choice([0, 4]),
        timeout=10,
    )
    for moment in (random.random() for _ in range(3)):
        world.at(moment, world.start, names(random.choice([1, 30, 500])))
    world.wait(1)
    world.run()
    assert all(call.over.done() for call in world.calls)


@pytest.mark.slow
@pytest.mark.parametrize("most", [1, 2, 8, long(50)])
def test_what_is_left_to_others_costs_who_is_alone_a_twentieth_at_most(most):
    random.seed(0)
    account = Account(most)
    world = World(account, latency=2, refusing=0.05, timeout=100, batch_size=1, max_concurrency=64)
    call = world.start(names(200 * most))
    world.wait(300)
    assert account.at_work(START + 20, world.now, 2) >= 0.95 * most
    world.hub.leave(call)
    world.wait(5)


# Objects of different max_concurrency on one key


def throughput(seconds, options, *, account=None):
    """Requests that each of some objects gets answered in so many seconds of endless work."""
    world = World(account or (lambda texts, world: quick(texts)), latency=2, refusing=0.05, batch_size=1)
    for name, most in options.items():
        world.start(names(1_500, name), user=name, max_concurrency=most)
    world.wait(seconds)
    answered = Counter(texts[0].split()[0] for moment, texts in world.sent)
    for call in list(world.calls):
        world.hub.leave(call)
    world.wait(1)
    return answered


@pytest.mark.slow
def test_objects_of_small_and_large_max_concurrency_do_not_slow_each_other_down():
    together = throughput(30, {"small": 1, "large": 16, "open": None})
    for name, most in (("small", 1), ("large", 16), ("open", None)):
        alone = throughput(30, {name: most})
        assert together[name] >= 0.95 * alone[name]


def test_under_a_limit_of_slots_the_small_one_costs_the_large_one_its_own_slot_alone():
    random.seed(0)
    together = throughput(120, {"small": 1, "large": 32}, account=Account(10))
    alone = throughput(120, {"large": 32}, account=Account(10))
    assert together["large"] >= 0.95 * (alone["large"] - together["small"])
    assert together["small"] >= 0.8 * 120 / 2 * 0.5


def test_over_sockets_an_object_of_one_slot_leaves_the_others_theirs():
    """The service answers once 1 + 6 requests have met: so many are in flight, or nobody gets an answer."""
    meeting = threading.Barrier(7)

    def respond(asked):
        meeting.wait(30)
        return raw.right(asked)

    with raw.serving(respond) as server:
        options = {"base_url": server.url, "api_key": "jina_test", "dimensions": raw.WIDTH, "batch_size": 1}
        small, large = JinaClip(max_concurrency=1, **options), JinaClip(max_concurrency=6, **options)
        worker = threading.Thread(target=small.embed_documents, args=(names(3, "small"),))
        worker.start()
        rows = large.embed_documents(names(18, "large"))
        worker.join(60)
        assert not worker.is_alive()
        assert raw.are_vectors_of(names(18, "large"), rows).all()
        small.close()
        large.close()


def test_the_longest_wait_is_that_of_the_longest_retry_after():
    world = World(lambda texts, world: limit("REQUEST", retry_after="120") if len(world.sent) == 1 else quick(texts))
    world.embed(["a"])
    assert world.now - START <= LATEST * LONGEST_PAUSE
