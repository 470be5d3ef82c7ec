"""The collector of garbage in a process that a bulk run has for itself: the command's, and an actor's of Ray.

A run makes millions of objects, hardly one of which is garbage that only the collector would find, and looking took a
tenth of the time. A program that calls `bulk.embed` decides for itself.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

THRESHOLDS = (20_000, 20, 20)
"""Objects made before it looks at the youngest, and how often it does before it looks at older ones."""


def slow_collector() -> None:
    """Lets it look less often, and not at what is there by now."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


@contextmanager
def slow_collector_for_run() -> Iterator[None]:
    """The same until the run is over."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    slow_collector()
    try:
        yield
    finally:
        gc.set_threshold(*before)
        if not frozen:  # else somebody else wants it so
            gc.unfreeze()
