"""Does the average of text and image find more than either alone? `python -m examples.catalogue.finding FOLDER`.

The catalogue's own descriptions name every attribute, which leaves a picture little to add. Here they have gaps, at
rates from none to most; the model stays the one that was trained on descriptions without. Writes tables and a picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from examples.catalogue.drawing import draw
from examples.catalogue.gaps import count_gaps, description_with_gaps
from examples.catalogue.products import Product, products
from examples.catalogue.scores import CHECKPOINT
from examples.catalogue.table import categories, queries
from jinaclip import JinaClip
from jinaclip.evaluation.metrics import Bootstrap, Values
from jinaclip.evaluation.records import Item, Query
from jinaclip.evaluation.searches import METHODS, PRECISIONS, Corpus, precisions
from jinaclip.evaluation.tables import Score, Table, line

DESCRIPTION, IMAGE, AVERAGE = METHODS
SEEDS = range(1, 6)
"""Catalogues: five with products of their own, since the queries of one are too few to tell the searches apart."""
COUNT = 600
MEASURES = [f"P@{k} {level}" for level in ("broad", "fine") for k in PRECISIONS]
BOOTSTRAP = Bootstrap(2000, seed=0)


@dataclass(frozen=True, slots=True)
class Rate:
    """How much the descriptions lack."""

    omitted: float = 0.0
    """Probability of each attribute to be left out."""
    wrong: float = 0.0
    """Probability of each description to have one attribute wrong."""


OMISSIONS = [Rate(omitted=tenths / 10) for tenths in range(10)]
MISTAKES = [Rate(wrong=rate) for rate in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8)]
BOTH = [Rate(0.2, 0.05), Rate(0.3, 0.1), Rate(0.5, 0.2)]


@dataclass(frozen=True, slots=True)
class Result:
    """What each search found at one rate."""

    rate: Rate
    left_out: float
    """Share of all attributes that the descriptions do not name."""
    false: float
    """Share of descriptions that say something wrong."""
    values: Mapping[str, Mapping[str, Values]]
    """By search and measure, one value for each query of all catalogues."""

    def score(self, search: str, measure: str) -> Score:
        """The mean over the queries."""
        return BOOTSTRAP.score(self.values[search][measure])

    def lead(self, other: str, measure: str) -> Score:
        """By how much the average is ahead of another search, query by query."""
        return BOOTSTRAP.difference(self.values[AVERAGE][measure], self.values[other][measure])

    def outcome(self, measure: str) -> str:
        """What the intervals say of the average: whether it is ahead of both, behind the better one, or neither."""
        leads = [self.lead(other, measure) for other in (DESCRIPTION, IMAGE)]
        if all(lead.low > 0 for lead in leads):
            return "ahead of both"
        behind = [name for name, lead in zip(("description", "image"), leads, strict=True) if lead.high < 0]
        return f"behind the {' and the '.join(behind)}" if behind else "cannot be told"


def make_corpus(clip: JinaClip, chosen: Sequence[Product]) -> Corpus:
    """A catalogue, its images and queries embedded; the texts are still to come."""
    asked = [Query(str(i), row["text"], row["categories"]) for i, row in enumerate(queries(chosen))]
    items = [Item(product.id, "", None, categories(product), {}) for product in chosen]
    images = clip.embed_images(draw(product) for product in chosen)
    wanted = clip.embed_queries([query.text for query in asked])
    return Corpus(items, asked, images, images, wanted)


def measure_rate(clip: JinaClip, catalogues: Sequence[tuple[list[Product], Corpus]], rate: Rate) -> Result:
    """Every search at one rate, over the queries of all catalogues."""
    found = []
    for chosen, corpus in catalogues:
        texts = [description_with_gaps(product, rate.omitted, rate.wrong) for product in chosen]
        data = replace(corpus, text_vectors=clip.embed_documents(texts))
        found.append(precisions(data, [f"P@{k}" for k in PRECISIONS]))
    everything = [product for chosen, _ in catalogues for product in chosen]
    values = {
        search: {measure: np.concatenate([one[search][measure] for one in found]) for measure in MEASURES}
        for search in METHODS
    }
    return Result(rate, *count_gaps(everything, rate.omitted, rate.wrong), values)


def measure_all(clip: JinaClip, rates: Sequence[Rate], seeds: Sequence[int], count: int = COUNT) -> Iterator[Result]:
    """The result at each rate, over one catalogue for each seed."""
    catalogues = []
    for seed in seeds:
        chosen = products("test", count, seed=seed)
        catalogues.append((chosen, make_corpus(clip, chosen)))
    for rate in rates:
        yield measure_rate(clip, catalogues, rate)


def score_table(title: str, results: Sequence[Result], measure: str) -> Table:
    """One measure of each search at every rate, and the leads of the average."""
    rows = {}
    for result in results:
        name = f"{result.left_out:.0%} left out, {result.false:.0%} with a mistake"
        scores = {search: result.score(search, measure) for search in METHODS}
        leads = {f"lead over {other.removeprefix('query-to-')}": result.lead(other, measure) for other in METHODS[:2]}
        rows[name] = scores | leads
    return Table(f"{title}: {measure}", "In brackets the 95% bootstrap interval over queries.", "descriptions", rows)


def outcome_table(results: Sequence[Result]) -> str:
    """At which rate the average wins, by measure, as Markdown."""
    lines = [line("left out", "with a mistake", *MEASURES), "|---" * (len(MEASURES) + 2) + "|"]
    for result in results:
        cells = (f"{result.left_out:.0%}", f"{result.false:.0%}")
        lines.append(line(*cells, *(result.outcome(measure) for measure in MEASURES)))
    return "\n".join(lines)


def draw_results(results: Sequence[Result], path: Path, measures: Sequence[str] = ("P@10 fine", "P@50 broad")) -> None:
    """A panel for each measure: the three searches over the share that is left out, with their intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), dpi=144, layout="constrained")
    for axes, measure in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures, strict=True):
        shares = [result.left_out for result in results]
        for search, marker in zip(METHODS, "osD", strict=True):
            scores = [result.score(search, measure) for result in results]
            axes.plot(shares, [score.mean for score in scores], marker=marker, label=search)
            axes.fill_between(shares, [s.low for s in scores], [s.high for s in scores], alpha=0.12)
        axes.set(title=measure, xlabel="share of attributes that descriptions leave out", ylabel="precision")
        axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path)


def write(results: Sequence[Result], folder: Path) -> None:
    """`finding.md` with a table for each measure, and `finding.png`."""
    omissions = [result for result in results if not result.rate.wrong]
    others = [result for result in results if result.rate.wrong]
    tables = [
        score_table(title, some, measure).markdown()
        for title, some in (("Attributes left out", omissions), ("Mistakes", others))
        for measure in MEASURES
        if some
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "finding.md").write_text("\n".join([outcome_table(results), "", *tables]), "utf-8")
    draw_results(omissions, folder / "finding.png")


def main() -> None:
    """Measures, prints at which rate the average wins, and writes the rest."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("folder", type=Path)
    folder = arguments.parse_args().folder
    with JinaClip(str(CHECKPOINT), backend="local", cache=False, show_progress=False) as clip:
        results = [*measure_all(clip, [*OMISSIONS, *MISTAKES, *BOTH], SEEDS)]
    write(results, folder)
    print(outcome_table(results))
    print(f"\nall figures: {folder / 'finding.md'}; to look at: {folder / 'finding.png'}")


if __name__ == "__main__":
    main()
