"""FAISS: no database, three indexes in memory and four files in a folder.

pip install jinaclip faiss-cpu
"""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np

from examples.stores.base import KINDS, Hit, Kind, Product, Store, Vectors
from jinaclip import JinaClip


class FaissStore(Store):
    """Args:
    clip: embeds; its vectors must have length 1, as they do by default, for inner products to be cosines.
    folder: where `close` writes, and what is read from there again.
    factory: kind of index: "Flat" is exact, "SQ8" keeps a byte a number. Both can replace products; graphs
        ("HNSW32") and indexes that want training on many vectors ("IVF...") cannot, and need another `add`.
    """

    def __init__(self, clip: JinaClip, folder: Path, factory: str = "Flat") -> None:
        super().__init__(clip)
        self.folder = folder / self.name
        self.titles: dict[str, str] = {}
        self.indexes = {kind: self._new(factory) for kind in KINDS}
        if (self.folder / "titles.json").exists():
            self.titles = json.loads((self.folder / "titles.json").read_text("utf-8"))
            self.indexes = {kind: faiss.read_index(str(self._file(kind))) for kind in KINDS}

    def _new(self, factory: str) -> faiss.IndexIDMap2:
        return faiss.IndexIDMap2(faiss.index_factory(self.clip.dimensions, factory, faiss.METRIC_INNER_PRODUCT))

    def _file(self, kind: Kind) -> Path:
        return self.folder / f"{kind}.faiss"

    def add(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        self.titles |= {product.id: product.title for product in products}
        numbers = {name: number for number, name in enumerate(self.titles)}  # FAISS takes numbers alone
        ids = np.array([numbers[product.id] for product in products], np.int64)
        for kind, index in self.indexes.items():
            if not index.is_trained:
                index.train(vectors[kind])  # "SQ8" learns the range of each dimension from what comes first
            index.remove_ids(ids)  # else it would keep both
            index.add_with_ids(vectors[kind], ids)

    def nearest(self, query: Vectors, using: Kind, limit: int) -> list[Hit]:
        if not self.titles:
            return []  # FAISS refuses a limit of 0
        scores, numbers = self.indexes[using].search(query[None], min(limit, len(self.titles)))
        products = list(self.titles.items())
        return [Hit(*products[number], float(score)) for number, score in zip(numbers[0], scores[0], strict=True)]

    def close(self) -> None:
        """Writes the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for kind, index in self.indexes.items():
            faiss.write_index(index, str(self._file(kind)))
        (self.folder / "titles.json").write_text(json.dumps(self.titles, ensure_ascii=False), "utf-8")
