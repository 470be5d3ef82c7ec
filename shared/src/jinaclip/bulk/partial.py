"""Results of a block of which some items were embedded again by a call of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jinaclip.call.call import NOT_SENT
from jinaclip.call.results import ItemFailure, Results
from jinaclip.errors import ItemError, NotSentError


def nothing(dimensions: int) -> Results:
    """Results of no item."""
    return Results(np.empty((0, dimensions), np.float32))


def complete(results: Results, total: int) -> Results:
    """Results of all items, also where a call that reads them one by one ended before it had read the last."""
    unread = {
        place: ItemFailure(NotSentError(NOT_SENT), place, "item", left=True) for place in range(len(results), total)
    }
    rows = np.full((len(unread), results.vectors.shape[1]), np.nan, np.float32)
    vectors = np.concatenate([results.vectors, rows])
    return replace(results, vectors=vectors, errors={**results.errors, **unread}, places=np.arange(total))


def places_left(results: Results) -> list[int]:
    """The places of items that their call left undone."""
    return [place for place, one in results.errors.items() if one.left]


def places_refused(results: Results) -> list[int]:
    """The places of items that the service would not embed."""
    return [place for place, one in results.errors.items() if isinstance(one.reason, ItemError)]


def reopen(results: Results) -> Results:
    """Results in which those count as left undone: in an outage a service refuses all that it is asked about alone."""
    refused = {place: replace(results.errors[place], left=True) for place in places_refused(results)}
    return replace(results, errors={**results.errors, **refused})


def merge(results: Results, found: Results, places: Sequence[int], *, first: int = 0, trusted: bool = True) -> Results:
    """Results in which some items have what came of them in another call.

    Args:
        results: of all items.
        found: of the other call. One that was stopped may not have read the last of its items: these stay as they are.
        places: of its items, in `results`.
        first: number of the first of them in `found`.
        trusted: whether to believe its errors too; vectors are taken in any case.
    """
    vectors, errors = results.vectors.copy(), dict(results.errors)
    for number, place in enumerate(places[: max(0, len(found) - first)], first):
        failure = found.errors.get(number)
        if failure is None:
            vectors[place] = found.vectors[number]
            del errors[place]
        elif trusted:
            errors[place] = replace(failure, index=place)
    return replace(results, vectors=vectors, errors=errors, usage=results.usage + found.usage)
