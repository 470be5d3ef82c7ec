"""Tells an outage from items that the service cannot embed, where a call holds nothing else that could tell."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jinaclip.bulk.partial import complete, merge, places_left, places_refused, reopen
from jinaclip.call.request import Task
from jinaclip.call.results import Results
from jinaclip.clip import JinaClip
from jinaclip.errors import (
    APIConnectionError,
    BadResponseError,
    BudgetError,
    RequestRejectedError,
    ServerError,
    WrongWidthError,
)
from jinaclip.hosts import Latch, embed
from jinaclip.inputs import Image, Pair
from jinaclip.self_test import TEXT, checkerboard

OF_ITEMS = (ServerError, BadResponseError, WrongWidthError, RequestRejectedError, APIConnectionError)
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

    def check(self, contents: Sequence[Any], results: Results, stop: Latch | None = None) -> Results:
        """What came of the items of a call in the end.

        Args:
            contents: what was embedded: str, Image or Pair.
            results: of that call.
            stop: once it is set, nothing is sent any more.
        """
        if isinstance(results.stopped, OF_ITEMS):
            with self._lock:
                return self._ask_again(contents, reopen(complete(results, len(contents))), stop)
        refused = places_refused(results)
        if results.stopped is not None or not refused or results.ok.any():
            return results
        with self._lock:  # nothing was answered, so that nothing tells an outage from items that are too large, say
            found = self._ask([contents[refused[0]]], stop)
        results = replace(results, usage=results.usage + found.usage)
        if _tells(found) or isinstance(found.stopped, BudgetError):
            return results
        return replace(reopen(results), stopped=found.stopped or found.errors[0].reason)

    def _ask_again(self, contents: Sequence[Any], results: Results, stop: Latch | None) -> Results:
        """Asks for a few, and for all that are left once those were answered; what is answered counts in any case."""
        places, size = places_left(results), BESIDE
        while places and not (stop is not None and stop.done()):
            some = places[:size]
            found = self._ask([contents[place] for place in some], stop)
            results = merge(results, found, some, first=1, trusted=_tells(found))
            if not _tells(found) and size == BESIDE:
                return replace(results, stopped=found.stopped or results.stopped)
            places = places_left(results)
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


def _tells(found: Results) -> bool:
    """Whether those that failed are at fault: the good item, which stands first, was answered, and the call went on."""
    return found.stopped is None and bool(found.ok[0])
