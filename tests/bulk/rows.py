"""Items and vectors that follow from their contents, a run over them, and what an output holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jinaclip.bulk.index import ABSENT, COPY, FAILED
from jinaclip.bulk.items import Item
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.output import Output

D = 16
SHAPE = Shape(D, "float32", "space_16", {"pair": None, "weight": 0.5})
BLOCK = 5
"""Rows that a run looks up at once."""
Source = Mapping[str, str]
"""Contents by id; one that begins with "bad" cannot be embedded."""


def item(name: str, content: str, kind: Any = "text") -> Item:
    return Item(name, kind, content, hashlib.sha256(f"{kind} {content}".encode()).digest()[:16], f"row {name}")


def items(source: Source) -> list[Item]:
    return [item(name, content) for name, content in source.items()]


def vector(content: str, dimensions: int = D) -> NDArray[np.float32]:
    """Of length 1, or of NaN for one that cannot be embedded."""
    if content.startswith("bad"):
        return np.full(dimensions, np.nan, np.float32)
    seed = int.from_bytes(hashlib.sha256(content.encode()).digest()[:8])
    row = np.random.default_rng(seed).normal(size=dimensions)
    return (row / np.linalg.norm(row)).astype(np.float32)


def vectors(contents: Sequence[Any], dimensions: int = D) -> NDArray[np.float32]:
    return np.stack([vector(content, dimensions) for content in contents])


def add(output: Output, some: Sequence[Item]) -> None:
    """Embeds items and writes them."""
    contents = [one.content for one in some]
    errors = {i: f"{content} cannot be embedded" for i, content in enumerate(contents) if content.startswith("bad")}
    output.add(some, vectors(contents, output.shape.dimensions), errors, [len(content) for content in contents])


def blocks(some: Sequence[Item], size: int = BLOCK) -> list[Sequence[Item]]:
    return [some[start : start + size] for start in range(0, len(some), size)]


def step(output: Output, some: Sequence[Item], paid: list[str], *, retry: bool = False) -> None:
    """A block of a run: what is not known is embedded."""
    states = output.look_up(some)
    left = [one for one, state in zip(some, states, strict=True) if state == ABSENT or (retry and state == FAILED)]
    left += output.copy([one for one, state in zip(some, states, strict=True) if state == COPY])
    if left:
        paid += [str(one.content) for one in left]
        add(output, left)


def run(place: Any, source: Source, *, part_rows: int = 8, shape: Shape = SHAPE, **options: Any) -> list[str]:
    """A whole run; gives the contents that were embedded."""
    paid: list[str] = []
    retry = options.pop("retry", False)
    with Output(place, shape, part_rows=part_rows, **options) as output:
        for some in blocks(items(source)):
            step(output, some, paid, retry=retry)
        output.finish()
    return paid


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for part in parts(folder) for row in pq.read_table(part).to_pylist()]


def assert_holds(folder: Path, source: Source) -> None:
    """Each id of the source once with the vector of its content, and no other."""
    found = rows(folder)
    assert sorted(row["id"] for row in found) == sorted(source)
    for row in found:
        content = source[row["id"]]
        assert row["digest"] == item(row["id"], content).digest.hex()
        assert (row["kind"], row["space"], row["tokens"]) == ("text", "space_16", len(content))
        if content.startswith("bad"):
            assert (row["vector"], row["error"]) == (None, f"{content} cannot be embedded")
        else:
            assert row["error"] is None
            np.testing.assert_array_equal(np.array(row["vector"], np.float32), vector(content))
    assert manifest(folder)["finished_at"]


def manifest(folder: Path, name: str = "_manifest.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text())
    return found
