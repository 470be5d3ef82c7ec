"""Who runs next: a thread for each device of a loaded model, and one queue that merges what all consumers wait for.

Consumers hand in single texts and images. What waits is put into batches of like length, whoever asked: many small
calls at once cost about one batch, no text pads another far beyond its length, and consumers take turns, so that one
does not wait for another's whole job. Urgent ones have every other turn, so that a query does not wait for a turn of
each bulk job either. The next batch goes to the device that is free first.
"""

from __future__ import annotations

import atexit
import functools
import os
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from jinaclip.backends.local.batcher import Consumer, Item, Queue, consumers_of
from jinaclip.backends.local.device import Device
from jinaclip.backends.local.runner import Rows, Runner, find_image_fault, find_text_fault, pixels_of
from jinaclip.errors import InputError, JinaClipError
from jinaclip.process import Latch

MAX_WAITING_TEXTS, MAX_WAITING_IMAGES = 4096, 32
"""Items that one consumer may have waiting at least, so that memory does not grow with its input; and two batches for
each device."""
TEXT_TOKENS = 64
"""Tokens of a text, about, where batches are counted."""
EXIT_TIMEOUT_S = 10.0
"""How long the end of the process waits for the batch under way."""


class Scheduler:
    """Runs a model for all consumers, in a thread of its own for each device.

    The threads end, and let go of the model, when nobody holds the scheduler any more.

    Args:
        runners: the model on each device, at least one.
    """

    def __init__(self, runners: Sequence[Runner]) -> None:
        self._worker = Worker(runners)
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
    """The queue of a scheduler and the devices that empty it.

    The threads hold the worker, and the worker does not know the scheduler, so that the scheduler can be collected.
    Consumers and finalizers touch nothing but the inbox, whose `put` is one step in C: an exception of a signal handler
    that strikes a caller's thread anywhere leaves no lock taken and nothing half done. The locks are of the
    devices' threads alone.

    Args:
        runners: the model on each device, at least one.

    Attributes:
        devices: those.
        is_open: whether it takes more items.
    """

    def __init__(self, runners: Sequence[Runner]) -> None:
        self.devices = [Device(runner, self) for runner in runners]
        self.is_open = True
        self._pixel_form = pixels_of(runners[0])
        self._inbox: SimpleQueue[list[Item] | Consumer | None] = SimpleQueue()
        self._queue = Queue()
        self._lock = threading.Lock()  # of the queue
        self._delivery = threading.Lock()  # consumers hear of one batch at a time
        self._closed = Latch()
        self._max_texts = max(MAX_WAITING_TEXTS, 2 * sum(runner.max_batch_tokens for runner in runners) // TEXT_TOKENS)
        self._max_images = max(MAX_WAITING_IMAGES, 2 * sum(runner.max_batch_images for runner in runners))
        self._pid = os.getpid()

    def start(self) -> None:
        """Starts the threads."""
        _close_at_exit()
        _workers.add(self)
        for device in self.devices:
            thread = threading.Thread(target=self.run, args=(device,), name="jinaclip-scheduler", daemon=True)
            _threads.add(thread)
            thread.start()

    def run(self, device: Device) -> None:
        """Runs batches on a device until closed."""
        try:
            device.run()
        finally:
            self.is_open = False
            with self._lock:
                waiting = self._queue.consumers()
            under_way = [consumer for batch in device.unfinished for consumer in consumers_of(batch)]
            tell_closed([*under_way, *waiting, *self._late()])
            self._inbox.put(None)  # the next thread that waits ends, too

    # -- for consumers

    def submit(self, items: list[Item], *, block: bool) -> None:
        """Hands in items of one consumer."""
        consumer = items[0].consumer
        items = self._refuse_impossible(items)
        if not items:
            return
        limit = self._max_texts if items[0].pixels is None else self._max_images
        while block and self._must_wait(consumer, limit):
            room = consumer.room = Latch()
            if self._must_wait(consumer, limit):  # it may have got room before the latch could be seen
                room.wait()
        if consumer.withdrawn:
            return
        consumer.submitted += len(items)
        self._inbox.put(items)
        if not self.is_open:  # the threads may have looked for the last time
            tell_closed(self._late())

    def _refuse_impossible(self, items: list[Item]) -> list[Item]:
        """Refuses the items that no model can embed, and gives the others."""
        possible = []
        for item in items:
            fault = self._find_fault(item)
            if fault is None:
                possible.append(item)
            else:
                item.consumer.refuse(item, InputError(fault))
        return possible

    def _find_fault(self, item: Item) -> str | None:
        """Why no model can embed an item; None if it can."""
        if item.pixels is not None:
            return find_image_fault(item.pixels, self._pixel_form)
        return find_text_fault(item.ids, self.devices[0].runner)

    def _must_wait(self, consumer: Consumer, limit: int) -> bool:
        return self.is_open and not consumer.withdrawn and consumer.submitted - consumer.taken >= limit

    def withdraw(self, consumer: Consumer) -> None:
        """Forgets what a consumer has waiting."""
        consumer.withdrawn = True
        self._inbox.put(consumer)
        make_room(consumer)

    def close(self) -> None:
        """Lets the threads end after their batches; the consumers that still wait then fail."""
        if self._pid != os.getpid():
            return  # a forked child, where the threads are not
        self.is_open = False
        self._closed.set()
        self._inbox.put(None)

    def _late(self) -> list[Consumer]:
        """The consumers of what is in the inbox once it is closed; each is found by one thread alone."""
        found = []
        with suppress(Empty):
            while True:
                message = self._inbox.get(block=False)
                if isinstance(message, list):
                    found.append(message[0].consumer)
        return found

    # -- for devices

    def take(self, device: Device, *, wait: bool) -> list[Item] | None:
        """A batch for a device; None when closed, or when there is none and nobody is to wait for one."""
        while self.is_open:
            with self._lock:
                self._empty_inbox()
                if self.is_open and self._queue:
                    return self._take_batch(device)
            if not wait:
                return None
            self._hear()
        return None

    def _hear(self) -> None:
        """Waits for a message, and holds none while it waits: another device may have taken its items, and be done."""
        message = self._inbox.get()
        with self._lock:
            self._read(message)

    def _empty_inbox(self) -> None:
        """Does what consumers ask for."""
        with suppress(Empty):
            while True:
                self._read(self._inbox.get(block=False))

    def _read(self, message: list[Item] | Consumer | None) -> None:
        if isinstance(message, Consumer):
            self._queue.remove(message)
        elif message is not None and not message[0].consumer.withdrawn:
            for item in message:
                self._queue.add(item)

    def _take_batch(self, device: Device) -> list[Item]:
        batch = self._queue.take(device.rooms)
        for item in batch:
            item.consumer.taken += 1
        for consumer in consumers_of(batch):
            make_room(consumer)
        self._wake_another()
        return batch

    def _wake_another(self) -> None:
        """Lets another device look for work, if there is some: it may wait for a message."""
        if len(self.devices) > 1 and self._queue:
            self._inbox.put(None)

    def put_back(self, parts: list[list[Item]]) -> None:
        """Lets parts of a batch that failed wait for batches of their own."""
        with self._lock:
            for part in parts:
                consumer = part[0].consumer
                if not consumer.withdrawn:
                    consumer.taken -= len(part)
                    self._queue.put_back(part)
            self._wake_another()

    def remove(self, consumer: Consumer) -> None:
        """Forgets what a consumer has waiting; what it submits from now on is ignored."""
        with self._lock:
            consumer.withdrawn = True
            self._queue.remove(consumer)
        make_room(consumer)

    def deliver(self, batch: list[Item], rows: Rows) -> None:
        """Gives each consumer its rows of a batch's vectors (B, d)."""
        places: dict[Consumer, list[int]] = {}
        for place, item in enumerate(batch):
            places.setdefault(item.consumer, []).append(place)
        with self._delivery:
            for consumer, own in places.items():
                try:
                    consumer.deliver([batch[place] for place in own], rows[own])
                except Exception as error:  # noqa: BLE001  a progress bar, say: its trouble must not end the thread
                    consumer.fail(error)

    def refuse(self, item: Item, error: JinaClipError) -> None:
        """Gives an item the error that it alone failed with."""
        with self._delivery:
            try:
                item.consumer.refuse(item, error)
            except Exception as raised:  # noqa: BLE001  one consumer's trouble must not end the thread
                item.consumer.fail(raised)

    def rest(self, seconds: float) -> None:
        """Waits so long, or until it is closed."""
        self._closed.wait(seconds)


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
