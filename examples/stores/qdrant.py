"""Qdrant: one point a product with three named vectors, quantised if you like.

pip install ./shared qdrant-client
"""

from __future__ import annotations

from typing import Literal
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from qdrant_client import QdrantClient, models

from examples.stores.base import KINDS, Hit, Kind, Product, Store, Vectors
from jinaclip import JinaClip
from jinaclip.retrieval import quantize

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
                vector={kind: self._values(vectors[kind][i]) for kind in KINDS},
                payload={"id": product.id, "title": product.title, "category": product.category},
            )
            for i, product in enumerate(products)
        ]
        self.client.upsert(self.name, points, wait=True)

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        found = self.client.query_points(
            self.name,
            self._values(query),
            using=using,
            limit=limit,
            query_filter=None if category is None else of_category(category),
            search_params=self.search_params(),
            with_payload=True,
        )
        return [Hit(point.payload["id"], point.payload["title"], self._score(point.score)) for point in found.points]

    def _values(self, vector: Vectors) -> list[float]:
        """What is kept of a vector, and compared."""
        return vector.tolist()

    def _score(self, given: float) -> float:
        """The cosine."""
        return given

    def search_params(self) -> models.SearchParams | None:
        """Candidates from the quantised vectors, the order from the full ones."""
        if self.quantisation == "none":
            return None
        rescore = models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING[self.quantisation])
        return models.SearchParams(quantization=rescore)

    def close(self) -> None:
        self.client.close()


class QdrantByteStore(QdrantStore):
    """Keeps a byte a number, on disk too: no full vectors, so nothing is rescored.

    Qdrant compares the bytes themselves, so one range has to serve all dimensions, and the distance is Euclidean: then
    the order is that of cosines.

    Args:
        clip: embeds; its vectors must have length 1, as they do by default.
        client: as above.
        largest: the largest number in any vector, `calibration_ranges(some, symmetric=True).max()`; what is larger is
            clipped. The smaller, the finer the steps.
    """

    def __init__(self, clip: JinaClip, client: QdrantClient, largest: float) -> None:
        self.ranges = np.full((2, clip.dimensions), float(largest)) * [[-1], [1]]
        self.step = 2 * float(largest) / 255
        super().__init__(clip, client)

    @property
    def name(self) -> str:
        return f"{super().name}_bytes"

    def _params(self) -> models.VectorParams:
        return models.VectorParams(
            size=self.clip.dimensions, distance=models.Distance.EUCLID, datatype=models.Datatype.UINT8
        )

    def _values(self, vector: Vectors) -> list[float]:
        return quantize(vector, "uint8", self.ranges).tolist()

    def _score(self, given: float) -> float:
        return 1 - (given * self.step) ** 2 / 2  # of the distance between vectors of length 1


def of_category(category: str) -> models.Filter:
    """Products of one category."""
    return models.Filter(must=models.FieldCondition(key="category", match=models.MatchValue(value=category)))
