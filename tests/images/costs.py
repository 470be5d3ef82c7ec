"""What it costs to read the container of a file."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress

from jinaclip.errors import InputError
from jinaclip.images.containers import orientation, strip


def strip_or_refuse(data: bytes, form: str) -> None:
    """Reads a container, as is done before anything is decoded."""
    with suppress(InputError):
        _, exif = strip(data, form, truncated=False)
        orientation(exif)


def cpu_seconds(work: Callable[[], None]) -> float:
    """The CPU time of this process for some work, whatever else the machine does."""
    started = time.process_time()
    work()
    return time.process_time() - started


def peak_bytes(work: Callable[[], None]) -> int:
    """The most memory that some work holds at a time."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
