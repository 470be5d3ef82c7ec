"""What requests of either wire are understood as, and how they are refused."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from jinaclip import ImagePolicy, InputError
from jinaclip.call.results import ItemFailure
from jinaclip.inputs import Image, Text
from jinaclip.server.refusals import Refused
from jinaclip.server.requests import Defaults, EmbeddingsRequest, EncodedImage, ImageAddress, read_request
from jinaclip.specs import SPECS

V1, V2 = SPECS["jina-clip-v1"], SPECS["jina-clip-v2"]
DEFAULTS = Defaults(
    spec=V2,
    names=("jina-clip-v2", "jinaai/jina-clip-v2"),
    dimensions=1024,
    normalized=True,
    truncate=False,
    policy=ImagePolicy(max_bytes=3000),
    fetch=False,
    max_inputs=4,
    max_text=5000,
)
FILE = b"\xff\xd8\xff\xe0 the file of an image"
LETTERS = base64.b64encode(FILE).decode()
URI = f"data:image/jpeg;base64,{LETTERS}"
URL = "https://pictures.test/a.jpg"


def read(value: Any = "a", defaults: Defaults = DEFAULTS, **fields: Any) -> EmbeddingsRequest:
    return read_request(orjson.dumps({"model": "jina-clip-v2", "input": value, **fields}), defaults)


def refused(value: Any = "a", defaults: Defaults = DEFAULTS, **fields: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        read(value, defaults, **fields)
    return caught.value


# -- inputs


@pytest.mark.parametrize(
    "value",
    [
        "a",
        {"text": "a"},
        {"type": "text", "text": "a"},
        {"type": "input_text", "text": "a"},
        {"text": "a", "image": None},
    ],
    ids=repr,
)
def test_a_text_comes_in_many_shapes_alone_or_in_a_list(value: Any) -> None:
    assert read(value).inputs == ["a"]
    assert read([value, "b"]).inputs == ["a", "b"]


SHAPES: dict[str, Any] = {
    "image": lambda image: {"image": image},
    "url": lambda image: {"url": image},
    "bytes": lambda image: {"bytes": image},
    "image_url": lambda image: {"type": "image_url", "image_url": {"url": image}},
    "input_image": lambda image: {"type": "input_image", "image_url": image},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("image", [LETTERS, URI], ids=["base64", "uri"])
def test_an_image_comes_in_many_shapes_as_base64_or_as_a_data_uri(shape: Any, image: str) -> None:
    request = read([shape(image), "a"])
    assert request.inputs == [EncodedImage(image), "a"]
    items: Any = request.draft().request().items
    assert items[0].source == FILE


def test_a_string_that_is_the_data_uri_of_an_image_is_an_image() -> None:
    assert read(URI).inputs == [EncodedImage(URI)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_an_address_is_an_image_only_where_the_server_fetches(shape: Any) -> None:
    assert read(shape(URL), replace(DEFAULTS, fetch=True)).inputs == [ImageAddress(URL)]
    refusal = refused(["a", shape(URL)])
    assert (refusal.status, refusal.place) == (422, ("input", 1))
    assert "fetches no images" in refusal.message


@pytest.mark.parametrize(
    "path", ["file:///etc/passwd", "FILE:///etc/passwd", "ftp://a/b", "http://a/b.jpg", "s3://a/b"]
)
def test_other_addresses_are_none_even_where_the_server_fetches(path: str) -> None:
    assert refused({"image": path}, replace(DEFAULTS, fetch=True)).place == ("input", 0)


@pytest.mark.parametrize("name", ["photo.png", "./photo.png", "~/photo.png", "photos/photo"])
def test_no_string_is_a_path_of_the_server(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(FILE)
    for shape in SHAPES.values():
        (entry,) = read(shape(name)).draft().request().items
        assert isinstance(entry, ItemFailure) or (isinstance(entry, Image) and entry.kind == "bytes")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "missing"),
        ([], "empty list"),
        ([1, 2, 3], "token ids"),
        ([[1, 2], [3]], "token ids"),
        (5, "token ids"),
        (True, "not a boolean"),
        ([None], "not null"),
        ([["a"]], "not a list"),
        ({}, "has a 'text' or an 'image'"),
        ({"pdf": LETTERS}, "has a 'text' or an 'image'"),
        ({"content": [{"text": "a"}]}, "has a 'text' or an 'image'"),
        ({"type": "input_audio", "text": "a"}, "has a 'text' or an 'image'"),
        ({"text": "a", "image": LETTERS}, "text and image"),
        ({"text": 5}, "must be a string"),
        ({"image": {"url": LETTERS}}, "must be a string"),
        ({"image_url": {"detail": "low"}}, "must be a string"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_input_is_refused_with_words(value: Any, words: str) -> None:
    refusal = refused(value)
    assert (refusal.status, refusal.place[0]) == (422, "input")
    assert words in refusal.message


@pytest.mark.parametrize("bad", [{"text": 5}, 7, {"image": URL}, None, {"a": 1}], ids=repr)
def test_the_refusal_names_the_index_of_the_input(bad: Any) -> None:
    assert refused(["a", "b", bad]).place == ("input", 2)


@pytest.mark.parametrize(
    ("value", "words"), [("", "blank"), (" \n", "blank"), ({"image": "no base64!"}, "base64")], ids=repr
)
def test_what_shows_when_it_is_read_names_the_index_too(value: Any, words: str) -> None:
    failures = read(["a", value]).draft().request().failures()
    assert isinstance(failures[1].reason, InputError)
    assert words in str(failures[1])


@pytest.mark.parametrize("path", ["dress.jpg", "./dress.jpg", "C:\\dress", "photos/a.dress.webp"])
def test_a_path_in_place_of_an_image_is_told_apart_from_broken_base64(path: str) -> None:
    failures = read(["a", {"image": path}]).draft().request().failures()
    assert str(failures[1]) == "item 1: an image is the file itself, in base64; no string is a path of this server"


def test_half_a_character_is_no_utf_8() -> None:
    with pytest.raises(Refused, match="UTF-8"):
        read_request(b'{"model": "jina-clip-v2", "input": "\\ud800"}', DEFAULTS)


def test_too_many_inputs_are_413_with_the_limit() -> None:
    refusal = refused(["a"] * 5)
    assert (refusal.status, refusal.place) == (413, ("input",))
    assert "5" in refusal.message
    assert "4" in refusal.message


@pytest.mark.parametrize("truncate", [False, True])
def test_a_text_that_is_far_too_long_is_400_before_its_tokens_are_counted(truncate: bool) -> None:
    refusal = refused(["a", {"text": "a" * 5001}], truncate=truncate)
    assert (refusal.status, refusal.code, refusal.place) == (400, "INPUT_TOKEN_LIMIT_EXCEEDED", ("input", 1))
    assert "5,001" in refusal.message
    assert "5,000" in refusal.message


def test_an_image_that_is_too_large_is_413_with_limit_and_size_before_it_is_decoded() -> None:
    refusal = refused(["a", {"image": "A" * 12_000}])
    assert (refusal.status, refusal.place) == (413, ("input", 1))
    assert "9000" in refusal.message
    assert "3000" in refusal.message


# -- fields


def test_a_request_that_says_nothing_gets_the_defaults() -> None:
    request = read()
    assert (request.task, request.dimensions, request.normalized) == ("document", 1024, True)
    assert (request.truncate, request.encoding) == (False, "float")
    options = replace(DEFAULTS, dimensions=512, normalized=False, truncate=True)
    other = read(defaults=options)
    assert (other.dimensions, other.normalized, other.truncate) == (512, False, True)


@pytest.mark.parametrize(
    ("field", "value", "attribute", "expected"),
    [
        ("task", "retrieval.query", "task", "query"),
        ("task_type", "retrieval.query", "task", "query"),
        ("task", "retrieval.passage", "task", "document"),
        ("dimensions", 64, "dimensions", 64),
        ("output_dimension", 64, "dimensions", 64),
        ("normalized", False, "normalized", False),
        ("truncate", True, "truncate", True),
        ("truncation", True, "truncate", True),
        ("embedding_type", "binary", "encoding", "binary"),
        ("embedding_type", ["ubinary"], "encoding", "ubinary"),
        ("encoding_format", "base64", "encoding", "base64"),
        ("encoding_format", "float", "encoding", "float"),
        ("user", "somebody", "model", "jina-clip-v2"),
        ("late_chunking", False, "model", "jina-clip-v2"),
    ],
)
def test_fields_of_both_wires_are_understood(field: str, value: Any, attribute: str, expected: Any) -> None:
    assert getattr(read(**{field: value}), attribute) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", "classification"),
        ("task", 5),
        ("dimensions", 0),
        ("dimensions", 1025),
        ("dimensions", 64.0),
        ("dimensions", True),
        ("dimensions", "64"),
        ("normalized", "no"),
        ("normalized", 0),
        ("truncate", "END"),
        ("embedding_type", "int8"),
        ("embedding_type", ["float", "binary"]),
        ("embedding_type", {}),
    ],
    ids=repr,
)
def test_an_unknown_value_of_a_known_field_is_refused_by_the_name_of_the_field(field: str, value: Any) -> None:
    refusal = refused(**{field: value})
    assert (refusal.status, refusal.place) == (422, (field,))
    assert field in refusal.message


def test_two_names_of_one_field_must_agree() -> None:
    assert read(embedding_type="base64", encoding_format="base64").encoding == "base64"
    assert "differ" in refused(embedding_type="base64", encoding_format="float").message


def test_v1_takes_no_other_width_and_does_not_look_at_tasks() -> None:
    v1 = replace(DEFAULTS, spec=V1, dimensions=768)
    assert read(defaults=v1, dimensions=768, task="text-matching").task == "document"
    assert refused(defaults=v1, dimensions=512).place == ("dimensions",)


@pytest.mark.parametrize("name", ["jina-clip-v1", "", "JINA-CLIP-V2", None, 5, ["jina-clip-v2"]], ids=repr)
def test_another_model_is_refused_with_jina_s_code(name: Any) -> None:
    refusal = refused(model=name)
    assert (refusal.status, refusal.code, refusal.place) == (400, "INPUT_MODEL_NOT_FOUND", ("model",))


def test_the_model_is_known_by_its_hub_id_too() -> None:
    assert read(model="jinaai/jina-clip-v2").model == "jinaai/jina-clip-v2"


@pytest.mark.parametrize(
    "raw", [b"", b"{", b"[]", b'"a"', b"\xff", b"5", b"[" * 100_000], ids=lambda raw: repr(raw)[:12]
)
def test_a_body_that_is_no_json_object_is_a_400(raw: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read_request(raw, DEFAULTS)
    assert caught.value.status == 400


def test_no_refusal_repeats_what_was_sent() -> None:
    secret = "SECRET-1234"
    bodies: list[dict[str, Any]] = [
        {"model": secret},
        {"value": [{secret: 1}]},
        {"value": [{"type": secret, "text": secret}]},
        {"value": {"image": f"{secret.lower()}://a"}},
        {"task": secret},
        {"embedding_type": secret},
        {"dimensions": secret},
    ]
    for fields in bodies:
        assert secret.lower() not in str(refused(**fields).body()).lower()


# -- what they are for the engine


def test_queries_and_small_requests_are_urgent() -> None:
    wide = replace(DEFAULTS, max_inputs=100)
    assert read(["a"] * 8, wide).draft().urgent
    assert not read(["a"] * 9, wide).draft().urgent
    assert read(["a"] * 9, wide, task="retrieval.query").draft().urgent


def test_texts_alone_are_read_without_a_thread() -> None:
    assert read(["a", {"text": "b"}]).draft().is_quick
    assert not read(["a", {"image": LETTERS}]).draft().is_quick
    assert list(read("a").draft().request().items) == [Text("a")]


@pytest.mark.parametrize(("inputs", "kind"), [("a", "text"), ({"image": LETTERS}, "image"), (["a", URI], "mixed")])
def test_metrics_tell_texts_from_images(inputs: Any, kind: str) -> None:
    assert read(inputs).kind == kind


MISSPELT = ["dimension", "normalize", "Dimensions", "embedding-type", "inputs", "truncated", "tasks"]


@pytest.mark.parametrize("name", MISSPELT)
def test_a_misspelt_field_is_refused_by_the_name_of_the_right_one(name: str) -> None:
    problem = refused(**{name: 5})
    assert problem.status == 400
    assert f"looks like {problem.place[0]!r}" in problem.message


@pytest.mark.parametrize("name", ["user", "late_chunking", "metadata", "extra_body", "priority", "safety_identifier"])
def test_a_field_that_means_nothing_here_is_ignored(name: str) -> None:
    assert read(**{name: False}).inputs == ["a"]


def test_what_other_models_can_do_is_refused() -> None:
    problem = refused(late_chunking=True)
    assert (problem.status, problem.place) == (422, ("late_chunking",))
