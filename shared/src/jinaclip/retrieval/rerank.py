"""Diversity for search results as stores return them: some with vectors, some with images, some with neither."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinaclip.hosts import aembed, embed
from jinaclip.process import run_in_thread
from jinaclip.retrieval.diversity import Method, diversify

if TYPE_CHECKING:
    from jinaclip.call.results import Results
    from jinaclip.clip import JinaClip

logger = logging.getLogger("jinaclip")


@dataclass(frozen=True)
class Diversifier:
    """`diversify` with its options, for hosts: embeds the images of results that came without a vector.

    A result without an image keeps its place; with "mmr" one that has a vector counts all the same. A result whose
    image cannot be embedded counts as one without, with a warning in the log: the search itself has succeeded.

    Args:
        k: how many results to show; None for all.
        clusters: how many kinds of images to tell apart; only for "kmeans".
        method: "kmeans" (needs the extra `rerank`) or "mmr".
        lambda_mult: share of relevance from 0 to 1; only for "mmr".
        seed: for the starting points of k-means.

    Raises:
        ConfigError: an option is out of range.
        MissingDependencyError: "kmeans" without scikit-learn.
    """

    k: int | None = None
    clusters: int = 5
    method: Method = "kmeans"
    lambda_mult: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        self._diversify([], None)

    def order(
        self, clip: JinaClip, vectors: Sequence[Any], images: Sequence[Any], relevance: Sequence[float] | None = None
    ) -> list[int]:
        """Indices of the results, those first whose images look different. No results give [] and no request.

        Args:
            clip: embeds images.
            vectors: one for each result, or None.
            images: an image for each result as `JinaClip.embed_image` takes it, or None.
            relevance: score of each result; None takes them to be in order, best first.

        Raises:
            InputError: a vector is not one, or they are of different widths.
            JinaClipError: the call as a whole failed; what fails for one image alone is only logged.
        """
        results = SearchResults(vectors, images, keep_texts=self.method == "mmr")
        if results.missing:
            results.add(embed(clip, results.images(), clip.resolve_image, kind="image"))
        return self._diversify(results.rows, relevance)

    async def aorder(
        self, clip: JinaClip, vectors: Sequence[Any], images: Sequence[Any], relevance: Sequence[float] | None = None
    ) -> list[int]:
        """`order` without blocking the event loop."""
        results = SearchResults(vectors, images, keep_texts=self.method == "mmr")
        if results.missing:
            results.add(await aembed(clip, results.images(), clip.resolve_image, kind="image"))
        return await run_in_thread(self._diversify, results.rows, relevance)

    def _diversify(self, rows: Sequence[Any], relevance: Sequence[float] | None) -> list[int]:
        return diversify(
            rows,
            max(1, len(rows)) if self.k is None else self.k,
            clusters=self.clusters,
            relevance=relevance,
            seed=self.seed,
            method=self.method,
            lambda_mult=self.lambda_mult,
        )


class SearchResults:
    """The vectors of search results, as far as there are any.

    Args:
        vectors: one for each result, or None.
        images: one for each result, or None.
        keep_texts: whether vectors of results without an image count.

    Attributes:
        rows: a vector for each result, or None.
        missing: indices of the results that have an image and no vector yet.
    """

    def __init__(self, vectors: Sequence[Any], images: Sequence[Any], *, keep_texts: bool) -> None:
        self._images = images
        both = list(zip(vectors, images, strict=True))
        self.rows = [vector if keep_texts or image is not None else None for vector, image in both]
        self.missing = [i for i, (vector, image) in enumerate(both) if vector is None and image is not None]

    def images(self) -> Iterator[Any]:
        """The images to embed, one at a time: a page of a PDF file is rendered when its turn comes."""
        return (self._images[i] for i in self.missing)

    def add(self, embedded: Results) -> None:
        """Takes the vectors of the missing images, and logs which images have none.

        Raises:
            JinaClipError: the call as a whole failed.
        """
        found = embedded.at(self.missing)
        if found.stopped is not None:
            found.unwrap()
        for index, failure in found.errors.items():
            logger.warning("result %d counts as one without an image: %s", index, failure.reason)
        for index, vector in zip(*found.successes(), strict=True):
            self.rows[index] = vector
