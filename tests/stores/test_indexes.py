"""Indexes, small vectors and narrow ones trade exactness for speed: how much, as docs/stores.md states it."""

import numpy as np
import pytest

from examples.stores.base import BATCH
from jinaclip import truncate
from tests.stores.exact import ids
from tests.stores.page import assert_as_stated


def nearest(store):
    return lambda query: ids(store.nearest(query, "fused", 10))


@pytest.mark.slow
@pytest.mark.parametrize("width", [64, 32])
def test_fewer_numbers_find_fewer_of_the_same(many, embedded, recall_at_ten, width):
    rows, names = truncate(embedded["fused"], width), [product.id for product in many]
    best = lambda query: [names[i] for i in np.argsort(-(rows @ truncate(query[None], width)[0]))[:10]]  # noqa: E731
    assert_as_stated("any", f"{width} of the 128 dimensions, exact search", recall_at_ten(best))


@pytest.mark.slow
@pytest.mark.parametrize(("store", "settings"), [("pgvector", "HNSW"), ("pgvector_half", "HNSW, `halfvec`")])
def test_pgvector_searches_through_its_graph_and_finds_nearly_all(
    store, settings, request, model, many, embedded, recall_at_ten
):
    with request.getfixturevalue(store)(model) as opened:
        opened.add(many, embedded)
        opened.connection.execute("SET enable_seqscan = off")  # so few rows would be read through
        search = f"EXPLAIN SELECT id FROM {opened.name} ORDER BY fused <=> %s::{opened.column} LIMIT 10"
        plan = opened.connection.execute(search, [embedded["image"][0]]).fetchall()
        assert f"Index Scan using {opened.name}_fused" in plan[1][0]
        share = recall_at_ten(nearest(opened))
    assert_as_stated("pgvector", f"{settings}, `hnsw.ef_search = 200`", share)


@pytest.mark.slow
def test_in_pgvector_filters_and_large_limits_give_as_many_as_were_asked_for(pgvector, model, many, embedded):
    """Though none of the rare category is among the 200 candidates that the graph looks at first."""
    query = embedded["fused"][0]
    worst = {many[i].id for i in np.argsort(embedded["fused"] @ query)[:5]}

    class Rare:
        def __init__(self, product):
            self.id, self.title, self.category = product.id, product.title, "rare" if product.id in worst else "common"

    with pgvector(model) as store:
        store.add([Rare(product) for product in many], embedded)
        for path in ("enable_seqscan", "enable_sort"):
            store.connection.execute(f"SET {path} = off")  # else so few rows would be read through and sorted
        assert set(ids(store.nearest(query, "fused", 5, "rare"))) == worst
        assert len(store.nearest(query, "fused", 250)) == 250
        store.connection.execute("SET hnsw.iterative_scan = off")
        assert store.nearest(query, "fused", 5, "rare") == []
        assert len(store.nearest(query, "fused", 250)) < 250


@pytest.mark.slow
def test_lancedb_searches_through_its_index_and_finds_nearly_all(lance, model, many, embedded, recall_at_ten):
    with lance(model) as store:
        store.add(many, embedded)
        assert recall_at_ten(nearest(store)) == 1.0
        store.build_indexes()
        indexed = {column for index in store.table.list_indices() for column in index.columns}
        assert indexed == {"text", "image", "fused", "category"}
        plan = store.table.search(embedded["image"][0], vector_column_name="fused").explain_plan()
        assert "ANN" in plan
        share = recall_at_ten(nearest(store))
    assert_as_stated("LanceDB", "`HnswSq`, 5 times the limit rescored", share)


@pytest.mark.slow
# Chroma warns of every collection that has no embedding function, which is what the example wants.
@pytest.mark.filterwarnings("ignore:legacy embedding function config:DeprecationWarning")
def test_chroma_finds_nearly_all_through_its_graph(chroma, model, many, embedded, recall_at_ten):
    with chroma(model) as store:
        store.add(many, embedded)
        share = recall_at_ten(nearest(store))
        settings = store.collections["fused"].configuration["hnsw"]
    assert (settings["space"], settings["ef_search"]) == ("cosine", 200)
    assert_as_stated("Chroma", "HNSW, `ef_search` 200", share)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "settings"),
    [("faiss_half", "`SQfp16`"), ("faiss_sq8", "`SQ8`, ranges learnt from the first 64 products")],
)
def test_fewer_bytes_a_number_lose_little_in_faiss(store, settings, request, model, many, embedded, recall_at_ten):
    """Although "SQ8" learns the range of each dimension from the first batch alone."""
    with request.getfixturevalue(store)(model) as opened:
        for part in (slice(BATCH), slice(BATCH, None)):
            opened.add(many[part], {kind: rows[part] for kind, rows in embedded.items()})
        share = recall_at_ten(nearest(opened))
    assert_as_stated("FAISS", settings, share)
