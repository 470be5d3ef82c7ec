"""What searches lose when vectors are kept at a byte or a bit a number, at each width."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from jinaclip.evaluation.metrics import Bootstrap, Ranking, Values, measure, nearest
from jinaclip.evaluation.searches import Corpus
from jinaclip.evaluation.tables import Score, Table
from jinaclip.retrieval.quantization import calibration_ranges, quantize
from jinaclip.retrieval.search import semantic_search
from jinaclip.vectors import Vectors

TOP = 10
"""Results of a query that are looked at."""
TEXTS = 1000
"""Descriptions that look for their image; of more items a part, evenly spaced."""
MULTIPLIER = 4
"""Candidates for each result where they are rescored."""
FOUND = "exact top"
"""Begins the name of the column that says how much of an exact search is found."""


def quantization_table(data: Corpus, method: str, widths: Sequence[int], bootstrap: Bootstrap) -> Table:
    """Recall and nDCG of a method at each width and precision; a row is called "32 int8"."""
    exact = nearest(data.query_vectors, data.documents[method], data.cutoffs((TOP,))[0])
    rows: dict[str, dict[str, Score]] = {}
    for width in sorted(widths):
        cut = data if width == data.text_vectors.shape[1] else data.truncate(width)
        for name, values in precision_scores(cut, method, exact):
            rows[f"{width} {name}"] = {column: bootstrap.score(found) for column, found in values.items()}
    note = (
        f"Of {method} at each width and precision. float32 takes four bytes a number, int8 one (uint8 finds the same), "
        f"binary an eighth. {FOUND.capitalize()} {exact.shape[1]}: share of what is found at full width and float32. "
        "int8 has the ranges of the documents. Binary is compared by Hamming distance; rescored, "
        f"{MULTIPLIER} times as many candidates are put in order by the query's numbers against the bits, or against "
        "the float32 vectors."
    )
    return Table("Quantised vectors: what is found at each width and precision", note, "width, precision", rows)


def precision_scores(data: Corpus, method: str, exact: Ranking) -> Iterator[tuple[str, dict[str, Values]]]:
    """Scores of each precision at the width of the data, query by query, by column."""
    level, k, few = data.levels[-1], exact.shape[1], data.cutoffs((5,))[0]
    chosen = choose_texts(len(data.items))
    own = [frozenset([int(row)]) for row in chosen]
    by_query = rankings(data.query_vectors, data.documents[method], k)
    by_text = rankings(data.text_vectors[chosen], data.image_vectors, few)
    for (name, found), (_, images) in zip(by_query, by_text, strict=True):
        ranked = measure([f"R@{k}", f"nDCG@{k}"], found, data.relevant(level))
        yield (
            name,
            {
                f"{FOUND} {k}": overlap(found, exact),
                **{f"{measured} {level}": values for measured, values in ranked.items()},
                f"text-image R@{few}": measure([f"R@{few}"], images, own)[f"R@{few}"],
            },
        )


def choose_texts(count: int) -> list[int]:
    """Rows of the items whose descriptions are looked for."""
    return np.linspace(0, count - 1, min(count, TEXTS)).round().astype(int).tolist()


def overlap(found: Ranking, exact: Ranking) -> Values:
    """The share of the exact results that is found, for each query."""
    shares = [np.isin(right, some).mean() for some, right in zip(found, exact, strict=True)]
    return np.array(shares, np.float64)


def rankings(queries: Vectors, documents: Vectors, k: int) -> Iterator[tuple[str, Ranking]]:
    """The first `k` of each precision by name; of bits where the width is whole bytes."""
    yield "float32", nearest(queries, documents, k)
    ranges = calibration_ranges(documents)
    codes = quantize(documents, "int8", ranges)
    yield "int8", semantic_search(queries, codes, "int8", top_k=k, ranges=ranges).indices
    if documents.shape[1] % 8:
        return
    bits = quantize(documents, "ubinary")
    yield "binary", semantic_search(queries, bits, "ubinary", top_k=k, rescore=False).indices
    for name, full in (("binary, rescored", None), ("binary, rescored by float32", documents)):
        found = semantic_search(
            queries, bits, "ubinary", top_k=k, rescore_multiplier=MULTIPLIER, rescore_embeddings=full
        )
        yield name, found.indices


def by_width(table: Table) -> Table:
    """What each precision finds of the exact results, with widths as rows, for a curve of each precision."""
    column = next(name for name in table.columns if name.startswith(FOUND))
    rows: dict[str, dict[str, Score]] = {}
    for name, row in table.rows.items():
        width, _, precision = name.partition(" ")
        rows.setdefault(width, {})[precision] = row[column]
    return Table(table.title, table.note, "width", rows)
