"""What JinaClipEmbeddings gives: values, order, forms of input, and how it behaves in event loops and threads."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
from collections import deque
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages.content import create_image_block
from PIL import Image as Pillow

from jinaclip import ConfigError, Image, InputError, Pair, Results, fuse
from jinaclip.errors import BadResponseError, ItemError, NotSentError
from jinaclip.testing.process import Server
from jinaclip.testing.vectors import expected_vector
from langchain_jinaclip import JinaClipEmbeddings
from tests.articles import Article
from tests.langchain.conftest import Make

TEXTS = ["a red dress", "ein blauer Mantel", "三条长裤"]


def near(a: Any, b: Any) -> bool:
    return bool(np.allclose(np.array(a), np.array(b), atol=1e-6))


def picture(seed: int, size: tuple[int, int] = (90, 70)) -> Pillow.Image:
    return Pillow.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))


def encoded(shown: Pillow.Image) -> bytes:
    buffer = io.BytesIO()
    shown.save(buffer, "PNG")
    return buffer.getvalue()


def everything(embeddings: JinaClipEmbeddings, pictures: list[Path]) -> list[Any]:
    return [
        [embeddings.embed_query(TEXTS[0])],
        embeddings.embed_documents(TEXTS),
        embeddings.embed_images(pictures),
        embeddings.embed_image(pictures),
        [embeddings.embed_image(pictures[0])],
        embeddings.embed_pairs(list(zip(TEXTS, pictures, strict=True)), weight=0.3),
    ]


async def aeverything(embeddings: JinaClipEmbeddings, pictures: list[Path]) -> list[Any]:
    return [
        [await embeddings.aembed_query(TEXTS[0])],
        await embeddings.aembed_documents(TEXTS),
        await embeddings.aembed_images(pictures),
        await embeddings.aembed_image(pictures),
        [await embeddings.aembed_image(pictures[0])],
        await embeddings.aembed_pairs(list(zip(TEXTS, pictures, strict=True)), weight=0.3),
    ]


def test_every_number_is_a_python_float_and_every_vector_as_wide_as_stated(
    embeddings: JinaClipEmbeddings, catalogue: list[Article]
) -> None:
    for vectors in everything(embeddings, [shown.picture for shown in catalogue[:3]]):
        assert type(vectors) is list
        assert all(type(vector) is list and len(vector) == embeddings.clip.dimensions for vector in vectors)
        assert all(type(number) is float for vector in vectors for number in vector)


def test_async_gives_what_sync_gives(embeddings: JinaClipEmbeddings, catalogue: list[Article]) -> None:
    pictures = [shown.picture for shown in catalogue[:3]]
    for ours, theirs in zip(
        everything(embeddings, pictures), asyncio.run(aeverything(embeddings, pictures)), strict=True
    ):
        assert near(ours, theirs)


def test_vectors_are_those_of_the_core(embeddings: JinaClipEmbeddings, catalogue: list[Article]) -> None:
    pictures, clip = [shown.picture for shown in catalogue[:3]], embeddings.clip
    images, texts = clip.embed_images(pictures), clip.embed_documents(TEXTS)
    expected = [[clip.embed_query(TEXTS[0])], texts, images, images, images[:1], fuse(texts, images, 0.3)]
    for ours, theirs in zip(everything(embeddings, pictures), expected, strict=True):
        assert near(ours, theirs)


def test_both_backends_give_one_vector(both: dict[str, JinaClipEmbeddings], catalogue: list[Article]) -> None:
    pictures = [shown.picture for shown in catalogue[:3]]
    for ours, theirs in zip(everything(both["api"], pictures), everything(both["local"], pictures), strict=True):
        assert np.allclose(ours, theirs, atol=1e-4)


FAILURES = [
    ("embed_query", " "),
    ("embed_query", 7),
    ("embed_documents", ["fine", ""]),
    ("embed_documents", ["fine", picture(1)]),
    ("embed_documents", "a bare string"),
    ("embed_images", ["no-such-file.png"]),
    ("embed_images", "a.png"),
    ("embed_images", [b"no picture"]),
    ("embed_images", [{"type": "image", "file_id": "file-1"}]),
    ("embed_image", {"type": "text", "text": "a"}),
    ("embed_image", "/etc/hostname"),
    ("embed_pairs", [("a", {"type": "image", "base64": "!!!", "mime_type": "image/png"})]),
    ("embed_pairs", [("a", "b", "c")]),
]


@pytest.mark.parametrize(("method", "argument"), FAILURES)
def test_async_fails_as_sync_fails(make: Make, server: Server, method: str, argument: Any) -> None:
    embeddings = make()
    with pytest.raises(InputError) as sync:
        getattr(embeddings, method)(argument)
    with pytest.raises(InputError) as native:
        asyncio.run(getattr(embeddings, f"a{method}")(argument))
    assert (str(sync.value), sync.value.index) == (str(native.value), native.value.index)
    assert server.ledger()["answered"] == {}


METHODS = [
    ("aembed_query", "a"),
    ("aembed_documents", ["a", "b"]),
    ("aembed_images", [picture(1)]),
    ("aembed_image", picture(1)),
    ("aembed_pairs", [("a", picture(1))]),
]


@pytest.mark.parametrize(("method", "argument"), METHODS)
async def test_the_loop_goes_on_and_a_cancelled_call_ends_while_the_service_is_silent(
    make: Make, server: Server, method: str, argument: Any
) -> None:
    """A default `aembed_*` would sit in a thread, and a blocking one would never let the loop turn."""
    server.configure(base_ms=60_000)
    embeddings = make()
    call = asyncio.ensure_future(getattr(embeddings, method)(argument))
    while not await asyncio.to_thread(lambda: server.ledger()["received"]):  # the loop turns while the call waits
        assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert server.ledger()["answered"] == {}
    server.reset()


def test_one_object_serves_several_loops_and_each_alternates_with_sync(make: Make) -> None:
    embeddings = make()
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    try:
        for number in range(3):
            for loop in (first, second):
                text = f"text {number}"
                assert near(loop.run_until_complete(embeddings.aembed_query(text)), embeddings.embed_query(text))
    finally:
        for loop in (first, second):
            loop.run_until_complete(embeddings.clip.aclose())
            loop.close()


async def test_sync_methods_work_inside_a_running_loop(make: Make) -> None:
    embeddings = make()
    assert near(embeddings.embed_documents(TEXTS), await embeddings.aembed_documents(TEXTS))


async def test_nothing_in_gives_nothing_out_and_no_request(make: Make, server: Server) -> None:
    embeddings = make()
    for method in ("embed_documents", "embed_images", "embed_image", "embed_pairs"):
        for nothing in ([], (), (item for item in [])):
            assert getattr(embeddings, method)(nothing) == []
        assert await getattr(embeddings, f"a{method}")([]) == []
    assert server.ledger()["received"] == {}


def test_order_holds_over_batches_in_flight_together(make: Make, server: Server) -> None:
    server.configure(shuffle=True)
    texts = [f"text {number}" for number in range(50)]
    expected = [expected_vector("text", text) for text in texts]
    embeddings = make(batch_size=3, max_concurrency=8)
    assert near(embeddings.embed_documents(texts), expected)
    assert near(asyncio.run(embeddings.aembed_documents(texts)), expected)


@pytest.mark.usefixtures("hasty")
def test_an_answer_that_lacks_a_vector_is_an_error(make: Make, server: Server) -> None:
    server.configure(fault_rate=1.0, faults=["short_reply"])
    with pytest.raises(BadResponseError):
        make(max_retries=1).embed_documents(TEXTS)


FORMS = {
    "list": list,
    "tuple": tuple,
    "generator": lambda values: (value for value in values),
    "iterator": iter,
    "zip": lambda values: map(itemgetter(0), zip(values, strict=True)),
    "deque": deque,
    "keys": lambda values: dict.fromkeys(values).keys(),
    "values": lambda values: dict(enumerate(values)).values(),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
async def test_every_iterable_is_taken_once_and_wholly(make: Make, tmp_path: Path, form: Any) -> None:
    embeddings = make()
    paths = [tmp_path / f"{seed}.png" for seed in range(3)]
    for seed, path in enumerate(paths):
        picture(seed).save(path)
    pairs = list(zip(TEXTS, paths, strict=True))
    for method, values in (("embed_documents", TEXTS), ("embed_images", paths), ("embed_pairs", pairs)):
        expected = getattr(embeddings, method)(values)
        assert near(getattr(embeddings, method)(form(values)), expected)
        assert near(await getattr(embeddings, f"a{method}")(form(values)), expected)


@pytest.mark.parametrize(
    "value",
    ["a", b"a", bytearray(b"a"), 7, None, {"a": 1}, Path("x.png"), io.BytesIO(b"a\nb"), picture(1), np.ones((2, 2, 3))],
    ids=lambda value: type(value).__name__,
)
def test_one_thing_where_several_are_meant_is_refused(make: Make, value: Any) -> None:
    embeddings = make()
    for method in (embeddings.embed_documents, embeddings.embed_images, embeddings.embed_pairs):
        with pytest.raises(InputError, match="several"):
            method(value)


def forms_of(shown: Pillow.Image, file: Path) -> list[Any]:
    data = encoded(shown)
    letters = base64.b64encode(data).decode()
    uri = f"data:image/png;base64,{letters}"
    return [
        file.name,
        file,
        uri,
        data,
        bytearray(data),
        io.BytesIO(data),
        shown,
        np.asarray(shown),
        Image.from_bytes(data),
        create_image_block(base64=letters, mime_type="image/png"),
        create_image_block(url=uri),
        {"type": "image", "base64": letters},
        {"type": "image_url", "image_url": {"url": uri}},
        {"type": "image_url", "image_url": uri},
        {"type": "input_image", "image_url": uri, "detail": "auto"},
        {"type": "input_image", "image_url": {"url": uri}},
        {"type": "media", "mime_type": "image/png", "data": letters},
        {"type": "media", "mime_type": "IMAGE/PNG", "data": letters},
        {"type": "media", "mime_type": "image/png", "data": data},
        {"type": "file", "mime_type": "image/png", "base64": letters},
        {"image": {"format": "png", "source": {"bytes": data}}},
        {"type": "image", "source_type": "base64", "data": letters, "mime_type": "image/png"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": letters}},
    ]


@pytest.mark.slow
async def test_every_form_of_a_picture_gives_one_vector_alone_and_in_a_mixed_list(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown, file, embeddings = picture(3), tmp_path / "shown.png", make()
    shown.save(file)
    expected, forms = embeddings.embed_image(file), forms_of(shown, file)
    for vectors in (
        embeddings.embed_images(forms),
        embeddings.embed_images(iter(forms)),
        embeddings.embed_images(deque(forms)),
        embeddings.embed_image(dict(enumerate(forms)).values()),
        [embeddings.embed_image(form) for form in forms],
        [pair for form in forms for pair in embeddings.embed_pairs([("a", form)], weight=0)],
        await embeddings.aembed_images(forms),
        [await embeddings.aembed_image(form) for form in forms],
    ):
        assert all(near(vector, expected) for vector in vectors)
        assert len(vectors) == len(forms)


def test_addresses_go_through_the_policy_of_strings(make: Make) -> None:
    """A URL, as such or in a block, is recognised as one; these are refused by the policy, not taken for paths."""
    for address in ("http://example.com/a.png", "https://127.0.0.1/a.png", "https://example.com:8443/a.png"):
        for form in (address, create_image_block(url=address), {"type": "image_url", "image_url": {"url": address}}):
            with pytest.raises(InputError, match=r"image 0: .*(schemes|ports|public|network)"):
                make().embed_images([form])


def test_addresses_are_handed_on_when_the_service_is_to_fetch_them(make: Make) -> None:
    address = "https://example.com/a.png"
    forms = [address, create_image_block(url=address), {"type": "image_url", "image_url": {"url": address}}]
    for vector in make(url_mode="forward").embed_images(forms):
        assert near(vector, expected_vector("url", address))


REFUSED = [
    ({"type": "image", "file_id": "file-1"}, "file_id"),
    ({"type": "image"}, "url or base64"),
    ({"type": "text", "text": "a red dress"}, "'text'"),
    ({"type": "file", "base64": "aaaa", "mime_type": "application/pdf"}, "'file'"),
    ({"type": "image", "base64": "aaaa", "mime_type": "application/pdf"}, "application/pdf"),
    ({"type": "image", "base64": "!!!!", "mime_type": "image/png"}, "base64"),
    ({"type": "image", "url": ""}, "url"),
    ({}, "None"),
    ({"type": "input_image", "file_id": "file-1"}, "'input_image'"),
]


@pytest.mark.parametrize(("block", "said"), REFUSED)
def test_a_block_that_is_no_usable_image_is_refused_by_its_index(make: Make, block: dict[str, Any], said: str) -> None:
    for method, values in (("embed_images", [picture(1), block]), ("embed_pairs", [("a", picture(1)), ("b", block)])):
        with pytest.raises(InputError, match=r"(image|pair) 1: ") as caught:
            getattr(make(), method)(values)
        assert caught.value.index == 1
        assert said in str(caught.value)


def test_a_bad_block_of_a_generator_is_named_too(make: Make) -> None:
    with pytest.raises(InputError, match=r"image 2: .*file_id") as caught:
        make().embed_images(iter([picture(1), picture(2), {"type": "image", "file_id": "x"}]))
    assert caught.value.index == 2


def test_a_list_gives_a_list_and_one_image_gives_one_vector(make: Make, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    picture(1).save("a.png")
    embeddings = make()
    one = embeddings.embed_image("a.png")
    assert near(embeddings.embed_image(uris=["a.png"])[0], one)
    assert near(embeddings.embed_image(uris=("a.png",))[0], one)
    assert near(embeddings.embed_image(uris="a.png"), one), "never letter by letter"


async def test_an_array_of_names_is_a_list_of_images_and_one_of_pixels_is_one_image(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["a.png", "b.png"]
    for seed, name in enumerate(names):
        picture(seed).save(name)
    embeddings = make()
    expected = embeddings.embed_images(names)
    for array in (np.array(names), np.array(names, object), np.array([Path(name) for name in names])):
        assert near(embeddings.embed_image(array), expected)
        assert near(await embeddings.aembed_image(array), expected)
        assert near(embeddings.embed_images(array), expected)
    assert near(embeddings.embed_image(np.asarray(picture(0))), expected[0])


def test_threads_share_one_object(make: Make) -> None:
    embeddings = make(batch_size=4)
    got: dict[int, Any] = {}

    def work(number: int) -> None:
        got[number] = embeddings.embed_documents([f"{number}-{i}" for i in range(20)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    for number in range(8):
        assert near(got[number], [expected_vector("text", f"{number}-{i}") for i in range(20)])


def test_queries_and_documents_differ_and_the_namespace_changes_with_the_vectors(make: Make) -> None:
    embeddings = make()
    assert not near(embeddings.embed_query("a"), embeddings.embed_documents(["a"])[0])
    assert near(embeddings.embed_query("a"), expected_vector("text", "a", task="retrieval.query"))
    names = [make(**o).clip.space for o in ({}, {"dimensions": 64}, {"normalized": False}, {"model": "jina-clip-v1"})]
    assert len(set(names)) == len(names)
    assert make(batch_size=3, timeout=9, api_key="jina_test_other").clip.space == embeddings.clip.space
    assert make(space=names[1]).clip.space == names[1]


def test_a_failure_keeps_what_was_paid_for(make: Make, server: Server) -> None:
    server.configure(poison={"poison": "bad_item_400"})
    with pytest.raises(ItemError) as caught:
        make().embed_documents(["one", "poison", "three"])
    assert caught.value.index == 1
    assert caught.value.partial.ok.tolist() == [True, False, True]


def test_usage_and_self_test_are_those_of_the_core(make: Make) -> None:
    embeddings = make()
    embeddings.embed_documents(["one", "two"])
    assert embeddings.clip.usage.items == 2
    assert embeddings.clip.self_test().ok


@pytest.mark.parametrize(
    "block", [{"type": "image", "source_type": "url"}, {"type": "image", "source_type": "base64"}, {"type": ["image"]}]
)
def test_a_block_that_lacks_what_its_shape_promises_is_an_input_error(make: Make, block: dict) -> None:
    with pytest.raises(InputError, match="image 1"):
        make().embed_images([picture(1), block])


def test_a_bad_block_of_a_generator_loses_nothing(make: Make) -> None:
    blocks = iter([picture(1), {"type": "image", "file_id": "x"}, picture(2)])
    with pytest.raises(InputError, match="file_id") as caught:
        make().embed_images(blocks)
    assert caught.value.index == 1
    assert caught.value.partial.ok.tolist() == [True, False, True]


BAD_BLOCK = {"type": "image", "file_id": "x"}


def test_a_bad_block_of_a_list_is_refused_before_anything_is_sent(make: Make, server: Server) -> None:
    with pytest.raises(InputError, match=r"^image 1: .*file_id") as caught:
        make().embed_images([picture(1), BAD_BLOCK, picture(2)])
    results = caught.value.partial
    assert isinstance(results, Results)
    assert sorted(results.errors) == [0, 1, 2]
    assert isinstance(results.errors[0].reason, NotSentError)
    assert results.errors[1].reason.index is None, "what says why does not say where"
    assert server.ledger()["received"] == {}


@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize("kind", ["images", "pairs"])
def test_what_a_failed_call_embedded_stands_in_its_rows(make: Make, kind: str, way: str) -> None:
    embeddings, images = make(batch_size=1), [picture(1), BAD_BLOCK, picture(2)]
    items: Any = iter(images if kind == "images" else [("a", image) for image in images])
    with pytest.raises(InputError) as caught:
        if way == "sync":
            getattr(embeddings, f"embed_{kind}")(items)
        else:
            asyncio.run(getattr(embeddings, f"aembed_{kind}")(items))
    results = caught.value.partial
    assert isinstance(results, Results)
    assert results.ok.tolist() == [True, False, True]
    assert (list(results.errors), caught.value.index) == ([1], 1)
    places, vectors = results.successes()
    again = [images[place] for place in places]
    expected = embeddings.embed_images(again) if kind == "images" else embeddings.embed_pairs([("a", i) for i in again])
    assert near(vectors, expected)


def test_the_usage_of_a_failed_call_is_its_own(make: Make) -> None:
    embeddings = make()
    embeddings.embed_documents(["one", "two", "three"])
    with pytest.raises(InputError) as caught:
        embeddings.embed_images(iter([picture(1), BAD_BLOCK]))
    assert caught.value.partial.usage.items == 1
    assert embeddings.clip.usage.items == 4


def test_the_usage_of_a_call_comes_with_the_results_of_the_core(make: Make) -> None:
    embeddings = make()
    embeddings.embed_documents(["one", "two", "three"])
    results = embeddings.clip.embed(["four", picture(1)])
    assert results.usage.items == 2
    assert 1 <= results.usage.requests <= 2
    assert results.usage.tokens < embeddings.clip.usage.tokens
    assert near(results.vectors, [*embeddings.embed_documents(["four"]), embeddings.embed_image(picture(1))])


def test_a_pair_keeps_its_own_weight(make: Make) -> None:
    embeddings, image = make(), picture(1)
    texts, images = embeddings.embed_documents(["a", "a"]), embeddings.embed_images([image, image])
    block: Any = create_image_block(base64=base64.b64encode(encoded(image)).decode(), mime_type="image/png")
    expected = [fuse(texts[0], images[0], 0.9), fuse(texts[1], images[1], 0.3)]
    assert near(embeddings.embed_pairs([Pair("a", block, 0.9), ("a", image)], weight=0.3), expected)
    with pytest.raises(ConfigError, match="weight=2"):
        embeddings.embed_pairs(iter([("a", image)]), weight=2)
