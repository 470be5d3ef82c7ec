"""Who runs next: one thread for a loaded model, which merges what all its consumers wait for.

Consumers hand in single texts and images. The thread puts what waits into batches of like length, whoever asked: many
small calls at once cost about one batch, no text pads another far beyond its length, and consumers take turns, so that
a query does not wait for a whole bulk job.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
import time
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue

import numpy as np
from numpy.typing import NDArray

from jinaclip import telemetry
from jinaclip.backends.local.batcher import Consumer, Item, Queue, consumers_of
from jinaclip.backends.local.runner import Runner
from jinaclip.errors import ConfigError, JinaClipError
from jinaclip.process import Latch

MAX_WAITING_TEXTS, MAX_WAITING_IMAGES = 4096, 32
"""Items that one consumer may have waiting, so that memory does not grow with its input."""
EXIT_TIMEOUT_S = 10.0
"""How long the end of the process waits for the batch under way."""


class Scheduler:
    """Runs a model for all consumers in a thread of its own.

    The thread ends, and lets go of the model, when nobody holds the scheduler any more.
    """

    def __init__(self, runner: Runner) -> None:
        self._worker = Worker(runner)
        self._worker.start()
        weakref.finalize(self, self._worker.close)

    def submit(self, items: list[Item], *, block: bool = True) -> None:
        """Queues items of one consumer, which hears of all that becomes of them.

        Args:
            items: of one consumer, at least one, and all of one kind: texts or images.
            block: whether to wait while the consumer has as many items waiting as it may.
        """
        self._worker.submit(items, block=block)

    def withdraw(self, consumer: Consumer) -> None:
        """Forgets what a consumer has waiting; what it submits from now on is ignored."""
        self._worker.withdraw(consumer)


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@functools.cache
def _close_at_exit() -> None:
    """Asks once that all threads end before the interpreter does.

    A thread that is still computing, or freeing weights, while the interpreter ends can abort the process. Functions
    registered later run earlier: this one is registered when a model is there, and so runs before those of the library
    that computes.
    """
    atexit.register(_close_workers)


def _close_workers() -> None:
    for worker in list(_workers):
        worker.close()
    for thread in list(_threads):
        thread.join(EXIT_TIMEOUT_S)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_workers.clear)  # their threads are not there, their locks may be held


class Worker:
    """The queue of a scheduler and the thread that empties it.

    The thread holds the worker, and the worker does not know the scheduler, so that the scheduler can be collected.
    Consumers and finalizers touch nothing but the inbox, whose `put` is one step in C: an exception of a signal handler
    that strikes a caller's thread anywhere leaves no lock taken and nothing half done.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._inbox: SimpleQueue[list[Item] | Consumer | None] = SimpleQueue()
        self._queue = Queue(runner.max_batch_tokens, runner.max_batch_images)
        self._open = True
        self._pid = os.getpid()

    def start(self) -> None:
        """Starts the thread."""
        thread = threading.Thread(target=self.run, name="jinaclip-scheduler", daemon=True)
        _close_at_exit()
        _workers.add(self)
        _threads.add(thread)
        thread.start()

    def submit(self, items: list[Item], *, block: bool) -> None:
        """Hands in items of one consumer."""
        consumer = items[0].consumer
        limit = MAX_WAITING_TEXTS if items[0].pixels is None else MAX_WAITING_IMAGES
        while block and self._must_wait(consumer, limit):
            room = consumer.room = Latch()
            if self._must_wait(consumer, limit):  # it may have got room before the latch could be seen
                room.wait()
        if consumer.withdrawn:
            return
        consumer.submitted += len(items)
        self._inbox.put(items)
        if not self._open:  # the thread may have looked for the last time
            refuse(self._late())

    def _must_wait(self, consumer: Consumer, limit: int) -> bool:
        return self._open and not consumer.withdrawn and consumer.submitted - consumer.taken >= limit

    def withdraw(self, consumer: Consumer) -> None:
        """Forgets what a consumer has waiting."""
        consumer.withdrawn = True
        self._inbox.put(consumer)
        make_room(consumer)

    def close(self) -> None:
        """Lets the thread end after its batch; it then fails the consumers that still wait."""
        if self._pid != os.getpid():
            return  # a forked child, where the thread is not
        self._open = False
        self._inbox.put(None)

    def run(self) -> None:
        """Runs batches until closed."""
        try:
            while (batch := self.next_batch()) is not None:
                self.run_batch(batch)
                del batch  # not to hold pixels while waiting for the next
        finally:
            self._open = False
            refuse([*self._queue.consumers(), *self._late()])

    def next_batch(self) -> list[Item] | None:
        """Waits for items and takes a batch of them off the queue; None when closed."""
        while self._open:
            self._empty_inbox(wait=not self._queue)
            if self._open and self._queue:
                return self._take_batch()
        return None

    def _empty_inbox(self, *, wait: bool) -> None:
        """Does what consumers ask for, and before that waits for the first of them, if so wanted."""
        with suppress(Empty):
            while True:
                message = self._inbox.get(block=wait)
                wait = False
                if isinstance(message, Consumer):
                    self._queue.remove(message)
                elif message is not None and not message[0].consumer.withdrawn:
                    for item in message:
                        self._queue.add(item)

    def _take_batch(self) -> list[Item]:
        batch = self._queue.take()
        for item in batch:
            item.consumer.taken += 1
        for consumer in consumers_of(batch):
            make_room(consumer)
        return batch

    def _late(self) -> list[Consumer]:
        """The consumers of what is in the inbox once it is closed; each is found by one thread alone."""
        found = []
        with suppress(Empty):
            while True:
                message = self._inbox.get(block=False)
                if isinstance(message, list):
                    found.append(message[0].consumer)
        return found

    def run_batch(self, batch: list[Item]) -> None:
        """Delivers the vectors of a batch; where the device has no room for it, of each half."""
        begun = time.perf_counter()
        try:
            rows = self.embed(batch)
        except MemoryError:
            rows = None
        except Exception as error:  # noqa: BLE001  whatever the library raises, the consumers must hear of it
            fail(batch, JinaClipError(f"the model failed: {type(error).__name__}: {str(error)[:300]}"))
            return
        if rows is not None:
            self._tell_pass(batch, time.perf_counter() - begun)
            deliver(batch, rows)
        elif len(batch) == 1:
            device = self.runner.device
            fail(batch, ConfigError(f"out of memory on {device} with a single item; use a smaller dtype"))
        else:
            middle = len(batch) // 2
            self.run_batch(batch[:middle])
            self.run_batch(batch[middle:])

    def _tell_pass(self, batch: list[Item], seconds: float) -> None:
        if telemetry.wants(telemetry.EnginePass):
            event = telemetry.EnginePass(
                kind="text" if batch[0].pixels is None else "image",
                rows=len(batch),
                longest=max(item.length for item in batch),
                callers=len(consumers_of(batch)),
                device=self.runner.device,
                seconds=seconds,
            )
            telemetry.emit(event)

    def embed(self, batch: list[Item]) -> NDArray[np.float32]:
        """(B, d) vectors of a batch of texts, or of one of images."""
        if batch[0].pixels is not None:
            return self.runner.images(np.stack([item.pixels for item in batch if item.pixels is not None]))
        ids = np.full((len(batch), max(item.length for item in batch)), self.runner.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, item in enumerate(batch):
            ids[row, : item.length], mask[row, : item.length] = item.ids, 1
        return self.runner.text(ids, mask)


def deliver(batch: list[Item], rows: NDArray[np.float32]) -> None:
    """Gives each consumer its rows of a batch's vectors (B, d)."""
    places: dict[Consumer, list[int]] = {}
    for place, item in enumerate(batch):
        places.setdefault(item.consumer, []).append(place)
    for consumer, own in places.items():
        try:
            consumer.deliver([batch[place] for place in own], rows[own])
        except Exception as error:  # noqa: BLE001  a progress bar, say: one consumer's trouble must not end the thread
            consumer.fail(error)


def fail(batch: list[Item], error: JinaClipError) -> None:
    """Gives each consumer of a batch the error that the batch failed with."""
    for consumer in consumers_of(batch):
        consumer.fail(error)


def refuse(consumers: list[Consumer]) -> None:
    """Tells those who still wait, or come, when the thread has ended; each of them once."""
    for consumer in dict.fromkeys(consumers):
        consumer.fail(closed_error())
        make_room(consumer)


def make_room(consumer: Consumer) -> None:
    """Lets a thread look again that waits to submit for a consumer."""
    room = consumer.room
    if room is not None:
        room.set()


def closed_error() -> JinaClipError:
    """What consumers hear whose items the thread does not run any more."""
    return JinaClipError("the process is ending; nothing can be embedded any more")
