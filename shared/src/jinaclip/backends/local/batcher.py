"""What waits for the model, and which of it goes next: batches of texts of like length, or of images, whoever asked.

Picking a batch costs about the batch, whatever else waits: items lie in buckets by length, and those beside the oldest
one's are looked at, nearest first, until the batch is full.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jinaclip.errors import JinaClipError
from jinaclip.process import Latch

LENGTH_SLACK = 16
"""Tokens by which the lengths of texts in one batch may always differ."""
LENGTH_RATIO = 0.8
"""Texts that differ by more share a batch only if the shorter one has this part of the longer one's tokens."""
FIRST_PATIENCE, MAX_PATIENCE = 8, 512
"""Batches at a size that fits before a larger one is tried where memory ran out once."""


@dataclass(slots=True, eq=False)
class Consumer:
    """Who is asking.

    Attributes:
        deliver: takes items of this consumer and their vectors (n, d). Runs in a device's thread, one at a time.
        refuse: takes an item that gets no vector, and the error why; the others go on. Runs in a device's thread, or in
            the one that submits.
        fail: takes the error that ends the consumer's call. Runs in a device's thread, or in the one that submits.
        batch_size: most items in a batch that begins with one of this consumer's.
        urgent: whether somebody waits for it: while others wait too, every other batch begins with an urgent item.
        waiting: its items in the queue, the oldest first. Of the queue alone.
        parts: what is left of its batches that failed; each is run by itself. Of the queue alone.
        submitted: items that it has handed in. Written by the thread that submits.
        taken: those of them that do not wait any more. Written by the devices' threads, in turn.
        room: set once it may hand in more, where its thread waits for that.
        withdrawn: whether it wants nothing any more.
    """

    deliver: Callable[[list[Item], NDArray[np.float32]], None]
    refuse: Callable[[Item, JinaClipError], None]
    fail: Callable[[Exception], None]
    batch_size: int
    urgent: bool = False
    waiting: OrderedDict[Item, None] = field(default_factory=OrderedDict)
    parts: deque[list[Item]] = field(default_factory=deque)
    submitted: int = 0
    taken: int = 0
    room: Latch | None = None
    withdrawn: bool = False


@dataclass(slots=True, eq=False)
class Item:
    """One input on its way: a text as token ids, or an image as pixels."""

    consumer: Consumer
    index: int
    """The consumer's own number of it."""
    ids: Sequence[int] = ()
    pixels: NDArray[np.float32 | np.uint8] | None = None
    """(3, S, S) float32, or (S, S, 3) bytes for a runner that takes those; None for a text."""

    @property
    def length(self) -> int:
        """Number of tokens; 0 for an image."""
        return len(self.ids)


class Room:
    """How much one batch may hold: half of what found no memory, and after a while without such trouble more again.

    Each time that more proved too much, the next attempt waits for twice as many batches.

    Args:
        most: tokens, padding included, or images.
    """

    def __init__(self, most: int) -> None:
        self.now = self._most = most
        self._patience, self._batches, self._grew = FIRST_PATIENCE, 0, False

    def shrink(self, size: int) -> None:
        """Notes that a batch of this size found no memory."""
        if self._grew:
            self._patience = min(MAX_PATIENCE, 2 * self._patience)
        self.now = max(1, min(self.now, size) // 2)
        self._batches, self._grew = 0, False

    def note(self, size: int) -> None:
        """Notes that a batch of this size found memory."""
        if self.now == self._most or 2 * size < self.now:
            return  # it shows nothing about a larger one
        self._batches += 1
        if self._batches >= self._patience:
            self.now, self._batches, self._grew = min(self._most, 2 * self.now), 0, True


@dataclass(slots=True)
class Rooms:
    """What one batch may hold on a device.

    Attributes:
        texts: tokens of a batch of texts, padding included; a single text may have more.
        images: images of a batch of those.
        padding: tokens of a batch that fill up short texts, for texts beside the oldest one's length.
    """

    texts: Room
    images: Room
    padding: float = math.inf

    def of(self, batch: list[Item]) -> Room:
        """The one for batches of this kind."""
        return self.texts if batch[0].pixels is None else self.images


class Queue:
    """What all consumers wait for, on however many devices. Used by one thread at a time.

    Consumers take turns, the urgent ones among themselves and the others among themselves. While both kinds wait, every
    other batch begins with an urgent item: so one that fits into a single batch waits for one batch of others at most
    beside the one under way, however many they are, and half of the batches are theirs.
    """

    def __init__(self) -> None:
        self._lanes = {True: Lane(), False: Lane()}  # of urgent consumers, of others
        self._was_urgent = False  # the last batch

    def __bool__(self) -> bool:
        return any(lane.turns for lane in self._lanes.values())

    def consumers(self) -> list[Consumer]:
        """Those that wait, in turn."""
        return [consumer for lane in self._lanes.values() for consumer in lane.turns]

    def add(self, item: Item) -> None:
        """Lets an item wait."""
        lane = self._lanes[item.consumer.urgent]
        lane.turns.setdefault(item.consumer)
        item.consumer.waiting[item] = None
        lane.buckets_of(item).add(item)

    def remove(self, consumer: Consumer) -> None:
        """Forgets what a consumer has waiting."""
        lane = self._lanes[consumer.urgent]
        for item in consumer.waiting:
            lane.buckets_of(item).remove(consumer, item.length)
        consumer.waiting.clear()
        consumer.parts.clear()
        lane.turns.pop(consumer, None)

    def put_back(self, batch: list[Item]) -> None:
        """Lets items of one consumer, left of a batch that failed, wait for a batch of their own."""
        consumer = batch[0].consumer
        self._lanes[consumer.urgent].turns.setdefault(consumer)
        consumer.parts.append(batch)

    def take(self, rooms: Rooms) -> list[Item]:
        """A batch: the oldest item of the consumer whose turn it is, and from all consumers what fits beside it.

        Those of its own kind come first, urgent or not; then nearest in length, of one length the consumer's own, then
        the others' in turn. A consumer with parts of batches that failed gets the first of them run instead, or as much
        of it as one batch may hold.

        Args:
            rooms: of the device that is to run it.
        """
        lane = self._next_lane()
        first = next(iter(lane.turns))
        batch = self._take_part(first, rooms) if first.parts else self._take_waiting(first, rooms)
        lane.turns.move_to_end(first)
        for consumer in consumers_of(batch):
            if not consumer.waiting and not consumer.parts:
                del self._lanes[consumer.urgent].turns[consumer]
        return batch

    def _next_lane(self) -> Lane:
        """The one whose turn it is: while both wait, the other one than before."""
        urgent = bool(self._lanes[True].turns) and not (self._was_urgent and self._lanes[False].turns)
        self._was_urgent = urgent
        return self._lanes[urgent]

    def _take_part(self, consumer: Consumer, rooms: Rooms) -> list[Item]:
        part = consumer.parts.popleft()
        most = most_items(consumer, part[0], max(item.length for item in part), rooms)
        if len(part) > most:
            consumer.parts.appendleft(part[most:])
        return part[:most]

    def _take_waiting(self, first: Consumer, rooms: Rooms) -> list[Item]:
        batch = self._pick(first, next(iter(first.waiting)), rooms)
        for item in batch:
            del item.consumer.waiting[item]
        return batch

    def _pick(self, first: Consumer, oldest: Item, rooms: Rooms) -> list[Item]:
        batch, longest, tokens = list[Item](), 0, 0
        for urgent in (first.urgent, not first.urgent):
            buckets = self._lanes[urgent].buckets_of(oldest)
            taken = list[Item]()
            for length in buckets.near(oldest.length):
                count = len(batch) + len(taken)
                room = most_items(first, oldest, max(longest, length), rooms) - count
                most = int(min(room, most_padded(rooms.padding, length, count, longest, tokens)))
                if most <= 0:
                    break
                new = buckets.take(length, first, most)
                longest, tokens = max(longest, length), tokens + length * len(new)
                taken += new
            buckets.forget_empty(taken)
            batch += taken
        return batch


class Lane:
    """What consumers of one kind, urgent or not, wait for.

    Attributes:
        turns: the consumers, in turn.
        texts, images: their items.
    """

    def __init__(self) -> None:
        self.turns: OrderedDict[Consumer, None] = OrderedDict()
        self.texts, self.images = Buckets(), Buckets()

    def buckets_of(self, item: Item) -> Buckets:
        """Where items of this one's kind are."""
        return self.texts if item.pixels is None else self.images


class Buckets:
    """Items of one kind by length: for each length the consumers in turn, for each of those its items by age."""

    def __init__(self) -> None:
        self._buckets: dict[int, OrderedDict[Consumer, deque[Item]]] = {}
        self._lengths: list[int] = []  # of the buckets, in order

    def add(self, item: Item) -> None:
        """Puts an item behind its consumer's others of this length."""
        bucket = self._buckets.get(item.length)
        if bucket is None:
            bucket = self._buckets[item.length] = OrderedDict()
            insort(self._lengths, item.length)
        bucket.setdefault(item.consumer, deque()).append(item)

    def remove(self, consumer: Consumer, length: int) -> None:
        """Forgets what a consumer has of this length, if it has."""
        bucket = self._buckets.get(length)
        if bucket is not None:
            bucket.pop(consumer, None)
            self._forget_if_empty(length)

    def near(self, length: int) -> Iterator[int]:
        """Lengths of which there are items that may be in a batch with one of this length, nearest first."""
        right = bisect_left(self._lengths, length)
        left = right - 1
        while True:
            below, above = self._fitting(left, length), self._fitting(right, length)
            if below is not None and (above is None or length - below <= above - length):
                yield below
                left -= 1
            elif above is not None:
                yield above
                right += 1
            else:
                return

    def _fitting(self, place: int, length: int) -> int | None:
        """The length at this place of the order, if its items may be in a batch with one of that length."""
        found = self._lengths[place] if 0 <= place < len(self._lengths) else None
        return found if found is not None and can_share_batch(found, length) else None

    def take(self, length: int, first: Consumer, most: int) -> list[Item]:
        """Takes items of this length: a consumer's own, then those of the others, whose turns go on."""
        bucket, taken = self._buckets[length], list[Item]()
        while bucket and len(taken) < most:
            consumer = first if first in bucket else next(iter(bucket))
            waiting = bucket[consumer]
            while waiting and len(taken) < most:
                taken.append(waiting.popleft())
            if waiting:
                bucket.move_to_end(consumer)
            else:
                del bucket[consumer]
        return taken

    def forget_empty(self, taken: list[Item]) -> None:
        """Drops the buckets that are empty without these items."""
        for length in {item.length for item in taken}:
            self._forget_if_empty(length)

    def _forget_if_empty(self, length: int) -> None:
        if not self._buckets[length]:
            del self._buckets[length]
            del self._lengths[bisect_left(self._lengths, length)]


def most_items(first: Consumer, oldest: Item, longest: int, rooms: Rooms) -> int:
    """How many items a batch may hold whose longest text has so many tokens."""
    if oldest.pixels is not None:
        return min(first.batch_size, rooms.images.now)
    return max(1, min(first.batch_size, rooms.texts.now // max(1, longest)))


def most_padded(padding: float, length: int, count: int, longest: int, tokens: int) -> float:
    """How many texts of a length may join a batch, by the padding that this takes.

    Args:
        padding: tokens that may be filled up in a batch.
        length: of the texts that would join.
        count: of the texts in the batch.
        longest: tokens of the longest of those.
        tokens: of all of those, padding left out.
    """
    spare = padding - (count * max(longest, length) - tokens)
    if length >= longest or not count:
        return math.inf if spare >= 0 else 0
    return spare // (longest - length) if spare < math.inf else math.inf


def can_share_batch(length: int, other: int) -> bool:
    """Whether texts of these numbers of tokens may be in one batch."""
    short, long = min(length, other), max(length, other)
    return long - short <= LENGTH_SLACK or short >= LENGTH_RATIO * long


def consumers_of(batch: list[Item]) -> list[Consumer]:
    """The consumers of a batch's items, each of them once."""
    return list({id(item.consumer): item.consumer for item in batch}.values())


def size_of(batch: list[Item]) -> int:
    """What a batch takes of its room: tokens, padding included, or images."""
    return len(batch) * (max(item.length for item in batch) if batch[0].pixels is None else 1)


def by_consumer(batch: list[Item]) -> list[list[Item]]:
    """The items of a batch, for each consumer its own."""
    groups: dict[int, list[Item]] = {}
    for item in batch:
        groups.setdefault(id(item.consumer), []).append(item)
    return list(groups.values())


def divide(batch: list[Item]) -> list[list[Item]]:
    """The parts to run instead of a batch that failed: those of its consumers, or halves; none of a single item."""
    middle = (len(batch) + 1) // 2
    groups = by_consumer(batch)
    halves = [batch[:middle], batch[middle:]] if len(batch) > 1 else []
    return groups if len(groups) > 1 else halves
