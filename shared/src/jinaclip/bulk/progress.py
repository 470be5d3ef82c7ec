"""How a run goes on: a bar on a terminal, a line in the log now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jinaclip.bulk.pipeline import Pipeline
from jinaclip.clip import JinaClip

logger = logging.getLogger("jinaclip.bulk")
LINE_SECONDS = 30.0
BAR_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Counts:
    """How far a run is.

    Attributes:
        items: that are settled, or about to be.
        embedded: those of them that this run embedded, or had from the cache.
        tokens: billed in this run.
        failed: items without a vector.
    """

    items: int
    embedded: int
    tokens: int
    failed: int


class PipelineCounter:
    """Counts what a run within this process has done.

    Args:
        pipeline: the run.
        clip: embeds.
    """

    def __init__(self, pipeline: Pipeline, clip: JinaClip) -> None:
        self._pipeline, self._clip, self._before = pipeline, clip, clip.usage
        self._items = 0

    def count(self) -> Counts:
        """How far it is."""
        report, items = self._pipeline.report, self._count_items()
        embedded = max(0, items - report.skipped - report.repeated - report.copied)
        return Counts(items, embedded, self._clip.usage.tokens - self._before.tokens, report.failed)

    def _count_items(self) -> int:
        """Items that are settled, and about as many as were answered of those in flight; never fewer than before."""
        report, usage, before = self._pipeline.report, self._clip.usage, self._before
        answered = usage.items + usage.hits - before.items - before.hits
        known = report.done + report.failed + report.skipped + report.copied + report.repeated
        ahead = answered - self._pipeline.vectors
        self._items = max(self._items, known + max(0, min(ahead, self._pipeline.items_in_flight)))
        return self._items


class Progress:
    """Shows a run.

    Args:
        draws: whether to draw a bar; else lines are logged.
    """

    def __init__(self, *, draws: bool) -> None:
        self._draws = draws
        self._bar: Any = None
        self._seconds = BAR_SECONDS if draws else LINE_SECONDS

    @contextmanager
    def showing(self, count: Callable[[], Counts], total: int | None) -> Iterator[None]:
        """Shows a run for as long as the block lasts.

        Args:
            count: tells how far it is. What it counts at once took no time.
            total: items that it will look at; None if that is not known.
        """
        self._count, self._total, self._began_at = count, total, time.monotonic()
        self._first, self._shown_at = count().items, self._began_at
        if self._draws:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, initial=self._first, unit=" items", desc="embedding", smoothing=0.05)
        try:
            yield
        finally:
            if self._bar is not None:
                self._update_bar()
                self._bar.close()

    def show(self) -> None:
        """Shows how far it is, if it is time to."""
        now = time.monotonic()
        if now - self._shown_at < self._seconds:
            return
        self._shown_at = now
        if self._bar is not None:
            self._update_bar()
        else:
            logger.info(self._line(now - self._began_at))

    def note(self, text: str) -> None:
        """Says something that cannot wait."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            logger.info(text)

    def _update_bar(self) -> None:
        counts = self._count()
        self._bar.n = counts.items
        self._bar.set_postfix_str(f"{counts.tokens:,} tokens, {counts.failed:,} failed", refresh=False)
        self._bar.refresh()

    def _line(self, seconds: float) -> str:
        counts = self._count()
        speed, embedded = (counts.items - self._first) / seconds, counts.embedded / seconds
        of = "" if self._total is None else f" of {self._total:,}"
        ends_in = None if self._total is None or not speed else (self._total - counts.items) / speed
        left = "" if ends_in is None else f", {format_seconds(ends_in)} left"
        return (
            f"{counts.items:,}{of} items, {embedded:,.1f} embedded a second, {counts.tokens:,} tokens, "
            f"{counts.failed:,} failed{left}"
        )


def format_seconds(seconds: float) -> str:
    """A duration, such as 3:05:09."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def show_progress_of(choice: bool | None) -> Progress:
    """What shows a run: a bar, where that is wanted, or standard error is a terminal; lines if there is none at all."""
    if sys.stderr is None:  # closed by who started this, or a program with windows
        return Progress(draws=False)
    return Progress(draws=sys.stderr.isatty() if choice is None else choice)
