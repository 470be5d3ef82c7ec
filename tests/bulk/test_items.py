"""What of a row is embedded, and what tells it apart."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from jinaclip import ConfigError, ImagePolicy, InputError, Pair
from jinaclip.bulk.items import NO_DIGEST, digest_of, items_of, key_of
from jinaclip.inputs import Image
from jinaclip.sources import SourceRow, StoredFile
from jinaclip.sources.pages import Document, StoredPage
from jinaclip.sources.places import LocalFolder

POLICY = ImagePolicy()
PNG = bytes(range(256)) * 200
PAGE = StoredPage(Document(StoredFile(LocalFolder("/tmp"), "a.pdf"), b"d" * 32, POLICY), 3)
GREY = Image.from_array(np.full((2, 3), 128, "uint8"))


def items(text=None, image=None, pair=None, weight=0.5):
    return items_of(SourceRow("a", text, image, "row 0"), pair, weight, POLICY)


@pytest.mark.parametrize(
    ("text", "image", "pair", "digests"),
    [
        ("a dress", None, None, ["ca0463f3f7699f9a39284dbbe67e80ae"]),
        ("ünï", None, "fuse", ["7e8e1aa7aafeb142ba8034664f8b842e"]),
        (None, b"file", None, ["290a735dc98bd324991c3264c83447e1"]),
        (None, PNG, "fuse", ["caa96ff46da6c5d39e76a70db7e571e0"]),
        (None, "https://example.com/a.png", None, ["1d9f3d2c5948f757f98c4b071d229e0b"]),
        (None, PAGE, None, ["25a0195a06a4d854367d017ac816607e"]),
        (None, GREY, None, ["cf62efd56e55de47b7bcb3e976173e6f"]),
        ("a dress", b"file", "fuse", ["a85e64ab144f2beb2936e7584cf3a371"]),
        ("a dress", b"file", "both", ["ca0463f3f7699f9a39284dbbe67e80ae", "290a735dc98bd324991c3264c83447e1"]),
    ],
)
def test_digests_are_those_of_all_outputs_that_were_ever_written(text, image, pair, digests):
    """If one changes, every run after an update embeds everything again."""
    assert [item.digest.hex() for item in items(text, image, pair)] == digests


def test_keys_are_those_of_all_outputs():
    assert key_of("a.png", "image").hex() == "ddaba46ca502021fafa3e9c0d667c189"
    assert len({key_of(name, kind) for name in ("a", "ab", "b", "") for kind in ("text", "image", "btext")}) == 12


def test_a_digest_is_the_beginning_of_sha256_over_fields_with_their_lengths():
    small, large = b"abc", bytes(100_000)
    plain = b"".join(len(field).to_bytes(8, "little") + field for field in (b"kind", small, large, small, b""))
    assert digest_of(b"kind", [small, large, small, b""]) == hashlib.sha256(plain).digest()[:16]


def test_a_row_of_both_is_one_item_or_two():
    [text, image] = items("a", b"file", "both")
    assert [(item.kind, item.id, item.where) for item in (text, image)] == [
        ("text", "a", "row 0"),
        ("image", "a", "row 0"),
    ]
    assert text.content == "a"
    assert isinstance(image.content, Image)
    assert image.content.source == b"file"
    assert [item.digest for item in items("a", b"file")] == [text.digest, image.digest]
    [fused] = items("a", b"file", "fuse", 0.3)
    assert isinstance(fused.content, Pair)
    assert (fused.kind, fused.content.text, fused.content.weight) == ("pair", "a", 0.3)
    assert fused.digest not in (text.digest, image.digest)


@pytest.mark.parametrize("pair", ["fuse", "both", None])
def test_a_row_of_one_is_that(pair):
    assert [item.kind for item in items("a", None, pair)] == ["text"]
    assert [item.kind for item in items(None, b"file", pair)] == ["image"]


def test_contents_of_different_kinds_have_different_digests():
    found = [items(text="a"), items(image=b"a"), items("a", b"a", "fuse"), items("aa", b"", "both")[:1]]
    assert len({item.digest for [item] in found}) == 4
    address = "https://example.com/a.png"
    assert (
        len({items(text=address)[0].digest, items(image=address)[0].digest, items(image=address.encode())[0].digest})
        == 3
    )


def test_an_error_is_that_of_its_half_and_of_a_pair():
    [text, image] = items(" ", "none.png", "both")
    assert "text of row 0: empty or blank" in str(text.error)
    assert "image of row 0: image file 'none.png' does not exist" in str(image.error)
    assert (text.content, image.content, text.digest, image.digest) == (None, None, NO_DIGEST, NO_DIGEST)
    [text, image] = items("fine", b"", "both")
    assert text.error is None
    assert "empty" in str(image.error)
    [pair] = items("fine", b"", "fuse")
    assert (pair.kind, pair.content) == ("pair", None)
    assert "empty" in str(pair.error)


def test_an_error_of_the_row_is_one_item():
    error = InputError("row 0 has no id")
    [item] = items_of(SourceRow("row 0", None, None, "row 0", error), "both", 0.5, POLICY)
    assert (item.kind, item.error, item.content) == ("text", error, None)
    [item] = items_of(SourceRow("a.pdf", None, b"", "a.pdf", error), None, 0.5, POLICY)
    assert item.kind == "image"


def test_what_was_digested_is_what_is_embedded(tmp_path):
    """The file may change while its item waits for its turn."""
    (tmp_path / "a.png").write_bytes(b"before")
    [item] = items(image=StoredFile(LocalFolder(str(tmp_path)), "a.png"))
    (tmp_path / "a.png").write_bytes(b"behind")
    assert item.content.source == b"before"
    assert item.digest == items(image=b"before")[0].digest


def test_what_nothing_tells_apart_is_refused():
    class Chart:
        def render(self, max_pixels):
            raise AssertionError

    [item] = items(image=Chart())
    assert "Chart draws itself, and nothing tells two of them apart" in str(item.error)


def test_an_address_that_is_not_allowed_is_refused_before_it_is_sent():
    [item] = items(image="http://example.com/a.png")
    assert "not 'http'" in str(item.error)


def test_a_weight_out_of_range_is_refused():
    with pytest.raises(ConfigError, match="weight"):
        items("a", b"file", "fuse", 2.0)
