"""FAISS: no database, three indexes in memory and four files in a folder.

pip install ./shared faiss-cpu
"""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np

from examples.stores.base import CANDIDATES, KINDS, Hit, Kind, Product, Store, Vectors, rescore
from jinaclip import JinaClip
from jinaclip.retrieval import quantize


class FaissStore(Store):
    """Args:
    clip: embeds; its vectors must have length 1, as they do by default, for inner products to be cosines.
    folder: where `close` writes, and what is read from there again.
    factory: kind of index: "Flat" is exact, "SQfp16" keeps two bytes a number, "SQ8" one. They can replace products;
        graphs ("HNSW32") and indexes that want training on many vectors ("IVF...") cannot, and need another `add`.
    """

    def __init__(self, clip: JinaClip, folder: Path, factory: str = "Flat") -> None:
        super().__init__(clip)
        self.folder = folder / self.name
        self.facts: dict[str, tuple[str, str]] = {}  # of each id: title and category
        self.indexes = {kind: self._new(factory) for kind in KINDS}
        if (self.folder / "products.json").exists():
            self.facts = json.loads((self.folder / "products.json").read_text("utf-8"))
            self.indexes = {kind: self._read(str(self._file(kind))) for kind in KINDS}

    def _new(self, factory: str) -> faiss.IndexIDMap2:
        return faiss.IndexIDMap2(faiss.index_factory(self.clip.dimensions, factory, faiss.METRIC_INNER_PRODUCT))

    def _read(self, file: str) -> faiss.IndexIDMap2:
        return faiss.read_index(file)

    def _file(self, kind: Kind) -> Path:
        return self.folder / f"{kind}.faiss"

    def write(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        self.facts |= {product.id: (product.title, product.category) for product in products}
        numbers = {name: number for number, name in enumerate(self.facts)}  # FAISS takes numbers alone
        ids = np.array([numbers[product.id] for product in products], np.int64)
        for kind, index in self.indexes.items():
            if not index.is_trained:
                index.train(vectors[kind])  # "SQ8" learns the range of each dimension from what comes first
            index.remove_ids(ids)  # else it would keep both
            index.add_with_ids(self._rows(vectors[kind]), ids)

    def _rows(self, vectors: Vectors) -> np.ndarray:
        """What the index keeps of some vectors."""
        return vectors

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        scores, numbers = self._search(query[None], using, limit, category)
        products = [(name, title) for name, (title, _) in self.facts.items()]
        return [Hit(*products[number], float(score)) for number, score in zip(numbers, scores, strict=True)]

    def _search(self, rows: np.ndarray, using: Kind, limit: int, category: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Scores and numbers of the products nearest to the one row."""
        of_category = [i for i, (_, its) in enumerate(self.facts.values()) if category in (None, its)]
        if not of_category:
            return np.empty(0), np.empty(0, np.int64)  # FAISS refuses a limit of 0
        only = None if category is None else faiss.SearchParameters(sel=faiss.IDSelectorBatch(of_category))
        scores, numbers = self.indexes[using].search(rows, min(limit, len(of_category)), params=only)
        return scores[0], numbers[0]

    def close(self) -> None:
        """Writes the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for kind, index in self.indexes.items():
            self._save(index, str(self._file(kind)))
        (self.folder / "products.json").write_text(json.dumps(self.facts, ensure_ascii=False), "utf-8")

    def _save(self, index: faiss.IndexIDMap2, file: str) -> None:
        faiss.write_index(index, file)


class FaissBitStore(FaissStore):
    """Keeps a bit a number: a thirty-second of the memory, and all that is compared.

    Args:
        clip: embeds, at a multiple of 8 dimensions.
        folder: where `close` writes, and what is read from there again.
        factory: kind of binary index: "BFlat" compares with all.
    """

    def __init__(self, clip: JinaClip, folder: Path, factory: str = "BFlat") -> None:
        super().__init__(clip, folder, factory)

    @property
    def name(self) -> str:
        return f"{super().name}_bits"

    def _new(self, factory: str) -> faiss.IndexBinaryIDMap2:
        return faiss.IndexBinaryIDMap2(faiss.index_binary_factory(self.clip.dimensions, factory))

    def _read(self, file: str) -> faiss.IndexBinaryIDMap2:
        return faiss.read_index_binary(file)

    def _save(self, index: faiss.IndexBinaryIDMap2, file: str) -> None:
        faiss.write_index_binary(index, file)

    def _rows(self, vectors: Vectors) -> np.ndarray:
        return quantize(vectors, "ubinary")

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        _, numbers = self._search(self._rows(query[None]), using, limit * CANDIDATES, category)
        if not len(numbers):
            return []
        bits = np.stack([self.indexes[using].reconstruct(int(number)) for number in numbers])
        products = [(name, title) for name, (title, _) in self.facts.items()]
        return rescore(query, [products[number] for number in numbers], bits, limit)
