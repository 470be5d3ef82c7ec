"""Chroma: a record has one vector, so each kind gets a collection.

pip install ./shared chromadb
"""

from __future__ import annotations

from chromadb.api import ClientAPI

from examples.stores.base import KINDS, Hit, Kind, Product, Store, Vectors
from jinaclip import JinaClip

HNSW = {"space": "cosine", "ef_construction": 200, "ef_search": 200}
"""The defaults are squared Euclidean distance and 100; a higher ef finds more and takes longer."""


class ChromaStore(Store):
    """Args:
    clip: embeds.
    client: `chromadb.PersistentClient("folder")`, `EphemeralClient()` or `HttpClient(...)`; closed with the store.
    """

    def __init__(self, clip: JinaClip, client: ClientAPI) -> None:
        super().__init__(clip)
        self.client = client
        self.collections = {
            # Without a function of its own, Chroma would embed what has no vector with its default text model.
            kind: client.get_or_create_collection(
                f"{self.name}_{kind}", embedding_function=None, configuration={"hnsw": HNSW}
            )
            for kind in KINDS
        }

    def write(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        ids = [product.id for product in products]
        facts = [{"title": product.title, "category": product.category} for product in products]
        for kind, collection in self.collections.items():
            collection.upsert(ids, embeddings=vectors[kind], metadatas=facts)

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        only = None if category is None else {"category": category}
        found = self.collections[using].query(query, n_results=limit, where=only, include=["metadatas", "distances"])
        rows = zip(found["ids"][0], found["metadatas"][0], found["distances"][0], strict=True)
        return [Hit(name, facts["title"], 1 - distance) for name, facts, distance in rows]

    def close(self) -> None:
        self.client.close()
