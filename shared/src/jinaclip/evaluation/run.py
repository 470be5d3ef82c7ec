"""An evaluation from the files to the advice."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jinaclip.clip import JinaClip
from jinaclip.config import CacheOption
from jinaclip.errors import ConfigError, JinaClipError
from jinaclip.evaluation import searches
from jinaclip.evaluation.curves import draw_curves
from jinaclip.evaluation.embedding import embed_corpus
from jinaclip.evaluation.metrics import Bootstrap
from jinaclip.evaluation.quantized import by_width, quantization_table
from jinaclip.evaluation.records import Source
from jinaclip.evaluation.searches import METHODS, PRECISIONS, SHOWN, Corpus
from jinaclip.evaluation.tables import Score, Table
from jinaclip.numeric import is_whole
from jinaclip.requirements import check_installed
from jinaclip.retrieval.diversity import diversify

EXTRA = ("ir_measures", "matplotlib", "sklearn", "threadpoolctl")
CURVES = {
    "matryoshka": "share of the score at full width",
    "quantization": "share of the exact results at full width",
}
"""Tables that are drawn too, and what their scores are."""
MIN_SHARE = 0.95
"""Share of the score at full width that a width must keep, at the lower end of the interval, to be advised."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the evaluation would choose for this data, and why."""

    method: str
    """`query-to-description`, `query-to-image` or `query-to-average`."""
    width: int
    measure: str
    """What decided, such as "P@10 fine"."""
    score: Score
    """Of the method, at full width."""
    share: Score
    """Share of that score which the width keeps."""
    leads: Mapping[str, Score]
    """By how much the method is ahead of each other one, query by query."""

    def __str__(self) -> str:
        others = "; ".join(
            f"{lead:+} against {name}" + ("" if lead.low > 0 else ", which these queries cannot tell apart")
            for name, lead in self.leads.items()
        )
        return (
            f"Choose **{self.method}** at **{self.width} dimensions**. {self.method}: {self.measure} {self.score}, "
            f"{others}. The narrowest width that surely keeps {MIN_SHARE:.0%} of it is {self.width}: "
            f"it keeps {self.share}."
        )


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` found."""

    model: str
    fingerprint: str
    """Of the JinaClip; other vectors, another fingerprint."""
    items: int
    queries: int
    weight: float
    tables: Mapping[str, Table]
    """`categories`, `recall`, `matryoshka`, `quantization` and `diversity`."""
    choice: Choice
    dropped: int = 0
    """Queries that were left out and are not among `queries`, since no item is what they ask for."""

    def markdown(self) -> str:
        """Everything as one page."""
        left_out = f" ({self.dropped} more ask for what no item is, and are left out)" if self.dropped else ""
        facts = (
            f"{self.items} items, {self.queries} queries{left_out}; the average takes {self.weight:g} of the text and "
            f"{1 - self.weight:g} of the image. Vectors: `{self.fingerprint}`."
        )
        tables = "\n".join(table.markdown() for table in self.tables.values())
        return f"# Evaluation of {self.model}\n\n{facts}\n\n{self.choice}\n\n{tables}"

    def write(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Writes `evaluation.md`, a CSV of each table, `matryoshka.png` and `quantization.png`; returns where they are.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        page = self.markdown() + "\n" + "\n".join(f"![{self.tables[name].title}]({name}.png)\n" for name in CURVES)
        texts = {"evaluation.md": page, **{f"{name}.csv": table.csv() for name, table in self.tables.items()}}
        for name, text in texts.items():
            (place / name).write_text(text, "utf-8")
        drawn = {"matryoshka": self.tables["matryoshka"], "quantization": by_width(self.tables["quantization"])}
        images = [draw_curves(table, place / f"{name}.png", CURVES[name]) for name, table in drawn.items()]
        return [*(place / name for name in texts), *images]


def evaluate(
    clip: JinaClip,
    items: Source,
    queries: Source,
    *,
    weight: float = 0.5,
    widths: Iterable[int] | None = None,
    clusters: int = 5,
    pool: int = 50,
    resamples: int = 1000,
    seed: int = 0,
    cache: CacheOption = None,
) -> Evaluation:
    """Measures how well a model retrieves on your own data, and says how to use it there.

    Every text, image and query is embedded once, at the width of `clip`; all else is arithmetic on those vectors.

    Args:
        clip: embeds; its `dimensions` are the full width.
        items: a `.jsonl` or `.parquet` file, or mappings, with `id`, `text`, `image` (a file name counts from the
            folder of the file; else as `embed_images` takes it), `categories` by level, broadest first, like
            `{"broad": "dress", "fine": "striped dress"}`, and perhaps `attributes` that the image shows, by name.
        queries: the same with `text` and `categories`: what is of one category with the query is right.
        weight: share of the text in the average; see `fuse`.
        widths: for the Matryoshka curve, from 2; None takes those the model was trained for.
        clusters: for `diversify`.
        pool: results that `diversify` chooses from, in the search that is advised.
        resamples: of the bootstrap.
        seed: for the bootstrap and `diversify`.
        cache: what the option of that name is; keeps the vectors, so that a run that was interrupted, or is repeated,
            embeds only what is new. None is that of `clip`, if it has one.

    Raises:
        InputError: a row is unusable; `.index` says which. All rows are validated before anything is embedded.
        ConfigError: an option is out of range, or `cache` cannot be used.
        MissingDependencyError: the extra `evaluate` is not installed.
        JinaClipError: the backend failed; `.index` and `.partial` count the rows of the items, or the queries that are
            not left out.
    """
    for name, value in {"pool": pool, "resamples": resamples}.items():
        if not is_whole(value) or value < 1:
            raise ConfigError(f"{name}={value!r} must be a whole number of at least 1")
    diversify([], SHOWN, clusters=clusters, seed=seed)  # checks both
    steps = read_widths(widths, clip)
    check_extra()
    with open_cached(clip, cache) as own:
        data = embed_corpus(own, items, queries, weight)
    bootstrap = Bootstrap(resamples, seed)
    tables = {
        "categories": searches.category_table(data, bootstrap),
        "recall": searches.recall_table(data, bootstrap),
        "matryoshka": searches.width_table(data, steps, data.levels[-1], bootstrap),
    }
    choice = choose(data, tables["matryoshka"], bootstrap)
    tables["quantization"] = quantization_table(data, choice.method, steps, bootstrap)
    tables["diversity"] = searches.diversity_table(
        data, choice.method, pool=pool, clusters=clusters, seed=seed, bootstrap=bootstrap
    )
    counts = len(data.items), len(data.queries)
    return Evaluation(clip.spec.name, clip.fingerprint, *counts, weight, tables, choice, data.dropped)


@contextmanager
def open_cached(clip: JinaClip, cache: CacheOption) -> Iterator[JinaClip]:
    """The clip with a cache, if one is given; all that came is written at the end.

    Raises:
        ConfigError: the cache cannot be used. It is not passed over here: an evaluation is there to be repeated.
    """
    own = clip if cache is None else clip.with_cache(cache)
    if cache is None or own.cache is None:
        yield own
        return
    try:
        own.cache.stats()
    except JinaClipError as error:
        raise ConfigError(f"{error}; name another file", option="cache") from None
    try:
        yield own
    finally:
        own.cache.close()


def check_extra() -> None:
    """Refuses, before anything is paid for, to start without what will be needed.

    Raises:
        MissingDependencyError: something is not installed.
    """
    check_installed(EXTRA, "evaluation", "evaluate")


def read_widths(widths: Iterable[int] | None, clip: JinaClip) -> list[int]:
    """Widths of the curve, the full one among them.

    Raises:
        ConfigError: one does not fit.
    """
    steps = list(clip.spec.matryoshka if widths is None else widths)
    whole = all(map(is_whole, steps))
    if widths is not None and (not whole or not all(2 <= width <= clip.dimensions for width in steps)):
        # of one number only the sign is left, so texts and images would be equal or cancel out
        raise ConfigError(f"widths={steps} must be whole numbers from 2 to {clip.dimensions}")
    return sorted({clip.dimensions, *(int(width) for width in steps if width <= clip.dimensions)})


def choose(data: Corpus, curve: Table, bootstrap: Bootstrap) -> Choice:
    """The method with the best precision at the finest level, and the narrowest width that keeps it."""
    name = f"P@{data.cutoffs(PRECISIONS)[0]}"
    measure = f"{name} {data.levels[-1]}"
    values = {method: found[measure] for method, found in searches.precisions(data, [name]).items()}
    best = max(METHODS, key=lambda method: float(np.nanmean(values[method])))
    column = f"{best}, {measure}"
    width = next(
        width for width, row in curve.rows.items() if row[column].low >= MIN_SHARE or width == list(curve.rows)[-1]
    )
    leads = {other: bootstrap.difference(values[best], values[other]) for other in METHODS if other != best}
    return Choice(best, int(width), measure, bootstrap.score(values[best]), curve.rows[width][column], leads)
