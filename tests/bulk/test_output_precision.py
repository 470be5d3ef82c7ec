"""Vectors of fewer bits point where the full ones do, and need nothing but their row to be read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jinaclip.backends.api.wires.jina import write_vector
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.precision import PRECISIONS, check_precision, decode, encode, stored_width
from jinaclip.errors import ConfigError, InputError

ROWS = np.random.default_rng(0).normal(size=(50, 1024)).astype(np.float32)
UNIT = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)

NUMBERS = st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False).map(lambda x: x if abs(x) > 1e-30 else 0.0)


def cosines(one, other):
    return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


@pytest.mark.parametrize("rows", [UNIT, 30 * UNIT, 1e-3 * ROWS], ids=["unit", "of length 30", "small"])
@pytest.mark.parametrize(
    ("precision", "least"), [("float32", 1.0), ("float16", 0.999_999), ("int8", 0.9999), ("ubinary", 0.78)]
)
def test_a_vector_read_back_points_where_it_did(rows, precision, least):
    stored, scales = encode(rows, precision)
    assert stored.shape == (len(rows), stored_width(precision, 1024))
    found = decode(stored, precision, scales)
    assert found.dtype == np.float32
    assert cosines(rows, found).min() >= least - 1e-6


def test_lengths_stay_but_for_bits():
    for precision in ("float32", "float16", "int8"):
        found = decode(*reorder(encode(30 * UNIT, precision), precision))
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 30, rtol=1e-3)
    bits = decode(encode(30 * UNIT, "ubinary")[0], "ubinary")
    np.testing.assert_allclose(np.linalg.norm(bits, axis=1), 1, rtol=1e-6)


def reorder(stored, precision):
    rows, scales = stored
    return rows, precision, scales


@given(st.lists(NUMBERS, min_size=1, max_size=40))
def test_no_number_of_int8_is_further_off_than_half_a_step(numbers):
    row = np.array([numbers], np.float32)
    stored, scales = encode(row, "int8")
    assert stored.min() >= -127
    assert np.abs(decode(stored, "int8", scales) - row).max() <= 0.501 * scales[0]


def test_the_negative_of_a_vector_is_as_exact_as_the_vector():
    stored, scales = encode(UNIT, "int8")
    mirrored, same = encode(-UNIT, "int8")
    np.testing.assert_array_equal(mirrored, -stored)
    np.testing.assert_array_equal(same, scales)


def test_a_vector_of_zeros_stays_one():
    for precision in ("float32", "float16", "int8"):
        assert not decode(*reorder(encode(np.zeros((1, 8), np.float32), precision), precision)).any()


def test_bits_are_in_the_order_of_the_hosted_api():
    assert encode(UNIT, "ubinary")[0][0].tolist() == write_vector(UNIT[0], "ubinary")


def test_what_is_too_large_for_float16_is_refused_by_its_row():
    rows = np.ones((3, 8), np.float32)
    rows[1, 2] = 1e5
    with pytest.raises(InputError, match=r"row 1 .* too large for float16") as caught:
        encode(rows, "float16")
    assert caught.value.index == 1


def test_rows_of_int8_are_not_read_without_their_scales():
    with pytest.raises(InputError, match="scales"):
        decode(np.ones((1, 8), np.int8), "int8")


@pytest.mark.parametrize(("precision", "dimensions"), [("float64", 8), ("binary", 8), ("ubinary", 100)])
def test_what_cannot_be_written_is_refused(precision, dimensions):
    with pytest.raises(ConfigError, match=f"precision='{precision}'") as caught:
        Shape(dimensions, precision, "space")
    assert caught.value.option == "precision"
    for known in PRECISIONS:
        check_precision(known, 104)
