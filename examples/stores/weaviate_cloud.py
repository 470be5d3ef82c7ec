"""Weaviate: one object a product with three named vectors that we provide.

pip install ./shared weaviate-client
"""

from __future__ import annotations

from weaviate import WeaviateClient
from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.classes.query import Filter, MetadataQuery
from weaviate.util import generate_uuid5

from examples.stores.base import KINDS, Hit, Kind, Product, Store, Vectors
from jinaclip import JinaClip


class WeaviateStore(Store):
    """Args:
    clip: embeds.
    client: connected: `weaviate.connect_to_local()`, `connect_to_weaviate_cloud(...)` or `connect_to_custom(...)`.
    """

    def __init__(self, clip: JinaClip, client: WeaviateClient) -> None:
        super().__init__(clip)
        self.client = client
        name = self.name.capitalize()  # Weaviate's names begin with a capital letter
        if not client.collections.exists(name):
            graph = Configure.VectorIndex.hnsw(distance_metric=VectorDistances.COSINE)
            client.collections.create(
                name,
                properties=[
                    # Whole values: split into words, as by default, "shirt" would also be equal to "red shirt".
                    Property(name=key, data_type=DataType.TEXT, tokenization=Tokenization.FIELD)
                    for key in ("product_id", "title", "category")
                ],
                vector_config=[Configure.Vectors.self_provided(name=kind, vector_index_config=graph) for kind in KINDS],
            )
        self.collection = client.collections.use(name)

    def write(self, products: list[Product], vectors: dict[Kind, Vectors]) -> None:
        objects = [
            DataObject(
                uuid=generate_uuid5(product.id),  # the same one each time, so that a product is replaced
                properties={"product_id": product.id, "title": product.title, "category": product.category},
                vector={kind: vectors[kind][i].tolist() for kind in KINDS},
            )
            for i, product in enumerate(products)
        ]
        done = self.collection.data.insert_many(objects)
        if done.has_errors:  # the call itself succeeds
            first = min(done.errors)
            raise RuntimeError(f"{products[first].id} was not stored: {done.errors[first].message}")

    def nearest(self, query: Vectors, using: Kind, limit: int, category: str | None = None) -> list[Hit]:
        found = self.collection.query.near_vector(
            query.tolist(),
            target_vector=using,
            limit=limit,
            filters=None if category is None else Filter.by_property("category").equal(category),
            return_metadata=MetadataQuery(distance=True),
        )
        rows = ((row.properties, row.metadata.distance) for row in found.objects)
        return [Hit(facts["product_id"], facts["title"], 1 - distance) for facts, distance in rows]

    def close(self) -> None:
        self.client.close()
