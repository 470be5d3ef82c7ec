"""What is let in, what is refused and with which words and times, and that everything is given back."""

import random
from contextlib import ExitStack

import pytest

from jinaclip.server.admission import Admission
from jinaclip.server.keys import Key
from jinaclip.server.refusals import Refused
from jinaclip.server.settings import Settings

ANYBODY, OTHER = Key("anybody"), Key("other")


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def admission(clock, **settings):
    return Admission(Settings(**{"max_body": 100, "max_memory": 400, "max_queue": 40, **settings}), clock)


def refusal(call, *arguments):
    with pytest.raises(Refused) as caught, ExitStack() as entered:
        result = call(*arguments)
        if hasattr(result, "__enter__"):
            entered.enter_context(result)
    return caught.value


def held(admission):
    return admission.requests, admission.depth, admission.bytes


def test_a_request_counts_until_it_leaves(clock):
    door = admission(clock)
    with door.enter(ANYBODY, 10) as admitted:
        admitted.read(10)
        admitted.hold(3)
        admitted.hold_bytes(50)
        assert held(door) == (1, 3, 60)
        admitted.release_items()
        assert held(door) == (1, 0, 60)
    assert held(door) == (0, 0, 0)


def test_a_request_that_fails_leaves_nothing(clock):
    door = admission(clock)
    with pytest.raises(RuntimeError), door.enter(ANYBODY, 10) as admitted:
        admitted.read(10)
        admitted.hold(3)
        raise RuntimeError
    assert held(door) == (0, 0, 0)


def test_a_key_with_two_slots_has_two_requests_in_flight(clock):
    door, key = admission(clock), Key("small", slots=2)
    with door.enter(key, 1), door.enter(key, 1):
        refused = refusal(door.enter, key, 1)
        assert (refused.status, refused.code) == (429, "RATE_CONCURRENCY_LIMIT_EXCEEDED")
        assert refused.retry_after == 1
        with door.enter(OTHER, 1):
            pass
    with door.enter(key, 1):
        pass


def test_a_minute_has_as_many_requests_as_the_key_says(clock):
    door, key = admission(clock), Key("slow", requests_per_minute=2)
    for pause in (0, 20):
        clock.now += pause
        with door.enter(key, 1):
            pass
    clock.now += 10
    refused = refusal(door.enter, key, 1)
    assert (refused.status, refused.code) == (429, "RATE_REQUEST_LIMIT_EXCEEDED")
    assert refused.retry_after == 30
    clock.now += refused.retry_after
    with door.enter(key, 1):
        pass
    assert refusal(door.enter, key, 1).retry_after == 20


def test_refused_requests_use_up_no_minute(clock):
    door, key = admission(clock), Key("slow", slots=1, requests_per_minute=2)
    with door.enter(key, 1):
        for _ in range(5):
            assert refusal(door.enter, key, 1).code == "RATE_CONCURRENCY_LIMIT_EXCEEDED"
        assert refusal(door.enter, key, 101).status == 413
    with door.enter(key, 1):
        pass


def test_a_body_too_large_is_refused_before_it_is_read(clock):
    refused = refusal(admission(clock).enter, ANYBODY, 101)
    assert refused.status == 413
    assert "101 bytes" in refused.message
    assert "takes 100" in refused.message


def test_a_body_that_says_nothing_is_measured_as_it_comes(clock):
    door = admission(clock)
    with door.enter(ANYBODY, None) as admitted:
        admitted.read(100)
        assert refusal(admitted.read, 1).status == 413
    assert held(door) == (0, 0, 0)


def test_what_is_announced_and_does_not_come_takes_nothing_from_others(clock):
    door = admission(clock)
    with ExitStack() as lorises:
        for _ in range(1000):
            lorises.enter_context(door.enter(ANYBODY, 100))
        with door.enter(OTHER, 100) as admitted:
            admitted.read(100)
            assert door.bytes == 100


def test_memory_has_an_end_and_a_newcomer_finds_room(clock):
    door = admission(clock)
    with ExitStack() as greedy:
        for _ in range(2):
            greedy.enter_context(door.enter(ANYBODY, 100)).read(100)
        refused = refusal(door.enter, ANYBODY, 100)
        assert (refused.status, refused.code) == (429, "RATE_CONCURRENCY_LIMIT_EXCEEDED")
        with door.enter(OTHER, 100) as admitted:
            admitted.read(100)
            assert door.bytes == 300
            assert refusal(admitted.read, 1).status == 413


def test_bytes_that_came_without_being_announced_end_too(clock):
    door = admission(clock)
    with ExitStack() as all_of_them:
        several = [all_of_them.enter_context(door.enter(ANYBODY, None)) for _ in range(5)]
        for admitted in several[:2]:
            admitted.read(100)
        refused = refusal(several[2].read, 100)
        assert refused.status == 429
        assert refused.retry_after is not None


def test_answers_that_nobody_reads_count(clock):
    door = admission(clock)
    with door.enter(ANYBODY, 10) as admitted:
        admitted.hold_bytes(1000)
        assert refusal(door.enter, OTHER, 10).status == 429


def test_the_queue_has_an_end_and_a_newcomer_finds_room(clock):
    door = admission(clock)
    with door.enter(ANYBODY, 1) as first, door.enter(ANYBODY, 1) as second, door.enter(OTHER, 1) as other:
        first.hold(20)
        refused = refusal(second.hold, 5)
        assert (refused.status, refused.code) == (429, "RATE_CONCURRENCY_LIMIT_EXCEEDED")
        other.hold(10)
        assert door.depth == 30
    assert door.depth == 0


def test_one_request_goes_whatever_its_size(clock):
    door = admission(clock, max_queue=40)
    with door.enter(ANYBODY, 1) as admitted:
        admitted.hold(500)
        with door.enter(OTHER, 1) as second:
            assert refusal(second.hold, 1).status == 429


def test_the_pause_asked_for_follows_the_speed_of_the_server(clock):
    door = admission(clock, max_queue=1000)
    for _ in range(10):
        with door.enter(OTHER, 1) as admitted:
            admitted.hold(100)
        clock.now += 1
    with door.enter(ANYBODY, 1) as first, door.enter(ANYBODY, 1) as second:
        first.hold(900)
        assert refusal(second.hold, 100).retry_after == pytest.approx(4.5, abs=0.5)
    clock.now += 100
    with door.enter(ANYBODY, 1) as first, door.enter(ANYBODY, 1) as second:
        first.hold(900)
        clock.now += 20
        assert refusal(second.hold, 100).retry_after == 30


@pytest.mark.parametrize("seed", range(3))
def test_whatever_comes_and_goes_the_limits_hold_and_all_is_given_back(clock, seed):
    door, draw = admission(clock), random.Random(seed)
    keys = [Key("a", slots=3), Key("b", requests_per_minute=50), Key("c")]
    under_way = []
    for _ in range(3000):
        clock.now += draw.random()
        if under_way and draw.random() < 0.5:
            under_way.pop(draw.randrange(len(under_way))).close()
            continue
        stack = ExitStack()
        try:
            admitted = stack.enter_context(door.enter(draw.choice(keys), draw.choice([None, 10, 90, 200])))
            under_way.append(stack)
            admitted.read(draw.randrange(110))
            admitted.hold(draw.randrange(1, 30))
        except Refused as refused:
            assert refused.status in (413, 429)
            assert refused.status == 413 or 0 < (refused.retry_after or 0) <= 60
        assert door.bytes <= 400
        assert door.depth <= 40
    for stack in under_way:
        stack.close()
    assert held(door) == (0, 0, 0)
