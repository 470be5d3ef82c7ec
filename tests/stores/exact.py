"""What every store is compared with: all products sorted by their cosine in numpy."""

from __future__ import annotations

import numpy as np

from examples.stores.base import KINDS, Hit, Kind, Product, Store, Vectors
from jinaclip import JinaClip

SWAPPED = 1e-5
"""Cosines closer than this may come in either order: stores add up in orders of their own."""


class ExactStore(Store):
    def __init__(self, clip: JinaClip) -> None:
        super().__init__(clip)
        self.products: dict[str, Product] = {}
        self.rows: dict[tuple[str, Kind], Vectors] = {}

    def write(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        for i, product in enumerate(products):
            self.products[product.id] = product
            self.rows |= {(product.id, kind): vectors[kind][i] for kind in KINDS}

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        products = [product for product in self.products.values() if category in (None, product.category)]
        rows = np.stack([self.rows[product.id, using] for product in products])
        scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        best = np.argsort(-scores, kind="stable")[:limit]
        return [Hit(products[i].id, products[i].title, float(scores[i])) for i in best]


def assert_same(found: list[Hit], everything: list[Hit], limit: int = 10) -> None:
    """The first `limit` of all products, in their order, with their titles and cosines."""
    truth = {hit.id: hit for hit in everything}
    assert len({hit.id for hit in found}) == len(found) == min(limit, len(everything))
    assert [hit.title for hit in found] == [truth[hit.id].title for hit in found]
    best = [hit.score for hit in everything[:limit]]
    np.testing.assert_allclose([truth[hit.id].score for hit in found], best, atol=SWAPPED)
    np.testing.assert_allclose([hit.score for hit in found], best, atol=1e-4)


def recall(found: list[list[str]], exact: list[list[str]]) -> float:
    """Share of the right ids that were found, over several queries."""
    return float(np.mean([len({*some} & {*right}) / len(right) for some, right in zip(found, exact, strict=True)]))


def ids(hits: list[Hit]) -> list[str]:
    return [hit.id for hit in hits]
