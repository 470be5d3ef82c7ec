"""Images through each host: taken as they are at the call, whatever their owner does then, and let go at its end."""

import asyncio
import gc
import inspect
import weakref
from io import BytesIO
from typing import ClassVar

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import ByteStream
from haystack.utils import Secret
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from PIL import Image as Pillow

from haystack_jinaclip import JinaClipDocumentImageEmbedder
from jinaclip import InputError, JinaClip
from langchain_jinaclip import JinaClipEmbeddings
from llamaindex_jinaclip import JinaClipEmbedding
from tests.contract.conftest import KEY

COUNT = 8
SIDE = 40


def pixels(number):
    """An image of its own for each number, uint8 (SIDE, SIDE, 3)."""
    return np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def film(frame):
    """One array, filled again for each image."""
    for number in range(COUNT):
        frame[:] = pixels(number)
        yield frame


@pytest.fixture
def right(server):
    """The vectors of the images, each embedded alone from its file."""
    with JinaClip(base_url=server.url, api_key=KEY, dimensions=64) as clip:
        return np.stack([clip.embed_image(encoded(number)) for number in range(COUNT)])


def encoded(number):
    buffer = BytesIO()
    Pillow.fromarray(pixels(number)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def langchain(server):
    return JinaClipEmbeddings(base_url=server.url, api_key=KEY, dimensions=64)


@pytest.fixture
def llamaindex(server):
    return JinaClipEmbedding(base_url=server.url, api_key=KEY, dimensions=64)


@pytest.fixture
def waiting(server):
    """LlamaIndex with a limiter that lets the call wait before it begins."""
    limiter = TokenBucketRateLimiter(requests_per_minute=6_000)
    return JinaClipEmbedding(base_url=server.url, api_key=KEY, dimensions=64, embed_batch_size=1, rate_limiter=limiter)


def ways(langchain, llamaindex, waiting):
    return [
        langchain.aembed_images,
        langchain.aembed_image,
        llamaindex.aget_image_embedding_batch,
        waiting.aget_image_embedding_batch,
    ]


def test_a_generator_may_refill_its_array(langchain, llamaindex, right):
    for embed in (langchain.embed_images, llamaindex.get_image_embedding_batch):
        assert (np.float32(embed(film(np.empty((SIDE, SIDE, 3), np.uint8)))) == right).all()


async def test_an_awaited_generator_may_refill_its_array(langchain, llamaindex, waiting, right):
    for embed in ways(langchain, llamaindex, waiting):
        assert (np.float32(await embed(film(np.empty((SIDE, SIDE, 3), np.uint8)))) == right).all()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["arrays", "pictures", "buffers"])
async def test_what_is_awaited_may_be_overwritten_and_its_list_cleared(langchain, llamaindex, waiting, right, form):
    for embed in ways(langchain, llamaindex, waiting):
        images = [made(form, number) for number in range(COUNT)]
        task = asyncio.create_task(embed(images))
        await asyncio.sleep(0)  # the call begins, and waits
        for image in images:
            spoil(image)
        images.clear()
        assert (np.float32(await task) == right).all()


async def test_one_image_that_is_awaited_may_be_overwritten(langchain, llamaindex, right):
    for embed in (langchain.aembed_image, llamaindex.aget_image_embedding):
        image = pixels(0)
        task = asyncio.create_task(embed(image))
        await asyncio.sleep(0)
        image[:] = 0
        assert (np.float32(await task) == right[0]).all()


async def test_haystack_s_list_may_be_cleared(server, right):
    embedder = JinaClipDocumentImageEmbedder(
        base_url=server.url, api_key=Secret.from_token(KEY), dimensions=64, progress_bar=False
    )
    documents = [Document(blob=ByteStream(encoded(number), mime_type="image/png")) for number in range(COUNT)]
    task = asyncio.create_task(embedder.run_async(documents))
    await asyncio.sleep(0)
    documents.clear()
    found = (await task)["documents"]
    assert (np.float32([document.embedding for document in found]) == right).all()


class Watched(np.ndarray):
    """An array that is counted while it lives, and its copies too."""

    alive: ClassVar = weakref.WeakSet()

    def __array_finalize__(self, _):
        Watched.alive.add(self)

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def watched(number):
    return pixels(number).view(Watched)


def names(adapter, *methods):
    return [getattr(adapter, method) for method in methods]


async def fails(embed, make):
    """The error of a call, sync or async; its traceback begins here, so that nothing here may hold the items."""
    with pytest.raises(InputError) as caught:
        found = embed(make())
        if inspect.isawaitable(found):
            await found
    return caught.value


@pytest.mark.slow
async def test_errors_that_are_kept_keep_no_image_alive(langchain, llamaindex, waiting, tmp_path):
    missing, kept = str(tmp_path / "none.png"), []
    for embed in [
        *names(langchain, "embed_images", "aembed_images", "embed_image", "aembed_image"),
        *names(llamaindex, "get_image_embedding_batch", "aget_image_embedding_batch"),
        waiting.aget_image_embedding_batch,
    ]:
        kept += [
            await fails(embed, lambda: [watched(0), missing, watched(1)]),
            await fails(embed, lambda: (image for image in [watched(2), missing])),
        ]
    for embed in names(langchain, "embed_pairs", "aembed_pairs"):
        kept += [await fails(embed, lambda: [("a text", watched(3)), ("a text", missing)])]
    gc.collect()
    assert len(kept) == 16
    assert not list(Watched.alive)


@pytest.mark.slow
async def test_errors_of_haystack_hold_no_document(server):
    embedder = JinaClipDocumentImageEmbedder(base_url=server.url, api_key=Secret.from_token(KEY), progress_bar=False)
    watching = []

    def make():
        documents = [Document(content=f"no image {number}") for number in range(2)]
        watching.extend(map(weakref.ref, documents))
        return documents

    kept = [await fails(embed, make) for embed in (embedder.run, embedder.run_async)]
    gc.collect()
    assert len(kept) == 2
    assert not [watch for watch in watching if watch() is not None]


def made(form, number):
    if form == "arrays":
        return pixels(number)
    return Pillow.fromarray(pixels(number)) if form == "pictures" else bytearray(encoded(number))


def spoil(image):
    if isinstance(image, np.ndarray):
        image[:] = 0
    elif isinstance(image, bytearray):
        image[:] = bytes(len(image))
    else:
        image.paste((0, 0, 0), (0, 0, SIDE, SIDE))
