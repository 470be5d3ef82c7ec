"""A runner of a few lines of numpy, and who asks it."""

from __future__ import annotations

import threading

import numpy as np

from jinaclip import JinaClipError
from jinaclip.backends.local.batcher import Consumer, Item

WAIT_S = 20


class SumRunner:
    """A Runner whose vectors tell what it was given: the sum of the ids, or of the pixels, and the number of items."""

    dimensions, image_size, vocab_size, pad_id, logit_scale, device = 2, 2, 1000, 7, 0.0, "abacus"
    max_batch_tokens, max_batch_images, pass_tokens = 100, 3, 1000

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.room = 1000
        self.error: Exception | None = None
        self.free = threading.Event()
        self.free.set()
        self.busy = threading.Event()

    def text(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        assert ids.dtype == mask.dtype == np.int64
        assert ids.shape == mask.shape
        assert (ids[mask == 0] == self.pad_id).all()
        return self.answer(ids, (ids * mask).sum(1))

    def images(self, pixels: np.ndarray) -> np.ndarray:
        assert pixels.dtype == np.float32
        assert pixels.shape[1:] == (3, 2, 2)
        return self.answer(pixels, pixels.sum((1, 2, 3)))

    def answer(self, given: np.ndarray, sums: np.ndarray) -> np.ndarray:
        self.busy.set()
        assert self.free.wait(WAIT_S)
        self.batches.append(given.shape[:2])
        if self.error is not None and len(given) > 1:
            raise self.error
        if len(given) > self.room:
            raise MemoryError(f"{len(given)} items")
        return np.stack([sums, np.full(len(sums), len(sums))], axis=1).astype(np.float32)


class Asker:
    """A consumer that remembers what it was given."""

    def __init__(self, batch_size: int = 64, *, urgent: bool = False) -> None:
        self.rows: dict[int, np.ndarray] = {}
        self.errors: list[Exception] = []
        self.refused: dict[int, JinaClipError] = {}
        self.heard = threading.Condition()
        self.consumer = Consumer(self.deliver, self.refuse, self.fail, batch_size, urgent)

    def deliver(self, items: list[Item], rows: np.ndarray) -> None:
        with self.heard:
            for item, row in zip(items, rows, strict=True):
                assert item.consumer is self.consumer
                assert item.index not in self.rows, "nothing is delivered twice"
                self.rows[item.index] = row
            self.heard.notify_all()

    def refuse(self, item: Item, error: JinaClipError) -> None:
        with self.heard:
            assert item.consumer is self.consumer
            assert item.index not in {*self.rows, *self.refused}, "an item has one outcome"
            self.refused[item.index] = error
            self.heard.notify_all()

    def fail(self, error: Exception) -> None:
        with self.heard:
            self.errors.append(error)
            self.heard.notify_all()

    def texts(self, *lengths: int, first: int = 0) -> list[Item]:
        return [Item(self.consumer, first + i, ids=[1] * length) for i, length in enumerate(lengths)]

    def images(self, count: int) -> list[Item]:
        return [Item(self.consumer, i, pixels=np.full((3, 2, 2), i, np.float32)) for i in range(count)]

    def wait(self, *, rows: int = 0, errors: int = 0, refused: int = 0) -> None:
        def heard() -> bool:
            return len(self.rows) >= rows and len(self.errors) >= errors and len(self.refused) >= refused

        with self.heard:
            assert self.heard.wait_for(heard, WAIT_S)
