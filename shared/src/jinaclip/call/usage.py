"""What was sent and spent: by one call, and by one JinaClip over all its calls."""

from __future__ import annotations

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
    """As billed by the service, or counted by the local tokenizer."""
    retries: int = 0
    """Requests that repeated an earlier one."""
    maybe_billed: int = 0
    """Requests whose answer was lost after the service had it, so that they may have been billed."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.items + other.items,
            self.tokens + other.tokens,
            self.retries + other.retries,
            self.maybe_billed + other.maybe_billed,
        )


class Meter:
    """Totals of one JinaClip, and its token budget. Safe to use from many threads."""

    def __init__(self, budget: int | None = None) -> None:
        self._budget = budget
        self._reserved = 0
        self._doubtful = 0
        self._usage = Usage()
        self._lock = threading.RLock()  # a flow that is collected while this thread is inside releases its tokens
        _meters.add(self)

    def renew(self) -> None:
        """Starts afresh after a fork: what the parent has in flight is not the child's."""
        self._lock = threading.RLock()
        self._reserved = 0

    @property
    def usage(self) -> Usage:
        """The totals now."""
        return self._usage

    @property
    def left(self) -> float:
        """Tokens of the budget that are neither spent, nor perhaps spent, nor about to be."""
        if self._budget is None:
            return float("inf")
        return self._budget - self._usage.tokens - self._doubtful - self._reserved

    def check(self, tokens: int) -> None:
        """Looks whether the budget holds so many tokens.

        Raises:
            BudgetError: it does not.
        """
        self.reserve(tokens)
        self.release(tokens)

    def reserve(self, tokens: int) -> None:
        """Sets tokens aside for a request.

        Raises:
            BudgetError: the budget does not hold them.
        """
        with self._lock:
            if tokens > self.left:
                raise BudgetError(
                    f"about {tokens:,} tokens would be sent and {max(0, int(self.left)):,} of "
                    f"token_budget={self._budget:,} are left; nothing of it was sent"
                )
            self._reserved += tokens

    def release(self, tokens: int) -> None:
        """Ends a reservation."""
        with self._lock:
            self._reserved -= tokens

    def add(self, usage: Usage, *, doubtful: int = 0) -> None:
        """Adds what a call used; `doubtful` tokens may have been billed, and count against the budget."""
        with self._lock:
            self._usage += usage
            self._doubtful += doubtful


class CallMeter:
    """Totals of one call, which count towards those of its JinaClip."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._lock = threading.RLock()
        self.usage = Usage()

    @property
    def totals(self) -> Meter:
        """What this call counts towards."""
        return self._meter

    def reserve(self, tokens: int) -> None:
        """As `Meter.reserve`."""
        self._meter.reserve(tokens)

    def release(self, tokens: int) -> None:
        """As `Meter.release`."""
        self._meter.release(tokens)

    def count_request(self, *, again: bool, shared: bool = False) -> None:
        """Counts a request that was sent; one that is `shared` counts for another call of the totals already."""
        usage = Usage(requests=1, retries=int(again))
        if shared:
            with self._lock:
                self.usage += usage
        else:
            self._add(usage)

    def count_answer(self, items: int, tokens: int) -> None:
        """Counts vectors and what they cost."""
        self._add(Usage(items=items, tokens=tokens))

    def count_doubt(self, tokens: int) -> None:
        """Counts a request that may have been billed for nothing."""
        self._add(Usage(maybe_billed=1), doubtful=tokens)

    def _add(self, usage: Usage, doubtful: int = 0) -> None:
        with self._lock:
            self.usage += usage
        self._meter.add(usage, doubtful=doubtful)


_meters: weakref.WeakSet[Meter] = weakref.WeakSet()


def _renew_all() -> None:
    for meter in list(_meters):
        meter.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
