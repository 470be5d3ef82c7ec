"""What a crafted file is: bytes, and what is claimed of them."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

SAME, REFUSED, DIFFERENT = "same", "refused", "different"


@dataclass(frozen=True)
class Crafted:
    """A file made by code.

    Attributes:
        form: PNG, JPEG, GIF or WEBP.
        name: what is odd about it.
        data: the file.
        frame: the frame that is looked at.
        ours: what is claimed: our pixels are the browser's (SAME), or we refuse it (REFUSED), or both show it, and not
            alike (DIFFERENT).
        reason: why, unless it is SAME or both refuse it.
        tolerance: most levels between our pixels and the browser's.
    """

    form: str
    name: str
    data: bytes
    frame: int = 0
    ours: str = SAME
    reason: str = ""
    tolerance: int = 0

    @property
    def id(self) -> str:
        """Unique among all files."""
        return "-".join(
            [self.form.lower(), *self.name.replace(",", "").split(), *([str(self.frame)] * bool(self.frame))]
        )


def craft(
    form: str,
    made: Iterable[tuple[str, bytes, int]],
    refused: str,
    levels: Mapping[str, int],
    different: Mapping[str, str] | None = None,
) -> list[Crafted]:
    """The files of a format, with what is claimed of them.

    Args:
        form: the format.
        made: names, files and frames.
        refused: keys of those that we refuse, one in a line.
        levels: tolerances by key; under the empty one that of all.
        different: by key, why we show something else than the browser.
    """
    lines, reasons, files = set(refused.strip().split("\n")), different or {}, []
    for name, data, frame in made:
        key = f"{name} @{frame}" if frame else name
        ours = REFUSED if key in lines else DIFFERENT if key in reasons else SAME
        files.append(Crafted(form, name, data, frame, ours, reasons.get(key, ""), levels.get(key, levels.get("", 0))))
    return files


def noise(height: int, width: int, below: int = 256, seed: int = 0) -> np.ndarray:
    """Numbers of a generator that is the same everywhere, so that files are the same with each version of numpy."""
    state, values = seed * 7919 + 1, []
    for _ in range(height * width):
        state = (state * 1103515245 + 12345) % 2**31
        values.append((state >> 12) % below)
    return np.array(values, np.uint8).reshape(height, width)


def exif(orientation: int, *, order: str = "<") -> bytes:
    """The TIFF part of an EXIF block that holds an orientation alone."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return magic + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)
