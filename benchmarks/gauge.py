"""What `simulate.py` reckons with, measured here: images, Parquet, and the rows of a run.

python benchmarks/simulate.py --measure
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from assumptions import FIGURES
from bare import KEY
from bulk_jobs import Job, write_texts
from inputs import make_photos
from report import machine

from jinaclip.config import ImagePolicy
from jinaclip.images import encode_tile, fit, open_tile
from jinaclip.inputs import as_image
from jinaclip.local import preprocess
from jinaclip.sources import open_source
from jinaclip.specs import JINA_CLIP_V1, JINA_CLIP_V2, ModelSpec
from jinaclip.testing import Server

POLICY = ImagePolicy()
PHOTOS = 24
ROUNDS = 3
PART_ROWS = 8192
RUN_ROWS = 50_000
WIDTH = 1024
Gauge = tuple[str, float]
"""A figure's name, and its value here."""


def core_ms(call: Callable[[], object], count: int) -> float:
    """CPU milliseconds an item, the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.thread_time()
        call()
        best = min(best, time.thread_time() - start)
    return best * 1000 / count


def images() -> Iterator[Gauge]:
    """JPEG photographs, to the numbers that a tower takes and to the PNG that is sent."""
    files = [path.read_bytes() for path in make_photos(PHOTOS)]
    yield "image_mb", sum(map(len, files)) / len(files) / 1e6
    for name, spec in (("v1", JINA_CLIP_V1), ("v2", JINA_CLIP_V2)):
        yield f"{name}_decode_ms", core_ms(lambda spec=spec: [numbers(file, spec) for file in files], PHOTOS)
        yield f"{name}_tile_ms", core_ms(lambda spec=spec: [png(file, spec) for file in files], PHOTOS)
        yield f"{name}_tile_mb", sum(len(png(file, spec)) for file in files) / PHOTOS / 1e6


def tile(file: bytes, spec: ModelSpec) -> object:
    """What the model sees of a file, as pixels."""
    return open_tile(as_image(file), POLICY, partial(fit, mode="model", side=spec.image_size))


def numbers(file: bytes, spec: ModelSpec) -> np.ndarray:
    """(3, S, S) float32."""
    return preprocess(tile(file, spec).content, spec)


def png(file: bytes, spec: ModelSpec) -> bytes:
    """The tile as it is sent."""
    return encode_tile(tile(file, spec), policy=POLICY, mode="model", quality=None).data


def parquet() -> Iterator[Gauge]:
    """A part as a run writes it: ids, digests, vectors of float32."""
    import pyarrow as pa
    from pyarrow import parquet as pq

    vectors = np.random.default_rng(0).normal(size=(PART_ROWS, WIDTH)).astype(np.float32)
    columns = {
        "id": [f"row-{number:09}" for number in range(PART_ROWS)],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDTH),
        "digest": [f"{number:032x}" for number in range(PART_ROWS)],
    }
    table = pa.table(columns)
    with tempfile.TemporaryDirectory() as folder:
        path, best = Path(folder) / "part.parquet", float("inf")
        for _ in range(ROUNDS):
            start = time.perf_counter()
            pq.write_table(table, path, use_dictionary=["id"])
            best = min(best, time.perf_counter() - start)
    yield "write_mb", vectors.nbytes / best / 1e6


def reading() -> Iterator[Gauge]:
    """The rows of a JSONL file."""
    with tempfile.TemporaryDirectory() as folder:
        source = open_source(str(write_texts(Path(folder) / "texts.jsonl", RUN_ROWS)))
        yield "read_us", core_ms(lambda: sum(1 for _ in source.rows()), RUN_ROWS) * 1000


def rows() -> Iterator[Gauge]:
    """A run over texts whose service answers at once, and the same run again: what is its own of a row."""
    with tempfile.TemporaryDirectory() as folder, Server(base_ms=0.0, text_ms=0.0, tile_ms=0.0, slots=0) as server:
        source = write_texts(Path(folder) / "texts.jsonl", RUN_ROWS)
        job = Job(str(source), str(Path(folder) / "out"), {"api_key": KEY, "base_url": server.url})
        first, second = job.run(), job.run()
    written = 4 * WIDTH / FIGURES["write_mb"].value
    yield "row_us", first["cpu"] / RUN_ROWS * 1e6 - FIGURES["client_text_us"].value - written
    yield "open_us", second["cpu"] / RUN_ROWS * 1e6


def print_gauges() -> None:
    """Markdown: what was measured now, beside what the simulation takes."""
    print(machine("jinaclip", "numpy", "pillow", "pyarrow"), "\n")
    print("| figure | here | taken | |\n|---|---|---|---|")
    for name, value in itertools.chain(images(), parquet(), reading(), rows()):
        taken = FIGURES[name]
        print(f"| `{name}` | {value:,.3g} {taken.unit} | {taken.value:,g} | {taken.kind} |", flush=True)
