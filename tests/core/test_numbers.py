"""Numbers and texts of NumPy, and of others, wherever one of Python's is taken; what is kept is Python's own."""

from __future__ import annotations

import enum
import json
from dataclasses import fields
from fractions import Fraction

import numpy as np
import pytest

import jinaclip
from jinaclip import ConfigError, ImagePolicy, InputError, JinaClip, Pair, fuse, truncate
from jinaclip.call.pool import _settings
from jinaclip.config import EmbedderConfig
from jinaclip.inputs import as_text
from jinaclip.numeric import is_number, is_whole, plain
from jinaclip.retrieval import Diversifier, classify, diversify

WHOLE = {
    "dimensions": 64,
    "batch_size": 7,
    "max_concurrency": 3,
    "max_retries": 2,
    "requests_per_minute": 60,
    "tokens_per_minute": 1000,
    "token_budget": 100,
    "image_quality": 90,
}
SECONDS = {"timeout": 12.5, "deadline": 0.25}
POLICY_WHOLE = {"max_bytes": 99, "max_upload_bytes": 98, "max_pixels": 97, "max_redirects": 2, "frame": 1}
POLICY_SECONDS = {"connect_timeout": 1.5, "fetch_timeout": 2.5}


class Size(enum.IntEnum):
    SMALL = 64


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint16, np.int16])
def test_options_take_numpys_whole_numbers_and_keep_pythons(kind):
    config = EmbedderConfig(**{name: kind(value) for name, value in WHOLE.items()})
    assert {name: (type(getattr(config, name)), getattr(config, name)) for name in WHOLE} == {
        name: (int, value) for name, value in WHOLE.items()
    }
    policy = ImagePolicy(**{name: kind(value) for name, value in POLICY_WHOLE.items()}, ports=(kind(443),))
    policy = ImagePolicy(**{name: getattr(policy, name) for name in POLICY_WHOLE}, background=tuple(kind([1, 2, 3])))
    json.dumps({item.name: getattr(policy, item.name) for item in fields(policy)})
    assert policy.background == (1, 2, 3)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16, Fraction])
def test_options_take_numpys_real_numbers_and_keep_pythons(kind):
    config = EmbedderConfig(**{name: kind(value) for name, value in SECONDS.items()})
    assert {name: type(getattr(config, name)) for name in SECONDS} == dict.fromkeys(SECONDS, float)
    policy = ImagePolicy(**{name: kind(value) for name, value in POLICY_SECONDS.items()})
    assert {name: (type(getattr(policy, name)), getattr(policy, name)) for name in POLICY_SECONDS} == {
        name: (float, value) for name, value in POLICY_SECONDS.items()
    }


def test_other_types_of_numbers_texts_and_bools():
    config = EmbedderConfig(np.str_("jina-clip-v1"), batch_size=Size.SMALL, normalized=np.True_, backend=np.str_("api"))
    kept = (config.model, config.batch_size, config.normalized, config.backend)
    assert [*map(type, kept)] == [str, int, bool, str]
    assert kept == ("jina-clip-v1", 64, True, "api")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch_size", True),
        ("batch_size", np.True_),
        ("batch_size", np.float64(3)),
        ("batch_size", 3.0),
        ("batch_size", np.int64(0)),
        ("batch_size", "3"),
        ("batch_size", np.array(3)),
        ("timeout", np.float32("nan")),
        ("timeout", np.float64("inf")),
        ("timeout", Fraction(10**400)),
        ("timeout", 10**400),
        ("timeout", True),
        ("timeout", np.complex64(1)),
        ("normalized", np.int64(1)),
    ],
)
def test_what_is_no_such_number_is_refused(option, value):
    with pytest.raises(ConfigError, match=option):
        EmbedderConfig(**{option: value})


def test_arguments(clip):
    one = clip(dimensions=np.int64(64))
    rows = one.embed_documents(["a", "b"])
    assert rows.shape == (2, 64)
    assert type(one.dimensions) is int
    image = np.zeros((8, 8, 3), np.uint8)
    pair = Pair("a", image, np.float32(0.25))
    assert type(pair.weight) is float
    assert (one.embed_pairs([("a", image)], weight=np.float64(0.25)) == one.embed_pairs([pair])).all()
    assert (truncate(rows, np.uint8(32)) == truncate(rows, 32)).all()
    assert (fuse(rows, rows[::-1], Fraction(1, 4)) == fuse(rows, rows[::-1], 0.25)).all()
    assert one.preview(image, side=np.int64(4)) == one.preview(image, side=4)
    np.testing.assert_array_equal(
        classify(one, ["a"], ["b", "c"], temperature=np.float32(0.5)).probabilities,
        classify(one, ["a"], ["b", "c"], temperature=0.5).probabilities,
    )


@pytest.mark.slow
def test_re_ordering():
    rows = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32)
    small = np.uint8
    for options in ({"method": "mmr", "lambda_mult": np.float32(0.5)}, {"clusters": small(2), "seed": small(7)}):
        plainly = {name: value if isinstance(value, str) else value.item() for name, value in options.items()}
        assert diversify(rows, small(5), **options) == diversify(rows, 5, **plainly)
    assert Diversifier(np.int64(3), np.int32(2), seed=np.uint8(1)).k == 3


def test_sizes_do_not_wrap_around():
    for kind in (np.uint8, np.int16, np.uint16, np.int64):
        assert jinaclip.call.estimate.image_tokens(kind(100), kind(100)) == 4000


@pytest.fixture
def settings():
    threads, pixels = _settings.threads, _settings.pixels
    yield _settings
    jinaclip.configure(prepare_threads=threads, pixel_budget=pixels)


def test_the_pool(settings):
    jinaclip.configure(prepare_threads=np.int64(2), pixel_budget=np.int32(120_000_000))
    assert (type(settings.threads), type(settings.pixels)) == (int, int)
    with pytest.raises(ConfigError):
        jinaclip.configure(prepare_threads=True)


@pytest.mark.parametrize("number", [np.int64(1), np.uint8(1), 1])
def test_a_page(tmp_path, number):
    from jinaclip import Image
    from jinaclip.images import Pages
    from tests.needs import skip_without

    skip_without("pypdfium2")
    from PIL import Image as Pillow

    Pillow.new("RGB", (40, 30)).save(tmp_path / "a.pdf")
    with Pages() as pages:
        assert pages.find(Image.from_path(tmp_path / "a.pdf"), number).number == 1
        with pytest.raises(InputError):
            pages.find(Image.from_path(tmp_path / "a.pdf"), True)


def test_texts_of_numpy(clip):
    one = clip()
    assert (one.embed_documents(np.array(["a", "b"])) == one.embed_documents(["a", "b"])).all()
    assert type(as_text(np.str_("a")).value) is str


def test_plain_numbers():
    assert [is_whole(v) for v in (1, np.int8(1), True, np.True_, 1.0, "1", None)] == [True, True] + [False] * 5
    assert [is_number(v) for v in (1, 1.5, np.float16(1), Fraction(1), True, 1j, "1")] == [True] * 4 + [False] * 3
    assert plain({"a": (np.int64(1), [np.float32(0.5)]), "b": None}) == {"a": (1, [0.5]), "b": None}
    value = object()
    assert plain(value) is value


def test_an_object_with_such_options_is_like_one_without(clip):
    one = JinaClip(dimensions=np.int64(64), timeout=np.float32(5), api_key="...")
    other = JinaClip(dimensions=64, timeout=5.0, api_key="...")
    assert one.space == other.space
    assert repr(one) == repr(other)
    assert repr(one.config) == repr(other.config)
