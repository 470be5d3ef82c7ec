"""Who runs next: one thread for a loaded model, which merges what all its consumers wait for.

Consumers hand in single texts and images. The thread puts what waits into batches of like length, whoever asked: many
small calls at once cost about one batch, no text pads another far beyond its length, and consumers take turns, so that
one does not wait for another's whole job. Urgent ones have every other turn, so that a query does not wait for a turn
of each bulk job either.

A batch that fails, whatever the reason, is run again apart: by consumer, then by halves, until the items at fault stand
alone and are refused by name. Each part waits for its consumer's turn. When nothing succeeds any more, one input that
every model can embed tells a broken engine, which ends the calls, from many items at fault.
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
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jinaclip import telemetry
from jinaclip.backends.local.batcher import Consumer, Item, Queue, by_consumer, consumers_of, divide, size_of
from jinaclip.backends.local.runner import Runner, find_image_fault, find_text_fault
from jinaclip.errors import ConfigError, InputError, JinaClipError
from jinaclip.process import Latch

MAX_WAITING_TEXTS, MAX_WAITING_IMAGES = 4096, 32
"""Items that one consumer may have waiting, so that memory does not grow with its input."""
MAX_FAILURES = 8
"""Batches of one kind that may fail in a row before the engine is doubted."""
NO_VECTOR = "the model gave no finite vector for it; float16 may be too narrow, use bfloat16 or float32"
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

        Items that no model can embed are refused here, before they wait.

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
        self._queue = Queue(runner.max_batch_tokens, runner.max_batch_images, runner.pass_tokens)
        self._failures = {"text": 0, "image": 0}  # batches in a row
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
        items = self._refuse_impossible(items)
        if not items:
            return
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
            tell_closed(self._late())

    def _refuse_impossible(self, items: list[Item]) -> list[Item]:
        """Refuses the items that no model can embed, and gives the others."""
        possible = []
        for item in items:
            fault = find_fault(item, self.runner)
            if fault is None:
                possible.append(item)
            else:
                item.consumer.refuse(item, InputError(fault))
        return possible

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
        batch: list[Item] | None = None
        try:
            while (batch := self.next_batch()) is not None:
                self.run_batch(batch)
                batch = None  # not to hold pixels while waiting for the next
        finally:
            self._open = False
            tell_closed([*consumers_of(batch or []), *self._queue.consumers(), *self._late()])

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
        """Delivers the vectors of a batch. Items that get none are run again apart; one that fails alone is refused."""
        begun = time.perf_counter()
        try:
            rows = check_rows(self.embed(batch), len(batch), self.runner.dimensions)
        except MemoryError:
            error: JinaClipError = self._memory_error(batch)
        except BaseException as raised:  # noqa: BLE001  whatever the library raises must not end this thread
            error = JinaClipError(f"the model failed: {type(raised).__name__}: {str(raised)[:300]}")
        else:
            self._tell_pass(batch, time.perf_counter() - begun)
            self._queue.room_of(batch).note(size_of(batch))
            self._keep(batch, rows)
            return
        self._run_apart(batch, divide(batch), error)  # out here the traceback holds no tensors any more

    def _keep(self, batch: list[Item], rows: NDArray[np.float32]) -> None:
        """Delivers the finite rows of (B, d); the items of the others are run again without these."""
        sound = np.asarray(np.isfinite(rows).all(axis=1))
        good = [item for item, ok in zip(batch, sound, strict=True) if ok]
        bad = [item for item, ok in zip(batch, sound, strict=True) if not ok]
        if good:
            self._failures[kind_of(batch)] = 0
            deliver(good, rows[sound] if bad else rows)
        if bad:
            self._run_apart(bad, by_consumer(bad) if good else divide(bad), InputError(NO_VECTOR))

    def _memory_error(self, batch: list[Item]) -> ConfigError:
        if len(batch) > 1:
            self._queue.room_of(batch).shrink(size_of(batch))
        return ConfigError(f"out of memory on {self.runner.device} with a single item; use a smaller dtype")

    def _run_apart(self, batch: list[Item], parts: list[list[Item]], error: JinaClipError) -> None:
        """Puts the parts of a failed batch back; refuses its one item; ends its calls if the engine is broken."""
        kind = kind_of(batch)
        self._failures[kind] += 1
        if self._failures[kind] >= MAX_FAILURES and not self._is_engine_sound(kind):
            for consumer in consumers_of(batch):
                self._end(consumer, JinaClipError(f"the engine embeds nothing any more; {error}"))
        elif not parts:
            refuse(batch[0], error)
        for part in parts:
            self._put_back(part)

    def _put_back(self, part: list[Item]) -> None:
        consumer = part[0].consumer
        if not consumer.withdrawn:
            consumer.taken -= len(part)
            self._queue.put_back(part)

    def _end(self, consumer: Consumer, error: JinaClipError) -> None:
        """Ends the call of a consumer, and forgets what it has waiting."""
        consumer.withdrawn = True
        self._queue.remove(consumer)
        consumer.fail(error)
        make_room(consumer)

    def _is_engine_sound(self, kind: str) -> bool:
        """Whether the runner still embeds what every model can: a text of one token, or a black image."""
        try:
            rows = check_rows(self.embed([probe_of(kind, self.runner)]), 1, self.runner.dimensions)
        except BaseException:  # noqa: BLE001  the error of the batch is the one to tell
            return False
        sound = bool(np.isfinite(rows).all())
        if sound:
            self._failures[kind] = 0
        return sound

    def _tell_pass(self, batch: list[Item], seconds: float) -> None:
        if telemetry.wants(telemetry.EnginePass):
            event = telemetry.EnginePass(
                kind=kind_of(batch),
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


def refuse(item: Item, error: JinaClipError) -> None:
    """Gives an item the error that it alone failed with."""
    try:
        item.consumer.refuse(item, error)
    except Exception as raised:  # noqa: BLE001  one consumer's trouble must not end the thread
        item.consumer.fail(raised)


def kind_of(batch: list[Item]) -> Literal["text", "image"]:
    """What a batch holds."""
    return "text" if batch[0].pixels is None else "image"


def find_fault(item: Item, runner: Runner) -> str | None:
    """Why no model can embed an item; None if it can."""
    if item.pixels is not None:
        return find_image_fault(item.pixels, runner)
    return find_text_fault(item.ids, runner)


def check_rows(rows: NDArray[np.float32], items: int, width: int) -> NDArray[np.float32]:
    """The vectors (B, d) that a runner gives for so many items.

    Raises:
        ValueError: they are of another shape.
    """
    if np.shape(rows) != (items, width):
        raise ValueError(f"it gave vectors of the shape {np.shape(rows)} for {items} items of width {width}")
    return np.asarray(rows, np.float32)


def probe_of(kind: str, runner: Runner) -> Item:
    """An item that every model can embed."""
    nobody = Consumer(lambda items, rows: None, lambda item, error: None, lambda error: None, 1)
    if kind == "text":
        return Item(nobody, 0, ids=[int(runner.pad_id == 0)])
    return Item(nobody, 0, pixels=np.zeros((3, runner.image_size, runner.image_size), np.float32))


def tell_closed(consumers: list[Consumer]) -> None:
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
