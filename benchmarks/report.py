"""Lines of the tables that the benchmarks print, and the machine they are from."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A line of the table: two values and what their ratio should be."""

    what: str
    ours: str
    other: str
    ratio: float
    goal: float | None
    """None where the ratio is only told."""
    least: bool = False
    """Whether the ratio should be at least the goal, not at most."""

    def __str__(self) -> str:
        start = f"| {self.what} | {self.ours} | {self.other} | {self.ratio:.2f} |"
        if self.goal is None:
            return f"{start} - | |"
        sign, met = ("≥", self.ratio >= self.goal) if self.least else ("≤", self.ratio <= self.goal)
        return f"{start} {sign} {self.goal:g} | {'PASS' if met else '**MISS**'} |"


HEADER = "| what | ours | other | ratio | goal | |\n|---|---|---|---|---|---|"


def machine(*packages: str) -> str:
    """Where and with what this ran."""
    versions = ", ".join(f"{name} {version_of(name)}" for name in packages)
    return (
        f"{time.strftime('%Y-%m-%d')}; {processor()}, {os.cpu_count()} cores, {platform.system()}, load before "
        f"{os.getloadavg()[0]:.1f}; Python {platform.python_version()}; {versions}."
    )


def version_of(package: str) -> str:
    """The version that is installed; a GPU's interpreter takes jinaclip from the checkout."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of this checkout" if package == "jinaclip" else "not installed"


def processor() -> str:
    """The name of the CPU."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
