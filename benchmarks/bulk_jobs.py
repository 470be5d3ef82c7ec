"""One bulk run in a process of its own: `python bulk_jobs.py JOB` prints a line of JSON. `bulk.py` compares them."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, redirect_stdout
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from inputs import make_texts
from measure import LIMIT_S, cpu_seconds
from memory import megabytes, start_peak

from jinaclip import JinaClip

BLOCK_ROWS = 8192


@dataclasses.dataclass(frozen=True)
class Job:
    """A run of `jinaclip embed`."""

    source: str
    out: str
    clip: dict[str, Any]
    """Options of JinaClip."""
    bulk: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Options of the run."""
    cores: int | None = None
    """CPUs that Ray is told of; None without Ray."""

    def run(self) -> dict[str, Any]:
        """The measurement, from a fresh process."""
        command = [sys.executable, __file__, json.dumps(dataclasses.asdict(self))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=True)
        return json.loads(done.stdout.splitlines()[-1])


def measure(job: Job) -> dict[str, Any]:
    """Runs it once, warm, and reports time, CPU of this process, memory and what came out."""
    os.environ["JINA_API_KEY"] = job.clip.get("api_key", "")  # before Ray starts, whose actors have it then
    with ExitStack() as stack:
        started = start_ray(job.cores, stack)
        if job.cores is None:  # the actors of Ray start cold, as they do for everybody
            warm_up(job)
        before = start_peak()
        cpu, start = cpu_seconds(), time.perf_counter()
        run_command(job)
        wall, cpu = time.perf_counter() - start, cpu_seconds() - cpu
        peak = megabytes("VmHWM") - before
    counts = json.loads((Path(job.out) / "_manifest.json").read_text())["counts"]
    return {
        "wall": wall,
        "cpu": cpu,
        "peak": peak,
        "ray": started,
        **{name: counts[name] for name in ("done", "skipped", "failed")},
        "digest": digest_of(Path(job.out)),
    }


def run_command(job: Job) -> None:
    """Runs `jinaclip embed` in this process, as its users do."""
    from jinaclip.cli.main import main

    options = {**job.clip, **job.bulk}
    options.pop("api_key", None)
    given = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", word_of(value))]
    with redirect_stdout(sys.stderr):
        code = main(["embed", job.source, "--out", job.out, "--no-show-progress", *given])
    if code:
        raise SystemExit(f"jinaclip embed ended with {code}")


def word_of(value: Any) -> str:
    """The value of an option on the command line."""
    return "off" if value is False else str(value)


def warm_up(job: Job) -> None:
    """A run of one text, so that all modules and weights are there."""
    from jinaclip.bulk import embed

    with tempfile.TemporaryDirectory() as folder:
        embed([{"id": "1", "text": "warm up"}], folder, show_progress=False, **{**job.clip, "cache": False})


def start_ray(cores: int | None, stack: ExitStack) -> float:
    """Seconds that Ray takes to start, as a run would start it; 0 without Ray."""
    if cores is None:
        return 0.0
    from jinaclip.bulk.ray_cluster import join_ray

    start = time.perf_counter()
    stack.enter_context(join_ray(None, cores))
    return time.perf_counter() - start


def digest_of(folder: Path) -> str:
    """Of all vectors in the order of their ids, as `measure.py` makes it; empty where there are millions."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(folder, columns=["id", "vector"])
    if len(table) > 300_000:
        return ""
    column = table.take(pc.sort_indices(table["id"]))["vector"].combine_chunks()
    rows = column.flatten().to_numpy().reshape(len(table), -1)
    return blake2b(np.ascontiguousarray(rows, dtype=np.float32).data, digest_size=8).hexdigest()


# -- sources, and an output that is finished


def write_texts(path: Path, count: int, words: int = 25) -> Path:
    """A JSONL file of short texts, whose ids sort as they come."""
    if not path.exists():
        lines = (
            json.dumps({"id": f"{number:09}", "text": text}, ensure_ascii=False)
            for number, text in enumerate(make_texts(count, words=words))
        )
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def make_output(source: Path, out: Path, clip: JinaClip) -> None:
    """What a run over the texts of a source would leave, its vectors random numbers."""
    from jinaclip.bulk.manifest import Shape
    from jinaclip.bulk.options import BulkOptions
    from jinaclip.bulk.output import Output

    shape = Shape(clip.dimensions, "float32", clip.space, BulkOptions().settings)
    draw = np.random.default_rng(0)
    with Output(out, shape) as output:
        for items in blocks(source):
            output.look_up(items)
            output.add(items, draw.normal(size=(len(items), clip.dimensions)).astype(np.float32))
        output.finish()
        output.save_manifest({"done": len(output)}, finished=True)


def blocks(source: Path) -> Iterator[list[Any]]:
    """Items of a source, some thousand at a time."""
    from jinaclip.bulk.items import items_of
    from jinaclip.config import ImagePolicy
    from jinaclip.sources import open_source

    policy, block = ImagePolicy(), []
    for row in open_source(str(source)).rows():
        block += items_of(row, None, 0.5, policy)
        if len(block) >= BLOCK_ROWS:
            yield block
            block = []
    if block:
        yield block


if __name__ == "__main__":
    print(json.dumps(measure(Job(**json.loads(sys.argv[1])))))
