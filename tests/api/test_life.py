"""Clients live and die with processes, loops and objects; nobody notices, and nothing leaks."""

import asyncio
import copy
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jinaclip import JinaClip
from jinaclip.backends.api.limits import shared_limits
from jinaclip.testing.vectors import expected_vector

pytestmark = [
    pytest.mark.usefixtures("hasty"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def expected(texts):
    return np.stack([expected_vector("text", text) for text in texts])


def right(vectors, texts):
    np.testing.assert_allclose(vectors, expected(texts), atol=1e-6)
    return True


def places(one):
    """In flight, and waiting to be."""
    account = one._backend._limits
    return account._in_flight, len(account._queue)


async def settled(one):
    """What was left behind by cancelled callers has finished."""
    while one._backend._running:
        await asyncio.wait(set(one._backend._running))


# Loops


def test_several_loops_in_a_row(clip, server):
    one = clip()
    for number in range(5):
        assert right(asyncio.run(one.aembed_documents([f"loop {number}"])), [f"loop {number}"])
    assert len(one._backend._client._loops) <= 1, "loops that are over are forgotten"
    assert server.ledger()["answered"] == {"1": 5}


def test_loops_closed_by_hand(clip):
    one = clip()
    for _ in range(3):
        loop = asyncio.new_event_loop()
        assert right(loop.run_until_complete(one.aembed_documents(["by hand"])), ["by hand"])
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def test_loops_in_threads_at_once(clip, server):
    one = clip(max_concurrency=4)
    texts = [[f"thread {thread} {number}" for number in range(200)] for thread in range(6)]
    with ThreadPoolExecutor(6) as pool:
        for rows, mine in zip(
            pool.map(lambda mine: asyncio.run(one.aembed_documents(mine)), texts), texts, strict=True
        ):
            right(rows, mine)
    assert server.ledger()["in_flight_max"] <= 4


async def test_sync_inside_a_running_loop(clip):
    one = clip()
    task = asyncio.create_task(one.aembed_documents(["around"]))
    assert right(one.embed_documents(["inside"]), ["inside"])
    assert right(await task, ["around"])


async def test_many_queries_at_once(clip, server):
    one = clip(max_concurrency=8)
    rows = await asyncio.gather(*(one.aembed_query(f"query {number}") for number in range(500)))
    for number in (0, 250, 499):
        wanted = expected_vector("text", f"query {number}", task="retrieval.query")
        np.testing.assert_allclose(rows[number], wanted, atol=1e-6)
    books = server.ledger()
    assert (books["requests"], books["answered"]) == (500, {"1": 500})
    assert books["in_flight_max"] <= 8
    assert books["connections"] <= 8


def test_threads_that_start_together_share_one_client(clip, server):
    one = clip(max_concurrency=8)
    server.configure(base_ms=2)
    texts = [f"together {number}" for number in range(8 * 64 * 3)]
    right(one.embed_documents(texts), texts)
    assert len(one._backend._client._blocking) == 1
    assert server.ledger()["connections"] <= 8


# Fork


def fork(work):
    """Starts a child that does some work; gives what waits for it and says how it went."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        try:
            work()
            message = "well"
        except BaseException:
            message = traceback.format_exc()
        os.write(write, message.encode())
        os._exit(0)

    def result():
        os.close(write)
        with os.fdopen(read, "rb") as pipe:
            said = pipe.read().decode()
        os.waitpid(pid, 0)
        return said

    return result


def test_forked_children_embed_at_once(clip):
    one = clip()
    right(one.embed_documents(["before"]), ["before"])

    def work(child):
        for number in range(20):
            texts = [f"child {child} {number} {item}" for item in range(10)]
            right(one.embed_documents(texts), texts)
        texts = [f"child {child} async"]
        right(asyncio.run(one.aembed_documents(texts)), texts)

    children = [fork(lambda child=child: work(child)) for child in range(6)]
    texts = [f"parent {number}" for number in range(500)]
    right(one.embed_documents(texts), texts)
    assert [child() for child in children] == ["well"] * 6
    right(one.embed_documents(["after"]), ["after"])


def test_a_fork_in_the_middle_of_a_call(clip, server):
    """The child has none of its parent's places in flight, connections or gates."""
    server.configure(base_ms=5)
    one = clip(max_concurrency=4, batch_size=8)
    texts = [f"parent {number}" for number in range(1_500)]
    with ThreadPoolExecutor(1) as pool:
        rows = pool.submit(one.embed_documents, texts)
        while not server.ledger()["in_flight"]:
            assert not rows.done()
        mine = [f"child {number}" for number in range(100)]
        children = [fork(lambda: right(one.embed_documents(mine), mine)) for _ in range(4)]
        assert [child() for child in children] == ["well"] * 4
        right(rows.result(), texts)
    assert server.ledger()["answered"] == {"1": 1_500, "4": 100}


def test_parent_and_child_have_connections_of_their_own(clip, server):
    one = clip()
    right(one.embed_documents(["before"]), ["before"])
    assert fork(lambda: right(one.embed_documents(["child"]), ["child"]))() == "well"
    assert server.ledger()["connections"] == 2
    right(one.embed_documents(["after"]), ["after"])
    assert server.ledger()["connections"] == 2


def test_a_child_leaves_its_parent_s_connections_open(clip, server):
    one = clip()
    one.embed_documents(["before"])

    def work():
        one.close()
        one.embed_documents(["child"])
        one.close()

    assert fork(work)() == "well"
    one.embed_documents(["after"])
    assert server.ledger()["connections"] == 2, "the parent's, used twice, and the child's"


# Copies


def test_settings_travel_and_keys_do_not_through_pickle(clip, monkeypatch):
    one = clip(dimensions=64, batch_size=7)
    one.embed_documents(["counted"])
    monkeypatch.setenv("JINA_API_KEY", one.config.key.reveal())
    two = pickle.loads(pickle.dumps(one))
    assert not two.config.api_key
    assert (two.dimensions, two.config.batch_size, two.fingerprint) == (64, 7, one.fingerprint)
    assert two.usage.requests == 0
    np.testing.assert_array_equal(two.embed_documents(["same"]), one.embed_documents(["same"]))
    two.close()


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_work_on_their_own(clip, duplicate):
    one = clip()
    one.embed_documents(["first"])
    two = duplicate(one)
    assert right(two.embed_documents(["second"]), ["second"])
    assert (one.usage.requests, two.usage.requests) == (1, 1)
    assert two._backend._limits is one._backend._limits
    assert two._backend._client is not one._backend._client
    two.close()


# Closing


async def test_closing_is_idempotent_and_not_the_end(clip, server):
    one = clip()
    one.close()
    await one.aclose()
    for text in ("a", "b"):
        assert right(one.embed_documents([text]), [text])
        assert right(await one.aembed_documents([text]), [text])
        one.close()
        one.close()
        await one.aclose()
        await one.aclose()
    assert server.ledger()["connections"] == 4


async def test_blocks_close(clip):
    one = clip()
    with one as same:
        assert same is one
        one.embed_documents(["a"])
        held = next(iter(one._backend._client._blocking.values())).client
    assert held.is_closed
    async with one as same:
        assert same is one
        assert right(await one.aembed_documents(["a"]), ["a"])
        (known,) = one._backend._client._loops.values()
    assert known.opening.result().is_closed
    assert right(await one.aembed_documents(["b"]), ["b"])


def test_closing_under_way_costs_no_answer(clip, server):
    server.configure(base_ms=1)
    one = clip(batch_size=4, max_concurrency=4, max_retries=0)
    texts = [f"closing {number}" for number in range(1_000)]
    with ThreadPoolExecutor(1) as pool:
        rows = pool.submit(one.embed_documents, texts)
        while not rows.done():
            one.close()
            server.ledger()
        right(rows.result(), texts)


async def test_closing_a_loop_s_connections_under_way_costs_no_answer(clip, server):
    server.configure(base_ms=1)
    one = clip(batch_size=4, max_concurrency=4, max_retries=0)
    texts = [f"closing {number}" for number in range(1_000)]
    task = asyncio.create_task(one.aembed_documents(texts))
    while not task.done():
        await one.aclose()
        await asyncio.to_thread(server.ledger)
    right(await task, texts)


UNCLOSED = """
import asyncio, gc, logging, sys
logging.getLogger("asyncio").setLevel(logging.ERROR)  # slow steps of a busy machine are no news
from jinaclip import JinaClip

def make():
    return JinaClip(base_url=sys.argv[1], api_key="jina_test_unclosed")

make().embed_documents(["forgotten at once"])
gc.collect()
asyncio.run(make().aembed_documents(["forgotten with its loop"]))
gc.collect()
kept = make()
kept.embed_documents(["forgotten until the end"])
asyncio.run(kept.aembed_documents(["x"]))
"""


def test_nothing_is_left_open_by_who_does_not_close(server):
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", UNCLOSED, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_object_s_connections_close_with_it(server):
    one = JinaClip(base_url=server.url, api_key="jina_test_short")
    one.embed_documents(["a"])
    held = next(iter(one._backend._client._blocking.values())).client
    del one
    gc.collect()
    assert held.is_closed


# RateLimitss


def test_an_limits_outlives_calls_and_not_its_owners(clip, server):
    key = "jina_test_owner"
    one, two = (JinaClip(base_url=server.url, api_key=key) for _ in range(2))
    one.embed_documents(["a"])
    account = weakref.ref(one._backend._limits)
    gc.collect()
    two.embed_documents(["b"])
    assert two._backend._limits is account() is shared_limits(one.config)
    assert len(account()._requests._log) == 2
    one.close()
    two.close()
    del one, two
    gc.collect()
    assert account() is None


def test_what_was_learnt_outlives_a_call(clip, server):
    server.configure(script=["retry_after_huge"])
    one = clip()
    for _ in range(3):
        with pytest.raises(Exception, match="rate limit"):
            one.embed_documents(["a"])
    assert server.ledger()["requests"] == 1


# Cancelling


async def received(server):
    """Waits until the server has a request in flight."""
    while not (await asyncio.to_thread(server.ledger))["in_flight"]:
        pass


async def test_a_cancelled_caller_returns_at_once_and_the_answer_arrives(clip, server):
    server.configure(base_ms=300)
    one = clip(batch_size=4, max_concurrency=2)
    task = asyncio.create_task(one.aembed_documents([f"text {number}" for number in range(40)]))
    await received(server)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert one.usage.items == 0, "the answer is not waited for"
    await settled(one)
    books = server.ledger()
    assert (books["requests"], books["ok"], books["unsent"]) == (2, 2, 0)
    assert one.usage.items == 8
    assert places(one) == (0, 0)


async def test_cancelling_while_the_service_hangs(clip, server):
    server.configure(faults=["hang"], fault_rate=1)
    one = clip(max_concurrency=1, timeout=0.5)
    tasks = [asyncio.create_task(one.aembed_documents([f"text {number}"])) for number in range(5)]
    await received(server)
    for task in tasks:
        task.cancel()
    done, late = await asyncio.wait(tasks, timeout=0.3)
    assert not late
    assert all(task.cancelled() for task in done)
    server.configure(fault_rate=0)
    assert right(await one.aembed_documents(["after"]), ["after"])
    await settled(one)
    assert places(one) == (0, 0)
    assert server.ledger()["requests"] == 2


async def test_cancelling_anywhere_leaves_all_places_free(clip, server):
    draw = random.Random(5)
    server.configure(base_ms=1, fault_rate=0.3, retry_after=0.001)
    one = clip(batch_size=2, max_concurrency=3)

    async def several(number):
        await asyncio.gather(*(one.aembed_documents([f"{number} {call} {i}" for i in range(12)]) for call in range(3)))

    for number in range(150):
        task = asyncio.create_task(several(number))
        for _ in range(draw.randrange(120)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        if number % 10 == 0:
            await settled(one)
    await settled(one)
    assert places(one) == (0, 0)
    server.reset()
    server.configure(base_ms=20)
    texts = [f"after {number}" for number in range(24)]
    assert right(await one.aembed_documents(texts), texts)
    books = server.ledger()
    assert books["in_flight_max"] == 3
    assert books["answered"] == {"1": 24}


async def test_cancelling_who_waits_in_the_queue(clip, server):
    server.configure(base_ms=100)
    one = clip(max_concurrency=1)
    first = asyncio.create_task(one.aembed_documents(["first"]))
    waiting = [asyncio.create_task(one.aembed_documents([f"waiting {number}"])) for number in range(50)]
    await received(server)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert right(await first, ["first"])
    await settled(one)
    assert places(one) == (0, 0)
    assert server.ledger()["requests"] == 1


def test_a_loop_that_ends_in_the_middle_of_a_call(clip, server):
    one = clip(max_concurrency=2)

    async def leave():
        task = asyncio.create_task(one.aembed_documents([f"text {number}" for number in range(500)]))
        await received(server)
        task.cancel()

    server.configure(base_ms=500)
    asyncio.run(leave())
    server.configure(base_ms=0)
    assert places(one) == (0, 0)
    assert right(one.embed_documents(["after"]), ["after"])


@pytest.mark.parametrize("count", [1, 300])
def test_ctrl_c_ends_a_blocking_call_at_once(clip, server, count):
    server.configure(faults=["hang"], fault_rate=1)
    one = clip(max_concurrency=2, timeout=1)
    watcher = threading.Thread(target=interrupt_when_received, args=(server,))
    watcher.start()
    with pytest.raises(KeyboardInterrupt):
        one.embed_documents([f"text {number}" for number in range(count)])
    watcher.join()
    server.configure(fault_rate=0)
    assert right(one.embed_documents(["after"]), ["after"])


def test_ctrl_c_comes_with_what_was_embedded_until_then(clip, server):
    server.configure(script=[None, "hang"])
    texts = [f"text {number}" for number in range(20)]
    one = clip(max_concurrency=1, batch_size=10)
    watcher = threading.Thread(target=interrupt_when_received, args=(server, 2))
    watcher.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        one.embed_documents(texts)
    watcher.join()
    places, found = caught.value.partial.successes()
    assert places.tolist() == list(range(10))
    assert right(found, texts[:10])
    reasons = [str(caught.value.partial.errors[index].reason) for index in range(10, 20)]
    assert all("it may have been billed" in reason for reason in reasons), "the second ten had gone out"


def interrupt_when_received(server, requests=1):
    while server.ledger()["requests"] < requests or not server.ledger()["in_flight"]:
        pass
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_while_the_meter_is_held_is_not_stuck(clip):
    maker = clip()
    maker.embed_query("before")
    meter = maker._meter
    held, go = threading.Event(), threading.Event()

    def hold():
        with meter._lock:
            held.set()
            go.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a child that hangs ends by this, and not with 0
        os._exit(0 if maker.embed_query("in the child").shape == (1024,) else 1)
    go.set()
    holder.join()
    assert os.waitpid(child, 0)[1] == 0
