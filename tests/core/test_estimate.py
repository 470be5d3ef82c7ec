"""What a call will be billed, against prices that Jina publishes and replies that were recorded."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jinaclip import ConfigError, InputError, JinaClip, Pair
from jinaclip.call.estimate import Estimate, image_tokens, text_tokens


@pytest.mark.parametrize(
    ("size", "v1", "v2"),
    [
        ((600, 600), 9_000, 16_000),
        ((750, 500), 12_000, 8_000),
        ((1080, 1080), 25_000, 36_000),
        ((333, 333), 4_000, 4_000),
        ((4000, 3000), 252_000, 192_000),
        ((1, 1), 1_000, 4_000),
        ((224, 224), 1_000, 4_000),
        ((225, 224), 2_000, 4_000),
        ((512, 512), 9_000, 4_000),
        ((513, 512), 9_000, 8_000),
    ],
)
def test_started_tiles_are_billed(size, v1, v2):
    assert image_tokens(*size, "jina-clip-v1") == v1
    assert image_tokens(*size) == image_tokens(*size, "jinaai/jina-clip-v2") == v2


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_a_picture_has_an_area(size):
    with pytest.raises(InputError, match="area"):
        image_tokens(*size)


def test_an_unknown_model_has_no_price():
    with pytest.raises(ConfigError, match="jina-clip-v9"):
        image_tokens(1, 1, "jina-clip-v9")


@pytest.mark.parametrize(("text", "tokens"), [("one", 3), ("ten " * 9 + "ten", 13), ("x" * 600, 112), ("水" * 100, 57)])
def test_texts_are_counted_by_words_or_by_bytes(text, tokens):
    assert text_tokens(text) == tokens


def test_half_characters_can_be_counted():
    assert text_tokens("\ud800") > 0


def test_an_estimate_counts_requests_and_tokens_and_sends_nothing():
    clip = JinaClip(base_url="http://127.0.0.1:9", batch_size=10, api_key="jina_test")
    assert clip.estimate([]) == Estimate(0, 0)
    assert clip.estimate(["one"] * 25) == Estimate(3, 75)
    big = Image.new("RGB", (1600, 1200))
    assert clip.estimate([big]) == Estimate(1, 4_000)
    assert clip.estimate(["one", *[big] * 10]) == Estimate(2, 40_003)
    assert clip.estimate([big] * 60).requests == 6
    assert clip.usage.requests == 0


def test_an_estimate_of_pictures_as_they_are_looks_at_their_size(tmp_path):
    clip = JinaClip(base_url="http://127.0.0.1:9", image_resize="none", api_key="jina_test")
    path = tmp_path / "big.png"
    Image.new("RGB", (1600, 1200)).save(path)
    array = np.zeros((512, 513, 3), np.uint8)
    assert clip.estimate([path]).tokens == 12 * 4_000
    assert clip.estimate([array, path]) == Estimate(1, 14 * 4_000)
    assert clip.estimate(path for _ in range(3)) == Estimate(2, 36 * 4_000)


def test_an_estimate_of_a_pair_counts_the_halves_that_have_weight():
    clip, image = JinaClip(base_url="http://127.0.0.1:9", api_key="jina_test"), Image.new("RGB", (9, 9))
    assert clip.estimate([Pair("one", image)]) == Estimate(1, 4_003)
    assert [clip.estimate([Pair("one", image, weight)]).tokens for weight in (0, 1)] == [4_000, 3]


@pytest.mark.parametrize("items", ["one", [""], Path("a.png"), [3], [Path("none.png")], [Pair("", b"x")]])
def test_an_estimate_of_what_could_not_be_embedded(items):
    with pytest.raises(InputError):
        JinaClip(api_key="jina_test").estimate(items)


def test_validating_names_the_item_and_sends_nothing(tmp_path):
    clip = JinaClip(base_url="http://127.0.0.1:9", api_key="jina_test")
    path = tmp_path / "one.png"
    Image.new("RGB", (9, 9)).save(path)
    clip.validate(["one", "two", path, Pair("three", path)])
    for bad, index in [(["one", " "], 1), ([path, path, tmp_path / "none.png"], 2), (["one", Pair("two", b"")], 1)]:
        with pytest.raises(InputError) as caught:
            clip.validate(bad)
        assert caught.value.index == index
    assert clip.usage.requests == 0
