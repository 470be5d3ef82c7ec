"""Rankings, what ir-measures makes of them, and how far the means can be trusted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jinaclip.evaluation.tables import Score
from jinaclip.requirements import missing_dependency
from jinaclip.vectors import Vectors, largest

QUERIES_AT_ONCE = 512
"""Queries compared with all documents at once."""
CONFIDENCE = 0.95
Ranking = NDArray[np.intp]
"""(q, k) row numbers of documents, best first."""
Values = NDArray[np.float64]
"""(q,) one number for each query, NaN where it has none."""


def nearest(queries: Vectors, documents: Vectors, k: int, *, skip_self: bool = False) -> Ranking:
    """The `k` nearest documents of each query; equal ones in the order of the table.

    `skip_self` is for documents that are their own queries: a document does not find itself, and k is at most n - 1.
    """
    k = min(k, len(documents) - skip_self)
    found = np.empty((len(queries), k), np.intp)
    if not k:
        return found
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        scores = queries[start : start + QUERIES_AT_ONCE] @ documents.T
        if skip_self:
            scores[np.arange(len(scores)), np.arange(len(scores)) + start] = -np.inf
        found[start : start + QUERIES_AT_ONCE] = largest(scores, k)
    return found


def measure(names: Sequence[str], ranking: Ranking, relevant: Sequence[Collection[int]]) -> dict[str, Values]:
    """Each measure (`P@10`, `R@5`) for each query; NaN for queries to which nothing is relevant.

    Raises:
        MissingDependencyError: ir-measures is not installed.
    """
    try:
        import ir_measures
    except ModuleNotFoundError as missing:
        raise missing_dependency("evaluation", missing.name, "evaluate") from None
    truth = {str(q): {str(d): 1 for d in documents} for q, documents in enumerate(relevant) if documents}
    # places instead of cosines: equal cosines stay in our order
    run = {str(q): {str(d): -float(i) for i, d in enumerate(ranking[q].tolist())} for q in map(int, truth)}
    found = {name: np.full(len(ranking), np.nan) for name in names}
    measures = {}
    for name in names:  # parse_measure of ir-measures needs ast.Num, deprecated since Python 3.12 and gone in 3.14
        kind, _, cutoff = name.partition("@")
        measures[getattr(ir_measures, kind) @ int(cutoff)] = name
    for result in ir_measures.iter_calc(list(measures), truth, run):
        found[measures[result.measure]][int(result.query_id)] = result.value
    return found


class Bootstrap:
    """Draws queries with replacement, again and again: how much a mean depends on which queries were asked.

    Args:
        resamples: how often.
        seed: for the draws; all scores of one object are from the same ones.
    """

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples, self.seed = resamples, seed

    def means(self, *series: Values) -> NDArray[np.float64]:
        """Means of paired series over the queries drawn, shape (resamples, series); NaN queries are left out."""
        values = np.stack(series)
        values = values[:, np.isfinite(values).all(axis=0)]
        rng, count = np.random.default_rng(self.seed), values.shape[1]
        if not count:
            return np.full((self.resamples, len(series)), np.nan)
        draws = (values[:, rng.integers(0, count, count)].mean(axis=1) for _ in range(self.resamples))
        return np.array(list(draws))

    def score(self, values: Values) -> Score:
        """The mean, and its interval."""
        known = values[np.isfinite(values)]
        return make_score(known.mean() if known.size else np.nan, self.means(values)[:, 0], known.size)

    def share(self, values: Values, whole: Values) -> Score:
        """The mean as a share of another mean over the same queries."""
        both = np.isfinite(values) & np.isfinite(whole)
        with np.errstate(divide="ignore", invalid="ignore"):
            draws = self.means(values, whole)
            ratio = values[both].sum() / whole[both].sum()
            return make_score(ratio, draws[:, 0] / draws[:, 1], int(both.sum()))

    def difference(self, values: Values, other: Values) -> Score:
        """The mean of what one has over the other, query by query."""
        return self.score(values - other)


def make_score(mean: Any, draws: NDArray[np.float64], count: int) -> Score:
    """A mean with the interval that its resamples give; one query alone gives none."""
    edge = (1 - CONFIDENCE) / 2
    finite = draws[np.isfinite(draws)] if count > 1 else draws[:0]
    low, high = np.quantile(finite, [edge, 1 - edge]) if finite.size else (np.nan, np.nan)
    return Score(float(mean), float(low), float(high), count)


def matches(wanted: Iterable[str | None], has: Sequence[str | None]) -> list[frozenset[int]]:
    """Which rows have what is wanted, for each that wants; None wants and has nothing."""
    places: dict[str, list[int]] = {}
    for index, word in enumerate(has):
        if word is not None:
            places.setdefault(word, []).append(index)
    sets = {word: frozenset(rows) for word, rows in places.items()}
    return [sets.get(word, frozenset()) if word is not None else frozenset() for word in wanted]
