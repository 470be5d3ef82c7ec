"""What Chromium showed of the crafted files when it was last asked: `make browser` asks it again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.images.cases import REFUSED, Crafted

FOLDER = Path(__file__).parent / "browser"
MANIFEST, PIXELS = FOLDER / "manifest.json", FOLDER / "pixels.npz"


@dataclass(frozen=True)
class Expected:
    """What the browser showed.

    Attributes:
        browser: its name and version.
        files: by the id of a file the start of its SHA-256, and either the name of its pixels, or "shown" for a file
            that we refuse, or None for one that the browser refuses.
        pixels: arrays of shape (height, width, 3) by name.
    """

    browser: str
    files: dict[str, tuple[str, str | None]]
    pixels: dict[str, Any]

    def is_of(self, file: Crafted) -> bool:
        """Whether the browser was asked about this file, byte for byte."""
        return file.id in self.files and self.files[file.id][0] == digest(file.data)

    def is_shown(self, file: Crafted) -> bool:
        """Whether the browser shows an image."""
        return self.files[file.id][1] is not None

    def pixels_of(self, file: Crafted) -> Any:
        """What it shows, for a file that we do not refuse."""
        return self.pixels[self.files[file.id][1] or ""]


def digest(data: bytes) -> str:
    """The start of the SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def read_expected() -> Expected:
    """From the files that are stored."""
    stored = json.loads(MANIFEST.read_text())
    with np.load(PIXELS, allow_pickle=False) as pixels:
        return Expected(stored["browser"], {name: tuple(two) for name, two in stored["files"].items()}, {**pixels})


def write_expected(browser: str, shown: list[tuple[Crafted, Any]]) -> None:
    """Stores the pixels of each file, or None if the browser refuses it; pixels that are equal once."""
    files, pixels = {}, {}
    for file, seen in shown:
        name = None if seen is None else "shown"
        if seen is not None and file.ours != REFUSED:
            name = digest(seen.tobytes() + str(seen.shape).encode())
            pixels[name] = seen
        files[file.id] = digest(file.data), name
    FOLDER.mkdir(exist_ok=True)
    lines = ",\n".join(f"    {json.dumps(name)}: {json.dumps(two)}" for name, two in files.items())
    MANIFEST.write_text(f'{{\n  "browser": {json.dumps(browser)},\n  "files": {{\n{lines}\n  }}\n}}\n')
    np.savez_compressed(PIXELS, allow_pickle=False, **dict(sorted(pixels.items())))
