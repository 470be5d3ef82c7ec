"""`POST /v1/embeddings` and the paths beside it, over sockets, of a real process with a real model."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import PIL.Image
import pytest

from jinaclip import Image, JinaClip
from tests.needs import skip_without
from tests.server.processes import Serve, as_json, request_bytes, texts

WIDTH = 128


@pytest.fixture(scope="module")
def local(catalogue_checkpoint: str) -> JinaClip:
    """The same weights in this process."""
    return JinaClip(catalogue_checkpoint, backend="local", device="cpu")


def png(colour: tuple[int, int, int], side: int = 40) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", (side, side), colour).save(file, "PNG")
    return file.getvalue()


RED, BLUE = png((200, 30, 30)), png((30, 30, 200))


def letters(data: bytes) -> str:
    return base64.b64encode(data).decode()


def rows(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    data = answer.json()["data"]
    assert [item["index"] for item in data] == list(range(len(data)))
    return np.array([decode(item["embedding"]) for item in data], np.float32)


def decode(embedding: Any) -> Any:
    return np.frombuffer(base64.b64decode(embedding), "<f4") if isinstance(embedding, str) else embedding


def refusal(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    return answer.json()


# -- answers


def test_texts_and_images_mixed_have_the_vectors_of_the_same_weights_at_home(served: Serve, local: JinaClip) -> None:
    inputs = [
        "a red dress",
        {"image": letters(RED)},
        {"text": "blue shoes"},
        {"url": f"data:image/png;base64,{letters(BLUE)}"},
    ]
    expected = local.embed(["a red dress", Image.from_bytes(RED), "blue shoes", Image.from_bytes(BLUE)]).unwrap()
    np.testing.assert_allclose(rows(served.embed(texts(*inputs))), expected, atol=1e-5)


def test_a_query_is_embedded_as_one(served: Serve, local: JinaClip) -> None:
    found = rows(served.embed(texts("a red dress", task="retrieval.query")))[0]
    np.testing.assert_allclose(found, local.embed_query("a red dress"), atol=1e-5)
    assert found @ local.embed_documents(["a red dress"])[0] < 0.9999


@pytest.mark.parametrize("dimensions", [1, 32, 127, 128])
@pytest.mark.parametrize("normalized", [True, False])
def test_every_width_is_that_of_a_model_that_was_asked_for_it(
    served: Serve, local: JinaClip, dimensions: int, normalized: bool
) -> None:
    found = rows(served.embed(texts("a red dress", "a hat", dimensions=dimensions, normalized=normalized)))
    own = local.with_options(dimensions=dimensions if dimensions >= 32 else None, normalized=normalized)
    expected = own.embed_documents(["a red dress", "a hat"])[:, :dimensions]
    if normalized:
        expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("field", ["embedding_type", "encoding_format"])
@pytest.mark.parametrize("encoding", ["float", "base64", "binary", "ubinary"])
def test_vectors_come_in_every_encoding_of_jina(served: Serve, encoding: str, field: str) -> None:
    exact = rows(served.embed(texts("a red dress")))[0]
    body = {"model": "jina-clip-v2", "input": "a red dress", field: encoding}
    (item,) = served.embed(body).json()["data"]
    if encoding in ("float", "base64"):
        np.testing.assert_array_equal(np.array(decode(item["embedding"]), np.float32), exact)
        return
    octets = np.array(item["embedding"]) + (128 if encoding == "binary" else 0)
    assert np.unpackbits(octets.astype(np.uint8)).astype(bool).tolist() == (exact > 0).tolist()


def test_an_answer_has_the_fields_of_both_wires_and_its_space(served: Serve, local: JinaClip) -> None:
    answer = served.embed({"model": "jinaai/jina-clip-v2", "input": ["a red dress"], "user": "u"}).json()
    assert list(answer) == ["model", "object", "usage", "data", "space"]
    assert (answer["model"], answer["object"], answer["space"]) == ("jinaai/jina-clip-v2", "list", local.space)
    assert (
        answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] == local.embed(["a red dress"]).usage.tokens
    )
    assert answer["data"][0]["object"] == "embedding"


def test_spaces_differ_by_width_and_normalisation_and_are_those_of_the_core(served: Serve, local: JinaClip) -> None:
    for options in ({"dimensions": 32}, {"normalized": False}, {"dimensions": 32, "normalized": False}):
        space = served.embed(texts("a", **options)).json()["space"]
        assert space == local.with_options(**options).space
        assert space != local.space


def test_strangers_whose_requests_ask_for_different_widths_share_passes(served: Serve) -> None:
    def passes() -> float:
        lines = [
            line for line in served.get("/metrics").text.splitlines() if line.startswith("jinaclip_pass_rows_count")
        ]
        return sum(float(line.split()[-1]) for line in lines)

    before = passes()
    with ThreadPoolExecutor(8) as pool:
        answers = [
            pool.submit(served.embed, texts(*[f"text {i} of {k}" for i in range(20)], dimensions=32 + k))
            for k in range(8)
        ]
        assert [rows(answer.result()).shape for answer in answers] == [(20, 32 + k) for k in range(8)]
    assert passes() - before < 8


# -- refusals


def test_one_bad_item_costs_only_its_request_and_is_named(served: Serve, local: JinaClip) -> None:
    bad = texts("a", {"image": letters(RED[:60])}, "b")
    with ThreadPoolExecutor(4) as pool:
        good = [pool.submit(served.embed, texts(f"text {i}")) for i in range(6)]
        refused = [pool.submit(served.embed, bad) for _ in range(3)]
        assert {answer.result().status_code for answer in good} == {200}
        bodies = [refusal(answer.result(), 422) for answer in refused]
    for body in bodies:
        assert body["errors"][0]["field"] == "body -> input -> 1"
        assert body["errors"][0]["message"] == body["detail"] == body["error"]["message"]
        assert body["error"]["param"] == "input.1"
        assert "input" not in body["errors"][0]


def test_a_text_that_is_too_long_is_400(served: Serve) -> None:
    long = "red " * 9000
    body = refusal(served.embed(texts("a", long)), 400)
    assert (body["code"], body["errors"][0]["field"]) == ("INPUT_TOKEN_LIMIT_EXCEEDED", "body -> input -> 1")
    assert "8,192" in body["detail"]


@pytest.mark.long
def test_a_text_that_is_too_long_is_cut_on_request(served: Serve) -> None:
    assert rows(served.embed(texts("a", "red " * 9000, truncate=True))).shape == (2, WIDTH)


def test_an_image_of_too_many_pixels_is_413_with_limit_and_size(served: Serve) -> None:
    head = struct.pack(">II", 11_000, 11_000) + BLUE[24:29]
    bomb = BLUE[:16] + head + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + BLUE[33:]
    body = refusal(served.embed(texts({"image": letters(bomb)})), 413)
    assert "11000 x 11000" in body["detail"]
    assert body["errors"][0]["field"] == "body -> input -> 0"


@pytest.mark.slow
def test_a_body_that_is_too_large_is_413_with_limit_and_size_before_it_is_sent(served: Serve) -> None:
    raw = served.send_raw(request_bytes(b"", "Content-Length: 1000000000", "Connection: close"))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b" 413 " in head.splitlines()[0]
    assert b"1000000000" in body
    assert b"67108864" in body


@pytest.mark.parametrize(
    ("value", "status"),
    [("", 422), (" ", 422), ([], 422), ([1, 2], 422), ([[1]], 422), ({"image": "?"}, 422)],
    ids=repr,
)
def test_what_cannot_be_embedded_is_refused_by_name(served: Serve, value: Any, status: int) -> None:
    body = refusal(served.embed({"model": "jina-clip-v2", "input": value}), status)
    assert body["errors"][0]["field"].startswith("body -> input")


def test_another_model_is_refused_with_jina_s_code(served: Serve) -> None:
    body = refusal(served.embed({"model": "jina-clip-v1", "input": "a"}), 400)
    assert body["code"] == body["error"]["code"] == "INPUT_MODEL_NOT_FOUND"


def test_no_address_is_fetched_without_leave(served: Serve) -> None:
    body = refusal(served.embed(texts({"image": "https://127.0.0.1:1/a.png"})), 422)
    assert "fetches no images" in body["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/embeddings", 405),
        ("POST", "/v1/embedding", 404),
        ("POST", "/embeddings", 404),  # OpenAI's client without /v1
        ("POST", "/v1/embeddings/", 404),  # a redirect would lead from https to http behind a balancer
        ("GET", "/etc", 404),
    ],
)
def test_other_paths_and_methods_are_refused_as_json(served: Serve, method: str, path: str, status: int) -> None:
    raw = served.send_raw(request_bytes(b"", "Connection: close", method=method, path=path))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert f" {status} ".encode() in head.splitlines()[0]
    assert json.loads(body)["code"] == "RESOURCE_NOT_FOUND"
    assert "POST /v1/embeddings" in json.loads(body)["detail"]


# -- clients that go away


def test_a_client_that_goes_away_frees_its_items_at_once(served: Serve) -> None:
    job = as_json(texts(*[f"word {i} " * 200 for i in range(2000)]))
    with served.connect() as connection:
        connection.sendall(request_bytes(job, f"Content-Length: {len(job)}"))
        served.wait_for(lambda: served.gauge("queue_depth") >= 2000)
    served.wait_for(lambda: served.gauge("queue_depth") == 0)
    assert 'status="499"' in served.get("/metrics").text
    assert rows(served.embed(texts("a"))).shape == (1, WIDTH)


# -- the paths beside


def test_the_models_are_the_one_that_is_served(served: Serve, local: JinaClip) -> None:
    (model,) = served.get("/v1/models").json()["data"]
    assert (model["id"], model["dimensions"], model["space"]) == ("jina-clip-v2", WIDTH, local.space)
    for name in ("jina-clip-v2", "jinaai/jina-clip-v2"):
        assert served.get(f"/v1/models/{name}").json() == model
    assert served.get("/v1/models/jina-clip-v1").status_code == 404
    assert "/" not in json.dumps(model), "where the weights lie is the server's own affair"


def test_the_openapi_document_is_valid_and_names_every_path(served: Serve) -> None:
    skip_without("openapi_spec_validator")
    from openapi_spec_validator import validate

    document = served.get("/openapi.json").json()
    validate(document)
    for path in ("/v1/models", "/live", "/ready", "/metrics"):
        assert path in document["paths"]
        assert served.get(path).status_code == 200


def test_answers_and_refusals_are_those_of_the_document(served: Serve) -> None:
    skip_without("jsonschema")
    import jsonschema

    document = served.get("/openapi.json").json()

    def check(name: str, value: Any) -> None:
        jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", **document})

    check("EmbeddingsRequest", texts("a", {"image": letters(RED)}, task="retrieval.query", dimensions=5))
    check("Embeddings", served.embed(texts("a")).json())
    check("Embeddings", served.embed(texts("a", embedding_type="binary")).json())
    check("Models", served.get("/v1/models").json())
    check("Refusal", served.embed(texts(5)).json())
    with pytest.raises(jsonschema.ValidationError):
        check("EmbeddingsRequest", texts("a", dimensions=5000))


def test_metrics_count_requests_items_and_passes_and_hold_nothing_of_what_was_sent(served: Serve) -> None:
    served.embed(texts("SECRET-WORD", {"image": letters(RED)}), key="SECRET-KEY")
    served.embed({"model": "SECRET-MODEL", "input": "a"})
    text = served.get("/metrics").text
    for name in (
        "requests_total",
        "items_total",
        "tokens_total",
        "queue_depth",
        "pass_rows_bucket",
        "request_seconds_sum",
    ):
        assert f"jinaclip_{name}" in text
    assert 'jinaclip_requests_total{kind="mixed",status="200"}' in text
    assert 'jinaclip_refusals_total{code="INPUT_MODEL_NOT_FOUND"}' in text
    assert "SECRET" not in text + served.log


def test_the_log_has_a_line_at_the_start_and_not_one_for_each_request(served: Serve, local: JinaClip) -> None:
    served.embed(texts("a"))
    assert f"on cpu, space {local.space}\n" in served.log
    assert served.log.count("\n") <= 3
