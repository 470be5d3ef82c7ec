"""What a call holds goes when it is over, without the collector of garbage: its vectors may be gigabytes."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest

from jinaclip.call.call import Call

PICTURES = [np.full((20, 30, 3), shade, np.uint8) for shade in range(4)]
TEXTS = [f"text {number}" for number in range(40)]
SOME_CALLS = 10
LAST = 2
"""Calls that the hub may not have let go yet."""
CALLS = {
    "list": ("embed_documents", lambda: TEXTS),
    "iterator": ("embed_documents", lambda: iter(TEXTS)),
    "query": ("embed_query", lambda: "a query"),
    "images": ("embed_images", lambda: PICTURES),
    "mixed": ("embed", lambda: [*TEXTS, *PICTURES]),
}


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def count_calls() -> int:
    return sum(type(one) is Call for one in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("caches", [False, True], ids=["no cache", "cache"])
@pytest.mark.parametrize("kind", CALLS)
async def test_a_call_that_is_over_is_gone(clip, run, tmp_path, kind, caches) -> None:
    method, make = CALLS[kind]
    made, before = clip(cache=tmp_path / "cache.sqlite" if caches else False), count_calls()
    for _ in range(SOME_CALLS):
        await run(made, method, make())
    assert count_calls() <= before + LAST
