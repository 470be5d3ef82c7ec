"""Tells an outage from items that the service cannot embed, where a call holds nothing else that could tell."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jinaclip.call.call import NOT_SENT
from jinaclip.call.request import Request, Task
from jinaclip.call.results import ItemFailure, Results
from jinaclip.clip import JinaClip
from jinaclip.errors import APIConnectionError, BadResponseError, NotSentError, RequestRejectedError, ServerError
from jinaclip.hosts import Latch, embed
from jinaclip.inputs import Image, Pair
from jinaclip.self_test import TEXT, checkerboard

OF_ITEMS = (ServerError, BadResponseError, RequestRejectedError, APIConnectionError)
"""What ends a call and may be the fault of its items: a key or a balance never is."""
BESIDE = 7
"""Items that are sent again with a good one, as long as any fails: together as many as a call asks about one by one
before it gives up."""


class OutageCheck:
    """Sends what a call ended with again, beside an item that any service can embed. Safe to use from many threads.

    If that one is answered and the others are not, they are at fault, and each gets an error of its own. If nothing is
    answered, it is an outage. One call at a time asks, so that an outage costs a few requests more, and not a few for
    each call in flight.

    Args:
        clip: embeds.
        task: what texts are.
    """

    def __init__(self, clip: JinaClip, task: Task) -> None:
        self._clip, self._task = clip, task
        self._lock = threading.Lock()

    def embed(self, contents: Sequence[Any], request: Request | None, stop: Latch) -> Results:
        """Embeds items, and asks again for those that a call ended with.

        Args:
            contents: of the items: str, Image or Pair.
            request: for them, if they are texts alone.
            stop: once it is set, nothing is sent any more.

        Raises:
            BudgetError: `token_budget` does not hold all of them. Without a cache it is spent one by one instead.
        """
        spends = self._clip.config.token_budget is not None and self._clip.cache is None
        if request is not None and not spends:
            results = self._clip.run(request, show_progress=False, stop=stop)
        else:  # a list is refused as a whole if the budget does not hold all of it
            passed = iter(contents) if spends else contents
            results = embed(self._clip, passed, task=self._task, show_progress=False, stop=stop)
        return self.check(contents, results, stop)

    def check(self, contents: Sequence[Any], results: Results, stop: Latch | None = None) -> Results:
        """What came of the items of a call in the end.

        Args:
            contents: what was embedded: str, Image or Pair.
            results: of that call.
            stop: once it is set, nothing is sent any more.
        """
        if not isinstance(results.stopped, OF_ITEMS):
            return results
        with self._lock:
            return self._ask_again(contents, _add_unread(results, len(contents)), stop)

    def _ask_again(self, contents: Sequence[Any], results: Results, stop: Latch | None) -> Results:
        """Asks for a few, and for all that are left once those were answered; what is answered counts in any case."""
        places, size = _left_of(results), BESIDE
        while places and not (stop is not None and stop.done()):
            some = places[:size]
            found = self._ask([contents[place] for place in some], stop)
            results = _merge(results, found, some)
            if not _tells(found) and size == BESIDE:
                return replace(results, stopped=found.stopped or results.stopped)
            places = _left_of(results)
            size = BESIDE if found.errors or not _tells(found) else max(BESIDE, len(places))
        return results if places else replace(results, stopped=None)

    def _ask(self, contents: Sequence[Any], stop: Latch | None) -> Results:
        """What comes of items beside a good one."""
        passed = iter([_good_content(contents[0]), *contents])  # of a list the budget would have to hold all
        return embed(self._clip, passed, task=self._task, show_progress=False, stop=stop)


def _good_content(like: object) -> str | Image | Pair:
    """A text, an image or both, which no cache has."""
    text = f"{TEXT} {secrets.token_hex(4)}"
    if isinstance(like, str):
        return text
    pixels = checkerboard()
    pixels[0] = list(secrets.token_bytes(3))
    image = Image.from_array(pixels)
    return Pair(text, image) if isinstance(like, Pair) else image


def _add_unread(results: Results, total: int) -> Results:
    """Results of all items, also where a call that reads them one by one ended before it had read the last."""
    unread = {
        place: ItemFailure(NotSentError(NOT_SENT), place, "item", left=True) for place in range(len(results), total)
    }
    rows = np.full((len(unread), results.vectors.shape[1]), np.nan, np.float32)
    vectors = np.concatenate([results.vectors, rows])
    return replace(results, vectors=vectors, errors={**results.errors, **unread}, places=np.arange(total))


def _left_of(results: Results) -> list[int]:
    return [place for place, one in results.errors.items() if one.left]


def _tells(found: Results) -> bool:
    """Whether those that failed are at fault: the good item, which stands first, was answered, and the call went on."""
    return found.stopped is None and bool(found.ok[0])


def _merge(results: Results, found: Results, places: Sequence[int]) -> Results:
    """Results in which some items have what came of them beside a good one: vectors in any case.

    A call that was stopped may not have read the last of them: these stay as they are.
    """
    vectors, errors = results.vectors.copy(), dict(results.errors)
    for number, place in enumerate(places[: max(0, len(found) - 1)], 1):
        failure = found.errors.get(number)
        if failure is None:
            vectors[place] = found.vectors[number]
            del errors[place]
        elif _tells(found):
            errors[place] = replace(failure, index=place)
    return replace(results, vectors=vectors, errors=errors, usage=results.usage + found.usage)
