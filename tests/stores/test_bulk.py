"""What `jinaclip embed` wrote goes into each store by the lines that docs/stores.md prints, twice over."""

import re
from dataclasses import replace

import numpy as np
import pytest

from jinaclip.bulk.output import Output
from tests.bulk.rows import SHAPE as NARROW
from tests.bulk.rows import add, items, vector
from tests.stores.clients import client
from tests.stores.conftest import LOCAL
from tests.stores.page import ROOT, SECTIONS

CODE = dict(re.findall(r"```python (\w+)\n(.*?)```", SECTIONS["From `jinaclip embed`"], re.DOTALL))
SHAPE = replace(NARROW, dimensions=1024)
SOURCE = {f"img/{i}.jpg": f"picture {i}" for i in range(30)} | {"broken.jpg": "bad picture"}
SOUND = [name for name, content in SOURCE.items() if not content.startswith("bad")]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where `vectors` lies, of images and of texts with the same ids, and an image that failed."""
    monkeypatch.chdir(tmp_path)
    images = [replace(one, kind="image") for one in items(SOURCE)]
    texts = items({name: f"title of {name}" for name in SOURCE})
    with Output("vectors", SHAPE) as output:
        for some in (images, texts):
            output.look_up(some)
            add(output, some)
        output.finish()
    return tmp_path


EMBEDDED = {"qdrant", "chroma"}
"""Qdrant's folder is one client's at a time; Chroma's next client of this relative path would share the one left open,
and with it this test's folder."""


def load(store, *addresses):
    """Runs the lines of the page, twice, with other addresses than theirs; gives the names that they make."""
    code = CODE[store]
    for printed, ours in addresses:
        assert printed in code
        code = code.replace(printed, ours)
    for _ in range(2):
        names = {}
        exec(code, names)
        if store in EMBEDDED:
            names["client"].close()
    return names


def test_each_store_of_the_page_has_its_lines():
    assert CODE.keys() == {"qdrant", "chroma", "lance", "pgvector", "faiss", "weaviate", "pinecone"}


QUERY = "img/7.jpg"


@pytest.mark.filterwarnings(*(mark.args[0] for mark in LOCAL))
def test_qdrant(folder):
    qdrant = client("qdrant_client")
    load("qdrant")
    opened = qdrant.QdrantClient(path="qdrant")
    assert opened.count("images").count == len(SOUND)
    (best,) = opened.query_points("images", vector(SOURCE[QUERY], 1024).tolist(), limit=1).points
    assert (best.payload, round(best.score, 5)) == ({"id": QUERY}, 1.0)
    opened.close()


def test_chroma(folder):
    chromadb = client("chromadb")
    load("chroma")
    with chromadb.PersistentClient("chroma", chromadb.Settings(anonymized_telemetry=False)) as opened:
        images = opened.get_collection("images", embedding_function=None)
        assert sorted(images.get()["ids"]) == sorted(SOUND)
        assert images.query(vector(SOURCE[QUERY], 1024), n_results=1)["ids"] == [[QUERY]]


@pytest.mark.slow
def test_lance_in_one_transaction(folder):
    lancedb = client("lancedb")
    load("lance")
    table = lancedb.connect("lance").open_table("images")
    assert table.count_rows() == len(SOUND)
    assert table.search(vector(SOURCE[QUERY], 1024)).limit(1).to_list()[0]["id"] == QUERY
    assert len(table.list_versions()) <= 2  # one for each time that the table was made


@pytest.mark.slow
def test_pgvector(folder, postgres):
    import psycopg

    url = postgres.database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE TABLE images (id text PRIMARY KEY, vector vector(1024))")
    load("pgvector", ("postgresql://localhost/shop", url))
    with psycopg.connect(url) as connection:
        nearest = "SELECT id FROM images ORDER BY vector <=> %s::vector LIMIT 1"
        assert connection.execute(nearest, [str(vector(SOURCE[QUERY], 1024).tolist())]).fetchall() == [(QUERY,)]
        assert connection.execute("SELECT count(*) FROM images").fetchall() == [(len(SOUND),)]


def test_faiss(folder):
    faiss = client("faiss")
    names = load("faiss")
    scores, found = faiss.read_index("images.faiss").search(vector(SOURCE[QUERY], 1024)[None], 1)
    assert names["ids"][found[0, 0]] == QUERY
    assert scores[0, 0] == pytest.approx(1)
    assert len(names["ids"]) == names["index"].ntotal == len(SOUND)


@pytest.mark.slow
def test_weaviate(folder, weaviate_service):
    from weaviate import connect_to_local
    from weaviate.classes.config import Configure

    at = f'connect_to_local("127.0.0.1", {weaviate_service.port}, {weaviate_service.grpc_port}, skip_init_checks=True)'
    with connect_to_local(
        "127.0.0.1", weaviate_service.port, weaviate_service.grpc_port, skip_init_checks=True
    ) as made:
        made.collections.create("Images", vector_config=Configure.Vectors.self_provided())
    load("weaviate", ("connect_to_local()", at))
    stored = {thing.properties.non_ref_properties["name"]: thing for thing in weaviate_service.objects.values()}
    assert sorted(stored) == sorted(SOUND)
    raw = stored[QUERY].vectors[0].vector_bytes if stored[QUERY].vectors else stored[QUERY].vector_bytes
    np.testing.assert_array_equal(np.frombuffer(raw, np.float32), vector(SOURCE[QUERY], 1024))


def test_pinecone(folder, pinecone_service):
    client("pinecone")
    key = ("Pinecone()", f'Pinecone(api_key="pc-test", host="{pinecone_service.url}")')
    host = ('Index("products")', f'Index(host="{pinecone_service.url}")')
    load("pinecone", key, host)
    assert sorted(pinecone_service.records) == sorted(("image", name) for name in SOUND)
    row = pinecone_service.records["image", QUERY]["values"]
    np.testing.assert_allclose(row, vector(SOURCE[QUERY], 1024), atol=1e-6)


def test_the_tables_of_the_page_on_bulk_runs(folder):
    """pyarrow, pandas, polars and DuckDB read the folder, as docs/bulk.md prints it."""
    for module in ("pandas", "polars", "duckdb"):
        client(module)
    code = dict(re.findall(r"```python (tables|read)\n(.*?)```", (ROOT / "docs" / "bulk.md").read_text(), re.DOTALL))
    names = {}
    exec(code["tables"], names)
    assert len(names["table"]) == len(names["frame"]) == len(SOUND) + len(SOURCE)
    assert names["nearest"][0] == (QUERY, pytest.approx(1))
    exec(code["read"], names)
    assert names["batch"].ids == SOUND
