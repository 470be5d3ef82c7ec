"""Results in an order that shows more of what there is: k-means over their images, or maximal marginal relevance."""

from __future__ import annotations

import functools
from collections.abc import Sequence, Sized
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jinaclip.errors import ConfigError, InputError
from jinaclip.numeric import is_number, is_whole
from jinaclip.requirements import check_installed
from jinaclip.vectors import Vectors, as_vectors, normalize

Rows = ArrayLike | Sequence[ArrayLike | None]
Method = Literal["kmeans", "mmr"]
METHODS = get_args(Method)
ONE_THREAD = 2048
"""Rows up to which one thread clusters faster than several, and leaves the cores to others."""
STARTS = 2
"""Times k-means starts afresh; the best of the results counts."""
NUMBERS = 2**32
"""Counts and seeds stay below this; the generator of k-means takes no larger seed."""
DECIMALS = 6
"""Decimals to which two unit vectors must agree to be one point."""


def diversify(
    image_embeddings: Rows,
    k: int,
    *,
    clusters: int = 5,
    relevance: ArrayLike | None = None,
    seed: int = 0,
    method: Method = "kmeans",
    lambda_mult: float = 0.5,
) -> list[int]:
    """Chooses and orders the `k` results to show among the top results of a search, 50 of them as a rule.

    "kmeans" clusters the image vectors and shows the best result of each cluster first, the most relevant of them in
    front; the rest follows in its order. So the first `clusters` results look different from one another. "mmr" shows
    next what has the largest `lambda_mult * relevance - (1 - lambda_mult) * (largest cosine to what is shown)`, and
    suits results that are partly texts, partly images.

    The same input gives the same order in every process; "kmeans" does not depend on the order of the rows either.

    Args:
        image_embeddings: vectors of the results, shape (n, d), of any length but zero. A result without an image is
            None instead of a row; it keeps the place that its relevance gives it.
        k: how many to show; all of them where there are fewer.
        clusters: how many kinds of images to tell apart; only for "kmeans".
        relevance: score of each result, shape (n,), higher is better, equal ones in the order given. None takes the
            rows to be in order, best first; "mmr" then counts 1 for the first, falling evenly towards 0.
        seed: for the starting points of k-means.
        method: "kmeans" (needs the extra `rerank`) or "mmr".
        lambda_mult: share of relevance from 0 to 1; only for "mmr", where it is weighed against cosines.

    Returns:
        min(k, n) row numbers, each once, the most relevant result first. No rows give [].

    Raises:
        ConfigError: an option is out of range.
        InputError: the embeddings are not of shape (n, d), one is zero, or `relevance` does not fit them.
        MissingDependencyError: "kmeans" without scikit-learn.
    """
    check_options(k, clusters, method, lambda_mult, seed)
    k, clusters, seed = int(k), int(clusters), int(seed)
    if is_empty(image_embeddings):
        return []
    has_image, rows = read_rows(image_embeddings)
    scores = read_relevance(relevance, len(has_image))
    order = np.argsort(-scores, kind="stable")
    slots = np.flatnonzero(has_image[order])  # what stands there may be put elsewhere
    results = order[slots]
    images = rows[(np.cumsum(has_image) - 1)[results]]  # best first
    if method == "mmr":
        turns = np.array(mmr_order(images, scores[results], k, lambda_mult), np.intp)
    else:
        turns = cluster_order(images, clusters, seed)
    order[slots[: len(turns)]] = results[turns]
    chosen: list[int] = order[:k].tolist()
    return chosen


def check_options(k: int, clusters: int, method: str, lambda_mult: float, seed: int) -> None:
    """Looks at the options, and whether what they need is installed.

    Raises:
        ConfigError: one is out of range.
        MissingDependencyError: "kmeans" without scikit-learn.
    """
    for name, value, least in (("k", k, 1), ("clusters", clusters, 1), ("seed", seed, 0)):
        if not is_whole(value) or not least <= value < NUMBERS:
            raise ConfigError(f"{name}={value!r} must be a whole number of at least {least}, and below 2**32")
    if method not in METHODS:
        raise ConfigError(f"method={method!r} must be one of {', '.join(map(repr, METHODS))}")
    if not is_number(lambda_mult) or not 0 <= lambda_mult <= 1:
        raise ConfigError(f"lambda_mult={lambda_mult!r} must be a number from 0 (diversity) to 1 (relevance)")
    if method == "kmeans":
        modules = ("sklearn", "threadpoolctl")
        check_installed(modules, "method='kmeans'", "rerank", hint="; method='mmr' needs nothing")


def is_empty(values: Rows) -> bool:
    """Whether there are no rows, of whatever width."""
    if isinstance(values, np.ndarray):
        return values.shape[:1] == (0,)
    return isinstance(values, Sequence) and not values


def read_rows(embeddings: Rows) -> tuple[NDArray[np.bool_], Vectors]:
    """Which results have a row, shape (n,), and those rows at length 1, shape (m, d).

    Raises:
        InputError: the rows are no vectors, or one is zero; `.index` says which result.
    """
    listed: Any = embeddings if isinstance(embeddings, list | tuple) else as_vectors(cast(Any, embeddings))
    has_image = np.array([row is not None for row in listed], bool)
    if not has_image.any():
        return has_image, np.empty((0, 1), np.float32)
    first = listed[int(has_image.argmax())]
    stand_in = np.ones(len(first) if isinstance(first, Sized) else 1)
    rows = normalize([stand_in if row is None else row for row in listed])  # all of them: errors count the results
    if rows.ndim != 2:
        raise InputError(f"image_embeddings must have shape (n, d), not {rows.shape}")
    return has_image, rows[has_image]


def read_relevance(relevance: ArrayLike | None, count: int) -> NDArray[np.float64]:
    """Relevance as float64 of shape (n,), higher is better.

    Raises:
        InputError: it is of another shape, or not finite.
    """
    if relevance is None:
        return 1 - np.arange(count) / count
    try:
        scores = np.asarray(relevance, np.float64)
    except (TypeError, ValueError):
        raise InputError("relevance must be a number for each embedding") from None
    if scores.shape != (count,):
        raise InputError(f"relevance of shape {scores.shape} does not fit {count} embeddings; it must be ({count},)")
    if not np.isfinite(scores).all():
        raise InputError("relevance holds NaN or infinity")
    return scores


def cluster_order(rows: Vectors, clusters: int, seed: int) -> NDArray[np.intp]:
    """Places of the rows: the first of each cluster, then the rest, both in the order given."""
    firsts = np.sort(np.unique(cluster(rows, clusters, seed), return_index=True)[1])
    return np.concatenate([firsts, np.delete(np.arange(len(rows)), firsts)])


def cluster(rows: Vectors, clusters: int, seed: int) -> NDArray[Any]:
    """The cluster of each row, shape (n,). Equal rows share one, and what order the rows come in changes nothing."""
    points, which = unique_points(rows)
    if clusters >= len(points) or clusters == 1:
        return which if clusters > 1 else np.zeros_like(which)
    kmeans, threads = load_libraries()
    estimator = kmeans(n_clusters=clusters, n_init=STARTS, random_state=seed)
    with threads.limit(limits=1 if len(points) <= ONE_THREAD else None, user_api="openmp"):
        labels: NDArray[Any] = estimator.fit(points, sample_weight=np.bincount(which)).labels_
    return labels[which]


def unique_points(rows: Vectors) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The different points among the rows, sorted, and which of them each row is.

    Points in float64 that are no two alike: otherwise k-means may end with an empty cluster, and a warning.
    """
    points = rows.astype(np.float64).round(DECIMALS)
    # bytes of positive big-endian numbers sort like the numbers; np.unique(axis=0) takes longer than k-means does
    content = [point.tobytes() for point in (points + 2).astype(">f8")]
    places = {key: place for place, key in enumerate(sorted(set(content)))}
    which = np.array([places[key] for key in content], np.intp)
    return points[np.unique(which, return_index=True)[1]], which


def mmr_order(rows: Vectors, scores: NDArray[np.float64], k: int, lambda_mult: float) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein 1998)."""
    nearest = np.full(len(rows), -np.inf)
    gains, chosen = scores.copy(), list[int]()
    while len(chosen) < min(k, len(rows)):
        best = int(np.argmax(gains))
        chosen.append(best)
        nearest = np.maximum(nearest, rows @ rows[best])
        gains = lambda_mult * scores - (1 - lambda_mult) * nearest
        gains[chosen] = -np.inf
    return chosen


@functools.cache
def load_libraries() -> tuple[Any, Any]:
    """scikit-learn's KMeans, and what limits the threads it runs on; heavy, so imported on first use."""
    from sklearn.cluster import KMeans
    from threadpoolctl import ThreadpoolController

    return KMeans, ThreadpoolController()
