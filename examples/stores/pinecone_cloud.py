"""Pinecone: a record has one vector, so each kind gets a namespace of one index.

pip install ./shared pinecone
"""

from __future__ import annotations

from pinecone import Pinecone, ServerlessSpec

from examples.stores.base import KINDS, Hit, Kind, Product, Store, Vectors
from jinaclip import JinaClip


class PineconeStore(Store):
    """Args:
    clip: embeds.
    client: `Pinecone()`, with the key in PINECONE_API_KEY; closed with the store.
    cloud, region: where an index is made if there is none.

    What was just written is found a few seconds later.
    """

    def __init__(self, clip: JinaClip, client: Pinecone, cloud: str = "aws", region: str = "us-east-1") -> None:
        super().__init__(clip)
        self.client = client
        name = self.name.replace("_", "-")  # Pinecone's names have no underscores
        if not client.has_index(name):
            spec = ServerlessSpec(cloud=cloud, region=region)
            client.create_index(name=name, dimension=clip.dimensions, metric="cosine", spec=spec)
        self.vectors = client.Index(host=client.describe_index(name).host)

    def write(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        for kind in KINDS:
            records = [
                {
                    "id": product.id,
                    "values": vectors[kind][i].tolist(),
                    "metadata": {"title": product.title, "category": product.category},
                }
                for i, product in enumerate(products)
            ]
            self.vectors.upsert(vectors=records, namespace=kind)

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        only = None if category is None else {"category": {"$eq": category}}
        found = self.vectors.query(
            vector=query.tolist(), top_k=limit, namespace=using, filter=only, include_metadata=True
        )
        return [Hit(match.id, match.metadata["title"], match.score) for match in found.matches]

    def close(self) -> None:
        self.vectors.close()
        self.client.close()
