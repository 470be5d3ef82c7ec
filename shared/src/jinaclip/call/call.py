"""One call under way: gives out what is to be embedded, takes what came of it, from any thread.

An *input* is what a backend embeds: a text or an image. An item of the caller's is one input, or the two of a pair.
Inputs are numbered as they are given out.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from array import array
from asyncio import CancelledError
from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from types import TracebackType
from typing import Any

import numpy as np

from jinaclip.call.memo import Memo
from jinaclip.call.request import Entry, Request
from jinaclip.call.results import ItemFailure, Results, clone
from jinaclip.call.usage import CallMeter, Usage
from jinaclip.errors import InputError, JinaClipError, NotSentError
from jinaclip.frames import without_frames
from jinaclip.inputs import Image, Pair, Text
from jinaclip.process import Latch
from jinaclip.vectors import Vectors, fuse, normalize, norms

LONG_TEXT = 1024
"""Characters above which a digest stands for a text among those seen, so that a generator's texts can be forgotten."""
URGENT_SECONDS = 30.0
"""Deadline of a request that somebody waits for, where the caller has set none."""
NOT_SENT = "not embedded: the call ended before its turn came"
NO_DIRECTION = "the first {} numbers of its vector are all zero; ask for more dimensions"
SENT = "sent, but the call ended before an answer came; it may have been billed"


def find_deadline(deadline: float | None, *, urgent: bool) -> float:
    """Seconds that a call may take: those of the option, else 30 where somebody waits for it, else infinitely many."""
    return deadline or (URGENT_SECONDS if urgent else math.inf)


class Stopped(Exception):
    """The call was stopped elsewhere."""


class Ending:
    """The context of `Call.ending`. A generator's frame would be held by the error, and from Python 3.12 on hold it."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        return error is not None and self._call.note_end(error)


class Call:
    """The items of one request and their outcomes.

    Args:
        request: what is asked.
        width: of the vectors.
        meter: counts what this call uses.
        deadline: seconds the whole call may take; None is 30 for urgent requests and no limit for others.
        progress: whether to draw a bar, unless there is a single item or none.
        memo: what it has to do with the cache; rows then come in full width.
        number: of the call, for those who watch.

    Attributes:
        stopped: done once nothing more is to be sent.
        deadline: seconds the whole call may take, infinite where there is no limit.
        ends_at: the moment of `time.monotonic` at which they are over.
    """

    def __init__(
        self,
        request: Request,
        width: int,
        meter: CallMeter,
        *,
        deadline: float | None = None,
        progress: bool = False,
        memo: Memo | None = None,
        number: int = 0,
    ) -> None:
        self.request, self.meter, self.memo, self.number = request, meter, memo, number
        self.stopped = Latch()
        self.deadline = find_deadline(deadline, urgent=request.urgent)
        self.ends_at = time.monotonic() + self.deadline
        self._width = width
        self._lock = threading.RLock()  # a coroutine that is collected while this thread is inside stops its call
        self._rows = Rows(width, request.total or 0)
        self._items = 0
        self._owners = array("q")  # the item of each input
        self._pairs: dict[int, tuple[list[int], float]] = {}  # numbers of its inputs, and its weight, by item
        self._first: dict[Hashable, int] = {}  # the first input of each content
        self._copies: list[tuple[int, int]] = []  # inputs of a content met before, and that first one
        self._failures: dict[int, ItemFailure] = {}  # by item
        self._failed_inputs: dict[int, ItemFailure] = {}
        self._over = False
        self._cause: BaseException | None = None
        self._own_error: BaseException | None = None  # what the caller's iterator raised
        self._sent: set[int] = set()
        shown = progress and request.hint not in (0, 1) and not request.single
        self._bar = progress_bar(request.hint) if shown else None
        if memo is not None:
            self.stopped.add_callback(memo.leave)

    # -- what is to be done

    def inputs(self) -> Iterator[tuple[int, Text | Image]]:
        """What is left to embed, lazily, with its number: texts met before and items that cannot be are left out."""
        if self.request.quick:
            yield from self._held_texts()
            return
        for index, item in enumerate(self._entries()):
            if self.stopped.done():
                return
            if isinstance(item, ItemFailure):
                self._items = index + 1
                self._keep_failure(index, item)
                continue
            parts = item.halves if isinstance(item, Pair) else (item,)
            first = self._number_inputs(index, item, len(parts))
            if first is None:
                return
            for number, part in enumerate(parts, first):
                if isinstance(part, Image) or self.is_new(number, _key(part.value)):
                    yield number, part

    def _held_texts(self) -> Iterator[tuple[int, Text]]:
        """`inputs` of texts that the caller holds, one each, so that all are numbered at once."""
        with self._lock:
            if not self._over:
                self._items = self.request.total or 0
                self._owners.extend(range(self._items))
        for number, text in enumerate(self.request.items):
            if self.stopped.done() or self._over:
                return
            assert isinstance(text, Text)  # noqa: S101  as the request says
            if self.is_new(number, _key(text.value)):
                yield number, text

    def _entries(self) -> Iterator[Entry]:
        """The items as they were read; notes what the caller's own iterator raises."""
        try:
            yield from self.request.items
        except GeneratorExit:
            raise
        except BaseException as error:
            self._own_error = error
            raise

    def _number_inputs(self, index: int, item: Entry, count: int) -> int | None:
        """Numbers the inputs of an item, all at once, and gives the first number; None once the caller has gone."""
        with self._lock:
            if self._over:
                return None
            first = len(self._owners)
            self._items = index + 1
            for _ in range(count):
                self._owners.append(index)
            if isinstance(item, Pair):
                self._pairs[index] = [*range(first, first + count)], item.weight
        return first

    def is_new(self, number: int, key: Hashable) -> bool:
        """Whether no earlier input has this content; if one has, its vector will serve for this one too.

        Texts are compared here, images by the backend, once it knows what would be sent of them.
        """
        first = self._first.setdefault(key, number)
        if first != number:
            self._copies.append((number, first))
        return first == number

    # -- what came of it

    def note_sent(self, numbers: Sequence[int]) -> None:
        """Notes that these inputs have gone out, whatever comes of them."""
        with self._lock:
            if not self._over:
                self._sent.update(numbers)

    def answer(self, numbers: Sequence[int], rows: Vectors) -> None:
        """Keeps the checked vectors of these inputs; those of the full width are kept in the cache and cut."""
        self.keep(numbers, rows)
        self._take(numbers, rows, Usage(items=len(numbers)))

    def keep(self, numbers: Sequence[int], rows: Vectors) -> None:
        """Keeps the vectors of these inputs in the cache, if there is one, though the caller may have gone."""
        if self.memo is not None:
            self.memo.keep(numbers, rows)

    def recall(self, numbers: Sequence[int], rows: Vectors, tokens: int) -> None:
        """Takes the vectors of these inputs, which were stored; `tokens` are about what they would have been billed."""
        self._take(numbers, rows, Usage(hits=len(numbers), tokens_saved=tokens))

    def _take(self, numbers: Sequence[int], rows: Vectors, usage: Usage) -> None:
        if rows.shape[1] > self._width:
            numbers, rows = self._cut(numbers, rows)
        with self._lock:
            if self._over or not len(numbers):
                return  # the caller has gone with what there was
            self._rows.put(numbers, rows)
            self.meter.count(usage)
            self._advance(len(numbers))

    def _cut(self, numbers: Sequence[int], rows: Vectors) -> tuple[Sequence[int], Vectors]:
        """Rows at the width of the call; one that has no direction there fails its item."""
        assert self.memo is not None  # noqa: S101  rows of another width come with a cache alone
        rows = rows[:, : self._width]
        if not self.memo.normalized:
            return numbers, rows
        lengths = norms(rows)
        sound = lengths.ravel() > 0
        for number in (number for number, is_sound in zip(numbers, sound, strict=True) if not is_sound):
            self.fail(number, InputError(NO_DIRECTION.format(self._width)), "vector")
        numbers = [number for number, is_sound in zip(numbers, sound, strict=True) if is_sound]
        return numbers, rows[sound] / lengths[sound]

    def fail(self, number: int, reason: JinaClipError, name: str) -> None:
        """Notes that an input gets no vector, and why; the others go on.

        Args:
            number: of the input.
            reason: says nothing of which input it is.
            name: "text" or "image".
        """
        if self.memo is not None:
            self.memo.drop(number)
        index = self._owners[number]
        failure = self._failure(index, reason, name)
        self._failed_inputs[number] = failure
        self._keep_failure(index, failure)

    def _failure(self, index: int, reason: JinaClipError, kind: str) -> ItemFailure:
        own_name = self.request.names.get(index) or kind
        return ItemFailure(reason, None if self.request.single else index, own_name)

    def _keep_failure(self, index: int, failure: ItemFailure) -> None:
        with self._lock:
            self._failures.setdefault(index, failure)
            self._advance(1)

    @property
    def cause(self) -> BaseException | None:
        """Why the call ended early, if something failed."""
        return self._cause

    def stop(self, cause: BaseException | None = None) -> None:
        """Ends the call: nothing more is sent, what is in flight may still be answered."""
        with self._lock:
            self._cause = self._cause or cause
        self.stopped.set()

    def ending(self) -> Ending:
        """Ends the whole call when what happens inside fails; the caller's iterator may raise anything."""
        return Ending(self)

    def note_end(self, error: BaseException) -> bool:
        """Ends the call for what was raised; gives whether the call's own end tells of it."""
        if isinstance(error, Stopped):
            return True
        if isinstance(error, CancelledError) and error is not self._own_error:
            self.stop()  # without the error, whose frames hold this object: nobody concludes a cancelled call
            return False
        self.stop(error)  # Ctrl-C and SystemExit come back to the caller like the rest
        return True

    # -- the end

    def conclude(self) -> Results:
        """What came of the call; whatever arrives later is dropped.

        Raises:
            BaseException: the caller's own, such as its iterator's or KeyboardInterrupt; it carries the results as
                `.partial`.
        """
        if self._bar is not None:
            self._bar.close()
        if self.memo is not None:
            self.memo.leave()
        self.stopped.forget()
        with self._lock:
            self._over = True
            results = self._results()
        if self._cause is None:
            return results
        if isinstance(self._cause, JinaClipError) and self._cause is not self._own_error:
            return replace(results, stopped=without_frames(self._cause))
        cause, self._cause, self._own_error = self._cause, None, None
        with suppress(AttributeError):  # an exception of the caller's may not take it
            cause.partial = results  # type: ignore[attr-defined]
        try:
            raise cause
        finally:
            del cause  # the error holds this frame: a cycle

    def _results(self) -> Results:
        self._settle_copies()
        rows = self._rows.matrix(len(self._owners))
        count = self._items if self.request.total is None else self.request.total
        if self._pairs or count != len(rows) or self._failures:
            rows = self._rows_of_items(rows, count)
        self._note_missing(rows)
        return Results(rows, dict(sorted(self._failures.items())), self.meter.usage)

    def _rows_of_items(self, rows: Vectors, count: int) -> Vectors:
        """A row for each item, of rows for each input: those of failed items are NaN, those of pairs fused."""
        found = np.full((count, rows.shape[1]), np.nan, np.float32)
        found[np.array(self._owners, np.int64)] = rows
        for index, (numbers, weight) in self._pairs.items():
            found[index] = self._fuse(index, rows[numbers], weight)
        found[[*self._failures]] = np.nan
        return found

    def _fuse(self, index: int, halves: Vectors, weight: float) -> Any:
        if np.isnan(halves[:, 0]).any():
            return np.nan
        try:
            return normalize(halves[0]) if len(halves) == 1 else fuse(halves[0], halves[1], weight)
        except InputError as error:
            self._failures.setdefault(index, self._failure(index, error, "pair"))
            return np.nan

    def _note_missing(self, rows: Vectors) -> None:
        """Gives every item that has neither a vector nor a failure the reason that the call ended before."""
        sent = {self._owners[number] for number in self._sent}
        for index in map(int, np.flatnonzero(np.isnan(rows[:, 0]))):
            if index not in self._failures:
                if self._cause is None and not self.stopped.done():
                    raise AssertionError("an item ended with neither a vector nor an error")
                failure = self._failure(index, self._reason_of_missing(sent=index in sent), self.request.kind)
                self._failures[index] = replace(failure, left=True)

    def _reason_of_missing(self, *, sent: bool) -> JinaClipError:
        """Why an item of a call that ended early has neither a vector nor an error of its own."""
        if not sent:
            return NotSentError(NOT_SENT)
        return clone(self._cause) if isinstance(self._cause, JinaClipError) else JinaClipError(SENT)

    def _settle_copies(self) -> None:
        for number, first in self._copies:
            failure, index = self._failed_inputs.get(first), self._owners[number]
            if self._rows.has(first):
                self._rows.put([number], self._rows.row(first))
            elif failure is not None:
                self._failures.setdefault(index, self._failure(index, failure.reason, failure.name))

    def _advance(self, items: int) -> None:
        if self._bar is not None:
            self._bar.update(items)


class Rows:
    """A float32 matrix filled in any order, growing where its length is not known beforehand."""

    def __init__(self, width: int, total: int) -> None:
        self._matrix = np.empty((total, width), np.float32)
        self._filled = np.zeros(total, bool)

    def put(self, numbers: Sequence[int], rows: Vectors) -> None:
        """Stores the rows at these places."""
        first, last = min(numbers), max(numbers)
        self._reserve(last + 1)
        in_order = list(range(first, last + 1)) == numbers  # as nearly always; a slice is copied in half the time
        places = slice(first, last + 1) if in_order else numbers
        self._matrix[places] = rows
        self._filled[places] = True

    def has(self, number: int) -> bool:
        """Whether the place was filled."""
        return number < len(self._filled) and bool(self._filled[number])

    def row(self, number: int) -> Vectors:
        """A copy of what the place holds: a view would dangle once the matrix grows."""
        return self._matrix[number].copy()

    def matrix(self, count: int) -> Vectors:
        """All rows, those that were not filled NaN."""
        self._reserve(count)
        self._matrix.resize((count, self._matrix.shape[1]), refcheck=False)  # in place: no second copy of everything
        self._filled.resize(count, refcheck=False)
        if not self._filled.all():
            self._matrix[~self._filled] = np.nan
        return self._matrix

    def _reserve(self, count: int) -> None:
        size = len(self._filled)
        if count > size:
            self._matrix.resize((max(count, size + size // 8), self._matrix.shape[1]), refcheck=False)
            self._filled.resize(len(self._matrix), refcheck=False)


def _key(text: str) -> Hashable:
    return text if len(text) <= LONG_TEXT else blake2b(text.encode(), digest_size=32).digest()


def progress_bar(total: int | None) -> Any:
    """A progress bar; it draws nothing where there is no standard error."""
    from tqdm.auto import tqdm

    return tqdm(total=total, unit="item", desc="embedding", disable=sys.stderr is None)
