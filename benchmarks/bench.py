"""What the parts of `local.py` work with: what one process measures, and a model that is loaded once."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from checkpoints import checkpoint
from reckoning import Bill, seconds

from jinaclip import JinaClip
from jinaclip.backends.local.checkpoint_config import read_spec
from jinaclip.backends.local.model import Model, shared_model
from jinaclip.backends.local.source import Source
from jinaclip.config import EmbedderConfig

TOWERS = Path(__file__).with_name("towers.py")


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process measures."""

    part: str
    """A function of `towers.PARTS`."""
    version: str
    device: str = "cpu"
    quick: bool = False
    rounds: int = 3
    cold: bool = False
    """Whether a load begins with the file out of the system's cache."""

    def run(self) -> Iterator[dict[str, Any]]:
        """The lines that the process prints, as they come."""
        command = [sys.executable, str(TOWERS), json.dumps(dataclasses.asdict(self))]
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
