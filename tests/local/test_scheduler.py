"""The scheduler with a runner of a few lines of numpy: batches, turns, room, failures, and the end of its thread."""

from __future__ import annotations

import gc
import itertools
import math
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from jinaclip import ConfigError
from jinaclip.backends.local.batcher import Item
from jinaclip.backends.local.scheduler import MAX_WAITING_IMAGES, Scheduler, Worker
from tests.steps import breaking_at

from .abacus import WAIT_S, Asker, SumRunner


def next_batch(worker: Worker) -> list[Item] | None:
    """What its first device would run next."""
    return worker.take(worker.devices[0], wait=True)


@pytest.fixture
def runner() -> Iterator[SumRunner]:
    made = SumRunner()
    yield made
    made.free.set()


@pytest.fixture
def scheduler(runner: SumRunner) -> Scheduler:
    return Scheduler([runner])


@pytest.fixture
def held(scheduler: Scheduler, runner: SumRunner) -> Iterator[SumRunner]:
    """The runner in the middle of somebody's batch, so that what is submitted waits until `free` is set."""
    other = Asker()
    runner.free.clear()
    scheduler.submit(other.texts(1))
    assert runner.busy.wait(WAIT_S)
    yield runner
    runner.free.set()
    other.wait(rows=1)


# -- batches


def test_each_item_gets_its_own_vector(scheduler: Scheduler) -> None:
    asker = Asker()
    scheduler.submit(asker.texts(*range(1, 60)))
    asker.wait(rows=59)
    assert [asker.rows[i][0] for i in range(59)] == list(range(1, 60))


def test_what_waits_is_merged_whoever_asked(held: SumRunner, scheduler: Scheduler) -> None:
    askers = [Asker() for _ in range(8)]
    for asker in askers:
        scheduler.submit(asker.texts(5))
    held.free.set()
    for asker in askers:
        asker.wait(rows=1)
        assert asker.rows[0].tolist() == [5, 8]
    assert held.batches[1:] == [(8, 5)]


def test_texts_share_a_batch_only_with_texts_of_like_length(held: SumRunner, scheduler: Scheduler) -> None:
    asker = Asker()
    scheduler.submit(asker.texts(10, 48, 26, 40, 9))
    held.free.set()
    asker.wait(rows=5)
    assert sorted(held.batches[1:]) == [(2, 48), (3, 26)]


def test_a_batch_holds_so_many_padded_tokens_or_a_single_text(held: SumRunner, scheduler: Scheduler) -> None:
    asker = Asker()
    scheduler.submit(asker.texts(*[30] * 7, 250))
    held.free.set()
    asker.wait(rows=8)
    assert held.batches[1:] == [(3, 30), (3, 30), (1, 30), (1, 250)]


def test_images_and_texts_go_apart_and_no_batch_has_too_many_images(held: SumRunner, scheduler: Scheduler) -> None:
    shown, written = Asker(), Asker()
    scheduler.submit(shown.images(7))
    scheduler.submit(written.texts(4))
    held.free.set()
    shown.wait(rows=7)
    written.wait(rows=1)
    assert [shown.rows[i][0] for i in range(7)] == [12 * i for i in range(7)]
    assert sorted(held.batches[1:]) == [(1, 3), (1, 4), (3, 3), (3, 3)]


def test_a_consumer_bounds_the_batches_that_begin_with_its_items(held: SumRunner, scheduler: Scheduler) -> None:
    asker = Asker(batch_size=2)
    scheduler.submit(asker.texts(4, 4, 4, 4, 4))
    held.free.set()
    asker.wait(rows=5)
    assert held.batches[1:] == [(2, 4), (2, 4), (1, 4)]


# -- turns


def test_a_query_does_not_wait_for_a_bulk_job() -> None:
    worker = Worker([SumRunner()])
    bulk, query = Asker(), Asker()
    worker.submit(bulk.texts(*[50] * 1000), block=False)
    worker.submit(query.texts(9), block=False)
    batches = [next_batch(worker) for _ in range(2)]
    assert any(item.consumer is query.consumer for batch in batches for item in batch or [])


def test_consumers_take_turns() -> None:
    worker = Worker([SumRunner()])
    askers = [Asker(batch_size=1) for _ in range(3)]
    for asker, length in zip(askers, (10, 40, 90), strict=True):
        worker.submit(asker.texts(*[length] * 3), block=False)
    turns = [batch[0].consumer for batch in (next_batch(worker) for _ in range(9)) if batch]
    assert turns == [asker.consumer for asker in askers] * 3


def passes_until(worker: Worker, asker: Asker, count: int) -> int:
    """Batches that are run until so many items of a consumer were in one."""
    for number in itertools.count(1):
        batch = next_batch(worker) or []
        count -= sum(item.consumer is asker.consumer for item in batch)
        if count <= 0:
            return number
    raise AssertionError


@pytest.mark.parametrize("length", [9, 50])
@pytest.mark.parametrize("callers", [1, 32])
def test_a_query_waits_for_two_passes_at_most_however_many_jobs_there_are(callers: int, length: int) -> None:
    """The one under way when it comes, and one more."""
    worker, query = Worker([SumRunner()]), Asker(urgent=True)
    for _ in range(callers):
        worker.submit(Asker().texts(*[50] * 100), block=False)
    for comes_after in range(4):
        for _ in range(comes_after):
            next_batch(worker)
        worker.submit(query.texts(length), block=False)
        assert passes_until(worker, query, 1) <= 2


def test_queries_of_many_callers_go_together_and_leave_no_room_to_jobs_of_like_length() -> None:
    worker = Worker([SumRunner()])
    worker.submit(Asker().texts(*[9] * 1000), block=False)
    next_batch(worker)
    queries = [Asker(urgent=True) for _ in range(8)]
    for length, query in enumerate(queries, 5):
        worker.submit(query.texts(length), block=False)
    batch = next_batch(worker) or []
    assert {item.consumer for item in batch} == {query.consumer for query in queries}


def test_jobs_have_every_other_pass_however_many_queries_come() -> None:
    worker, job = Worker([SumRunner()]), Asker()
    worker.submit(job.texts(*[50] * 20), block=False)
    passes = []
    for number in range(20):
        worker.submit(Asker(urgent=True).texts(*[5] * 40, first=number), block=False)
        passes.append((next_batch(worker) or [])[0].consumer)
    assert passes.count(job.consumer) == 10


def test_a_query_of_a_pass_that_failed_is_run_again_before_jobs() -> None:
    runner, job, query = SumRunner(), Asker(), Asker(urgent=True)
    worker = Worker([runner])
    worker.submit(job.texts(*[50] * 100), block=False)
    worker.submit(query.texts(9, 9), block=False)
    runner.error = ValueError("too much at once")
    worker.devices[0].run_batch(next_batch(worker) or [])
    assert passes_until(worker, query, 1) <= 2


def test_a_job_rides_along_where_a_query_leaves_room() -> None:
    worker, job, query = Worker([SumRunner()]), Asker(), Asker(urgent=True)
    worker.submit(job.texts(*[9] * 50), block=False)
    worker.submit(query.texts(9), block=False)
    batch = next_batch(worker) or []
    assert [item.consumer for item in batch] == [query.consumer] + [job.consumer] * 10


def test_submitting_waits_while_too_much_is_waiting(held: SumRunner, scheduler: Scheduler) -> None:
    asker = Asker()
    scheduler.submit(asker.images(MAX_WAITING_IMAGES))
    late = Item(asker.consumer, MAX_WAITING_IMAGES, pixels=np.zeros((3, 2, 2), np.float32))
    feed = threading.Thread(target=scheduler.submit, args=([late],))
    feed.start()
    feed.join(0.1)
    assert feed.is_alive()
    held.free.set()
    feed.join(WAIT_S)
    assert not feed.is_alive()
    asker.wait(rows=MAX_WAITING_IMAGES + 1)


def test_submitting_without_blocking_never_waits(held: SumRunner, scheduler: Scheduler) -> None:
    asker = Asker()
    for first in range(0, 3 * MAX_WAITING_IMAGES, MAX_WAITING_IMAGES):
        images = [Item(asker.consumer, first + item.index, pixels=item.pixels) for item in asker.images(32)]
        scheduler.submit(images, block=False)
    assert not asker.rows
    held.free.set()
    asker.wait(rows=96)


# -- failures


@pytest.mark.parametrize("room", [1, 3, 6])
def test_out_of_memory_halves_the_batch(held: SumRunner, scheduler: Scheduler, room: int) -> None:
    asker = Asker()
    held.room = room
    scheduler.submit(asker.texts(*range(1, 13)))
    held.free.set()
    asker.wait(rows=12)
    assert [asker.rows[i][0] for i in range(12)] == list(range(1, 13))
    assert not asker.errors
    assert max(row[1] for row in asker.rows.values()) <= room


def test_one_item_without_room_fails_by_name_of_the_device(runner: SumRunner, scheduler: Scheduler) -> None:
    asker = Asker()
    runner.room = 0
    scheduler.submit(asker.texts(4))
    asker.wait(refused=1)
    assert isinstance(asker.refused[0], ConfigError)
    assert "out of memory on abacus" in str(asker.refused[0])
    assert not asker.errors, "the call goes on"


def test_halves_are_run_when_the_failed_pass_is_forgotten(held: SumRunner, scheduler: Scheduler) -> None:
    """The error's traceback holds what the pass computed; while it lives, a smaller pass finds no more room."""
    asker, large = Asker(), []

    class Activation:
        pass

    def images(pixels: np.ndarray) -> np.ndarray:
        assert not [alive for ref in large if (alive := ref()) is not None], "the failed pass is still in memory"
        activation = Activation()
        large.append(weakref.ref(activation))
        if len(pixels) > 1:
            raise MemoryError
        return SumRunner.images(held, pixels)

    held.images = images  # type: ignore[method-assign]
    scheduler.submit(asker.images(3))
    held.free.set()
    asker.wait(rows=3)
    assert len(large) == 4, "all three, and from then on one by one"


BAD = 999
"""An id that a runner with a fault cannot take."""


def text_of(asker: Asker, number: int, *ids: int) -> Item:
    return Item(asker.consumer, number, ids=ids)


def raise_error(given: np.ndarray) -> np.ndarray:
    raise IndexError("index out of range in self")


def give_nan(given: np.ndarray) -> np.ndarray:
    rows = np.ones((len(given), 2), np.float32)
    rows[(given == BAD).any(axis=1)] = np.nan
    return rows


def give_nan_everywhere(given: np.ndarray) -> np.ndarray:
    return np.full((len(given), 2), np.nan, np.float32)


def give_too_few_rows(given: np.ndarray) -> np.ndarray:
    return np.ones((len(given) - 1, 2), np.float32)


def give_nothing(given: np.ndarray) -> Any:
    return None


def panic(given: np.ndarray) -> np.ndarray:
    raise Panic("a library panics with no Exception")


class Panic(BaseException):
    pass


FAULTS = [raise_error, give_nan, give_nan_everywhere, give_too_few_rows, give_nothing, panic]


class FaultyRunner(SumRunner):
    """Goes wrong in one way wherever `BAD` is among the ids, or the whole pass with it."""

    max_batch_tokens = 10_000

    def __init__(self, fault: Callable[[np.ndarray], np.ndarray]) -> None:
        super().__init__()
        self.fault = fault

    def text(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if not (ids == BAD).any():
            return super().text(ids, mask)
        self.batches.append(ids.shape)
        return self.fault(ids)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("culprits", [1, 3, 40])
def test_of_a_batch_that_fails_only_the_items_at_fault_are_refused(
    fault: Callable[[np.ndarray], np.ndarray], culprits: int
) -> None:
    runner, asker, count = FaultyRunner(fault), Asker(), 1000
    at_fault = set(random.Random(culprits).sample(range(count), culprits))
    scheduler = Scheduler([runner])
    scheduler.submit([text_of(asker, n, 5, BAD if n in at_fault else 6) for n in range(count)])
    asker.wait(rows=count - culprits, refused=culprits)
    assert set(asker.refused) == at_fault
    assert not asker.errors
    assert len(runner.batches) <= count / 64 + 1 + culprits * (2 * math.log2(64) + 2)


def test_many_items_at_fault_side_by_side_are_no_broken_engine() -> None:
    runner, asker = FaultyRunner(raise_error), Asker()
    scheduler = Scheduler([runner])
    for first in range(0, 1000, 250):  # as they are fed: the first are all at fault
        scheduler.submit([text_of(asker, n, 5, BAD if n < 250 else 6) for n in range(first, first + 250)])
    asker.wait(rows=750, refused=250)
    assert not asker.errors


@pytest.mark.parametrize("fault", FAULTS)
def test_one_consumer_s_items_at_fault_cost_the_others_nothing(fault: Callable[[np.ndarray], np.ndarray]) -> None:
    runner, bad, others = FaultyRunner(fault), Asker(), [Asker() for _ in range(20)]
    scheduler = Scheduler([runner])
    for number in range(25):
        scheduler.submit([text_of(bad, number, 5, BAD)])
        for other in others:
            scheduler.submit([text_of(other, number, 5, 6)])
    for other in others:
        other.wait(rows=25)
        assert not other.errors
        assert not other.refused
    bad.wait(refused=25)
    assert not bad.errors


def test_items_that_fail_only_together_all_come_back() -> None:
    class Quarrelsome(SumRunner):
        def text(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
            if {11, 12} <= {*ids.ravel().tolist()}:
                raise RuntimeError("these two do not get along")
            return super().text(ids, mask)

    asker = Asker()
    scheduler = Scheduler([Quarrelsome()])
    scheduler.submit([text_of(asker, n, 11 if n == 3 else 12 if n == 4 else 5) for n in range(20)])
    asker.wait(rows=20)
    assert not asker.refused


@pytest.mark.parametrize("batch_size", [1, 64])
@pytest.mark.parametrize("kind", ["text", "image"])
@pytest.mark.parametrize("fault", [raise_error, give_nan_everywhere, give_nothing])
def test_a_broken_engine_ends_each_call_after_a_handful_of_passes(
    fault: Callable[[np.ndarray], np.ndarray], kind: str, batch_size: int
) -> None:
    runner, askers, passes = SumRunner(), [Asker(batch_size), Asker(batch_size)], []

    def broken(given: np.ndarray, mask: object = None) -> np.ndarray:
        passes.append(len(given))
        return fault(given)

    runner.text = runner.images = broken  # type: ignore[method-assign]
    scheduler = Scheduler([runner])
    for asker in askers:
        scheduler.submit(asker.texts(*[4] * 1000) if kind == "text" else asker.images(1000), block=False)
        asker.wait(errors=1)
        assert "the engine embeds nothing any more" in str(asker.errors[0])
    assert len(passes) <= 12


def test_a_broken_engine_that_recovers_serves_those_who_come_later() -> None:
    runner, asker, later = FaultyRunner(raise_error), Asker(), Asker()
    runner.vocab_size = 10**6
    sound = runner.text
    runner.text = lambda ids, mask: raise_error(ids)  # type: ignore[method-assign]
    scheduler = Scheduler([runner])
    scheduler.submit(asker.texts(*[4] * 100))
    asker.wait(errors=1)
    runner.text = sound  # type: ignore[method-assign]
    scheduler.submit(later.texts(4, 4))
    later.wait(rows=2)


def test_a_query_beside_a_batch_that_is_taken_apart_waits_for_its_turn_only() -> None:
    worker, bulk, query = Worker([FaultyRunner(raise_error)]), Asker(), Asker()
    worker.submit([text_of(bulk, n, 5, BAD) for n in range(64)], block=False)
    batch = next_batch(worker)
    assert batch is not None
    worker.devices[0].run_batch(batch)
    worker.submit(query.texts(2), block=False)
    batches = [next_batch(worker) for _ in range(2)]
    assert any(item.consumer is query.consumer for batch in batches for item in batch or [])


def test_what_a_withdrawn_consumer_has_left_of_a_failed_batch_is_not_run_again() -> None:
    worker, gone = Worker([FaultyRunner(raise_error)]), Asker()
    worker.submit([text_of(gone, n, 5, BAD) for n in range(64)], block=False)
    batch = next_batch(worker)
    assert batch is not None
    worker.devices[0].run_batch(batch)
    worker.withdraw(gone.consumer)
    worker.close()
    assert next_batch(worker) is None
    assert (gone.refused, gone.errors) == ({}, [])


# -- impossible items


@pytest.mark.parametrize("ids", [[], [-1], [1000], [2**62], [7], [7, 7, 7]])
def test_impossible_ids_are_refused_before_they_wait(ids: list[int], held: SumRunner, scheduler: Scheduler) -> None:
    asker = Asker()
    scheduler.submit([text_of(asker, 0, 3), text_of(asker, 1, *ids), text_of(asker, 2, 3)])
    assert [*asker.refused] == [1], "at once, while nothing is run"
    held.free.set()
    asker.wait(rows=2)
    assert held.batches[1:] == [(2, 1)]
    assert not asker.errors


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((3, 2, 2), np.nan, np.float32),
        np.full((3, 2, 2), np.inf, np.float32),
        np.zeros((3, 4, 4), np.float32),
        np.zeros((3, 2, 2), np.float64),
        np.zeros(0, np.float32),
    ],
)
def test_impossible_pixels_are_refused_before_they_wait(pixels: Any, held: SumRunner, scheduler: Scheduler) -> None:
    asker = Asker()
    scheduler.submit([*asker.images(1), Item(asker.consumer, 1, pixels=pixels)])
    assert [*asker.refused] == [1]
    held.free.set()
    asker.wait(rows=1)


def test_a_consumer_that_cannot_take_its_vectors_harms_no_other(held: SumRunner, scheduler: Scheduler) -> None:
    broken, sound = Asker(), Asker()

    def deliver(items: list[Item], rows: np.ndarray) -> None:
        raise BrokenPipeError("no terminal")

    broken.consumer.deliver = deliver
    scheduler.submit(broken.texts(4))
    scheduler.submit(sound.texts(4))
    held.free.set()
    broken.wait(errors=1)
    sound.wait(rows=1)
    assert isinstance(broken.errors[0], BrokenPipeError)
    assert sound.rows[0].tolist() == [4, 2]


# -- letting go


def test_what_a_withdrawn_consumer_has_waiting_is_never_run(held: SumRunner, scheduler: Scheduler) -> None:
    gone, other = Asker(), Asker()
    scheduler.submit(gone.texts(4, 4))
    scheduler.submit(other.texts(4))
    scheduler.withdraw(gone.consumer)
    scheduler.submit(gone.texts(4, first=2))
    held.free.set()
    other.wait(rows=1)
    assert held.batches[1:] == [(1, 4)]
    assert (gone.rows, gone.errors) == ({}, [])


def test_withdrawing_frees_a_thread_that_waits_to_submit(held: SumRunner, scheduler: Scheduler) -> None:
    asker = Asker()
    scheduler.submit(asker.images(MAX_WAITING_IMAGES))
    feed = threading.Thread(target=scheduler.submit, args=(asker.images(1),))
    feed.start()
    scheduler.withdraw(asker.consumer)
    feed.join(WAIT_S)
    assert not feed.is_alive()


@pytest.mark.slow
def test_the_thread_ends_and_the_runner_goes_with_the_scheduler() -> None:
    before = {*threading.enumerate()}
    runner = SumRunner()
    scheduler, asker = Scheduler([runner]), Asker()
    scheduler.submit(asker.texts(4))
    asker.wait(rows=1)
    (thread,) = {*threading.enumerate()} - before
    assert thread.name == "jinaclip-scheduler"
    ref = weakref.ref(runner)
    del runner, scheduler
    gc.collect()
    thread.join(WAIT_S)
    assert not thread.is_alive()
    gc.collect()
    assert ref() is None


def test_what_waits_or_comes_when_the_worker_closes_hears_why() -> None:
    worker, waiting, late = Worker([SumRunner()]), Asker(), Asker()
    worker.submit(waiting.texts(4), block=True)
    worker.close()
    worker.submit(late.texts(4), block=True)
    worker.run(worker.devices[0])
    for asker in (waiting, late):
        assert ["process is ending" in str(error) for error in asker.errors] == [True]
    assert next_batch(worker) is None


# -- signals


def withdrawal(worker: Worker) -> tuple[Asker, Callable[[], object]]:
    asker = Asker()
    worker.submit(asker.texts(4, 4), block=True)
    return asker, lambda: worker.withdraw(asker.consumer)


def submission(worker: Worker) -> tuple[Asker, Callable[[], object]]:
    asker = Asker()
    items = asker.texts(4, 4)
    return asker, lambda: worker.submit(items, block=True)


def wait_for_room(worker: Worker) -> tuple[Asker, Callable[[], object]]:
    """Too much waits already, and the worker is about to make room."""
    asker = Asker()
    worker.submit([Item(asker.consumer, number, pixels=PICTURE) for number in range(MAX_WAITING_IMAGES)], block=True)
    late = [Item(asker.consumer, MAX_WAITING_IMAGES, pixels=PICTURE)]
    return asker, lambda: worker.submit(late, block=True)


PICTURE = np.zeros((3, 2, 2), np.float32)


@pytest.mark.parametrize("begin", [submission, withdrawal, wait_for_room])
def test_a_signal_handler_s_exception_at_any_instruction_harms_nobody(
    begin: Callable[[Worker], tuple[Asker, Callable[[], object]]],
) -> None:
    """It may strike a caller's thread anywhere: then the worker goes on, and its other consumers are served."""
    worker = Worker([SumRunner()])
    worker.start()
    try:
        for number in itertools.count(1):
            struck, act = begin(worker)
            was_struck = breaking_at(number, act)
            worker.withdraw(struck.consumer)
            other = Asker()
            worker.submit(other.texts(3), block=True)
            other.wait(rows=1)
            if not was_struck:
                break
        assert number > 20
    finally:
        worker.close()
