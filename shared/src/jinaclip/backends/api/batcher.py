"""Inputs become items of requests; what waits becomes batches of the best size, whoever asked."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from typing import Any, TypeVar

from jinaclip import images
from jinaclip.backends.api.expectation import Expectation
from jinaclip.backends.api.health import PROBES, Health
from jinaclip.backends.api.wires import USUAL, WIRES
from jinaclip.backends.api.wires.base import Traits, Wire
from jinaclip.call.call import Call
from jinaclip.call.estimate import image_tokens, text_bytes, text_tokens
from jinaclip.call.prepare import Inputs, Prepared, Recipe, prepare_inputs
from jinaclip.config import MAX_BATCH, EmbedderConfig
from jinaclip.errors import JinaClipError
from jinaclip.inputs import Image, Text
from jinaclip.process import Latch
from jinaclip.specs import ModelSpec
from jinaclip.vectors import Vectors

R = TypeVar("R")
BATCH_TOKENS = 100_000
"""A free key's whole minute: a request that costs more could not be sent with one."""
FEW = 8
"""Consumers of a line that are asked what is still to come of them; many are small."""
MANY = 64
"""Lines that are counted to divide what waits, and consumers that are passed over for one whose `batch_size` fits."""
SMALL = 32
"""Items below which a request is not divided over free slots while nothing is known of the service's times."""
OVERHEAD_SHARE = 4
"""Batches are not divided further once the fixed time of a request is this many times that of its items: it would gain
less than a fifth."""
STALLED = 5
"""A call ends when no vector has come for so many times `timeout`."""


@dataclass(slots=True, eq=False)
class Bounds:
    """The requests in flight of one JinaClip, or of all that leave `max_concurrency` open."""

    most: int | None = None
    in_flight: int = 0


@dataclass(slots=True, eq=False)
class Item:
    """One input on its way: a text or an image as the wire has it."""

    consumer: Consumer
    number: int
    """Of the input in its call."""
    name: str
    """"text" or "image"."""
    input: Any
    size: int
    """Bytes of it in a request."""
    tokens: int
    """What it is expected to be billed."""
    query: bool = False
    asked: int = 0
    """How often its row came back unusable."""
    done: bool = False
    """Whether it has a vector or an error."""
    is_probe: bool = False
    """Whether it is sent alone now, even if it is done, to see whether the service answers."""

    @property
    def is_wanted(self) -> bool:
        """Whether it is to be sent."""
        return not self.consumer.ending and (self.is_probe or not self.done)


@dataclass(slots=True, eq=False)
class Consumer:
    """Who is asking: one call. Lives on the hub's thread, but for `over`.

    Attributes:
        call: takes the vectors and errors.
        config: the options that it was made with.
        bounds: of the object that makes the call.
        to_come: items that are not handed in yet, as far as it is known that they come at once.
        pending: items that were handed in and have neither a vector nor an error yet.
        closed: whether all items were handed in.
        ending: whether nothing more is sent for it; what is in flight may still come back.
        gone: whether nobody waits for the call any more.
        over: done when there is nothing left to wait for.
        end: called then, once.
        at_end: called with it when there is nothing left to wait for, before `over`: by what it has in flight.
        progress: set whenever some of its items are done with, where somebody waits for that.
        settled, settled_bytes: items that have a vector or an error, and their size.
        health: whether the service answers what it sends.
        expected: the space that answers are to be in.
        is_misled: whether an answer was in another space, so that nothing more is kept.
    """

    call: Call
    config: EmbedderConfig
    bounds: Bounds = field(default_factory=Bounds)
    clock: Callable[[], float] = time.monotonic
    to_come: int = 0
    pending: int = 0
    closed: bool = False
    ending: bool = False
    gone: bool = False
    over: Latch = field(default_factory=Latch)
    end: Callable[[], object] | None = None
    at_end: set[Callable[[Consumer], object]] = field(default_factory=set)
    progress: Latch | None = None
    settled: int = 0
    settled_bytes: int = 0
    last_error: JinaClipError | None = None
    health: Health[Item] = field(default_factory=Health)
    expected: Expectation = field(default_factory=Expectation)
    is_misled: bool = False
    progressed: float = field(init=False)
    deadline_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.progressed = self.clock()
        self.deadline_at = self.progressed + self.call.deadline

    @property
    def retries(self) -> int:
        """For each request; where somebody waits, at most two."""
        return min(2, self.config.max_retries) if self.call.request.urgent else self.config.max_retries

    @property
    def gives_up_at(self) -> float:
        """At the deadline of the call, or when too long has passed since the last vector."""
        return min(self.deadline_at, self.progressed + STALLED * self.config.timeout)

    @property
    def patience(self) -> float:
        """Seconds that it may wait without anything being sent."""
        return min(self.deadline_at - self.clock(), STALLED * self.config.timeout)

    def is_last(self, batch: Sequence[Item]) -> bool:
        """Whether a batch is one of the last few items of a call: fewer than a proof that the service works takes."""
        return self.closed and len(batch) == 1 and self.pending <= min(PROBES, self.settled)

    def answer(self, items: Sequence[Item], rows: Vectors) -> None:
        """Keeps the vectors of these items; of one that was sent twice, the first."""
        self.progressed = self.clock()
        new = [place for place, item in enumerate(items) if not item.done]
        rows, items = (rows, items) if len(new) == len(items) else (rows[new], [items[place] for place in new])
        if new and not self.is_misled:
            keep = self.call.keep if self.gone else self.call.answer
            keep([item.number for item in items], rows)
        self._settle(items)

    def fail(self, item: Item, error: JinaClipError) -> None:
        """Notes that an item gets no vector; the others go on."""
        if not item.done and not self.gone:
            self.call.fail(item.number, error, item.name)
        self._settle([] if item.done else [item])

    def close(self) -> None:
        """Notes that all items were handed in."""
        self.closed, self.to_come = True, 0
        self._settle([])

    def fail_all(self, error: JinaClipError) -> None:
        """Ends the call for this reason as soon as what is in flight, which is paid for, has come back."""
        self.ending = True
        self.call.stop(error)  # the hub hears of it

    def stop(self, error: BaseException | None = None) -> None:
        """Ends the call for this reason, at once."""
        if not self.gone:
            self.ending = self.gone = True
            self.call.stop(error)
        self._finish()

    def _settle(self, items: Sequence[Item]) -> None:
        for item in items:
            item.done = True
        self.pending -= len(items)
        self.settled += len(items)
        self.settled_bytes += sum(item.size for item in items)
        if self.progress is not None:
            self.progress.set()
        if self.closed and self.pending <= 0:
            self._finish()

    def _finish(self) -> None:
        if not self.over.done():
            for leave in list(self.at_end):
                leave(self)
            end = self.end
            self._let_go()
            if end is not None:
                end()
            if self.progress is not None:
                self.progress.set()
            self.over.set()

    def _let_go(self) -> None:
        """Drops what holds this object: with it all of the call would stay until the collector of garbage comes."""
        self.end = None
        self.at_end.clear()
        self.health.sample.items.clear()


def is_of_one(items: Sequence[Item]) -> bool:
    """Whether all of these items, at least one, are of the same consumer, as most batches are."""
    first = items[0].consumer if items else None
    for item in items:  # no generator: this runs several times for every item
        if item.consumer is not first:
            return False
    return bool(items)


def consumers_of(items: Sequence[Item]) -> list[Consumer]:
    """The consumers of these items, each of them once, in order."""
    if is_of_one(items):
        return [items[0].consumer]
    return list({id(item.consumer): item.consumer for item in items}.values())


def calls_of(items: Sequence[Item]) -> tuple[int, ...]:
    """Numbers of the calls of these items, for those who watch."""
    return tuple(consumer.call.number for consumer in consumers_of(items))


def by_consumer(items: Sequence[Item]) -> list[list[Item]]:
    """The items of each consumer."""
    if is_of_one(items):
        return [list(items)]
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(id(item.consumer), []).append(item)
    return list(groups.values())


def tokens_of(items: Sequence[Item]) -> int:
    """Tokens that a batch is expected to be billed."""
    return sum(item.tokens for item in items)


class Latency:
    """The time of a request as `fixed + per_item * items`, fitted by least squares to those of late."""

    FADE = 0.95
    """Weight of what is one request older."""
    ENOUGH = 6

    def __init__(self) -> None:
        self._count = 0
        self._w = self._n = self._t = self._nn = self._nt = 0.0

    def add(self, items: int, seconds: float) -> None:
        """Notes a request."""
        self._count += 1
        sums = (self._w, self._n, self._t, self._nn, self._nt)
        new = (1.0, items, seconds, items * items, items * seconds)
        self._w, self._n, self._t, self._nn, self._nt = (self.FADE * a + b for a, b in zip(sums, new, strict=True))

    @property
    def smallest(self) -> int:
        """Items below which dividing a batch further would gain little."""
        spread = self._w * self._nn - self._n * self._n
        if self._count < self.ENOUGH or spread <= 1e-9 * self._nn * self._w:
            return SMALL
        per_item = (self._w * self._nt - self._n * self._t) / spread
        fixed = (self._t - per_item * self._n) / self._w
        if per_item <= 0 or fixed <= 0:
            return SMALL if per_item > 0 else 2 * SMALL
        return max(1, min(2 * SMALL, int(fixed / per_item / OVERHEAD_SHARE)))


def share_of(waiting: int, slots: float, smallest: int) -> int:
    """Items of each request when what waits is spread over the free slots."""
    return max(1, smallest, math.ceil(waiting / max(1, min(slots, waiting))))


class Line:
    """Consumers of one object that wait, in the order of their turns."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.consumers: OrderedDict[Consumer, deque[Item]] = OrderedDict()
        self.items = 0

    @property
    def to_come(self) -> int:
        """About how many items will join it at once."""
        return sum(consumer.to_come for consumer in islice(self.consumers, FEW))

    def add(self, items: Sequence[Item]) -> None:
        """Puts items of one consumer at the end of its own."""
        self.consumers.setdefault(items[0].consumer, deque()).extend(items)
        self.items += len(items)

    def remove(self, consumer: Consumer) -> list[Item]:
        """Takes out what a consumer has waiting, and gives it back."""
        items = list(self.consumers.pop(consumer, ()))
        self.items -= len(items)
        return items

    def take(self, items: Sequence[Item]) -> None:
        """Takes the first items of a consumer, whose next turn is after the others."""
        consumer = items[0].consumer
        waiting = self.consumers[consumer]
        for _ in items:
            waiting.popleft()
        self.items -= len(items)
        self.consumers.move_to_end(consumer)
        if not waiting:
            del self.consumers[consumer]


class Queue:
    """What waits for one route. Objects take turns, and the consumers of each; those that are urgent come first.

    Picking a batch costs about the batch: of all else that waits, at most `MANY` lines and consumers are looked at.
    """

    def __init__(self, traits: Traits = USUAL) -> None:
        self._traits = traits
        self._urgent: OrderedDict[Bounds, Line] = OrderedDict()
        self._others: OrderedDict[Bounds, Line] = OrderedDict()
        self.items = 0
        """Number of those that wait."""
        self.latency = Latency()

    def __bool__(self) -> bool:
        return bool(self.items)

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for some of it."""
        return bool(self._urgent)

    def add(self, items: Sequence[Item]) -> None:
        """Lets items of one consumer wait."""
        consumer = items[0].consumer
        lines = self._lines(consumer)
        line = lines.get(consumer.bounds)
        if line is None:
            line = lines[consumer.bounds] = Line(consumer.bounds)
        line.add(items)
        self.items += len(items)

    def remove(self, consumer: Consumer) -> list[Item]:
        """Takes out what a consumer has waiting, and gives it back."""
        line = self._lines(consumer).get(consumer.bounds)
        items = line.remove(consumer) if line is not None else []
        self._note_taken(consumer, len(items))
        return items

    def take(self, batch: Sequence[Item]) -> None:
        """Takes out a batch that was selected; the next turn of its objects is after the others'."""
        for items in by_consumer(batch):
            consumer = items[0].consumer
            lines = self._lines(consumer)
            lines[consumer.bounds].take(items)
            lines.move_to_end(consumer.bounds)
            self._note_taken(consumer, len(items))

    def consumers(self) -> Iterator[Consumer]:
        """Those who wait for some of it."""
        return (one for line in chain(self._urgent.values(), self._others.values()) for one in line.consumers)

    def ready(self, room: Callable[[Bounds], float]) -> Iterator[Line]:
        """The lines whose object may send, urgent ones first. The others have requests in flight, so they are few."""
        return (line for line in chain(self._urgent.values(), self._others.values()) if room(line.bounds) >= 1)

    def select(
        self, room: Callable[[Bounds], float], cap: float, *, due: int = 0, full: bool, new: bool = False
    ) -> list[Item]:
        """A batch, which stays in the queue until it is taken; empty while the rest of it is being handed in.

        Args:
            room: slots that an object may still take.
            cap: most items.
            due: slots that are about to be free.
            full: fill it to the cap, instead of spreading what waits over the free slots.
            new: nothing is known yet of how many slots the service has.
        """
        batch = Batch(cap, None if full else self._share(room, due, new=new), self._traits)
        passed = 0
        for consumer, items in (pair for line in self.ready(room) for pair in line.consumers.items()):
            if consumer.health.is_in_doubt:
                continue
            passed += not batch.fill(consumer, items)
            if batch.is_full or passed >= MANY:
                break
        if not batch.is_full and all(consumer.to_come for consumer in consumers_of(batch.items)):
            return []  # the rest is handed in at this moment
        return batch.items

    def _share(self, room: Callable[[Bounds], float], due: int, *, new: bool) -> int:
        """Items of a request. Of more than `MANY` lines the others are taken to be ready.

        The first requests of a job that takes several rounds are small, if the slots are left open: their answers come
        sooner, and with each of them another slot.
        """
        first = [*islice(chain(self._urgent.values(), self._others.values()), MANY)]
        ready = [line for line in first if room(line.bounds) >= 1]
        others = self.items - sum(line.items for line in first)
        waiting = others + sum(line.items + line.to_come for line in ready)
        slots = max((room(line.bounds) for line in ready), default=0)
        if new and waiting > slots * MAX_BATCH and all(line.bounds.most is None for line in ready):
            return MAX_BATCH // 2
        return share_of(waiting, slots + due, self.latency.smallest)

    def _lines(self, consumer: Consumer) -> OrderedDict[Bounds, Line]:
        return self._urgent if consumer.call.request.urgent else self._others

    def _note_taken(self, consumer: Consumer, items: int) -> None:
        self.items -= items
        lines = self._lines(consumer)
        line = lines.get(consumer.bounds)
        if line is not None and not line.items:
            del lines[consumer.bounds]


class Batch:
    """Items for one request, within the limits of number, bytes and tokens. What exceeds a limit alone goes alone."""

    def __init__(self, cap: float, share: int | None, traits: Traits = USUAL) -> None:
        self.items: list[Item] = []
        self.most = int(min(cap, traits.most_items))
        self._most_bytes = traits.most_bytes
        self._has_to_go = False
        self._share = share
        self._bytes = self._tokens = 0

    @property
    def is_full(self) -> bool:
        """Whether nothing more fits."""
        return self._has_to_go or len(self.items) >= self.most

    def fill(self, consumer: Consumer, waiting: deque[Item]) -> bool:
        """Adds what a consumer has waiting, as far as it fits; gives whether its `batch_size` allows any of it."""
        limit = min(self.most, consumer.config.batch_size or self._share or MAX_BATCH)
        if len(self.items) >= limit:
            return False
        self.most = limit
        for item in waiting:
            self._has_to_go = not self._has_room(item)
            if self.is_full:
                break
            self._add(item)
        return True

    def _add(self, item: Item) -> None:
        self.items.append(item)
        self._bytes += item.size
        self._tokens += item.tokens

    def _has_room(self, item: Item) -> bool:
        most_tokens = min(BATCH_TOKENS, item.consumer.config.tokens_per_minute or BATCH_TOKENS)
        return not self.items or (
            self._bytes + item.size <= self._most_bytes and self._tokens + item.tokens <= most_tokens
        )


class Feed(Inputs[Item]):
    """The items of a consumer, made one by one."""

    def __init__(self, consumer: Consumer, inputs: Iterable[tuple[int, Text | Image]], spec: ModelSpec) -> None:
        super().__init__(make_items(consumer, inputs, spec))
        self.consumer = consumer


def make_items(consumer: Consumer, inputs: Iterable[tuple[int, Text | Image]], spec: ModelSpec) -> Iterator[Item]:
    """Inputs of a call as the wire has them, in order. Images are prepared in threads, a few ahead."""
    call, wire = consumer.call, WIRES[consumer.config.wire_name]
    recipe = recipe_of(consumer.config, spec, partial(image_item, consumer, spec, wire))
    query, prefix = call.request.task == "query", spec.prefix(call.request.task)
    sent, added = ("", prefix) if wire.traits.says_task else (prefix, "")
    for number, item in prepare_inputs(call, inputs, recipe):
        if isinstance(item, Text):
            yield text_item(consumer, number, sent + item.value, wire, query=query, added=added)
        else:
            yield item


def recipe_of(config: EmbedderConfig, spec: ModelSpec, finish: Callable[[int, Prepared], R]) -> Recipe[R]:
    """How images become items: resized to the one tile that is billed, unless the options say otherwise."""
    mode, side, policy = config.image_resize, spec.image_size, config.image_policy
    return Recipe(
        policy=policy,
        fit=lambda pixels: images.fit(pixels, mode, side),
        side=side,
        mode=mode,
        fit_page=lambda pixels: images.fit_page(pixels, mode, side),
        finish=finish,
        target=partial(images.scaled_size, mode=mode, side=side) if config.image_decode == "fast" else None,
        quality=config.image_quality,
        keep_files=images.keeps_files(mode, config.image_quality),
        forward=config.url_mode == "forward",
    )


def text_item(consumer: Consumer, number: int, text: str, wire: Wire, *, query: bool, added: str) -> Item:
    """A text as an item; the service bills what is added there too."""
    size = text_bytes(text)
    tokens = text_tokens(added + text, text_bytes(added) + size)
    return Item(consumer, number, "text", wire.text_input(text), size, tokens, query)


def image_item(consumer: Consumer, spec: ModelSpec, wire: Wire, number: int, image: Prepared) -> Item:
    """An image as an item, encoded; or the address of one that the service is to fetch."""
    config, tile = consumer.config, image.tile
    if isinstance(tile, str):
        return Item(consumer, number, "image", wire.url_input(tile), len(tile), spec.tokens_per_tile)
    assert tile is not None  # noqa: S101  prepared to be sent
    upload = images.encode_tile(
        tile, policy=config.image_policy, mode=config.image_resize, quality=config.image_quality
    )
    tokens = image_tokens(upload.width, upload.height, spec.name)
    return Item(consumer, number, "image", wire.image_input(upload.data), len(upload.data) * 4 // 3, tokens)
