"""What an image costs on one core: scaling beside scaling all of it, and `image_decode="fast"` beside the exact way.

`python benchmarks/images.py [--rounds 9]` prints Markdown. Pairs take turns, CPU time is compared, and the best counts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.inputs import photo
from benchmarks.report import HEADER, Row, machine
from examples.catalogue.drawing import draw
from examples.catalogue.products import products
from examples.catalogue.scores import CHECKPOINT
from jinaclip import JinaClip
from jinaclip.config import ImagePolicy
from jinaclip.images import encode_tile, fit, open_tile, scaled_size
from jinaclip.images.resize import resize_crop
from jinaclip.inputs import as_image

SIDE = 512
SMALL = 64
"""Side that the small model of the catalogue sees."""
PHOTOGRAPHS = 40
BICUBIC = Image.Resampling.BICUBIC
POLICY = ImagePolicy()
SHAPES = [(1600, 1200), (1200, 1600), (1500, 1000), (4000, 3000), (1280, 20_000), (20_000, 1280), (1, 190), (190, 1)]
PHOTOS = [(1600, 1200), (4000, 3000), (8160, 6144)]


@dataclass
class Best:
    """The least CPU time of a function so far, in milliseconds."""

    call: Callable[[], Any]
    milliseconds: float = float("inf")

    def run(self) -> None:
        """Once more."""
        began_at = time.thread_time()
        self.call()
        self.milliseconds = min(self.milliseconds, 1000 * (time.thread_time() - began_at))


def compare(ours: Callable[[], Any], other: Callable[[], Any], rounds: int) -> tuple[float, float]:
    """The least CPU time of both, which take turns, in milliseconds."""
    pair = Best(ours), Best(other)
    for number in range(rounds):
        for best in pair if number % 2 else pair[::-1]:
            best.run()
    return pair[0].milliseconds, pair[1].milliseconds


def scale_all(pixels: Image.Image) -> Image.Image:
    """Scales everything, then crops."""
    width, height = scaled_size(pixels.size, "model", SIDE)
    left, top = round((width - SIDE) / 2.0), round((height - SIDE) / 2.0)
    return pixels.resize((width, height), BICUBIC).crop((left, top, left + SIDE, top + SIDE))


def scaling(rounds: int) -> Iterator[Row]:
    """`image_resize="model"` beside scaling the whole image; all values are equal, or the run stops."""
    for size in SHAPES:
        pixels = photo(1).resize(size, BICUBIC)
        if resize_crop(pixels, SIDE).tobytes() != scale_all(pixels).tobytes():
            raise SystemExit(f"the pixels of {size} differ")
        ours, other = compare(partial(resize_crop, pixels, SIDE), partial(scale_all, pixels), rounds)
        name = f"{size[0]} x {size[1]} to {SIDE} x {SIDE} vs scaling all of it"
        yield Row(name, f"{ours:.1f} ms", f"{other:.1f} ms", ours / other, None)


def tile_of(data: bytes, *, fast: bool, side: int = SIDE) -> Any:
    """The tile of a file."""
    target = partial(scaled_size, mode="model", side=side) if fast else None
    return open_tile(as_image(data), POLICY, lambda pixels: fit(pixels, "model", side), target=target)


def send(data: bytes, *, fast: bool) -> bytes:
    """The tile as it is sent."""
    return encode_tile(tile_of(data, fast=fast), policy=POLICY, mode="model", quality=None).data


def jpeg(pixels: Image.Image, quality: int = 88) -> bytes:
    """A JPEG file."""
    buffer = BytesIO()
    pixels.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def decoding(rounds: int) -> Iterator[Row]:
    """From a JPEG file to what is sent, fast beside exact."""
    for size in PHOTOS:
        file = jpeg(photo(2).resize(size, BICUBIC))
        ours, other = compare(partial(send, file, fast=True), partial(send, file, fast=False), rounds)
        name = f"JPEG of {size[0]} x {size[1]} to its tile as PNG, fast vs exact"
        yield Row(name, f"{ours:.1f} ms", f"{other:.1f} ms", ours / other, None)


def difference(file: bytes, side: int = SIDE) -> float:
    """Mean difference of the values of the fast tile and the exact one, in levels of 255."""
    fast, exact = (np.asarray(tile_of(file, fast=fast, side=side).content, np.int16) for fast in (True, False))
    return float(np.abs(fast - exact).mean())


def cosines(files: list[bytes]) -> np.ndarray:
    """Between the vectors of files decoded fast and exactly, by the small model of the catalogue."""
    fast, exact = (
        JinaClip(str(CHECKPOINT), backend="local", device="cpu", image_decode=how).embed_images(files)
        for how in ("fast", "exact")
    )
    return (fast * exact).sum(axis=1)


def closeness(count: int) -> Iterator[str]:
    """Lines of the table of cosines: images that the decoder shrinks to a half, a quarter and an eighth."""
    photographs = [photo(seed) for seed in range(PHOTOGRAPHS)]
    for factor in (2, 4, 8):
        for fraction in (1.0, 1.5, 1.875):
            size = round(SMALL * factor * fraction)
            articles = [jpeg(draw(product, size)) for product in products("test", count)]
            photos = [jpeg(pixels.resize((size * 5 // 4, size), BICUBIC)) for pixels in photographs]
            cells = " | ".join(map(describe, (articles, photos)))
            yield f"| 1/{factor} | {size * 5 // 4} x {size} | {cells} |"


def describe(files: list[bytes]) -> str:
    """Three cells: the mean difference of some, the mean cosine and the least one of all."""
    levels, near = np.mean([difference(file, SMALL) for file in files[:PHOTOGRAPHS]]), cosines(files)
    return f"{levels:.2f} | {near.mean():.5f} | {near.min():.5f}"


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=300, help="pictures of the catalogue")
    options = parser.parse_args()
    print(machine("Pillow", "numpy"), end=f"\n\n{HEADER}\n")
    for row in (*scaling(options.rounds), *decoding(options.rounds)):
        print(row, flush=True)
    for size in PHOTOS:
        files = [jpeg(photo(seed).resize(size, BICUBIC)) for seed in range(3)]
        levels = np.mean([difference(file) for file in files])
        print(f"| {size[0]} x {size[1]}: mean difference of fast | {levels:.2f} levels |")
    print("\n| decoded at | size | catalogue: levels | mean cosine | least | photos: levels | mean cosine | least |")
    print("|---|---|---|---|---|---|---|---|")
    for line in closeness(options.count):
        print(line, flush=True)


if __name__ == "__main__":
    main()
