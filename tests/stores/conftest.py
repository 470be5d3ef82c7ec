"""A model, products, and each store ready to be opened on a database of the test's own."""

import contextlib
from pathlib import Path

import pytest

from examples.stores.base import KINDS
from jinaclip import JinaClip
from tests.stores.exact import ExactStore
from tests.stores.postgres import Postgres, find

# Rightly: a server rescores, local mode has nothing to rescore. test_qdrant.py looks at what a server is asked.
LOCAL = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")
STORES = (
    "qdrant",
    pytest.param("qdrant_int8", marks=LOCAL),
    pytest.param("qdrant_binary", marks=LOCAL),
    "chroma",
    "lance",
    "pgvector",
    "faiss",
    "faiss_sq8",
    "weaviate",
    "pinecone",
)
MANY = 300
"""Products where an index or small vectors are to be put to use; an index of LanceDB wants 256."""


@pytest.fixture(scope="session")
def catalogue_checkpoint():
    return str(Path(__file__).parents[2] / "examples" / "catalogue" / "checkpoint")


@pytest.fixture(scope="session")
def model(catalogue_checkpoint):
    with JinaClip(catalogue_checkpoint, backend="local", device="cpu") as clip:
        yield clip


@pytest.fixture(scope="session")
def many():
    from examples.stores.__main__ import catalogue

    return catalogue(MANY)


@pytest.fixture(scope="session")
def catalogue(many):
    return many[:60]


@pytest.fixture(scope="session")
def embedded(model, many):
    """The vectors of `many`: (n, d) of each kind."""
    import numpy as np

    store = ExactStore(model)
    store.index(many)
    return {kind: np.stack([store.rows[product.id, kind] for product in many]) for kind in KINDS}


@pytest.fixture(scope="session")
def exact(model, many, embedded):
    store = ExactStore(model)
    store.add(many, embedded)
    return store


@pytest.fixture(params=STORES)
def opened(request):
    """Opens a store for a JinaClip; the database is one for all that a test opens."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def qdrant(tmp_path):
    return qdrant_of(tmp_path, "none")


@pytest.fixture
def qdrant_int8(tmp_path):
    return qdrant_of(tmp_path, "int8")


@pytest.fixture
def qdrant_binary(tmp_path):
    return qdrant_of(tmp_path, "binary")


def qdrant_of(folder, quantisation):
    qdrant_client = pytest.importorskip("qdrant_client")
    from examples.stores.qdrant import QdrantStore

    return lambda clip: QdrantStore(clip, qdrant_client.QdrantClient(path=str(folder)), quantisation)


@pytest.fixture
def chroma(tmp_path):
    chromadb = pytest.importorskip("chromadb")
    from examples.stores.chroma import ChromaStore

    client = chromadb.PersistentClient(str(tmp_path), chromadb.Settings(anonymized_telemetry=False))
    return lambda clip: ChromaStore(clip, client)


@pytest.fixture
def lance(tmp_path):
    lancedb = pytest.importorskip("lancedb")
    from examples.stores.lance import LanceStore

    return lambda clip: LanceStore(clip, lancedb.connect(tmp_path))


@pytest.fixture(scope="session")
def postgres():
    for module in ("psycopg", "pgvector"):
        pytest.importorskip(module)
    try:
        find()
    except LookupError as missing:
        pytest.skip(str(missing))
    with Postgres() as running:
        yield running


@pytest.fixture
def pgvector(postgres):
    import psycopg

    from examples.stores.pgvector import PgvectorStore

    url = postgres.database()
    with contextlib.ExitStack() as connections:
        yield lambda clip: PgvectorStore(clip, connections.enter_context(psycopg.connect(url, autocommit=True)))


@pytest.fixture
def faiss(tmp_path):
    return faiss_of(tmp_path, "Flat")


@pytest.fixture
def faiss_sq8(tmp_path):
    return faiss_of(tmp_path, "SQ8")


def faiss_of(folder, factory):
    pytest.importorskip("faiss")
    from examples.stores.faiss_files import FaissStore

    return lambda clip: FaissStore(clip, folder, factory)


@pytest.fixture
def weaviate_service():
    pytest.importorskip("weaviate")
    from tests.stores.weaviate_service import WeaviateService

    with WeaviateService() as running:
        yield running


@pytest.fixture
def weaviate(weaviate_service):
    from weaviate import connect_to_local

    from examples.stores.weaviate_cloud import WeaviateStore

    def connect():
        # Its checks at the start would ask a package index for the newest version.
        return connect_to_local("127.0.0.1", weaviate_service.port, weaviate_service.grpc_port, skip_init_checks=True)

    return lambda clip: WeaviateStore(clip, connect())


@pytest.fixture
def pinecone_service():
    pytest.importorskip("pinecone")
    from tests.stores.pinecone_service import PineconeService

    with PineconeService() as running:
        yield running


@pytest.fixture
def pinecone(pinecone_service):
    from pinecone import Pinecone

    from examples.stores.pinecone_cloud import PineconeStore

    return lambda clip: PineconeStore(clip, Pinecone(api_key="pc-test", host=pinecone_service.url))
