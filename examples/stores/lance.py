"""LanceDB: one row a product with three vector columns, in files on disk or in an object store.

pip install jinaclip lancedb
"""

from __future__ import annotations

import lancedb
import pyarrow as pa
from lancedb.expr import col, lit
from lancedb.index import Bitmap, HnswSq

from examples.stores.base import KINDS, Hit, Kind, Product, Store, Vectors
from jinaclip import JinaClip

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
        vector = pa.list_(pa.float32(), self.clip.dimensions)
        return pa.schema({**dict.fromkeys(FACTS, pa.string()), **dict.fromkeys(KINDS, vector)})

    def write(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        facts = {fact: [getattr(product, fact) for product in products] for fact in FACTS}
        rows = pa.table({**facts, **{kind: list(vectors[kind]) for kind in KINDS}}, schema=self._schema())
        self.table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(rows)

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        search = self.table.search(query, vector_column_name=using).distance_type("cosine").refine_factor(REFINE)
        if category is not None:
            search = search.where(col("category") == lit(category))  # before the search, not among what it found
        found = search.select(["id", "title", "_distance"]).limit(limit).to_list()
        return [Hit(row["id"], row["title"], 1 - row["_distance"]) for row in found]

    def build_indexes(self) -> None:
        """Searches go through indexes from here on, no longer exactly; for when reading every row takes too long."""
        for kind in KINDS:
            self.table.create_index(kind, config=HnswSq(distance_type="cosine"), replace=True)
        self.table.create_index("category", config=Bitmap(), replace=True)
