"""Qdrant: one point a product with three named vectors, quantised if you like.

pip install jinaclip qdrant-client
"""

from __future__ import annotations

from typing import Literal
from uuid import NAMESPACE_URL, uuid5

from qdrant_client import QdrantClient, models

from examples.stores.base import KINDS, Hit, Kind, Product, Store, Vectors
from jinaclip import JinaClip

Quantisation = Literal["none", "int8", "binary"]
QUANTISED = {
    "none": None,
    "int8": models.ScalarQuantization(
        scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
    ),
    "binary": models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True)),
}
OVERSAMPLING = {"int8": 2.0, "binary": 4.0}
"""How many times the limit is fetched by the small vectors, to be ordered again by the full ones."""


class QdrantStore(Store):
    """Args:
    clip: embeds.
    client: `QdrantClient("http://localhost:6333")` for a server, `QdrantClient(path="folder")` or
        `QdrantClient(":memory:")` for local mode, which searches exactly and takes no notice of quantisation.
    quantisation: "int8" keeps a quarter of the bytes in memory, "binary" a thirty-second; full vectors go to disk
        and order the candidates again. Settled when the collection is made.
    """

    def __init__(self, clip: JinaClip, client: QdrantClient, quantisation: Quantisation = "none") -> None:
        super().__init__(clip)
        self.client, self.quantisation = client, quantisation
        if not client.collection_exists(self.name):
            client.create_collection(self.name, vectors_config=dict.fromkeys(KINDS, self._params()))
            # Without it a server reads every payload to filter, or refuses to. Local mode warns that it has none.
            client.create_payload_index(self.name, "category", models.PayloadSchemaType.KEYWORD)

    def _params(self) -> models.VectorParams:
        return models.VectorParams(
            size=self.clip.dimensions,
            distance=models.Distance.COSINE,
            on_disk=self.quantisation != "none",
            quantization_config=QUANTISED[self.quantisation],
        )

    def write(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        points = [
            models.PointStruct(
                id=str(uuid5(NAMESPACE_URL, product.id)),  # Qdrant takes numbers and UUIDs; the same one each time
                vector={kind: vectors[kind][i].tolist() for kind in KINDS},
                payload={"id": product.id, "title": product.title, "category": product.category},
            )
            for i, product in enumerate(products)
        ]
        self.client.upsert(self.name, points, wait=True)

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        found = self.client.query_points(
            self.name,
            query.tolist(),
            using=using,
            limit=limit,
            query_filter=None if category is None else of_category(category),
            search_params=self.search_params(),
            with_payload=True,
        )
        return [Hit(point.payload["id"], point.payload["title"], point.score) for point in found.points]

    def search_params(self) -> models.SearchParams | None:
        """Candidates from the quantised vectors, the order from the full ones."""
        if self.quantisation == "none":
            return None
        rescore = models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING[self.quantisation])
        return models.SearchParams(quantization=rescore)

    def close(self) -> None:
        self.client.close()


def of_category(category: str) -> models.Filter:
    """Products of one category."""
    return models.Filter(must=models.FieldCondition(key="category", match=models.MatchValue(value=category)))
