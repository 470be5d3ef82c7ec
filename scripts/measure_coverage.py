"""Which lines and branches the core's quick tests run, in their subprocesses too: `make coverage`.

Prints a line for each part of the core and the files of which least is run; `.coverage` is left for `coverage html`.
What pytest is given beside that are the arguments of this script.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from environments import CORE_ONLY, PARALLEL, ROOT

COVERAGE = [sys.executable, "-m", "coverage"]
LEAST = 15
"""Files that are listed by themselves."""
SMALL = 20
"""Statements and branches below which a file is not: one line weighs too much there."""


@dataclass(frozen=True)
class Part:
    """A part of the core, or a file of it: how many statements and branches it has, and how many of them were run."""

    name: str
    count: int
    run: int

    @property
    def share(self) -> float:
        """Of what was run, in percent."""
        return 100 * self.run / self.count if self.count else 100.0

    def __str__(self) -> str:
        return f"{self.share:6.1f} %  {self.count:6d}  {self.name}"


def main() -> int:
    """What pytest ended with: figures of a run that failed are printed too."""
    arguments = sys.argv[1:] or [*PARALLEL, *CORE_ONLY]
    subprocess.run([*COVERAGE, "erase"], cwd=ROOT, check=True)
    ended = subprocess.run([*COVERAGE, "run", "-m", "pytest", *arguments], cwd=ROOT, check=False)
    subprocess.run([*COVERAGE, "combine", "--quiet"], cwd=ROOT, check=True)
    show(files_of(read_report()))
    return ended.returncode


def read_report() -> Mapping[str, Any]:
    """What coverage.py found of each file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "coverage.json"
        subprocess.run([*COVERAGE, "json", "--quiet", "-o", path], cwd=ROOT, check=True)
        found: Mapping[str, Any] = json.loads(path.read_text())["files"]
        return found


def files_of(report: Mapping[str, Any]) -> list[Part]:
    """The files of the package, by their paths in it."""
    files = []
    for path, entry in report.items():
        own, summary = path.replace("\\", "/").partition("src/jinaclip/")[2], entry["summary"]
        count = summary["num_statements"] + summary["num_branches"]
        files.append(Part(own, count, summary["covered_lines"] + summary["covered_branches"]))
    return files


def sum_of(name: str, files: Iterable[Part]) -> Part:
    """Several files as one part."""
    held = [*files]
    return Part(name, sum(one.count for one in held), sum(one.run for one in held))


def part_of(path: str) -> str:
    """`backends/api` of a file there; of files at the root they all are one part."""
    folders = path.split("/")[:-1]
    return "/".join(folders[: 2 if folders[:1] == ["backends"] else 1]) or "(root)"


def show(files: list[Part]) -> None:
    """Prints the parts, least first, and the files of which least is run."""
    names = sorted({part_of(one.name) for one in files})
    parts = [sum_of(name, (one for one in files if part_of(one.name) == name)) for name in names]
    print("\n   run    of statements and branches")
    for part in [*sorted(parts, key=lambda one: one.share), sum_of("all of jinaclip", files)]:
        print(part)
    print(f"\nLeast of these files (of {SMALL} statements and branches or more):")
    for one in sorted((one for one in files if one.count >= SMALL), key=lambda one: one.share)[:LEAST]:
        print(one)


if __name__ == "__main__":
    sys.exit(main())
