"""Two requests have the same key if, and only if, one vector serves both: a million pairs of all but equal ones."""

from __future__ import annotations

import io
import random
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from jinaclip import InputError, JinaClip
from jinaclip.cache.keys import Keys, file_key
from jinaclip.space import Weights
from jinaclip.testing import Server
from tests.needs import long

Make = Callable[..., JinaClip]
SAME = 2e-6
WORDS = ["a", "ab", "b", "e\u0301", "\u00e9", "\ufb01", "fi", "\u0130", "i", " ", "\u00a0", "\n", "0", "-0.0", "0.0"]
WORDS += [
    "query",
    "document",
    "text",
    "text cut",
    "image",
    "url",
    "\x00",
    "\x00\x00",
    "\x05",
    "\U0001f600",
    "normalized",
]


SURELY_WHOLE = Keys(Weights("m", {}), normalized=True, queries_differ=True, max_tokens=8192).surely_whole


@dataclass(frozen=True)
class Asked:
    """A text as somebody asks for its vector."""

    weights: str
    endpoint: str | None
    normalized: bool
    queries_differ: bool
    query: bool
    truncate: bool
    text: str

    def keys(self) -> tuple[bytes, ...]:
        keys = keys_of(self.weights, self.endpoint, self.normalized, self.queries_differ)
        return keys.text(self.text, query=self.query, truncate=self.truncate)

    @property
    def is_cut(self) -> bool:
        return self.truncate and len(self.text) > SURELY_WHOLE

    def made_as(self) -> tuple[Any, ...]:
        """All that decides the vector."""
        return self.weights, self.endpoint, self.normalized, self.query and self.queries_differ, self.text

    def serves(self, other: Asked) -> bool:
        """Whether its vector may be given to the other one: a cut text's only where the same may be cut."""
        return self.made_as() == other.made_as() and (not self.is_cut or other.is_cut)


@cache
def keys_of(weights: str, endpoint: str | None, normalized: bool, queries_differ: bool) -> Keys:
    facts = {"weights": weights} | ({} if endpoint is None else {"endpoint": endpoint})
    return Keys(Weights("m", facts), normalized=normalized, queries_differ=queries_differ, max_tokens=8192)


def draw_text(rng: random.Random) -> str:
    text = "".join(rng.choices(WORDS, k=rng.randrange(1, 7)))
    return text if rng.random() < 0.7 else (text * SURELY_WHOLE)[: SURELY_WHOLE + rng.randrange(-1, 3)]


def draw(rng: random.Random) -> Asked:
    flags = [rng.random() < 0.5 for _ in range(4)]
    return Asked(rng.choice(["0a", "0", "a0"]), rng.choice([None, "http://a", "http://ab"]), *flags, draw_text(rng))


def shift(rng: random.Random, one: Asked) -> Asked:
    """Moves a letter from one field to the next."""
    return replace(one, weights=one.weights + one.text[0], text=one.text[1:] or "b")


def twin_text(rng: random.Random, text: str) -> str:
    """A text that looks the same, or is nearly the same."""
    form = rng.choice(["NFC", "NFD", "NFKC", "NFKD"])
    place = rng.randrange(len(text))
    return rng.choice(
        [
            unicodedata.normalize(form, text),
            text[:place] + rng.choice(WORDS) + text[place + 1 :],
            text + rng.choice([" ", "\x00", "\u200b"]),
            text.swapcase(),
            text.strip() or "a",
            "query" + text,
        ]
    )


TWINS = [
    shift,
    lambda rng, one: replace(one, text=twin_text(rng, one.text)),
    lambda rng, one: replace(one, query=not one.query),
    lambda rng, one: replace(one, truncate=not one.truncate),
    lambda rng, one: replace(one, normalized=not one.normalized),
    lambda rng, one: replace(one, weights=(one.endpoint or "")[-1:] + one.weights, endpoint=None),
    lambda rng, one: replace(one, endpoint=rng.choice([None, "http://a", "http://ab"])),
    lambda rng, one: replace(one, queries_differ=not one.queries_differ),
]


def number_of(key: bytes) -> int:
    return int.from_bytes(key[:8], "little")


@pytest.mark.parametrize("count", [5_000, long(900_000)])
def test_a_vector_serves_those_requests_alone_that_would_get_the_same(count: int) -> None:
    """Stored under one, found by the other: as the rule says, no stale hit and none lost. And no two keys collide."""
    rng = random.Random(count)
    found = np.zeros((2 * count, 2), np.uint64)
    for row in range(count):
        one = draw(rng)
        other = rng.choice(TWINS)(rng, one)
        ones, others = one.keys(), other.keys()
        assert (ones[-1] in others) == one.serves(other), (one, other)
        assert (others[-1] in ones) == other.serves(one), (one, other)
        for place, (asked, keys) in enumerate([(one, ones), (other, others)]):
            found[2 * row + place] = number_of(keys[-1]), hash((asked.made_as(), asked.is_cut)) % 2**64
    keys, facts, pairs = (len(np.unique(part, axis=0)) for part in (found[:, 0], found[:, 1], found))
    assert keys == facts == pairs > count / 4


def test_keys_of_all_kinds_differ() -> None:
    """Also where the same bytes are a text, a digest, an address or a file, and across what the weights say."""
    contents = [bytes([number]) * 32 for number in range(65, 91)] + [b"text", b"image", b"", b"url"]
    found: set[bytes] = set()
    for weights in ({"weights": "a"}, {"weights": "a", "endpoint": ""}, {"weights": ["a"]}, {"weights": {"a": "a"}}):
        for normalized in (True, False):
            keys = Keys(Weights("m", weights), normalized=normalized, queries_differ=True, max_tokens=8192)
            for content in contents:
                text = content.decode()
                found.update(keys.text(text, query=query, truncate=False)[0] for query in (True, False))
                found.update([keys.image(content), keys.url(text)])
    found.update(file_key(settings, content) for settings in (b"", b"a", b"file") for content in contents)
    assert len(found) == 4 * 2 * len(contents) * 4 + 3 * len(contents)
    assert {len(key) for key in found} == {32}


def test_the_order_of_what_the_weights_say_is_nothing() -> None:
    one = Keys(Weights("m", {"a": 1, "b": 2}), normalized=True, queries_differ=True, max_tokens=8192)
    other = Keys(Weights("n", {"b": 2, "a": 1}), normalized=True, queries_differ=True, max_tokens=8192)
    assert one.image(b"0" * 32) == other.image(b"0" * 32)


# -- and from the outside: with a cache that holds one of two, the other gets what it would get without


@pytest.mark.slow
@pytest.mark.parametrize("count", [300, long(20_000)])
def test_texts_that_look_the_same_get_vectors_of_their_own(
    clip: Make, server: Server, tmp_path: Any, count: int
) -> None:
    rng = random.Random(count)
    ones = [f"{number} {draw_text(rng)}" for number in range(count)]
    others = [twin_text(rng, text) for text in ones]
    kept, plain = clip(cache=tmp_path / "c" / "v.sqlite"), clip()
    for task in ("document", "query"):
        kept.embed(ones, task=task)
        assert_same(kept.embed([*others, *ones], task=task), plain.embed([*others, *ones], task=task))


def test_half_a_character_is_refused_as_without_a_cache(clip: Make, server: Server, tmp_path: Any) -> None:
    for one in (clip(cache=tmp_path / "c" / "v.sqlite"), clip()):
        with pytest.raises(InputError):
            one.embed_documents(["a", "\ud800"])


def assert_same(found: Any, wanted: Any) -> None:
    assert found.errors.keys() == wanted.errors.keys()
    assert wanted.ok.mean() > 0.75
    assert np.abs(found.vectors - wanted.vectors)[wanted.ok].max() < SAME


def encode(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def with_palette(pixels: np.ndarray, rng: np.random.Generator) -> bytes:
    """The same pixels by numbers into a palette, in an order by chance: at most 256 colours."""
    colours, places = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    order = rng.permutation(len(colours))
    image = Pillow.fromarray(np.argsort(order)[places.ravel()].reshape(pixels.shape[:2]).astype(np.uint8))
    image.putpalette(colours[order].tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def exif(**tags: Any) -> Pillow.Exif:
    found = Pillow.Exif()
    found.update({{"turn": 0x0112, "maker": 0x010F}[name]: value for name, value in tags.items()})
    return found


def pairs_of_images(count: int) -> Iterator[tuple[Any, Any]]:
    for number in range(count):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (12, 16, 3), np.uint8)
        pixels[0, 0] = 0
        nearly = pixels.copy()
        nearly[rng.integers(12), rng.integers(16), rng.integers(3)] ^= 1
        png = encode(pixels, "PNG")
        floats = (pixels / 255).astype(np.float32)
        zeros = np.where(floats == 0, np.float32(-0.0), floats)
        yield from [
            (pixels, nearly),
            (pixels, np.ascontiguousarray(pixels.reshape(16, 12, 3))),
            (pixels, np.ascontiguousarray(pixels.swapaxes(0, 1))),
            (pixels, np.asfortranarray(pixels)),
            (png, with_palette(pixels, rng)),
            (png, with_palette(nearly, rng)),
            (with_palette(pixels, rng), with_palette(pixels[:, :, ::-1], rng)),
            (pixels, floats),  # refused, with a cache as without
            (pixels > 9, (pixels > 9).astype(np.uint8)),
            (Pillow.fromarray(floats[:, :, 0]), Pillow.fromarray(zeros[:, :, 0])),
            (pixels[:, :, 0], pixels[:, :, [0, 0, 0]]),
            (pixels[:, :, 0], np.ascontiguousarray(pixels[:, :, 0].T)),
            (png, encode(pixels, "PNG", exif=exif(turn=6))),
            (png, encode(pixels, "PNG", exif=exif(maker=f"maker {number}"))),
            (encode(pixels, "JPEG"), encode(pixels, "JPEG", exif=exif(turn=int(rng.integers(2, 9))))),
            (encode(pixels, "JPEG"), encode(pixels, "JPEG", exif=exif(maker="m"))),
            (encode(pixels, "JPEG", exif=exif(turn=3)), encode(pixels, "JPEG", exif=exif(turn=8))),
            (encode(pixels, "JPEG", exif=exif(turn=6)), Pillow.open(io.BytesIO(encode(pixels, "JPEG"))).rotate(270)),
            (png, encode(pixels, "WEBP", lossless=True)),
        ]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, long(40)])
@pytest.mark.parametrize("options", [{}, {"image_resize": "pad"}, {"image_quality": 60}], ids=str)
def test_images_that_look_the_same_get_vectors_of_their_own(
    clip: Make, server: Server, tmp_path: Any, count: int, options: dict[str, Any]
) -> None:
    ones, others = zip(*pairs_of_images(count), strict=True)
    options = options | {"batch_size": 64}
    kept, plain = clip(cache=tmp_path / "c" / "v.sqlite", **options), clip(**options)
    first = kept.embed(ones)
    again = kept.embed([*others, *ones])
    assert_same(again, plain.embed([*others, *ones]))
    assert again.usage.hits == len(np.unique(first.vectors[first.ok], axis=0)) >= 4 * count
