"""The engines side by side in one process: PyTorch, ONNX Runtime in float32 and in int8; a part of `local.py`."""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from checkpoints import checkpoint, exported
from numpy.typing import NDArray
from reckoning import Bill, peak
from report import Row

from jinaclip.backends.local.checkpoint_config import read_preprocessing, read_spec
from jinaclip.backends.local.engines import choose_engine
from jinaclip.backends.local.onnx_runner import VNNI, processor_flags
from jinaclip.backends.local.preprocess import byte_values
from jinaclip.backends.local.runner import Runner
from jinaclip.backends.local.source import Source
from jinaclip.config import EmbedderConfig

TEXTS, TOKENS = 8, 64
"""The texts of a batch, and their length."""
QUERY = {"v1": 15, "v2": 24}
"""Tokens of a query; v2 has an instruction before it."""
QUERY_LAPS = 15
"""Passes of a query in each round: they are short, and their median is told too."""
QUERY_GOAL = 1.4
"""How many times its FLOPs at the matmul peak a query may take, by the best engine of equal vectors."""
PICTURES = 4
GOALS = {"pictures": 2.3, "texts": 1.4}
"""How many times as fast as PyTorch int8 is to be, with VNNI."""
Work = Callable[[Runner], object]


def measure(version: str, *, quick: bool, rounds: int) -> Iterator[Row]:
    """The rows of one model."""
    runners = {name: load(name, version, quick=quick) for name in ("torch", "onnx", "int8")}
    tasks = works(runners["torch"], TEXTS if not quick else 2, QUERY[version])
    bill = Bill(checkpoint(version, tiny=quick))
    flops = reckon(bill, TEXTS if not quick else 2, QUERY[version])
    for task, (count, work) in tasks.items():
        laps = race(runners, work, rounds * QUERY_LAPS if task == "query" and not quick else rounds)
        times = {name: min(all_) for name, all_ in laps.items()}
        print(f"engines {version} {task}, load {os.getloadavg()[0]:.1f}: {times}", file=sys.stderr, flush=True)
        for name in ("onnx", "int8"):
            yield row(f"{version} {task}", name, count, times[name], times["torch"], flops[task])
        if task == "query":
            yield query_row(f"{version} query of {QUERY[version]} tokens", laps, flops[task], peak_of(bill))


def race(runners: dict[str, Runner], work: Work, rounds: int) -> dict[str, list[float]]:
    """Seconds of each round of each engine; they take turns, after one to warm up."""
    laps: dict[str, list[float]] = {name: [] for name in runners}
    for runner in runners.values():
        work(runner)
    for _ in range(rounds):
        for name, runner in runners.items():
            gc.collect()
            start = time.perf_counter()
            work(runner)
            laps[name].append(time.perf_counter() - start)
    return laps


def peak_of(bill: Bill) -> float:
    """FLOP/s of the machine at the products of 2,048 tokens, as in the part `queries`."""
    return peak(bill.texts(64, 32)[1], "cpu", tries=6)


def query_row(what: str, laps: dict[str, list[float]], flops: float, most: float) -> Row:
    """A line: the faster of the engines whose vectors are equal, beside the FLOPs of a pass."""
    name = min(("torch", "onnx"), key=lambda engine: min(laps[engine]))
    own = min(laps[name])
    return Row(
        f"{what}: the best engine of equal vectors ({name}) vs its FLOPs at the matmul peak for 2,048 tokens",
        f"{own * 1e3:,.1f} ms (median {statistics.median(laps[name]) * 1e3:,.1f})",
        f"{flops / most * 1e3:,.1f} ms ({most / 1e9:,.0f} GFLOP/s)",
        own * most / flops,
        QUERY_GOAL,
    )


def row(what: str, engine: str, count: int, own: float, other: float, flops: float) -> Row:
    """A line: an engine beside PyTorch."""
    vnni = bool(processor_flags() & VNNI)
    goal = GOALS.get(what.split()[1]) if engine == "int8" and vnni else None
    label = "ONNX Runtime int8" if engine == "int8" else "ONNX Runtime float32"
    return Row(
        f"{what}: {label}{'' if vnni or engine == 'onnx' else ' (no VNNI here)'} vs PyTorch float32, times as fast",
        f"{count / own:,.2f}/s, {flops / own / 1e9:,.0f} GFLOP/s",
        f"{count / other:,.2f}/s, {flops / other / 1e9:,.0f} GFLOP/s",
        other / own,
        goal,
        least=True,
    )


def load(name: str, version: str, *, quick: bool) -> Runner:
    """The model in an engine."""
    folder = checkpoint(version, tiny=quick) if name == "torch" else exported(version, int8=name == "int8", tiny=quick)
    source = Source(str(folder))
    engine = choose_engine(source, EmbedderConfig(model=str(folder), backend="local", device="cpu"))
    settings = read_preprocessing(source, read_spec(source))
    return engine.load(source.files(), byte_values(settings))[0]


def works(runner: Runner, texts: int, query: int) -> dict[str, tuple[int, Work]]:
    """What is measured: how many items, and how a runner embeds them, in passes of the size that suits it."""
    draw = np.random.default_rng(17)
    size = runner.image_size
    pixels = draw.standard_normal((PICTURES, 3, size, size)).astype(np.float32)
    ids = draw.integers(4, min(runner.vocab_size, 20_000), (texts, TOKENS))
    return {
        "pictures": (PICTURES, lambda it: in_passes(it.images, it.max_batch_images, pixels)),
        "texts": (texts, lambda it: in_passes(it.text, max(1, it.max_batch_tokens // TOKENS), ids, np.ones_like(ids))),
        "query": (1, lambda it: it.text(ids[:1, :query], np.ones_like(ids[:1, :query]))),
    }


def in_passes(embed: Callable[..., object], most: int, *arrays: NDArray[np.generic]) -> None:
    """Embeds so many items at a time."""
    for start in range(0, len(arrays[0]), most):
        embed(*(array[start : start + most] for array in arrays))


def reckon(bill: Bill, texts: int, query: int) -> dict[str, float]:
    """FLOPs of each task."""
    return {
        "pictures": bill.pictures(PICTURES)[0],
        "texts": bill.texts(texts, TOKENS)[0],
        "query": bill.texts(1, query)[0],
    }
