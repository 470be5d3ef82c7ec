"""Diversity for search results as stores hand them over: some with vectors, some with pictures, some with neither."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinaclip.errors import InputError
from jinaclip.retrieval.diversity import Method, diversify

if TYPE_CHECKING:
    from jinaclip.clip import JinaClip

logger = logging.getLogger("jinaclip")


@dataclass(frozen=True)
class Diversifier:
    """`diversify` with its options, for hosts: embeds the pictures of results that came without a vector.

    A result without a picture keeps its place; with "mmr" one that has a vector counts all the same. A picture that
    cannot be read makes it a result without one, with a warning in the log: the search itself has succeeded.

    Args:
        k: how many results to show; None for all.
        clusters: how many kinds of pictures to tell apart; only for "kmeans".
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
        self._order([], None)

    def order(
        self, clip: JinaClip, vectors: Sequence[Any], images: Sequence[Any], relevance: Sequence[float] | None = None
    ) -> list[int]:
        """Places of the results, those first whose pictures look different; none give [] and no request.

        Args:
            clip: embeds pictures.
            vectors: one for each result, or None.
            images: a picture for each result as `embed_images` takes it, or None; an InputError says why there is none.
            relevance: score of each result; None takes them to be in order, best first.

        Raises:
            InputError: the vectors are none, or not all of one width.
            JinaClipError: the backend failed.
        """
        missing = Missing(vectors, images, texts=self.method == "mmr")
        if missing.images:
            with missing.reading():
                missing.made = enumerate(clip.embed_images(iter(missing.images)))
        return self._order(missing.filled(), relevance)

    async def aorder(
        self, clip: JinaClip, vectors: Sequence[Any], images: Sequence[Any], relevance: Sequence[float] | None = None
    ) -> list[int]:
        """`order` without blocking the event loop."""
        missing = Missing(vectors, images, texts=self.method == "mmr")
        if missing.images:
            with missing.reading():
                missing.made = enumerate(await clip.aembed_images(iter(missing.images)))
        return await asyncio.to_thread(self._order, missing.filled(), relevance)

    def _order(self, rows: Sequence[Any], relevance: Sequence[float] | None) -> list[int]:
        most = max(1, len(rows)) if self.k is None else self.k
        options = {name: getattr(self, name) for name in ("clusters", "method", "lambda_mult", "seed")}
        return diversify(rows, most, relevance=relevance, **options)


class Missing:
    """Which results come without a vector, and with a picture to make it of.

    Attributes:
        images: those pictures.
        made: their vectors, by their places among `images`.
    """

    def __init__(self, vectors: Sequence[Any], images: Sequence[Any], *, texts: bool) -> None:
        both = list(zip(vectors, images, strict=True))
        self._rows = [vector if texts or image is not None else None for vector, image in both]
        self._places = [i for i, (vector, image) in enumerate(both) if vector is None and image is not None]
        self.images = [images[i] for i in self._places]
        self.made: Iterable[tuple[int, Any]] = ()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around embedding the pictures one by one: those that cannot be read are passed over."""
        try:
            yield
        except InputError as error:
            for number, why in error.partial.errors.items():
                logger.warning("result %d counts as one without a picture: %s", self._places[number], why)
            self.made = error.partial.vectors.items()

    def filled(self) -> list[Any]:
        """A row for each result, or None."""
        for number, vector in self.made:
            self._rows[self._places[number]] = vector
        return self._rows
