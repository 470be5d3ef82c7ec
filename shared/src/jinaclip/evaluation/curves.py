"""The Matryoshka curve as an image."""

from __future__ import annotations

import os
from pathlib import Path

from jinaclip.errors import MissingDependencyError
from jinaclip.evaluation.tables import Table

SIZE = (8.0, 4.5)
"""Inches, at 144 dots each."""
MARKERS = "osD^v"


def draw_curves(table: Table, path: str | os.PathLike[str]) -> Path:
    """Draws a line for each column of a table whose rows are widths, with its interval as a band.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # no pyplot: no window, no state, any thread
    except ModuleNotFoundError as missing:
        raise MissingDependencyError(
            f"curves need {missing.name}, which is not installed: pip install 'jinaclip[evaluate]'"
        ) from None
    figure = Figure(figsize=SIZE, dpi=144, layout="constrained")
    axes = figure.add_subplot()
    widths = [int(name) for name in table.rows]
    for number, column in enumerate(table.columns):
        scores = [row[column] for row in table.rows.values()]
        axes.plot(widths, [score.mean for score in scores], marker=MARKERS[number % len(MARKERS)], label=column)
        axes.fill_between(widths, [score.low for score in scores], [score.high for score in scores], alpha=0.12)
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()
    axes.set_xlabel("dimensions")
    axes.set_ylabel("share of the score at full width")
    axes.set_title(table.title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path)
    return Path(path)
