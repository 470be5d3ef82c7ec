"""The engines side by side in one process: PyTorch, ONNX Runtime in float32 and in int8; a part of `local.py`."""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from checkpoints import checkpoint, exported
from numpy.typing import NDArray
from reckoning import Bill
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
QUERY = 16
"""Tokens of a query."""
PICTURES = 4
GOALS = {"pictures": 2.3, "texts": 1.4}
"""How many times as fast as PyTorch int8 is to be, with VNNI."""
Work = Callable[[Runner], object]


def measure(version: str, *, quick: bool, rounds: int) -> Iterator[Row]:
    """The rows of one model."""
    runners = {name: load(name, version, quick=quick) for name in ("torch", "onnx", "int8")}
    tasks = works(runners["torch"], TEXTS if not quick else 2)
    flops = reckon(version, quick=quick)
    for task, (count, work) in tasks.items():
        times = {name: float("inf") for name in runners}
        for runner in runners.values():
            work(runner)
        for _ in range(rounds):
            for name, runner in runners.items():
                gc.collect()
                start = time.perf_counter()
                work(runner)
                times[name] = min(times[name], time.perf_counter() - start)
        print(f"engines {version} {task}, load {os.getloadavg()[0]:.1f}: {times}", file=sys.stderr, flush=True)
        for name in ("onnx", "int8"):
            yield row(f"{version} {task}", name, count, times[name], times["torch"], flops[task])


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


def works(runner: Runner, texts: int) -> dict[str, tuple[int, Work]]:
    """What is measured: how many items, and how a runner embeds them, in passes of the size that suits it."""
    draw = np.random.default_rng(17)
    size = runner.image_size
    pixels = draw.standard_normal((PICTURES, 3, size, size)).astype(np.float32)
    ids = draw.integers(4, min(runner.vocab_size, 20_000), (texts, TOKENS))
    return {
        "pictures": (PICTURES, lambda it: in_passes(it.images, it.max_batch_images, pixels)),
        "texts": (texts, lambda it: in_passes(it.text, max(1, it.max_batch_tokens // TOKENS), ids, np.ones_like(ids))),
        "query": (1, lambda it: it.text(ids[:1, :QUERY], np.ones_like(ids[:1, :QUERY]))),
    }


def in_passes(embed: Callable[..., object], most: int, *arrays: NDArray[np.generic]) -> None:
    """Embeds so many items at a time."""
    for start in range(0, len(arrays[0]), most):
        embed(*(array[start : start + most] for array in arrays))


def reckon(version: str, *, quick: bool) -> dict[str, float]:
    """FLOPs of each task."""
    bill = Bill(checkpoint(version, tiny=quick))
    texts = TEXTS if not quick else 2
    return {
        "pictures": bill.pictures(PICTURES)[0],
        "texts": bill.texts(texts, TOKENS)[0],
        "query": bill.texts(1, QUERY)[0],
    }
