"""What a call holds goes when it is over, without the collector of garbage: its vectors may be gigabytes."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from jinaclip.call.call import Call
from jinaclip.errors import DeadlineError

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


def fail_midway(error):
    yield from TEXTS
    raise error("the caller's own")


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, asyncio.CancelledError])
async def test_a_call_that_its_own_iterator_ended_raises_that_error_and_is_gone(clip, run, error) -> None:
    made, before = clip(), count_calls()
    for _ in range(SOME_CALLS):
        try:
            await run(made, "embed_documents", fail_midway(error))
        except error as caught:
            assert "the caller's own" in str(caught)
        else:
            pytest.fail("the iterator's error was lost")
    assert count_calls() <= before + LAST


@pytest.mark.usefixtures("no_collector")
async def test_a_call_whose_deadline_passed_is_gone(clip, server, run) -> None:
    made, before = clip(deadline=0.05), count_calls()
    server.configure(base_ms=400.0)
    for _ in range(SOME_CALLS):
        with suppress(DeadlineError):
            await run(made, "embed_documents", TEXTS)
    assert count_calls() <= before + LAST


@pytest.mark.usefixtures("no_collector")
async def test_a_call_that_was_cancelled_is_gone(clip) -> None:
    made, before = clip(), count_calls()
    for _ in range(SOME_CALLS):
        task = asyncio.ensure_future(made.aembed_documents(TEXTS))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        del task
    await made.aembed_query("the hub has let the others go by then")
    assert count_calls() <= before + LAST
