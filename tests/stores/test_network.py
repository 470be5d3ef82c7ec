"""The same contract against the real services: `pytest -m network tests/stores`, with addresses and keys as below.

QDRANT_URL; WEAVIATE_URL and WEAVIATE_API_KEY; PINECONE_API_KEY. What is made there is deleted again.
"""

import os
import time

import pytest

from examples.stores.__main__ import pinecone, weaviate
from tests.stores.exact import ExactStore, assert_same
from tests.stores.test_contract import searches

pytestmark = pytest.mark.network


@pytest.fixture
def setting():
    def read(name):
        return os.environ.get(name) or pytest.skip(f"{name} is not set")

    return read


@pytest.fixture
def qdrant_server(model, setting):
    from qdrant_client import QdrantClient

    from examples.stores.qdrant import QdrantStore

    with QdrantStore(model, QdrantClient(setting("QDRANT_URL"), api_key=os.environ.get("QDRANT_API_KEY"))) as store:
        yield store
        store.client.delete_collection(store.name)


@pytest.fixture
def weaviate_cloud(model, setting, tmp_path):
    setting("WEAVIATE_URL"), setting("WEAVIATE_API_KEY")
    with weaviate(model, tmp_path) as store:
        yield store
        store.client.collections.delete(store.collection.name)


@pytest.fixture
def pinecone_cloud(model, setting, tmp_path):
    setting("PINECONE_API_KEY")
    with pinecone(model, tmp_path) as store:
        yield store
        store.client.delete_index(store.name.replace("_", "-"))


@pytest.mark.parametrize("store", ["qdrant_server", "weaviate_cloud", "pinecone_cloud"])
def test_a_real_service_finds_the_same_ten_as_exact_search(store, request, model, catalogue):
    store, exact = request.getfixturevalue(store), ExactStore(model)
    for one in (store, exact):
        one.index(catalogue)
    until = time.monotonic() + 60
    while len(store.by_text("dress", limit=100)) < len(catalogue) and time.monotonic() < until:
        time.sleep(1)  # Pinecone finds what was written a few seconds later
    for some, everything in zip(searches(store, 10), searches(exact, len(catalogue)), strict=True):
        assert_same(some, everything)
