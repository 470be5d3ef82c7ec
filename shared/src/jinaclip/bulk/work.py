"""Waiting for a run, which threads of its own do: the first Ctrl-C ends it softly, the second at once."""

from __future__ import annotations

import time
from typing import Protocol

from jinaclip.bulk.options import BulkOptions
from jinaclip.bulk.progress import Progress
from jinaclip.errors import DeadlineError, JinaClipError
from jinaclip.hosts import Latch
from jinaclip.sources import Source

TICK_SECONDS = 0.1


class Work(Protocol):
    """What a run waits for: threads of its own do it."""

    over: Latch

    def stop(self, cause: JinaClipError | None = None) -> None:
        """Reads and sends nothing more; what is in flight is waited for and written."""

    def abandon(self) -> None:
        """Ends at once."""


def wait(work: Work, progress: Progress, seconds: float | None) -> KeyboardInterrupt | None:
    """Waits for the end of a run; gives the Ctrl-C that it ended with. The second one passes through at once."""
    try:
        watch(work, progress, seconds)
    except KeyboardInterrupt as interrupt:
        try:
            work.stop()
            progress.note("ending once what is in flight is answered and written; Ctrl-C again ends at once")
            watch(work, progress, None)
        except KeyboardInterrupt:
            work.abandon()
            raise
        return interrupt
    return None


def watch(work: Work, progress: Progress, seconds: float | None) -> None:
    """Shows how a run goes on, until it ends; stops it after so many seconds."""
    ends_at = None if seconds is None else time.monotonic() + seconds
    while not work.over.wait(TICK_SECONDS):
        progress.show()
        if ends_at is not None and time.monotonic() > ends_at:
            ends_at = None
            work.stop(DeadlineError(f"not done within deadline={seconds:g} seconds"))


def expected_items(source: Source, options: BulkOptions) -> int | None:
    """How many items a run will look at; None if that is not known, or only roughly."""
    count = source.count()
    if count is None or options.shard is not None or options.pair == "both":
        return None
    return count if options.limit is None else min(count, options.limit)
