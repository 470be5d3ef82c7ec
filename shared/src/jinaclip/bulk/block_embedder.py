"""Embeds the blocks of a run: within its budget, and asks again for what a call ended with."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Any

from jinaclip.bulk.blocks import request_texts
from jinaclip.bulk.outage import OutageCheck
from jinaclip.bulk.partial import complete, merge, nothing, places_left
from jinaclip.call.request import Request, Task
from jinaclip.call.results import ItemFailure, Results
from jinaclip.clip import JinaClip
from jinaclip.errors import BudgetError
from jinaclip.hosts import Latch, embed

TOO_LARGE = (
    "it costs about {:,} tokens, more than all of token_budget={:,}; --retry-failed tries it again with a larger one"
)


class BlockEmbedder:
    """Embeds blocks of items. Safe to use from many threads.

    Args:
        clip: embeds.
        task: what texts are.
    """

    def __init__(self, clip: JinaClip, task: Task) -> None:
        self._clip, self._task = clip, task
        self._outage = OutageCheck(clip, task)
        self._shares = Shares(clip)

    def embed(self, contents: Sequence[Any], request: Request | None, tokens: Sequence[int], stop: Latch) -> Results:
        """What came of a block.

        Args:
            contents: of the items: str, Image or Pair.
            request: for them, if they are texts alone.
            tokens: that each is expected to cost.
            stop: once it is set, nothing is sent any more.
        """
        budget = self._clip.config.token_budget
        if budget is None:
            return self._call(contents, request, stop)
        too_large = {place: cost for place, cost in enumerate(tokens) if cost > budget}
        return self._embed_in_shares(contents, tokens, refuse(self._nothing_of(contents), too_large, budget), stop)

    def _embed_in_shares(
        self, contents: Sequence[Any], tokens: Sequence[int], results: Results, stop: Latch
    ) -> Results:
        """As many items at a time as the budget holds, since those that fail cost nothing in the end."""
        most = len(contents)
        while (places := places_left(results)) and not stop.done():
            with self._shares.take([tokens[place] for place in places[:most]], stop) as count:
                some = places[:count]
                found = self._call_within_budget([contents[place] for place in some], tokens[places[0]], stop)
            results = replace(merge(results, found, some), stopped=found.stopped)
            is_gain = len(places_left(results)) < len(places)
            if found.stopped is not None and not (isinstance(found.stopped, BudgetError) and (is_gain or count > 1)):
                return results
            most = (
                most if is_gain or not count else count // 2
            )  # what is asked again, perhaps beside others, costs again
        return results if places else replace(results, stopped=None)

    def _call_within_budget(self, contents: list[Any], least: int, stop: Latch) -> Results:
        """What came of items that the budget holds; if there are none, that it does not hold as much as `least`."""
        try:
            if not contents:
                self._clip.check_budget(least)
            return self._call(contents, request_texts(contents, self._task), stop)
        except BudgetError as error:
            return replace(self._nothing_of(contents), stopped=error)

    def _call(self, contents: Sequence[Any], request: Request | None, stop: Latch) -> Results:
        if request is None:
            results = embed(self._clip, contents, task=self._task, show_progress=False, stop=stop)
        else:
            results = self._clip.run(request, show_progress=False, stop=stop)
        return self._outage.check(contents, results, stop)

    def _nothing_of(self, contents: Sequence[Any]) -> Results:
        return complete(nothing(self._clip.dimensions), len(contents))


def refuse(results: Results, too_large: dict[int, int], budget: int) -> Results:
    """Results in which items have failed that no run with this budget could embed; others are not held up by them."""
    errors = {
        place: ItemFailure(BudgetError(TOO_LARGE.format(tokens, budget)), place, "item")
        for place, tokens in too_large.items()
    }
    return replace(results, errors={**results.errors, **errors})


class Shares:
    """Shares of what is left of `token_budget`. What is in flight counts in full, though some of it may fail.

    Args:
        clip: spends it.
    """

    def __init__(self, clip: JinaClip) -> None:
        self._clip = clip
        self._changed = threading.Condition()
        self._taken: list[int] = []  # tokens of those in flight

    @contextmanager
    def take(self, tokens: Sequence[int], stop: Latch) -> Iterator[int]:
        """How many of the first items may be sent now; their tokens are set aside as long as it lasts.

        It waits until the budget holds all of them, or nothing is in flight; then as many as it holds.

        Args:
            tokens: of items.
            stop: ends the wait.
        """
        stop.add_callback(self._look)
        with self._changed:
            self._changed.wait_for(lambda: sum(tokens) <= self._left or not self._taken or stop.done())
            count = sum(total <= self._left for total in accumulate(tokens))
            share = sum(tokens[:count])
            self._taken.append(share)
        try:
            yield count
        finally:
            with self._changed:
                self._taken.remove(share)
                self._changed.notify_all()

    @property
    def _left(self) -> float:
        return self._clip.tokens_left - sum(self._taken)

    def _look(self) -> None:
        with self._changed:
            self._changed.notify_all()
