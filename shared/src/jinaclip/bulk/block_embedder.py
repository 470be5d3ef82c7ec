"""Embeds the blocks of a run: within its budget, and asks again for what a call ended with."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any

from jinaclip.bulk.outage import OutageCheck
from jinaclip.bulk.partial import complete, merge, nothing, places_left
from jinaclip.call.request import Request, Task
from jinaclip.call.results import Results
from jinaclip.clip import JinaClip
from jinaclip.errors import BudgetError
from jinaclip.hosts import Latch, embed


class BlockEmbedder:
    """Embeds blocks of items. Safe to use from many threads.

    Args:
        clip: embeds.
        task: what texts are.
    """

    def __init__(self, clip: JinaClip, task: Task) -> None:
        self._clip, self._task = clip, task
        self._outage = OutageCheck(clip, task)
        self._budget = Budget(clip)

    def embed(self, contents: Sequence[Any], request: Request | None, tokens: Sequence[int], stop: Latch) -> Results:
        """What came of a block.

        Args:
            contents: of the items: str, Image or Pair.
            request: for them, if they are texts alone.
            tokens: that each is expected to cost.
            stop: once it is set, nothing is sent any more.
        """
        if self._clip.config.token_budget is None:
            return self._call(contents, request, stop)
        return self._embed_in_shares(contents, tokens, stop)

    def _embed_in_shares(self, contents: Sequence[Any], tokens: Sequence[int], stop: Latch) -> Results:
        """As many items at a time as the budget holds, since those that fail cost nothing in the end."""
        results, most = complete(nothing(self._clip.dimensions), len(contents)), len(contents)
        while (places := places_left(results)) and not stop.done():
            with self._budget.share([tokens[place] for place in places[:most]], stop) as count:
                some = places[:count]
                found = self._call([contents[place] for place in some], None, stop)
            results = merge(results, found, some)
            if found.stopped is None:
                continue
            was_in_vain = len(places_left(results)) == len(places)
            if not isinstance(found.stopped, BudgetError) or (was_in_vain and count == 1):
                return replace(results, stopped=found.stopped)
            if was_in_vain:  # what is sent again, alone or beside others, is set aside again
                most = max(1, count // 2)
        return results

    def _call(self, contents: Sequence[Any], request: Request | None, stop: Latch) -> Results:
        if request is None:
            items = contents if self._budget.is_endless else iter(contents)  # a list is refused whole, or not at all
            results = embed(self._clip, items, task=self._task, show_progress=False, stop=stop)
        else:
            results = self._clip.run(request, show_progress=False, stop=stop)
        return self._outage.check(contents, results, stop)


class Budget:
    """Shares of what is left of `token_budget`. What is in flight counts in full, though some of it may fail.

    Args:
        clip: spends it.
    """

    def __init__(self, clip: JinaClip) -> None:
        self._clip = clip
        self.is_endless = clip.config.token_budget is None
        self._changed = threading.Condition()
        self._shares: list[int] = []  # tokens of those in flight

    @contextmanager
    def share(self, tokens: Sequence[int], stop: Latch) -> Iterator[int]:
        """How many of the first items may be sent now, 1 at least; their tokens are set aside as long as it lasts.

        It waits until the budget holds all of them, or nothing is in flight.

        Args:
            tokens: of items.
            stop: ends the wait.
        """
        stop.add_callback(self._look)
        with self._changed:
            self._changed.wait_for(lambda: sum(tokens) <= self._left or not self._shares or stop.done())
            count = max(1, sum(total <= self._left for total in accumulate(tokens)))
            share = sum(tokens[:count])
            self._shares.append(share)
        try:
            yield count
        finally:
            with self._changed:
                self._shares.remove(share)
                self._changed.notify_all()

    @property
    def _left(self) -> float:
        return self._clip.tokens_left - sum(self._shares)

    def _look(self) -> None:
        with self._changed:
            self._changed.notify_all()
