"""Search among quantised embeddings, with candidates put in order by more exact ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jinaclip.errors import ConfigError, InputError
from jinaclip.numeric import is_whole
from jinaclip.retrieval.quantization import (
    BITS,
    Codes,
    Precision,
    as_octets,
    read_codes,
    read_steps,
    unpack_signs,
    zero_point,
)
from jinaclip.vectors import FAILED_ROW, Vectors, as_vectors, largest, pack_bits

QUERIES_AT_ONCE = 64
ROWS_AT_ONCE = 2**14
"""Of the corpus; a million pairs are compared at a time, in about 12 MB."""
Scores = NDArray[np.float32]
Scorer = Callable[[slice], Scores]
"""Gives the scores of some queries, (q, rows), for a part of the corpus."""


class Hits(NamedTuple):
    """What `semantic_search` found, best first. Of a single query both are of shape (k,)."""

    indices: NDArray[np.intp]
    """Rows of the corpus, shape (q, k)."""
    scores: Scores
    """float32 of shape (q, k), higher is better."""


def semantic_search(
    query_embeddings: ArrayLike,
    corpus_embeddings: ArrayLike,
    corpus_precision: Precision,
    *,
    top_k: int = 10,
    ranges: ArrayLike | None = None,
    rescore: bool = True,
    rescore_multiplier: int = 4,
    rescore_embeddings: ArrayLike | None = None,
) -> Hits:
    """Searches all of a quantised corpus, exactly and in memory.

    Of bytes the score is the inner product of the query and the dequantised embedding: the query is not quantised. Bits
    are compared by Hamming distance, which gives `rescore_multiplier` times as many candidates as are asked for; these
    are put in order by the inner product of the query and the dequantised bits. With `rescore_embeddings` candidates of
    either kind are put in order by those.

    Args:
        query_embeddings: float, shape (d,) or (q, d).
        corpus_embeddings: what `quantize` gave for the documents, shape (n, d), of bits (n, d / 8).
        corpus_precision: what it was quantised to.
        top_k: how many to find; all where there are fewer.
        ranges: those that the corpus was quantised with, shape (2, d); bits need none.
        rescore: False keeps the order of the first comparison.
        rescore_multiplier: candidates for each result, at least 1.
        rescore_embeddings: the embeddings that were quantised, shape (n, d). Only rows of candidates are read, so they
            may lie on disk (`numpy.load(..., mmap_mode="r")`).

    Returns:
        Rows and scores; equal scores in the order of the corpus. A score is an inner product, so a cosine where all
        have length 1; of bits that are not rescored it is 1 - 2 * distance / d, the cosine of the signs.

    Raises:
        ConfigError: an option is out of range, or ranges are missing or do not fit.
        InputError: embeddings are of another shape or type, or a row is not finite; `.index` says which.
    """
    check_counts(top_k=top_k, rescore_multiplier=rescore_multiplier)
    queries = as_vectors(query_embeddings, "query_embeddings")
    corpus = read_corpus(corpus_embeddings, corpus_precision, queries.shape[-1], ranges, rescore_embeddings)
    k = min(int(top_k), len(corpus.codes))
    rescores = rescore and (corpus.steps is None or corpus.full is not None)  # else bytes would give the same again
    count = min(k * int(rescore_multiplier), len(corpus.codes)) if rescores else k
    rows = np.atleast_2d(queries)
    hits = Hits(np.empty((len(rows), k), np.intp), np.empty((len(rows), k), np.float32))
    for start in range(0, len(rows), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        found = find_best(corpus.scorer(rows[part]), len(rows[part]), len(corpus.codes), count)
        hits.indices[part], hits.scores[part] = order_again(rows[part], found.indices, corpus, k) if rescores else found
    return Hits(hits.indices[0], hits.scores[0]) if queries.ndim == 1 else hits


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is searched."""

    codes: Codes
    low: NDArray[np.float64] | None
    """Least value of each dimension, (d,); None for bits."""
    steps: NDArray[np.float64] | None
    """Step of each dimension, (d,); None for bits."""
    full: NDArray[Any] | None
    """(n, d), perhaps on disk."""

    def scorer(self, queries: Vectors) -> Scorer:
        """Compares queries, (q, d), with rows of the corpus as they are kept."""
        if self.low is None or self.steps is None:
            return hamming_scorer(queries, self.codes)
        return product_scorer(queries, self.codes, self.low, self.steps)

    def rows(self, indices: NDArray[np.intp]) -> Vectors:
        """The most exact embeddings there are of some rows, (k, d), for which bytes alone have not been rescored.

        Raises:
            InputError: one is not finite; `.index` says which.
        """
        if self.full is None:
            return unpack_signs(self.codes[indices])
        rows = np.asarray(self.full[indices], np.float32)
        failed = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if failed.size:
            index = int(indices[failed[0]])
            raise InputError(f"row {index} of rescore_embeddings holds NaN or infinity{FAILED_ROW}", index=index)
        return rows


def read_corpus(
    embeddings: ArrayLike, precision: Precision, width: int, ranges: ArrayLike | None, full: ArrayLike | None
) -> Corpus:
    """The corpus, if all of it fits queries of that width.

    Raises:
        ConfigError: ranges are missing or do not fit.
        InputError: embeddings are of another shape or type.
    """
    codes = read_codes(embeddings, precision, "corpus_embeddings")
    per_byte = 8 if precision in BITS else 1
    if codes.ndim != 2 or codes.shape[1] * per_byte != width:
        raise InputError(
            f"corpus_embeddings of shape {codes.shape} and precision {precision!r} do not fit queries of {width} "
            f"dimensions; it must be (n, {width / per_byte:g})"
        )
    kept = None if full is None else np.asarray(full)
    if kept is not None and kept.shape != (len(codes), width):
        raise InputError(f"rescore_embeddings must have shape {(len(codes), width)}, not {kept.shape}")
    if precision in BITS:
        return Corpus(codes, None, None, kept)
    if ranges is None:
        raise ConfigError(f"corpus_precision={precision!r} needs the ranges that the corpus was quantised with")
    return Corpus(codes, *read_steps(ranges, width), kept)


def check_counts(**counts: int) -> None:
    """Refuses counts below 1.

    Raises:
        ConfigError: one is.
    """
    for name, value in counts.items():
        if not is_whole(value) or value < 1:
            raise ConfigError(f"{name}={value!r} must be a whole number of at least 1")


def hamming_scorer(queries: Vectors, codes: Codes) -> Scorer:
    """1 - 2 * distance / d, where the distance is the number of bits that differ from those of the query."""
    width = queries.shape[-1]
    word = np.dtype(f"u{next(size for size in (8, 4, 2, 1) if codes.shape[1] % size == 0)}")
    asked = np.ascontiguousarray(pack_bits(queries)).view(word)  # (q, words)

    def score(part: slice) -> Scores:
        octets = np.ascontiguousarray(as_octets(codes[part]))
        words = np.ascontiguousarray(octets.view(word).T)  # (words, rows)
        distances = np.zeros((len(asked), words.shape[1]), np.int32)
        for number, column in enumerate(words):
            distances += count_bits(asked[:, number, None] ^ column)
        return 1 - distances.astype(np.float32) * np.float32(2 / width)

    return score


def count_bits_by_table(words: NDArray[Any]) -> NDArray[np.uint8]:
    """How many bits are set in each word, for NumPy before 2.0."""
    octets = words[..., None].view(np.uint8)
    counts: NDArray[np.uint8] = BIT_COUNTS[octets].sum(axis=-1, dtype=np.uint8)
    return counts


BIT_COUNTS = np.array([octet.bit_count() for octet in range(256)], np.uint8)
count_bits: Callable[[NDArray[Any]], NDArray[np.uint8]] = getattr(np, "bitwise_count", count_bits_by_table)


def product_scorer(queries: Vectors, codes: Codes, low: NDArray[np.float64], steps: NDArray[np.float64]) -> Scorer:
    """The inner product of query and dequantised embedding: of the query times the steps, and the bytes."""
    exact = queries.astype(np.float64)
    factors = (exact * steps).astype(np.float32)
    constants = (exact @ zero_point(low, steps, codes)).astype(np.float32)

    def score(part: slice) -> Scores:
        products: Scores = factors @ codes[part].astype(np.float32).T
        products += constants[:, None]
        return products

    return score


def find_best(score: Scorer, queries: int, count: int, k: int) -> Hits:
    """The `k` best of `count` rows for each query, some rows at a time."""
    indices, scores = np.empty((queries, 0), np.intp), np.empty((queries, 0), np.float32)
    for start in range(0, count, ROWS_AT_ONCE):
        values = score(slice(start, start + ROWS_AT_ONCE))
        best = largest(values, k)
        indices = np.concatenate([indices, best + start], axis=1)  # those of earlier rows in front: they win ties
        scores = np.concatenate([scores, np.take_along_axis(values, best, 1)], axis=1)
        best = largest(scores, k)
        indices, scores = np.take_along_axis(indices, best, 1), np.take_along_axis(scores, best, 1)
    return Hits(indices, scores)


def order_again(queries: Vectors, candidates: NDArray[np.intp], corpus: Corpus, k: int) -> Hits:
    """The `k` best among candidates, (q, c), by the most exact embeddings there are.

    Raises:
        InputError: one of these is not finite; `.index` says which.
    """
    indices = np.sort(candidates, axis=1)  # equal scores are to stay in the order of the corpus
    scores = np.empty(indices.shape, np.float32)
    for number, query in enumerate(queries):
        for start in range(0, indices.shape[1], ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            scores[number, part] = corpus.rows(indices[number, part]) @ query
    best = largest(scores, k)
    return Hits(np.take_along_axis(indices, best, 1), np.take_along_axis(scores, best, 1))
