"""Pictures to vectors, and the vision tower alone, beside what the matrix units can do; a part of `local.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from bench import Bench, Job, tell
from inputs import make_photos
from reckoning import peak
from report import Row

from jinaclip import Image
from jinaclip.local import preprocess


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
