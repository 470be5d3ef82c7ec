"""The thread that works on a store: what interrupts callers, what stores raise, and when it ends."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence

import pytest

from jinaclip.cache.flights import Flights, Leader
from jinaclip.cache.store import StoreError, StoreSize
from jinaclip.cache.worker import MOST_PENDING, Worker
from tests.steps import breaking_at
from tests.watching import until

KEYS = [bytes([number]) * 32 for number in range(200)]


class Memory:
    """A store in memory, which may fail."""

    name = "memory"

    def __init__(self) -> None:
        self.entries: dict[bytes, bytes] = {}
        self.error: BaseException | None = None
        self.threads: set[str] = set()
        self.gate = threading.Event()
        self.gate.set()

    def _look(self) -> None:
        assert self.gate.wait(60)
        self.threads.add(threading.current_thread().name)
        if self.error is not None:
            raise self.error

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        self._look()
        return {key: self.entries[key] for key in keys if key in self.entries}

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        self._look()
        self.entries.update(entries)

    def delete_many(self, keys: Sequence[bytes]) -> None:
        self._look()
        for key in keys:
            self.entries.pop(key, None)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        yield from self.entries.items()

    def size(self) -> StoreSize:
        self._look()
        return StoreSize(len(self.entries), 0)

    def clear(self) -> None:
        self.entries.clear()

    def close(self) -> None:
        self._look()

    def forget(self) -> None:
        pass


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def worker(store: Memory) -> Iterator[Worker]:
    found = Worker(store)
    yield found
    store.error = None
    store.gate.set()
    found.close()


def test_an_interrupt_anywhere_in_a_put_leaves_nothing_unwritten(worker: Worker, store: Memory) -> None:
    """Whatever it struck, what is put next is written, by itself."""
    number = 1
    while breaking_at(number, worker.put_many, {KEYS[0]: b"struck"}):
        worker.put_many({KEYS[1]: b"%d" % number})
        until(lambda number=number: store.entries.get(KEYS[1]) == b"%d" % number)
        number += 1
    assert number > 20
    until(lambda: store.entries.get(KEYS[0]) == b"struck")


@pytest.mark.parametrize("method", ["get_many", "delete_many"])
def test_an_interrupt_anywhere_in_another_method_stops_nobody(worker: Worker, store: Memory, method: str) -> None:
    store.entries[KEYS[2]] = b"there"
    number = 1
    while breaking_at(number, getattr(worker, method), KEYS[:2]) and number < 400:
        assert worker.get_many(KEYS[2:3]) == {KEYS[2]: b"there"}
        number += 7
    assert number > 20


def test_an_interrupt_anywhere_in_taking_the_lead_leaves_nobody_waiting() -> None:
    flights, number = Flights(), 1
    while True:
        first, second = Leader(flights), Leader(flights)
        struck = breaking_at(number, first.lead, KEYS[0])
        first.leave_all()
        assert second.lead(KEYS[0]) is None
        second.leave_all()
        if not struck:
            break
        number += 1
    assert number > 5
    assert flights.by_key == {}


def test_who_is_late_takes_no_lead() -> None:
    """A thread that still prepares an image for a call that has ended."""
    flights = Flights()
    late, other = Leader(flights), Leader(flights)
    late.leave_all()
    assert late.lead(KEYS[0]) is None
    assert other.lead(KEYS[0]) is None


def test_who_follows_is_told_when_the_leader_is_done() -> None:
    flights = Flights()
    first, second = Leader(flights), Leader(flights)
    assert first.lead(KEYS[0]) is None
    latches = [second.lead(KEYS[0]) for _ in range(2)]
    assert not any(latch.done() for latch in latches if latch)
    first.leave(KEYS[0])
    assert all(latch is not None and latch.done() for latch in latches)
    assert second.lead(KEYS[0]) is None


def test_calls_that_begin_and_end_while_old_entries_are_looked_for() -> None:
    flights, ends, failures = Flights(), threading.Event(), []

    def call() -> None:
        while not ends.is_set():
            leader = Leader(flights)
            leader.note_used(KEYS[:10])

    def look() -> None:
        try:
            held = Leader(flights)
            held.note_used(KEYS[:3])
            for _ in range(2000):
                assert flights.find_needed(KEYS) >= set(KEYS[:3])
        except BaseException as error:
            failures.append(error)
        finally:
            ends.set()

    threads = [threading.Thread(target=function) for function in (call, call, look)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []


ERRORS = [StoreError("it fails"), OSError("disk"), ValueError("secret"), MemoryError(), KeyError("k"), RecursionError()]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_store_that_fails_costs_its_entries_and_one_warning(
    worker: Worker, store: Memory, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    store.error = error
    for key in KEYS[:5]:
        worker.put_many({key: b"entry"})
        assert worker.get_many([key, KEYS[9]]) == {key: b"entry"}  # it waits in memory
        worker.delete_many([KEYS[8]])
    assert not worker.flush(60)
    worker.close()
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "embedding goes on without it" in warning.getMessage()
    assert "secret" not in warning.getMessage()
    store.error = None
    worker.close()  # tries once more
    assert store.entries == dict.fromkeys(KEYS[:5], b"entry")


def test_a_store_that_is_slow_does_not_fill_the_memory(
    worker: Worker, store: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    store.gate.clear()
    for start in range(0, 3 * MOST_PENDING, 500):
        worker.put_many({number.to_bytes(32, "little"): b"e" for number in range(start, start + 500)})
    assert len(worker._pending) <= MOST_PENDING + 500
    assert "takes nothing in as fast" in caplog.text
    store.gate.set()
    assert worker.flush(60)
    worker.put_many({KEYS[0]: b"later"})
    until(lambda: store.entries.get(KEYS[0]) == b"later")


def test_after_a_failure_with_the_memory_full_it_writes_again(
    worker: Worker, store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jinaclip.cache.worker.PAUSE_SECONDS", 0.0)
    store.error = StoreError("for now")
    worker.put_many({number.to_bytes(32, "little"): b"e" for number in range(MOST_PENDING + 1)})
    until(lambda: store.threads)
    store.error = None
    worker.put_many({KEYS[0]: b"not kept"})
    until(lambda: len(store.entries) == MOST_PENDING + 1)


def test_the_thread_ends_when_nothing_is_to_be_done_and_begins_again(
    worker: Worker, store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jinaclip.cache.worker.IDLE_SECONDS", 0.02)
    for key in KEYS[:20]:
        worker.put_many({key: b"entry"})
        until(lambda: worker._thread is None)
        assert worker.get_many([key]) == {key: b"entry"}
    assert store.threads == {"jinaclip-cache"}
    assert len(store.entries) == 20


def test_a_worker_that_nobody_needs_any_more_goes_once_it_has_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jinaclip.cache.worker.IDLE_SECONDS", 0.02)
    store = Memory()
    worker = Worker(store)
    store.gate.clear()
    worker.put_many({KEYS[0]: b"entry"})
    thread = worker._thread
    del worker
    store.gate.set()
    assert thread is not None
    thread.join(60)
    assert store.entries == {KEYS[0]: b"entry"}
    assert not thread.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_waits_for_the_store_and_no_longer_than_it_may(
    worker: Worker, store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child whose parent was in the middle of something goes without; the parent goes on."""
    monkeypatch.setattr("jinaclip.cache.worker.FORK_SECONDS", 0.05)
    store.entries[KEYS[2]] = b"there"
    for is_busy in (False, True):
        if is_busy:
            store.gate.clear()
            worker.put_many({KEYS[0]: b"entry"})
            until(lambda: worker._jobs.empty())
        child = os.fork()
        if not child:
            signal.alarm(60)
            store.gate = threading.Event()
            store.gate.set()
            found = worker.get_many(KEYS[2:3])
            worker.put_many({KEYS[1]: b"child's"})
            flushed = worker.flush(60)
            worker.close()
            os._exit(0 if (found == {}) == is_busy and flushed == (not is_busy) else 1)
        assert os.waitpid(child, 0)[1] == 0
        store.gate.set()
    assert worker.flush(60)
    assert store.entries == {KEYS[0]: b"entry", KEYS[2]: b"there"}
