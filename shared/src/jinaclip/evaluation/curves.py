"""Curves over widths as images."""

from __future__ import annotations

import os
from pathlib import Path

from jinaclip.evaluation.tables import Table
from jinaclip.requirements import missing_dependency

SIZE = (8.0, 4.5)
"""Inches, at 144 dots each."""
MARKERS = "osD^v"


def draw_curves(table: Table, path: str | os.PathLike[str], what: str) -> Path:
    """Draws a line for each column of a table whose rows are widths, with its interval as a band.

    Args:
        table: what is drawn; a width may lack some columns.
        path: of the PNG file.
        what: the scores are, for the axis.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure  # no pyplot: no window, no state, any thread
    except ModuleNotFoundError as missing:
        raise missing_dependency("evaluation", missing.name, "evaluate") from None
    figure = Figure(figsize=SIZE, dpi=144, layout="constrained")
    axes = figure.add_subplot()
    widths = [int(name) for name in table.rows]
    for number, column in enumerate(table.columns):
        scores = {int(name): row[column] for name, row in table.rows.items() if column in row}
        means, lows, highs = ([getattr(score, name) for score in scores.values()] for name in ("mean", "low", "high"))
        axes.plot([*scores], means, marker=MARKERS[number % len(MARKERS)], label=column)
        axes.fill_between([*scores], lows, highs, alpha=0.12)
    axes.set_xscale("log", base=2)
    axes.set_xticks(widths, [str(width) for width in widths])
    axes.minorticks_off()
    axes.set_xlabel("dimensions")
    axes.set_ylabel(what)
    axes.set_title(table.title)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path)
    return Path(path)
