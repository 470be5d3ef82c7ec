"""No call takes more than 50 ms of the event loop's own CPU, however large the images that it is given."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage
from langchain_core.messages.content import create_image_block
from langchain_core.vectorstores import InMemoryVectorStore

from jinaclip import ImagePolicy
from langchain_jinaclip import JinaClipDiversifier, JinaClipEmbeddings, JinaClipRetriever, aadd_documents
from tests.langchain.conftest import Make, put
from tests.langchain.test_embeddings import encoded, picture

COUNT, SIZE = 40, 2_000_000
MOST_SECONDS = 0.05
FORMS = ["base64", *(pytest.param(form, marks=pytest.mark.long) for form in ("path", "bytes", "block"))]


class Turns:
    """What each turn of the running loop took of its thread's CPU."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = time.thread_time()

    def look(self) -> None:
        """Is called in every turn."""
        now = time.thread_time()
        self.longest, self._began = max(self.longest, now - self._began), now
        self._next = asyncio.get_running_loop().call_soon(self.look)

    def end(self) -> float:
        self._next.cancel()
        return max(self.longest, time.thread_time() - self._began)


async def longest_turn(call: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> float:
    """Seconds of CPU of the longest turn of the loop until the call has ended.

    It is the second call: the first imports, and compiles what this environment has never imported.
    """
    await call(*arguments)
    turns = Turns()
    turns.look()
    await call(*arguments)
    return turns.end()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Images of 2 MB that are quick to decode: small ones, with a chunk that no reader looks at, each of its own."""
    folder = tmp_path_factory.mktemp("large")
    paths = [folder / f"{seed}.png" for seed in range(COUNT)]
    for seed, path in enumerate(paths):
        data = encoded(picture(seed, (40, 30)))
        path.write_bytes(data[:-12] + ancillary_chunk(SIZE) + data[-12:])
    return paths


def ancillary_chunk(size: int) -> bytes:
    import random
    import zlib

    body = b"juNk" + random.Random(1).randbytes(size)
    return size.to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")


def in_form(path: Path, form: str) -> Any:
    if form == "path":
        return str(path)
    data = path.read_bytes()
    if form == "bytes":
        return data
    letters = base64.b64encode(data).decode()
    return f"data:image/png;base64,{letters}" if form == "base64" else create_image_block(base64=letters)


@pytest.fixture(scope="module", params=FORMS)
def images(request: pytest.FixtureRequest, files: list[Path]) -> list[Any]:
    return [in_form(path, request.param) for path in files]


@pytest.fixture
def shop(make: Make, files: list[Path]) -> JinaClipEmbeddings:
    return make(image_policy=ImagePolicy(allowed_roots=(files[0].parent,)))


@pytest.fixture
def filled(shop: JinaClipEmbeddings, images: list[Any]) -> InMemoryVectorStore:
    """A store whose documents have large images in their metadata, and as content where that can be."""
    store = InMemoryVectorStore(shop)
    vectors = shop.embed_documents([f"text {n}" for n in range(COUNT)])
    texts = [image if isinstance(image, str) else "" for image in images]
    put(store, [str(n) for n in range(COUNT)], vectors, texts, [{"image": image} for image in images])
    return store


@pytest.mark.slow
async def test_embeddings(shop: JinaClipEmbeddings, images: list[Any]) -> None:
    assert await longest_turn(shop.aembed_images, images) < MOST_SECONDS
    assert await longest_turn(shop.aembed_image, images[0]) < MOST_SECONDS
    assert await longest_turn(shop.aembed_pairs, [("a", image) for image in images[:4]]) < MOST_SECONDS


async def test_the_retriever(filled: InMemoryVectorStore, images: list[Any]) -> None:
    """A large query, and forty large results."""
    retriever = JinaClipRetriever(vectorstore=filled, k=COUNT)
    assert await longest_turn(retriever.ainvoke, {"text": "a", "image": images[0]}) < MOST_SECONDS


@pytest.mark.slow
async def test_the_compressor(shop: JinaClipEmbeddings, filled: InMemoryVectorStore) -> None:
    documents = filled.similarity_search("a", k=COUNT)
    for given in ({"vectorstore": filled}, {}):
        diversifier = JinaClipDiversifier(embeddings=shop, method="mmr", **given)
        assert await longest_turn(diversifier.acompress_documents, documents, "a") < MOST_SECONDS


@pytest.mark.slow
async def test_the_tool(filled: InMemoryVectorStore, images: list[Any]) -> None:
    """Forty large results, asked for by one of the images of a conversation."""
    tool = JinaClipRetriever(vectorstore=filled, k=COUNT).as_tool()
    block = create_image_block(base64=base64.b64encode(encoded(picture(1))).decode())
    asked = {"text": "a", "attached": 1, "runtime": Runtime([HumanMessage([block])])}
    call = {"type": "tool_call", "id": "1", "name": tool.name, "args": asked}
    assert await longest_turn(tool.ainvoke, call) < MOST_SECONDS


class Runtime:
    """What an agent hands to its tools, as far as ours looks at it."""

    def __init__(self, messages: list[Any]) -> None:
        self.state = {"messages": messages}


@pytest.mark.slow
async def test_adding_documents(shop: JinaClipEmbeddings, images: list[Any]) -> None:
    documents = [Document("", metadata={"image": image}) for image in images]
    assert await longest_turn(aadd_documents, InMemoryVectorStore(shop), documents) < MOST_SECONDS
