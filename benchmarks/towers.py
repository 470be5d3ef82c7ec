"""What `local.py` measures, each part in a process of its own: `python towers.py JOB` prints rows as lines of JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator

from adapters import lora
from bench import Job
from cards import feeding, precisions
from loading import load, load_once
from pictures import images
from queries import queries
from report import Row
from texts import texts


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
