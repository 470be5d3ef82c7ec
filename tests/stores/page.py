"""What docs/stores.md states, for tests to hold it to."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "stores.md").read_text("utf-8")
SECTIONS = {part.splitlines()[0]: part for part in PAGE.split("\n## ")[1:]}
FILES = {name: file[1] for name, part in SECTIONS.items() if (file := re.search(r"code in \[(\w+)\.py\]", part))}
"""The example of each store, without ".py"."""
DRIFT = 0.02
"""Between a share that the page states and one measured with other libraries or another processor."""


def assert_as_stated(store: str, settings: str, share: float) -> None:
    """The share of the exact top ten is as in the table, and at least the least it promises."""
    print(f"{store}, {settings}: {share:.3f}")
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {store} | {settings} |")]
    stated, least = (float(cell) for cell in row.strip("| ").split(" | ")[2:])
    assert share >= least
    assert abs(share - stated) <= DRIFT
