"""What was sent and spent: by one call, and by one JinaClip over all its calls."""

from __future__ import annotations

import math
import os
import threading
import weakref
from dataclasses import dataclass

from jinaclip.errors import BudgetError


@dataclass(frozen=True, slots=True)
class Usage:
    """Totals of one call, or of one JinaClip."""

    requests: int = 0
    items: int = 0
    """Vectors received; an item that came twice in a call counts once."""
    tokens: int = 0
    """As billed by the service, as estimated where it names no sound sum, or as counted by the local tokenizer."""
    retries: int = 0
    """Requests that repeated an earlier one."""
    maybe_billed: int = 0
    """Requests whose answer was lost after the service had it, so that they may have been billed."""
    hits: int = 0
    """Vectors that the cache had."""
    tokens_saved: int = 0
    """About what those would have been billed."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.items + other.items,
            self.tokens + other.tokens,
            self.retries + other.retries,
            self.maybe_billed + other.maybe_billed,
            self.hits + other.hits,
            self.tokens_saved + other.tokens_saved,
        )


class Meter:
    """Totals of one JinaClip, and its token budget. Safe to use from many threads.

    Attributes:
        budget: tokens that may be spent; None for any number.
    """

    def __init__(self, budget: int | None = None) -> None:
        self.budget = budget
        self._spent = 0
        self._usage = Usage()
        self._lock = threading.RLock()  # a coroutine that is collected while this thread is inside frees its tokens
        self._references: list[weakref.ref[Reservation]] = []
        _meters.add(self)

    def renew(self) -> None:
        """Starts afresh after a fork: what the parent has under way is not the child's."""
        self._lock = threading.RLock()
        for reservation in self._open_ones():
            reservation.release()

    @property
    def usage(self) -> Usage:
        """The totals now."""
        return self._usage

    @property
    def left(self) -> float:
        """Tokens of the budget that are neither spent, nor perhaps spent, nor about to be."""
        if self.budget is None:
            return math.inf
        with self._lock:
            return self.budget - self._spent - sum(one.tokens for one in self._open_ones())

    def _open_ones(self) -> list[Reservation]:
        """The reservations that count."""
        # not a WeakSet: its callbacks run in the caller's thread and swallow what a signal handler raises there
        return [one for reference in self._references if (one := reference()) is not None and one.is_open]

    def check(self, tokens: int) -> None:
        """Looks whether the budget holds so many tokens.

        Raises:
            BudgetError: it does not.
        """
        left = self.left
        if tokens > left:
            raise BudgetError(
                f"about {tokens:,} more tokens are needed, and {max(0, int(left)):,} of token_budget={self.budget:,} "
                "are left; nothing was sent for them"
            )

    def add(self, usage: Usage) -> None:
        """Adds what a call used."""
        with self._lock:
            self._usage += usage

    def open(self, reservation: Reservation) -> None:
        """Lets a reservation count, for as long as it exists and is open."""
        if self.budget is not None:
            with self._lock:
                self._references = [weakref.ref(one) for one in (*self._open_ones(), reservation)]

    def reserve(self, reservation: Reservation, tokens: int) -> None:
        """Puts tokens into a reservation, if it is open. Raises as `check`."""
        with self._lock:
            if reservation.is_open:
                self.check(tokens)
                reservation.tokens += tokens

    def settle(self, reservation: Reservation, tokens: int, cost: int) -> bool:
        """Takes tokens out of a reservation and spends what they cost, in one step: nobody finds them free meanwhile.

        Returns:
            whether it was open; else nothing happens.
        """
        with self._lock:
            if reservation.is_open:
                reservation.tokens -= tokens
                self._spent += cost
            return reservation.is_open


class CallMeter:
    """Totals of one call, which count towards those of its JinaClip."""

    def __init__(self, totals: Meter) -> None:
        self.totals = totals
        self.usage = Usage()
        self._lock = threading.RLock()

    def reserve(self, tokens: int = 0) -> Reservation:
        """Sets tokens aside.

        Raises:
            BudgetError: the budget does not hold them.
        """
        reservation = Reservation(self)
        reservation.add(tokens)
        return reservation

    def count(self, usage: Usage, *, shared: bool = False) -> None:
        """Counts what was used; what is `shared` counts for another call of the same totals already."""
        with self._lock:
            self.usage += usage
        if not shared:
            self.totals.add(usage)


class Reservation:
    """Tokens that a call sets aside before it spends them: each is settled once, or is free again.

    One that is lost, with the coroutine or generator that held it, sets nothing aside any more.

    Attributes:
        tokens: set aside, as long as it is open.
        is_open: whether it was not released yet.
    """

    def __init__(self, meter: CallMeter) -> None:
        self.tokens = 0
        self.is_open = True
        self._meter = meter
        meter.totals.open(self)

    def add(self, tokens: int) -> None:
        """Sets more tokens aside; none once it was released.

        Raises:
            BudgetError: the budget does not hold them.
        """
        self._meter.totals.reserve(self, tokens)

    def spend(self, tokens: int, bill: int | None = None) -> None:
        """Settles a part of it that was answered; nothing once it was released.

        Args:
            tokens: of the part, as they were set aside.
            bill: what the service says that it costs; None if that is not known, so that it costs `tokens`. The budget
                pays the larger of the two, the totals show the bill.
        """
        if self._meter.totals.settle(self, tokens, max(tokens, bill or 0)):
            self._meter.count(Usage(tokens=tokens if bill is None else bill))

    def doubt(self, *, shared: bool = False) -> None:
        """Settles all of it as spent: the answer was lost, so it may have been billed. `shared` as for `count`."""
        if self._meter.totals.settle(self, self.tokens, self.tokens):
            self._meter.count(Usage(maybe_billed=1), shared=shared)
        self.release()

    def release(self) -> None:
        """Frees what is left of it, for good."""
        self.is_open = False  # no lock: an exception of a signal handler may strike the caller anywhere


_meters: weakref.WeakSet[Meter] = weakref.WeakSet()


def _renew_all() -> None:
    for meter in list(_meters):
        meter.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
