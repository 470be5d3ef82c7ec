"""The wire, held against anything a service might say: an answer is right, or it is refused."""

import base64
import json

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from jinaclip import ConfigError
from jinaclip.backends.api.wires import base
from jinaclip.backends.api.wires import jina as wire
from jinaclip.config import EmbedderConfig, endpoint
from jinaclip.specs import JINA_CLIP_V1, JINA_CLIP_V2

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "data",
                    "index",
                    "embedding",
                    "usage",
                    "total_tokens",
                    "detail",
                    "errors",
                    "field",
                    "loc",
                    "x",
                    "message",
                    "msg",
                    "code",
                    "request_id",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)
ROWS = st.integers(1, 6).flatmap(
    lambda count: st.integers(1, 5).flatmap(
        lambda width: st.lists(
            st.lists(
                st.floats(-4, 4, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=width, max_size=width
            ),
            min_size=count,
            max_size=count,
        )
    )
)
MANY = hypothesis_settings(max_examples=400, deadline=None)


def encode(row, how):
    return base64.b64encode(np.array(row, "<f4").tobytes()).decode() if how == "base64" else row


def write(rows, how="base64", order=None, tokens=7):
    data = [{"index": i, "embedding": encode(rows[i], how)} for i in (order or range(len(rows)))]
    return json.dumps({"object": "list", "usage": {"total_tokens": tokens}, "data": data}).encode()


def read(raw, items, width):
    """The answer, or None if it was refused in one of the two ways there are."""
    try:
        return wire.read_answer(raw, items, width)
    except (base.Malformed, base.WrongDimensions):
        return None


def check_shape(answer, items, width):
    """An answer that is taken has a row for every input, and none that is not finite without saying so."""
    assert answer.rows.shape == (items, width)
    assert answer.rows.dtype == np.float32
    for place in range(items):
        row = answer.rows[place]
        assert (place in answer.bad) or (np.isfinite(row).all() and row.any())
    assert type(answer.tokens) is int
    assert answer.tokens >= 0


# Answers


@pytest.mark.slow
@MANY
@given(ROWS, st.data(), st.sampled_from(["base64", "float"]))
def test_a_good_answer_is_read_in_input_order(rows, data, how):
    order = data.draw(st.permutations(range(len(rows))))
    answer = wire.read_answer(write(rows, how, order), len(rows), len(rows[0]))
    check_shape(answer, len(rows), len(rows[0]))
    for place, row in enumerate(rows):
        if place in answer.bad:
            assert not any(row)
        else:
            np.testing.assert_array_equal(answer.rows[place], np.array(row, np.float32))
            np.testing.assert_allclose(answer.squares[place], np.square(np.float32(row)).sum(), rtol=1e-5)
    assert answer.tokens == 7


@pytest.mark.slow
@MANY
@given(ROWS)
def test_base64_and_numbers_agree(rows):
    one, two = (wire.read_answer(write(rows, how), len(rows), len(rows[0])) for how in ("base64", "float"))
    np.testing.assert_array_equal(one.rows, two.rows)
    assert one.bad == two.bad


@MANY
@given(st.binary(max_size=200), st.integers(1, 4), st.integers(1, 4))
def test_any_bytes(raw, items, width):
    assert read(raw, items, width) is None


@pytest.mark.slow
@MANY
@given(JSON, st.integers(1, 3), st.integers(1, 3))
def test_any_json(value, items, width):
    answer = read(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS) if fits(value) else b"", items, width)
    if answer is not None:
        check_shape(answer, items, width)


def fits(value):
    try:
        orjson.dumps(value)
    except TypeError:
        return False
    return True


@pytest.mark.slow
@MANY
@given(ROWS, st.data())
def test_a_mutated_answer_is_refused_or_its_untouched_rows_are_right(rows, data):
    """Whatever is put in the place of one field, no row ends up at another's place."""
    items, width = len(rows), len(rows[0])
    body = json.loads(write(rows))
    victim = data.draw(st.integers(0, items - 1))
    name = data.draw(st.sampled_from(["index", "embedding"]))
    body["data"][victim][name] = data.draw(JSON.filter(fits))
    answer = read(orjson.dumps(body), items, width)
    if answer is None:
        return
    check_shape(answer, items, width)
    for place in set(range(items)) - {victim} - set(answer.bad):
        np.testing.assert_array_equal(answer.rows[place], np.array(rows[place], np.float32))
    if name == "index":
        assert type(body["data"][victim]["index"]) is int


@pytest.mark.slow
@MANY
@given(ROWS, st.data())
def test_cut_and_extended_bodies_are_refused(rows, data):
    raw = write(rows)
    cut = data.draw(st.integers(0, len(raw) - 1))
    assert read(raw[:cut], len(rows), len(rows[0])) is None
    assert read(raw + data.draw(st.sampled_from([b"{}", b"x", b"\0", b",", raw])), len(rows), len(rows[0])) is None


@pytest.mark.slow
@MANY
@given(
    ROWS, st.lists(st.integers(-1, 6) | st.booleans() | st.text(max_size=1) | st.none() | st.floats(0, 3), max_size=6)
)
def test_indices_are_each_once_or_the_answer_is_refused(rows, indices):
    data = [{"index": index, "embedding": encode(rows[0], "base64")} for index in indices]
    raw = json.dumps({"data": data}).encode()
    whole = [index for index in indices if type(index) is int]
    if len(whole) == len(indices) and sorted(whole) == list(range(len(rows))):
        assert read(raw, len(rows), len(rows[0])) is not None
    else:
        with pytest.raises(base.WrongIndices):
            wire.read_answer(raw, len(rows), len(rows[0]))


@pytest.mark.parametrize(
    "embedding",
    [
        None,
        "",
        "no base64",
        "é",
        [],
        [None, None],
        ["1", "2"],
        [[1], [2]],
        [[1, 2]],
        [1, "2"],
        {},
        3,
        True,
        [1e300, 1],
        [float("nan"), 1],
        [0, 0],
        "AAAAAAAAAAA",
        "AAAAAAAAAAAA",
        [10**400, 1],
        [{}, 1],
    ],
)
def test_a_row_that_is_no_vector_is_bad_and_spoils_no_other(embedding):
    good = [1.0, 2.0]
    data = [{"index": 0, "embedding": good}, {"index": 1, "embedding": embedding}]
    answer = read(json.dumps({"data": data}).encode(), 2, 2)
    if answer is not None:  # numbers that JSON does not have
        assert answer.bad == (1,)
        np.testing.assert_array_equal(answer.rows[0], good)


def test_one_other_width_for_all_is_told_from_one_odd_row():
    with pytest.raises(base.WrongDimensions) as caught:
        wire.read_answer(write([[1, 2, 3], [4, 5, 6]]), 2, 2)
    assert caught.value.width == 3
    assert wire.read_answer(write([[1, 2, 3], [4, 5]], "float"), 2, 2).bad == (0,)


@pytest.mark.parametrize(("raw", "hopeless"), [(b"{}{}", True), (b"[" * 5000, True), (b"{", False), (b"<html>", False)])
def test_what_is_more_than_json_is_not_asked_for_again(raw, hopeless):
    with pytest.raises(base.Malformed) as caught:
        wire.read_answer(raw, 1, 1)
    assert caught.value.hopeless is hopeless


@pytest.mark.parametrize(
    "usage", [None, {}, {"total_tokens": None}, {"total_tokens": -1}, {"total_tokens": True}, [], 3]
)
def test_an_answer_without_usable_usage_counts_no_tokens(usage):
    raw = json.dumps({"usage": usage, "data": [{"index": 0, "embedding": [1.0]}]}).encode()
    assert wire.read_answer(raw, 1, 1).tokens == 0


# Refusals


@pytest.mark.slow
@MANY
@given(JSON | st.just(None))
def test_any_json_is_some_refusal(value):
    check_refusal(wire.read_refusal(orjson.dumps(value) if fits(value) else b"?"))


@MANY
@given(st.binary(max_size=100))
def test_any_bytes_are_some_refusal(raw):
    check_refusal(wire.read_refusal(raw))


def check_refusal(refusal):
    assert isinstance(refusal.code, str)
    assert isinstance(refusal.message, str)
    assert len(refusal.message) <= 500
    assert refusal.index is None or (type(refusal.index) is int and refusal.index >= 0)


REFUSALS = [
    ({"detail": "no", "code": "C", "request_id": "r"}, ("C", "no", "r", None, None)),
    ({"detail": {"message": "no", "code": "C", "request_id": "r"}}, ("C", "no", "r", None, None)),
    (
        {
            "detail": "Validation error",
            "request_id": "r",
            "errors": [{"field": "body -> input -> 3", "message": "no", "type": "t", "input": "echo"}],
        },
        ("", "no", "r", 3, None),
    ),
    ({"errors": [{"field": "body -> input -> 3 -> image", "message": "no"}]}, ("", "no", None, 3, None)),
    ({"errors": [{"field": "body -> dimensions", "message": "no"}]}, ("", "no", None, None, "dimensions")),
    ({"detail": [{"loc": ["body", "input", 7], "msg": "no", "type": "t"}]}, ("", "no", None, 7, None)),
    ({"detail": [{"loc": ["body", "task"], "msg": "no"}]}, ("", "no", None, None, "task")),
    ({"errors": [{"field": "body -> input", "message": "no"}]}, ("", "no", None, None, None)),
    ({"errors": [{"field": "input -> " + "9" * 5000, "message": "no"}]}, ("", "no", None, None, None)),
    ({"errors": [{"field": "input -> -1", "message": "no"}]}, ("", "no", None, None, None)),
    ([], ("", "", None, None, None)),
]


@pytest.mark.parametrize(("body", "expected"), REFUSALS)
def test_the_shapes_of_refusals(body, expected):
    found = wire.read_refusal(json.dumps(body).encode())
    assert (found.code, found.message, found.request_id, found.index, found.field) == expected


# Requests


FIXED = {"normalized": True, "embedding_type": "base64", "truncate": False}


@pytest.mark.parametrize(
    ("spec", "options", "query", "more"),
    [
        (JINA_CLIP_V2, {}, False, {}),
        (JINA_CLIP_V2, {}, True, {"task": "retrieval.query"}),
        (JINA_CLIP_V2, {"dimensions": 64}, False, {"dimensions": 64}),
        (JINA_CLIP_V2, {"dimensions": 1024}, True, {"dimensions": 1024, "task": "retrieval.query"}),
        (JINA_CLIP_V2, {"normalized": False, "truncate": True}, False, {"normalized": False, "truncate": True}),
        (JINA_CLIP_V1, {}, True, {}),
        (JINA_CLIP_V1, {"dimensions": 768}, True, {}),
    ],
)
def test_fields_go_only_where_the_model_has_them(spec, options, query, more):
    found = wire.settings(EmbedderConfig(spec.name, **options), spec, query=query)
    assert found == {"model": spec.name, **FIXED, **more}


def test_inputs_are_objects():
    body = orjson.loads(
        wire.write_request(
            {"model": "m"}, [wire.text_input("é"), wire.image_input(b"\x00\xff"), wire.url_input("https://a.b/c")]
        )
    )
    assert body == {"model": "m", "input": [{"text": "é"}, {"image": "AP8="}, {"image": "https://a.b/c"}]}


@pytest.mark.parametrize(
    ("given_url", "full"),
    [
        ("https://api.jina.ai/v1/embeddings", "https://api.jina.ai/v1/embeddings"),
        ("https://api.jina.ai/v1", "https://api.jina.ai/v1/embeddings"),
        ("https://api.jina.ai/v1/", "https://api.jina.ai/v1/embeddings"),
        ("https://api.jina.ai", "https://api.jina.ai/v1/embeddings"),
        ("https://api.jina.ai/", "https://api.jina.ai/v1/embeddings"),
        ("api.jina.ai", "https://api.jina.ai/v1/embeddings"),
        (" https://eu.example/jina/v2 ", "https://eu.example/jina/v2/embeddings"),
        ("http://localhost:8080", "http://localhost:8080/v1/embeddings"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x/embeddings"),
    ],
)
def test_forms_of_base_url(given_url, full):
    assert endpoint(given_url) == full
    assert EmbedderConfig(base_url=given_url).base_url == full
    assert endpoint(full) == full


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "ftp://a.b",
        "https://",
        "https://user@a.b",
        "https://user:word@a.b",
        "https://a.b?x=1",
        "https://a.b#x",
        "https://a b",
        "https://a\\b",
        "https://a.b:99999",
        "https://a.b:0",
        "https://a\nb",
        "file:///etc",
        "https://[::1",
    ],
)
def test_what_is_no_base_url(url):
    with pytest.raises(ConfigError, match="base_url"):
        EmbedderConfig(base_url=url)
