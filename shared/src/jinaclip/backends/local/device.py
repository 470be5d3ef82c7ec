"""One device of a loaded model: a thread that takes batches off the queue, runs them, and delivers what came of it.

While a device that queues its passes works at one, the next batch is gathered and sent after it, so that it never waits
for this thread.

A batch that fails, whatever the reason, is run again apart: by consumer, then by halves, until the items at fault stand
alone and are refused by name. Each part waits for its consumer's turn. When nothing succeeds any more, one input that
every model can embed tells a broken engine, which ends the calls, from many items at fault. With several devices one
that is broken, or has no memory for a single item, leaves the work to the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from jinaclip import telemetry
from jinaclip.backends.local.batcher import Consumer, Item, Room, Rooms, by_consumer, consumers_of, divide, size_of
from jinaclip.backends.local.runner import AsyncRunner, Rows, Runner, pixels_of
from jinaclip.errors import ConfigError, InputError, JinaClipError

MAX_FAILURES = 8
"""Batches of one kind that may fail in a row before the engine is doubted."""
REST_S = 5.0
"""How long a broken device rests before it is tried again, while others work."""
NO_VECTOR = "the model gave no finite vector for it; float16 may be too narrow, use bfloat16 or float32"

Kind = Literal["text", "image"]
T = TypeVar("T")
logger = logging.getLogger("jinaclip")


class Work(Protocol):
    """Where the devices of a model find batches, and leave what becomes of them. Any of their threads may call it."""

    devices: list[Device]
    is_open: bool

    def take(self, device: Device, *, wait: bool) -> list[Item] | None:
        """A batch for a device; None when closed, or when there is none and nobody is to wait for one."""

    def put_back(self, parts: list[list[Item]]) -> None:
        """Lets parts of a batch that failed wait for batches of their own."""

    def remove(self, consumer: Consumer) -> None:
        """Forgets what a consumer has waiting; what it submits from now on is ignored."""

    def deliver(self, batch: list[Item], rows: Rows) -> None:
        """Gives each consumer its rows of a batch's vectors (B, d)."""

    def refuse(self, item: Item, error: JinaClipError) -> None:
        """Gives an item the error that it alone failed with."""

    def rest(self, seconds: float) -> None:
        """Waits so long, or until it is closed."""


@dataclass(slots=True)
class Failure:
    """Why a pass gave no vectors, without the traceback, which would hold the tensors of the pass.

    Attributes:
        error: for the consumers.
        of_memory: whether a smaller batch may fit.
    """

    error: JinaClipError
    of_memory: bool = False


@dataclass(slots=True)
class Pass:
    """A batch under way.

    Attributes:
        batch: its items, at least one.
        begun: when it was.
        finish: waits for the vectors (B, d); or why the pass could not begin.
    """

    batch: list[Item]
    begun: float
    finish: Callable[[], Rows] | Failure


class Device:
    """One runner, what a batch may hold there, and the thread that runs what waits.

    Attributes:
        runner: what computes.
        rooms: what a batch may hold.
        broken: of which kind it embeds nothing at present, so that it leaves all work to others; None if it is sound.
        unfinished: the batches under way.
    """

    def __init__(self, runner: Runner, work: Work) -> None:
        self.runner = runner
        self.rooms = Rooms(Room(runner.max_batch_tokens), Room(runner.max_batch_images), runner.pass_tokens)
        self.broken: Kind | None = None
        self._async = runner if isinstance(runner, AsyncRunner) else None
        self._work = work
        self._turn = threading.Lock()  # a runner is called by one thread at a time
        self.unfinished: list[list[Item]] = []
        self._failures: dict[Kind, int] = {"text": 0, "image": 0}  # batches in a row
        self._last_end = 0.0  # of a pass

    def run(self) -> None:
        """Runs batches until there is no more work."""
        ahead: Pass | None = None
        while ahead is not None or self._work.is_open:
            if self.broken is not None and ahead is None:
                self._rest()
            begun = self._begin_next(wait=ahead is None)
            if ahead is not None:
                self.end(ahead)
            ahead = begun

    def _begin_next(self, *, wait: bool) -> Pass | None:
        """Begins with what waits; where the runner itself waits for the vectors, ends it too."""
        batch = self._work.take(self, wait=wait) if self.broken is None else None
        if batch is None:
            return None
        if self._async is not None:
            return self.begin(batch)
        self.run_batch(batch)
        return None

    def run_batch(self, batch: list[Item]) -> None:
        """Delivers the vectors of a batch. Items that get none are run again apart; one that fails alone is refused."""
        self.end(self.begin(batch))

    def begin(self, batch: list[Item]) -> Pass:
        """Queues a pass on the device. Where the runner does not queue passes, all is left to `end`."""
        begun = time.perf_counter()
        self.unfinished.append(batch)
        if self._async is None:
            return Pass(batch, begun, partial(self.embed, batch))
        return Pass(batch, begun, self._attempt(partial(self._queue, self._async, batch)))

    def _queue(self, runner: AsyncRunner, batch: list[Item]) -> Callable[[], Rows]:
        with self._turn:
            if batch[0].pixels is not None:
                return runner.begin_images(np.stack([item.pixels for item in batch if item.pixels is not None]))
            return runner.begin_text(*pad(batch, runner.pad_id))

    def embed(self, batch: list[Item]) -> Rows:
        """(B, d) vectors of a batch of texts, or of one of images."""
        if self._async is not None:
            return self._queue(self._async, batch)()
        with self._turn:
            if batch[0].pixels is not None:
                return self.runner.images(np.stack([item.pixels for item in batch if item.pixels is not None]))
            return self.runner.text(*pad(batch, self.runner.pad_id))

    def _attempt(self, compute: Callable[[], T]) -> T | Failure:
        """What the function gives, or why it gives nothing."""
        try:
            return compute()
        except MemoryError:
            message = f"out of memory on {self.runner.device} with a single item; use a smaller dtype"
            return Failure(ConfigError(message), of_memory=True)
        except BaseException as raised:  # noqa: BLE001  whatever the library raises must not end this thread
            return Failure(JinaClipError(f"the model failed: {type(raised).__name__}: {str(raised)[:300]}"))

    def end(self, under_way: Pass) -> None:
        """Waits for the vectors of a pass and delivers them, or runs its items again apart."""
        batch, finish = under_way.batch, under_way.finish
        rows = finish if isinstance(finish, Failure) else self._attempt(partial(self._check, finish, len(batch)))
        if isinstance(rows, Failure):
            self._run_again(batch, rows)
        else:
            self._tell_pass(under_way)
            self.rooms.of(batch).note(size_of(batch))
            self._keep(batch, rows)
        self.unfinished.remove(batch)

    def _check(self, finish: Callable[[], Rows], items: int) -> Rows:
        return check_rows(finish(), items, self.runner.dimensions)

    def _run_again(self, batch: list[Item], failure: Failure) -> None:
        if failure.of_memory and len(batch) > 1:
            self.rooms.of(batch).shrink(size_of(batch))
        elif failure.of_memory and (rows := self._embed_elsewhere(batch)) is not None:
            self._keep(batch, rows)
            return
        self._run_apart(batch, divide(batch), failure.error)

    def _embed_elsewhere(self, batch: list[Item]) -> Rows | None:
        """The vectors of one item by another device, which may have the memory; None if not one has."""
        for other in self._others():
            rows = other._attempt(partial(other._check, partial(other.embed, batch), len(batch)))
            if not isinstance(rows, Failure):
                return rows
        return None

    def _others(self) -> list[Device]:
        """The devices beside this one that work."""
        return [device for device in self._work.devices if device is not self and device.broken is None]

    def _keep(self, batch: list[Item], rows: Rows) -> None:
        """Delivers the finite rows of (B, d); the items of the others are run again without these."""
        sound = np.asarray(np.isfinite(rows).all(axis=1))
        good = [item for item, ok in zip(batch, sound, strict=True) if ok]
        bad = [item for item, ok in zip(batch, sound, strict=True) if not ok]
        if good:
            self._failures[kind_of(batch)] = 0
            self._work.deliver(good, rows[sound] if bad else rows)
        if bad:
            self._run_apart(bad, by_consumer(bad) if good else divide(bad), InputError(NO_VECTOR))

    def _run_apart(self, batch: list[Item], parts: list[list[Item]], error: JinaClipError) -> None:
        """Puts the parts of a failed batch back, or refuses its one item, unless the engine is broken."""
        kind = kind_of(batch)
        self._failures[kind] += 1
        is_doubtful = self._failures[kind] >= MAX_FAILURES or bool(self._others())
        if is_doubtful and not self._is_engine_sound(kind):
            self._give_up(batch, error)
        elif parts:
            self._work.put_back(parts)
        else:
            self._work.refuse(batch[0], error)

    def _give_up(self, batch: list[Item], error: JinaClipError) -> None:
        """Leaves a batch to the other devices; where not one works, ends its calls."""
        if self._others():
            self.broken = kind_of(batch)
            logger.warning("%s embeds nothing any more, the other devices go on: %s", self.runner.device, error)
            self._work.put_back(by_consumer(batch))
            return
        for consumer in consumers_of(batch):
            self._work.remove(consumer)
            consumer.fail(JinaClipError(f"the engine embeds nothing any more; {error}"))

    def _rest(self) -> None:
        """Waits, and looks whether this device works again; with no other left, it is used as it is."""
        self._work.rest(REST_S)
        if self.broken is not None and (not self._others() or self._is_engine_sound(self.broken)):
            self.broken = None

    def _is_engine_sound(self, kind: Kind) -> bool:
        """Whether the runner still embeds what every model can: a text of one token, or a black image."""
        rows = self._attempt(partial(self._check, partial(self.embed, [probe_of(kind, self.runner)]), 1))
        sound = not isinstance(rows, Failure) and bool(np.isfinite(rows).all())
        if sound:
            self._failures[kind] = 0
        return sound

    def _tell_pass(self, ended: Pass) -> None:
        """Tells those who watch; a pass that was queued behind another began when that one ended."""
        begun, self._last_end = max(ended.begun, self._last_end), time.perf_counter()
        if telemetry.wants(telemetry.EnginePass):
            event = telemetry.EnginePass(
                kind=kind_of(ended.batch),
                rows=len(ended.batch),
                longest=max(item.length for item in ended.batch),
                callers=len(consumers_of(ended.batch)),
                device=self.runner.device,
                seconds=self._last_end - begun,
            )
            telemetry.emit(event)


def kind_of(batch: list[Item]) -> Kind:
    """What a batch holds."""
    return "text" if batch[0].pixels is None else "image"


def pad(batch: list[Item], pad_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(B, T) ids of texts, filled up, and their mask."""
    ids = np.full((len(batch), max(item.length for item in batch)), pad_id, np.int64)
    mask = np.zeros_like(ids)
    for row, item in enumerate(batch):
        ids[row, : item.length], mask[row, : item.length] = item.ids, 1
    return ids, mask


def check_rows(rows: Rows, items: int, width: int) -> Rows:
    """The vectors (B, d) that a runner gives for so many items.

    Raises:
        ValueError: they are of another shape.
    """
    if np.shape(rows) != (items, width):
        raise ValueError(f"it gave vectors of the shape {np.shape(rows)} for {items} items of width {width}")
    return np.asarray(rows, np.float32)


def probe_of(kind: Kind, runner: Runner) -> Item:
    """An item that every model can embed."""
    nobody = Consumer(lambda items, rows: None, lambda item, error: None, lambda error: None, 1)
    if kind == "text":
        return Item(nobody, 0, ids=[int(runner.pad_id == 0)])
    shape, dtype = pixels_of(runner)
    return Item(nobody, 0, pixels=np.zeros(shape, dtype))
