"""Calls of every kind, each with the rows that it should give, and what became of their items."""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image as Pillow

from jinaclip import Image, JinaClip, JinaClipError, Pair, Results, fuse
from tests.raw import vector
from tests.soak.service import POISON, image_label

WIDTH = 64
QUERY_TASK = "retrieval.query"
LEFT = (asyncio.CancelledError, KeyboardInterrupt, TimeoutError)
"""What ends a call from outside."""


class Numbers:
    """Numbers that no other item has, in this process or in its children."""

    def __init__(self, start: int = 0) -> None:
        self._count, self._lock = itertools.count(start), threading.Lock()

    def next(self) -> int:
        with self._lock:
            return next(self._count)

    def block(self, size: int) -> Numbers:
        """Numbers for a child process, which this one leaves out."""
        with self._lock:
            start = next(self._count)
            self._count = itertools.count(start + size)
        return Numbers(start)


@dataclass
class Call:
    """Items to embed, and the row that each should get; None where the service refuses it."""

    method: str
    items: Any
    rows: list[np.ndarray | None]
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, clip: JinaClip) -> Any:
        return getattr(clip, self.method)(self.items, **self.options)

    async def arun(self, clip: JinaClip) -> Any:
        return await getattr(clip, f"a{self.method}")(self.items, **self.options)


def draw_call(draw: random.Random, numbers: Numbers) -> Call:
    """A call of some kind: texts, images, pairs, a mixture, a query; a list or a generator, now and then long."""
    kind = draw.choice(["texts", "texts", "texts", "mixed", "images", "pairs", "query", "queries", "documents"])
    count = draw.choice([1, 5, 30]) if kind in ("images", "pairs", "mixed") else draw.choice([1, 20, 100, 700])
    if kind == "query":
        text, row = draw_text(draw, numbers, QUERY_TASK, poisoned=0)
        return Call("embed_query", text, [row])
    drawn = [draw_item(kind, draw, numbers) for _ in range(count)]
    drawn += draw.choices(drawn, k=count // 10)  # some come twice
    items, rows = [item for item, _ in drawn], [row for _, row in drawn]
    method, options = METHODS.get(kind, ("embed", {}))
    return Call(method, (one for one in items) if draw.random() < 0.3 else items, rows, options)


METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "queries": ("embed", {"task": "query"}),
    "documents": ("embed_documents", {}),
    "images": ("embed_images", {}),
}


def draw_item(kind: str, draw: random.Random, numbers: Numbers) -> tuple[Any, np.ndarray | None]:
    kind = draw.choice(["texts", "images", "pairs"]) if kind == "mixed" else kind
    if kind == "images":
        return draw_image(draw, numbers)
    if kind == "pairs":
        (text, one), (image, other) = draw_text(draw, numbers), draw_image(draw, numbers)
        weight = draw.choice([0.2, 0.5, 0.9])
        return Pair(text, image, weight), None if one is None else fuse(one, other, weight)
    return draw_text(draw, numbers, QUERY_TASK if kind == "queries" else None)


def draw_text(
    draw: random.Random, numbers: Numbers, task: str | None = None, poisoned: float = 0.003
) -> tuple[str, np.ndarray | None]:
    if draw.random() < poisoned:
        return f"{POISON} {numbers.next()}", None
    text = f"text {numbers.next()}" + " word" * draw.choice([0, 3, 40])
    return text, vector(f"{task}|{text}", WIDTH)


def draw_image(draw: random.Random, numbers: Numbers) -> tuple[Any, np.ndarray]:
    """An image of one colour, which survives being fitted, as a file or as pixels."""
    number = numbers.next()
    pixels = Pillow.new("RGB", (9, 7), (number >> 16 & 255, number >> 8 & 255, number & 255))
    row = vector(image_label(number & 0xFFFFFF), WIDTH)
    if draw.random() < 0.5:
        return Image.from_pil(pixels), row
    buffer = BytesIO()
    pixels.save(buffer, "PNG")
    return Image.from_bytes(buffer.getvalue()), row


@dataclass
class Tally:
    """What became of items. `lost`, `doubled`, `misplaced` and `foreign` should stay 0.

    Attributes:
        calls: that came to an end.
        left: items of calls that were ended from outside before they had an outcome.
        vectors: items with their right vector.
        errors: items with an error, by its class.
        lost: items with neither.
        doubled: items with both.
        misplaced: items with the vector of something else.
        foreign: calls that ended with an error which is not ours, by its text.
    """

    calls: int = 0
    left: int = 0
    vectors: int = 0
    lost: int = 0
    doubled: int = 0
    misplaced: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    foreign: Counter[str] = field(default_factory=Counter)
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    @property
    def reached(self) -> int:
        """Items that have an outcome."""
        return self.vectors + sum(self.errors.values()) + self.lost + self.doubled + self.misplaced

    def add(self, other: dict[str, Any]) -> None:
        """Adds the figures of another."""
        with self._lock:
            for name, value in other.items():
                if isinstance(value, dict):
                    getattr(self, name).update(value)
                else:
                    setattr(self, name, getattr(self, name) + value)

    def figures(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}

    def judge(self, call: Call, outcome: Any) -> None:
        """Counts the items of a call by what became of it: results, rows, or what it raised."""
        partial = getattr(outcome, "partial", None)
        if isinstance(outcome, Results):
            self.add({"calls": 1, **judge_results(call, outcome)})
        elif isinstance(outcome, np.ndarray):
            self.add({"calls": 1, **judge_results(call, Results(outcome.reshape(-1, WIDTH)))})
        elif isinstance(outcome, JinaClipError):
            found = judge_results(call, partial) if isinstance(partial, Results) else {}
            self.add({"calls": 1, **(found or {"errors": {type(outcome).__name__: len(call.rows)}})})
        elif isinstance(outcome, LEFT):
            self.add({"calls": 1, "left": len(call.rows)})
        else:
            self.add({"calls": 1, "foreign": {repr(outcome): 1}})


def judge_results(call: Call, results: Results) -> dict[str, Any]:
    """The items of a call, counted. Of a generator that was not read to its end, what was not read has an error."""
    found = {"vectors": 0, "lost": 0, "doubled": max(0, len(results) - len(call.rows)), "misplaced": 0}
    errors: Counter[str] = Counter()
    for place, (row, ok) in enumerate(zip(results.vectors[: len(call.rows)], results.ok, strict=False)):
        expected, failed = call.rows[place], place in results.errors
        if failed and not ok:
            errors[type(results.errors[place].reason).__name__] += 1
        elif failed or not ok:
            found["doubled" if failed else "lost"] += 1
        elif expected is not None and np.abs(row - expected).max() < 1e-5:
            found["vectors"] += 1
        else:
            found["misplaced"] += 1
    unread = max(0, len(call.rows) - len(results))
    if results.stopped is not None:
        errors[type(results.stopped).__name__] += unread
    else:
        found["lost"] += unread
    return {**found, "errors": dict(errors)}
