"""Whether the service still answers what a call sends, so that one can tell a bad input from a service that is down."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
PROBES = 8
"""Inputs of a call that are sent alone where all else fails."""
ENOUGH = 4
"""Inputs that are refused alone, all that were sent, before a refusal of inputs is taken for one of the service."""
DOUBT = 4
"""Failures in a row after which a call is in doubt. An input that is given up alone counts as so many at once, and an
answer that was paid for and cannot be used as half of them."""


class Sample(Generic[T]):
    """A few of the items of a call, each of them with the same chance to be among them (reservoir sampling)."""

    def __init__(self, size: int = PROBES) -> None:
        self.items: list[T] = []
        self._size, self._seen = size, 0

    def add(self, items: Sequence[T]) -> None:
        """Takes in what was handed in."""
        for item in items:
            self._seen += 1
            if len(self.items) < self._size:
                self.items.append(item)
            elif (place := int(random.random() * self._seen)) < self._size:  # noqa: S311
                self.items[place] = item


class Health(Generic[T]):
    """What the latest answers to a call say of the service. Lives on the hub's thread.

    Failures put a call in doubt. Nothing of it is sent then until something of it is answered, but by one of its
    batches, the *leader*, which is sent again, or lets inputs of the sample be sent alone.

    Attributes:
        sample: of the items of the call.
        leader: the batch that leads, if there is one.
        has_answered: whether the last that came back was an answer.
        answered_at: when the latest request was sent that was answered.
        doubt: number of the present doubt, or of the next one: who waits for its end may be woken only in another.
    """

    def __init__(self) -> None:
        self.sample: Sample[T] = Sample()
        self.leader: Sequence[T] | None = None
        self.has_answered = False
        self.answered_at = -math.inf
        self.doubt = 0
        self._failures = 0
        self._doubted_at = 0.0  # when the present doubt began
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_in_doubt(self) -> bool:
        """Whether the service may have stopped to answer at all."""
        return self._failures >= DOUBT

    def note_answer(self, sent_at: float) -> None:
        """The service answered a request of this moment: no doubt is left, unless that was sent before it began."""
        self.has_answered = True
        self.answered_at = max(self.answered_at, sent_at)
        if self._failures and (not self.is_in_doubt or sent_at >= self._doubted_at):
            self.end_doubt()

    def note_failure(self, now: float, weight: int = 1) -> None:
        """A request failed that may have failed because of its inputs."""
        was_in_doubt = self.is_in_doubt
        self._failures += weight
        self.has_answered = False
        if self.is_in_doubt and not was_in_doubt:
            self._doubted_at = now

    def note_probe(self) -> None:
        """An input that was sent alone came back."""
        self._wake()

    def leave(self, batch: Sequence[T], *, goes_on: bool) -> None:
        """A batch leads no more, if it did: another one does, or nobody is left to wait for.

        Args:
            batch: the one.
            goes_on: whether parts of it are still to be sent.
        """
        if self.leader is not None and self.leader is not batch:
            return
        self.leader = None
        if self.is_in_doubt and not (goes_on or self._waiters):
            self._failures = 0
        self._wake()

    def end_doubt(self) -> None:
        """Nothing can be said of the service; the call goes on."""
        self._failures, self.leader = 0, None
        self.doubt += 1
        self._wake()

    async def change(self) -> None:
        """Waits until any of this changes."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
