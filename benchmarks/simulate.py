"""How long a billion images or texts take, what they cost and what breaks first, by simulation; prints Markdown.

    python benchmarks/simulate.py                                    # all tables: 10^9 rows, on spot machines
    python benchmarks/simulate.py --draw docs/scale.png              # and a chart
    python benchmarks/simulate.py --items 1e8 --gpus 1,8,64 --gpu L4 --executor shards --on-demand
    python benchmarks/simulate.py --tables api --tier 2 --clients 1,2,4 --set token_usd=0.02
    python benchmarks/simulate.py --measure                          # the figures of a machine, measured on this one

Machines, storage, the service and their faults are discrete events (`simulation.py`), part by part. The figures are in
`assumptions.py`, each with where it is from; the table of them is printed too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from assumptions import FIGURES, TIERS, Figures
from fleets import GIB, GIGA, MEGA, Settings, Work, api_plan, api_usd, gpu_plan, gpu_usd, storage_usd
from simulation import DAY_S, HOUR_S, Outcome, simulate

GRANULARITIES = (8_192, 65_536, 1_000_000)
MANY_PREFIXES = 20
COARSE_ROWS = 32_768
"""Of a part, in the chart: fewer events, and no line that anybody could tell apart."""


# -- words


def span(seconds: float) -> str:
    """A duration as people say it."""
    for unit, length in (("years", 365 * DAY_S), ("days", DAY_S), ("h", HOUR_S), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:,.0f} s"


def usd(amount: float) -> str:
    """Money, to what matters of it."""
    return f"{amount:,.0f} USD" if amount >= 10 else f"{amount:,.2f} USD"


def limits(outcome: Outcome) -> str:
    """The two busiest stations: what breaks first, and what next."""
    return " | ".join(f"{name}, {share:.0%}" for name, share in outcome.busiest[:2])


def again(outcome: Outcome) -> str:
    """Rows that were embedded a second time."""
    return f"{outcome.again / outcome.rows:.2%}"


# -- tables


def works(options: argparse.Namespace) -> list[Work]:
    """What is asked for."""
    return [Work(kind, model, options.items) for kind in options.kinds for model in options.models]


def gpu_table(options: argparse.Namespace) -> Iterator[str]:
    """Fleets of GPUs."""
    yield "| what | GPUs | time | GPU hours | machines | storage | embedded again | limits it | next |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for work in works(options):
        for gpu in options.gpu:
            for machines in options.gpus:
                outcome = simulate(gpu_plan(work, gpu, machines, options.settings))
                stored = storage_usd(work, machines, outcome, options.settings)
                yield (
                    f"| {work.kind}s, {work.model} | {machines:,} {gpu} | {span(outcome.seconds)} | "
                    f"{outcome.machine_seconds / HOUR_S:,.0f} | {usd(gpu_usd(gpu, outcome, options.settings))} | "
                    f"{usd(stored)} | {again(outcome)} | {limits(outcome)} |"
                )


def api_table(options: argparse.Namespace) -> Iterator[str]:
    """The hosted service, one key."""
    yield "| what | tier | clients | time | tokens | leaving the cloud | machines, storage | limits it | next |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for work in works(options):
        for tier in options.tier:
            for clients in options.clients:
                outcome = simulate(api_plan(work, tier, clients, options.settings))
                bill = api_usd(work, clients, outcome, options.settings)
                yield (
                    f"| {work.kind}s, {work.model} | {tier} | {clients} | {span(outcome.seconds)} | "
                    f"{usd(bill['tokens'])} | {usd(bill['egress'])} | {usd(bill['machines'] + bill['storage'])} | "
                    f"{limits(outcome)} |"
                )


def part_table(options: argparse.Namespace) -> Iterator[str]:
    """How much a lost machine costs, by the size of a part."""
    yield "| images, v2, spot | rows a part | cache that survives a machine | time | machines lost | embedded again |"
    yield "|---|---|---|---|---|---|"
    gpu, machines = options.gpu[0], 100 if 100 in options.gpus else options.gpus[-1]
    work = Work("image", "v2", options.items)
    spot = replace(options.settings, on_demand=False)
    for rows in GRANULARITIES:
        for survives in (False, True):
            plan = replace(gpu_plan(work, gpu, machines, spot), part_rows=rows, cache_survives=survives)
            outcome = simulate(plan)
            yield (
                f"| {machines} {gpu} | {rows:,} | {'yes' if survives else 'no'} | {span(outcome.seconds)} | "
                f"{outcome.preemptions:,} | {again(outcome)} |"
            )


def memory_table(options: argparse.Namespace) -> Iterator[str]:
    """What one process has to hold, and how long opening what is there takes."""
    figures = options.settings.figures
    yield "| processes (shards) | rows each | index of each | ids of a Ray filter actor | opening again |"
    yield "|---|---|---|---|---|"
    for shards in sorted({1, *options.gpus}):
        rows = options.items / shards
        index, ids = rows * figures("index_bytes") / GIGA, max(1.0, rows * figures("ray_id_bytes") / GIB)
        held = f"{index:,.2f} GB{', **too much**' if index > figures('memory_gb') * 0.5 else ''}"
        actor = f"{ids:,.1f} GiB" if shards == 1 else "-"
        yield f"| {shards:,} | {rows:,.0f} | {held} | {actor} | {span(rows * figures('open_us') / MEGA)} |"


TABLES = {
    "gpus": ("On GPUs", gpu_table),
    "api": ("Through the hosted service", api_table),
    "parts": ("What a lost machine costs", part_table),
    "memory": ("Memory", memory_table),
}


# -- the chart


def draw(path: Path, options: argparse.Namespace) -> None:
    """Days by number of GPUs, with what the API takes beside; and what a part's size costs on spot."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    draw_fleets(left, options)
    draw_parts(right, options)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_fleets(axes: Any, options: argparse.Namespace) -> None:
    """Days of images, the images under one prefix of the bucket and under many."""
    counts = [1, 3, 10, 30, 100, 300, 1000]
    for gpu, color in zip(options.gpu, ("tab:blue", "tab:orange"), strict=False):
        for model, style in zip(options.models, ("-", "--"), strict=False):
            for prefixes, width in ((1, 0.7), (MANY_PREFIXES, 2.0)):
                settings = replace(options.settings, prefixes=prefixes, part_rows=COARSE_ROWS)
                work = Work("image", model, options.items)
                days = [simulate(gpu_plan(work, gpu, count, settings)).seconds / DAY_S for count in counts]
                label = f"{model} on {gpu}" if prefixes > 1 else None
                axes.plot(counts, days, style, color=color, linewidth=width, label=label)
    for tier in options.tier:
        outcome = simulate(api_plan(Work("image", "v2", options.items), tier, 4, options.settings))
        axes.axhline(outcome.seconds / DAY_S, color="grey", linewidth=0.8)
        axes.text(1000, outcome.seconds / DAY_S * 1.08, f"v2, API tier {tier}", ha="right", size=8, color="dimgrey")
    title = f"{options.items:,} images (thin: one prefix of S3; thick: {MANY_PREFIXES})"
    axes.set(xscale="log", yscale="log", xlabel="GPUs", ylabel="days", title=title)
    axes.grid(alpha=0.3)
    axes.legend()


def draw_parts(axes: Any, options: argparse.Namespace) -> None:
    """Rows embedded again on spot machines."""
    sizes = [2**power for power in range(12, 21)]
    spot = replace(options.settings, on_demand=False)
    plan = gpu_plan(Work("image", "v2", options.items // 10), options.gpu[0], 100, spot)
    for survives, label in ((False, "no cache outside the machine"), (True, "a cache that survives")):
        outcomes = [simulate(replace(plan, part_rows=size, cache_survives=survives)) for size in sizes]
        axes.plot(sizes, [100 * done.again / done.rows for done in outcomes], marker=".", label=label)
    axes.axvline(8192, color="grey", linewidth=0.8)
    axes.set(xscale="log", xlabel="rows a part", ylabel="% embedded again", title=f"spot, v2 on 100 {options.gpu[0]}")
    axes.grid(alpha=0.3)
    axes.legend()


# -- the command


def change(text: str) -> tuple[str, float]:
    """NAME=VALUE of `--set`."""
    name, _, value = text.partition("=")
    if name not in FIGURES:
        raise argparse.ArgumentTypeError(f"{name!r} is no figure; there are {', '.join(FIGURES)}")
    return name, float(value)


def listed(kind: Any = str, allowed: Any = None) -> Any:
    """The type of an option with commas between its values."""

    def read(text: str) -> list[Any]:
        values = [kind(float(part)) if kind is int else part for part in text.split(",")]
        if unknown := [value for value in values if allowed and value not in allowed]:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not one of {', '.join(allowed)}")
        return values

    return read


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--items", type=lambda text: int(float(text)), default=10**9, help="rows")
    add("--kinds", type=listed(allowed=("image", "text")), default=["image", "text"], help="image, text")
    add("--models", type=listed(allowed=("v1", "v2")), default=["v1", "v2"], help="v1, v2")
    add("--gpu", type=listed(allowed=("L4", "H100")), default=["L4", "H100"], help="L4, H100")
    add("--gpus", type=listed(int), default=[1, 10, 100, 1000], help="how many")
    add("--tier", type=listed(allowed=TIERS), default=list(TIERS), help="of the hosted service: free, 1, 2")
    add("--clients", type=listed(int), default=[1, 4], help="machines that share the key")
    add(
        "--executor",
        choices=("shards", "tables", "ray"),
        default="shards",
        help="--shard i/n, tables of their own, or Ray",
    )
    add("--on-demand", action="store_true", help="machines that are not taken away, at their price")
    add("--shared-cache", action="store_true", help="a cache outside the machines (Redis)")
    add("--part-rows", type=int, default=8192, help="rows that a write task writes")
    add("--prefixes", type=int, default=1, help="partitioned prefixes of the bucket that the images lie in")
    add("--seed", type=int, default=0, help="of all draws")
    add("--set", type=change, action="append", default=[], metavar="NAME=VALUE", help="another figure")
    add("--tables", type=listed(allowed=TABLES), default=list(TABLES), help=", ".join(TABLES))
    add("--draw", type=Path, metavar="PATH", help="also draws a chart")
    add("--measure", action="store_true", help="measures what a machine's figures are from, and ends")
    options = parser.parse_args()
    options.settings = Settings(
        figures=Figures(dict(options.set)),
        executor=options.executor,
        on_demand=options.on_demand,
        shared_cache=options.shared_cache,
        part_rows=options.part_rows,
        prefixes=options.prefixes,
        seed=options.seed,
    )
    return options


def main() -> None:
    """Reads the command line, simulates, prints."""
    options = read_options()
    if options.measure:
        from gauge import print_gauges

        print_gauges()
        return
    start = time.perf_counter()
    print(f"`python benchmarks/simulate.py {' '.join(sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}")
    for name in options.tables:
        title, table = TABLES[name]
        print(f"\n### {title}: {options.items:,} rows\n")
        for line in table(options):
            print(line, flush=True)
    print(f"\n### Figures\n\n{options.settings.figures.table()}")
    if options.draw:
        draw(options.draw, options)
    print(f"\nTook {time.perf_counter() - start:.0f} s.", file=sys.stderr)


if __name__ == "__main__":
    main()
