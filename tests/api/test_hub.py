"""The hub lives anywhere, lets go of whoever leaves, and leaves nothing behind."""

import asyncio
import gc
import io
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image as PillowImage

from jinaclip import ImagePolicy, JinaClip, JinaClipError
from jinaclip.backends.api import hub as hubs
from jinaclip.backends.api.backend import Session
from jinaclip.backends.api.batcher import Consumer
from jinaclip.backends.api.lane import Flight
from jinaclip.errors import ClosedError, DeadlineError
from jinaclip.testing import Server
from jinaclip.testing.vectors import expected_vector
from tests.needs import long, skip_without
from tests.watching import auntil, calls, is_left_alone, is_quiet, numbers, objects, received, sockets, threads, until

pytestmark = [
    pytest.mark.usefixtures("hasty"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]
SOON = 10.0
"""Seconds; what should take one. Where the service hangs, it hangs for good, and `timeout` is 60."""


def right(vectors, texts, task=None):
    wanted = np.stack([expected_vector("text", text, task=task) for text in texts])
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    return True


def right_query(vector, text):
    return right([vector], [text], "retrieval.query")


def png(number=0):
    file = io.BytesIO()
    PillowImage.new("RGB", (8, 8), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def hang(server):
    server.configure(faults=["hang"], fault_rate=1)


def check_let_go(one, server, since):
    """Slots free, connections closed, no task; and the next call is answered at once."""
    until(lambda: is_quiet(one))
    until(lambda: is_left_alone(server))
    server.configure(fault_rate=0)
    assert right_query(one.embed_query("after"), "after")
    assert time.monotonic() - since < SOON


@pytest.fixture
def fresh(monkeypatch):
    """No hub yet: that of other tests, whose objects may still be open, is put aside."""
    monkeypatch.setattr(hubs, "_hub", None)
    return set(threading.enumerate())


def new_threads(before):
    return [thread.name for thread in threading.enumerate() if thread not in before]


# Letting go


async def cancel_task(one, server):
    task = asyncio.create_task(one.aembed_documents([f"text {number}" for number in range(400)]))
    await auntil(lambda: received(server))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def end_by_wait_for(one, server):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one.aembed_documents([f"text {number}" for number in range(400)]), 0.3)


async def close_coroutine(one, server):
    work = one.aembed_documents(["a", "b"])
    work.send(None)
    await auntil(lambda: received(server))
    work.close()


async def collect_coroutine(one, server):
    work = one.aembed_documents(["a", "b"])
    work.send(None)
    await auntil(lambda: received(server))
    del work
    gc.collect()


async def close_object(one, server):
    task = asyncio.create_task(one.aembed_documents([f"text {number}" for number in range(400)]))
    await auntil(lambda: received(server))
    await one.aclose()
    with pytest.raises(ClosedError):
        await task


WAYS = [cancel_task, end_by_wait_for, close_coroutine, collect_coroutine, close_object]


@pytest.mark.slow
@pytest.mark.parametrize("leave", WAYS)
def test_who_leaves_takes_all_along(clip, server, leave):
    hang(server)
    one = clip(max_concurrency=8, timeout=60)
    since = time.monotonic()
    asyncio.run(leave(one, server))
    check_let_go(one, server, since)


def interrupt_when_received(server):
    until(lambda: received(server))
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("count", [1, 400])
def test_ctrl_c_takes_all_along(clip, server, count):
    hang(server)
    one = clip(max_concurrency=8, timeout=60)
    since = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(interrupt_when_received, server)
        with pytest.raises(KeyboardInterrupt):
            one.embed_documents([f"text {number}" for number in range(count)])
    check_let_go(one, server, since)


class Limit(Exception):
    """A host's time limit, raised by a signal handler: as Celery's and Airflow's."""


def raise_limit(*_):
    raise Limit


@pytest.fixture
def timer():
    """Sets off the limit in so many seconds; 0 takes it back."""
    before = signal.signal(signal.SIGALRM, raise_limit)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # it may strike in a callback of Python's
@pytest.mark.parametrize("count", [400, long(10_000)])
def test_a_time_limit_that_strikes_anywhere_leaves_nothing(fresh, server, timer, count):
    """No lock stays taken, no call stays at the hub, and its thread still ends with the last close."""
    draw = random.Random(3)
    one = JinaClip(base_url=server.url, api_key="jina_test_limit", dimensions=64)
    one.embed_query("first")
    struck = 0
    for number in range(count):
        try:
            try:
                timer(1e-6 + 0.003 * draw.random())
                one.embed_query(f"query {number}")
            finally:
                timer(0)
        except (Limit, RuntimeError):  # a condition of Python's own may be left half way
            struck += 1
    assert struck > count / 10
    gc.collect()
    until(lambda: is_quiet(one))
    assert one.embed_query("after").shape == (64,)
    one.close()
    until(lambda: new_threads(fresh) == [])


class Late(RuntimeError):
    """Another host's time limit: of a class that threads and event loops raise too."""


def strike(number, kind):
    """Raises at a function's entry, as a signal handler may: the so many-th after the hub's thread is to be started."""
    entered = None

    def trace(frame, event, _):
        nonlocal entered
        entered = 0 if entered is None and frame.f_code is hubs.Hub.start.__code__ else entered
        if entered is not None and frame.f_code.co_name not in ("__del__", "_remove", "remove"):
            entered += 1
            if entered == number:
                sys.settrace(None)
                raise kind

    sys.settrace(trace)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # in Python's own start of a thread
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a loop whose thread never ran
@pytest.mark.parametrize("kind", [long(Limit), Late])
def test_what_strikes_while_the_thread_starts_costs_the_next_call_nothing(fresh, server, monkeypatch, kind):
    monkeypatch.setattr(hubs, "IDLE_SECONDS", 0.05)
    with JinaClip(base_url=server.url, api_key="jina_test_limit", dimensions=64) as one:
        for number in range(1, 12):  # up to where the thread runs
            one.close()
            gc.collect()  # what was struck is part of a traceback
            until(lambda: hubs._hub is None)
            before = sys.gettrace()
            try:
                with pytest.raises((kind, RuntimeError)):  # a condition of Python's own may be left half way
                    strike(number, kind)
                    one.embed_query("struck")
            finally:
                sys.settrace(before)
            assert one.embed_query("after").shape == (64,)


def leave_waiting(one, server, texts):
    """A loop that stands, and the task that waits in it."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(one.aembed_documents(texts))
    loop.run_until_complete(auntil(lambda: received(server)))
    return loop, task


def end_of(loop, task):
    """Takes a task out of the world whose loop is closed; asyncio would log that it was pending."""
    task._log_destroy_pending = False
    loop.close()


def test_a_loop_closed_while_its_caller_waits_holds_nothing(clip, server):
    hang(server)
    one = clip(max_concurrency=8, timeout=60)
    loop, task = leave_waiting(one, server, [f"text {number}" for number in range(400)])
    since = time.monotonic()
    end_of(loop, task)
    check_let_go(one, server, since)
    assert not task.done(), "it was held all the time, and so not collected"


@pytest.mark.slow
def test_for_a_standing_loop_nothing_more_is_sent_until_it_goes_on(clip, server):
    server.configure(base_ms=50)
    one = clip(max_concurrency=1, batch_size=1)
    texts = [f"text {number}" for number in range(60)]
    loop, task = leave_waiting(one, server, texts)
    until(lambda: numbers(one) == (0, 0))
    sent = server.ledger()["requests"]
    assert sent < 30
    assert right_query(one.embed_query("beside"), "beside")
    time.sleep(4 * hubs.BEAT_SECONDS)
    assert server.ledger()["requests"] == sent + 1
    server.configure(base_ms=0)
    assert right(loop.run_until_complete(task), texts)
    loop.close()
    assert server.ledger()["answered"] == {"1": 61}


def test_what_others_share_goes_on(clip, server):
    """Of six queries in one request two are cancelled; the others get their vectors, and nothing is sent again."""
    server.configure(base_ms=400)
    one = clip(max_concurrency=1)

    async def main():
        first = asyncio.create_task(one.aembed_query("first"))
        await auntil(lambda: received(server))
        six = [asyncio.create_task(one.aembed_query(f"query {number}")) for number in range(6)]
        await asyncio.gather(first)
        await auntil(lambda: received(server, 2))
        six[1].cancel()
        six[4].cancel()
        return await asyncio.gather(*six, return_exceptions=True)

    found = asyncio.run(main())
    assert [isinstance(one, asyncio.CancelledError) for one in found] == [False, True, False, False, True, False]
    for number in (0, 2, 3, 5):
        right_query(found[number], f"query {number}")
    assert server.ledger()["requests"] == 2
    until(lambda: is_quiet(one))


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_deadline_ends_a_call_whose_image_is_still_prepared(clip, server, monkeypatch, way):
    go = threading.Event()
    monkeypatch.setattr("jinaclip.images.open_tile", lambda *_, **__: go.wait(60))
    one = clip(deadline=0.3)
    since = time.monotonic()
    results = one.embed([png()]) if way == "sync" else asyncio.run(one.aembed([png()]))
    assert isinstance(results.stopped, DeadlineError)
    assert time.monotonic() - since < SOON
    until(lambda: is_quiet(one))
    go.set()
    assert server.ledger()["requests"] == 0


# What went wrong before: rows of the table of faults


def test_loops_closed_after_a_time_limit_keep_no_slots(clip, server):
    """Eight times a loop of its own gives up after 0.1 s; then a sync query works at once."""
    server.configure(base_ms=20_000)
    one = clip(timeout=60)
    for number in range(8):
        loop = asyncio.new_event_loop()
        with pytest.raises(TimeoutError):
            loop.run_until_complete(asyncio.wait_for(one.aembed_query(f"query {number}"), 0.1))
        loop.close()
    server.configure(base_ms=0)
    since = time.monotonic()
    assert right_query(one.embed_query("after"), "after")
    assert time.monotonic() - since < 1 * SOON


async def test_a_cancelled_call_keeps_no_slots(clip, server):
    """Eight requests hang, the call is cancelled after 0.3 s, and another caller asks one query."""
    hang(server)
    one = clip(max_concurrency=8, batch_size=8, timeout=60)
    task = asyncio.create_task(one.aembed_documents([f"text {number}" for number in range(64)]))
    await auntil(lambda: server.ledger()["in_flight"] == 8)
    since = time.monotonic()
    task.cancel()
    server.configure(fault_rate=0)
    assert right_query(await one.aembed_query("another"), "another")
    await auntil(lambda: is_quiet(one) and is_left_alone(server))
    assert time.monotonic() - since < SOON


async def test_a_thousand_queries_at_once_take_few_requests(clip, server):
    server.configure(base_ms=300)
    one = clip(timeout=10)
    since = time.monotonic()
    rows = await asyncio.gather(*(one.aembed_query(f"query {number}") for number in range(1_000)))
    assert time.monotonic() - since < SOON
    for number in (0, 500, 999):
        right_query(rows[number], f"query {number}")
    books = server.ledger()
    assert books["answered"] == {"1": 1_000}
    assert books["requests"] < 60


async def test_a_sync_call_in_the_loop_whose_calls_fill_all_slots(clip, server):
    server.configure(base_ms=100)
    one = clip(max_concurrency=2, batch_size=10, timeout=20)
    texts = [f"text {number}" for number in range(200)]
    task = asyncio.create_task(one.aembed_documents(texts))
    await auntil(lambda: server.ledger()["in_flight"] == 2)
    since = time.monotonic()
    assert right(one.embed_documents(["x"]), ["x"])
    assert time.monotonic() - since < SOON
    assert right(await task, texts)


@pytest.fixture
def hole():
    """The port of a host that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


def test_threads_of_the_application_are_not_taken(clip, hole):
    """Six images on a host that hangs, and a loop whose executor has two threads."""
    policy = ImagePolicy(schemes=("http",), ports=(hole,), allow_networks=("127.0.0.0/8",), fetch_timeout=60.0)
    one = clip(image_policy=policy, url_mode="fetch")
    urls = [f"http://127.0.0.1:{hole}/{number}.png" for number in range(6)]

    async def main():
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        tasks = [asyncio.create_task(one.aembed_images([url])) for url in urls]
        await auntil(lambda: calls() == 6)
        since = time.monotonic()
        await asyncio.to_thread(lambda: None)
        assert time.monotonic() - since < 2
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    since = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - since < SOON


BLOCKED = """
import asyncio, sys, threading
from jinaclip import JinaClip

def texts():
    yield "one"
    threading.Event().wait()

async def main():
    one = JinaClip(base_url=sys.argv[1], api_key="jina_test_blocked")
    try:
        await asyncio.wait_for(one.aembed_documents(texts()), 0.3)
    except TimeoutError:
        print("in time")

asyncio.run(main())
"""


@pytest.mark.slow
def test_a_generator_that_never_goes_on_does_not_hold_up_the_end(server):
    since = time.monotonic()
    assert python(BLOCKED, server).stdout == "in time\n"
    assert time.monotonic() - since < 2 * SOON


# Living anywhere


def python(code, server, *arguments, options=()):
    """Runs a program; it must end well, and say nothing on its standard error."""
    command = [sys.executable, *options, "-c", code, server.url, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done


def test_eight_threads_share_one_hub(clip, server):
    one = clip(max_concurrency=4)
    texts = [[f"thread {thread} {number}" for number in range(300)] for thread in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for rows, mine in zip(pool.map(one.embed_documents, texts), texts, strict=True):
            right(rows, mine)
    assert threads("jinaclip-hub") == ["jinaclip-hub"]
    books = server.ledger()
    assert books["connections"] <= 4
    assert books["in_flight_max"] <= 4


def test_several_loops_at_once(clip, server):
    one = clip(max_concurrency=4)
    texts = [[f"loop {loop} {number}" for number in range(300)] for loop in range(4)]
    with ThreadPoolExecutor(4) as pool:
        runs = pool.map(lambda mine: asyncio.run(one.aembed_documents(mine)), texts)
        for rows, mine in zip(runs, texts, strict=True):
            right(rows, mine)
    assert server.ledger()["connections"] <= 4


def test_uvloop_as_the_caller_s_loop(clip, server):
    skip_without("uvloop")
    import uvloop

    hang(server)
    one = clip(timeout=60)
    since = time.monotonic()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(cancel_task(one, server))
        server.configure(fault_rate=0)
        assert right(runner.run(one.aembed_documents(["a", "b"])), ["a", "b"])
    check_let_go(one, server, since)


NESTED = """
import asyncio, sys, nest_asyncio
nest_asyncio.apply()
from jinaclip import JinaClip
one = JinaClip(base_url=sys.argv[1], api_key="jina_test_nested")

async def inner():
    return await one.aembed_documents(["inner"])

async def main():
    task = asyncio.create_task(one.aembed_documents(["beside"]))
    print(one.embed_documents(["sync"]).shape, asyncio.get_running_loop().run_until_complete(inner()).shape)
    print((await task).shape)

asyncio.run(main())
one.close()
"""


def test_nested_loops(server):
    skip_without("nest_asyncio")
    assert python(NESTED, server).stdout == "(1, 1024) (1, 1024)\n(1, 1024)\n"


POLICY = """
import asyncio, sys
from jinaclip import JinaClip

class Odd(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        raise RuntimeError("no loops here")

asyncio.set_event_loop_policy(Odd())
print(JinaClip(base_url=sys.argv[1], api_key="jina_test_odd").embed_documents(["a"]).shape)
"""


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="Python 3.14 gives policies up")
def test_an_odd_policy_of_event_loops(server):
    assert python(POLICY, server).stdout == "(1, 1024)\n"


GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, gevent
from jinaclip import JinaClip, JinaClipError
one = JinaClip(base_url=sys.argv[1], api_key="jina_test_gevent")
try:
    jobs = [gevent.spawn(one.embed_documents, [f"job {number}"]) for number in range(20)]
    gevent.joinall(jobs)
    print(all(job.get().shape == (1, 1024) for job in jobs))
    one.close()
except JinaClipError as error:
    print(error)
"""


@pytest.mark.slow
def test_gevent(server):
    skip_without("gevent")
    assert python(GEVENT, server).stdout == "True\n"


async def test_async_methods_name_asyncio_where_it_does_not_run(clip):
    work = clip().aembed_query("a")

    def send():  # a thread without any loop, as trio's is to asyncio
        with pytest.raises(JinaClipError, match="asyncio"):
            work.send(None)

    await asyncio.to_thread(send)


def test_under_trio_the_sentence_says_asyncio(clip):
    skip_without("trio")
    import trio

    one = clip()
    for work in (one.aembed_query, one.aembed_image):
        with pytest.raises(JinaClipError, match="asyncio"):
            trio.run(work, "a")


# Fork and spawn


def fork(work):
    """Starts a child that does some work; gives what waits for it and reads what it says."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # a child that hangs says nothing
        message = "well"
        try:
            work()
        except BaseException as error:
            message = f"{type(error).__name__}: {error}"
        os.write(write, message.encode())
        os._exit(0)

    def result():
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            message = pipe.read().decode()
        os.waitpid(pid, 0)
        return message

    return result


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@needs_fork
def test_a_fork_at_rest_has_a_hub_of_its_own(clip, server):
    one = clip()
    right(one.embed_documents(["before"]), ["before"])
    parent = hubs._hub

    def work():
        right(one.embed_documents(["child"]), ["child"])
        assert hubs._hub is not parent
        one.close()
        assert threads() == []

    assert fork(work)() == "well"
    assert parent.is_alive
    assert parent is hubs._hub
    right(one.embed_documents(["after"]), ["after"])
    assert server.ledger()["connections"] == 2


@needs_fork
def test_a_fork_while_busy_takes_nothing_from_its_parent(clip, server):
    server.configure(base_ms=20)
    one = clip(max_concurrency=2, batch_size=4)
    texts = [f"parent {number}" for number in range(200)]
    with ThreadPoolExecutor(1) as pool:
        rows = pool.submit(one.embed_documents, texts)
        until(lambda: received(server))
        children = [fork(lambda: right(one.embed_documents(["child"]), ["child"])) for _ in range(4)]
        assert [child() for child in children] == ["well"] * 4
        right(rows.result(), texts)
    assert server.ledger()["answered"] == {"1": 200, "4": 1}


@needs_fork
def test_a_fork_inside_a_caller_s_generator(clip):
    """The child inherits a call that waits for its parent's hub: it is told so in a sentence, and can make others."""
    one = clip()
    pids, queued = [], []

    def texts():
        yield "before"
        parent = hubs._hub
        pids.append(os.fork())
        if pids[0] == 0:
            signal.alarm(30)
            queued.extend((parent.loop._ready, len(parent.loop._ready)))
        yield "after"

    message = ""
    try:
        rows = one.embed_documents(texts())
    except JinaClipError as error:
        message = str(error)
    if pids[0] == 0:
        with suppress(BaseException):
            assert "forked" in message
            assert len(queued[0]) == queued[1], "nothing is handed to the parent's loop"
            right(one.embed_documents(["child"]), ["child"])
            os._exit(0)
        os._exit(1)
    right(rows, ["before", "after"])
    assert os.waitpid(pids[0], 0)[1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("given", [True, False])
def test_a_spawned_process_embeds_with_a_pickled_object(clip, monkeypatch, given):
    """With the key that was given, whatever its environment says; else with that of its environment."""
    one = clip() if given else clip(api_key=None)
    monkeypatch.setenv("JINA_API_KEY", "refused_by_the_service" if given else "jina_test_spawned")
    right(one.embed_documents(["parent"]), ["parent"])
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        right(pool.apply(one.embed_documents, (["spawned"],)), ["spawned"])
        pool.close()
        pool.join()


# The end of the interpreter

START = """
import asyncio, atexit, logging, sys, threading, time
logging.getLogger("asyncio").setLevel(logging.ERROR)  # slow steps of a busy machine are no news
from jinaclip import JinaClip, JinaClipError
one = JinaClip(base_url=sys.argv[1], api_key="jina_test_exit")

def attempt():
    try:
        print(one.embed_query("at the end").shape)
    except JinaClipError as error:
        print(type(error).__name__, error)
"""
AT_EXIT = "import atexit\natexit.register(lambda: attempt())\n" + START
AT_EXIT_AFTER_A_CALL = AT_EXIT + "attempt()"
AT_EXIT_LAST = START + "attempt()\natexit.register(attempt)"
AT_DELETION = START + "class Last:\n    def __del__(self):\n        attempt()\nlast = Last()\n"
AT_DELETION_AFTER_A_CALL = AT_DELETION + "attempt()"
IN_A_DAEMON = START + (
    "def always():\n    while True:\n        one.embed_query('again')\n"
    "threading.Thread(target=always, daemon=True).start()\nattempt()"
)
IN_A_THREAD = START + "threading.Thread(target=lambda: (time.sleep(0.3), attempt())).start()"
HANGING = START + "threading.Thread(target=one.embed_query, args=('hang',), daemon=True).start()\ntime.sleep(0.3)"
HANGING_LONG = "import atexit, time\natexit.register(time.sleep, 1.5)\n" + HANGING
NEVER_CLOSED = START + "attempt()\nasyncio.run(one.aembed_documents(['a']))"
EXITS = {
    "atexit, after a call": AT_EXIT_AFTER_A_CALL,
    "__del__, after a call": AT_DELETION_AFTER_A_CALL,
    "daemon thread": IN_A_DAEMON,
    "hanging": HANGING,
    "never closed": NEVER_CLOSED,
}
MORE_EXITS = {
    "atexit": AT_EXIT,
    "atexit, before ours": AT_EXIT_LAST,
    "__del__": AT_DELETION,
    "thread": IN_A_THREAD,
    "hanging, and a slow end": HANGING_LONG,
}


@pytest.mark.slow
@pytest.mark.parametrize("code", [*EXITS.values(), *map(long, MORE_EXITS.values())], ids=[*EXITS, *MORE_EXITS])
def test_the_end_of_the_interpreter(server, code):
    """A call works or raises one sentence of ours; nothing is printed by Python, nor left open."""
    server.configure(poison={"hang": "hang"})
    since = time.monotonic()
    said = python(code, server, options=["-X", "dev", "-W", "error"]).stdout
    assert time.monotonic() - since < 2 * SOON
    for line in said.splitlines():
        assert line == "(1024,)" or line.startswith("JinaClipError the process is ending")


# Time

FROZEN = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from jinaclip import JinaClip
from jinaclip.backends.api import loop
loop.FROZEN_SECONDS = 2
one = JinaClip(base_url=sys.argv[1], api_key="jina_test_frozen", max_retries=0, timeout=3, batch_size=1)
with ThreadPoolExecutor(3) as pool:
    for rows in pool.map(one.embed_documents, [["reset"], ["cut"], ["hang"]]):
        print(rows.shape)
one.close()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_requests_in_flight_outlive_a_frozen_process(server):
    """Four seconds, in which connections are reset and closed, and a timeout passes; not one retry is allowed."""
    server.configure(base_ms=1_000, script=["reset_before_headers", "close_mid_body", "hang"])
    command = [sys.executable, "-c", FROZEN, server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: server.ledger()["in_flight"] == 3)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(4)
        assert sum(server.ledger()["faults"].values()) == 3
        server.configure(base_ms=0)
        os.kill(process.pid, signal.SIGCONT)
        said, errors = process.communicate(timeout=30)
    assert (said, errors) == ("(1, 1024)\n" * 3, "")
    assert server.ledger()["requests"] == 6


@pytest.mark.parametrize("jump", [1e9, -1e9])
def test_a_clock_that_jumps_changes_nothing(clip, server, monkeypatch, jump):
    server.configure(base_ms=300)
    one = clip(timeout=5, deadline=8, max_retries=0)
    now = time.time
    with ThreadPoolExecutor(1) as pool:
        rows = pool.submit(one.embed_documents, ["a"])
        until(lambda: received(server))
        monkeypatch.setattr(time, "time", lambda: now() + jump)
        assert right(rows.result(), ["a"])
        assert right(one.embed_documents(["b"]), ["b"])
    assert server.ledger()["requests"] == 2


# Nothing grows


def held():
    """What the process holds that calls could leave behind."""
    kept = objects(Consumer, Flight, Session, asyncio.Task, threading.Thread)
    return {**kept, "threads": len(threads()), "sockets": sockets()}


def check_flat(before, one):
    until(lambda: is_quiet(one))
    after = held()
    assert all(after[name] <= before[name] + 2 for name in before), f"{before} became {after}"


@pytest.mark.slow
@pytest.mark.parametrize("count", [500, long(30_000)])
def test_calls_one_after_another_leave_nothing(clip, server, count):
    one = clip(dimensions=64)
    one.embed_documents(["first"])
    before = held()
    for number in range(count):
        one.embed_documents([f"text {number}"])
    check_flat(before, one)
    assert server.ledger()["connections"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, long(100)])
def test_cancelled_calls_leave_nothing(clip, server, count):
    hang(server)
    one = clip(dimensions=64, timeout=60)

    async def cancel_some():
        tasks = [asyncio.create_task(one.aembed_documents([f"text {number}"])) for number in range(100)]
        await auntil(lambda: numbers(one)[0])
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    asyncio.run(cancel_some())
    until(lambda: is_quiet(one))
    before = held()
    for _ in range(count):
        asyncio.run(cancel_some())
    check_flat(before, one)
    until(lambda: is_left_alone(server))


@pytest.mark.slow
@pytest.mark.parametrize("count", [15, long(1_000)])
def test_dead_loops_leave_nothing(clip, server, count):
    hang(server)
    one = clip(dimensions=64, timeout=60)

    def let_one_die(number):
        loop = asyncio.new_event_loop()
        task = loop.create_task(one.aembed_documents([f"text {number}"]))
        loop.run_until_complete(asyncio.sleep(0.002))
        end_of(loop, task)

    let_one_die(-1)
    until(lambda: is_quiet(one))
    before = held()
    for number in range(count):
        let_one_die(number)
    check_flat(before, one)
    until(lambda: is_left_alone(server))


# The thread


@pytest.mark.slow
def test_the_thread_ends_at_the_last_close(fresh, server):
    one, two = (JinaClip(base_url=server.url, api_key=f"jina_test_last_{number}") for number in range(2))
    assert new_threads(fresh) == [], "it starts with the first call"
    one.embed_query("a")
    two.embed_query("a")
    assert new_threads(fresh) == ["jinaclip-hub"]
    one.close()
    assert new_threads(fresh) == ["jinaclip-hub"]
    two.close()
    assert new_threads(fresh) == []
    assert right_query(two.embed_query("b"), "b")
    del two
    gc.collect()
    until(lambda: new_threads(fresh) == [])


async def test_the_thread_ends_at_the_last_aclose(fresh, server):
    async with JinaClip(base_url=server.url, api_key="jina_test_aclose") as one:
        await one.aembed_query("a")
    until(lambda: new_threads(fresh) == [])  # also the one that waited for it beside the loop


def test_the_thread_ends_a_while_after_the_last_call(fresh, server, monkeypatch):
    monkeypatch.setattr(hubs, "IDLE_SECONDS", 0.3)
    one = JinaClip(base_url=server.url, api_key="jina_test_idle")
    server.configure(base_ms=600)
    assert right_query(one.embed_query("a call longer than that"), "a call longer than that")
    until(lambda: new_threads(fresh) == [])
    server.configure(base_ms=0)
    assert right_query(one.embed_query("again"), "again")
    one.close()


def test_closing_and_calling_at_the_same_time_from_many_threads(fresh, server):
    """However the end of a hub and a new call meet, the call is answered or told that its object was closed."""
    end = time.monotonic() + 0.7

    def work(number):
        outcomes = set()
        while time.monotonic() < end:
            with JinaClip(base_url=server.url, api_key=f"jina_test_meet_{number}") as one:
                outcomes.add(one.embed_query("a").shape)
        return outcomes

    with ThreadPoolExecutor(4) as pool:
        assert set().union(*pool.map(work, range(4))) == {(1024,)}
    assert until(lambda: new_threads(fresh) == [])


def test_a_hub_that_cannot_start_says_why(fresh, clip, monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    one = clip()
    before = sockets()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(JinaClipError, match="no thread can be started"):
        one.embed_query("a")
    gc.collect()
    assert sockets() == before


def test_a_hub_that_falls_silent_is_noticed(fresh, server, monkeypatch):
    monkeypatch.setattr("jinaclip.backends.api.backend.SILENT_LOOKS", 2)
    one = JinaClip(base_url=server.url, api_key="jina_test_silent")
    one.embed_query("a")
    go = threading.Event()
    hubs._hub.submit(go.wait, 20)
    with pytest.raises(JinaClipError, match="has not run for"):
        one.embed_query("b")
    go.set()
    assert right_query(one.embed_query("c"), "c")
    one.close()
    until(lambda: new_threads(fresh) == [])


@pytest.mark.parametrize("way", ["sync", "async"])
def test_closing_does_not_wait_for_a_hub_that_hangs(fresh, server, way):
    one = JinaClip(base_url=server.url, api_key="jina_test_hangs")
    one.embed_query("a")
    go = threading.Event()
    hubs._hub.submit(go.wait, 20)
    since = time.monotonic()
    if way == "sync":
        one.close()
    else:
        asyncio.run(one.aclose())
    assert time.monotonic() - since < SOON
    go.set()
    until(lambda: new_threads(fresh) == [])


def test_the_service_s_end_is_noticed(clip):
    """A connection that the service closed while it was idle costs no call."""
    with Server() as first:
        one = clip(base_url=first.url, max_retries=0)
        one.embed_query("a")
        kept = sockets()
    until(lambda: sockets() < kept)


# What a call hands in


@pytest.mark.parametrize("source", [list, iter])
def test_what_is_larger_than_the_hub_may_hold_goes_alone(fresh, server, monkeypatch, source):
    monkeypatch.setattr("jinaclip.backends.api.backend.MOST_HELD_BYTES", 1_000)
    texts = [f"{number} " + "word " * 600 for number in range(5)]
    with JinaClip(base_url=server.url, api_key="jina_test_large") as one:
        assert one.embed_documents(source(texts)).shape == (5, 1024)


def test_a_loop_that_is_run_in_steps_does_not_stand(fresh, server):
    """As a window's own loop runs it."""
    server.configure(base_ms=20)
    loop = asyncio.new_event_loop()
    texts = [f"step {number}" for number in range(300)]
    with JinaClip(base_url=server.url, api_key="jina_test_steps", max_concurrency=1, batch_size=10) as one:
        task = loop.create_task(one.aembed_documents(texts))
        ends_at = time.monotonic() + SOON
        while not task.done() and time.monotonic() < ends_at:
            loop.call_soon(loop.stop)
            loop.run_forever()
            until(lambda: True)
        assert task.result().shape == (300, 1024)
    loop.close()


async def test_a_close_ends_also_calls_that_the_hub_does_not_know_yet(fresh, server):
    one = JinaClip(base_url=server.url, api_key="jina_test_early")
    task = asyncio.create_task(one.aembed_documents(["a"]))
    await asyncio.sleep(0)
    one.close()
    with pytest.raises(ClosedError):
        await task
    assert right_query(await one.aembed_query("b"), "b")
    one.close()


# Faults of our own


ENDED = (JinaClipError, ZeroDivisionError)
"""On the hub it is told as ours; in the caller's own thread it is what it is."""
FAULTS = {
    "on the way to the hub": "jinaclip.backends.api.backend.Session._by_route",
    "when items are queued": "jinaclip.backends.api.scheduler.Scheduler.add",
    "when a batch is chosen": "jinaclip.backends.api.batcher.Queue.select",
    "when it is sent": "jinaclip.backends.api.exchange.Exchange.send",
    "when the answer is judged": "jinaclip.backends.api.sending.judge",
}


@pytest.mark.parametrize("source", [list, iter])
@pytest.mark.parametrize("place", FAULTS.values(), ids=FAULTS)
async def test_a_fault_of_ours_ends_the_call_and_not_the_hub(fresh, server, monkeypatch, run, place, source):
    def fail(*_, **__):
        raise ZeroDivisionError("on purpose")

    with JinaClip(base_url=server.url, api_key="jina_test_fault") as one:
        with monkeypatch.context() as patched, pytest.raises(ENDED, match=r"on purpose|ZeroDivisionError in tests"):
            patched.setattr(place, fail)
            await run(one, "embed_documents", source([f"text {number}" for number in range(600)]))
        until(lambda: is_quiet(one))
        assert right_query(one.embed_query("after"), "after")
