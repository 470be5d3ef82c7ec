"""One call: its items in order, and what became of each.

A backend takes items from a job and gives back a vector or an error for each, in any order and from any thread.
"""

from __future__ import annotations

import threading
from asyncio import CancelledError
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from copy import copy
from hashlib import blake2b
from typing import Any

import numpy as np

from jinaclip.call.request import Plan
from jinaclip.errors import InputError, JinaClipError, Partial
from jinaclip.inputs import Image, Text, named
from jinaclip.vectors import Vectors

LONG_TEXT = 1024
"""Characters above which a digest stands for a text among those seen, so that a generator's texts can be forgotten."""


class Stopped(Exception):
    """The call was stopped elsewhere."""


class Job:
    """The items of one call and their outcomes.

    Args:
        plan: the items, or in the place of an item the error it already has.
        width: of the vectors.
        progress: whether to draw a bar, unless there is a single item or none.
    """

    def __init__(self, plan: Plan, width: int, *, progress: bool = False) -> None:
        self.plan = plan
        self.stopped: Future[None] = Future()
        self._lock = threading.Lock()
        self._rows = Rows(width, plan.total or 0)
        self._count = 0
        self._first: dict[Hashable, int] = {}
        self._copies: list[tuple[int, int]] = []
        self._errors: dict[int, JinaClipError] = {}
        self._over = False
        self._fatal: BaseException | None = None
        self._bar = bar(plan.hint) if progress and plan.hint not in (0, 1) and not plan.single else None

    def place(self, index: int) -> int | None:
        """The caller's index of an item; None where there is only one."""
        return None if self.plan.single else index // self.plan.stride

    def name(self, what: str, index: int) -> str:
        """An item as messages call it."""
        return named(what, self.place(index))

    def items(self) -> Iterator[tuple[int, Text | Image]]:
        """What is left to do, lazily: texts met before and items that already failed are not given out."""
        for index, item in enumerate(self.plan.items):
            if self.stopped.done():
                return
            self._count = index + 1
            if isinstance(item, InputError):
                self.fail(index, item)
            elif isinstance(item, Image) or self.is_new(index, _key(item.value)):
                yield index, item

    def is_new(self, index: int, key: Hashable) -> bool:
        """Whether no earlier item has this content; if one has, its vector will serve for this one too."""
        first = self._first.setdefault(key, index)
        if first != index:
            self._copies.append((index, first))
        return first == index

    def answer(self, indices: Sequence[int], rows: Vectors) -> None:
        """Keeps the checked vectors of these items."""
        with self._lock:
            if self._over:
                return  # the caller has gone with what there was
            self._rows.put(indices, rows)
            self._advance(len(indices))

    def fail(self, index: int, error: JinaClipError) -> None:
        """Notes that an item gets no vector, and why; the others go on."""
        error.index = self.place(index)
        with self._lock:
            self._errors[index] = error
            self._advance(1)

    def stop(self, error: BaseException | None = None) -> None:
        """Ends the call: nothing more is sent, what is in flight may still be answered."""
        with self._lock:
            self._fatal = self._fatal or error
            if not self.stopped.done():
                self.stopped.set_result(None)

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Ends the whole call when what happens inside fails; a stranger's iterator may raise anything."""
        try:
            yield
        except Stopped:
            pass
        except CancelledError as error:
            self.stop(error)
            raise
        except BaseException as error:  # noqa: BLE001  Ctrl-C and SystemExit come back to the caller like the rest
            self.stop(error)

    def result(self) -> Vectors:
        """The vectors, float32 of shape (n, width), in input order.

        Raises:
            JinaClipError: what stopped the call, or else the error of the first item that has one; either way with
                everything else in `.partial`.
        """
        if self._bar is not None:
            self._bar.close()
        with self._lock:
            self._over = True
            return self._result()

    def _result(self) -> Vectors:
        self._settle_copies()
        first = self._fatal or (self._errors[min(self._errors)] if self._errors else None)
        if first is None:
            return self._rows.matrix(self._count)
        partial = Partial(self._rows.present(), {i: self._errors[i] for i in sorted(self._errors)})
        with suppress(AttributeError):  # a stranger's exception may not take it
            first.partial = partial  # type: ignore[attr-defined]
        raise first

    def _settle_copies(self) -> None:
        for index, first in self._copies:
            if first in self._errors:
                self._errors[index] = copy(self._errors[first])
                self._errors[index].index = self.place(index)
            elif self._rows.has(first):
                self._rows.put([index], self._rows.row(first))

    def _advance(self, items: int) -> None:
        if self._bar is not None:
            self._bar.update(items)


class Rows:
    """A float32 matrix filled in any order, growing where its length is not known beforehand."""

    def __init__(self, width: int, total: int) -> None:
        self._matrix = np.empty((total, width), np.float32)
        self._filled = np.zeros(total, bool)

    def put(self, indices: Sequence[int], rows: Vectors) -> None:
        """Stores the rows at these places."""
        self._reserve(max(indices) + 1)
        self._matrix[indices] = rows
        self._filled[indices] = True

    def has(self, index: int) -> bool:
        """Whether the place was filled."""
        return index < len(self._filled) and bool(self._filled[index])

    def row(self, index: int) -> Vectors:
        """A copy of what the place holds: a view would dangle once the matrix grows."""
        return self._matrix[index].copy()

    def present(self) -> dict[int, Vectors]:
        """The filled places by index."""
        return {int(i): self._matrix[i].copy() for i in np.flatnonzero(self._filled)}

    def matrix(self, count: int) -> Vectors:
        """All rows, every place of them filled."""
        self._reserve(count)
        if not self._filled[:count].all():
            raise AssertionError("an item ended with neither a vector nor an error")
        self._matrix.resize((count, self._matrix.shape[1]), refcheck=False)  # in place: no second copy of everything
        return self._matrix

    def _reserve(self, count: int) -> None:
        size = len(self._filled)
        if count > size:
            self._matrix.resize((max(count, size + size // 8), self._matrix.shape[1]), refcheck=False)
            self._filled.resize(len(self._matrix), refcheck=False)


def _key(text: str) -> Hashable:
    return text if len(text) <= LONG_TEXT else blake2b(text.encode(), digest_size=32).digest()


def bar(total: int | None) -> Any:
    """A progress bar."""
    from tqdm.auto import tqdm

    return tqdm(total=total, unit="item", desc="embedding")
