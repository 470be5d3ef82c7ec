"""One query beside its FLOPs at the peak, and many at once beside one after another; a part of `local.py`."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator

import torch
from bench import Bench, Job, tell
from inputs import make_texts
from reckoning import peak, seconds
from report import Row
from texts import encode, padded_batch

TOGETHER = 64
"""Queries asked at once."""


def queries(job: Job) -> Iterator[Row]:
    """One query beside its FLOPs at the peak; many at once beside one after another."""
    bench = Bench(job)
    count = job.count(50, 200)
    held = list(make_texts(count + TOGETHER, words=10))
    lengths = [len(ids) for ids in encode(bench.model.tokenizer, [bench.spec.query_instruction + t for t in held])]
    tokens = round(statistics.mean(lengths[:count]))
    flops, shapes = bench.bill.texts(1, tokens)
    many = bench.bill.texts(64, 32)[1]
    laps, peaks, own = [], [], []
    for start in range(0, count, max(1, count // 5)):
        peaks.append(peak(many, job.device, tries=3))
        own.append(peak(shapes, job.device, tries=10))
        bench.clip.embed_query("warm up")
        laps += [seconds(lambda text=text: bench.clip.embed_query(text), job.device) for text in held[start:][:10]]
    tell(job, {"peaks": peaks, "own": own, "laps": sorted(laps)[:: max(1, len(laps) // 10)]})
    for what, rate, goal in (
        ("2,048 tokens", max(peaks), 1.2),
        ("this shape, weights in the processor's cache", max(own), None),
    ):
        yield Row(
            f"{job.version} query of {tokens} tokens ({flops / 1e9:,.1f} GFLOP), best of {len(laps)} vs its FLOPs at "
            f"the matmul peak for {what}",
            f"{min(laps) * 1e3:,.1f} ms (median {statistics.median(laps) * 1e3:,.1f})",
            f"{flops / rate * 1e3:,.1f} ms ({rate / 1e9:,.0f} GFLOP/s)",
            min(laps) * rate / flops,
            goal if job.device == "cpu" else None,
        )
    if job.device == "cpu":
        yield weights_row(bench, min(laps))
    yield from at_once(bench, held[count:])


def weights_row(bench: Bench, lap: float) -> Row:
    """The time of one pass beside that of merely reading the weights it multiplies with."""
    held = sum(layer.numel() for name, layer in bench.bill.assembly.text.named_parameters() if "embeddings" not in name)
    array = torch.ones(held // 2, 2)
    reading = min(seconds(array.sum, bench.device) for _ in range(5))
    return Row(
        f"{bench.job.version} query vs reading the {held * 4 / 1e6:,.0f} MB of its weights once",
        f"{lap * 1e3:,.1f} ms",
        f"{reading * 1e3:,.1f} ms ({held * 4 / reading / 1e9:,.1f} GB/s)",
        lap / reading,
        None,
    )


def at_once(bench: Bench, held: list[str]) -> Iterator[Row]:
    """Queries of many callers at once: they should cost about one batch."""
    passes: list[int] = []
    towers, plain = bench.model.runner.towers, bench.model.runner.towers.text

    def counted(ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        passes.append(len(ids))
        return plain(ids, mask)

    async def gathered() -> None:
        await asyncio.gather(*map(bench.clip.aembed_query, held))

    async def in_turn() -> None:
        for text in held:
            await bench.clip.aembed_query(text)

    ids = encode(bench.model.tokenizer, [bench.spec.query_instruction + text for text in held])
    inputs = padded_batch(towers, ids)
    towers.text = counted  # type: ignore[method-assign]
    asyncio.run(gathered())
    found = list(passes)
    towers.text = plain  # type: ignore[method-assign]
    times = bench.best(
        {
            "at once": lambda: asyncio.run(gathered()),
            "in turn": lambda: asyncio.run(in_turn()),
            "batch": lambda: towers.text(*inputs),
        }
    )
    what = f"{bench.job.version} {len(held)} aembed_query at once"
    yield Row(f"{what}: passes (texts in each: {found}) vs one batch", f"{len(found)}", "1", len(found), 3)
    for name, other, goal in (("one batch through the tower", "batch", 1.5), ("one after another", "in turn", 0.8)):
        yield Row(
            f"{what} vs {name}",
            f"{times['at once'] * 1e3:,.0f} ms",
            f"{times[other] * 1e3:,.0f} ms",
            times["at once"] / times[other],
            goal if other == "batch" else None,
        )
