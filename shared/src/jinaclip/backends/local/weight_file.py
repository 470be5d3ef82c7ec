"""A safetensors file: its header checked before anything is read, its tensors found sound as they are.

The format: eight bytes with the length of a JSON header, the header (name -> dtype, shape, byte range), the data.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from jinaclip.backends.local.files import MAX_SHOWN, parse_json, reason_of, regular_size, show
from jinaclip.errors import CheckpointError

MAX_HEADER = 2**20
"""Bytes; the published headers have about a tenth of this."""
MAX_AXES, MAX_NUMBER = 8, 2**48
"""Of a shape; any number that stands in a header, so that no product grows without end."""
MAX_NAMED = 8
"""Names an error lists before it only counts."""
DTYPES = {"F16": 2, "BF16": 2, "F32": 4}
"""Bytes of a number, for the types that are read."""
_ENTRY = ("dtype", "shape", "data_offsets")
Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A weight file whose header is sound and whose length fits it."""

    path: Path
    shapes: Mapping[str, Shape]

    @classmethod
    def find(cls, folder: Path) -> WeightFile:
        """The `model.safetensors` of a folder. Pickles beside it are never opened.

        Raises:
            CheckpointError: it is missing, damaged or cut short; the message names the file and the remedy.
        """
        path = folder / "model.safetensors"
        if not os.path.lexists(path):
            pickles = sorted(file.name for pattern in ("*.bin", "*.pt", "*.pth") for file in folder.glob(pattern))
            remedy = (
                f"it has {', '.join(pickles[:MAX_NAMED])}, but only safetensors are read: pickles can run code. "
                "Convert it, or fetch model.safetensors"
                if pickles
                else "fetch the checkpoint again"
            )
            raise CheckpointError(f"{folder} has no model.safetensors; {remedy}")
        return cls(path, _read_shapes(path))

    def check(self, expected: Mapping[str, Shape], optional: Mapping[str, Shape]) -> None:
        """Compares every name and shape with what the towers need.

        Raises:
            CheckpointError: names all tensors that are missing, unexpected or of another shape (up to eight of each).
        """
        known = {**optional, **expected}
        missing = [name for name in expected if name not in self.shapes]
        surplus = [name for name in self.shapes if name not in known]
        wrong = [
            f"{name} {list(shape)} instead of {list(known[name])}"
            for name, shape in self.shapes.items()
            if name in known and shape != known[name]
        ]
        found = [("missing", missing), ("unexpected", surplus), ("of another shape", wrong)]
        problems = [f"{len(names)} {what}: {first_names(names)}" for what, names in found if names]
        if problems:
            raise CheckpointError(
                f"{self.path} does not hold the model that config.json describes: {'; '.join(problems)}. "
                "Fetch both files again, from the same revision"
            )

    def open(self) -> AbstractContextManager[Any]:
        """The file mapped into memory; `get_tensor(name)` on what this yields copies nothing.

        Raises:
            CheckpointError: the safetensors library refuses it.
        """
        try:
            return safe_open(self.path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{self.path} is damaged ({error}); fetch it again") from error


def _read_shapes(path: Path) -> dict[str, Shape]:
    size = regular_size(path)
    raw = _read_header(path, size)
    header = parse_json(raw, f"the header of {path}")
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a damaged header; fetch it again")
    header.pop("__metadata__", None)
    entries = {name: _entry(path, name, entry) for name, entry in header.items()}
    place = 0
    for _, start, end in sorted(entries.values(), key=lambda entry: entry[1:]):
        if start != place:
            raise CheckpointError(f"{path}: tensors of its header overlap or leave gaps; fetch it again")
        place = end
    whole = 8 + len(raw) + place
    if whole != size:
        raise CheckpointError(f"{path} has {size} bytes instead of {whole}: cut short or damaged; fetch it again")
    return {name: shape for name, (shape, _, _) in entries.items()}


def _read_header(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > size - 8:
                raise CheckpointError(f"{path} is cut short ({size} bytes), or no safetensors file; fetch it again")
            if length > MAX_HEADER:
                raise CheckpointError(f"{path} has a header of {length} bytes; the most that is read is {MAX_HEADER}")
            return file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {reason_of(error)}") from error


def _entry(path: Path, name: str, entry: Any) -> tuple[Shape, int, int]:
    """Shape, start and end of one tensor."""
    short = name[:MAX_SHOWN]
    kind, shape, span = ((entry if isinstance(entry, dict) else {}).get(key) for key in _ENTRY)
    sizes, ends = _sizes(shape, MAX_AXES), _sizes(span, 2)
    if not isinstance(kind, str) or sizes is None or ends is None or len(ends) != 2:
        raise CheckpointError(f"{path}: {short} has no usable dtype, shape and data_offsets; fetch it again")
    if kind not in DTYPES:
        raise CheckpointError(f"{path}: {short} is of type {show(kind)}; only {', '.join(DTYPES)} are read")
    start, end = ends
    if end - start != prod(sizes) * DTYPES[kind]:
        raise CheckpointError(f"{path}: {short} has {end - start} bytes, which do not fit {shape}; fetch it again")
    return sizes, start, end


def _sizes(given: Any, most: int) -> Shape | None:
    """A list of sizes that is not longer than that, as a tuple; None if it is something else."""
    is_short = isinstance(given, list) and len(given) <= most
    return tuple(given) if is_short and all(type(n) is int and 0 <= n <= MAX_NUMBER for n in given) else None


def first_names(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = len(names) - MAX_NAMED
    return ", ".join(name[:MAX_SHOWN] for name in sorted(names)[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
