"""Loading beside reading the file, and the memory it takes; a part of `local.py`."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from bench import Job, tell
from memory import megabytes, start_peak
from reckoning import Bill, seconds, wait
from report import Row

from jinaclip.backends.local.checkpoint_config import read_spec
from jinaclip.backends.local.model import self_test_ids
from jinaclip.backends.local.source import Source
from jinaclip.backends.local.tokenizer import Tokenizer
from jinaclip.backends.local.towers.loader import resolve_device
from jinaclip.backends.local.towers.runner import TorchRunner, self_test
from jinaclip.local import load_towers


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
