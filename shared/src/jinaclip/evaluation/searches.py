"""The searches that are compared, each as one table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import get_args

import numpy as np

from jinaclip.evaluation.metrics import Bootstrap, Ranking, Values, matches, measure, nearest
from jinaclip.evaluation.records import Item, Query
from jinaclip.evaluation.tables import Score, Table
from jinaclip.retrieval.diversity import Method, diversify
from jinaclip.vectors import Vectors, fuse, truncate

METHODS = ("query-to-description", "query-to-image", "query-to-average")
PRECISIONS = (10, 20, 50, 100)
RECALLS = (1, 5, 10)
SHOWN = 5
"""Results at which diversity is looked at."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Items and queries with their unit vectors, all of one width."""

    items: Sequence[Item]
    queries: Sequence[Query]
    text_vectors: Vectors
    image_vectors: Vectors
    query_vectors: Vectors
    weight: float = 0.5
    """Of the text in the average."""
    dropped: int = 0
    """Queries that were left out, since no item is what they ask for."""

    def truncate(self, width: int) -> Corpus:
        """The same at fewer dimensions, as an index of that width has it: cut, normalised, then averaged."""
        return replace(
            self,
            text_vectors=truncate(self.text_vectors, width),
            image_vectors=truncate(self.image_vectors, width),
            query_vectors=truncate(self.query_vectors, width),
        )

    @property
    def averages(self) -> Vectors:
        """Of text and image."""
        return fuse(self.text_vectors, self.image_vectors, self.weight)

    @property
    def documents(self) -> dict[str, Vectors]:
        """What each method searches."""
        return dict(zip(METHODS, (self.text_vectors, self.image_vectors, self.averages), strict=True))

    @property
    def all_levels(self) -> list[str]:
        """All levels, broadest first: in the order of the items that have most of them, not of the rows."""
        orders = Counter(tuple(item.categories) for item in self.items)
        rows = sorted(orders, key=lambda order: (-len(order), -orders[order], order))
        return list(dict.fromkeys(level for row in rows for level in row))

    @property
    def levels(self) -> list[str]:
        """Levels at which there is something to find, broadest first."""
        return [level for level in self.all_levels if any(self.relevant(level))]

    def relevant(self, level: str) -> list[frozenset[int]]:
        """The items of each query's category."""
        has = [item.categories.get(level) for item in self.items]
        return matches((query.categories.get(level) for query in self.queries), has)

    def with_finest(self, level: str) -> Corpus:
        """The same with those queries alone whose finest category is of this level."""
        levels = self.levels[::-1]
        finest = [next((x for x in levels if x in query.categories), None) for query in self.queries]
        chosen = [i for i, found in enumerate(finest) if found == level]
        queries = [self.queries[i] for i in chosen]
        return replace(self, queries=queries, query_vectors=self.query_vectors[chosen])

    def cutoffs(self, wanted: Sequence[int]) -> list[int]:
        """Those that the table is long enough for."""
        return [k for k in wanted if k <= len(self.items)] or [len(self.items)]


def precisions(data: Corpus, names: Sequence[str]) -> dict[str, dict[str, Values]]:
    """Measures of each method, by "measure level"."""
    most = max(int(name.partition("@")[2]) for name in names)
    found: dict[str, dict[str, Values]] = {}
    for method, documents in data.documents.items():
        ranking = nearest(data.query_vectors, documents, most)
        found[method] = {
            f"{name} {level}": values
            for level in data.levels
            for name, values in measure(names, ranking, data.relevant(level)).items()
        }
    return found


def category_table(data: Corpus, bootstrap: Bootstrap) -> Table:
    """Precision by category, for the three things a query can be compared with, and what no search could exceed."""
    cutoffs = data.cutoffs(PRECISIONS)
    found = precisions(data, [f"P@{k}" for k in cutoffs])
    measures = {f"P@{k} {level}": (level, k) for level in data.levels for k in cutoffs}
    found["best possible"] = {name: ceiling(data.relevant(level), k) for name, (level, k) in measures.items()}
    rows = {method: {name: bootstrap.score(v) for name, v in values.items()} for method, values in found.items()}
    note = (
        "Share of the first k results that are of the query's category. The average is of text and image vector. "
        "Best possible: where a category has fewer than k items. In brackets the 95% bootstrap interval over queries."
    )
    return Table("Queries against descriptions, images and their average", note, "search", rows)


def ceiling(relevant: Sequence[Collection[int]], k: int) -> Values:
    """The precision at `k` of a search that finds everything first; NaN where there is nothing to find."""
    return np.array([min(len(items), k) / k if items else np.nan for items in relevant])


def recalls(data: Corpus, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Values]]]:
    """Recall of each pair of modalities: an item's counterpart, or its likes in the same modality."""
    most = max(int(name.partition("@")[2]) for name in names)
    own = [frozenset([i]) for i in range(len(data.items))]
    for name, queries, documents in (
        ("text-image", data.text_vectors, data.image_vectors),
        ("image-text", data.image_vectors, data.text_vectors),
    ):
        yield name, measure(names, nearest(queries, documents, most), own)
    level = (data.all_levels or [""])[-1]
    has = [item.categories.get(level) for item in data.items]
    alike = [found - {i} for i, found in enumerate(matches(has, has))]
    for name, rows in (("text-text", data.text_vectors), ("image-image", data.image_vectors)):
        yield name, measure(names, nearest(rows, rows, most, skip_self=True), alike)


def recall_table(data: Corpus, bootstrap: Bootstrap) -> Table:
    """Recall between and within modalities."""
    names = [f"R@{k}" for k in data.cutoffs(RECALLS)]
    rows = {name: {k: bootstrap.score(v) for k, v in values.items()} for name, values in recalls(data, names)}
    note = (
        "Share of what should be found that is among the first k. Text-image and image-text: the item's own "
        "counterpart. Text-text and image-image: the other items of its finest category."
    )
    return Table("Recall within and between modalities", note, "query-document", rows)


def width_table(data: Corpus, widths: Sequence[int], level: str, bootstrap: Bootstrap) -> Table:
    """What is left of each score when vectors are cut."""
    precision, recall = f"P@{data.cutoffs(PRECISIONS)[0]}", f"R@{data.cutoffs((5,))[0]}"

    def scores(cut: Corpus) -> dict[str, Values]:
        by_method = precisions(cut, [precision])
        found = {f"{method}, {precision} {level}": by_method[method][f"{precision} {level}"] for method in METHODS}
        pairs = dict(recalls(cut, [recall]))
        return {**found, **{f"{name}, {recall}": pairs[name][recall] for name in ("text-image", "image-text")}}

    whole = scores(data)
    rows: dict[str, dict[str, Score]] = {}
    for width in sorted(widths):
        cut = whole if width == data.text_vectors.shape[1] else scores(data.truncate(width))
        rows[str(width)] = {name: bootstrap.share(values, whole[name]) for name, values in cut.items()}
    note = "Share of each score at full width that is left when the vectors are cut to fewer dimensions."
    return Table("Matryoshka: score kept at each width", note, "width", rows)


def diversity_table(data: Corpus, method: str, *, pool: int, clusters: int, seed: int, bootstrap: Bootstrap) -> Table:
    """A search as it is, and with its results re-ordered by their images; by the level that the queries name."""
    rows: dict[str, dict[str, Score]] = {}
    for level in data.levels:
        part = data.with_finest(level)
        for order, ranking in orders(part, method, pool, clusters, seed) if part.queries else ():
            scores = diversity_scores(part, ranking, level).items()
            rows[f"{level} queries, {order}"] = {name: bootstrap.score(values) for name, values in scores}
    note = (
        f"The first {SHOWN} of {method}, and of its best {pool} when these are re-ordered by their images. Queries are "
        "grouped by the finest category they ask for. Distinct values: different values of the attributes in sight. "
        "Distance: 1 - cosine between images. Precision falls where the pool is larger than what would be right."
    )
    return Table("Visual diversity", note, "queries", rows)


def orders(data: Corpus, method: str, pool: int, clusters: int, seed: int) -> Iterator[tuple[str, Ranking]]:
    """The first results of each query, as found and by each strategy."""
    documents = data.documents[method]
    candidates = nearest(data.query_vectors, documents, pool)
    relevance = np.einsum("qd,qpd->qp", data.query_vectors, documents[candidates])
    yield "as found", candidates[:, :SHOWN]
    for strategy in get_args(Method):
        chosen = [
            diversify(data.image_vectors[row], SHOWN, clusters=clusters, relevance=scores, seed=seed, method=strategy)
            for row, scores in zip(candidates, relevance, strict=True)
        ]
        yield strategy, np.take_along_axis(candidates, np.array(chosen), axis=1)


def diversity_scores(data: Corpus, ranking: Ranking, level: str) -> dict[str, Values]:
    """Precision of a ranking, and how much there is to see in it."""
    name = f"P@{ranking.shape[1]}"
    found = measure([name], ranking, data.relevant(level))
    if any(item.attributes for item in data.items):
        distinct = [count_values([data.items[i].attributes for i in row]) for row in ranking]
        found["distinct values"] = np.array(distinct, np.float64)
    pairs = list(combinations(range(ranking.shape[1]), 2))
    cosines = np.einsum("qad,qbd->qab", data.image_vectors[ranking], data.image_vectors[ranking])
    if pairs:
        found["distance"] = 1 - np.mean([cosines[:, a, b] for a, b in pairs], axis=0).astype(np.float64)
    return found


def count_values(attributes: Sequence[Mapping[str, str]]) -> int:
    """How many different values of attributes there are."""
    return len({pair for one in attributes for pair in one.items()})
