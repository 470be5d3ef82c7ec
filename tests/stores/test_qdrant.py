"""What a Qdrant server is asked, and what its engine makes of vectors as small as the example has them."""

import pytest

from examples.stores.__main__ import TEXT
from examples.stores.base import KINDS
from tests.stores.clients import client
from tests.stores.exact import ids, recall
from tests.stores.page import assert_as_stated
from tests.stores.service import Service

qdrant_client = client("qdrant_client")

from examples.stores.qdrant import OVERSAMPLING, QUANTISED, QdrantStore  # noqa: E402

QUERIES = 60


def answer(asked):
    results = {"/exists": {"exists": False}, "/query": {"points": []}, "wait=true": {"status": "completed"}}
    (result,) = [value for end, value in results.items() if asked.path.endswith(end)] or [True]
    return 200, {"result": result, "status": "ok", "time": 0.0}


def asked_by(model, quantisation, products):
    """The requests for making a collection, indexing and searching."""
    with Service(answer) as service:
        client = qdrant_client.QdrantClient(url=service.url, check_compatibility=False)
        with QdrantStore(model, client, quantisation) as store:
            store.index(products)
            assert store.by_text(TEXT, using="image", limit=7, category="skirt") == []
        return service.asked


@pytest.mark.parametrize(
    ("quantisation", "small"),
    [
        ("none", None),
        ("int8", {"scalar": {"type": "int8", "quantile": 0.99, "always_ram": True}}),
        ("binary", {"binary": {"always_ram": True}}),
    ],
)
def test_a_server_gets_three_named_vectors_quantised_as_told(model, catalogue, quantisation, small):
    create, index = (one for one in asked_by(model, quantisation, []) if one.method == "PUT")
    assert index.path.startswith(f"{create.path}/index")
    assert index.body == {"field_name": "category", "field_schema": "keyword"}
    assert create.path == f"/collections/products_{model.space}"
    assert create.body["vectors"].keys() == set(KINDS)
    for params in create.body["vectors"].values():
        assert (params["size"], params["distance"]) == (model.dimensions, "Cosine")
        assert params.get("quantization_config") == small
        assert params["on_disk"] is (small is not None)


def test_a_server_gets_points_with_three_vectors_and_ids_that_stay(model, catalogue, embedded):
    one, again = (asked_by(model, "none", catalogue[:2])[-2].body["points"] for _ in range(2))
    assert [point["id"] for point in one] == [point["id"] for point in again]
    for place, point in enumerate(one):
        product = catalogue[place]
        assert point["payload"] == {"id": product.id, "title": product.title, "category": product.category}
        assert point["vector"]["fused"] == pytest.approx(embedded["fused"][place].tolist(), abs=1e-6)
        assert point["vector"].keys() == set(KINDS)


@pytest.mark.parametrize(("quantisation", "factor"), [("int8", 2.0), ("binary", 4.0)])
def test_a_server_is_asked_to_rescore(model, quantisation, factor):
    query = asked_by(model, quantisation, [])[-1]
    assert query.path.endswith("/points/query")
    assert (query.body["using"], query.body["limit"], query.body["with_payload"]) == ("image", 7, True)
    assert query.body["params"]["quantization"] == {"rescore": True, "oversampling": factor}
    assert query.body["filter"] == {"must": {"key": "category", "match": {"value": "skirt"}}}


def test_without_quantisation_nothing_is_asked_of_it(model):
    assert "quantization" not in (asked_by(model, "none", [])[-1].body.get("params") or {})


def engine(quantisation, folder, products, rows):
    """Qdrant's engine in this process, on vectors quantised as the example has them: (query, oversampling) -> ids."""
    edge = client("qdrant_edge")
    small = {
        "int8": lambda: edge.ScalarQuantizationConfig(
            edge.ScalarType.Int8, quantile=QUANTISED["int8"].scalar.quantile, always_ram=True
        ),
        "binary": lambda: edge.BinaryQuantizationConfig(always_ram=True),
    }[quantisation]()
    params = edge.EdgeVectorParams(rows.shape[1], edge.Distance.Cosine, quantization_config=small)
    at_once = edge.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1)
    shard = edge.EdgeShard.create(str(folder), edge.EdgeConfig(vectors={"fused": params}, optimizers=at_once))
    points = [edge.Point(i, {"fused": row.tolist()}, {}) for i, row in enumerate(rows)]
    shard.update(edge.UpdateOperation.upsert_points(points))
    assert shard.optimize()

    def search(query, oversampling):
        how = edge.QuantizationSearchParams(rescore=oversampling is not None, oversampling=oversampling)
        nearest = edge.Query.Nearest(query.tolist(), using="fused")
        params = edge.SearchParams(quantization=how)
        return [products[hit.id].id for hit in shard.query(edge.QueryRequest(limit=10, query=nearest, params=params))]

    return search


@pytest.mark.parametrize("quantisation", ["int8", "binary"])
def test_rescored_quantised_search_finds_what_exact_search_finds(tmp_path, many, embedded, exact, quantisation):
    """Pictures as queries among 300 fused vectors of 128 dimensions.

    Without rescoring fewer must be found, or the vectors were not quantised at all.
    """
    search = engine(quantisation, tmp_path, many, embedded["fused"])
    queries = embedded["image"][:QUERIES]
    truth = [ids(exact.nearest(query, "fused", 10)) for query in queries]
    rescored = recall([search(query, OVERSAMPLING[quantisation]) for query in queries], truth)
    small_alone = recall([search(query, None) for query in queries], truth)
    times = OVERSAMPLING[quantisation]
    assert_as_stated("Qdrant", f"{quantisation}, {times:.0f} times the limit rescored", rescored)
    assert_as_stated("Qdrant", f"{quantisation} alone", small_alone)
    assert small_alone < rescored
