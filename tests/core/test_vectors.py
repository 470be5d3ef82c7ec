"""Arithmetic on embeddings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from jinaclip import ConfigError, InputError, fuse, truncate
from jinaclip.vectors import normalize

NUMBERS = st.floats(-100, 100, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3)
MATRICES = arrays.arrays(np.float32, arrays.array_shapes(min_dims=1, max_dims=2, max_side=8), elements=NUMBERS)
SOUND = MATRICES.filter(lambda values: bool(np.linalg.norm(values, axis=-1).all()))


def unit(values):
    return np.asarray(values, np.float64) / np.linalg.norm(np.asarray(values, np.float64), axis=-1, keepdims=True)


# normalize, truncate


@settings(deadline=None)
@given(SOUND)
def test_normalised_vectors_keep_shape_and_direction(values):
    found = normalize(values)
    assert (found.shape, found.dtype) == (values.shape, np.float32)
    np.testing.assert_allclose(found, unit(values), atol=1e-6)


@settings(deadline=None)
@given(SOUND, st.data())
def test_truncated_vectors_are_the_first_numbers_at_length_one(values, data):
    dimensions = data.draw(st.integers(1, values.shape[-1]))
    head = values[..., :dimensions]
    if not np.linalg.norm(head, axis=-1).all():
        with pytest.raises(InputError, match="zeros"):
            truncate(values, dimensions)
        return
    found = truncate(values, dimensions)
    assert (found.shape, found.dtype) == (head.shape, np.float32)
    np.testing.assert_allclose(found, unit(head), atol=1e-6)


def test_lists_are_taken_and_not_changed():
    values = [[3.0, 4.0, 12.0], [0.0, 1.0, 0.0]]
    np.testing.assert_allclose(truncate(values, 2), [[0.6, 0.8], [0, 1]], rtol=1e-6)
    array = np.array(values, np.float32)
    truncate(array, 3)
    np.testing.assert_array_equal(array, values)


def test_no_vectors_are_truncated_to_no_vectors():
    assert truncate(np.empty((0, 8), np.float32), 4).shape == (0, 4)


@pytest.mark.parametrize("dimensions", [0, -1, 5, 2.0, True, "2", None])
def test_a_width_that_does_not_fit(dimensions):
    with pytest.raises(InputError, match="dimensions"):
        truncate(np.ones(4), dimensions)


def test_an_integer_of_numpy_is_a_width():
    assert truncate(np.ones(4), np.int64(2)).shape == (2,)


@pytest.mark.parametrize(
    "values", [3.0, [], [[]], np.ones((2, 2, 2)), "text", [[1, 2], [3]], [None, 1], [np.nan, 1], [np.inf, 1], [{}]]
)
def test_what_is_no_embedding(values):
    for function in (lambda: truncate(values, 1), lambda: fuse(values, values), lambda: normalize(values)):
        with pytest.raises(InputError):
            function()


def test_a_vector_of_zeros_is_named():
    with pytest.raises(InputError, match="zeros") as caught:
        normalize([[1, 0], [0, 0]])
    assert caught.value.index == 1
    with pytest.raises(InputError) as caught:
        normalize([0, 0])
    assert caught.value.index is None


# fuse


@settings(deadline=None)
@given(SOUND, st.floats(0, 1), st.randoms(use_true_random=False))
def test_fusion_is_the_weighted_mean_of_unit_vectors_at_length_one(text, weight, draw):
    image = np.roll(text, 1, axis=-1) + np.float32(draw.random() + 0.1)
    mean = weight * unit(text) + (1 - weight) * unit(image) if np.linalg.norm(image, axis=-1).all() else None
    if mean is None or np.linalg.norm(mean, axis=-1).min() < 1e-3:
        return
    found = fuse(text, image, weight)
    assert (found.shape, found.dtype) == (text.shape, np.float32)
    np.testing.assert_allclose(found, unit(mean), atol=1e-3)


def test_lengths_do_not_weigh():
    np.testing.assert_allclose(fuse([10.0, 0], [0, 0.1]), [0.5**0.5] * 2, rtol=1e-6)


def test_the_weight_is_the_text_s():
    text, image = np.array([[1.0, 0]]), np.array([[0, 1.0]])
    np.testing.assert_allclose(fuse(text, image, 1), text)
    np.testing.assert_allclose(fuse(text, image, 0), image)
    np.testing.assert_allclose(fuse(text, image, 0.75), unit([[0.75, 0.25]]), rtol=1e-6)
    np.testing.assert_allclose(fuse(text, image), fuse(text, image, np.float32(0.5)))


@pytest.mark.parametrize("weight", [-0.01, 1.01, float("nan"), float("inf"), True, "0.5", None])
def test_a_weight_out_of_range(weight):
    with pytest.raises(ConfigError, match="weight"):
        fuse([1, 0], [0, 1], weight)


def test_opposite_vectors_cancel_out_and_are_refused():
    with pytest.raises(InputError, match="opposite") as caught:
        fuse([[1, 0], [0.6, 0.8]], [[1, 0], [-1.2, -1.6]])
    assert caught.value.index == 1
    with pytest.raises(InputError, match="opposite") as caught:
        fuse([1, 0], [-1, 0])
    assert caught.value.index is None
    np.testing.assert_allclose(fuse([1, 0], [-1, 0], 0.6), [1, 0])


def test_shapes_that_differ():
    with pytest.raises(InputError, match="same shape"):
        fuse(np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(InputError, match="same shape"):
        fuse(np.ones(3), np.ones((1, 3)))
