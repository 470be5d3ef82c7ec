"""What `local.py` measures, each part in a process of its own: `python towers.py JOB` prints rows as lines of JSON."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cards import feeding, precisions
from checkpoints import checkpoint
from inputs import VOCABULARIES, make_photos, make_texts
from lora import Reforming
from memory import megabytes, start_peak
from reckoning import Bill, peak, seconds, wait
from report import Row

from jinaclip import Image, JinaClip
from jinaclip.backends.local.checkpoint_config import read_spec
from jinaclip.backends.local.model import Model, self_test_ids, shared_model
from jinaclip.backends.local.source import Source
from jinaclip.backends.local.tokenizer import Tokenizer
from jinaclip.backends.local.towers.loader import Towers, resolve_device
from jinaclip.backends.local.towers.runner import TorchRunner, self_test
from jinaclip.config import EmbedderConfig
from jinaclip.local import load_towers, preprocess

PADDED = 32
"""Texts in a batch of the loop that pads."""
MEDIAN, SPREAD, SHORTEST, LONGEST = 64, 1.0, 8, 1000
"""Tokens of the mixed texts: log-normal, cut at both ends."""
TOGETHER = 64
"""Queries asked at once."""
LIMIT_S = 1800


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process measures."""

    part: str
    """A function of `PARTS`."""
    version: str
    device: str = "cpu"
    quick: bool = False
    rounds: int = 3
    cold: bool = False
    """Whether a load begins with the file out of the system's cache."""

    def run(self) -> Iterator[dict[str, Any]]:
        """The lines that the process prints, as they come."""
        command = [sys.executable, __file__, json.dumps(dataclasses.asdict(self))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield json.loads(line)
        if process.returncode:
            raise SystemExit(f"failed: {self}")

    @property
    def folder(self) -> Path:
        """The checkpoint."""
        return checkpoint(self.version, tiny=self.quick)

    def count(self, cpu: int, cuda: int) -> int:
        """Items for the device, or what is left of them in a smoke test."""
        return 8 if self.quick else cuda if self.device == "cuda" else cpu


class Bench:
    """A JinaClip and the towers under it, loaded once."""

    def __init__(self, job: Job) -> None:
        source = Source(str(job.folder))
        self.job, self.device, self.spec = job, job.device, read_spec(source)
        config = EmbedderConfig(model=str(job.folder), backend="local", device=job.device)
        self.model: Model = shared_model(source, config, self.spec)
        self.clip = JinaClip(str(job.folder), backend="local", device=job.device, cache=False)
        self.bill = Bill(job.folder)

    def best(self, ways: dict[str, Callable[[], object]], rounds: int | None = None) -> dict[str, float]:
        """Seconds of the best round of each way; they take turns."""
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds or self.job.rounds):
            for name, run in ways.items():
                gc.collect()
                times[name].append(seconds(run, self.device))
        tell(self.job, times)
        return {name: min(all_) for name, all_ in times.items()}


def tell(job: Job, times: object) -> None:
    """Progress, for whoever wants to see the spread."""
    print(f"{job.part} {job.version}, load {os.getloadavg()[0]:.1f}: {times}", file=sys.stderr, flush=True)


# -- pictures


def images(job: Job) -> Iterator[Row]:
    """JPEG bytes to vectors, and the tower alone, beside what the matrix units can do."""
    bench = Bench(job)
    count = job.count(*{"v1": (40, 300), "v2": (6, 300)}[job.version])
    pictures = [Image.from_bytes(path.read_bytes()) for path in make_photos(count)]
    together = bench.model.runner.max_batch_images
    some = [preprocess(photo(picture), bench.model.preprocessing) for picture in pictures[:together]]
    pixels = torch.from_numpy(np.stack(some)).to(job.device)
    flops, shapes = bench.bill.pictures(len(some))
    bench.clip.embed_images(pictures[:together])  # warm up
    peaks = [peak(shapes, job.device)]
    times = {"whole": float("inf"), "tower": float("inf")}
    for _ in range(job.rounds):
        found = bench.best(
            {
                "whole": lambda: bench.clip.embed_images(pictures),
                "tower": lambda: bench.model.runner.towers.vision(pixels),
            },
            1,
        )
        times = {name: min(times[name], found[name]) for name in times}
        peaks.append(peak(shapes, job.device, tries=4))
    tell(job, {"peaks": peaks})
    each, best = flops / len(some), max(peaks)
    goals = {"whole": 0.6, "tower": 0.7} if job.device == "cuda" else {"whole": 0.8, "tower": 0.8}
    for name, what, number in (("whole", "JPEG to vector", count), ("tower", "the vision tower alone", len(some))):
        rate = number / times[name]
        yield Row(
            f"{job.version} images, {what} ({number} of 1600 x 1200, {each / 1e9:,.1f} GFLOP each) vs matmul peak",
            f"{rate:,.2f}/s, {rate * each / 1e9:,.0f} GFLOP/s",
            f"{best / 1e9:,.0f} GFLOP/s",
            rate * each / best,
            goals[name],
            least=True,
        )


def photo(picture: Image) -> Any:
    """The decoded picture."""
    from jinaclip import images as opening
    from jinaclip.config import ImagePolicy

    return opening.open_image(picture, ImagePolicy())


# -- texts


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


# -- adapters


def lora(job: Job) -> Iterator[Row]:
    """Queries beside a tower that forms its adapted weights anew in every pass, as the published one does."""
    bench = Bench(job)
    held = list(make_texts(8, words=12))
    batches = {
        "one query": [bench.spec.query_instruction + held[0]],
        "8 short texts": held,
    }
    reforming = Reforming(job.folder, bench.model.runner.towers)
    for name, batch in batches.items():
        ids = encode(bench.model.tokenizer, batch)
        inputs = padded_batch(bench.model.runner.towers, ids)
        ours, theirs = bench.model.runner.towers.text(*inputs), reforming.text(*inputs)
        gap = float((ours - theirs).abs().max() / theirs.abs().max())
        if gap > (0.05 if job.device == "cuda" else 1e-3):
            raise SystemExit(f"the adapters give other vectors, by {gap}")
        call: Callable[[], object] = (
            (lambda: bench.clip.embed_query(held[0]))
            if name == "one query"
            else (lambda: bench.clip.embed_documents(held))
        )
        times = bench.best({"ours": call, "re-formed": lambda inputs=inputs: reforming.text(*inputs)}, 5)
        yield Row(
            f"{job.version} {name} ({inputs[0].shape[1]} tokens): embedding vs a forward pass that re-forms "
            f"{reforming.places} adapted weights",
            f"{times['ours'] * 1e3:,.1f} ms",
            f"{times['re-formed'] * 1e3:,.1f} ms",
            times["re-formed"] / times["ours"],
            None,
        )


# -- queries


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


# -- loading


def load(job: Job) -> Iterator[Row]:
    """Loading beside reading the file into memory, and the memory it takes; each in a process of its own."""
    for cold in (False, True):
        runs = [next(dataclasses.replace(job, part="load_once", cold=cold).run()) for _ in range(job.rounds)]
        best = {name: min(run[name] for run in runs) for name in runs[0]}
        tell(job, runs)
        state = "cold" if cold else "warm"
        yield Row(
            f"{job.version} load_towers, {best['bytes'] / 1e6:,.0f} MB, {state} cache, vs reading the file",
            f"{best['towers']:.2f} s",
            f"{best['read']:.2f} s",
            best["towers"] / best["read"],
            2,
        )
        whole = best["towers"] + best["tokenizer"] + best["self_test"]
        yield Row(
            f"{job.version} all of loading, {state} cache (tokenizer {best['tokenizer']:.2f} s, "
            f"self-test {best['self_test']:.2f} s) vs reading the file",
            f"{whole:.2f} s",
            f"{best['read']:.2f} s",
            whole / best["read"],
            None,
        )
        if not cold:
            yield Row(
                f"{job.version} load_towers, peak of own memory (with the mapped file: {best['resident']:,.0f} MB) vs "
                "the weights it keeps",
                f"{best['peak']:,.0f} MB",
                f"{best['kept'] / 1e6:,.0f} MB",
                best["peak"] * 1e6 / best["kept"],
                1.25 if job.device == "cpu" else None,
            )


def load_once(job: Job) -> Iterator[dict[str, float]]:
    """One load in this process."""
    folder, source = job.folder, Source(str(job.folder))
    file, spec = folder / "model.safetensors", read_spec(source)
    place = resolve_device(job.device)
    torch.zeros(1, device=place)  # the driver starts outside the clock
    arrange(file, cold=job.cold)
    read = seconds(file.read_bytes, job.device)
    arrange(file, cold=job.cold)
    before = start_peak()
    with Watch() as watch:
        start = time.perf_counter()
        towers = load_towers(folder, device=place)
        wait(job.device)
        loaded = time.perf_counter() - start
    resident = megabytes("VmHWM") - before
    start = time.perf_counter()
    made = Tokenizer(folder, vocab_size=towers.vocab_size, max_tokens=spec.max_tokens)
    tokenized = time.perf_counter() - start
    texts = self_test_ids(made, TorchRunner(towers))
    tested = seconds(lambda: self_test(towers, texts, file), job.device)
    bill = Bill(folder)
    size = 2 if job.device == "cuda" else 4
    yield {
        "bytes": file.stat().st_size,
        "read": read,
        "towers": loaded,
        "tokenizer": tokenized,
        "self_test": tested,
        "peak": watch.most,
        "resident": resident,
        "kept": size * sum(parameter.numel() for parameter in bill.assembly.parameters()),
    }


def arrange(file: Path, *, cold: bool) -> None:
    """Puts the file into the system's cache, or out of it."""
    with file.open("rb") as opened:
        if cold:
            os.sync()
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            while opened.read(2**24):
                pass


class Watch(threading.Thread):
    """Sees how much memory of its own (not that of mapped files) the process takes at most."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before, self.most = megabytes("RssAnon"), 0.0
        self.ended = threading.Event()

    def run(self) -> None:
        """Looks a hundred times a second."""
        while not self.ended.wait(0.01):
            self.most = max(self.most, megabytes("RssAnon") - self.before)

    def __enter__(self) -> Watch:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.join()


def engines(job: Job) -> Iterator[Row]:
    """PyTorch and ONNX Runtime over the same weights."""
    from engines import measure as measure_engines

    yield from measure_engines(job.version, quick=job.quick, rounds=job.rounds)


PARTS = (images, texts, queries, lora, load, load_once, engines, precisions, feeding)
PARTS = {part.__name__: part for part in PARTS}


def main() -> None:
    """Measures and prints."""
    job = Job(**json.loads(sys.argv[1]))
    for row in PARTS[job.part](job):
        print(json.dumps(row if isinstance(row, dict) else dataclasses.asdict(row)), flush=True)


if __name__ == "__main__":
    main()
