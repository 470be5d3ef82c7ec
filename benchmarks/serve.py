"""`jinaclip serve` beside the engine without a server and beside LitServe; prints a Markdown table.

    python benchmarks/serve.py                          # everything, of v1, on the CPU
    python benchmarks/serve.py --quick                  # a smoke test with tiny checkpoints; the figures mean nothing
    python benchmarks/serve.py --only texts,hostile --models v1,v2

The checkpoints have the published sizes and random weights (`checkpoints.py`). All clients share one process of
asyncio streams (`crowd.py`), which has its share of the cores, as real clients on other machines would not. Ways that
are compared take turns, and the best round of each counts.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from checkpoints import checkpoint
from crowd import Connection, Tally, crowd, image_inputs, request, requests, vectors
from hostile import attack
from inputs import make_photos, make_texts
from prometheus_client.parser import text_string_to_metric_families
from report import HEADER, Row, machine
from serving import Alone, litserve, ours

PACKAGES = ("jinaclip", "torch", "numpy", "pillow", "starlette", "uvicorn", "litserve")
CLIENTS = 32
BATCH = 32
"""Texts in a request that is not of one."""
TEXTS_A_REQUEST = 8
"""Where 32 clients share the texts that the engine alone has in one call."""
BULK_CLIENTS = 4
"""That a single query stands beside."""
SAME = 1e-4
"""By which vectors of two ways may differ."""
PASSES = "jinaclip_pass_rows"
"""The histogram of the server that counts the engine's passes."""


@dataclass(frozen=True)
class Sizes:
    """How much is sent."""

    texts: int
    images: int
    singles: int
    """Requests of one text."""
    queries: int
    """Of the good clients beside hostile ones."""
    lone: int
    """Queries beside bulk."""


SIZES = {"v1": Sizes(768, 64, 256, 1600, 20), "v2": Sizes(192, 32, 64, 320, 10)}
QUICK = Sizes(64, 8, 32, 320, 5)


@dataclass(frozen=True)
class Bench:
    """A checkpoint, what is sent to it, and how often."""

    version: str
    folder: Path
    sizes: Sizes
    rounds: int

    @property
    def model(self) -> str:
        """As requests name it."""
        return f"jina-clip-{self.version}"

    def best(self, ways: dict[str, Callable[[], float]]) -> dict[str, float]:
        """Seconds of the best round of each way; they take turns in an order that rotates."""
        names = list(ways)
        times: dict[str, list[float]] = {name: [] for name in names}
        for number in range(self.rounds):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                times[name].append(ways[name]())
        print(f"{self.version}, load {os.getloadavg()[0]:.1f}: {times}", file=sys.stderr, flush=True)
        return {name: min(found) for name, found in times.items()}


def send(url: str, bodies: list[bytes], clients: int = CLIENTS) -> float:
    """Seconds until all are answered."""
    return asyncio.run(crowd(url, bodies, clients)).check().wall


# -- parts


def texts(bench: Bench) -> Iterator[Row]:
    """Texts by 32 clients beside the engine that has them all in one call."""
    count = bench.sizes.texts
    bodies = requests(bench.model, list(make_texts(count)), TEXTS_A_REQUEST)
    yield throughput(bench, "texts", count, bodies, f"{TEXTS_A_REQUEST} a request")


def images(bench: Bench) -> Iterator[Row]:
    """Pictures by 32 clients beside the engine that has them all in one call."""
    count = bench.sizes.images
    bodies = requests(bench.model, list(image_inputs(make_photos(count))), 1)
    yield throughput(bench, "images", count, bodies, "JPEG of 1600 x 1200, 1 a request")


def throughput(bench: Bench, kind: str, count: int, bodies: list[bytes], what: str) -> Row:
    """A server's rate beside the engine's."""
    alone = Alone(str(bench.folder), kind, count)
    with ours(bench.folder, bench.model) as url:
        send(url, bodies[:4])
        times = bench.best({"server": lambda: send(url, bodies), "alone": alone.run})
    return Row(
        f"{bench.version} {count} {kind} ({what}) by {CLIENTS} clients vs the engine alone",
        f"{count / times['server']:,.1f}/s",
        f"{count / times['alone']:,.1f}/s",
        times["alone"] / times["server"],
        0.9,
        least=True,
    )


def peers(bench: Bench) -> Iterator[Row]:
    """Single texts by 32 clients: ours, LitServe over the same towers, and ours asked one after another."""
    bodies = requests(bench.model, list(make_texts(bench.sizes.singles)), 1)
    with ExitStack() as servers:
        url, other = (
            servers.enter_context(ours(bench.folder, bench.model)),
            servers.enter_context(litserve(bench.folder)),
        )
        compare(url, other, bodies[:8])
        times = bench.best(
            {
                "ours": lambda: send(url, bodies),
                "LitServe": lambda: send(other, bodies),
                "one after another": lambda: send(url, bodies, 1),
            }
        )
    for name, goal in (("LitServe", 1.0), ("one after another", None)):
        yield Row(
            f"{bench.version} {len(bodies)} texts, 1 a request, by {CLIENTS} clients vs {name}",
            f"{len(bodies) / times['ours']:,.1f}/s",
            f"{len(bodies) / times[name]:,.1f}/s",
            times[name] / times["ours"],
            goal,
            least=True,
        )


def compare(url: str, other: str, bodies: list[bytes]) -> None:
    """Ends the run if two servers give different vectors."""

    async def ask(server: str) -> np.ndarray:
        connection = Connection(server)
        return np.concatenate([vectors(await connection.post(body)) for body in bodies])

    gap = float(np.abs(asyncio.run(ask(url)) - asyncio.run(ask(other))).max())
    if gap > SAME:
        raise SystemExit(f"the servers give different vectors, by {gap}")


def prices(bench: Bench) -> Iterator[Row]:
    """The same texts in single requests and in batches."""
    held = list(make_texts(bench.sizes.singles))
    single, batched = requests(bench.model, held, 1), requests(bench.model, held, BATCH)
    with ours(bench.folder, bench.model) as url:
        send(url, batched[:1])
        times = bench.best({"single": lambda: send(url, single), "batched": lambda: send(url, batched)})
    yield Row(
        f"{bench.version} {len(held)} texts by {CLIENTS} clients: 1 a request vs {BATCH} a request",
        f"{len(held) / times['single']:,.1f}/s",
        f"{len(held) / times['batched']:,.1f}/s",
        times["batched"] / times["single"],
        0.9,
        least=True,
    )


def hostile(bench: Bench) -> Iterator[Row]:
    """Good clients with a query each, alone and beside hostile ones."""
    task = {"task": "retrieval.query"} if bench.version == "v2" else {}
    bodies = requests(bench.model, list(make_texts(bench.sizes.queries, words=10)), 1, **task)
    quiet, beside = Tally(), Tally()
    with ours(bench.folder, bench.model) as url:
        send(url, bodies[:CLIENTS])
        part = len(bodies) // bench.rounds
        for start in range(0, part * bench.rounds, part):
            merge(quiet, asyncio.run(crowd(url, bodies[start : start + part], CLIENTS)))
            merge(beside, asyncio.run(attacked(url, bench.model, bodies[start : start + part])))
    print(f"quiet {dict(quiet.statuses)}, attacked {dict(beside.statuses)}", file=sys.stderr, flush=True)
    refused = ", ".join(f"{count} of {status}" for status, count in sorted(beside.statuses.items()) if status != 200)
    yield Row(
        f"{bench.version} {len(bodies)} queries by {CLIENTS} clients: p99 beside hostile clients vs quiet"
        f" (refused: {refused or 'no query'})",
        f"{beside.p99() * 1e3:,.0f} ms (median {statistics.median(beside.laps) * 1e3:,.0f})",
        f"{quiet.p99() * 1e3:,.0f} ms (median {statistics.median(quiet.laps) * 1e3:,.0f})",
        beside.p99() / quiet.p99(),
        2,
    )


async def attacked(url: str, model: str, bodies: list[bytes]) -> Tally:
    """Good clients beside hostile ones, which begin first."""
    async with attack(url, model):
        await asyncio.sleep(1)
        return await crowd(url, bodies, CLIENTS)


def merge(into: Tally, more: Tally) -> None:
    """Adds what came of another round."""
    into.laps += more.laps
    into.statuses += more.statuses
    into.wall += more.wall


def queries(bench: Bench) -> Iterator[Row]:
    """A query beside bulk: the engine's passes that end while it waits, its own not counted."""
    with ours(bench.folder, bench.model) as url:
        waits, laps = asyncio.run(beside_bulk(url, bench))
    print(f"{bench.version} passes waited: {waits}", file=sys.stderr, flush=True)
    yield Row(
        f"{bench.version} passes that {len(waits)} queries wait for beside {BULK_CLIENTS} clients with {BATCH} texts a "
        "request, the most",
        f"{max(waits)} (mean {statistics.mean(waits):.1f}, median query {statistics.median(laps) * 1e3:,.0f} ms)",
        "1",
        max(waits),
        2,
    )


async def beside_bulk(url: str, bench: Bench) -> tuple[list[int], list[float]]:
    """Passes and seconds that each query waits while others have the engine full."""
    body = request(bench.model, list(make_texts(BATCH)))
    tasks = [asyncio.create_task(forever(url, body)) for _ in range(BULK_CLIENTS)]
    lone, metrics = Connection(url), Connection(url, "/metrics")
    waits, laps = [], []
    try:
        await lone.post(body)  # by when the others are at it
        for text in make_texts(bench.sizes.lone, start=10_000, words=10):
            before = await passes(metrics)
            answer = await lone.post(request(bench.model, [text]))
            waits.append(await passes(metrics) - before - 1)
            laps.append(answer.seconds)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return waits, laps


async def forever(url: str, body: bytes) -> None:
    """One request after another."""
    connection = Connection(url)
    while True:
        await connection.post(body)


async def passes(metrics: Connection) -> int:
    """Passes of the engine so far."""
    text = (await metrics.get()).body.decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return int(sum(sample.value for sample in samples if sample.name == f"{PASSES}_count"))


PARTS = {part.__name__: part for part in (texts, images, peers, prices, hostile, queries)}


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--rounds", type=int, help="default 3, or 1 with --quick")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--models", default="v1", help="models, with commas between")
    options = parser.parse_args()
    parts, models = options.only.split(","), options.models.split(",")
    if unknown := [name for name in parts if name not in PARTS] + [name for name in models if name not in SIZES]:
        parser.error(f"unknown: {', '.join(unknown)}")
    print(f"`python benchmarks/serve.py {' '.join(sys.argv[1:])}`\n\n{machine(*PACKAGES)}\n")
    if options.quick:
        print("A smoke test: the figures mean nothing.\n")
    print(HEADER, flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # or the servers would outlive it
    start = time.perf_counter()
    rounds = options.rounds or (1 if options.quick else 3)
    for version in models:
        sizes = QUICK if options.quick else SIZES[version]
        bench = Bench(version, checkpoint(version, tiny=options.quick), sizes, rounds)
        for part in parts:
            for row in PARTS[part](bench):
                print(row, flush=True)
    print(f"\nTook {(time.perf_counter() - start) / 60:.1f} minutes; load after {os.getloadavg()[0]:.1f}.")


if __name__ == "__main__":
    main()
