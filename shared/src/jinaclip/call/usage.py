"""What one JinaClip has sent and spent."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass, replace

from jinaclip.errors import BudgetError


@dataclass(frozen=True, slots=True)
class Usage:
    """Running totals of one JinaClip."""

    requests: int = 0
    items: int = 0
    """Vectors received; an item that came twice in a call counts once."""
    tokens: int = 0
    """As billed by the service, or counted by the local tokenizer."""
    retries: int = 0
    """Requests that repeated an earlier one."""
    maybe_billed: int = 0
    """Requests whose answer was lost after the service had it, so that they may have been billed."""


class Meter:
    """Counts, and holds a token budget. Safe to use from many threads."""

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

    def sent(self, *, again: bool) -> None:
        """Counts a request."""
        with self._lock:
            self._usage = replace(
                self._usage, requests=self._usage.requests + 1, retries=self._usage.retries + int(again)
            )

    def answered(self, items: int, tokens: int) -> None:
        """Counts vectors and what they cost."""
        with self._lock:
            self._usage = replace(self._usage, items=self._usage.items + items, tokens=self._usage.tokens + tokens)

    def doubt(self, tokens: int) -> None:
        """Counts a request that may have been billed for nothing."""
        with self._lock:
            self._doubtful += tokens
            self._usage = replace(self._usage, maybe_billed=self._usage.maybe_billed + 1)


_meters: weakref.WeakSet[Meter] = weakref.WeakSet()


def _renew_all() -> None:
    for meter in list(_meters):
        meter.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
