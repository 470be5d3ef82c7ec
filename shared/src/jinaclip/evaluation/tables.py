"""Scores with their confidence intervals, and tables of them as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over queries, and the 95% bootstrap interval of it; NaN where there is none."""

    mean: float
    low: float
    high: float
    count: int
    """Queries it is the mean of."""

    def __str__(self) -> str:
        return format(self, "")

    def __format__(self, sign: str) -> str:
        mean, low, high = (
            f"{value:{sign}.3f}" if isfinite(value) else "-" for value in (self.mean, self.low, self.high)
        )
        return mean if low == "-" else f"{mean} ({low} to {high})"


@dataclass(frozen=True, slots=True)
class Table:
    """Scores by row and column."""

    title: str
    note: str
    """What the figures mean, in a sentence or two."""
    head: str
    """What the rows are."""
    rows: Mapping[str, Mapping[str, Score]]

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row))

    def markdown(self) -> str:
        """The table under its title."""
        lines = [line(self.head, *self.columns), "|---" * (len(self.columns) + 1) + "|"]
        for name, row in self.rows.items():
            lines.append(line(name, *(str(row[column]) if column in row else "-" for column in self.columns)))
        return f"## {self.title}\n\n{self.note}\n\n" + "\n".join(lines) + "\n"

    def csv(self) -> str:
        """A line for each score: row, column, mean, low, high, queries."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([self.head, "measure", "mean", "low", "high", "queries"])
        for name, row in self.rows.items():
            for column, score in row.items():
                figures = (f"{x:.6f}" if isfinite(x) else "" for x in (score.mean, score.low, score.high))
                writer.writerow([name, column, *figures, score.count])
        return out.getvalue()


def line(*cells: str) -> str:
    """A row of a Markdown table; names of levels may hold anything."""
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"
