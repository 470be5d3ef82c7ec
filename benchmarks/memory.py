"""The memory of this process, as Linux tells it. Needs no package: it runs where only PyTorch is installed too."""

from __future__ import annotations

from pathlib import Path

STATUS = Path("/proc/self/status")
PEAK_RESET = Path("/proc/self/clear_refs")


def start_peak() -> float:
    """Starts the high-water mark of memory afresh; gives what is resident now, in MB."""
    if not PEAK_RESET.exists():
        return float("nan")
    PEAK_RESET.write_text("5")
    return megabytes("VmRSS")


def megabytes(name: str) -> float:
    """A line of the process's status, in MB; NaN where the system has none."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(name)), float("nan"))
