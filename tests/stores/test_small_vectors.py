"""Stores that keep a byte or a bit a number: what they keep, and how much is lost, as docs/stores.md states it."""

import re

import numpy as np
import pytest

from examples.stores.base import CANDIDATES, KINDS
from jinaclip.retrieval import calibration_ranges, dequantize, quantize, semantic_search
from tests.stores.clients import client
from tests.stores.conftest import LARGEST
from tests.stores.exact import ids
from tests.stores.page import SECTIONS, assert_as_stated

BITS = (("lance_bits", "LanceDB"), ("faiss_bits", "FAISS"), ("pgvector_bits", "pgvector"))


@pytest.mark.slow
@pytest.mark.parametrize(("store", "name"), BITS)
def test_a_store_of_bits_finds_what_is_stated(store, name, request, model, many, embedded, recall_at_ten):
    with request.getfixturevalue(store)(model) as opened:
        opened.add(many, embedded)
        share = recall_at_ten(lambda query: ids(opened.nearest(query, "fused", 10)))
    assert_as_stated(name, f"bits, {CANDIDATES} times the limit rescored by the query", share)


@pytest.mark.slow
@pytest.mark.parametrize(("store", "name"), BITS)
def test_a_store_of_bits_scores_as_semantic_search_does(store, name, request, model, many, embedded):
    """With candidates for all there is, so that equal distances make no difference."""
    codes = quantize(embedded["fused"], "ubinary")
    with request.getfixturevalue(store)(model) as opened:
        opened.add(many, embedded)
        for query in embedded["text"][:3]:
            hits = opened.nearest(query, "fused", len(many))
            found = semantic_search(query, codes, "ubinary", top_k=len(many))
            assert len(hits) == len(many)
            np.testing.assert_allclose([hit.score for hit in hits], found.scores, atol=1e-6)
            assert [hit.id for hit in hits[:3]] == [many[i].id for i in found.indices[:3]]


def test_faiss_keeps_an_eighth_of_a_byte_a_number(faiss_bits, model, many, embedded, tmp_path):
    with faiss_bits(model) as store:
        store.add(many, embedded)
        assert store.indexes["image"].code_size == model.dimensions // 8
        kept = np.stack([store.indexes["image"].reconstruct(number) for number in range(5)])
    assert (kept == quantize(embedded["image"][:5], "ubinary")).all()


@pytest.mark.slow
def test_lancedb_keeps_bits_and_finds_through_an_index(lance_bits, model, many, embedded, recall_at_ten):
    with lance_bits(model) as store:
        store.add(many, embedded)
        kept = store.table.to_arrow().column("fused").to_pylist()
        assert (np.array(kept) == quantize(embedded["fused"], "ubinary")).all()
        before = recall_at_ten(lambda query: ids(store.nearest(query, "fused", 10)))
        store.build_indexes()
        assert {index.index_type for index in store.table.list_indices()} == {"IvfFlat", "Bitmap"}
        after = recall_at_ten(lambda query: ids(store.nearest(query, "fused", 10)))
    assert after > before - 0.02


@pytest.mark.slow
def test_pgvector_keeps_the_bits_that_its_own_function_gives(pgvector_bits, model, many, embedded):
    from pgvector import Vector

    with pgvector_bits(model) as store:
        store.add(many, embedded)
        ours = f"SELECT fused::text FROM {store.name} WHERE id = %s"
        theirs = f"SELECT binary_quantize(%s::vector)::bit({model.dimensions})::text"
        for product, row in zip(many[:5], embedded["fused"], strict=False):
            assert (
                store.connection.execute(ours, [product.id]).fetchone()
                == store.connection.execute(theirs, [Vector(row)]).fetchone()
            )


@pytest.mark.slow
def test_pgvector_searches_bits_through_its_graph(pgvector_bits, model, many, embedded):
    with pgvector_bits(model) as store:
        store.add(many, embedded)
        store.connection.execute("SET enable_seqscan = off")  # so few rows would be read through
        search = f"EXPLAIN SELECT id FROM {store.name} ORDER BY fused <~> %s LIMIT 10"
        plan = store.connection.execute(search, [store._value(embedded["image"][0])]).fetchall()
    assert f"Index Scan using {store.name}_fused" in plan[1][0]


@pytest.mark.slow
def test_pgvector_makes_bits_of_full_vectors_as_the_page_says(pgvector, model, many, embedded, exact):
    (index, search) = re.findall(r"```sql\n(.*?)```", SECTIONS["Small vectors"], re.DOTALL)
    with pgvector(model) as store:
        store.add(many, embedded)

        def here(statement):
            return statement.replace("1024", str(model.dimensions)).replace("products", store.name)

        store.connection.execute(here(index))
        store.connection.execute("SET enable_seqscan = off")  # so few rows would be read through
        values = {"query": embedded["image"][0]}
        plan = store.connection.execute(f"EXPLAIN {here(search)}", values).fetchall()
        assert any(f"Index Scan using {store.name}_bits" in line for (line,) in plan)
        found = [row[0] for row in store.connection.execute(here(search), values)]
    assert len({*found} & {*ids(exact.nearest(embedded["image"][0], "fused", 10))}) >= 9


def test_the_page_s_snippet_of_small_vectors_runs(model, many):
    (code,) = re.findall(r"```python\n(.*?)```", SECTIONS["Small vectors"], re.DOTALL)
    names = {"clip": model, "titles": [product.title for product in many], "query": "a red dress"}
    exec(code, names)
    assert len(names["hits"].indices) == 10
    assert names["bits"].nbytes * 32 == names["vectors"].nbytes == names["small"].nbytes * 4
    assert len({*names["again"].indices} & {*names["hits"].indices}) >= 6


# bytes in Qdrant


def test_a_qdrant_server_gets_bytes_compared_by_euclidean_distance(model, catalogue):
    qdrant_client = client("qdrant_client")
    from examples.stores.qdrant import QdrantByteStore
    from tests.stores.service import Service
    from tests.stores.test_qdrant import answer

    with Service(answer) as service:
        asked = qdrant_client.QdrantClient(url=service.url, check_compatibility=False)
        with QdrantByteStore(model, asked, LARGEST) as store:
            store.index(catalogue[:2])
            assert store.by_text("a dress") == []
    create = next(one for one in service.asked if one.method == "PUT" and one.path.endswith(store.name))
    assert create.path == f"/collections/products_{model.space}_bytes"
    for params in create.body["vectors"].values():
        assert (params["size"], params["distance"], params["datatype"]) == (model.dimensions, "Euclid", "uint8")
        assert params.get("quantization_config") is None
    upsert, query = service.asked[-2:]
    rows = [point["vector"][kind] for point in upsert.body["points"] for kind in KINDS]
    for row in [*rows, query.body["query"]["nearest"]]:
        assert {*row} <= {*range(256)}, row


def test_qdrant_s_engine_finds_what_is_stated_by_bytes_alone(tmp_path, many, embedded, recall_at_ten):
    edge = client("qdrant_edge")
    ranges = calibration_ranges(embedded["fused"], symmetric=True)
    params = edge.EdgeVectorParams(
        embedded["fused"].shape[1], edge.Distance.Euclid, datatype=edge.VectorStorageDatatype.Uint8
    )
    shard = edge.EdgeShard.create(str(tmp_path), edge.EdgeConfig(vectors={"fused": params}))
    codes = quantize(embedded["fused"], "uint8", ranges).tolist()
    shard.update(edge.UpdateOperation.upsert_points([edge.Point(i, {"fused": row}, {}) for i, row in enumerate(codes)]))

    def search(query):
        nearest = edge.Query.Nearest(quantize(query, "uint8", ranges).tolist(), using="fused")
        return [many[hit.id].id for hit in shard.query(edge.QueryRequest(limit=10, query=nearest))]

    assert_as_stated("Qdrant", "datatype `uint8`, no full vectors", recall_at_ten(search))


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")
def test_scores_of_bytes_are_cosines_nearly(qdrant_bytes, model, many, embedded):
    ranges = np.array([[-LARGEST], [LARGEST]]) * np.ones(model.dimensions)
    rows = dequantize(quantize(embedded["fused"], "uint8", ranges), "uint8", ranges)
    with qdrant_bytes(model) as store:
        store.add(many, embedded)
        hits = store.nearest(embedded["image"][0], "fused", 10)
    cosines = {product.id: float(value) for product, value in zip(many, rows @ embedded["image"][0], strict=True)}
    assert [hit.score for hit in hits] == pytest.approx([cosines[hit.id] for hit in hits], abs=0.01)
