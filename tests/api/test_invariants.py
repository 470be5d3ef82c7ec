"""The service fails in a third of all attempts, and still: no item lost, doubled, misplaced or paid for twice."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from jinaclip import specs
from jinaclip.backends.api.health import PROBES
from jinaclip.testing.faults import PASSING
from jinaclip.testing.vectors import digest, vectors

SEED = 20261121
DIMENSIONS = 64
BATCH = 32

pytestmark = pytest.mark.usefixtures("hasty")


def expected(texts):
    names = [digest("text", text.encode(), "jina-clip-v2", None) for text in texts]
    return vectors(names, specs.JINA_CLIP_V2, DIMENSIONS, normalized=True)


def misbehave(server, **more):
    """What is in each request depends on the moment, and so do the faults: no row may come back unusable three times.

    Once in a while eight inputs that are sent alone fail in a row; then as many that have been answered are sent again,
    to see whether the service answers anything.
    """
    usual = {"fault_rate": 0.6, "faults_in_row": 1, "seed": SEED, "retry_after": 0.001, "shuffle": True}
    server.configure(faults=PASSING, **{**usual, **more})


def options(**more):
    return {"dimensions": DIMENSIONS, "batch_size": BATCH, "max_concurrency": 8, "timeout": 30, **more}


def check_books(server, items, concurrency):
    books = server.ledger()
    faults = sum(books["faults"].values())
    assert faults >= 0.3 * books["requests"], "the service has to misbehave for this to mean anything"
    if items >= 10_000:
        assert set(books["faults"]) == set(PASSING)
    assert books["answered_items"] == items, "none lost"
    twice = books["answered"].get("2", 0)
    assert books["answered"].get("1", 0) + twice == items
    assert twice <= PROBES, "paid for twice"
    assert books["in_flight_max"] <= concurrency
    assert books["requests"] <= 5 * -(-items // BATCH) + 64 * items / 1000
    return books


def check_rows(rows, texts):
    assert rows.shape == (len(texts), DIMENSIONS)
    off = np.abs(rows - expected(texts)).max(axis=1)
    assert off.max() < 1e-5, f"row {off.argmax()} is not its item's"


@pytest.mark.slow
def test_sync(server, clip):
    misbehave(server)
    texts = [f"sync {number}" for number in range(20_000)]
    one = clip(**options())
    check_rows(one.embed_documents(texts), texts)
    books = check_books(server, len(texts), 8)
    assert one.usage.requests == books["requests"]
    assert one.usage.items == len(texts)


@pytest.mark.slow
async def test_async(server, clip):
    misbehave(server)
    calls = [[f"async {call} {number}" for number in range(5_000)] for call in range(4)]
    one = clip(**options())
    for rows, texts in zip(await asyncio.gather(*map(one.aembed_documents, calls)), calls, strict=True):
        check_rows(rows, texts)
    books = check_books(server, 20_000, 8)
    assert one.usage.requests == books["requests"]


@pytest.mark.slow
async def test_threads_and_loops_with_one_key(server, clip):
    """Objects of their own, in two threads and in this loop at once: each keeps its own bound."""
    misbehave(server, base_ms=20)
    calls = [[f"mixed {call} {number}" for number in range(2_500)] for call in range(4)]
    clips = [clip(**options(max_concurrency=3)) for _ in calls]
    with ThreadPoolExecutor(2) as pool:
        loop = asyncio.get_running_loop()
        threaded = [
            loop.run_in_executor(pool, one.embed_documents, texts)
            for one, texts in zip(clips[:2], calls[:2], strict=True)
        ]
        native = [one.aembed_documents(texts) for one, texts in zip(clips[2:], calls[2:], strict=True)]
        for rows, texts in zip(await asyncio.gather(*threaded, *native), calls, strict=True):
            check_rows(rows, texts)
    books = check_books(server, 10_000, 4 * 3)
    assert books["in_flight_max"] >= 2 * 3, "more than one object alone may have"


@pytest.mark.slow
def test_generators_with_duplicates(server, clip):
    """Duplicates are sent once, though the length is not known and the first of them may still be in flight."""
    misbehave(server)
    texts = [f"twice {number % 3_000}" for number in range(9_000)]
    check_rows(clip(**options()).embed_documents(text for text in texts), texts)
    check_books(server, 3_000, 8)
