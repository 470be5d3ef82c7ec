"""Builds sdist and wheel of all five distributions, in `dist` or the folder that is named: `make build`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from install_lines import PATHS, ROOT


def build(folder: Path, *options: str) -> None:
    """Builds the sdist of each distribution, and from that its wheel; `options` are those of `python -m build`."""
    for path in PATHS.values():
        subprocess.run([sys.executable, "-m", "build", *options, "--outdir", folder, ROOT / path], check=True)


if __name__ == "__main__":
    build(Path(*sys.argv[1:2] or [ROOT / "dist"]))
