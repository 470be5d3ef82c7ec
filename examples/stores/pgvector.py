"""PostgreSQL with the extension pgvector, 0.8 or newer: one row a product, three vector columns, an index on each.

pip install ./shared "psycopg[binary]" pgvector
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import psycopg
from pgvector import Bit
from pgvector.psycopg import register_vector
from psycopg import sql

from examples.stores.base import CANDIDATES, KINDS, Hit, Kind, Product, Store, Vectors, rescore
from jinaclip import JinaClip
from jinaclip.retrieval import quantize

CREATE = """
CREATE TABLE IF NOT EXISTS {table}
    (id text PRIMARY KEY, title text, category text, text {column}({d}), image {column}({d}), fused {column}({d}))
"""
INDEX = "CREATE INDEX IF NOT EXISTS {index} ON {table} USING hnsw ({kind} {operators})"
UPSERT = """
INSERT INTO {table} (id, title, category, text, image, fused) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET title = excluded.title, category = excluded.category,
    text = excluded.text, image = excluded.image, fused = excluded.fused
"""
NEAREST = """
SELECT id, title, 1 - ({kind} <=> %(query)s::{column}) FROM {table} {where}
ORDER BY {kind} <=> %(query)s::{column} LIMIT %(limit)s
"""
NEAREST_BITS = """
SELECT id, title, {kind} FROM {table} {where} ORDER BY {kind} <~> %(query)s LIMIT %(limit)s
"""
OF_CATEGORY = sql.SQL("WHERE category = %(category)s")
EF_SEARCH = 200
"""Candidates an index looks at before it answers; the default of 40 takes less time and finds less."""


class PgvectorStore(Store):
    """Args:
    clip: embeds, at up to 2,000 dimensions, which is what an index on the type "vector" takes.
    connection: `psycopg.connect("postgresql://...", autocommit=True)`; closed with the store.
    column: "vector" keeps four bytes a number, "halfvec" two. Settled when the table is made.
    """

    def __init__(
        self, clip: JinaClip, connection: psycopg.Connection, column: Literal["vector", "halfvec"] = "vector"
    ) -> None:
        super().__init__(clip)
        self.connection, self.column = connection, column
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(connection)
        connection.execute(f"SET hnsw.ef_search = {EF_SEARCH}")
        connection.execute("SET hnsw.iterative_scan = strict_order")  # looks on where those were too few
        connection.execute(self._with_names(CREATE, d=sql.Literal(self.clip.dimensions)))
        for kind in KINDS:
            name = sql.Identifier(f"{self.name}_{kind}")
            statement = self._with_names(
                INDEX, index=name, kind=sql.Identifier(kind), operators=sql.SQL(self.operators)
            )
            connection.execute(statement)

    @property
    def operators(self) -> str:
        """What the indexes compare by."""
        return f"{self.column}_cosine_ops"

    def _with_names(self, statement: str, **names: sql.Composable) -> sql.Composed:
        return sql.SQL(statement).format(table=sql.Identifier(self.name), column=sql.SQL(self.column), **names)

    def write(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        rows = [
            (product.id, product.title, product.category, *(self._value(vectors[kind][i]) for kind in KINDS))
            for i, product in enumerate(products)
        ]
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(self._with_names(UPSERT), rows)

    def _value(self, vector: Vectors) -> Vectors | Bit:
        """What a column keeps of a vector."""
        return vector

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        where = self._where(category)
        statement = self._with_names(NEAREST, kind=sql.Identifier(using), where=where)
        rows = self.connection.execute(statement, {"query": query, "limit": limit, "category": category})
        return [Hit(*row) for row in rows]

    def _where(self, category: str | None) -> sql.SQL:
        return sql.SQL("") if category is None else OF_CATEGORY

    def close(self) -> None:
        self.connection.close()


class PgvectorBitStore(PgvectorStore):
    """Keeps a bit a number in columns of the type bit: a thirty-second of the space, and all that is compared.

    Args:
        clip: embeds, at a multiple of 8 dimensions.
        connection: `psycopg.connect("postgresql://...", autocommit=True)`; closed with the store.
    """

    operators = "bit_hamming_ops"

    def __init__(self, clip: JinaClip, connection: psycopg.Connection) -> None:
        super().__init__(clip, connection, "bit")

    @property
    def name(self) -> str:
        return f"{super().name}_bits"

    def _value(self, vector: Vectors) -> Bit:
        return Bit(quantize(vector, "ubinary").tobytes())

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        statement = self._with_names(NEAREST_BITS, kind=sql.Identifier(using), where=self._where(category))
        values = {"query": self._value(query), "limit": limit * CANDIDATES, "category": category}
        found = self.connection.execute(statement, values).fetchall()
        if not found:
            return []
        bits = np.stack([np.packbits(Bit(row[2]).to_numpy()) for row in found])
        return rescore(query, [row[:2] for row in found], bits, limit)
