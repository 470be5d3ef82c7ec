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
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jinaclip.backends.local.runner import Runner
from jinaclip.errors import ConfigError, JinaClipError

LENGTH_SLACK = 16
"""Tokens by which the lengths of texts in one batch may always differ."""
LENGTH_RATIO = 0.8
"""Texts that differ by more share a batch only if the shorter one has this part of the longer one's tokens."""
MAX_WAITING_TEXTS, MAX_WAITING_IMAGES = 4096, 32
"""Items that one consumer may have waiting, so that memory does not grow with its input."""
EXIT_TIMEOUT_S = 10.0
"""How long the end of the process waits for the batch under way."""


@dataclass(slots=True, eq=False)
class Consumer:
    """Who is asking."""

    deliver: Callable[[list[Item], NDArray[np.float32]], None]
    """Takes items of this consumer and their vectors (n, d). Runs in the scheduler's thread."""
    fail: Callable[[Exception], None]
    """Takes the error that ends the consumer's call. Runs in the scheduler's thread, or in the one that submits."""
    batch_size: int
    """Most items in a batch that begins with one of this consumer's."""
    waiting: deque[Item] = field(default_factory=deque)
    withdrawn: bool = False


@dataclass(slots=True, eq=False)
class Item:
    """One input on its way: a text as token ids, or an image as pixels."""

    consumer: Consumer
    index: int
    """The consumer's own number of it."""
    ids: Sequence[int] = ()
    pixels: NDArray[np.float32] | None = None
    """(3, S, S); None for a text."""

    @property
    def length(self) -> int:
        """Number of tokens; 0 for an image."""
        return len(self.ids)


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
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._consumers: deque[Consumer] = deque()
        self._changed = threading.Condition()
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
        """Queues items of one consumer."""
        consumer = items[0].consumer
        limit = MAX_WAITING_TEXTS if items[0].pixels is None else MAX_WAITING_IMAGES
        with self._changed:
            while block and self._open and len(consumer.waiting) >= limit:
                self._changed.wait()
            if consumer.withdrawn:
                return
            if not self._open:
                consumer.fail(closed_error())
                return
            if not consumer.waiting:
                self._consumers.append(consumer)
            consumer.waiting.extend(items)
            self._changed.notify_all()

    def withdraw(self, consumer: Consumer) -> None:
        """Forgets what a consumer has waiting."""
        with self._changed:
            consumer.withdrawn = True
            consumer.waiting.clear()
            if consumer in self._consumers:
                self._consumers.remove(consumer)
            self._changed.notify_all()

    def close(self) -> None:
        """Lets the thread end after its batch; fails the consumers that still wait."""
        if self._pid != os.getpid():
            return  # a forked child: the lock may be held by a thread that is not there
        with self._changed:
            self._open = False
            consumers, self._consumers = list(self._consumers), deque()
            self._changed.notify_all()
        for consumer in consumers:
            consumer.fail(closed_error())

    def run(self) -> None:
        """Runs batches until closed."""
        while (batch := self.next_batch()) is not None:
            self.run_batch(batch)
            del batch  # not to hold pixels while waiting for the next

    def next_batch(self) -> list[Item] | None:
        """Waits for items and takes a batch of them off the queue; None when closed."""
        with self._changed:
            while self._open and not self._consumers:
                self._changed.wait()
            if not self._open:
                return None
            batch = self._take_batch(self._consumers[0])
            self._consumers.rotate(-1)  # first, or the end of one consumer would cost the next one its turn
            self._consumers = deque(consumer for consumer in self._consumers if consumer.waiting)
            self._changed.notify_all()
            return batch

    def _take_batch(self, first: Consumer) -> list[Item]:
        """The oldest item of the consumer whose turn it is, and from all consumers what fits beside it."""
        oldest = first.waiting[0]
        alike = [item for consumer in self._consumers for item in consumer.waiting if can_share_batch(item, oldest)]
        alike.sort(key=lambda item: (item is not oldest, abs(item.length - oldest.length)))
        batch = alike[: self._batch_limit(alike, first.batch_size)]
        taken = set(map(id, batch))
        for consumer in consumers_of(batch):
            consumer.waiting = deque(item for item in consumer.waiting if id(item) not in taken)
        return batch

    def _batch_limit(self, items: list[Item], batch_size: int) -> int:
        """How many of the items, in this order, one batch may hold."""
        if items[0].pixels is not None:
            return min(batch_size, self.runner.max_batch_images)
        longest, budget = 0, self.runner.max_batch_tokens
        for count, item in enumerate(items[:batch_size]):
            longest = max(longest, item.length)
            if count and longest * (count + 1) > budget:
                return count
        return min(batch_size, len(items))

    def run_batch(self, batch: list[Item]) -> None:
        """Delivers the vectors of a batch; where the device has no room for it, of each half."""
        try:
            rows = self.embed(batch)
        except MemoryError:
            rows = None
        except Exception as error:  # noqa: BLE001  whatever the library raises, the consumers must hear of it
            fail(batch, JinaClipError(f"the model failed: {type(error).__name__}: {str(error)[:300]}"))
            return
        if rows is not None:
            deliver(batch, rows)
        elif len(batch) == 1:
            device = self.runner.device
            fail(batch, ConfigError(f"out of memory on {device} with a single item; use a smaller dtype"))
        else:
            middle = len(batch) // 2
            self.run_batch(batch[:middle])
            self.run_batch(batch[middle:])

    def embed(self, batch: list[Item]) -> NDArray[np.float32]:
        """(B, d) vectors of a batch of texts, or of one of images."""
        if batch[0].pixels is not None:
            return self.runner.images(np.stack([item.pixels for item in batch if item.pixels is not None]))
        ids = np.full((len(batch), max(item.length for item in batch)), self.runner.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, item in enumerate(batch):
            ids[row, : item.length], mask[row, : item.length] = item.ids, 1
        return self.runner.text(ids, mask)


def can_share_batch(item: Item, first: Item) -> bool:
    """Whether an item may be in the batch of the first one: both images, or texts of like length."""
    if (item.pixels is None) != (first.pixels is None):
        return False
    short, long = sorted((item.length, first.length))
    return long - short <= LENGTH_SLACK or short >= LENGTH_RATIO * long


def consumers_of(batch: list[Item]) -> list[Consumer]:
    """The consumers of a batch's items, each of them once."""
    return list({id(item.consumer): item.consumer for item in batch}.values())


def deliver(batch: list[Item], rows: NDArray[np.float32]) -> None:
    """Gives each consumer its rows of a batch's vectors (B, d)."""
    for consumer in consumers_of(batch):
        own = [row for row, item in enumerate(batch) if item.consumer is consumer]
        try:
            consumer.deliver([batch[row] for row in own], rows[own])
        except Exception as error:  # noqa: BLE001  a progress bar, say: one consumer's trouble must not end the thread
            consumer.fail(error)


def fail(batch: list[Item], error: JinaClipError) -> None:
    """Gives each consumer of a batch the error that the batch failed with."""
    for consumer in consumers_of(batch):
        consumer.fail(error)


def closed_error() -> JinaClipError:
    """What consumers hear that wait, or come, when the thread has ended."""
    return JinaClipError("the process is ending; nothing can be embedded any more")
