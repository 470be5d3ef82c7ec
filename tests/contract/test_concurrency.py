"""Calls that meet, of threads, of one event loop and of a loop that dies: each gets the vectors that it gets alone."""

from __future__ import annotations

import asyncio
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from jinaclip import JinaClip
from jinaclip.testing import Server
from tests.needs import long

COUNT = 8
SAME = 1e-6
METHODS = {
    "texts": "embed_documents",
    "queries": "embed_queries",
    "images": "embed_images",
    "pairs": "embed_pairs",
}


def picture(seed: int) -> Pillow.Image:
    return Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 50, 3), np.uint8))


def items_of(kind: str, name: str = "item") -> list[Any]:
    texts = [f"{name} {number}, " * (1 + number % 5) for number in range(COUNT)]
    pictures = [picture(zlib.crc32(name.encode()) + number) for number in range(COUNT)]
    return {"texts": texts, "queries": texts, "images": pictures, "pairs": [*zip(texts, pictures, strict=True)]}[kind]


async def embed_apart(clip: JinaClip, kind: str, items: list[Any]) -> np.ndarray:
    """A call for each item, all at once."""
    if kind == "queries":
        return np.stack(await asyncio.gather(*map(clip.aembed_query, items)))
    method = getattr(clip, f"a{METHODS[kind]}")
    return np.concatenate(await asyncio.gather(*(method([item]) for item in items)))


def die_amid_calls(clip: JinaClip, kind: str, items: list[Any], seconds: float) -> None:
    """An event loop that is closed while its calls are under way, without cancelling them."""
    loop = asyncio.new_event_loop()
    calls = loop.create_task(embed_apart(clip, kind, items))
    loop.run_until_complete(asyncio.sleep(seconds))
    assert not calls.done()
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()


@pytest.fixture(params=METHODS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["texts", long("queries"), long("images"), "pairs"])
def some_kind(request: pytest.FixtureRequest) -> str:
    """Those that between them have texts and images, alone and together."""
    return request.param


@pytest.fixture(params=[long("api-v1"), "api-v2"])
def slow(request: pytest.FixtureRequest) -> Iterator[tuple[JinaClip, Server]]:
    """A JinaClip with one place in flight, so that calls which meet wait and are merged, and its slow server."""
    from tests.contract.conftest import MAKERS

    service = request.getfixturevalue("server" if request.param == "api-v1" else "modelled")
    service.reset()
    service.configure(base_ms=300)
    with MAKERS[request.param](request)(max_concurrency=1) as clip:
        yield clip, service
    service.reset()


@pytest.mark.slow
def test_threads_at_once_get_what_one_alone_gets(clip: JinaClip, kind: str) -> None:
    items, threads = items_of(kind), 8
    embed = getattr(clip, METHODS[kind])
    expected, rows = embed(items), [np.empty(0)] * threads
    start = threading.Barrier(threads)

    def work(place: int) -> None:
        start.wait()
        rows[place] = embed(items[place:] + items[:place])

    workers = [threading.Thread(target=work, args=(place,)) for place in range(threads)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    for place in range(threads):
        np.testing.assert_allclose(rows[place], np.roll(expected, -place, axis=0), atol=SAME)


@pytest.mark.slow
def test_calls_for_one_item_each_get_what_one_call_gets(clip: JinaClip, kind: str) -> None:
    items = items_of(kind)
    expected = getattr(clip, METHODS[kind])(items)
    np.testing.assert_allclose(asyncio.run(embed_apart(clip, kind, items)), expected, atol=SAME)


@pytest.mark.slow
def test_merged_calls_get_what_each_alone_gets(slow: tuple[JinaClip, Server], some_kind: str) -> None:
    clip, service = slow
    items = items_of(some_kind)
    expected = getattr(clip, METHODS[some_kind])(items)
    before = service.ledger()["requests"]
    np.testing.assert_allclose(asyncio.run(embed_apart(clip, some_kind, items)), expected, atol=SAME)
    assert service.ledger()["requests"] - before < COUNT, "they were merged"


@pytest.mark.slow
def test_a_loop_that_dies_harms_no_call_that_was_merged_with_its_own(
    slow: tuple[JinaClip, Server], some_kind: str
) -> None:
    """It dies while requests with items of both are in flight or wait for the slot."""
    clip, service = slow
    items = items_of(some_kind)
    expected = getattr(clip, METHODS[some_kind])(items)
    dying = threading.Thread(target=die_amid_calls, args=(clip, some_kind, items_of(some_kind, "lost"), 0.15))
    dying.start()
    rows = asyncio.run(embed_apart(clip, some_kind, items))
    dying.join()
    np.testing.assert_allclose(rows, expected, atol=SAME)
    assert set(service.ledger()["answered"]) <= {"1", "2"}, "not one was sent again for the loop's sake"
    assert clip.embed_query("the slot is free again").shape == (clip.dimensions,)


@pytest.mark.slow
async def test_a_cancellation_of_the_iterator_s_own_reaches_the_caller_and_no_log(clip: JinaClip) -> None:
    def texts() -> Iterator[str]:
        yield "one"
        raise asyncio.CancelledError("of its own")

    with pytest.raises(asyncio.CancelledError, match="of its own"):
        await clip.aembed_documents(texts())
    assert (await clip.aembed_documents(["after"])).shape == (1, clip.dimensions)
