"""LanceDB: one row a product with three vector columns, in files on disk or in an object store.

pip install ./shared lancedb
"""

from __future__ import annotations

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.expr import col, lit
from lancedb.index import Bitmap, HnswSq, IvfFlat
from lancedb.query import LanceVectorQueryBuilder

from examples.stores.base import CANDIDATES, KINDS, Hit, Kind, Product, Store, Vectors, rescore
from jinaclip import JinaClip
from jinaclip.retrieval import quantize

FACTS = ("id", "title", "category")
REFINE = 5
"""How many times the limit is fetched by an index, to be ordered again by the full vectors."""


class LanceStore(Store):
    """Args:
    clip: embeds.
    database: `lancedb.connect("folder")`, or of an address such as "s3://bucket/folder".
    """

    def __init__(self, clip: JinaClip, database: lancedb.DBConnection) -> None:
        super().__init__(clip)
        self.table = database.create_table(self.name, schema=self._schema(), exist_ok=True)

    def _schema(self) -> pa.Schema:
        return pa.schema({**dict.fromkeys(FACTS, pa.string()), **dict.fromkeys(KINDS, self._vector_type())})

    def _vector_type(self) -> pa.DataType:
        return pa.list_(pa.float32(), self.clip.dimensions)

    def _rows(self, vectors: Vectors) -> np.ndarray:
        """What the table keeps of some vectors."""
        return vectors

    def write(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        facts = {fact: [getattr(product, fact) for product in products] for fact in FACTS}
        columns = {kind: list(self._rows(vectors[kind])) for kind in KINDS}
        rows = pa.table({**facts, **columns}, schema=self._schema())
        self.table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        search = self.table.search(query, vector_column_name=using).distance_type("cosine").refine_factor(REFINE)
        found = self._of_category(search, category).select(["id", "title", "_distance"]).limit(limit).to_list()
        return [Hit(row["id"], row["title"], 1 - row["_distance"]) for row in found]

    def _of_category(self, search: LanceVectorQueryBuilder, category: str | None) -> LanceVectorQueryBuilder:
        """The search among one category, before it, not among what it found."""
        return search if category is None else search.where(col("category") == lit(category))

    def build_indexes(self) -> None:
        """Searches go through indexes from here on, no longer exactly; for when reading every row takes too long."""
        for kind in KINDS:
            self.table.create_index(kind, config=self._index(), replace=True)
        self.table.create_index("category", config=Bitmap(), replace=True)

    def _index(self) -> HnswSq | IvfFlat:
        return HnswSq(distance_type="cosine")


class LanceBitStore(LanceStore):
    """Keeps a bit a number, compared by Hamming distance: a thirty-second of the space, and all that is read.

    Args:
        clip: embeds, at a multiple of 8 dimensions.
        database: `lancedb.connect("folder")`, or of an address such as "s3://bucket/folder".
    """

    @property
    def name(self) -> str:
        return f"{super().name}_bits"

    def _vector_type(self) -> pa.DataType:
        return pa.list_(pa.uint8(), self.clip.dimensions // 8)

    def _rows(self, vectors: Vectors) -> np.ndarray:
        return quantize(vectors, "ubinary")

    def _index(self) -> IvfFlat:
        return IvfFlat(distance_type="hamming")

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        search = self.table.search(self._rows(query), vector_column_name=using).distance_type("hamming")
        wanted = self._of_category(search, category).select(["id", "title", using, "_distance"])
        found = wanted.limit(limit * CANDIDATES).to_list()
        if not found:
            return []
        bits = np.array([row[using] for row in found], np.uint8)
        return rescore(query, [(row["id"], row["title"]) for row in found], bits, limit)
