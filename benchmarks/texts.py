"""Texts of mixed lengths beside a loop that pads them; a part of `local.py`."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from bench import Bench, Job
from inputs import VOCABULARIES
from report import Row

from jinaclip.backends.local.tokenizer import Tokenizer
from jinaclip.backends.local.towers.loader import Towers

PADDED = 32
"""Texts in a batch of the loop that pads."""
MEDIAN, SPREAD, SHORTEST, LONGEST = 64, 1.0, 8, 1000
"""Tokens of the mixed texts: log-normal, cut at both ends."""


def texts(job: Job) -> Iterator[Row]:
    """Mixed lengths: the backend beside a loop that pads to the longest of its batch, over the same towers."""
    bench = Bench(job)
    count = job.count(*{"v1": (96, 4096), "v2": (64, 4096)}[job.version])
    held = list(mixed(count, SHORTEST + 24 if job.quick else LONGEST))
    lengths = [len(ids) for ids in encode(bench.model.tokenizer, held)]
    batches = [lengths[i : i + PADDED] for i in range(0, count, PADDED)]
    padded = sum(max(batch) * len(batch) for batch in batches)
    bench.clip.embed_documents(held[:4])
    rows: dict[str, Any] = {}
    ways = {
        "ours": lambda: rows.update(ours=bench.clip.embed_documents(held)),
        "padded": lambda: rows.update(padded=pad_loop(bench.model.runner.towers, bench.model.tokenizer, held)),
    }
    times = bench.best(ways, 1 if job.device == "cpu" else 2)
    gap = float(np.abs(rows["ours"] - rows["padded"]).max())
    if gap > (0.05 if job.device == "cuda" else 1e-4):
        raise SystemExit(f"the loop gives other vectors, by {gap}")
    flops = sum(bench.bill.texts(1, length)[0] * lengths.count(length) for length in set(lengths))
    yield Row(
        f"{job.version} texts: {count}, {min(lengths)} to {max(lengths)} tokens, mean {statistics.mean(lengths):.0f} "
        f"(padded in batches of {PADDED}: {padded / sum(lengths):.1f} times the tokens) vs the loop that pads",
        f"{count / times['ours']:,.2f}/s, {flops / times['ours'] / 1e9:,.0f} GFLOP/s",
        f"{count / times['padded']:,.2f}/s",
        times["padded"] / times["ours"],
        3,
        least=True,
    )


def mixed(count: int, longest: int) -> Iterator[str]:
    """Texts of log-normal length; a word of theirs is a token, two more are special."""
    draw = random.Random(17)
    for _ in range(count):
        tokens = round(draw.lognormvariate(np.log(MEDIAN), SPREAD))
        yield " ".join(draw.choices(VOCABULARIES[0], k=min(max(tokens, SHORTEST), longest) - 2))


def encode(tokenizer: Tokenizer, held: list[str]) -> list[list[int]]:
    """Token ids."""
    return [ids for ids in tokenizer.encode(held, truncate=True) if isinstance(ids, list)]


def pad_loop(towers: Towers, tokenizer: Tokenizer, held: list[str]) -> np.ndarray:
    """What the published code does without its sorting, and most loops do: batches in the order of the input."""
    found = []
    for start in range(0, len(held), PADDED):
        found.append(towers.text(*padded_batch(towers, encode(tokenizer, held[start : start + PADDED]))).cpu().numpy())
    rows = np.concatenate(found)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def padded_batch(towers: Towers, batch: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, on the device."""
    longest = max(map(len, batch))
    ids = torch.tensor([[*row, *[towers.pad_id] * (longest - len(row))] for row in batch])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
    return ids.to(towers.device), mask.to(towers.device)
