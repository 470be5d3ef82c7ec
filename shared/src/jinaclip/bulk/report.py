"""What came of a bulk run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from jinaclip.errors import BudgetError, JinaClipError

SHOWN = 5
"""Failures, and repeated ids, that are named; the others are counted."""
COMPLETE, FAILED, INCOMPLETE = 0, 1, 3


@dataclass(slots=True)
class Report:
    """What came of a run. `str` of it is what the command prints.

    Attributes:
        done: items that have a vector by this run, embedded or from the cache.
        failed: items that have none, those that failed in an earlier run and were not tried again among them.
        failed_before: how many of these are of an earlier run.
        skipped: items that had their vector before this run.
        copied: items whose vector was taken from another item with the same content.
        from_cache: vectors of texts and images that the cache had.
        repeated: items that were left out, as their id came before in this run.
        left: items that were read and have no row, as the run ended before, it could not be written, or a part was
            found damaged at its end.
        dropped: rows of the output that were dropped, as their item is not in the source any more.
        lost: items whose rows were found damaged or gone at the end of the run; the same command embeds them anew.
        kept: items that failed in this run as their file could not be read, and have the vector of before all the same.
        unseen: rows that stay though the run did not meet their items, as the id of some row could not be read.
        tokens: billed in this run.
        seconds: that it took.
        stopped: what ended the run early, or None.
        whole: whether the source was read to its end.
        failures: the first of those that failed in this run: which, and why.
        repeats: the first of those whose id came before: which.
    """

    done: int = 0
    failed: int = 0
    failed_before: int = 0
    skipped: int = 0
    copied: int = 0
    from_cache: int = 0
    repeated: int = 0
    left: int = 0
    dropped: int = 0
    lost: int = 0
    kept: int = 0
    unseen: int = 0
    tokens: int = 0
    seconds: float = 0.0
    stopped: JinaClipError | None = None
    whole: bool = False
    failures: list[str] = field(default_factory=list)
    repeats: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every item of the source has a vector."""
        return self.whole and self.stopped is None and not (self.failed or self.left or self.repeated or self.lost)

    @property
    def items(self) -> int:
        """Items that were looked at."""
        return self.done + self.failed + self.skipped + self.copied + self.repeated + self.left

    @property
    def exit_code(self) -> int:
        """What the command ends with: 0 if all items have a vector, 3 if some have not, 1 if an error ended the run."""
        if self.stopped is not None and not isinstance(self.stopped, BudgetError):
            return FAILED
        return COMPLETE if self.complete else INCOMPLETE

    @property
    def counts(self) -> dict[str, int]:
        """For the manifest."""
        names = ("done", "failed", "skipped", "copied", "from_cache", "repeated", "left", "dropped", "lost", "tokens")
        return {name: getattr(self, name) for name in names}

    def note_failure(self, text: str) -> None:
        """Counts an item that failed in this run."""
        self.failed += 1
        keep_first(self.failures, text)

    def note_kept(self, text: str) -> None:
        """Counts an item that failed in this run, and whose vector of before stays."""
        self.kept += 1
        self.note_failure(text)

    def note_repeated(self, name: str) -> None:
        """Counts an item whose id came before."""
        self.repeated += 1
        keep_first(self.repeats, name)

    def note_unwritten(self, count: int) -> None:
        """Counts as left so many items whose vectors came and could not be written."""
        embedded = min(count, self.done)
        self.done -= embedded
        self.copied -= count - embedded
        self.left += count

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> list[str]:
        speed = f", {format_speed(self.done / self.seconds)} items/s" if self.done and self.seconds > 0 else ""
        before = f"skipped {self.skipped:,} (done before), copied {self.copied:,} (same content)"
        lines = [
            f"done {self.done:,}, failed {self.failed:,}, {before}, repeated ids {self.repeated:,}",
            f"vectors from the cache {self.from_cache:,}, tokens {self.tokens:,}, {self.seconds:,.1f} s{speed}",
        ]
        if self.dropped:
            lines.append(f"rows dropped {self.dropped:,} (gone from the source, edited, or tried again)")
        if self.unseen:
            lines.append(f"rows kept {self.unseen:,} that were not met, as the id of some row could not be read")
        if self.kept:
            lines.append(f"vectors kept {self.kept:,}, of items whose files could not be read now")
        if self.lost:
            lines.append(f"rows lost {self.lost:,}, whose files were damaged or gone; run again to embed them")
        lines += [f"failed: {text}" for text in self.failures]
        more = self.failed - self.failed_before - len(self.failures)
        if self.failures and more > 0:
            lines.append(f"... and {more:,} more" + (", in the column error of the output" if not self.kept else ""))
        lines += name_repeats(self.repeats, self.repeated)
        if self.failed_before:
            lines.append(f"{self.failed_before:,} failed in an earlier run; --retry-failed tries them again")
        return lines + self._end()

    def _end(self) -> list[str]:
        left = f", {self.left:,} items that were read are left" if self.left else ""
        if self.stopped is not None:
            return [
                f"stopped: {self.stopped}",
                f"what was answered is written{left}; the same command goes on from there",
            ]
        if not self.whole:
            return [
                f"not all of the source was looked at{left}",
                "the same command goes on from there, without --limit if it had one",
            ]
        if self.left:
            return [f"{self.left:,} items that were read have no row; the same command embeds them"]
        return []


def keep_first(texts: list[str], text: str) -> None:
    """Keeps a text if it is one of the first."""
    if len(texts) < SHOWN:
        texts.append(text)


def name_repeats(names: Sequence[str], count: int) -> list[str]:
    """Lines that name the first of those whose id came before, of so many."""
    lines = [f"repeated: {name}; the first row of this id is the one that counts" for name in names]
    return [*lines, f"... and {count - len(names):,} more repeated ids"] if names and count > len(names) else lines


def format_speed(items: float) -> str:
    """Items a second; a few with a decimal, since 0 would say that nothing was done."""
    return f"{items:,.0f}" if items >= 10 else f"{items:.1f}"
