"""What the clients of Weaviate and Pinecone send for the examples, read at the other end of their sockets."""

import numpy as np
import pytest

from examples.stores.__main__ import TEXT
from examples.stores.base import KINDS

# -- Pinecone


def test_pinecone_gets_one_index_made_once(pinecone, pinecone_service, model):
    for _ in range(2):
        pinecone(model).close()
    (create,) = [asked for asked in pinecone_service.asked if asked.method == "POST"]
    (field,) = create.body["schema"]["fields"].values()
    assert create.body["name"] == f"products-{model.space}".replace("_", "-")
    assert (field["type"], field["dimension"], field["metric"]) == ("dense_vector", model.dimensions, "cosine")
    assert create.body["deployment"] == {"deployment_type": "managed", "cloud": "aws", "region": "us-east-1"}


def test_pinecone_gets_a_namespace_for_each_kind(pinecone, pinecone_service, model, catalogue, embedded):
    with pinecone(model) as store:
        store.index(catalogue[:2])
    upserts = [asked.body for asked in pinecone_service.asked if asked.path == "/vectors/upsert"]
    assert [body["namespace"] for body in upserts] == list(KINDS)
    for body in upserts:
        rows = [record.pop("values") for record in body["vectors"]]
        np.testing.assert_allclose(rows, embedded[body["namespace"]][:2], atol=1e-6)
        assert body["vectors"] == [
            {"id": one.id, "metadata": {"title": one.title, "category": one.category}} for one in catalogue[:2]
        ]


def test_pinecone_is_asked_in_the_namespace_of_the_kind(pinecone, pinecone_service, model):
    with pinecone(model) as store:
        store.by_text(TEXT, using="image", limit=7, category="skirt")
    asked = pinecone_service.asked[-1]
    assert asked.headers["api-key"] == "pc-test"
    np.testing.assert_allclose(asked.body.pop("vector"), model.embed_query(TEXT), atol=1e-6)
    assert (asked.method, asked.path) == ("POST", "/query")
    assert asked.body.pop("filter") == {"category": {"$eq": "skirt"}}
    assert asked.body == {"namespace": "image", "topK": 7, "includeMetadata": True, "includeValues": False}


def test_a_batch_that_pinecone_refuses_raises(pinecone, pinecone_service, model, catalogue):
    from pinecone.exceptions import PineconeException

    with pinecone(model) as store:
        pinecone_service.refusing = True
        with pytest.raises(PineconeException):
            store.index(catalogue[:2])


# -- Weaviate


def test_weaviate_gets_one_collection_with_three_vectors_of_our_own(weaviate, weaviate_service, model):
    for _ in range(2):
        weaviate(model).close()
    (create,) = [asked for asked in weaviate_service.asked if asked.method == "POST"]
    assert (create.path, create.body["class"]) == ("/v1/schema", f"Products_{model.space}")
    assert create.body["vectorConfig"].keys() == set(KINDS)
    for settings in create.body["vectorConfig"].values():
        assert settings["vectorizer"].keys() == {"none"}
        assert settings["vectorIndexType"] == "hnsw"
        assert settings["vectorIndexConfig"]["distance"] == "cosine"
    assert [(one["name"], one["dataType"], one["tokenization"]) for one in create.body["properties"]] == [
        (name, ["text"], "field") for name in ("product_id", "title", "category")
    ]


def test_weaviate_gets_objects_with_three_vectors_and_ids_that_stay(
    weaviate, weaviate_service, model, catalogue, embedded
):
    with weaviate(model) as store:
        store.index(catalogue[:2])
        store.index(catalogue[:2])
    once, again = weaviate_service.batches
    assert [thing.uuid for thing in once.objects] == [thing.uuid for thing in again.objects]
    for place, thing in enumerate(once.objects):
        fields = thing.properties.non_ref_properties
        product = catalogue[place]
        assert dict(fields) == {"product_id": product.id, "title": product.title, "category": product.category}
        rows = {one.name: np.frombuffer(one.vector_bytes, np.float32) for one in thing.vectors}
        assert rows.keys() == set(KINDS)
        for kind, row in rows.items():
            np.testing.assert_allclose(row, embedded[kind][place], atol=1e-6)


def test_weaviate_is_asked_in_the_vectors_of_the_kind(weaviate, weaviate_service, model):
    with weaviate(model) as store:
        store.by_text(TEXT, using="image", limit=7, category="skirt")
    (search,) = weaviate_service.searches
    (vectors,) = search.near_vector.vectors
    assert (search.collection, search.limit) == (f"Products_{model.space}", 7)
    assert list(search.near_vector.targets.target_vectors) == ["image"]
    assert search.metadata.distance
    assert (search.filters.target.property, search.filters.value_text) == ("category", "skirt")
    np.testing.assert_allclose(np.frombuffer(vectors.vector_bytes, np.float32), model.embed_query(TEXT), atol=1e-6)


def test_an_object_that_weaviate_refuses_is_named(weaviate, weaviate_service, model, catalogue):
    """Weaviate answers such a batch with success."""
    with weaviate(model) as store:
        weaviate_service.refused = {1: "vector lengths don't match"}
        with pytest.raises(RuntimeError, match=f"{catalogue[1].id} was not stored: vector lengths don't match"):
            store.index(catalogue[:3])
