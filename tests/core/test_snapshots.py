"""What was passed is what is embedded: items are taken at the call, those of a generator when they are given."""

import asyncio
import inspect
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageDraw

from jinaclip import Image, Pair
from jinaclip.hosts import aembed, embed
from jinaclip.images import take
from tests.needs import skip_without

SIDE = 40


def pixels(number):
    """An image of its own for each number, uint8 (SIDE, SIDE, 3)."""
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def encoded(number, kind="PNG"):
    buffer = BytesIO()
    Pillow.fromarray(pixels(number)).save(buffer, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return buffer.getvalue()


def rows_of(clip, *numbers):
    """The vectors of these images, each embedded alone."""
    return np.stack([clip.embed_image(encoded(number)) for number in numbers])


def lazy(number, kind="PNG"):
    return Pillow.open(BytesIO(encoded(number, kind)))


def from_disk(number):
    """A PIL image that is not decoded, from a file of this test's folder."""
    with open(f"{number}.png", "wb") as file:  # noqa: PTH123
        file.write(encoded(number))
    return Pillow.open(f"{number}.png")


def film(frame):
    """One buffer, filled again for each item."""
    for number in range(20):
        frame[:] = pixels(number).reshape(frame.shape)
        yield frame


@pytest.mark.slow
async def test_a_generator_may_refill_its_array(clip, run):
    one = clip()
    found = await run(one, "embed_images", film(np.empty((SIDE, SIDE, 3), np.uint8)))
    assert (found == rows_of(one, *range(20))).all()


async def test_a_generator_may_refill_its_bytes(clip, run):
    one, size = clip(), max(len(encoded(number)) for number in range(20))
    buffer = bytearray(size)

    def files():
        for number in range(20):
            data = encoded(number)
            buffer[: len(data)] = data
            yield memoryview(buffer)[: len(data)]

    assert (await run(one, "embed_images", files()) == rows_of(one, *range(20))).all()


async def test_a_generator_may_draw_on_its_picture(clip, run):
    one, canvas = clip(), Pillow.new("RGB", (SIDE, SIDE))

    def drawings():
        for number in range(20):
            ImageDraw.Draw(canvas).rectangle((0, 0, number, number), fill=(255, number, 0))
            yield canvas

    found = await run(one, "embed_images", drawings())
    assert len(np.unique(found, axis=0)) == 20


@pytest.mark.slow
async def test_pairs_and_mixed_items_of_a_generator_are_taken_too(clip, run):
    one = clip()
    pairs = await run(one, "embed_pairs", (("text", frame) for frame in film(np.empty((SIDE, SIDE, 3), np.uint8))))
    assert (pairs == one.embed_pairs([("text", encoded(number)) for number in range(20)])).all()
    mixed = await run(one, "embed", (Pair("text", frame) for frame in film(np.empty((SIDE, SIDE, 3), np.uint8))))
    assert (mixed.vectors == pairs).all()


def spoil(value):
    """What an owner may do to an image after the call."""
    if isinstance(value, np.ndarray):
        value[:] = 0
    elif isinstance(value, bytearray):
        value[:] = bytes(len(value))
    elif isinstance(value, BytesIO):
        value.seek(0)
        value.truncate()
    elif isinstance(value, Image):
        spoil(value.source)
    elif isinstance(value, Pillow.Image):
        value.paste((0, 0, 0), (0, 0, *value.size))


FORMS = {
    "array": pixels,
    "array of ours": lambda number: Image.from_array(pixels(number)),
    "bytearray": lambda number: bytearray(encoded(number)),
    "BytesIO": lambda number: BytesIO(encoded(number)),
    "PIL, loaded": lambda number: Pillow.fromarray(pixels(number)),
    "PIL, lazy": lazy,
    "PIL, lazy WebP": lambda number: lazy(number, "WEBP"),
    "PIL of ours": lambda number: Image.from_pil(lazy(number)),
    "PIL from a file": from_disk,
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", ["aembed_image", "aembed_images", "aembed_pairs", "aembed", "hosts"])
async def test_what_is_changed_after_the_call_was_taken_before(clip, tmp_path, monkeypatch, form, way):
    """Even if nothing was awaited yet: a task begins later than the call."""
    monkeypatch.chdir(tmp_path)
    one, values = clip(), [FORMS[form](number) for number in range(4)]
    if way == "aembed_image":
        task = asyncio.gather(*(one.aembed_image(value) for value in values))
    elif way == "aembed_pairs":
        task = asyncio.ensure_future(one.aembed_pairs([("text", value) for value in values], weight=0))
    elif way == "hosts":
        task = asyncio.ensure_future(aembed(one, values, lambda value: value, kind="image"))
    else:
        task = asyncio.ensure_future(getattr(one, way)(values))
    for value in values:
        spoil(value)
    values.clear()
    found = await task
    found = np.stack(found) if way == "aembed_image" else getattr(found, "vectors", found)
    np.testing.assert_allclose(found, rows_of(one, *range(4)), rtol=0, atol=1e-6)  # pairs are normalised once more


async def test_a_cleared_list_of_texts_was_taken_before(clip):
    one, texts = clip(), [f"text {number}" for number in range(5)]
    task = asyncio.ensure_future(one.aembed_documents(texts))
    texts.clear()
    assert (await task).shape == (5, 1024)


def test_a_converter_of_a_host_sees_copies(clip):
    one, frame = clip(), np.empty((SIDE, SIDE, 3), np.uint8)
    found = embed(one, film(frame), lambda item: item, kind="image")
    assert (found.vectors == rows_of(one, *range(20))).all()


def open_files():
    """Files that this process has open, as far as the system tells."""
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


def test_taking_an_unread_picture_decodes_nothing_and_opens_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held, before = [], open_files()
    for number in range(3):
        for picture in (lazy(number), from_disk(number)):
            held.append((picture, take(picture)))
            assert picture.tile
    assert open_files() <= before + 3, "those of the pictures themselves"
    for picture, _ in held:
        picture.close()


def test_a_picture_that_was_taken_is_as_its_owner_had_it(clip, tmp_path):
    """Its frame, its turn and its transparency, as they were at the call."""
    frames = [Pillow.fromarray(pixels(number)).quantize() for number in range(3)]
    path = tmp_path / "film.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    one, alone = clip(), frames[2].convert("RGB")
    with Pillow.open(path) as film:
        film.seek(2)
        assert (one.embed_image(film) == one.embed_image(alone)).all()
    turned = lazy(1)
    turned.info["exif"] = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x03\0\0\0\0\0\0"
    assert (one.embed_image(turned) == one.embed_image(np.rot90(pixels(1), 2))).all()


def test_a_picture_is_of_the_file_that_was_opened_whatever_has_its_name_now(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = clip()
    with from_disk(1) as picture:
        Pillow.new("L", (3, 5)).save(tmp_path / "other.png")
        (tmp_path / "other.png").replace(tmp_path / "1.png")
        assert (one.embed_image(picture) == rows_of(one, 1)[0]).all()


def test_a_member_of_an_archive_is_no_file_of_its_name(clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1.png").write_bytes(encoded(2))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("1.png", encoded(1))
    one = clip()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive, archive.open("1.png") as member:
        assert (one.embed_image(Pillow.open(member)) == rows_of(one, 1)[0]).all()


def test_a_buffer_that_was_released_fails_its_own_item(clip):
    gone = memoryview(encoded(1))
    gone.release()
    results = clip().embed([encoded(0), gone])
    assert results.ok.tolist() == [True, False]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="from 3.12 on inspect can be told")
def test_the_async_methods_are_coroutine_functions_to_inspect(clip):
    for name in ("aembed", "aembed_query", "aembed_documents", "aembed_image", "aembed_images", "aembed_pairs"):
        assert inspect.iscoroutinefunction(getattr(clip(), name)), name


# -- through an adapter, which hands on what it gets


@pytest.mark.slow
async def test_langchain_hands_on_frames_as_they_are_given(clip, server, jinaclip_api_key):
    skip_without("langchain_jinaclip")
    from langchain_jinaclip import JinaClipEmbeddings

    one, made = clip(), JinaClipEmbeddings(api_key=jinaclip_api_key, base_url=server.url)
    wanted = rows_of(one, *range(20)).tolist()
    assert made.embed_images(film(np.empty((SIDE, SIDE, 3), np.uint8))) == wanted
    assert await made.aembed_images(film(np.empty((SIDE, SIDE, 3), np.uint8))) == wanted
