"""Clients live and die with processes, loops and objects; nobody notices, and nothing leaks."""

import asyncio
import copy
import gc
import os
import pickle
import random
import signal
import threading
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jinaclip import JinaClip
from jinaclip.backends.api import hub as hubs
from jinaclip.backends.api.limits import shared_limits
from jinaclip.backends.api.route import Endpoint
from jinaclip.errors import ClosedError
from jinaclip.testing.vectors import expected_vector
from tests.watching import auntil, is_left_alone, is_quiet, numbers, received, threads, until

pytestmark = [
    pytest.mark.usefixtures("hasty"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def expected(texts):
    return np.stack([expected_vector("text", text) for text in texts])


def right(vectors, texts):
    np.testing.assert_allclose(vectors, expected(texts), atol=1e-6)
    return True


# Loops


def test_several_loops_in_a_row(clip, server):
    one = clip()
    for number in range(5):
        assert right(asyncio.run(one.aembed_documents([f"loop {number}"])), [f"loop {number}"])
    books = server.ledger()
    assert (books["answered"], books["connections"]) == ({"1": 5}, 1), "one connection serves all loops"


def test_loops_closed_by_hand(clip):
    one = clip()
    for _ in range(3):
        loop = asyncio.new_event_loop()
        assert right(loop.run_until_complete(one.aembed_documents(["by hand"])), ["by hand"])
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


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
    assert books["answered"] == {"1": 500}
    assert books["requests"] < 100, "those that wait for a slot are merged"
    assert books["in_flight_max"] <= 8
    assert books["connections"] <= 8


def test_threads_that_start_together_share_one_hub(clip, server):
    one = clip(max_concurrency=8)
    server.configure(base_ms=2)
    texts = [[f"together {thread} {number}" for number in range(200)] for thread in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert all(map(right, pool.map(one.embed_documents, texts), texts))
    until(lambda: len(threads("jinaclip-hub")) == 1)  # one of an earlier test may be about to end
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


@pytest.mark.slow
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
    """The child has none of its parent's slots, connections or locks."""
    server.configure(base_ms=5)
    one = clip(max_concurrency=4, batch_size=8)
    texts = [f"parent {number}" for number in range(1_500)]
    with ThreadPoolExecutor(1) as pool:
        rows = pool.submit(one.embed_documents, texts)
        until(lambda: received(server))
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


def test_settings_and_a_given_key_travel_through_pickle(clip, monkeypatch):
    one = clip(dimensions=64, batch_size=7)
    one.embed_documents(["counted"])
    monkeypatch.setenv("JINA_API_KEY", "jina_test_another_account")
    two = pickle.loads(pickle.dumps(one))
    assert two.config.key == one.config.key
    assert (two.dimensions, two.config.batch_size, two.space, two.fingerprint) == (64, 7, one.space, one.fingerprint)
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
    assert two._backend._destination.limits is one._backend._destination.limits
    one.close()
    assert right(two.embed_documents(["third"]), ["third"])
    two.close()


# Closing


def connections(one):
    """Open connections of an object's key."""
    lane = hubs._hub and hubs._hub._lanes.get(one._backend._destination.limits)
    return sum(len(exchange._transport._idle) for exchange in lane._exchanges.values()) if lane else 0


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
    assert server.ledger()["connections"] == 2


async def test_blocks_close(clip):
    one = clip()
    with one as same:
        assert same is one
        one.embed_documents(["a"])
        assert connections(one) == 1
    assert connections(one) == 0
    async with one as same:
        assert same is one
        assert right(await one.aembed_documents(["a"]), ["a"])
        assert connections(one) == 1
    assert connections(one) == 0
    assert right(await one.aembed_documents(["b"]), ["b"])


def test_closing_ends_the_object_s_waiting_calls(clip, server):
    """A thread that waits is told at once, with what was embedded until then; the object can be used again."""
    server.configure(script=[None, "hang", "hang"])
    one = clip(batch_size=4, max_concurrency=1, timeout=60)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(one.embed, [f"closing {number}" for number in range(12)])
        until(lambda: received(server, 2))
        one.close()
        results = call.result(10)
    assert isinstance(results.stopped, ClosedError)
    assert results.ok.tolist() == [True] * 4 + [False] * 8
    until(lambda: is_quiet(one) and is_left_alone(server))
    server.configure()
    assert right(one.embed_documents(["after"]), ["after"])


async def test_closing_from_a_loop_ends_the_object_s_waiting_calls(clip, server):
    server.configure(faults=["hang"], fault_rate=1)
    one = clip(timeout=60)
    tasks = [asyncio.create_task(one.aembed_query(f"query {number}")) for number in range(3)]
    await auntil(lambda: received(server))
    await one.aclose()
    for task in tasks:
        with pytest.raises(ClosedError):
            await task
    await auntil(lambda: is_quiet(one) and is_left_alone(server))


def test_closing_touches_nobody_else_s_calls(clip, server):
    """Another object with the same key, whose items go in the same requests, gets all its vectors."""
    server.configure(base_ms=30)
    one, other = clip(timeout=30), clip(timeout=30)
    mine, theirs = ([f"{name} {number}" for number in range(3_000)] for name in ("one", "other"))
    with ThreadPoolExecutor(2) as pool:
        call, rows = pool.submit(one.embed, mine), pool.submit(other.embed_documents, theirs)
        until(lambda: received(server, 2))
        one.close()
        results = call.result(10)
        assert right(rows.result(), theirs)
    assert results.stopped is None or isinstance(results.stopped, ClosedError)
    assert server.ledger()["answered"].keys() == {"1"}, "nothing was paid for twice"


def test_an_object_s_connections_close_with_it(server):
    def endpoints():
        return {endpoint for _, endpoint in hubs._hub._users}

    one, other = (JinaClip(base_url=server.url, api_key=f"jina_test_short_{number}") for number in range(2))
    one.embed_documents(["a"])
    own = one._backend._destination.endpoint
    other.embed_documents(["a"])
    assert own in endpoints()
    del one
    gc.collect()
    until(lambda: own not in endpoints())
    assert other._backend._destination.endpoint in endpoints()
    assert right(other.embed_documents(["b"]), ["b"])
    other.close()


# Rate limits


@pytest.mark.slow
def test_limits_outlive_calls_and_not_their_owners(clip, server):
    key = "jina_test_owner"
    one, two = (JinaClip(base_url=server.url, api_key=key) for _ in range(2))
    one.embed_documents(["a"])
    limits = weakref.ref(one._backend._destination.limits)
    gc.collect()
    two.embed_documents(["b"])
    assert two._backend._destination.limits is limits() is shared_limits(Endpoint.of(one.config))
    one.close()
    two.close()
    del one, two
    until(lambda: not gc.collect() and limits() is None)


def test_what_was_learnt_outlives_a_call(clip, server):
    server.configure(script=["retry_after_seconds"], retry_after=100)
    one = clip(timeout=5)
    for _ in range(3):
        with pytest.raises(Exception, match="rate limit"):
            one.embed_documents(["a"])
    assert server.ledger()["requests"] == 1


# Cancelling


async def test_a_cancelled_call_s_requests_are_broken_off(clip, server):
    """They do not finish; what they may have been billed is counted as doubtful."""
    server.configure(faults=["hang"], fault_rate=1)
    one = clip(batch_size=4, max_concurrency=2, timeout=60)
    task = asyncio.create_task(one.aembed_documents([f"text {number}" for number in range(40)]))
    await auntil(lambda: server.ledger()["in_flight"] == 2)
    since = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - since < 1, "nothing is waited for"
    await auntil(lambda: is_quiet(one) and is_left_alone(server))
    assert server.ledger()["requests"] == 2
    assert (one.usage.items, one.usage.requests) == (0, 2)


async def test_a_task_that_is_cancelled_before_it_begins_leaves_nothing_behind(clip):
    """No coroutine that was never awaited: Python warns of these, and warnings fail here."""
    one = clip()
    for call in (one.aembed, one.aembed_documents, one.aembed_images, one.aembed_pairs):
        task = asyncio.create_task(call([]))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    gc.collect()
    one.aembed_query("red").close()
    gc.collect()


async def test_cancelling_while_the_service_hangs(clip, server):
    server.configure(faults=["hang"], fault_rate=1)
    one = clip(max_concurrency=1, timeout=60)
    tasks = [asyncio.create_task(one.aembed_documents([f"text {number}"])) for number in range(5)]
    await auntil(lambda: received(server))
    for task in tasks:
        task.cancel()
    done, late = await asyncio.wait(tasks, timeout=1)
    assert not late
    assert all(task.cancelled() for task in done)
    server.configure(fault_rate=0)
    assert right(await one.aembed_documents(["after"]), ["after"])
    await auntil(lambda: is_quiet(one))
    assert server.ledger()["requests"] <= 3, "the four may go out in the moment between the first's leaving and theirs"


@pytest.mark.slow
async def test_cancelling_anywhere_leaves_all_slots_free(clip, server):
    draw = random.Random(5)
    server.configure(base_ms=1, fault_rate=0.3, faults=["status_500", "close_mid_body", "null_row"])
    one = clip(batch_size=2, max_concurrency=3)

    async def several(number):
        await asyncio.gather(*(one.aembed_documents([f"{number} {call} {i}" for i in range(12)]) for call in range(3)))

    for number in range(150):
        task = asyncio.create_task(several(number))
        await asyncio.sleep(draw.random() * 0.03)
        task.cancel()
        await asyncio.wait([task])
        if number % 10 == 0:
            await auntil(lambda: is_quiet(one))
    await auntil(lambda: is_quiet(one) and is_left_alone(server))
    server.reset()
    server.configure(base_ms=20)
    texts = [f"after {number}" for number in range(24)]
    assert right(await one.aembed_documents(texts), texts)
    books = server.ledger()
    assert books["in_flight_max"] == 3
    assert books["answered"] == {"1": 24}


async def test_cancelling_who_waits_for_a_slot(clip, server):
    server.configure(base_ms=1500)
    one = clip(max_concurrency=1)
    first = asyncio.create_task(one.aembed_documents(["first"]))
    await auntil(lambda: received(server))
    waiting = [asyncio.create_task(one.aembed_documents([f"waiting {number}"])) for number in range(50)]
    await auntil(lambda: numbers(one) == (1, 50))
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    assert right(await first, ["first"])
    await auntil(lambda: is_quiet(one))
    assert server.ledger()["requests"] == 1


def test_a_loop_that_ends_in_the_middle_of_a_call(clip, server):
    one = clip(max_concurrency=2, timeout=60)

    async def leave():
        task = asyncio.create_task(one.aembed_documents([f"text {number}" for number in range(500)]))
        await auntil(lambda: received(server))
        task.cancel()

    server.configure(faults=["hang"], fault_rate=1)
    asyncio.run(leave())
    server.configure(fault_rate=0)
    until(lambda: is_quiet(one))
    assert right(one.embed_documents(["after"]), ["after"])


@pytest.mark.parametrize("count", [1, 300])
def test_ctrl_c_ends_a_blocking_call_at_once(clip, server, count):
    server.configure(faults=["hang"], fault_rate=1)
    one = clip(max_concurrency=2, timeout=60)
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
    until(lambda: received(server, requests))
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
