"""The two embedders of queries."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.converters.image import DocumentToImageContent, ImageFileToImageContent
from haystack.dataclasses import ByteStream, ImageContent

from haystack_jinaclip import (
    JinaClipDocumentEmbedder,
    JinaClipImageEmbedder,
    JinaClipQueryEmbedder,
    JinaClipTextEmbedder,
)
from jinaclip import APIError, InputError, JinaClipError, fuse
from jinaclip.testing.vectors import expected_vector
from tests.haystack.conftest import TimeLimit, alike, picture, png


def same(vector, other) -> bool:
    return np.allclose(vector, other, atol=2e-6)


async def test_a_query_is_a_list_of_floats(make, run) -> None:
    """Exactly float, so that json takes it."""
    for kind, value in ((JinaClipTextEmbedder, "a red dress"), (JinaClipImageEmbedder, ByteStream(png(1)))):
        result = await run(make(kind), value)
        assert result.keys() == {"embedding", "meta"}
        assert type(result["embedding"]) is list
        assert {type(number) for number in result["embedding"]} == {float}
        assert json.loads(json.dumps(result)) == result


async def test_a_text_gets_the_vector_of_a_query(hosted, server, run) -> None:
    """With the model's instruction, which documents do not get; `meta` has the model and what it cost."""
    result = await run(JinaClipTextEmbedder(**hosted), "a red dress")
    assert same(result["embedding"], expected_vector("text", "a red dress", task="retrieval.query"))
    assert not same(result["embedding"], expected_vector("text", "a red dress"))
    tokens = server.ledger()["tokens"]
    assert result["meta"] == {
        "model": "jina-clip-v2",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


async def test_prefix_and_suffix_wrap_the_query(hosted, run) -> None:
    """An empty text leaves them alone; where they are blank too there is nothing to embed."""
    made = JinaClipTextEmbedder(**hosted, prefix="shop: ", suffix=" please")
    for text in ("a red dress", ""):
        wanted = expected_vector("text", f"shop: {text} please", task="retrieval.query")
        assert same((await run(made, text))["embedding"], wanted)
    with pytest.raises(InputError, match="empty or blank"):
        await run(JinaClipTextEmbedder(**hosted), "")


@pytest.mark.parametrize("value", [None, 7, b"bytes", ["a red dress"], [Document(content="a")], Document(content="a")])
async def test_what_is_no_text_is_refused(hosted, server, run, value) -> None:
    """The message names the components for what was given."""
    with pytest.raises(TypeError, match=r"str, not .*JinaClipDocumentEmbedder.*JinaClipImageEmbedder"):
        await run(JinaClipTextEmbedder(**hosted), value)
    assert server.ledger()["requests"] == 0


@pytest.mark.parametrize("value", [7, b"bytes", [ByteStream(b""), 7], Document(content="a"), ()])
async def test_what_is_no_picture_is_refused(hosted, server, run, value) -> None:
    with pytest.raises(TypeError, match=r"not .*JinaClipDocumentImageEmbedder.*JinaClipTextEmbedder"):
        await run(JinaClipImageEmbedder(**hosted), value)
    assert server.ledger()["requests"] == 0


@pytest.mark.slow
async def test_every_form_of_a_picture_gives_one_vector(make, run, tmp_path, monkeypatch) -> None:
    """Path, str, data: URL, ByteStream, ImageContent."""
    (tmp_path / "shown.png").write_bytes(png(3))
    monkeypatch.chdir(tmp_path)
    encoded = base64.b64encode(png(3)).decode()
    made = make(JinaClipImageEmbedder)
    forms = [
        tmp_path / "shown.png",
        "shown.png",
        f"data:image/png;base64,{encoded}",
        ByteStream(png(3), mime_type="image/png"),
        ByteStream(png(3)),
        ImageContent(encoded),
    ]
    vectors = [(await run(made, form))["embedding"] for form in forms]
    wanted = made.handle.get().embed_image(picture(3))
    assert all(same(vector, wanted) for vector in vectors)


async def test_a_string_from_outside_stays_in_its_folder(make, run, tmp_path) -> None:
    """A path that an agent writes; one from code may be a Path."""
    (tmp_path / "shown.png").write_bytes(png(3))
    with pytest.raises(ValueError, match="allowed_roots"):
        await run(make(JinaClipImageEmbedder), str(tmp_path / "shown.png"))
    allowed = make(JinaClipImageEmbedder, image_policy={"allowed_roots": [str(tmp_path)]})
    inside = (await run(allowed, str(tmp_path / "shown.png")))["embedding"]
    assert same(inside, (await run(make(JinaClipImageEmbedder), tmp_path / "shown.png"))["embedding"])


@pytest.mark.parametrize(
    "value", [Path("missing.png"), "missing.png", ByteStream(b"no picture"), ByteStream(b""), "http://a.example/b.png"]
)
async def test_a_picture_that_cannot_be_used_is_a_value_error(hosted, server, run, value) -> None:
    with pytest.raises(ValueError, match=r"^the image: "):
        await run(JinaClipImageEmbedder(**hosted), value)
    assert server.ledger()["requests"] == 0


async def test_sync_and_async_agree(make) -> None:
    """Vectors, meta, errors."""
    text, image = make(JinaClipTextEmbedder), make(JinaClipImageEmbedder)
    assert alike(text.run("a red dress"), await text.run_async("a red dress"))
    assert alike(image.run(ByteStream(png(1))), await image.run_async(ByteStream(png(1))))
    for made, bad in ((text, " "), (image, ByteStream(b"no picture"))):
        with pytest.raises(InputError) as caught:
            made.run(bad)
        with pytest.raises(InputError) as twin:
            await made.run_async(bad)
        assert str(caught.value) == str(twin.value)


def test_run_async_leaves_the_loop_free(hosted, server) -> None:
    """Eight queries go together while the loop goes on turning."""
    server.configure(base_ms=60)
    made = JinaClipTextEmbedder(**hosted)

    async def ask() -> int:
        queries = asyncio.gather(*(made.run_async(f"query {i}") for i in range(8)))
        turns = 0
        while not queries.done():
            turns += 1
            await asyncio.sleep(0)
        await queries
        return turns

    assert asyncio.run(ask()) > 100
    books = server.ledger()
    assert books["answered"] == {"1": 8}
    assert books["requests"] < 8, "they share requests"


def test_several_loops_in_a_row(make) -> None:
    """Nobody has to close anything in between."""
    made = make(JinaClipTextEmbedder)
    vectors = [asyncio.run(made.run_async("a red dress"))["embedding"] for _ in range(3)]
    assert vectors[0] == vectors[1] == vectors[2] == made.run("a red dress")["embedding"]


async def test_run_works_inside_a_running_loop(make) -> None:
    """Notebooks."""
    made = make(JinaClipTextEmbedder)
    assert made.run("a red dress") == await made.run_async("a red dress")


async def test_a_cancelled_query_harms_nobody(hosted, server) -> None:
    server.configure(base_ms=200)
    made = JinaClipTextEmbedder(**hosted)
    task = asyncio.create_task(made.run_async("first"))
    while not server.ledger()["in_flight"]:  # noqa: ASYNC110  the server is another process
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    wanted = expected_vector("text", "second", task="retrieval.query")
    assert same((await made.run_async("second"))["embedding"], wanted)
    await made.close_async()


async def test_an_error_of_the_service_keeps_its_kind(hosted, server, run, hasty) -> None:
    """Called directly, the core's own error with its status comes out."""
    server.configure(script=["auth_401"])
    with pytest.raises(APIError) as caught:
        await run(JinaClipTextEmbedder(**hosted), "a red dress")
    assert caught.value.status == 401


async def test_a_query_for_documents_and_documents_for_a_query_differ(make, run) -> None:
    """v2 knows which is which, over both backends."""
    query = (await run(make(JinaClipTextEmbedder), "a red dress"))["embedding"]
    (document,) = (await run(make(JinaClipDocumentEmbedder), [Document(content="a red dress")]))["documents"]
    assert not same(query, document.embedding)


async def test_the_usage_of_a_run_is_its_own(hosted, server) -> None:
    """Of fifty queries and lists at once: their metas add up to the bill, and each has its share of it.

    A request that several runs share has one bill, which is divided by what each part was estimated to cost.
    """
    server.configure(base_ms=20)
    text, image = JinaClipTextEmbedder(**hosted), JinaClipImageEmbedder(**hosted)
    documents = JinaClipDocumentEmbedder(**hosted, progress_bar=False)
    lists = [[Document(content="word " * (i + j)) for j in range(1, 4)] for i in range(10)]
    runs = [text.run_async("word " * i) for i in range(1, 31)]
    runs += [image.run_async(ByteStream(png(seed))) for seed in range(10)]
    runs += map(documents.run_async, lists)
    tokens = [result["meta"]["usage"]["total_tokens"] for result in await asyncio.gather(*runs)]
    assert len(tokens) == 50 and sum(tokens) == server.ledger()["tokens"]
    assert 0 < tokens[0] < tokens[29]
    assert tokens[30:40] == pytest.approx([4000] * 10, rel=0.05)
    for made in (text, image, documents):
        await made.close_async()


def test_the_usage_of_a_run_in_a_thread_is_its_own(hosted, server) -> None:
    """Fifty threads ask at once, and share requests; their metas add up to the bill."""
    server.configure(base_ms=20)
    made = JinaClipTextEmbedder(**hosted)
    with ThreadPoolExecutor(50) as threads:
        results = [*threads.map(made.run, ["word " * i for i in range(1, 51)])]
    tokens = [result["meta"]["usage"]["total_tokens"] for result in results]
    assert sum(tokens) == server.ledger()["tokens"]
    assert 0 < tokens[0] < tokens[49]
    made.close()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (JinaClipTextEmbedder, "a red dress"),
        (JinaClipImageEmbedder, ByteStream(png(1))),
        (JinaClipDocumentEmbedder, [Document(content="a red dress")]),
    ],
)
def test_a_time_limit_of_the_host_passes_through(hosted, server, time_limit, kind, given) -> None:
    """It is not taken for an error of the service, nor forgiven with a document; the next run is as ever."""
    lenient = {"raise_on_failure": False} if kind is JinaClipDocumentEmbedder else {}
    made = kind(**hosted, **lenient)
    server.configure(base_ms=60_000)
    with pytest.raises(TimeLimit):
        time_limit(0.3)
        made.run(given)
    server.configure(base_ms=0)
    assert made.run(given)["meta"]
    made.close()


async def test_a_query_is_urgent_as_in_the_core(hosted, server, run) -> None:
    """At most two retries, whatever `max_retries` says; a document gets them all."""
    server.configure(script=["status_503"] * 9)
    with pytest.raises(JinaClipError):
        await run(JinaClipTextEmbedder(**hosted), "a red dress")
    assert server.ledger()["requests"] == 3


async def test_a_query_ends_at_its_deadline(hosted, server, run) -> None:
    server.configure(base_ms=5000)
    with pytest.raises(TimeoutError):
        await run(JinaClipTextEmbedder(**hosted, deadline=0.2), "a red dress")


# -- text and image together


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


async def test_a_query_of_both_is_the_fusion_of_its_halves(make, run) -> None:
    """The text as a query, with the model's instruction, prefix and suffix; a weight of the run goes first."""
    made = make(JinaClipQueryEmbedder, weight=0.3, prefix="a ", image_resize="none")
    clip = made.handle.get()
    words, seen = clip.embed_query("a red dress"), clip.embed_image(picture(1))
    image = ByteStream(png(1))
    assert same((await run(made, "red dress", image))["embedding"], fuse(words, seen, 0.3))
    assert same((await run(made, "red dress", image, 0.8))["embedding"], fuse(words, seen, 0.8))
    assert same((await run(made, "red dress"))["embedding"], words)
    for nothing in (None, "", " \n"):
        assert same((await run(made, nothing, image))["embedding"], seen)


async def test_several_pictures_are_searched_with_as_their_mean(make, run) -> None:
    """None among them is passed over, and so is a blank string, which agents write for what they leave out."""
    seen = [ByteStream(png(seed)) for seed in range(3)]
    made = make(JinaClipQueryEmbedder, image_resize="none")
    clip = made.handle.get()
    mean = unit(clip.embed_images([picture(seed) for seed in range(3)]).mean(axis=0))
    assert same((await run(made, None, [seen[0], None, *seen[1:]]))["embedding"], mean)
    words = clip.embed_query("a red dress")
    assert same((await run(made, "a red dress", seen, 0.7))["embedding"], fuse(words, mean, 0.7))
    images = make(JinaClipImageEmbedder, image_resize="none")
    assert same((await run(images, [None, "", *seen]))["embedding"], mean)
    assert same((await run(made, "a red dress", " "))["embedding"], words)
    assert same((await run(images, [None, seen[1]]))["embedding"], (await run(images, seen[1]))["embedding"])


@pytest.mark.parametrize(("weight", "texts", "images"), [(0, 0, 1), (1, 1, 0), (0.5, 1, 1)])
async def test_a_half_of_a_query_without_weight_is_not_paid_for(hosted, server, run, weight, texts, images) -> None:
    result = await run(JinaClipQueryEmbedder(**hosted), "a red dress", ByteStream(png(1)), weight)
    ledger = server.ledger()
    assert (ledger["texts"], ledger["images"]) == (texts, images)
    assert result["meta"]["usage"]["total_tokens"] == ledger["tokens"]
    assert (await run(JinaClipQueryEmbedder(**hosted), "a red dress", None, weight))["embedding"]


@pytest.mark.parametrize("image", [None, [], [None, None]], ids=str)
async def test_a_query_of_nothing_is_a_value_error(hosted, server, run, image) -> None:
    for text in (None, " "):
        with pytest.raises(ValueError, match="nothing to search with"):
            await run(JinaClipQueryEmbedder(**hosted), text, image)
    with pytest.raises(ValueError, match="nothing to search with"):
        await run(JinaClipImageEmbedder(**hosted), image)
    assert server.ledger()["requests"] == 0


async def test_the_half_that_cannot_be_embedded_is_named(hosted, run) -> None:
    made, image = JinaClipQueryEmbedder(**hosted), ByteStream(png(1))
    with pytest.raises(InputError, match=r"^the image: "):
        await run(made, "a red dress", ByteStream(b"no image"))
    with pytest.raises(InputError, match=r"^the text: "):
        await run(made, "word " * 20_000, image)


async def test_a_query_that_can_be_seen_to_be_wrong_is_refused_before_it_is_paid_for(hosted, server, run) -> None:
    made, image = JinaClipQueryEmbedder(**hosted), ByteStream(png(1))
    for weight in (2, -0.1, "half"):
        with pytest.raises(ValueError, match="weight="):
            await run(made, "a red dress", image, weight)
    with pytest.raises(TypeError, match="JinaClipQueryEmbedder takes a str as its text, not bytes"):
        await run(made, b"a red dress")
    with pytest.raises(InputError, match=r"^the image: .*allowed_roots"):
        await run(made, "a red dress", "/etc/passwd.png")
    assert server.ledger()["requests"] == 0


async def test_a_query_of_both_is_urgent_too(hosted, server, run) -> None:
    """Somebody waits for it: at most two retries for each of its two requests, whatever `max_retries` says."""
    server.configure(script=["status_503"] * 20)
    with pytest.raises(JinaClipError):
        await run(JinaClipQueryEmbedder(**hosted, max_retries=9), "a red dress", ByteStream(png(1)))
    assert server.ledger()["requests"] <= 6


@pytest.mark.parametrize("kind", [JinaClipImageEmbedder, JinaClipQueryEmbedder], ids=lambda kind: kind.__name__)
def test_what_haystacks_converters_give_is_searched_with(make, folder, kind) -> None:
    """Pictures from files connect, and those of documents, of which some are None."""
    wanted = make(kind).run(image=folder / "1.png")["embedding"]
    files = Pipeline()
    files.add_component("convert", ImageFileToImageContent())
    files.add_component("embed", make(kind))
    files.connect("convert.image_contents", "embed.image")
    assert same(files.run({"convert": {"sources": [folder / "1.png"]}})["embed"]["embedding"], wanted)
    documents = Pipeline()
    documents.add_component("convert", DocumentToImageContent(root_path=str(folder)))
    documents.add_component("embed", make(kind))
    documents.connect("convert.image_contents", "embed.image")
    given = [Document(meta={"file_path": "1.png"})]
    assert same(documents.run({"convert": {"documents": given}})["embed"]["embedding"], wanted)
    (image,) = DocumentToImageContent(root_path=str(folder)).run(given)["image_contents"]
    assert same(make(kind).run(image=[None, image])["embedding"], wanted), "from 3.4 on, None stands for no image"
    for pipe in (files, documents):
        pipe.close()
