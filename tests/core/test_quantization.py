"""Embeddings at a byte or a bit a number: what they are, what is lost, and what is refused."""

import logging
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from jinaclip import ConfigError, InputError
from jinaclip.backends.api.wires.jina import write_vector
from jinaclip.retrieval import calibration_ranges, dequantize, quantize
from jinaclip.vectors import normalize, pack_bits

BYTES = ("int8", "uint8")
BITS = ("binary", "ubinary")
NUMBERS = st.floats(-(2.0**100), 2.0**100, width=32)


def unit(count, width, seed=0):
    return normalize(np.random.default_rng(seed).standard_normal((count, width)))


# golden values, written out by hand


def test_bytes_are_255_steps_from_the_least_to_the_greatest_value_of_each_dimension():
    ranges = [[-1, 0], [1, 51]]  # steps of 2 / 255 and of 51 / 255 = 0.2
    rows = [[-1, 0], [1, 51], [0, 0.2], [0.001, 0.39], [-0.999, 25.6]]
    expected = [[0, 0], [255, 255], [128, 1], [128, 2], [0, 128]]
    codes = quantize(rows, "uint8", ranges)
    assert codes.dtype == np.uint8
    assert codes.tolist() == expected
    signed = quantize(rows, "int8", ranges)
    assert signed.dtype == np.int8
    assert signed.tolist() == [[a - 128, b - 128] for a, b in expected]


def test_bits_are_set_above_zero_the_first_one_highest():
    row = [0.5, -0.1, 0.0, 1e-9, -3, -2, -1, 7, -1, -1, -1, -1, -1, -1, -1, 1e-30]
    assert quantize(row, "ubinary").tolist() == [0b10010001, 0b00000001]
    assert quantize(row, "binary").tolist() == [145 - 128, 1 - 128]
    assert quantize([row, [-1] * 16], "ubinary").tolist() == [[145, 1], [0, 0]]


def test_bits_come_back_as_signs_at_length_one():
    expected = np.array([1, -1, -1, 1, -1, -1, -1, 1]) / np.sqrt(8)
    for codes, precision in ((np.array([145], np.uint8), "ubinary"), (np.array([17], np.int8), "binary")):
        np.testing.assert_allclose(dequantize(codes, precision), expected, rtol=1e-6)


def test_bytes_come_back_as_the_values_of_their_steps():
    found = dequantize([[0, 255], [128, 1]], "uint8", [[-1, 0], [1, 51]])
    np.testing.assert_allclose(found, [[-1, 51], [0.5 / 127.5, 0.2]], rtol=1e-6)
    assert found.dtype == np.float32


def test_ranges_are_the_least_and_the_greatest_of_each_dimension():
    rows = [[1, -2, 0], [3, -5, 0]]
    assert calibration_ranges(rows).tolist() == [[1, -5, 0], [3, -2, 0]]
    assert calibration_ranges(rows, symmetric=True).tolist() == [[-5] * 3, [5] * 3]


# one order of bits


@pytest.mark.parametrize("precision", BITS)
@given(rows=arrays(np.float32, st.tuples(st.integers(1, 4), st.sampled_from([8, 64, 128])), elements=NUMBERS))
def test_the_bits_are_those_that_the_hosted_api_writes(precision, rows):
    """reference: bits above zero, most significant first; "binary" is the byte less 128, and no reinterpretation."""
    for row, codes in zip(rows, quantize(rows, precision), strict=True):
        assert write_vector(row, precision) == codes.tolist()
        octets = [int("".join("01"[int(x > 0)] for x in row[i : i + 8]), 2) for i in range(0, len(row), 8)]
        assert codes.tolist() == [octet - (128 if precision == "binary" else 0) for octet in octets]


def test_a_last_byte_that_is_not_full_ends_with_bits_that_are_not_set():
    assert pack_bits([1, 1, -1]).tolist() == [0b11000000]


# there and back


@given(
    rows=arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=NUMBERS),
    precision=st.sampled_from(BYTES),
)
def test_what_comes_back_is_half_a_step_away_at_most(rows, precision):
    ranges = calibration_ranges(rows)
    found = dequantize(quantize(rows, precision, ranges), precision, ranges)
    low, high = ranges.astype(np.float64)
    rounding = np.spacing(np.abs(ranges).max(axis=0)).astype(np.float64)  # of float32
    assert (np.abs(found - rows.astype(np.float64)) <= (high - low) / 255 / 2 * (1 + 1e-9) + rounding).all()


@given(rows=arrays(np.float32, st.tuples(st.integers(1, 5), st.just(16)), elements=NUMBERS))
def test_signs_are_kept_and_quantising_again_changes_nothing(rows):
    for precision in BITS:
        codes = quantize(rows, precision)
        signs = dequantize(codes, precision)
        assert ((signs > 0) == (rows > 0)).all()
        assert (quantize(signs, precision) == codes).all()


@given(rows=arrays(np.float32, st.tuples(st.integers(2, 6), st.just(4)), elements=st.floats(-1, 1, width=32)))
def test_signed_and_unsigned_differ_by_128(rows):
    ranges = calibration_ranges(rows)
    unsigned = quantize(rows, "uint8", ranges)
    assert (quantize(rows, "int8", ranges).astype(int) == unsigned.astype(int) - 128).all()


def test_a_dimension_of_one_value_keeps_it():
    rows = np.array([[0.25, 1], [0.25, 2]], np.float32)
    ranges = calibration_ranges(rows)
    codes = quantize([[0.25, 1], [0.9, 2]], "uint8", ranges)
    assert codes[:, 0].tolist() == [0, 0]
    assert dequantize(codes, "uint8", ranges)[:, 0].tolist() == [0.25, 0.25]


def test_values_outside_the_ranges_are_clipped_to_them():
    codes = quantize([[5, -5], [3e38, -3e38]], "int8", [[-1, -1], [1, 1]])
    assert codes.tolist() == [[127, -128], [127, -128]]


def test_large_arrays_are_done_in_blocks_and_give_the_same():
    rows = unit(1500, 128)
    ranges = calibration_ranges(rows)
    whole = quantize(rows, "uint8", ranges)
    assert (whole == np.concatenate([quantize(rows[i : i + 7], "uint8", ranges) for i in range(0, 1500, 7)])).all()
    back = dequantize(whole, "uint8", ranges)
    assert (back[777] == dequantize(whole[777], "uint8", ranges)).all()


@pytest.mark.parametrize("precision", [*BYTES, *BITS])
@pytest.mark.parametrize("shape", [(16,), (1, 16), (0, 16)])
def test_shapes_are_kept(precision, shape):
    rows = np.ones(shape, np.float32)
    ranges = np.array([[-1] * 16, [1] * 16])
    codes = quantize(rows, precision, ranges)
    assert codes.shape == (*shape[:-1], 2 if precision in BITS else 16)
    assert dequantize(codes, precision, ranges).shape == shape


@pytest.mark.parametrize("precision", [*BYTES, *BITS])
def test_lists_of_whole_floats_are_read_as_the_hosted_api_writes_them(precision):
    rows = unit(4, 16)
    ranges = calibration_ranges(rows)
    codes = quantize(rows, precision, ranges)
    written = [[float(value) for value in row] for row in codes]
    assert (dequantize(written, precision, ranges) == dequantize(codes, precision, ranges)).all()


@pytest.mark.parametrize("scale", [1, 7.5])
def test_a_range_for_all_dimensions_keeps_the_order_of_distances(scale):
    """So a store may compare the bytes themselves."""
    rows, query = scale * unit(200, 64), scale * unit(1, 64, seed=1)[0]
    ranges = calibration_ranges(rows, symmetric=True)
    codes, asked = (quantize(x, "uint8", ranges).astype(int) for x in (rows, query))
    by_bytes = np.argsort(((codes - asked) ** 2).sum(axis=1), kind="stable")[:10]
    exact = np.argsort(-(rows @ query))[:10]
    assert len({*by_bytes} & {*exact}) >= 9


# where ranges come from


def test_ranges_are_taken_from_what_there_is_to_calibrate_with():
    rows, more = unit(120, 8), unit(120, 8, seed=1)
    assert (quantize(rows, "int8") == quantize(rows, "int8", calibration_ranges(rows))).all()
    given = quantize(rows, "int8", calibration_embeddings=more)
    assert (given == quantize(rows, "int8", calibration_ranges(more))).all()


def test_few_embeddings_to_take_ranges_from_are_worth_a_warning(caplog):
    with caplog.at_level(logging.WARNING, "jinaclip"):
        quantize(unit(100, 8), "int8")
        quantize(unit(99, 8), "ubinary")
        assert caplog.text == ""
        quantize(unit(99, 8), "int8")
    assert "ranges are taken from 99 embeddings" in caplog.text


# what is refused


@pytest.mark.parametrize("precision", [*BYTES, *BITS])
def test_a_row_of_a_failed_item_is_named(precision):
    rows = unit(5, 8)
    rows[3] = np.nan
    with pytest.raises(InputError, match="row 3 of embeddings holds NaN") as caught:
        quantize(rows, precision)
    assert caught.value.index == 3


def test_a_failed_row_to_calibrate_with_is_named():
    rows = unit(5, 8)
    rows[2, 1] = np.inf
    for work in (calibration_ranges, lambda x: quantize(unit(2, 8), "int8", calibration_embeddings=x)):
        with pytest.raises(InputError, match="row 2 ") as caught:
            work(rows)
        assert caught.value.index == 2


@pytest.mark.parametrize("width", [1, 7, 12, 100])
def test_bits_need_whole_bytes(width):
    with pytest.raises(InputError, match=f"{width} dimensions do not fill bytes"):
        quantize(np.ones((2, width)), "binary")


@pytest.mark.parametrize("precision", ["float32", "int4", "INT8", None])
def test_an_unknown_precision(precision):
    for work in (quantize, dequantize):
        with pytest.raises(ConfigError, match="must be one of 'int8', 'uint8', 'binary', 'ubinary'"):
            work(np.ones((2, 8)), precision)


@pytest.mark.parametrize(
    ("ranges", "named"),
    [([[0, 0]], r"shape \(1, 2\)"), ([[0, 0, 0], [1, 1, 1]], r"shape \(2, 3\)"),
     ([[0, 2], [1, 1]], "dimension 1, 2.0 to 1.0"),
     ([[np.nan, 0], [1, 1]], "dimension 0"), ([[0, 0], [1, np.inf]], "dimension 1"), ("wide", "numbers")],
)  # fmt: skip
def test_ranges_that_do_not_fit(ranges, named):
    with pytest.raises(ConfigError, match=named):
        quantize([[0.5, 0.5]], "int8", ranges)
    with pytest.raises(ConfigError, match=named):
        dequantize([[0, 0]], "int8", ranges)


def test_what_has_no_ranges_says_so():
    with pytest.raises(InputError, match="a single embedding has no ranges"):
        quantize(np.ones(8), "int8")
    with pytest.raises(InputError, match=r"not \(0, 8\)"):
        quantize(np.empty((0, 8)), "int8")
    with pytest.raises(InputError, match=r"not \(8,\)"):
        calibration_ranges(np.ones(8))
    with pytest.raises(ConfigError, match="needs the ranges"):
        dequantize(np.zeros((1, 8), np.int8), "int8")


@pytest.mark.parametrize("precision", BITS)
def test_what_is_quantised_is_not_quantised_again(precision):
    codes = quantize(unit(2, 64), precision)
    with pytest.raises(InputError, match="quantised already"):
        quantize(codes, precision)
    with pytest.raises(InputError, match="quantised already"):
        calibration_ranges(codes)


@pytest.mark.parametrize(
    ("codes", "precision", "named"),
    [(np.zeros((1, 8), np.uint8), "int8", "uint8 are not of precision 'int8'"),
     (np.zeros((1, 8), np.int8), "ubinary", "int8 are not of precision 'ubinary'"),
     ([[0.5] * 8], "uint8", "from 0 to 255"), ([[1], [256]], "ubinary", "from 0 to 255"),
     ([[-129]], "binary", "from -128 to 127"), ([[np.nan]], "int8", "whole"), ([[np.inf]], "int8", "whole"),
     ([["a"]], "int8", "not of precision"), ([[1], [1, 2]], "int8", "equally long"), (3, "int8", "shape"),
     (np.zeros((2, 0), np.int8), "binary", "shape")],
)  # fmt: skip
def test_what_is_not_of_a_precision_is_not_dequantised(codes, precision, named):
    with pytest.raises(InputError, match=named):
        dequantize(codes, precision, [[0], [1]])


def test_the_row_that_is_not_of_the_precision_is_named():
    with pytest.raises(InputError) as caught:
        dequantize([[1], [2], [3.5]], "uint8", [[0], [1]])
    assert caught.value.index == 2


@settings(max_examples=30)
@given(values=st.lists(st.lists(st.integers(-300, 300) | st.floats(), min_size=1, max_size=3), max_size=3))
def test_whatever_is_dequantised_is_refused_in_words_or_finite(values):
    with suppress(InputError):
        assert np.isfinite(dequantize(values, "binary")).all()
