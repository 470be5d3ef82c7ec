"""`data:` URIs and base64: held against the cap before they are decoded, in linear time and little memory."""

from __future__ import annotations

import base64
import contextlib
import io
import random
import time
import tracemalloc
from urllib.parse import quote_from_bytes, unquote_to_bytes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from jinaclip import Image, ImagePolicy, InputError, Pair
from jinaclip.hosts import is_data_uri, remove_images
from jinaclip.inputs import as_image, as_text
from jinaclip.uris import BLOCK, unquote

CAP = 1_000_000


def memory(function, *arguments):
    """What a function gave or raised, and the most memory that it took on the way, in bytes."""
    tracemalloc.start()
    try:
        found = function(*arguments)
    except InputError as error:
        found = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return found, peak


LARGE = {
    "all escaped": lambda: "data:image/png," + "%41" * CAP,
    "escapes between letters": lambda: "data:image/png," + "A%42" * (CAP // 2),
    "no escapes": lambda: "data:image/png," + "A" * CAP,
    "escapes that are none": lambda: "data:image/png," + "%%4g" * (CAP // 8),
    "escapes with line breaks in them": lambda: "data:image/png," + "%\n4\t1" * (CAP // 2),
    "base64": lambda: "data:image/png;base64," + "A" * (CAP // 3 * 4),
    "base64 without padding": lambda: "data:image/png;base64," + "A" * (CAP // 3 * 4 - 2),
    "base64 of the other alphabet": lambda: "data:image/png;base64," + "A_-A" * (CAP // 3),
    "base64 in short lines": lambda: "data:image/png;base64," + "AA\r\n" * (CAP // 4),
    "base64 that is percent-encoded": lambda: "data:image/png;base64," + "%41A" * (CAP // 2),
    "base64 that is percent-encoded throughout": lambda: "data:image/png;base64," + "%41" * (CAP // 3 * 4),
    "base64 with blanks at the end": lambda: "data:image/png;base64,AAAA" + " " * CAP,
}


@pytest.mark.parametrize("name", LARGE)
def test_what_is_within_the_cap_takes_at_most_three_times_its_memory(name):
    uri = LARGE[name]()
    found, peak = memory(as_image, uri, CAP)
    assert found.kind == "bytes"
    assert len(found.source) <= CAP
    assert peak <= 3 * len(uri) + 2**20


@pytest.mark.parametrize("name", LARGE)
def test_what_is_over_the_cap_is_not_decoded(name):
    uri = LARGE[name]()
    content = len(as_image(uri).source)
    if content > 3:
        found, peak = memory(as_image, uri, content - content // 8)
        assert isinstance(found, InputError)
        assert "image_policy.max_bytes" in str(found)
        looks_closer = name in ("escapes that are none", "base64 that is percent-encoded")
        assert peak <= (3 * len(uri) if looks_closer else 2**18)


FAR_OVER = {
    "escaped": lambda: "data:image/png," + "%41" * 4_000_000,
    "base64": lambda: "data:;base64," + "A" * 12_000_000,
    "blanks": lambda: "data:;base64," + " " * 12_000_000,
}


@pytest.mark.parametrize("name", FAR_OVER)
@pytest.mark.parametrize("way", ["as_image", "embed_images", "embed", "validate", "preview"])
def test_what_is_far_over_the_cap_is_not_even_looked_at(server, clip, name, way):
    policy = ImagePolicy(max_bytes=2_000_000)
    one, uri = clip(image_policy=policy), FAR_OVER[name]()
    calls = {
        "as_image": lambda: as_image(uri, policy.max_bytes),
        "embed_images": lambda: one.embed_images([uri]),
        "embed": lambda: one.embed([Pair("text", uri)]).unwrap(),
        "validate": lambda: one.validate([Pair("text", uri)]),
        "preview": lambda: one.preview(uri),
    }
    found, peak = memory(calls[way])
    assert isinstance(found, InputError)
    assert "image_policy.max_bytes=2000000" in str(found)
    assert peak < 2**21, "no copy of the text"
    assert server.ledger()["requests"] == 0


def test_base64_of_ones_own_is_held_against_a_cap_where_one_is_given():
    text = "A" * 40_000_000
    found, peak = memory(lambda: Image.from_base64(text, max_bytes=20_000_000))
    assert "image_policy.max_bytes=20000000" in str(found)
    assert peak < 2**16
    assert len(Image.from_base64(text[:400], max_bytes=300).source) == 300
    with pytest.raises(InputError, match="max_bytes=299"):
        Image.from_base64(text[:400].encode(), max_bytes=299)


@settings(deadline=None, max_examples=150)
@given(
    st.binary(min_size=1, max_size=300), st.sampled_from(["", "\n", "\r\n", "  \n"]), st.integers(1, 80), st.booleans()
)
def test_the_cap_is_met_to_the_byte(data, gap, width, escaped):
    """Whatever the line breaks: exactly `max_bytes` are taken, and not one more."""
    if escaped:
        uri = f"data:image/png,{''.join(f'%{byte:02x}' for byte in data)}"
    else:
        text = base64.b64encode(data).decode()
        uri = "data:image/png;base64," + gap.join(text[at : at + width] for at in range(0, len(text), width))
    within = len(uri) < 1.2 * len(data) * (3 if escaped else 4 / 3)  # what is mostly blanks may be refused for that
    if within:
        assert as_image(uri, len(data)).source == data
    if len(data) > 1:
        with pytest.raises(InputError, match="max_bytes"):
            as_image(uri, len(data) - 1)


# -- what they hold


@settings(deadline=None, max_examples=200)
@given(st.text(st.sampled_from("%%%0123aAfFgG. ;,=+"), max_size=40), st.integers(0, 3))
def test_percent_encoding_is_undone_as_urllib_does(text, shift):
    """Also where a block ends within an escape."""
    assert unquote(text) == unquote_to_bytes(text.rstrip())
    long = "A" * (BLOCK - shift) + text
    assert unquote(long) == unquote_to_bytes(long.rstrip())


@settings(deadline=None)
@given(
    st.binary(max_size=100),
    st.sampled_from(["data:", "DATA:", " \n data:"]),
    st.sampled_from(
        [
            "",
            "image/png",
            "IMAGE/PNG",
            "image/svg+xml;charset=utf-8",
            "image/png;name=a.png",
            "application/octet-stream",
        ]
    ),
    st.sampled_from([";base64", "; base64 ", ";BASE64", None]),
    st.sampled_from(["", " ", "\n", "\r\n\t "]),
)
def test_every_way_to_write_one(data, scheme, mime, encoding, end):
    body = quote_from_bytes(data) if encoding is None else base64.b64encode(data).decode()
    assert as_image(f"{scheme}{mime}{encoding or ''},{body}{end}").source == data
    if encoding is not None:
        assert as_image(f"{scheme}{mime}{encoding},{quote_from_bytes(body.encode(), safe='')}").source == data


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("data:text/html,<p>", "'text/html' is no image"),
        ("data:my/secret,<p>", "a data: URI of another type is no image"),
        ("data:image/png;base64,A", "base64"),
        ("data:image/png;base64,AA=A", "base64"),
        ("data:image/png;base64,AAAA!", "base64"),
        ("data:image/png;base64,é", "ASCII"),
        ("data:image/png,é", "ASCII"),
        ("data:image/png,\ud800", "ASCII"),
        ("data:image/png;base64", "needs a comma"),
        ("data:" + "x" * 300 + ",", "needs a comma"),
        ("data:image/png;base64" + "A" * 500, "needs a comma"),
    ],
)
def test_what_is_no_image_is_refused(uri, message):
    with pytest.raises(InputError, match=message):
        as_image(uri)


def test_base64_that_is_given_as_a_path_is_guessed_by_its_beginning(clip):
    buffer = np.random.default_rng(1).integers(0, 255, (300, 300, 3), np.uint8)
    found = {}
    for kind in ("JPEG", "PNG", "WEBP"):
        file = io.BytesIO()
        Pillow.fromarray(buffer).save(file, kind)
        text = base64.b64encode(file.getvalue()).decode()
        for length in (len(text), 100, 2000, 40_000):
            with pytest.raises(InputError, match=r"this one is base64; pass Image\.from_base64") as caught:
                clip().embed_image(text[:length])
            found[kind, length] = len(str(caught.value))
    assert max(found.values()) < 200


@pytest.mark.parametrize("text", ["a/" * 250_000, "AAAA" * 1_000_000, " " * 10_000_000, "x" * 40_000])
def test_a_str_that_no_path_can_be_is_refused_before_any_work(clip, text):
    (found, peak) = memory(clip().embed_image, text)
    assert isinstance(found, InputError)
    assert "Image.from_base64" in str(found)
    assert peak < 2**20


# -- texts


HOSTILE = {
    "line breaks, then a word": "data:image/png," + "\n" * 1_000_000 + " x",
    "blanks, then a word": "data:image/png," + " " * 1_000_000 + "x",
    "blanks before": " " * 1_000_000 + "data:image/png,x y",
    "headers": "data:;" * 160_000,
    "headers and a gap": "data:;" * 40 + "," + " " * 1_000_000 + "!",
    "headers and gaps": ("data:;" * 40 + "," + " " * 200 + "!") * 2_000,
    "beginnings of PNG": "iVBORw0KGgo" * 90_000,
    "a beginning and dots": "UklGR" + "." * 1_000_000,
    "beginnings and dots": ("UklGR" + "." * 35) * 25_000,
    "a beginning and a gap": "iVBORw0KGgoAAAAAA" + " " * 1_000_000,
    "a beginning and escaped breaks": "iVBORw0KGgoAAAAAA" + "\\n" * 500_000,
    "short lines": "iVBORw0KGgo" + ("A" * 39 + "\n") * 25_000,
    "long lines and a gap": "iVBORw0KGgo" + "A" * 60 + "\nAAAA" + " " * 1_000_000 + "x",
    "beginnings of JPEG": "/9j/" * 250_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_megabyte_made_to_be_slow_is_not(name):
    """Quadratic work would take minutes to days for a million characters."""
    text, began = HOSTILE[name], time.process_time()
    is_data_uri(text)
    remove_images(text)
    with contextlib.suppress(InputError):
        as_text(text)
    assert time.process_time() - began < 20


@pytest.mark.slow
def test_random_pieces_made_to_be_slow_are_not():
    pieces = [
        "iVBORw0KGgo",
        "/9j/",
        "data:",
        "image/",
        ";",
        ",",
        " ",
        "\n",
        "\\n",
        "A" * 16,
        "A" * 39,
        "A" * 60,
        ".",
        "!",
    ]
    chance, began = random.Random(5), time.process_time()
    for _ in range(40):
        unit = "".join(chance.choices(pieces, k=chance.randint(1, 6)))
        text = unit * (100_000 // len(unit))
        for whole in (text, "data:image/png;base64," + text, "iVBORw0KGgo" + "A" * 20 + text):
            is_data_uri(whole)
            remove_images(whole)
    assert time.process_time() - began < 60


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("data:image/png;base64,AAAA", True),
        ("data:image/png;base64,AA\r\nAA", True),
        ("  data:image/png,x  \n", True),
        ("data:;base64,AAAA", True),
        ("data:image/png;base64,AAAA and more", False),
        ("data:image/png, a text about it", False),
        ("data:text/plain,x", False),
        ("data: 1, 2, 3", False),
    ],
)
def test_a_text_that_is_a_data_uri_and_no_text(text, whole):
    assert is_data_uri(text) is whole
