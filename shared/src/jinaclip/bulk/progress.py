"""How a run goes on: a bar on a terminal, a line in the log now and then elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jinaclip.bulk.pipeline import Pipeline
from jinaclip.clip import JinaClip

logger = logging.getLogger("jinaclip.bulk")
LINE_SECONDS = 30.0
BAR_SECONDS = 0.5


class Progress:
    """Shows a run.

    Args:
        draws: whether to draw a bar; else lines are logged.
    """

    def __init__(self, *, draws: bool) -> None:
        self._draws = draws
        self._bar: Any = None
        self._pipeline: Pipeline | None = None
        self._seconds = BAR_SECONDS if draws else LINE_SECONDS

    @contextmanager
    def showing(self, pipeline: Pipeline, clip: JinaClip, total: int | None) -> Iterator[None]:
        """Shows a run for as long as the block lasts."""
        self._pipeline, self._clip, self._total = pipeline, clip, total
        self._before, self._began_at = clip.usage, time.monotonic()
        self._shown_at = self._began_at
        self._items = 0
        if self._draws:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=total, unit=" items", desc="embedding", smoothing=0.05)
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

    def _count_items(self) -> int:
        """Items that are settled, and about as many as were answered of those in flight; never fewer than before."""
        assert self._pipeline is not None  # noqa: S101  shown alone
        report, usage, before = self._pipeline.report, self._clip.usage, self._before
        answered = usage.items + usage.hits - before.items - before.hits
        known = report.done + report.failed + report.skipped + report.copied + report.repeated
        ahead = answered - self._pipeline.vectors
        self._items = max(self._items, known + max(0, min(ahead, self._pipeline.items_in_flight)))
        return self._items

    @property
    def _tokens(self) -> int:
        return self._clip.usage.tokens - self._before.tokens

    def _update_bar(self) -> None:
        assert self._pipeline is not None  # noqa: S101
        self._bar.n = self._count_items()
        self._bar.set_postfix_str(f"{self._tokens:,} tokens, {self._pipeline.report.failed:,} failed", refresh=False)
        self._bar.refresh()

    def _line(self, seconds: float) -> str:
        assert self._pipeline is not None  # noqa: S101
        report, items = self._pipeline.report, self._count_items()
        embedded = max(0, items - report.skipped - report.repeated - report.copied)
        speed = items / seconds
        of = "" if self._total is None else f" of {self._total:,}"
        left = "" if self._total is None or not speed else f", {format_seconds((self._total - items) / speed)} left"
        return (
            f"{items:,}{of} items, {embedded / seconds:,.1f} embedded a second, {self._tokens:,} tokens, "
            f"{report.failed:,} failed{left}"
        )


def format_seconds(seconds: float) -> str:
    """A duration, such as 3:05:09."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def show_progress_of(choice: bool | None) -> Progress:
    """What shows a run: a bar, where that is wanted, or standard error is a terminal."""
    return Progress(draws=sys.stderr.isatty() if choice is None else choice)
