"""What those who watch are told of waits, by a hand clock: each of them once, with its reason and its length."""

import logging
import random

import pytest

from jinaclip import telemetry
from jinaclip.telemetry import RequestRetried, Waiting
from tests.api.world import START, World, honest, limit, names, quick, refusal, scripted


@pytest.fixture(autouse=True)
def events():
    seen = []
    telemetry.set_hooks(telemetry.log_event, seen.append)
    yield seen
    telemetry.set_hooks(None)


def waits(events, *, besides=("slots",)):
    return [event for event in events if isinstance(event, Waiting) and event.reason not in besides]


def infos(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]


@pytest.mark.parametrize("callers", [1, 50])
@pytest.mark.parametrize("refused", [1, 8])
def test_a_pause_of_a_minute_is_one_wait_whoever_shares_it(events, caplog, callers, refused):
    caplog.set_level(logging.INFO, "jinaclip")
    random.seed(callers)
    world = World(scripted(*[limit("REQUEST", retry_after="61")] * refused), latency=lambda items: 0.01 * items)
    for caller in range(callers):
        world.start(names(1_000 // callers, f"of {caller}"))
    world.run()
    (wait,) = waits(events)
    assert wait.reason == "rate limit of the service"
    assert 60 < wait.seconds < 61 * 1.1
    assert START < wait.until - wait.seconds < START + 10
    assert len(infos(caplog)) == 1


def test_a_second_refusal_is_a_second_wait(events):
    world = World(scripted(limit("REQUEST", retry_after="61"), limit("REQUEST", retry_after="5"), honest(["text 0"])))
    world.embed(names(1))
    assert [round(wait.seconds) // 5 * 5 for wait in waits(events)] in ([60, 5], [65, 5])


@pytest.mark.parametrize("option", ["requests_per_minute", "tokens_per_minute"])
def test_the_caller_s_own_limits_are_named(events, caplog, option):
    caplog.set_level(logging.INFO, "jinaclip")
    world = World(lambda texts, world: quick(texts), batch_size=1, **{option: 10})
    world.embed(names(35))
    assert {wait.reason for wait in waits(events)} == {option}
    assert len(waits(events)) == 3, "one for each full minute"
    assert len(infos(caplog)) == 3


def test_a_limit_that_was_learnt_is_the_service_s(events):
    world = World(batch_size=1)
    world.limits._requests.learnt = 10
    world.service = lambda texts, world: quick(texts)
    world.embed(names(15))
    assert {wait.reason for wait in waits(events)} == {"rate limit of the service"}


def test_the_pause_before_a_retry_is_a_wait(events, caplog):
    caplog.set_level(logging.INFO, "jinaclip")
    world = World(scripted(refusal(503, retry_after="7"), refusal(503)))
    world.embed(names(3))
    first, second = waits(events)
    assert (first.reason, first.seconds) == ("retry", 7)
    assert second.seconds <= 1
    retries = [event for event in events if isinstance(event, RequestRetried)]
    assert [(event.reason, event.items) for event in retries] == [("HTTP 503", 3)] * 2
    assert [event.seconds for event in retries] == [first.seconds, second.seconds]
    assert len(infos(caplog)) == 1


def test_a_process_that_stood_still_says_so(events):
    world = World(latency=lambda items: 2 if len(world.sent) == 1 else 0)
    world.start(names(1))
    world.wait(1)
    world.freeze(600)
    world.run()
    retries = [event for event in events if isinstance(event, RequestRetried)]
    assert [(event.reason, event.seconds) for event in retries] == [("the process stood still", 0)]
    assert waits(events) == []


def test_a_busy_stretch_tells_once_that_all_slots_are_taken(events, caplog):
    caplog.set_level(logging.INFO, "jinaclip")
    world = World(lambda texts, world: quick(texts), latency=1, max_concurrency=2, batch_size=10)
    for _ in range(2):
        world.embed(names(500))
    assert [(event.reason, event.seconds, event.until) for event in waits(events, besides=())] == [
        ("slots", None, None)
    ] * 2
    assert infos(caplog) == []


def test_who_has_no_time_to_wait_is_no_wait(events):
    world = World(scripted(limit("REQUEST", retry_after="61")), deadline=10)
    consumer = world.start(names(3))
    world.run()
    assert consumer.call.stopped.done()
    assert waits(events) == []
