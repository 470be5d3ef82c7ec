"""Through each host: every row is of its own image, whatever its owner does to it after the call."""

import asyncio
from io import BytesIO

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import ByteStream
from haystack.utils import Secret
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from PIL import Image as Pillow

from haystack_jinaclip import JinaClipDocumentImageEmbedder
from jinaclip import JinaClip
from langchain_jinaclip import JinaClipEmbeddings
from llamaindex_jinaclip import JinaClipEmbedding
from tests.contract.conftest import KEY

COUNT = 20
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
