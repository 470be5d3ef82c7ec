"""What came of a comparison, as values and as a page of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jinaclip.compare.measures import AT, SHARES, Agreement, Kept, Numbers
from jinaclip.compare.verdict import KEPT, ROUNDED, SAME, Verdict, explain, find_differences, judge

MOST_NAMES = 5
"""Inputs that are named for one reason."""
BOUNDS = (
    "bounds:",
    f"- {Verdict.SAME}: every cosine at least {SAME:.5f}",
    f"- {Verdict.ROUNDED}: every cosine at least {ROUNDED}, and {KEPT:.0%} of the neighbours at {AT} kept",
    f"- {Verdict.DIFFERENT}: all else",
)


@dataclass(frozen=True, slots=True)
class Identity:
    """One of the two sources.

    Attributes:
        name: "A" or "B".
        description: in the words of whoever asked.
        space: `JinaClip.space`.
        fingerprint: `JinaClip.fingerprint`.
        dimensions: width of its vectors.
    """

    name: str
    description: str
    space: str
    fingerprint: str
    dimensions: int

    def __str__(self) -> str:
        return f"{self.name}: {self.description}, space {self.space}, {self.dimensions} dimensions"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of comparing two sources.

    Attributes:
        sides: A and B.
        asked: kinds of inputs that were to be compared, of "texts", "queries" and "images".
        agreements: by kind, those that could be compared.
        left_out: inputs that a side failed on, and why.
        notes: on the sample.
        echo: the side whose queries are its documents, while the other's are not.
    """

    sides: tuple[Identity, Identity]
    asked: Sequence[str]
    agreements: Mapping[str, Agreement]
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    echo: str | None = None

    @property
    def same_width(self) -> bool:
        """Whether vectors of both have as many numbers; if not, nothing was embedded."""
        return self.sides[0].dimensions == self.sides[1].dimensions

    @property
    def verdict(self) -> Verdict:
        """Whether the two are one space."""
        return judge(self.agreements, self.asked) if self.same_width else Verdict.DIFFERENT

    @property
    def reasons(self) -> list[str]:
        """Why they are two spaces, or why it is not known; empty if they are one."""
        if not self.same_width:
            widths = " and ".join(str(side.dimensions) for side in self.sides)
            return [f"vectors of {widths} numbers; nothing was embedded. Give both the same dimensions to compare them"]
        missing = [f"{kind}: not one was embedded by both" for kind in self.asked if kind not in self.agreements]
        differences = [one for agreement in self.agreements.values() for one in find_differences(agreement)]
        return [*differences, *missing]

    @property
    def advice(self) -> list[str]:
        """What the reason may be, and what to do about the names of the spaces."""
        return [*explain(self.agreements, self.echo), *self._advise_on_names()]

    def _advise_on_names(self) -> Iterator[str]:
        ours, theirs = (side.space for side in self.sides)
        if self.verdict.one_space and ours != theirs:
            yield (
                "the names of the spaces differ though the vectors agree: give one side the name of the other, "
                f"space={theirs} for A or space={ours} for B, so that an index serves both"
            )
        if self.verdict is Verdict.DIFFERENT and ours == theirs:
            yield (
                "the names of the spaces are the same though the vectors are not: an index of that name would hold "
                "both. Give one side another name with space=, or find out which of the two is not what it claims"
            )

    def __str__(self) -> str:
        lines = [*map(str, self.sides), *self.notes, ""]
        if self.agreements:
            lines += [*self._tables(), *self._lowest(), ""]
        if self.left_out:
            lines += ["left out:", *shorten(self.left_out), ""]
        lines += [f"verdict: {self.verdict}", *(f"- {one}" for one in self.reasons)]
        lines += [f"note: {one}" for one in self.advice]
        return "\n".join([*lines, "", *BOUNDS])

    def _tables(self) -> Iterator[str]:
        head = ["cosine of A and B", "number", "least", *(f"{share:.0%}" for share in SHARES[1:-1]), "median"]
        kinds = self.agreements.values()
        yield from table([head, *([a.kind, str(a.count), *map("{:.6f}".format, a.quantiles)] for a in kinds)])
        yield ""
        yield from table([["norms", "A", "B"], *([a.kind, *map(describe_norms, a.norms)] for a in kinds)])
        yield ""
        head = [f"neighbours kept at {AT}", "by A and by B", "B among A's"]
        yield from table([head, *([name, *map(describe_share, kept)] for a in kinds for name, kept in name_kept(a))])

    def _lowest(self) -> Iterator[str]:
        for agreement in self.agreements.values():
            named = [f"- {name}: {cosine:.6f}" for name, cosine in agreement.worst(ROUNDED)]
            if named:
                yield from ("", f"lowest cosines of {agreement.kind}:", *shorten(named))


def name_kept(agreement: Agreement) -> list[tuple[str, Kept]]:
    """The rows of the table of neighbours."""
    if agreement.kind == "queries":
        return [("queries among texts", agreement.kept), ("queries among images", agreement.kept_images)]
    return [(agreement.kind, agreement.kept)]


def describe_norms(values: Numbers) -> str:
    """The least and the largest norm."""
    return f"{np.min(values):.4f} to {np.max(values):.4f}"


def describe_share(share: float | None) -> str:
    """A share in per cent; too few candidates are said to be."""
    return "too few" if share is None else f"{share:.1%}"


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows as a Markdown table whose columns are aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |" for row in rows]
    yield lines[0]
    yield f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    yield from lines[1:]


def shorten(lines: Iterable[str]) -> list[str]:
    """The first of many lines, and how many more there are."""
    listed = list(lines)
    more = len(listed) - MOST_NAMES
    return [*listed[:MOST_NAMES], *([f"and {more} more"] if more > 0 else [])]
