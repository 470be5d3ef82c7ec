"""PostgreSQL with the extension pgvector, 0.8 or newer: one row a product, three vector columns, an index on each.

pip install jinaclip "psycopg[binary]" pgvector
"""

from __future__ import annotations

from typing import Literal

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql

from examples.stores.base import KINDS, Hit, Kind, Product, Store, Vectors
from jinaclip import JinaClip

CREATE = """
CREATE TABLE IF NOT EXISTS {table}
    (id text PRIMARY KEY, title text, category text, text {column}({d}), image {column}({d}), fused {column}({d}))
"""
INDEX = "CREATE INDEX IF NOT EXISTS {index} ON {table} USING hnsw ({kind} {column}_cosine_ops)"
UPSERT = """
INSERT INTO {table} (id, title, category, text, image, fused) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET title = excluded.title, category = excluded.category,
    text = excluded.text, image = excluded.image, fused = excluded.fused
"""
NEAREST = """
SELECT id, title, 1 - ({kind} <=> %(query)s::{column}) FROM {table} {where}
ORDER BY {kind} <=> %(query)s::{column} LIMIT %(limit)s
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
            connection.execute(self._with_names(INDEX, index=name, kind=sql.Identifier(kind)))

    def _with_names(self, statement: str, **names: sql.Composable) -> sql.Composed:
        return sql.SQL(statement).format(table=sql.Identifier(self.name), column=sql.SQL(self.column), **names)

    def write(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        rows = [
            (product.id, product.title, product.category, *(vectors[kind][i] for kind in KINDS))
            for i, product in enumerate(products)
        ]
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(self._with_names(UPSERT), rows)

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        where = sql.SQL("") if category is None else OF_CATEGORY
        statement = self._with_names(NEAREST, kind=sql.Identifier(using), where=where)
        rows = self.connection.execute(statement, {"query": query, "limit": limit, "category": category})
        return [Hit(*row) for row in rows]

    def close(self) -> None:
        self.connection.close()
