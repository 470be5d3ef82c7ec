"""PostgreSQL with the extension pgvector: one row a product with three vector columns and an index on each.

pip install jinaclip "psycopg[binary]" pgvector
"""

from __future__ import annotations

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql

from examples.stores.base import KINDS, Hit, Kind, Product, Store, Vectors
from jinaclip import JinaClip

CREATE = """
CREATE TABLE IF NOT EXISTS {table}
    (id text PRIMARY KEY, title text NOT NULL, text vector({d}), image vector({d}), fused vector({d}))
"""
INDEX = "CREATE INDEX IF NOT EXISTS {index} ON {table} USING hnsw ({kind} vector_cosine_ops)"
UPSERT = """
INSERT INTO {table} (id, title, text, image, fused) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE
    SET title = excluded.title, text = excluded.text, image = excluded.image, fused = excluded.fused
"""
NEAREST = """
SELECT id, title, 1 - ({kind} <=> %(query)s) FROM {table} ORDER BY {kind} <=> %(query)s LIMIT %(limit)s
"""
EF_SEARCH = 200
"""Candidates an index looks at; never fewer than the limit, or fewer rows come back than were asked for."""


class PgvectorStore(Store):
    """Args:
    clip: embeds, at up to 2,000 dimensions, which is what an index on the type `vector` takes.
    connection: `psycopg.connect("postgresql://...", autocommit=True)`.
    """

    def __init__(self, clip: JinaClip, connection: psycopg.Connection) -> None:
        super().__init__(clip)
        self.connection = connection
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(connection)
        connection.execute(f"SET hnsw.ef_search = {EF_SEARCH}")
        connection.execute(self._with_names(CREATE, d=sql.Literal(self.clip.dimensions)))
        for kind in KINDS:
            name = sql.Identifier(f"{self.name}_{kind}")
            connection.execute(self._with_names(INDEX, index=name, kind=sql.Identifier(kind)))

    def _with_names(self, statement: str, **names: sql.Composable) -> sql.Composed:
        return sql.SQL(statement).format(table=sql.Identifier(self.name), **names)

    def add(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        rows = [
            (product.id, product.title, *(vectors[kind][i] for kind in KINDS)) for i, product in enumerate(products)
        ]
        with self.connection.transaction(), self.connection.cursor() as cursor:
            cursor.executemany(self._with_names(UPSERT), rows)

    def nearest(self, query: Vectors, using: Kind, limit: int) -> list[Hit]:
        statement = self._with_names(NEAREST, kind=sql.Identifier(using))
        rows = self.connection.execute(statement, {"query": query, "limit": limit})
        return [Hit(*row) for row in rows]

    def close(self) -> None:
        self.connection.close()
