"""Several devices under one model: who works, what a broken one leaves to the others, and passes that are queued."""

from __future__ import annotations

import gc
import shutil
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jinaclip import ConfigError, JinaClip, JinaClipError, telemetry
from jinaclip.backends.local import device
from jinaclip.backends.local.batcher import Item
from jinaclip.backends.local.runner import AsyncRunner, Runner
from jinaclip.backends.local.scheduler import MAX_WAITING_IMAGES, Scheduler
from jinaclip.config import EmbedderConfig
from jinaclip.telemetry import EnginePass

from .abacus import WAIT_S, Asker, SumRunner


class BrokenRunner(SumRunner):
    """Raises whatever it is given, until it is mended."""

    def __init__(self) -> None:
        super().__init__()
        self.mended = False

    def answer(self, given: np.ndarray, sums: np.ndarray) -> np.ndarray:
        if self.mended:
            return super().answer(given, sums)
        self.busy.set()
        raise RuntimeError("an illegal memory access was encountered")


class QueueingRunner(SumRunner):
    """An `AsyncRunner` whose device does nothing before somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []
        self.begun = threading.Semaphore(0)

    def begin_text(self, ids: np.ndarray, mask: np.ndarray) -> Callable[[], np.ndarray]:
        number = self.order.count("begin") + self.order.count("refuse")
        if self.room < len(ids):
            self.order.append("refuse")
            raise MemoryError
        self.order.append("begin")
        self.begun.release()

        def finish() -> np.ndarray:
            self.order.append(f"end {number}")
            return self.text(ids, mask)

        return finish

    def begin_images(self, pixels: np.ndarray) -> Callable[[], np.ndarray]:
        assert pixels.dtype == np.uint8
        assert pixels.shape[1:] == (2, 2, 3)
        sums = pixels.sum((1, 2, 3), dtype=np.float64)
        return lambda: self.answer(pixels, sums)


# -- the work is shared


def test_each_of_two_devices_runs_a_batch_at_the_same_time() -> None:
    runners, asker = [SumRunner(), SumRunner()], Asker()
    for runner in runners:
        runner.free.clear()
    scheduler = Scheduler(runners)
    scheduler.submit(asker.texts(*[30] * 12))
    for runner in runners:
        assert runner.busy.wait(WAIT_S), "one message wakes both"
    for runner in runners:
        runner.free.set()
    asker.wait(rows=12)
    assert [asker.rows[i][0] for i in range(12)] == [30] * 12
    assert sum(len(runner.batches) for runner in runners) == 4


def test_a_device_that_is_busy_leaves_the_rest_to_the_other() -> None:
    slow, fast, asker = SumRunner(), SumRunner(), Asker()
    slow.free.clear()
    fast.free.clear()
    scheduler = Scheduler([slow, fast])
    scheduler.submit(asker.texts(*[30] * 60))
    assert slow.busy.wait(WAIT_S)
    fast.free.set()
    asker.wait(rows=57)
    slow.free.set()
    asker.wait(rows=60)
    assert (len(slow.batches), len(fast.batches)) == (1, 19)


def test_a_query_waits_for_the_device_that_is_free_first() -> None:
    slow, fast, job, query = SumRunner(), SumRunner(), Asker(), Asker(urgent=True)
    for runner in (slow, fast):
        runner.free.clear()
    scheduler = Scheduler([slow, fast])
    scheduler.submit(job.texts(*[90] * 50))
    for runner in (slow, fast):
        assert runner.busy.wait(WAIT_S)
    scheduler.submit(query.texts(9))
    fast.free.set()
    query.wait(rows=1)
    assert (1, 9) in fast.batches[:3]
    slow.free.set()
    job.wait(rows=50)


def test_no_consumer_hears_of_two_batches_at_once() -> None:
    asker, inside, most = Asker(batch_size=1), list[int](), list[int]()
    plain = asker.consumer.deliver

    def deliver(items: list, rows: np.ndarray) -> None:
        inside.append(1)
        most.append(len(inside))
        plain(items, rows)
        inside.pop()

    asker.consumer.deliver = deliver
    scheduler = Scheduler([SumRunner() for _ in range(4)])
    scheduler.submit(asker.texts(*[3] * 400))
    asker.wait(rows=400)
    assert max(most) == 1


@pytest.mark.slow
def test_threads_end_and_all_runners_go_with_the_scheduler() -> None:
    before, runners = {*threading.enumerate()}, [SumRunner() for _ in range(3)]
    scheduler, asker = Scheduler(runners), Asker()
    scheduler.submit(asker.texts(4))
    asker.wait(rows=1)
    threads = {*threading.enumerate()} - before
    assert len(threads) == 3
    refs = [weakref.ref(runner) for runner in runners]
    del scheduler, runners
    gc.collect()
    for thread in threads:
        thread.join(WAIT_S)
        assert not thread.is_alive()
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


# -- trouble


def test_a_broken_device_hands_its_batches_to_the_other(caplog: pytest.LogCaptureFixture) -> None:
    broken, sound, asker = BrokenRunner(), SumRunner(), Asker()
    sound.free.clear()
    scheduler = Scheduler([broken, sound])
    scheduler.submit(asker.texts(*[30] * 60))
    assert broken.busy.wait(WAIT_S)
    sound.free.set()
    asker.wait(rows=60)
    assert not asker.errors
    assert not asker.refused
    assert len([record for record in caplog.records if "the other devices go on" in record.getMessage()]) == 1


def test_a_device_that_is_mended_works_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "REST_S", 0.01)
    broken, sound, asker = BrokenRunner(), SumRunner(), Asker()
    sound.free.clear()
    scheduler = Scheduler([broken, sound])
    scheduler.submit(asker.texts(*[30] * 30))
    assert sound.busy.wait(WAIT_S)
    assert broken.busy.wait(WAIT_S)
    broken.mended = True
    asker.wait(rows=27)
    sound.free.set()
    asker.wait(rows=30)


def test_where_all_devices_are_broken_the_call_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "REST_S", 0.01)
    scheduler, asker = Scheduler([BrokenRunner(), BrokenRunner()]), Asker()
    scheduler.submit(asker.texts(*[4] * 1000), block=False)
    asker.wait(errors=1)
    assert "the engine embeds nothing any more" in str(asker.errors[0])


def test_items_at_fault_are_refused_and_no_device_is_doubted() -> None:
    class Picky(SumRunner):
        def answer(self, given: np.ndarray, sums: np.ndarray) -> np.ndarray:
            if (given == 999).any():
                raise IndexError("index out of range in self")
            return super().answer(given, sums)

    asker = Asker()
    scheduler = Scheduler([Picky(), Picky()])
    items = asker.texts(*[2] * 200)
    for item in items[::50]:
        item.ids = [999, 5]
    scheduler.submit(items)
    asker.wait(rows=196, refused=4)
    assert set(asker.refused) == {0, 50, 100, 150}
    assert not asker.errors
    assert [one.broken for one in scheduler._worker.devices] == [None, None]


def test_out_of_memory_of_one_device_shrinks_its_own_batches_alone() -> None:
    small, large, asker = SumRunner(), SumRunner(), Asker()
    small.room = 1
    for runner in (small, large):
        runner.free.clear()
    scheduler = Scheduler([small, large])
    scheduler.submit(asker.texts(*[20] * 200))
    for runner in (small, large):
        assert runner.busy.wait(WAIT_S)
        runner.free.set()
    asker.wait(rows=200)
    assert not asker.refused
    assert not asker.errors
    assert max(large.batches) == (5, 20)


def test_an_item_that_finds_no_memory_on_one_device_is_embedded_by_another() -> None:
    class Small(SumRunner):
        def answer(self, given: np.ndarray, sums: np.ndarray) -> np.ndarray:
            if given.size > 40:
                self.busy.set()
                raise MemoryError
            return super().answer(given, sums)

    small, other, asker = Small(), SumRunner(), Asker()
    other.free.clear()
    scheduler = Scheduler([small, other])
    scheduler.submit(asker.texts(*[50] * 20))
    assert small.busy.wait(WAIT_S)
    other.free.set()
    asker.wait(rows=20)
    assert not asker.refused
    assert scheduler._worker.devices[0].broken is None


# -- passes that are queued


def test_a_pass_is_queued_before_the_vectors_of_the_one_before_are_waited_for() -> None:
    runner, asker = QueueingRunner(), Asker()
    assert isinstance(runner, AsyncRunner)
    assert not isinstance(SumRunner(), AsyncRunner)
    scheduler = Scheduler([runner])
    scheduler.submit(asker.texts(*[30] * 12))
    asker.wait(rows=12)
    assert [asker.rows[i][0] for i in range(12)] == [30] * 12
    assert runner.order == ["begin", "begin", "end 0", "begin", "end 1", "begin", "end 2", "end 3"]


def test_a_pass_that_finds_no_memory_while_another_is_under_way_is_halved() -> None:
    runner, asker = QueueingRunner(), Asker()
    runner.room = 2
    scheduler = Scheduler([runner])
    scheduler.submit(asker.texts(*[30] * 12))
    asker.wait(rows=12)
    assert not asker.refused
    assert max(row[1] for row in asker.rows.values()) <= 2


def test_images_of_a_queueing_runner_are_bytes() -> None:
    runner, asker = QueueingRunner(), Asker()
    scheduler = Scheduler([runner])
    items = asker.images(3)
    for item in items:
        item.pixels = np.full((2, 2, 3), item.index, np.uint8)
    scheduler.submit(items)
    asker.wait(rows=3)
    assert [asker.rows[i][0] for i in range(3)] == [0, 12, 24]
    scheduler.submit([Item(asker.consumer, 3, pixels=np.zeros((3, 2, 2), np.float32))])
    asker.wait(refused=1)


def test_a_consumer_may_have_two_batches_of_images_waiting_for_each_device() -> None:
    class Wide(SumRunner):
        max_batch_images = 50

    runners: list[Runner] = [Wide(), Wide()]
    worker = Scheduler(runners)._worker
    assert worker._max_images == 200 > MAX_WAITING_IMAGES


# -- with towers


@pytest.mark.slow
def test_vectors_of_two_devices_are_those_of_one_to_the_bit(folder: Path) -> None:
    texts = [f"{'word ' * (n % 3)}{n}" for n in range(80)]
    shown = [np.random.default_rng(n).integers(0, 256, (40, 50, 3), np.uint8) for n in range(16)]
    seen: list[EnginePass] = []

    def watch(event: object) -> None:
        if isinstance(event, EnginePass):
            seen.append(event)

    options = {"backend": "local", "cache": False, "batch_size": 1}  # the company a text has decides how it is rounded
    with (
        JinaClip(str(folder), device="cpu", **options) as one,
        JinaClip(str(folder), device=["cpu", "cpu"], **options) as two,
    ):
        expected = [one.embed_documents(texts), one.embed_images(shown)]
        before = telemetry.get_hooks()
        telemetry.set_hooks(watch)
        try:
            found = [two.embed_documents(texts), two.embed_images(shown)]
        finally:
            telemetry.set_hooks(*before)
        assert one.fingerprint == two.fingerprint
        assert one.space == two.space
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))
    assert {event.device for event in seen} == {"cpu", "cpu#2"}


def test_devices_are_named_with_commas_or_in_a_list() -> None:
    assert EmbedderConfig(device="cuda:0, cuda:1").devices == ("cuda:0", "cuda:1")
    assert EmbedderConfig(device=["cuda:0", "cuda:1"]) == EmbedderConfig(device="cuda:0,cuda:1")
    for bad in ([], [1], 5, None):
        with pytest.raises(ConfigError, match="must be a str, or a list of str"):
            EmbedderConfig(device=bad)


@pytest.mark.parametrize("names", ["cpu,nowhere", "cpu,", "cuda:all", "cuda:0,cuda:99"])
def test_a_device_that_is_not_there_is_named(names: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match="is not there"):
        JinaClip(str(folder), backend="local", device=names).load()


@pytest.mark.slow
def test_closing_frees_the_weights_of_all_devices(folder: Path, tmp_path: Path) -> None:
    own = shutil.copytree(folder, tmp_path / "own")  # which nobody else has loaded
    others = {*threading.enumerate()}
    clip = JinaClip(str(own), backend="local", device="cpu,cpu")
    clip.embed_query("load")
    towers = [weakref.ref(runner.towers) for runner in clip._backend._model.runners]
    assert len({id(ref()) for ref in towers}) == 2
    threads = [t for t in threading.enumerate() if t.name == "jinaclip-scheduler" and t not in others]
    assert len(threads) == 2
    clip.close()
    for thread in threads:
        tries = 0
        while thread.is_alive():  # it may still be on its way back from delivering, and hold what it delivered
            gc.collect()
            thread.join(WAIT_S / 100)
            tries += 1
            assert tries < 100
    gc.collect()
    assert [ref() for ref in towers] == [None, None]


def test_a_broken_device_under_a_jinaclip_costs_no_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with JinaClip(str(folder), backend="local", device="cpu,cpu", cache=False) as clip:
        expected = clip.embed_documents([f"text {n}" for n in range(200)])
        second = clip._backend._model.runners[1]
        monkeypatch.setattr(second, "text", lambda ids, mask: (_ for _ in ()).throw(JinaClipError("gone")))
        found = clip.embed_documents([f"text {n}" for n in range(200)])
    assert np.allclose(found, expected, atol=1e-6)
