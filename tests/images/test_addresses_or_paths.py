"""Strings that name images: which are addresses, which `data:` URIs, and which are paths whatever colons they have."""

from __future__ import annotations

import os
import string
import sys
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from jinaclip import ImagePolicy, InputError
from jinaclip.images import check, open_image
from jinaclip.inputs import as_image

NAMES = [
    "IMG:001.png",
    "IMG 2024-01-01 12:30:00.png",
    "sub:folder",
    "data:1.png",
    "data:1,5.png",
    "data:",
    "DATA:x.png",
    "mailto:a@example.org",
    "javascript:alert(1)",
    "http:",
    "https:example.org",
    "urn:isbn:1",
    "a:b:c",
    "C:",
    "C:\\x.png",
    ":",
    "::1",
    "file:",
    "file:a.png",
    "x-y+z.1:a",
    " a.png",
    "a b.png",
    "https",
]
"""Names that a folder may hold."""
PATHS = [
    *NAMES,
    "sub:folder/a.png",
    "http:/x",
    "file:/etc/passwd",
    "a/https://x",
    "./https://x",
    "C:/x.png",
    "C://x.png",
]
ADDRESSES = [
    "https://a.b/c",
    "HTTPS://A.B/C",
    " https://a.b/c",
    "http://a.b",
    "ftp://a.b",
    "s3://bucket/a.png",
    "x1://",
]


@pytest.mark.parametrize("text", PATHS)
def test_a_colon_makes_no_address(text):
    image = as_image(text)
    assert (image.kind, image.source, image.confined) == ("path", Path(text), True)


@pytest.mark.parametrize("text", ADDRESSES)
def test_a_scheme_with_two_slashes_makes_one(text):
    image = as_image(text)
    assert (image.kind, image.source, image.confined) == ("url", text, False)


@pytest.mark.skipif(sys.platform == "win32", reason="there no name of a file has a colon")
async def test_a_list_of_a_folder_is_a_list_of_images(clip, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(NAMES):
        Pillow.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / name, "PNG")
    names = os.listdir()  # noqa: PTH208  as people have them
    one = clip()
    rows = await run(one, "embed_images", names)
    assert (rows == one.embed_images([tmp_path / name for name in names])).all()
    assert len(np.unique(rows, axis=0)) == len(NAMES)


@pytest.mark.parametrize("name", ["IMG:404.png", "ftp://a.b/c.png", "file://host/a.png", "data:404.png"])
def test_a_name_that_refuses_a_list_is_named(clip, name):
    with pytest.raises(InputError, match="image 1") as caught:
        clip().embed_images([np.zeros((4, 4, 3), np.uint8), name])
    assert name in str(caught.value)


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_no_name_in_a_folder_is_an_address(name):
    if not name.strip():
        return
    try:
        image = as_image(name)
    except InputError:
        assert name.strip().lower().startswith("data:"), "a data: URI, without a type or with one that has parameters"
    else:
        assert image.kind == "path" or name.strip()[:6].lower() in ("data:,", "data:;")


SCHEMES = st.text(string.ascii_letters + string.digits + "+.-", min_size=2, max_size=20).filter(
    lambda s: s[0].isalpha()
)
PIECES = st.sampled_from(
    [*":/,;% \t\n\\?#", "data", "https", "file", "image/png", "base64", "localhost", "..", "%2e", "a"]
)


@settings(deadline=None, max_examples=200)
@given(SCHEMES, st.lists(PIECES, max_size=6).map("".join))
def test_whatever_has_a_scheme_and_two_slashes_is_no_plain_path(scheme, rest):
    try:
        image = as_image(f"{scheme}://{rest}")
    except InputError:
        assert scheme.lower() == "file"
    else:
        assert image.kind == "url" or (scheme.lower() == "file" and image.confined)


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(st.lists(PIECES | SCHEMES, max_size=8).map("".join))
def test_every_string_is_of_one_kind_or_an_input_error(text):
    try:
        image = as_image(text, 1000)
    except InputError as error:
        assert len(str(error)) < 400
    else:
        assert image.confined is (image.kind == "path")
        assert image.kind in ("path", "url", "bytes")
        assert image.kind != "url" or "://" in text
        assert image.kind != "bytes" or text.strip()[:5].lower() == "data:"


# -- file:// URIs


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The working directory, with an image in it and one beside it."""
    folder = tmp_path / "root"
    folder.mkdir()
    for path in (folder / "a b#?é%41.png", folder / "a.png", tmp_path / "outside.png"):
        Pillow.new("RGB", (4, 4)).save(path)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("start", ["file://", "FILE://", "file://localhost", "File://LocalHost"])
@pytest.mark.parametrize("name", ["a.png", "a b#?é%41.png"])
def test_a_file_uri_is_its_path(root, start, name):
    image = as_image(start + quote(str(root / name)))
    assert (image.kind, image.source, image.confined) == ("path", root / name, True)
    assert open_image(image, ImagePolicy()).size == (4, 4)
    assert as_image((root / name).as_uri()).source == root / name


async def test_a_file_uri_is_embedded_as_its_path_is(clip, run, root):
    one = clip(url_mode="forward")
    assert (await run(one, "embed_images", [(root / "a.png").as_uri()]) == one.embed_image("a.png")).all()


@pytest.mark.parametrize(
    "written",
    [
        "file://{outside}",
        "file://localhost{outside}",
        "file://{root}/../outside.png",
        "file://{root}/%2e%2e/outside.png",
        "file://{root}/..%2Foutside.png",
        "file://{root}/link.png",
        "file:///etc/passwd",
        "file:///proc/self/environ",
    ],
)
@pytest.mark.parametrize("roots", [None, "root"])
def test_a_file_uri_is_confined_to_the_roots(root, written, roots):
    outside = root.parent / "outside.png"
    (root / "link.png").symlink_to(outside)
    policy = ImagePolicy(allowed_roots=roots and (root,))
    image = as_image(written.format(root=root, outside=outside))
    with pytest.raises(InputError, match="lies outside"):
        check(image, policy)
    with pytest.raises(InputError, match="lies outside"):
        open_image(image, policy)


@pytest.mark.parametrize(
    "text",
    [
        "file://",
        "file:///",
        "file://a.png",
        "file://server/share/a.png",
        "file:////server/share/a.png",
        "file:///%2Fserver/share/a.png",
        "file://127.0.0.1/a.png",
        "file://user@localhost/a.png",
        "file://localhost:80/a.png",
        "file://~/a.png",
        "file://../a.png",
        "file:///a.png?x",
        "file:///a.png#x",
        "file:///a%00.png",
        "file:///a\0.png",
        "file:///\udc00\ud800",
        "file:///" + "a" * 200_000,
    ],
)
def test_what_names_no_file_of_this_machine_is_refused(text):
    with pytest.raises(InputError) as caught:
        as_image(text)
    assert len(str(caught.value)) < 400


@pytest.mark.skipif(sys.platform != "win32", reason="drives are Windows'")
@pytest.mark.parametrize("text", ["file:///C:/a.png", "file:///C|/a.png", "file:///C%3A/a.png"])
def test_a_drive_of_windows(text):
    assert as_image(text).source == Path("C:/a.png")


@settings(deadline=None, max_examples=150)
@given(st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_every_absolute_path_comes_back_from_its_uri(parts):
    path = Path("/", *parts)
    if path != Path("/") and not str(path).startswith("//"):
        assert as_image(path.as_uri()).source == path
