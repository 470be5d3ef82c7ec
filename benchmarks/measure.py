"""One measurement in a process of its own: `python measure.py JOB` prints a line of JSON.

A job says which client does what; see `Job`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from bare import FASTEST, KEY, STANDARD, Lap, Loop, Threads, alap, lap
from inputs import make_photos, make_texts
from memory import megabytes, start_peak

from jinaclip import JinaClip

LIMIT_S = 600


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process measures."""

    client: str
    """A key of `CLIENTS`."""
    what: str
    """A function of `WORK`."""
    count: int
    batch: int | None = 64
    """Items a request; None leaves it to JinaClip."""
    in_flight: int | None = 16
    """Requests in flight; None leaves it to JinaClip."""
    words: int = 25
    """Of each text."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Of JinaClip, on top."""

    def run(self, url: str) -> dict[str, Any]:
        """The measurement, from a fresh process."""
        command = [sys.executable, __file__, json.dumps(dataclasses.asdict(self)), url]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=True)
        return json.loads(done.stdout)


class Ours:
    """JinaClip from threads."""

    def __init__(self, url: str, job: Job) -> None:
        options = {"batch_size": job.batch, "max_concurrency": job.in_flight, **job.options}
        self.clip = JinaClip(api_key=KEY, base_url=url, cache=False, **options)

    def texts(self, texts: Iterable[str], _size: int) -> np.ndarray:
        """Vectors of texts."""
        return self.clip.embed_documents(texts)

    def images(self, paths: list[Path], _size: int) -> np.ndarray:
        """Vectors of pictures."""
        return self.clip.embed_images(paths)

    def queries(self, texts: list[str]) -> list[Lap]:
        """Queries one after another, and how long each took."""
        return [lap(self.clip.embed_query, text) for text in texts]

    def together(self, texts: list[str]) -> np.ndarray:
        """Queries in one call."""
        return self.clip.embed_queries(texts)


class OursAsync(Ours):
    """JinaClip from an event loop."""

    def __init__(self, url: str, job: Job) -> None:
        super().__init__(url, job)
        self.runner = asyncio.Runner()

    def texts(self, texts: Iterable[str], _size: int) -> np.ndarray:
        """Vectors of texts."""
        return self.runner.run(self.clip.aembed_documents(texts))

    def images(self, paths: list[Path], _size: int) -> np.ndarray:
        """Vectors of pictures."""
        return self.runner.run(self.clip.aembed_images(paths))

    def queries(self, texts: list[str]) -> list[Lap]:
        """Queries one after another, and how long each took."""

        async def run() -> list[Lap]:
            return [await alap(self.clip.aembed_query, text) for text in texts]

        return self.runner.run(run())

    def together(self, texts: list[str]) -> np.ndarray:
        """Queries at once, each in a call of its own."""

        async def run() -> np.ndarray:
            return np.array(await asyncio.gather(*(self.clip.aembed_query(text) for text in texts)))

        return self.runner.run(run())


CLIENTS: dict[str, Callable[[str, Job], Any]] = {
    "sync": Ours,
    "async": OursAsync,
    "threads": lambda url, job: Threads(url, FASTEST, job.in_flight),
    "asyncio": lambda url, job: Loop(url, FASTEST, job.in_flight),
    "plain threads": lambda url, job: Threads(url, STANDARD, job.in_flight),
    "plain asyncio": lambda url, job: Loop(url, STANDARD, job.in_flight),
}


def texts(client: Any, job: Job) -> Callable[[], np.ndarray]:
    """Texts from a list."""
    held = list(make_texts(job.count, words=job.words))
    return lambda: client.texts(held, job.batch)


def generated(client: Any, job: Job) -> Callable[[], np.ndarray]:
    """Texts from a generator."""
    return lambda: client.texts(make_texts(job.count), job.batch)


def images(client: Any, job: Job) -> Callable[[], np.ndarray]:
    """Pictures from files."""
    paths = make_photos(job.count)
    return lambda: client.images(paths, job.batch)


def queries(client: Any, job: Job) -> Callable[[], list[Lap]]:
    """One query after another."""
    held = list(make_texts(job.count))
    return lambda: client.queries(held)


def together(client: Any, job: Job) -> Callable[[], np.ndarray]:
    """Queries at once."""
    held = list(make_texts(job.count))
    return lambda: client.together(held)


WORK = {function.__name__: function for function in (texts, generated, images, queries, together)}


def measure(job: Job, url: str) -> dict[str, Any]:
    """Runs the job once, warm, and reports time, CPU, memory and what came out."""
    client = CLIENTS[job.client](url, job)
    call = WORK[job.what](client, job)
    client.queries(["warm up"])
    gc.collect()
    before = start_peak()
    cpu, start = cpu_seconds(), time.perf_counter()
    out = call()
    wall, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    peak = megabytes("VmHWM") - before
    laps = [seconds for seconds, _ in out] if job.what == "queries" else [wall]
    rows = np.array([row for _, row in out]) if job.what == "queries" else out
    digest = blake2b(np.ascontiguousarray(rows).data, digest_size=8).hexdigest()
    return {"wall": wall, "cpu": cpu, "lap": statistics.median(laps), "peak": peak, "digest": digest}


def cpu_seconds() -> float:
    """CPU that this process has used, in all its threads."""
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


if __name__ == "__main__":
    print(json.dumps(measure(Job(**json.loads(sys.argv[1])), sys.argv[2])))
