"""Both ends of Jina's wire agree: what one writes the other reads."""

import numpy as np
import orjson
import pytest

from jinaclip.backends.api.wires import jina as wire
from jinaclip.config import EmbedderConfig
from jinaclip.specs import JINA_CLIP_V1, JINA_CLIP_V2

INPUTS = [wire.text_input("red"), wire.image_input(b"\x89PNG"), wire.url_input("https://example.org/a.jpg")]


@pytest.mark.parametrize("spec", [JINA_CLIP_V1, JINA_CLIP_V2])
@pytest.mark.parametrize("query", [False, True])
@pytest.mark.parametrize("options", [{}, {"dimensions": 64}, {"normalized": False, "truncate": True}])
def test_a_request_is_read_as_it_was_meant(spec, query, options):
    if spec is JINA_CLIP_V1:
        options = {name: value for name, value in options.items() if name != "dimensions"}
    config = EmbedderConfig(model=spec.name, **options)
    body = wire.read_request(wire.write_request(wire.settings(config, spec, query=query), INPUTS))
    assert body.spec is spec
    assert body.task == (spec.query_task if query else None)
    assert body.dimensions == options.get("dimensions", spec.dimensions)
    assert (body.normalized, body.truncate, body.encoding) == (config.normalized, config.truncate, "base64")
    assert [item.kind for item in body.inputs] == ["text", "image", "url"]
    assert (body.inputs[0].value, body.inputs[2].value) == ("red", "https://example.org/a.jpg")
    assert wire.read_image(body.inputs[1].value) == b"\x89PNG"
    assert "input" not in body.fields
    assert body.raw_inputs == INPUTS


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("red", ("text", "red")),
        ("data:image/png;base64,AAAA", ("text", "data:image/png;base64,AAAA")),
        ({"text": ""}, ("text", "")),
        ({"image": "data:image/png;base64,AAAA"}, ("image", "AAAA")),
        ({"bytes": "AAAA"}, ("image", "AAAA")),
        ({"url": "http://example.org"}, ("url", "http://example.org")),
    ],
)
def test_every_form_of_an_input_is_understood(value, expected):
    raw = orjson.dumps({"model": "jina-clip-v2", "input": value})
    assert wire.read_request(raw).inputs == [expected]


@pytest.mark.parametrize(
    ("fields", "status", "index", "field"),
    [
        ({"model": None}, 400, None, None),
        ({"input": []}, 422, None, None),
        ({"input": ["a", {"text": 1}]}, 422, 1, None),
        ({"input": ["a"] * 513}, 422, None, None),
        ({"dimensions": 0}, 422, None, "dimensions"),
        ({"dimensions": True}, 422, None, "dimensions"),
        ({"task": "retrieval.passage"}, 422, None, "task"),
        ({"embedding_type": "int8"}, 422, None, "embedding_type"),
        ({"embedding_type": ["float"]}, 500, None, None),
    ],
)
def test_a_client_learns_what_is_wrong_with_its_request(fields, status, index, field):
    raw = orjson.dumps({"model": "jina-clip-v2", "input": ["a"], **fields})
    with pytest.raises(wire.InvalidRequest) as invalid:
        wire.read_request(raw)
    refusal = wire.read_refusal(orjson.dumps(invalid.value.body))
    assert (invalid.value.status, refusal.index, refusal.field) == (status, index, field)
    assert refusal.message
    assert refusal.request_id


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"3", b"{}", b'"input"'])
def test_what_is_not_a_request_is_refused(raw):
    with pytest.raises(wire.InvalidRequest) as invalid:
        wire.read_request(raw)
    assert invalid.value.status == 422


def test_more_inputs_than_usual_can_be_allowed():
    raw = orjson.dumps({"model": "jina-clip-v2", "input": ["a"] * 513})
    assert len(wire.read_request(raw, max_inputs=0).inputs) == 513


def test_a_key_is_read_and_its_lack_is_refused():
    assert wire.read_key("Bearer jina_1") == "jina_1"
    for header, code in [
        ("", wire.Code.MISSING_KEY),
        ("Bearer", wire.Code.INVALID_SCHEME),
        ("Basic x", "AUTH_INVALID_FORMAT"),
    ]:
        with pytest.raises(wire.InvalidRequest) as invalid:
            wire.read_key(header)
        assert (invalid.value.status, wire.read_refusal(orjson.dumps(invalid.value.body)).code) == (401, code)


def test_refusals_are_read_in_each_shape():
    flat = wire.read_refusal(orjson.dumps(wire.write_refusal("No.", wire.Code.BALANCE)))
    nested = wire.read_refusal(orjson.dumps(wire.write_nested_refusal("No.", wire.Code.BALANCE)))
    assert flat.code == nested.code == "AUTHZ_INSUFFICIENT_BALANCE"
    assert flat.message == nested.message == "No."
    assert "code" not in wire.write_refusal("No.")
    for place, index, field in [
        ((), None, None),
        (("input",), None, None),
        (("input", 7), 7, None),
        (("task",), None, "task"),
    ]:
        refusal = wire.read_refusal(orjson.dumps(wire.write_field_refusal(place, "No.", "literal_error", "x")))
        assert (refusal.index, refusal.field, refusal.message) == (index, field, "No.")


@pytest.mark.parametrize("encoding", ["base64", "float"])
def test_an_answer_is_read_in_each_encoding(encoding):
    rows = np.random.default_rng(1).standard_normal((3, 8)).astype(np.float32)
    answer = wire.read_answer(orjson.dumps(wire.write_answer("jina-clip-v2", rows, 5, encoding)), 3, 8)
    np.testing.assert_array_equal(answer.rows, rows)
    assert answer.tokens == 5
