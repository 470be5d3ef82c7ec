"""Indexes and small vectors trade exactness for speed: how much, as docs/stores.md states it."""

import pytest

from examples.stores.base import BATCH
from tests.stores.exact import ids, recall

QUERIES = 60


@pytest.fixture
def recall_at_ten(embedded, exact):
    """The share of the ten nearest fused vectors of each of some pictures that a store finds."""
    queries = embedded["image"][:QUERIES]

    def measure(store):
        found = [ids(store.nearest(query, "fused", 10)) for query in queries]
        return recall(found, [ids(exact.nearest(query, "fused", 10)) for query in queries])

    return measure


def test_pgvector_searches_through_its_graph_and_finds_nearly_all(pgvector, model, many, embedded, recall_at_ten):
    with pgvector(model) as store:
        store.add(many, embedded)
        store.connection.execute("SET enable_seqscan = off")  # so few rows would be read through
        nearest = f"EXPLAIN SELECT id FROM {store.name} ORDER BY fused <=> %s LIMIT 10"
        plan = store.connection.execute(nearest, [embedded["image"][0]]).fetchall()
        assert f"Index Scan using {store.name}_fused" in plan[1][0]
        share = recall_at_ten(store)
    print(f"pgvector, HNSW: {share:.3f}")
    assert share >= 0.99


def test_lancedb_searches_through_its_index_and_finds_nearly_all(lance, model, many, embedded, recall_at_ten):
    with lance(model) as store:
        store.add(many, embedded)
        assert recall_at_ten(store) == 1.0
        store.build_indexes()
        indexed = {column for index in store.table.list_indices() for column in index.columns}
        assert indexed == {"text", "image", "fused"}
        plan = store.table.search(embedded["image"][0], vector_column_name="fused").explain_plan()
        assert "ANN" in plan
        share = recall_at_ten(store)
    print(f"LanceDB, HnswSq: {share:.3f}")
    assert share >= 0.95


# Chroma warns of every collection that has no embedding function, which is what the example wants.
@pytest.mark.filterwarnings("ignore:legacy embedding function config:DeprecationWarning")
def test_chroma_finds_nearly_all_through_its_graph(chroma, model, many, embedded, recall_at_ten):
    with chroma(model) as store:
        store.add(many, embedded)
        share = recall_at_ten(store)
        settings = store.collections["fused"].configuration["hnsw"]
    print(f"Chroma, HNSW: {share:.3f}")
    assert (settings["space"], settings["ef_search"]) == ("cosine", 200)
    assert share >= 0.99


def test_a_byte_a_number_loses_little_in_faiss(faiss_sq8, model, many, embedded, recall_at_ten):
    """Although the range of each dimension is learnt from the first batch alone."""
    with faiss_sq8(model) as store:
        for part in (slice(BATCH), slice(BATCH, None)):
            store.add(many[part], {kind: rows[part] for kind, rows in embedded.items()})
        share = recall_at_ten(store)
    print(f"FAISS, SQ8: {share:.3f}")
    assert share >= 0.95
