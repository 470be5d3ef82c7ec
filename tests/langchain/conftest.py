"""The catalogue, our embeddings over both backends, and the stores they fill; all within this machine."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from pytest_socket import socket_allow_hosts

from jinaclip import ImagePolicy
from jinaclip.testing.process import Server
from langchain_jinaclip import JinaClipEmbeddings
from tests.articles import Article
from tests.needs import long

DIMENSIONS = 128
KEYS = (f"jina_test_langchain_{number}" for number in itertools.count())

Make = Callable[..., JinaClipEmbeddings]


@pytest.fixture(autouse=True)
def _no_internet(socket_enabled: None) -> None:
    """A library that wants to report home, or to download a model, fails the test; the plugin lifts this after it."""
    socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.fixture(scope="session")
def both(catalogue_checkpoint: str, catalogue: list[Article], modelled: Server) -> dict[str, JinaClipEmbeddings]:
    """The same model over both backends. Pictures go as they are, so that both see the same pixels."""
    same = {"image_resize": "none", "image_policy": ImagePolicy(allowed_roots=(catalogue[0].picture.parent,))}
    return {
        "local": JinaClipEmbeddings(model=catalogue_checkpoint, backend="local", device="cpu", **same),
        "api": JinaClipEmbeddings(
            api_key=next(KEYS), base_url=modelled.url, dimensions=DIMENSIONS, timeout=600, **same
        ),
    }


@pytest.fixture(params=["local", "api"])
def embeddings(request: pytest.FixtureRequest, both: dict[str, JinaClipEmbeddings]) -> JinaClipEmbeddings:
    return both[request.param]


@pytest.fixture
def make(server: Server) -> Make:
    """Makes embeddings over the fault server, whose vectors stand for their inputs, with a key of the test's own."""
    key = next(KEYS)
    return lambda **options: JinaClipEmbeddings(**{"api_key": key, "base_url": server.url, **options})


@pytest.fixture(params=["memory", "qdrant", "chroma"])
def kind(request: pytest.FixtureRequest) -> str:
    """Of a vector store."""
    return request.param


def combinations() -> list[Any]:
    """Every kind of store with every backend, for tests over both: between those that are not long, all are met."""
    met = [("memory", "local"), ("qdrant", "api"), ("chroma", "local")]
    return [*met, long("memory", "api"), long("qdrant", "local"), long("chroma", "api")]


over_stores_and_backends = pytest.mark.parametrize(("kind", "embeddings"), combinations(), indirect=True)


@pytest.fixture
def new_store(kind: str) -> Iterator[Callable[[JinaClipEmbeddings], VectorStore]]:
    """Opens an empty store of this kind."""
    closing: list[Any] = []

    def make(embeddings: Any, dimensions: int = DIMENSIONS) -> VectorStore:
        if kind == "memory":
            return InMemoryVectorStore(embeddings)
        return (new_qdrant if kind == "qdrant" else new_chroma)(embeddings, dimensions, closing)

    yield make
    for one in closing:
        one.close()


def new_qdrant(embeddings: Any, dimensions: int, closing: list[Any]) -> VectorStore:
    from langchain_qdrant import QdrantVectorStore
    from qdrant_client import QdrantClient
    from qdrant_client.models import Distance, VectorParams

    client = QdrantClient(":memory:")
    closing.append(client)
    client.create_collection("shop", VectorParams(size=dimensions, distance=Distance.COSINE))
    return QdrantVectorStore(client, "shop", embeddings, validate_collection_config=False)


def new_chroma(embeddings: Any, dimensions: int, closing: list[Any]) -> VectorStore:
    from chromadb import EphemeralClient
    from chromadb.config import Settings
    from langchain_chroma import Chroma

    client = EphemeralClient(Settings(anonymized_telemetry=False))
    return Chroma(
        f"shop-{uuid.uuid4()}",
        embeddings,
        client=client,
        collection_metadata={"hnsw:space": "cosine"},
    )


def put(store: VectorStore, ids: list[str], vectors: list[list[float]], texts: list[str], metadatas: list[Any]) -> None:
    """Adds vectors that are there already, the way each store has for it; as the package's README shows it."""
    rows = list(zip(ids, vectors, texts, metadatas, strict=True))
    if isinstance(store, InMemoryVectorStore):
        for id_, vector, text, metadata in rows:
            store.store[id_] = {"id": id_, "vector": vector, "text": text, "metadata": metadata}
    elif type(store).__name__ == "Chroma":
        store._chroma_collection.upsert(ids, vectors, metadatas, texts)
    else:
        from qdrant_client.models import PointStruct

        points = [
            PointStruct(
                id=str(uuid.uuid5(uuid.NAMESPACE_OID, id_)),
                vector=vector,
                payload={"page_content": text, "metadata": metadata},
            )
            for id_, vector, text, metadata in rows
        ]
        store.client.upsert(store.collection_name, points)
