"""Texts and photo-like pictures, the same on every run."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 1600, 1200
VOCABULARIES = [
    words.split()
    for words in (
        "a small red bicycle leans against the wall of an old bakery while two children wait for their fresh bread",
        "der alte Leuchtturm über der Bucht wird jeden Abend von einer Frau geöffnet die früher große Schiffe führte",
        "une couturière garde dans son tiroir les boutons dépareillés de trois générations et choisit toujours le bleu",
        "στο νησί το καΐκι φτάνει πριν από τον ήλιο και κάποιος μετράει τα δίχτυα ενώ η θάλασσα κρατά το χρώμα της",
        "в саду за домом растёт яблоня под которой дед чинил часы и каждое утро слушал спешит ли весна к нам",
    )
]


def make_texts(count: int, *, start: int = 0, words: int = 25) -> Iterator[str]:
    """Distinct texts of about so many words, languages taking turns."""
    draw = random.Random(17 + start)
    for number in range(start, start + count):
        length = max(5, round(draw.gauss(words, words / 5)))
        yield f"{' '.join(draw.choices(VOCABULARIES[number % len(VOCABULARIES)], k=length))} {number}."


def cache_folder() -> Path:
    """Where the pictures stay between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jinaclip-bench"


def make_photos(count: int) -> list[Path]:
    """JPEG files of 1600 x 1200, made where they are missing."""
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"photo-{number:04d}.jpg" for number in range(count)]
    missing = [number for number in range(count) if not paths[number].exists()]
    if missing:
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            list(pool.map(make_photo, missing, (paths[number] for number in missing)))
    return paths


def make_photo(seed: int, path: Path) -> None:
    """One of them."""
    partial = path.with_suffix(".partial")
    photo(seed).save(partial, "JPEG", quality=88)
    partial.rename(path)


def photo(seed: int) -> Image.Image:
    """Broad shapes of colour, finer and finer texture, and grain: compresses and decodes like a photograph."""
    draw = np.random.default_rng(seed)
    scene = sum(smooth(draw, 3 << octave, 3) / (1 << octave) for octave in range(7))
    scene -= scene.min()
    scene *= 225 / scene.max()
    scene += draw.normal(0, draw.uniform(4, 8), (HEIGHT, WIDTH, 1)).astype(np.float32)
    return Image.fromarray(np.clip(scene, 0, 255).astype(np.uint8))


def smooth(draw: np.random.Generator, cells: int, channels: int) -> np.ndarray:
    """Noise with so many cells across, of float32 (HEIGHT, WIDTH, channels)."""
    grids = draw.random((channels, max(2, cells * 3 // 4), cells)).astype(np.float32)
    layers = [Image.fromarray(grid).resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR) for grid in grids]
    return np.stack([np.asarray(layer) for layer in layers], axis=-1)
