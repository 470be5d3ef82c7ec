"""What callers may pass as texts and images, and what they are told when they may not."""

import array
import asyncio
import base64
import collections
import io
from pathlib import Path
from urllib.parse import quote_from_bytes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from jinaclip import Image, InputError, JinaClipError
from jinaclip.call.pool import preparation
from jinaclip.call.prepare import AHEAD
from jinaclip.hosts import is_blank, remove_images
from jinaclip.inputs import as_image, as_text, is_binary, is_held
from jinaclip.testing.vectors import expected_vector

PIXELS = np.random.default_rng(1).integers(0, 255, (512, 512, 3), np.uint8)
PICTURE = Pillow.fromarray(PIXELS)


def png(picture=PICTURE):
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


PNG = png()
BASE64 = base64.b64encode(PNG).decode()


class Named:
    """A path of somebody else's."""

    def __init__(self, path):
        self.path = path

    def __fspath__(self):
        return str(self.path)


FORMS = {
    "str path": lambda folder: "a.png",
    "Path": lambda folder: folder / "a.png",
    "PathLike": lambda folder: Named(folder / "a.png"),
    "bytes": lambda folder: PNG,
    "bytearray": lambda folder: bytearray(PNG),
    "memoryview": lambda folder: memoryview(PNG),
    "BytesIO": lambda folder: io.BytesIO(PNG),
    "BytesIO read before": lambda folder: exhausted(),
    "PIL": lambda folder: PICTURE,
    "PIL file": lambda folder: Pillow.open(io.BytesIO(PNG)),
    "array": lambda folder: PIXELS,
    "array in Fortran order": lambda folder: np.asfortranarray(PIXELS),
    "array with alpha": lambda folder: np.dstack([PIXELS, np.full((512, 512), 255, np.uint8)]),
    "data: base64": lambda folder: f"data:image/png;base64,{BASE64}",
    "data: quoted": lambda folder: f"data:image/png,{quote_from_bytes(PNG)}",
    "data: in capitals": lambda folder: f"DATA:IMAGE/PNG;BASE64,{BASE64}",
    "from_path": lambda folder: Image.from_path(str(folder / "a.png")),
    "from_bytes": lambda folder: Image.from_bytes(PNG),
    "from_base64": lambda folder: Image.from_base64(BASE64),
    "from_base64 bytes": lambda folder: Image.from_base64(BASE64.encode()),
    "from_pil": lambda folder: Image.from_pil(PICTURE),
    "from_array": lambda folder: Image.from_array(PIXELS),
}


def exhausted():
    file = io.BytesIO(PNG)
    file.read()
    return file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_an_image_is_the_same_image(server, clip, run, folder, form):
    wanted = expected_vector("image", PICTURE)
    one = clip()
    np.testing.assert_allclose(await run(one, "embed_image", FORMS[form](folder)), wanted, atol=1e-6)
    np.testing.assert_allclose(await run(one, "embed_images", [FORMS[form](folder)]), [wanted], atol=1e-6)


async def test_all_forms_in_one_list_are_sent_once(server, clip, run, folder):
    images = [make(folder) for make in FORMS.values()]
    one = clip()
    rows = await run(one, "embed_images", images)
    np.testing.assert_allclose(rows, [expected_vector("image", PICTURE)] * len(images), atol=1e-6)
    assert one.usage.items == 1
    assert server.ledger()["answered"] == {"1": 1}


async def test_a_grey_array(clip, run):
    grey = PIXELS[:, :, 0]
    row = await run(clip(), "embed_image", grey)
    np.testing.assert_allclose(row, expected_vector("image", Pillow.fromarray(grey)), atol=1e-6)


async def test_a_url_that_the_service_fetches(clip, run):
    row = await run(clip(url_mode="forward"), "embed_image", "https://example.org/a.jpg")
    np.testing.assert_allclose(row, expected_vector("url", "https://example.org/a.jpg"), atol=1e-6)


async def test_an_array_changed_after_the_call_began_is_embedded_as_it_was(clip, server):
    mine, picture = PIXELS.copy(), PICTURE.copy()
    one = clip()
    task = asyncio.create_task(one.aembed_images([mine, picture]))
    while not (await asyncio.to_thread(server.ledger))["requests"]:
        pass
    mine[:] = 0
    picture.paste((0, 0, 0), (0, 0, 512, 512))
    np.testing.assert_allclose(await task, [expected_vector("image", PICTURE)] * 2, atol=1e-6)


# What is no image


NO_IMAGES = [
    None,
    3,
    3.5,
    True,
    "",
    " ",
    "a\0b.png",
    object(),
    {},
    [],
    [PNG],
    {"image": PNG},
    array.array("B", PNG),
    "data:image/png;base64",
    "data:text/html,<p>",
    "data:image/png;base64,!!!",
    "data:" + "x" * 300 + ",",
    PIXELS.astype(np.float32),
    PIXELS.astype(np.int64),
    PIXELS.transpose(2, 0, 1),
    PIXELS[:0],
    PIXELS[None],
    PIXELS[..., :2],
    PIXELS.astype(object),
]


@pytest.mark.parametrize("value", NO_IMAGES, ids=lambda value: type(value).__name__ + repr(value)[:12])
async def test_what_is_no_image_is_refused_before_anything_is_sent(server, clip, run, value):
    one = clip()
    for images, index in (([PICTURE, value], 1), ([value], 0)):
        with pytest.raises(InputError) as caught:
            await run(one, "embed_images", images)
        assert caught.value.index == index
        assert len(str(caught.value)) < 400
    assert server.ledger()["requests"] == 0


@pytest.mark.parametrize("letters", [BASE64, BASE64[:150]], ids=len)
def test_bare_base64_is_never_guessed_and_not_quoted(clip, folder, letters):
    with pytest.raises(InputError, match="image 0: a str is a path or a URL, and this one is base64") as caught:
        clip().embed_images([letters])
    assert letters[:20] not in str(caught.value)


def test_a_long_name_is_quoted_in_part(clip, folder):
    with pytest.raises(InputError) as caught:
        clip().embed_image("a" * 5000)
    assert len(str(caught.value)) < 120


@pytest.mark.slow
@settings(deadline=None)
@given(st.text(max_size=300))
def test_any_string_is_an_image_or_an_input_error(text):
    try:
        image = as_image(text)
    except InputError as error:
        assert error.index is None
    else:
        assert image.kind in ("path", "url", "bytes")
        assert image.confined is (image.kind == "path")


@settings(deadline=None)
@given(st.binary(max_size=200), st.booleans(), st.booleans(), st.sampled_from(["", "\n", " \r\n"]))
def test_base64_in_every_spelling(data, urlsafe, padded, gap):
    text = (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode()
    text = text if padded else text.rstrip("=")
    text = gap.join(text[start : start + 7] for start in range(0, len(text), 7))
    assert Image.from_base64(text).source == data
    assert as_image(f"data:image/png;base64,{text}").source == data


@settings(deadline=None)
@given(st.text(max_size=60) | st.binary(max_size=60))
def test_base64_is_decoded_or_refused(text):
    try:
        found = Image.from_base64(text).source
    except InputError:
        return
    raw = text.encode() if isinstance(text, str) else text
    letters = b"".join(raw.split()).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
    assert base64.b64encode(found).rstrip(b"=")[:-1] == letters[:-1]


@settings(deadline=None)
@given(
    st.sampled_from(["data:", "DATA:", " data:", "dAtA:"]),
    st.sampled_from(
        ["", "image/png", "image/svg+xml;charset=utf-8", "text/plain", "application/octet-stream", "a" * 300]
    ),
    st.booleans(),
    st.binary(max_size=50),
)
def test_data_uris(scheme, mime, encoded, data):
    body = base64.b64encode(data).decode() if encoded else quote_from_bytes(data)
    uri = f"{scheme}{mime}{';base64' if encoded else ''},{body}"
    if mime.startswith(("text", "aaa")):
        with pytest.raises(InputError):
            as_image(uri)
    else:
        image = as_image(uri)
        assert (image.kind, image.source) == ("bytes", data)


def test_images_show_their_name_and_not_their_content():
    assert repr(Image.from_path("a.png")) == f"Image(path: {Path('a.png')!r})"
    assert repr(Image.from_bytes(PNG)) == "Image(bytes: bytes)"
    assert repr(Image.from_url("https://a.b/c")) == "Image(url: 'https://a.b/c')"


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        (Image.from_path("folder/a#1.png"), str(Path("folder/a#1.png"))),
        (Image.from_bytes(PNG), "bytes"),
        (Image.from_array(np.zeros((2, 2), np.uint8)), "array"),
        (Image.from_url("https://user:secret@a.b:8443/c.png?signature=secret#secret"), "https://a.b:8443/c.png"),
        (Image.from_url("https://a.b/c\n?signature=\nsecret"), "https://a.b/c\n"),
        (as_image("iVBORw0KGgo" * 40), "[image]"),
        (as_image("iVBORw0KGgo" * 10), "[image]"),
        (as_image("folder/" + "a" * 200), "folder/aaaaaaaaa..."),
    ],
)
def test_an_image_as_a_str_holds_no_bytes_and_no_secret_of_its_address(image, shown):
    assert str(image) == shown


# What is no text


NO_TEXTS = [
    None,
    3,
    3.5,
    True,
    b"bytes",
    bytearray(b"x"),
    ["nested"],
    {},
    Path("a.png"),
    PICTURE,
    PIXELS,
    object(),
    float("nan"),
]


@pytest.mark.parametrize("value", NO_TEXTS, ids=lambda value: type(value).__name__)
async def test_what_is_no_text_is_refused_before_anything_is_sent(server, clip, run, value):
    one = clip()
    with pytest.raises(InputError, match=type(value).__name__) as caught:
        await run(one, "embed_documents", ["fine", value])
    assert caught.value.index == 1
    with pytest.raises(InputError) as caught:
        await run(one, "embed_query", value)
    assert caught.value.index is None
    assert server.ledger()["requests"] == 0


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u2003", "a\ud800b", "\udc00"])
async def test_blank_and_broken_texts(server, clip, run, text):
    one = clip()
    for method, argument in (("embed_query", text), ("embed_documents", ["fine", text])):
        with pytest.raises(InputError, match=r"blank|lone surrogate"):
            await run(one, method, argument)
    assert server.ledger()["requests"] == 0


@settings(deadline=None)
@given(st.text(alphabet=st.characters(), max_size=20))
def test_any_string_is_a_text_or_says_why_not(value):
    try:
        assert as_text(value).value == value
    except InputError as error:
        assert error.index is None
        assert is_blank(value) or is_binary(value) or any(0xD800 <= ord(letter) <= 0xDFFF for letter in value)


TEXTS = [
    "a\0b",
    "x" * 50_000,
    "\u202eright to left\u200b",
    "\U0001f469\u200d\U0001f680",
    "caf\u00e9",
    "cafe\u0301",
    "\ufeffbom",
]


async def test_odd_texts_are_sent_as_they_are(server, clip, run):
    rows = await run(clip(truncate=True), "embed_documents", TEXTS)
    np.testing.assert_allclose(rows, [expected_vector("text", text) for text in TEXTS], atol=1e-6)
    assert server.ledger()["answered"] == {"1": len(TEXTS)}, "composed and decomposed are two"


async def test_a_subclass_of_str_is_a_text(clip, run):
    class Title(str):
        __slots__ = ()

    row = await run(clip(), "embed_query", Title("red"))
    np.testing.assert_allclose(row, expected_vector("text", "red", task="retrieval.query"), atol=1e-6)
    assert type(as_text(Title("red")).value) is str


# One where several are meant


LONE_TEXTS = ["one text", b"bytes", Path("a.png"), PICTURE, PIXELS, {"a": 1}, None, 3, collections.UserDict()]


@pytest.mark.parametrize("value", LONE_TEXTS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("method", ["embed_documents", "embed_images", "embed_pairs"])
async def test_one_thing_where_several_are_meant(server, clip, run, method, value):
    with pytest.raises(InputError, match="must be several items") as caught:
        await run(clip(), method, value)
    assert type(value).__name__ in str(caught.value)
    assert server.ledger()["requests"] == 0


ITERABLES = [
    list,
    tuple,
    iter,
    collections.deque,
    dict.fromkeys,
    lambda texts: (text for text in texts),
    lambda texts: np.array(texts, object),
]


@pytest.mark.parametrize(
    "make", ITERABLES, ids=["list", "tuple", "iterator", "deque", "dict keys", "generator", "object array"]
)
async def test_iterables_of_any_kind(clip, run, make):
    texts = [f"text {number}" for number in range(130)]
    values = make(texts)
    rows = await run(clip(), "embed_documents", values.keys() if isinstance(values, dict) else values)
    np.testing.assert_allclose(rows, [expected_vector("text", text) for text in texts], atol=1e-6)


async def test_a_series_of_images_in_one_array(clip, run):
    stack = np.stack([PIXELS, PIXELS[::-1]])
    rows = await run(clip(), "embed_images", stack)
    np.testing.assert_allclose(rows[1], expected_vector("image", Pillow.fromarray(PIXELS[::-1])), atol=1e-6)


def test_what_is_held_is_looked_through_first():
    assert all(map(is_held, ([], (), np.zeros(2), {1}, frozenset(), {}.keys(), {}.values())))
    assert not any(map(is_held, (iter([]), map(str, []))))


# Generators


@pytest.fixture
def few_held(monkeypatch):
    """Lets a call have 20 items at the hub that are not done."""
    monkeypatch.setattr("jinaclip.backends.api.backend.MOST_HELD", 20)


@pytest.mark.usefixtures("few_held")
async def test_a_generator_is_not_read_ahead_more_than_may_be_held(server, clip, run):
    """When the service is down for good, no more was read that it will never see."""
    server.configure(faults=["auth_401"], fault_rate=1)
    taken = []
    with pytest.raises(JinaClipError):
        await run(clip(batch_size=8, max_concurrency=2), "embed_documents", counted(taken, 10_000))
    assert len(taken) <= 20 + 2


@pytest.mark.usefixtures("few_held")
async def test_a_generator_is_read_as_answers_come(server, clip, run):
    """What was taken is answered, or one of those that a call may have at the hub."""
    one, ahead = clip(batch_size=4, max_concurrency=2), []

    def texts():
        for number in range(200):
            ahead.append(number - one.usage.items)
            yield f"text {number}"

    await run(one, "embed_documents", texts())
    assert max(ahead) <= 20 + 2


@pytest.mark.usefixtures("few_held")  # else a machine that is slow to hear of the refusal hands in any number
async def test_pictures_of_a_generator_are_made_ready_a_few_ahead(server, clip, run):
    server.configure(faults=["auth_401"], fault_rate=1)
    taken = []

    def pictures():
        for number in range(2_000):
            taken.append(number)
            yield np.full((8, 8, 3), number % 251, np.uint8) + np.arange(3, dtype=np.uint8)

    with pytest.raises(JinaClipError):
        await run(clip(batch_size=4, max_concurrency=2), "embed_images", pictures())
    assert len(taken) <= 20 + 2 + AHEAD * preparation().images.size


@pytest.mark.slow
@pytest.mark.usefixtures("few_held")
async def test_pictures_of_a_generator_are_read_as_answers_come(server, clip, run):
    """However slow the service is, they are ready, or at the hub, or there is no room for them yet."""
    server.configure(base_ms=50)
    one, ahead = clip(batch_size=4, max_concurrency=2), []

    def pictures():
        for number in range(80):
            ahead.append(number - one.usage.items)
            yield np.full((8, 8, 3), number, np.uint8)

    await run(one, "embed_images", pictures())
    assert max(ahead) <= 20 + 2 + AHEAD * preparation().images.size


def counted(taken, most):
    for number in range(most):
        taken.append(number)
        yield f"text {number}"


async def test_a_bad_item_of_a_generator_gets_its_error_and_the_others_their_vectors(server, clip, run):
    values = ["a", None, "b", "", b"c", "d", "\ud800"]
    with pytest.raises(InputError) as caught:
        await run(clip(), "embed_documents", iter(values))
    error = caught.value
    assert error.index == 1
    assert sorted(error.partial.errors) == [1, 3, 4, 6]
    assert [error.partial.errors[index].index for index in (1, 3, 4, 6)] == [1, 3, 4, 6]
    for index in (0, 2, 5):
        np.testing.assert_allclose(error.partial.vectors[index], expected_vector("text", values[index]), atol=1e-6)
    assert server.ledger()["answered"] == {"1": 3}


async def test_a_generator_of_bad_items_only_sends_nothing(server, clip, run):
    with pytest.raises(InputError) as caught:
        await run(clip(), "embed_documents", iter([None, 3]))
    assert sorted(caught.value.partial.errors) == [0, 1]
    assert server.ledger()["requests"] == 0


async def test_what_a_generator_raises_reaches_the_caller(clip, run):
    class StrangeError(Exception):
        pass

    def texts():
        yield from (f"text {number}" for number in range(300))
        raise StrangeError("mine")

    one = clip(batch_size=8, max_concurrency=1)
    with pytest.raises(StrangeError, match="mine"):
        await run(one, "embed_documents", texts())
    await run(one, "embed_query", "the only slot is free again")


async def test_a_broken_picture_gets_its_error_and_the_others_their_vectors(server, clip, run):
    images = [PICTURE, b"no picture", PNG[: len(PNG) // 2], PICTURE.rotate(90), Path("nowhere.png")]
    with pytest.raises(InputError, match="image 1") as caught:
        await run(clip(), "embed_images", iter(images))
    error = caught.value
    assert error.index == 1
    assert sorted(error.partial.errors) == [1, 2, 4]
    assert error.partial.successes()[0].tolist() == [0, 3]
    np.testing.assert_allclose(error.partial.vectors[3], expected_vector("image", PICTURE.rotate(90)), atol=1e-6)


SMALL = png(Pillow.fromarray(PIXELS[:7, :9]))
SMALL64 = base64.b64encode(SMALL).decode()


def wrapped(text, width=76, gap="\n"):
    return gap.join(text[i : i + width] for i in range(0, len(text), width))


JPEG = b"\xff\xd8\xff" + SMALL  # how each kind begins is what counts
IN_TEXTS = {
    "alone": SMALL64,
    "data: URI": f"data:image/png;base64,{SMALL64}",
    "of any case": f"DATA:image/PNG;BASE64,{SMALL64}",
    "of no type": f"data:;base64,{SMALL64}",
    "of bytes": f"data:application/octet-stream;base64,{SMALL64}",
    "of a format that nobody knows": f"data:image/x;base64,{base64.b64encode(bytes(99)).decode()}",
    "in percent": f"data:image/png,{quote_from_bytes(SMALL, safe='')}",
    "wrapped": wrapped(SMALL64),
    "wrapped at 64 by Windows": wrapped(SMALL64, 64, "\r\n"),
    "wrapped at 100": wrapped(SMALL64, 100),
    "wrapped URI": f"data:image/png;base64,{wrapped(SMALL64)}",
    "URI wrapped with its header": wrapped(f"data:image/png;base64,{SMALL64}"),
    "wrapped URI from its header on": f"data:image/png;base64,\n{wrapped(SMALL64)}",
    "wrapped, in JSON": wrapped(SMALL64, gap="\\n"),
    "JPEG": base64.b64encode(JPEG).decode(),
    "JPEG, URL-safe": base64.urlsafe_b64encode(JPEG).decode(),
    "GIF": base64.b64encode(b"GIF89a" + SMALL).decode(),
    "WebP": base64.b64encode(b"RIFF" + SMALL).decode(),
    "not padded": SMALL64[: len(SMALL64) // 76 * 76 + 30],
}
AROUND = ["", "a coat ", "a coat\n", '{"image": "', "![a](", "<img src='", "b'", "image="]


@pytest.mark.parametrize("form", IN_TEXTS)
@pytest.mark.parametrize("before", AROUND)
def test_a_text_remove_images_holds_no_base64(form, before):
    after = {'{"image": "': '"}', "![a](": ") and a hat", "<img src='": "'>", "b'": "'", "": "\nred, blue"}.get(
        before, ""
    )
    assert remove_images(before + IN_TEXTS[form] + after) == f"{before}[image]{after}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red dress",
        "data: red, blue",
        "data:image/png;base64, says the manual",
        "data:text/plain;base64," + "a" * 90,
        "iVBORw0KGgo is how a PNG begins",
        "https://example.com/9j/" + "a/b-c_d" * 20,
        "GATTACA" * 90,
        "三条长裤" * 90,
    ],
)
def test_a_text_that_holds_no_picture_stays_as_it_is(text):
    assert remove_images(text) == text


def test_words_after_a_picture_stay():
    assert remove_images(f"{SMALL64}\ncoat") == "[image]\ncoat"
    assert remove_images(f"{wrapped(SMALL64)}\n\nA coat in blue") == "[image]\n\nA coat in blue"


@pytest.mark.parametrize("part", ["data:;,", "data:image/png,\n", "iVBORw0KGgo", "/9j/ ", "a" * 60 + "\n", "\\n", " "])
def test_no_text_takes_long_to_look_through(part):
    """Two million characters: a pattern that went back and forth over them would not end while this test runs."""
    assert len(remove_images(part * (2_000_000 // len(part)) + "!")) > 0
