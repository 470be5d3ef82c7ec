"""What hooks are told by real calls, what the logger says, and what hooks that fail do: nothing."""

import asyncio
import logging
import signal
import sys
import threading
from contextvars import ContextVar
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jinaclip import ConfigError, JinaClip, telemetry
from jinaclip.telemetry import (
    BatchMerged,
    CallEnded,
    CallStarted,
    EnginePass,
    EventFilter,
    HostRefused,
    ImagesPrepared,
    RequestAnswered,
    RequestRetried,
    RequestSent,
    Waiting,
)
from tests.tiny import make_checkpoint

STARTED = CallStarted(1, "jina", "h", 443, "m", 8, "text", "query", 1)
EVENTS = [
    STARTED,
    replace(STARTED, host=None, kind="image", items=None),
    CallEnded(call=1, items=1, failed=0, tokens=5, hits=0, seconds=0.5, error=None),
    CallEnded(call=1, items=3, failed=2, tokens=5, hits=0, seconds=0.5, error="APITimeoutError"),
    RequestSent(number=1, host="h", model="m", items=1, callers=1, tokens=5, attempt=1),
    RequestSent(number=1, host="h", model="m", items=2, callers=1, tokens=5, attempt=2),
    RequestAnswered(number=1, host="h", model="m", items=2, status=200, tokens=5, seconds=0.5, error=None),
    RequestAnswered(number=1, host="h", model="m", items=2, status=None, tokens=0, seconds=9, error="APITimeoutError"),
    RequestRetried(host="h", items=2, reason="HTTP 503", seconds=0.5),
    Waiting(host="h", reason="retry", seconds=0.5, until=1.0),
    Waiting(host="h", reason="rate limit of the service", seconds=61.0, until=99.0),
    Waiting(host="h", reason="slots"),
    BatchMerged(items=5, callers=2),
    EnginePass(kind="text", rows=1, longest=7, callers=1, device="cpu", seconds=0.1),
    EnginePass(kind="image", rows=2, longest=0, callers=1, device="cpu", seconds=0.1),
    ImagesPrepared(images=2, pixels=3_000_000, seconds=0.1),
    HostRefused(host="h", reason="it cannot be resolved"),
]


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def lines(caplog, level=logging.INFO):
    return [record.getMessage() for record in caplog.records if record.name == "jinaclip" and record.levelno >= level]


# -- calls over the API


def test_a_call_tells_of_each_request_and_its_bill(jinaclip_client, jinaclip_server, events):
    clip = jinaclip_client(batch_size=10)
    results = clip.embed([f"text {number}" for number in range(25)])
    sent, answered = of(RequestSent, events), of(RequestAnswered, events)
    assert sorted(event.items for event in sent) == sorted(event.items for event in answered) == [5, 10, 10]
    assert [event.number for event in answered if event.status == 200] != []
    assert {event.number for event in sent} == {event.number for event in answered}
    assert len({event.number for event in sent}) == 3
    assert {(event.host, event.model) for event in [*sent, *answered]} == {
        (jinaclip_server.url.removeprefix("http://"), "jina-clip-v2")
    }
    assert sum(event.tokens for event in answered) == results.usage.tokens
    assert all(event.seconds > 0 and event.error is None for event in answered)
    assert all(event.callers == event.attempt == 1 for event in sent)


def test_a_failed_request_tells_why_it_is_sent_again(jinaclip_client, jinaclip_server, events):
    jinaclip_server.configure(script=["status_503", "reset_mid_body"])
    clip = jinaclip_client(batch_size=10)
    clip.embed_documents(["a", "b"])
    assert [event.reason for event in of(RequestRetried, events)] == ["HTTP 503", "the connection failed"]
    assert [event.attempt for event in of(RequestSent, events)] == [1, 2, 3]
    assert [(event.status, event.error) for event in of(RequestAnswered, events)] == [
        (503, "ServerError"),
        (None, "APIConnectionError"),
        (200, None),
    ]
    assert {event.reason for event in of(Waiting, events)} == {"retry"}


@pytest.mark.slow
async def test_calls_that_share_a_request_are_told_as_merged(jinaclip_client, events):
    clip = jinaclip_client()
    await asyncio.gather(*(clip.aembed_query(f"query {number}") for number in range(100)))
    merged = of(BatchMerged, events)
    assert merged
    assert all(event.items == event.callers > 1 for event in merged)
    assert sum(event.callers for event in of(RequestSent, events)) == 100


def test_a_rate_limit_gives_one_line_for_each_wait(jinaclip_client, jinaclip_server, caplog):
    """Not one for each request, call or item that waits."""
    caplog.set_level(logging.INFO, "jinaclip")
    jinaclip_server.configure(script=["retry_after_seconds"] * 4, retry_after=1.2)
    clip = jinaclip_client(batch_size=10, max_concurrency=4)
    threads = [
        threading.Thread(target=clip.embed_documents, args=([f"text {name} {number}" for number in range(100)],))
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (line,) = lines(caplog)
    assert line.startswith("waiting 1.")
    assert line.endswith(f"to {jinaclip_server.url.removeprefix('http://')}: rate limit of the service")


def test_a_call_tells_of_each_image(jinaclip_client, events):
    pictures = [Image.new("RGB", (640, 480), color) for color in ("red", "green", "blue")]
    jinaclip_client().embed_images(pictures)
    prepared = of(ImagesPrepared, events)
    assert [event.images for event in prepared] == [1, 1, 1]
    assert all(event.pixels >= 640 * 480 and event.seconds > 0 for event in prepared)


# -- calls as a whole

CALLER = ContextVar("caller", default="nobody")


def test_a_call_tells_that_it_begins_and_how_it_ended(jinaclip_client, jinaclip_server, events):
    clip = jinaclip_client(dimensions=256)
    results = clip.embed(["a", "b", ""])
    (started,), (ended,) = of(CallStarted, events), of(CallEnded, events)
    host = jinaclip_server.url.removeprefix("http://")
    port = int(host.rpartition(":")[2])
    assert started == CallStarted(started.call, "jina", host, port, "jina-clip-v2", 256, "item", "document", 3)
    assert (ended.call, ended.items, ended.failed, ended.error) == (started.call, 3, 1, None)
    assert ended.tokens == results.usage.tokens > 0
    assert [type(event) for event in (events[0], events[-1])] == [CallStarted, CallEnded]


def fail_as_an_item(clip):
    clip.embed_documents(["a", ""])


def fail_as_a_whole(clip):
    clip.embed(["a"]).unwrap()


def fail_in_the_iterator(clip):
    clip.embed(str(1 // (2 - number)) for number in range(4))


@pytest.mark.parametrize(
    ("call", "error", "failed"),
    [
        (fail_as_an_item, "InputError", 2),
        (fail_as_a_whole, "AuthenticationError", 1),
        (fail_in_the_iterator, "ZeroDivisionError", None),
    ],
)
def test_a_call_that_fails_tells_the_class_of_what_it_raises(jinaclip_server, events, call, error, failed):
    with JinaClip(api_key="wrong", base_url=jinaclip_server.url) as clip, pytest.raises(Exception) as caught:
        call(clip)
    (ended,) = of(CallEnded, events)
    assert ended.error == error == type(caught.value).__name__
    assert failed is None or ended.failed == failed


async def test_a_call_that_is_cancelled_has_ended(jinaclip_client, jinaclip_server, events):
    jinaclip_server.configure(base_ms=60_000)
    sent, loop = asyncio.Event(), asyncio.get_running_loop()
    tell = EventFilter(lambda event: loop.call_soon_threadsafe(sent.set), RequestSent)
    telemetry.set_hooks(*telemetry.get_hooks(), tell)
    task = asyncio.create_task(jinaclip_client().aembed_query("a"))
    await sent.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [event.error for event in of(CallEnded, events)] == ["CancelledError"]


async def test_a_coroutine_that_is_collected_inside_a_hook_is_told_of_in_another_thread(
    jinaclip_client, jinaclip_server
):
    """The hook may hold a lock, which it would wait for in the same thread for ever."""
    jinaclip_server.configure(base_ms=60_000)
    left, inside, told, nested = jinaclip_client().aembed_query("a"), threading.local(), threading.Semaphore(0), []

    def hook(event: CallEnded) -> None:
        nested.append(getattr(inside, "is_busy", False))
        inside.is_busy = True
        if len(nested) == 1:
            left.close()  # as the collector does, whenever it likes
        inside.is_busy = False
        told.release()

    telemetry.set_hooks(EventFilter(hook, CallEnded))
    left.send(None)
    jinaclip_client().embed_documents([])
    assert told.acquire(timeout=30) and told.acquire(timeout=30)
    assert nested == [False, False]


def test_calls_are_told_in_the_context_of_the_caller_and_in_no_thread_of_theirs(jinaclip_client):
    seen = []

    def note(event):
        seen.append((CALLER.get(), threading.current_thread() is threading.main_thread()))

    telemetry.set_hooks(EventFilter(note, CallStarted, CallEnded))
    clip = jinaclip_client()
    CALLER.set("this test")
    clip.embed_query("a")
    asyncio.run(clip.aembed_query("b"))
    assert seen == [("this test", False)] * 4


class TimeLimit(Exception):
    """Of a host, raised by its signal handler."""


@pytest.mark.skipif(sys.platform == "win32", reason="no pthread_kill on this system")
@pytest.mark.parametrize("kind", [CallStarted, CallEnded])
def test_what_a_signal_handler_raises_while_a_hook_runs_is_the_host_s(jinaclip_client, caplog, kind):
    """It is not taken for an error of the hook's, which runs to its end."""

    def raise_limit(*_):
        raise TimeLimit

    def hook(event):
        seen.append(event)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    seen, before = [], signal.signal(signal.SIGUSR1, raise_limit)
    clip = jinaclip_client()
    clip.embed_query("a")
    telemetry.set_hooks(telemetry.log_event, EventFilter(hook, kind))
    try:
        with pytest.raises(TimeLimit):
            clip.embed_query("b")
    finally:
        telemetry.set_hooks(None)
        signal.signal(signal.SIGUSR1, before)
    assert [type(event) for event in seen] == [kind]
    assert lines(caplog, logging.WARNING) == []
    assert clip.embed_query("c").shape == (1024,)


@pytest.mark.skipif(sys.platform == "win32", reason="no pthread_kill on this system")
def test_a_call_that_is_interrupted_while_its_beginning_is_told_has_ended(jinaclip_client):
    """Its end is told once all hooks know of its beginning; the caller waits for none of them."""

    def hook(event):
        if isinstance(event, CallStarted):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            has_left.wait(30)
        seen.append(event)
        told.release()

    seen, told, has_left = [], threading.Semaphore(0), threading.Event()
    clip = jinaclip_client()
    telemetry.set_hooks(EventFilter(hook, CallStarted, CallEnded))
    with pytest.raises(KeyboardInterrupt):
        clip.embed_query("a")
    has_left.set()
    assert told.acquire(timeout=30) and told.acquire(timeout=30)
    begun, ended = seen
    assert (type(begun), type(ended), ended.error) == (CallStarted, CallEnded, "KeyboardInterrupt")
    assert ended.call == begun.call


def test_each_retry_names_its_calls(jinaclip_client, jinaclip_server, events):
    jinaclip_server.configure(script=["status_503"])
    clip = jinaclip_client()
    clip.embed_query("a")
    (started,), (retried,) = of(CallStarted, events), of(RequestRetried, events)
    assert retried.calls == (started.call,)


def test_a_call_that_comes_to_wait_is_told_of_and_not_logged(jinaclip_client, jinaclip_server, events, caplog):
    caplog.set_level(logging.INFO, "jinaclip")
    telemetry.set_hooks(*telemetry.get_hooks(), telemetry.log_event)
    jinaclip_server.configure(script=["retry_after_seconds"], retry_after=1.5)
    clip = jinaclip_client()
    first = threading.Thread(target=clip.embed_documents, args=(["a"],))
    first.start()
    while not of(Waiting, events):
        assert first.is_alive()
    clip.embed_documents(["b"])
    first.join()
    waits = [event for event in of(Waiting, events) if event.calls]
    assert [event.is_joined for event in waits] == [False, True]
    assert [event.calls for event in waits] == [(event.call,) for event in of(CallStarted, events)]
    assert waits[1].seconds <= waits[0].seconds
    assert len(lines(caplog)) == 1


def test_a_filter_hands_on_what_it_names_and_nothing_else_is_made(jinaclip_client, monkeypatch):
    seen, made = [], []
    telemetry.set_hooks(EventFilter(seen.append, RequestAnswered))
    emit = telemetry.emit
    monkeypatch.setattr(telemetry, "emit", lambda event: (made.append(event), emit(event)))
    jinaclip_client().embed_query("a")
    assert seen == made
    assert [type(event) for event in seen] == [RequestAnswered]


# -- calls on this machine


def test_the_engine_tells_of_each_pass(tmp_path, events):
    folder = make_checkpoint(tmp_path / "tiny", "v2")
    with JinaClip(str(folder), backend="local", device="cpu") as clip:
        clip.embed(["a text", "another text", Image.fromarray(np.zeros((8, 8, 3), np.uint8))])
    passes = of(EnginePass, events)
    assert {(event.kind, event.device) for event in passes} == {("text", "cpu"), ("image", "cpu")}
    assert sum(event.rows for event in passes) == 3
    assert all((event.longest > 0) == (event.kind == "text") for event in passes)
    assert all(event.callers == 1 and event.seconds > 0 for event in passes)
    assert [event.images for event in of(ImagesPrepared, events)] == [1]
    (started,), (ended,) = of(CallStarted, events), of(CallEnded, events)
    assert (started.provider, started.host, started.port) == ("jinaclip", None, None)
    assert ended.tokens > 0


# -- hooks


@pytest.mark.parametrize("error", [ValueError("on purpose"), asyncio.CancelledError(), SystemExit(3)], ids=repr)
def test_a_hook_that_raises_is_logged_once_and_hurts_no_call(jinaclip_client, caplog, error):
    seen = []

    def broken(event):
        raise error

    telemetry.set_hooks(broken, seen.append)
    clip = jinaclip_client()
    for text in ("a", "b", "c"):
        assert clip.embed_query(text).shape == (1024,)
    assert len(of(RequestAnswered, seen)) == 3
    (line,) = lines(caplog, logging.WARNING)
    assert "broken failed with " + type(error).__name__ in line


def test_hooks_that_are_swapped_while_calls_run_lose_no_call(jinaclip_client):
    clip = jinaclip_client(batch_size=1)
    done = threading.Event()

    def swap():
        while not done.is_set():
            telemetry.set_hooks(lambda event: None)
            telemetry.set_hooks()
            telemetry.set_hooks(None)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for number in range(20):
            assert clip.embed_documents([f"text {number} {part}" for part in range(10)]).shape == (10, 1024)
    finally:
        done.set()
        thread.join()


def test_hooks_are_given_back_and_the_default_returns():
    assert telemetry.get_hooks() == (telemetry.log_event,)
    seen = []
    telemetry.set_hooks(*telemetry.get_hooks(), seen.append)
    assert telemetry.get_hooks() == (telemetry.log_event, seen.append)
    assert telemetry.wants(RequestSent)
    telemetry.set_hooks()
    assert not telemetry.wants(Waiting)
    telemetry.set_hooks(None)
    assert telemetry.get_hooks() == (telemetry.log_event,)
    with pytest.raises(ConfigError, match="hook 1 is of type str"):
        telemetry.set_hooks(seen.append, "log")


def test_while_nobody_listens_no_event_is_made(jinaclip_client, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "jinaclip")
    made = []
    monkeypatch.setattr(telemetry, "emit", made.append)
    jinaclip_client().embed_query("a")
    assert made == []
    caplog.set_level(logging.DEBUG, "jinaclip")
    jinaclip_client().embed_query("b")
    assert [type(event) for event in made] == [CallStarted, RequestSent, RequestAnswered, CallEnded]


# -- the log


def test_the_default_hook_writes_a_sentence_for_every_event(caplog):
    caplog.set_level(logging.DEBUG, "jinaclip")
    for event in EVENTS:
        telemetry.emit(event)
    assert [record.levelname for record in caplog.records] == [
        "INFO" if isinstance(event, Waiting) and event.seconds == 61 else "DEBUG" for event in EVENTS
    ]
    assert lines(caplog, logging.DEBUG) == [
        "call 1: 1 text for m, h",
        "call 1: items for m, on this machine",
        "call 1: 1 item after 0.500 s, 5 tokens",
        "call 1: 3 items after 0.500 s, 2 failed, 5 tokens, APITimeoutError",
        "request 1 to h: 1 item, about 5 tokens",
        "request 1 to h: 2 items, about 5 tokens, attempt 2",
        "request 1: HTTP 200 after 0.500 s, 5 tokens billed",
        "request 1: no answer after 9.000 s, 0 tokens billed, APITimeoutError",
        "sending 2 items to h again in 0.5 s: HTTP 503",
        "waiting 0.5 s before the next request to h: retry",
        "waiting 61.0 s before the next request to h: rate limit of the service",
        "items for h wait: as many requests are in flight as may be",
        "5 items of 2 calls share a request",
        "cpu embedded 1 text of up to 7 tokens in 0.100 s",
        "cpu embedded 2 images in 0.100 s",
        "prepared 2 images of 3.0 megapixels in 0.100 s",
        "no image is fetched from h: it cannot be resolved",
    ]


TEXT, KEY, HEADER = "canary of a text", "jina_test_canary0123456789CANARY", "canary of a header"


ECHOES = ["bad_item_400", "reject_all_422", "too_many_422"]
"""Refusals that repeat the inputs."""


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*ECHOES, "status_500", "reset_mid_body", "retry_after_seconds"])
def test_no_record_holds_a_text_a_key_or_the_value_of_a_header(jinaclip_server, caplog, fault):
    caplog.set_level(logging.DEBUG)
    heard = []
    telemetry.set_hooks(telemetry.log_event, lambda event: heard.append(repr(event)))
    jinaclip_server.configure(script=[fault] * 2, echo_key=True)
    options = {"headers": {"X-Mine": HEADER}, "max_retries": 1, "deadline": 5}
    with JinaClip(api_key=KEY + str(fault), base_url=jinaclip_server.url, **options) as clip:
        clip.embed([TEXT, "b", f"{TEXT} 2"])
    with JinaClip(api_key="wrong_" + KEY, base_url=jinaclip_server.url, **options) as clip:
        clip.embed([TEXT])
    assert heard
    records = [f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records]
    assert len(records) >= len(heard)
    for line in [*heard, *records]:
        assert "canary" not in line.lower(), line
