"""The shape that all stores share: index products, then search by text, by picture, by both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from jinaclip import InputError, JinaClip, fuse
from jinaclip.retrieval import dequantize

Kind = Literal["text", "image", "fused"]
KINDS: tuple[Kind, ...] = ("text", "image", "fused")
"""What each product is found by: its title, its picture, and the two as one vector."""
Vectors = NDArray[np.float32]
Bits = NDArray[np.uint8]
"""(n, d / 8), what `quantize(vectors, "ubinary")` gives."""
BATCH = 64
"""Products embedded and sent at a time: with 1,024 dimensions about 1.4 MB of JSON, inside every store's limit."""
CANDIDATES = 4
"""Times the limit that a store of bits is asked for; equal Hamming distances are many."""


@dataclass(frozen=True, slots=True)
class Product:
    """What is indexed. The picture is anything that `JinaClip` takes; stores keep its vectors, not the picture."""

    id: str
    title: str
    picture: Any
    category: str = ""
    """What searches can be narrowed to."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What is found."""

    id: str
    title: str
    score: float
    """Cosine similarity: 1 is the same direction, 0 unrelated."""


class Store(ABC):
    """Embeds products and queries; a subclass keeps the vectors of one database.

    Args:
        clip: embeds. Vectors of another space lie under another `name`, so the two never mix.
    """

    def __init__(self, clip: JinaClip) -> None:
        self.clip = clip

    @property
    def name(self) -> str:
        """Of the collection or table: letters, digits and underscores, so that every store accepts it."""
        return f"products_{self.clip.space}"

    def index(self, products: Iterable[Product]) -> None:
        """Embeds and keeps products; one whose id is there already is replaced."""
        for batch in batches(products):
            texts = self.clip.embed_documents([product.title for product in batch])
            images = self.clip.embed_images([product.picture for product in batch])
            self.add(batch, {"text": texts, "image": images, "fused": fuse(texts, images)})

    def by_text(self, text: str, *, using: Kind = "fused", limit: int = 10, category: str | None = None) -> list[Hit]:
        """Products that a text describes, best first; of one category alone if it is named."""
        return self.nearest(self.clip.embed_query(text), using, limit, category)

    def by_picture(
        self, picture: Any, *, using: Kind = "fused", limit: int = 10, category: str | None = None
    ) -> list[Hit]:
        """Products that look like a picture, best first."""
        return self.nearest(self.clip.embed_image(picture), using, limit, category)

    def by_both(
        self,
        text: str,
        picture: Any,
        *,
        weight: float = 0.5,
        using: Kind = "fused",
        limit: int = 10,
        category: str | None = None,
    ) -> list[Hit]:
        """Like the picture, but as the text says; `weight` is the share of the text."""
        query = fuse(self.clip.embed_query(text), self.clip.embed_image(picture), weight)
        return self.nearest(query, using, limit, category)

    def add(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        """Keeps some products with their vectors, (n, d) each.

        Raises:
            InputError: a row is not finite, such as that of an item which `JinaClip.embed` could not embed; `.index`
                says which. Nothing is written.
        """
        for kind, rows in vectors.items():
            failed = np.flatnonzero(~np.isfinite(rows).all(axis=1))
            if failed.size:
                name = products[failed[0]].id
                raise InputError(f"product {name!r} has no {kind} vector; leave it out", index=int(failed[0]))
        self.write(products, vectors)

    @abstractmethod
    def write(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        """Writes some products with their vectors, (n, d) each, all finite."""

    @abstractmethod
    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        """The products, of one category or of all, whose vectors of one kind are nearest to a (d,) query."""

    def close(self) -> None:  # noqa: B027 - not every store has something to close
        """Lets go of connections and files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def batches(products: Iterable[Product]) -> Iterator[list[Product]]:
    """Lists of up to `BATCH` products; of two with one id the later one, since some stores refuse an id given twice."""
    rest = iter(products)
    while batch := {product.id: product for product in islice(rest, BATCH)}:
        yield list(batch.values())


def rescore(query: Vectors, found: Sequence[tuple[str, str]], bits: Bits, limit: int) -> list[Hit]:
    """The best of what a store of bits found by Hamming distance, by the numbers of the query.

    Args:
        query: (d,), not quantised.
        found: id and title of each candidate.
        bits: theirs, (n, d / 8).
        limit: how many to keep.
    """
    scores = dequantize(bits, "ubinary") @ query
    best = np.argsort(-scores, kind="stable")[:limit]
    return [Hit(*found[i], float(scores[i])) for i in best]
