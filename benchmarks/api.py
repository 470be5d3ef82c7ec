"""The API backend beside bare httpx loops, against the latency-modelled test server; prints a Markdown table.

    python benchmarks/api.py                     # everything
    python benchmarks/api.py --quick             # a smoke test: small counts, one round, figures mean nothing
    python benchmarks/api.py --only queries,memory

Every measurement is a fresh process. The clients of a comparison take turns, round after round, and medians are
compared, so a busy moment of the machine does not hit one of them only. Absolute times belong to the machine and to
the latency model; the ratios are what to keep.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from inputs import make_photos
from measure import Job
from report import HEADER, Row, machine

sys.path.insert(0, str(Path(__file__).parents[1]))
from jinaclip.testing.process import Server

MODEL = {"base_ms": 120.0, "text_ms": 0.4, "tile_ms": 6.0, "slots": 16}
AT_ONCE = {"base_ms": 0.0, "text_ms": 0.0, "tile_ms": 0.0, "slots": 0}
OURS = ("sync", "async")
BARE = ("threads", "asyncio")
PLAIN = ("plain threads", "plain asyncio")
TILES_PER_REQUEST = 18
"""What the core puts into 8 MiB; the bare loop gets the same."""
ANSWER_BYTES = 5500
"""Of one vector of 1024 on the wire."""
BY_HAND = {"asyncio": [(512, 16), (512, 20), (256, 16), (128, 16)], "threads": [(512, 16), (128, 16)]}
"""Sizes of batches and numbers of slots of the bare loops that the defaults are measured against."""
COPIES = 3
"""Of an answer while it is read: its pieces, their sum, the parsed strings or the decoded rows."""
PACKAGES = ("jinaclip", "httpx", "numpy", "orjson", "pybase64", "pillow")

Runs = dict[str, list[dict[str, Any]]]


class Bench:
    """A server, and how many rounds of what size."""

    def __init__(self, server: Server, *, quick: bool, rounds: int) -> None:
        self.server, self.quick, self.rounds = server, quick, rounds

    def items(self, count: int) -> int:
        """The count, or what is left of it in a smoke test."""
        return max(8, count // 50) if self.quick else count

    def compare(self, jobs: dict[str, Job], latency: dict[str, float], *, same: bool = True) -> Runs:
        """Runs jobs in turns, each round in another order; `same` ones must give the same vectors."""
        runs: Runs = {name: [] for name in jobs}
        names = list(jobs)
        for turn in range(self.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                runs[name].append(self.run(jobs[name], latency))
        digests = {run["digest"] for done in runs.values() for run in done}
        if same and len(digests) != 1:
            raise SystemExit(f"the clients gave different vectors: {runs}")
        return runs

    def run(self, job: Job, latency: dict[str, float]) -> dict[str, Any]:
        """One measurement, and what the server noted."""
        self.server.reset(settings=False)
        self.server.configure(**latency)
        load = os.getloadavg()[0]
        result = job.run(f"{self.server.url}/v1/embeddings")
        ledger = self.server.ledger()
        books = {name: ledger[name] for name in ("requests", "tiles", "tokens", "in_flight_max", "cpu_s")}
        print(
            f"{job.client:14} {job.what:9} x{job.count} batch {job.batch}: {result['wall']:.3f} s wall, "
            f"{result['cpu']:.3f} s CPU, load {load:.1f}, server {books}",
            file=sys.stderr,
        )
        return {**result, **books}


def median(runs: Runs, name: str, key: str) -> float:
    """Of one client."""
    return statistics.median(run[key] for run in runs[name])


def best(runs: Runs, names: tuple[str, ...], key: str) -> str:
    """The client with the lowest median."""
    return min(names, key=lambda name: median(runs, name, key))


# -- what is compared


def texts(bench: Bench) -> Iterator[Row]:
    """10,000 short texts under the latency model: throughput and CPU."""
    count = bench.items(10_000)
    for batch in (64, 512):
        jobs = {name: Job(name, "texts", count, batch) for name in (*OURS, *BARE, *PLAIN)}
        runs = bench.compare(jobs, MODEL)
        what = f"{count:,} texts, {batch} a request"
        for name in OURS:
            yield throughput(f"{what}: {name}, items/s vs the fastest loop", runs, name, BARE, count, 0.95)
            yield throughput(f"{what}: {name}, items/s vs the plain loop", runs, name, PLAIN, count, 1.0)
            yield cpu(f"{what}: {name}, CPU per item vs the thriftiest loop", runs, name, BARE, count)
        for name, like in zip(OURS, BARE, strict=True):
            yield cpu(f"{what}: {name}, CPU per item vs the loop of its kind", runs, name, (like,), count)
        yield throughput(f"{what}: sync vs async", runs, "sync", ("async",), count, 0.95)


def throughput(what: str, runs: Runs, name: str, others: tuple[str, ...], count: int, goal: float | None) -> Row:
    """Items a second beside the fastest of others."""
    other = best(runs, others, "wall")
    ours, theirs = (count / median(runs, client, "wall") for client in (name, other))
    return Row(what, f"{ours:,.0f}/s", f"{theirs:,.0f}/s ({other})", ours / theirs, goal, least=True)


def cpu(what: str, runs: Runs, name: str, others: tuple[str, ...], count: int) -> Row:
    """CPU per item beside the one of others that uses least."""
    other = best(runs, others, "cpu")
    ours, theirs = (median(runs, client, "cpu") / count * 1e6 for client in (name, other))
    return Row(what, f"{ours:.1f} us", f"{theirs:.1f} us ({other})", ours / theirs, 1.25)


def defaults(bench: Bench) -> Iterator[Row]:
    """Nothing set, beside the best of some bare loops whose batches and slots were chosen by hand."""
    short, long, photos = bench.items(10_000), bench.items(2_000), bench.items(300)
    make_photos(photos)
    work = {
        f"{short:,} texts": (Job("", "texts", short), BY_HAND),
        f"{long:,} texts of 400 words": (Job("", "texts", long, words=400), BY_HAND),
        f"{photos} pictures of 1600 x 1200": (
            Job("", "images", photos),
            {"asyncio": [(TILES_PER_REQUEST, 16), (8, 16)]},
        ),
    }
    for what, (job, by_hand) in work.items():
        jobs = {name: replace(job, client=name, batch=None, in_flight=None) for name in OURS}
        for client, sizes in by_hand.items():
            jobs |= {
                f"{client} {batch} x {slots}": replace(job, client=client, batch=batch, in_flight=slots)
                for batch, slots in sizes
            }
        if job.what == "images":
            bench.run(jobs["sync"], MODEL)  # the server decodes each upload once: in nobody's time
        runs = bench.compare(jobs, MODEL)
        loops = tuple(name for name in jobs if name not in OURS)
        largest = tuple(name for name in loops if jobs[name].batch == 512) or loops
        for name in OURS:
            title = f"{what}, nothing set: {name}, items/s vs the best loop"
            yield throughput(f"{title} of 512 a request", runs, name, largest, job.count, 0.9)
            yield throughput(f"{title} of any size", runs, name, loops, job.count, None)


def together(bench: Bench) -> Iterator[Row]:
    """1,000 queries at once, each a call of its own, beside one call with all of them."""
    count = bench.items(1_000)
    jobs = {name: Job(name, "together", count, batch=None, in_flight=None) for name in OURS}
    runs = bench.compare(jobs, MODEL)
    ours, theirs = (median(runs, name, "wall") for name in ("async", "sync"))
    requests = median(runs, "async", "requests") - 1
    what = f"{count:,} aembed_query at once ({requests:.0f} requests) vs one embed_queries"
    yield Row(what, f"{ours:.3f} s", f"{theirs:.3f} s", ours / theirs, 1.6)


def queries(bench: Bench) -> Iterator[Row]:
    """200 queries one after another, the server answering at once."""
    count = bench.items(200)
    runs = bench.compare({name: Job(name, "queries", count) for name in (*OURS, *BARE)}, AT_ONCE)
    for name, other in zip(OURS, BARE, strict=True):
        ours, theirs = median(runs, name, "lap") * 1e3, median(runs, other, "lap") * 1e3
        what = f"{count} queries in sequence: {name}, median time of one"
        yield Row(
            what, f"{ours:.3f} ms", f"{theirs:.3f} ms ({other})", ours / theirs, {"sync": 1.5, "async": 1.1}[name]
        )


def images(bench: Bench) -> Iterator[Row]:
    """300 pictures of 1600 x 1200: what is billed, and the time with the same work on pixels."""
    count = bench.items(300)
    make_photos(count)
    jobs = {name: Job(name, "images", count) for name in OURS}
    jobs["asyncio"] = Job("asyncio", "images", count, TILES_PER_REQUEST)
    as_it_is = Job("sync", "images", count, options={"image_resize": "none"})
    whole = bench.run(as_it_is, MODEL)
    bench.run(jobs["sync"], MODEL)  # the server decodes each upload once: in nobody's time
    runs = bench.compare(jobs, MODEL)
    tiles = median(runs, "sync", "tiles")
    what = f"{count} pictures of 1600 x 1200"
    yield Row(
        f"{what}: tiles billed vs sent as they are",
        f"{tiles:,.0f}",
        f"{whole['tiles']:,}",
        tiles / whole["tiles"],
        0.0834,
    )
    for name in OURS:
        yield throughput(
            f"{what}: {name}, items/s vs a loop with the same pixel work", runs, name, ("asyncio",), count, 0.9
        )


def memory(bench: Bench) -> Iterator[Row]:
    """100,000 texts, the server answering at once: the high-water mark above what was resident before."""
    count = bench.items(100_000)
    sizes = {"nothing set": {"batch": None, "in_flight": None}, "16 x 512": {"batch": 512, "in_flight": 16}}
    for title, size in sizes.items():
        jobs = {f"{name} {what}": Job(name, what, count, **size) for name in OURS for what in ("texts", "generated")}
        runs = bench.compare(jobs, AT_ONCE)
        in_flight = (size["batch"] or 512) * (size["in_flight"] or 16)
        needed = (count * 4096 + in_flight * ANSWER_BYTES * COPIES) / 1e6
        for name, job in jobs.items():
            source = "list" if job.what == "texts" else "generator"
            peak = median(runs, name, "peak")
            yield Row(
                f"{count:,} texts from a {source}: {job.client}, {title}, peak memory vs result and what is in flight",
                f"{peak:,.0f} MB",
                f"{needed:,.0f} MB",
                peak / needed,
                1.25,
            )


PARTS = {part.__name__: part for part in (defaults, texts, together, queries, images, memory)}


# -- the report


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--rounds", type=int, help="default 5, or 1 with --quick")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    options = parser.parse_args()
    print(machine(*PACKAGES), f"\n\nServer: {json.dumps(MODEL)}; queries and memory: no latency.\n", sep="")
    if options.quick:
        print("A smoke test: the figures mean nothing.\n")
    print(HEADER)
    with Server() as server:
        bench = Bench(server, quick=options.quick, rounds=options.rounds or (1 if options.quick else 5))
        for part in options.only.split(","):
            for row in PARTS[part](bench):
                print(row, flush=True)


if __name__ == "__main__":
    main()
