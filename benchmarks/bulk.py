"""`jinaclip embed` beside what it runs on: the wire, the engine, Ray, and its own output; prints a Markdown table.

    python benchmarks/bulk.py                            # everything
    python benchmarks/bulk.py --quick                    # a smoke test; the figures mean nothing
    python benchmarks/bulk.py --only texts,resume --rounds 5

Every run is a fresh process over files of its own, and what is compared takes turns. Runs over the API and the bare
loops must give the same vectors bit for bit, or the benchmark stops.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import measure
from api import BY_HAND, MODEL, TILES_PER_REQUEST
from assumptions import TIERS
from bare import KEY
from bulk_jobs import Job, make_output, write_texts
from inputs import make_photos
from report import HEADER, Row, machine
from serving import Alone

from jinaclip import JinaClip
from jinaclip.bulk.ray_plan import TEXT_BLOCKS
from jinaclip.testing.process import Server

PACKAGES = ("jinaclip", "httpx", "numpy", "pyarrow", "ray")
SLOTS = {"base_ms": 400.0, "text_ms": 0.4, "tile_ms": 6.0, "slots": 8}
"""A service that takes eight at once, and is slow enough that its slots are what limits."""
TIER_TEXTS = {"1": 10_000, "2": 60_000}
"""Texts by tier of Jina's API, for some ten seconds each."""
TIER_WORDS, TIER_SLOTS = 150, 4
RESUME_S = 60
OTHER_CORES = 2
"""Beside one for each actor, whatever the machine has: what Ray counts are promises."""
BLOCK_TEXTS = TEXT_BLOCKS["api"].rows
ENGINE_ITEMS = {"texts": 768, "images": 64}
Result = dict[str, Any]
Way = Callable[[], Result]


class Bench:
    """A server, folders, and how many rounds of what size."""

    def __init__(self, server: Server, folder: Path, *, quick: bool, rounds: int) -> None:
        self.server, self.folder, self.quick, self.rounds = server, folder, quick, rounds
        self.numbers = itertools.count()

    def items(self, count: int) -> int:
        """The count, or what is left of it in a smoke test."""
        return max(12, count // 50) if self.quick else count

    def texts(self, count: int, words: int = 25) -> Path:
        """A file of so many texts."""
        return write_texts(self.folder / f"texts-{count}-{words}.jsonl", count, words)

    def photos(self, count: int) -> Path:
        """A folder of so many photographs."""
        folder = self.folder / f"photos-{count}"
        if not folder.exists():
            folder.mkdir()
            for path in make_photos(count):
                shutil.copy(path, folder)
        return folder

    def bulk(self, source: Path, *, cores: int | None = None, bulk: dict[str, Any] | None = None, **clip: Any) -> Way:
        """A run into a new folder, which goes away."""

        def run() -> Result:
            out = self.folder / f"out-{next(self.numbers)}"
            try:
                return Job(str(source), str(out), clip, bulk or {}, cores).run()
            finally:
                shutil.rmtree(out, ignore_errors=True)

        return run

    def api(self, source: Path, **more: Any) -> Way:
        """A run over the API."""
        return self.bulk(source, api_key=KEY, base_url=self.server.url, **more)

    def call(self, job: measure.Job) -> Way:
        """A call of a client without a run around it."""
        return lambda: job.run(f"{self.server.url}/v1/embeddings")

    def compare(
        self, ways: dict[str, Way], latency: dict[str, float] | None = None, *, same: bool = True
    ) -> dict[str, Result]:
        """Medians of each way; they take turns, and `same` ones give the same vectors if they give any."""
        runs: dict[str, list[Result]] = {name: [] for name in ways}
        names = list(ways)
        for turn in range(self.rounds):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                runs[name].append(self.once(name, ways[name], latency or {}))
        digests = {run["digest"] for done in runs.values() for run in done if run.get("digest")}
        if same and len(digests) > 1:
            raise SystemExit(f"the vectors differ: {runs}")
        return {name: middle(done) for name, done in runs.items()}

    def once(self, name: str, way: Way, latency: dict[str, float]) -> Result:
        """One measurement, told on standard error with the server's books."""
        if latency:
            self.server.reset(settings=False)
            self.server.configure(**latency)
        load = os.getloadavg()[0]
        result = way()
        ledger = self.server.ledger() if latency else {}
        books = {key: ledger[key] for key in ("requests", "tokens", "in_flight_max", "cpu_s") if key in ledger}
        told = {key: round(value, 3) if isinstance(value, float) else value for key, value in result.items()}
        print(f"{name}: {told}, load {load:.1f}, server {books}", file=sys.stderr, flush=True)
        return result


def middle(runs: list[Result]) -> Result:
    """Medians of the figures of some runs."""
    figures = [key for key, value in runs[0].items() if isinstance(value, int | float)]
    return {key: statistics.median(run[key] for run in runs) for key in figures}


def speed(what: str, count: int, runs: dict[str, Result], name: str, others: list[str], goal: float | None) -> Row:
    """Items a second beside the fastest of others."""
    other = min(others, key=lambda one: runs[one]["wall"])
    ours, theirs = count / runs[name]["wall"], count / runs[other]["wall"]
    decimals = 0 if ours >= 100 else 1
    return Row(what, f"{ours:,.{decimals}f}/s", f"{theirs:,.{decimals}f}/s ({other})", ours / theirs, goal, least=True)


def loops(
    bench: Bench, what: str, count: int, sizes: dict[str, list[tuple[int, int]]], words: int = 25
) -> dict[str, Way]:
    """Bare loops with batches and slots chosen by hand."""
    return {
        f"{client} {batch} x {slots}": bench.call(measure.Job(client, what, count, batch, slots, words))
        for client, choices in sizes.items()
        for batch, slots in choices
    }


# -- what is compared


def texts(bench: Bench) -> Iterator[Row]:
    """Short texts of a JSONL file, over the API."""
    count = bench.items(250_000)
    wire = loops(bench, "texts", count, {client: sizes[:2] for client, sizes in BY_HAND.items()})
    source = bench.texts(count)
    runs = bench.compare(
        {
            "a run": bench.api(source),
            "a run without a cache": bench.api(source, cache=False),
            "clip.embed_documents": bench.call(measure.Job("sync", "texts", count, None, None)),
            **wire,
        },
        MODEL,
    )
    what = f"{count:,} texts of a JSONL file"
    yield speed(f"{what} vs the best bare loop", count, runs, "a run", list(wire), 0.9)
    yield speed(f"{what} vs `embed_documents` of a list", count, runs, "a run", ["clip.embed_documents"], None)
    yield speed(f"{what}, `cache=False`, vs the best bare loop", count, runs, "a run without a cache", list(wire), None)
    ours, theirs = (runs[name]["cpu"] / count * 1e6 for name in ("a run", "clip.embed_documents"))
    yield Row(f"{what}: CPU vs `embed_documents`", f"{ours:.0f} us", f"{theirs:.0f} us", ours / theirs, None)


def tiers(bench: Bench) -> Iterator[Row]:
    """Texts of a paragraph, over a service that answers as many tokens a minute as a tier of Jina's API may send."""
    tokens = tokens_of_text(bench, TIER_WORDS)
    for tier, most in TIER_TEXTS.items():
        count, minute = bench.items(most), TIERS[tier][1]
        wire = loops(bench, "texts", count, {"asyncio": [(128, 4), (128, 8), (64, 8)]}, TIER_WORDS)
        service = {**MODEL, "base_ms": 0.0, "text_ms": TIER_SLOTS * 60_000 * tokens / minute, "slots": TIER_SLOTS}
        runs = bench.compare({"a run": bench.api(bench.texts(count, TIER_WORDS)), **wire}, service)
        what = f"{count:,} texts of {TIER_WORDS} words, {minute / 1e6:,.0f} million tokens a minute (tier {tier})"
        yield speed(f"{what} vs the best bare loop", count, runs, "a run", list(wire), 0.9)


def tokens_of_text(bench: Bench, words: int) -> float:
    """What the service bills a text of so many words, on average."""
    count = bench.items(5_000)
    bench.once("what a text is billed", bench.call(measure.Job("sync", "texts", count, None, None, words)), MODEL)
    return bench.server.ledger()["tokens"] / count


def images(bench: Bench) -> Iterator[Row]:
    """Photographs of a folder, over the API."""
    count = bench.items(600)
    folder = bench.photos(count)
    wire = loops(bench, "images", count, {"asyncio": [(TILES_PER_REQUEST, 16), (8, 16)]})
    ways = {
        "a run": bench.api(folder),
        "clip.embed_images": bench.call(measure.Job("sync", "images", count, None, None)),
        **wire,
    }
    bench.once("the server decodes each upload once: in nobody's time", ways["clip.embed_images"], MODEL)
    runs = bench.compare(ways, MODEL)
    what = f"{count:,} pictures of a folder"
    yield speed(f"{what} vs the best bare loop", count, runs, "a run", list(wire), 0.9)
    yield speed(f"{what} vs `embed_images` of paths", count, runs, "a run", ["clip.embed_images"], None)


def engine(bench: Bench) -> Iterator[Row]:
    """The local model, jina-clip-v1 at full size with random weights, on the CPU."""
    from checkpoints import checkpoint

    folder = checkpoint("v1", tiny=bench.quick)
    for kind, most in ENGINE_ITEMS.items():
        count = bench.items(most)
        source = bench.texts(count) if kind == "texts" else bench.photos(count)
        alone = Alone(str(folder), kind, count)
        runs = bench.compare(
            {
                "a run": bench.bulk(source, model=str(folder), backend="local", device="cpu"),
                "the engine alone": lambda alone=alone: {"wall": alone.run()},
            }
        )
        yield speed(f"v1, {count:,} {kind} vs the engine alone", count, runs, "a run", ["the engine alone"], 0.9)


def ray(bench: Bench) -> Iterator[Row]:
    """Ray on this machine: one actor beside one process, and two beside one where the service is the limit."""

    def on_ray(source: Path, actors: int, **more: Any) -> Way:
        return bench.api(source, cores=actors + OTHER_CORES, bulk={"executor": "ray", "actors": actors}, **more)

    few, many = bench.items(25_000), bench.items(250_000)
    ways = {"one process": bench.api, "Ray, one actor": lambda source: on_ray(source, 1)}
    rates, starts = growth(bench, ways, (few, many), MODEL)
    what = (
        f"from {few:,} to {many:,} texts: Ray with one actor (its start, {starts['Ray, one actor']:.0f} s, not counted)"
    )
    yield rate_row(f"{what} vs one process", rates, "Ray, one actor", "one process", 0.8)
    few, many = bench.items(4 * BLOCK_TEXTS), bench.items(12 * BLOCK_TEXTS)  # as many for either actor
    ways = {
        "one actor": lambda source: on_ray(source, 1, batch_size=64, max_concurrency=4),
        "two actors": lambda source: on_ray(source, 2, batch_size=64, max_concurrency=8),
    }
    rates, _ = growth(bench, ways, (few, many), SLOTS)
    what = f"from {few:,} to {many:,} texts, 64 a request, of a service that takes 8 at once: two actors of 4 slots"
    yield rate_row(f"{what} vs one", rates, "two actors", "one actor", 1.8)


def growth(
    bench: Bench, ways: dict[str, Callable[[Path], Way]], counts: tuple[int, int], latency: dict[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Items a second by which a longer run is longer, so that no start counts; and the seconds of all starts."""
    few, many = counts
    runs = {
        count: bench.compare({name: way(bench.texts(count)) for name, way in ways.items()}, latency) for count in counts
    }
    rates, starts = {}, {}
    for name in ways:
        short, long = runs[few][name], runs[many][name]
        rates[name] = (many - few) / (long["wall"] - short["wall"])
        starts[name] = long["ray"] + short["wall"] - few / rates[name]
    return rates, starts


def rate_row(what: str, rates: dict[str, float], name: str, other: str, goal: float) -> Row:
    """Two rates."""
    return Row(
        what, f"{rates[name]:,.0f}/s", f"{rates[other]:,.0f}/s ({other})", rates[name] / rates[other], goal, True
    )


def resume(bench: Bench) -> Iterator[Row]:
    """A finished output of a million texts: the same command again, which sends nothing."""
    count = bench.items(1_000_000)
    source, out = bench.texts(count), bench.folder / "finished"
    options = {"api_key": KEY, "base_url": bench.server.url}
    make_output(source, out, JinaClip(**options))
    job = Job(str(source), str(out), options)
    runs = bench.compare({"again": job.run}, MODEL)
    if bench.server.ledger()["texts"] > 1 or runs["again"]["skipped"] != count:  # the one is the query that warms up
        raise SystemExit(f"a finished run was not skipped: {runs}")
    seconds, peak = runs["again"]["wall"], runs["again"]["peak"]
    what = f"{count:,} texts that are done: the same command again"
    yield Row(what, f"{seconds:.1f} s", f"{RESUME_S} s", seconds / RESUME_S, 1)
    yield Row(f"{what}: memory a row", f"{peak * 1e6 / count:,.0f} B", "64 B", peak * 1e6 / count / 64, None)
    shutil.rmtree(out)


def memory(bench: Bench) -> Iterator[Row]:
    """The high-water mark of a run above what was resident before: of few texts, and of ten times as many."""
    few, many = bench.items(20_000), bench.items(200_000)
    quick = {**MODEL, "base_ms": 0.0, "text_ms": 0.0, "slots": 0}
    runs = bench.compare({str(count): bench.api(bench.texts(count)) for count in (few, many)}, quick, same=False)
    ours, theirs = runs[str(many)]["peak"], runs[str(few)]["peak"]
    yield Row(f"{many:,} texts: peak vs {few:,} texts", f"{ours:,.0f} MB", f"{theirs:,.0f} MB", ours / theirs, 1.5)


PARTS = {part.__name__: part for part in (texts, tiers, images, engine, ray, resume, memory)}


# -- the report


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--rounds", type=int, help="default 3, or 1 with --quick")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--folder", type=Path, help="where files are made; a temporary one by default")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    os.environ.pop("JINACLIP_CACHE", None)
    print(f"`python benchmarks/bulk.py {' '.join(sys.argv[1:])}`\n\n{machine(*PACKAGES)}\n\nServer: {MODEL}.\n")
    if options.quick:
        print("A smoke test: the figures mean nothing.\n")
    print(HEADER, flush=True)
    rounds = options.rounds or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, Server() as server:
        bench = Bench(server, Path(folder), quick=options.quick, rounds=rounds)
        for part in parts:
            for row in PARTS[part](bench):
                print(row, flush=True)


if __name__ == "__main__":
    main()
