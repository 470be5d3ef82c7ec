"""Every public call of langchain_jinaclip as its users write it. Read by mypy and pyright, never run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import assert_type

import httpx
import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.messages import HumanMessage
from langchain_core.messages.content import create_image_block, create_text_block
from langchain_core.prompts import PromptTemplate
from langchain_core.tools import BaseTool
from langchain_core.vectorstores import InMemoryVectorStore
from PIL import Image as Pillow
from pydantic import SecretStr

from jinaclip import Image, ImagePolicy, InputError, ItemFailure, JinaClip, Pair, Pdf, Results, Usage
from langchain_jinaclip import (
    JinaClipDiversifier,
    JinaClipEmbeddings,
    JinaClipRetriever,
    JinaClipTool,
    aadd_documents,
    add_documents,
)

# made with no option, with some, with all

embeddings: Embeddings = JinaClipEmbeddings()
JinaClipEmbeddings(model="jina-clip-v2")
JinaClipEmbeddings(api_key="jina_...")
JinaClipEmbeddings(api_key=SecretStr("jina_..."))
JinaClipEmbeddings(
    api_key=None, backend="local", device="cuda", dtype="float16", revision="main", engine="torch", threads=2
)
JinaClipEmbeddings(
    model="jina-clip-v1",
    backend="api",
    dimensions=512,
    normalized=True,
    truncate=False,
    batch_size=64,
    max_concurrency=8,
    max_retries=4,
    timeout=60,
    deadline=2.5,
    base_url="https://api.jina.ai",
    headers={"X-Team": "shop"},
    transport=httpx.AsyncHTTPTransport,
    wire="jina",
    space="shop_2024",
    requests_per_minute=500,
    tokens_per_minute=1_000_000,
    token_budget=10_000,
    cache=Path("vectors.sqlite"),
    image_policy=ImagePolicy(allowed_roots=(Path("images"),)),
    image_resize="pad",
    image_quality=90,
    image_decode="fast",
    url_mode="forward",
    show_progress=True,
)


JinaClipEmbeddings(batch_size=None, max_concurrency=None, headers=None, transport=None, space=None)


def wrong() -> None:
    JinaClipEmbeddings(colour="red")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    JinaClipEmbeddings(backend="cloud")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    JinaClipEmbeddings(dimensions="64")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    JinaClipEmbeddings(_clip=JinaClip())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    JinaClipEmbeddings("jina-clip-v2")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


class Tagged(JinaClipEmbeddings):
    """A subclass with an option of its own."""

    tag: str = ""


Tagged(tag="shop", api_key="jina_...")

ours = JinaClipEmbeddings()
assert_type(ours.clip, JinaClip)
assert_type(ours.clip.space, str)
assert_type(ours.space, str | None)
assert_type(ours.model, str)
assert_type(ours.dimensions, int | None)
assert_type(ours.batch_size, int | None)
assert_type(ours.deadline, float | None)
assert_type(ours.model_copy(update={"dimensions": 64}), JinaClipEmbeddings)
assert_type(ours.clip.usage, Usage)
assert_type(ours.clip.embed(["a red dress", Path("dress.png")]).usage, Usage)

# texts

assert_type(ours.embed_query("a red dress"), list[float])
assert_type(ours.embed_documents(["a red dress"]), list[list[float]])
ours.embed_documents(("a", "b"))
ours.embed_documents(text for text in "ab")

# images

block = create_image_block(url="https://example.com/dress.png")
pixels = np.zeros((2, 2, 3), np.uint8)
assert_type(ours.embed_image("dress.png"), list[float])
assert_type(ours.embed_image(Path("dress.png")), list[float])
assert_type(ours.embed_image(b"..."), list[float])
assert_type(ours.embed_image(BytesIO()), list[float])
assert_type(ours.embed_image(Pillow.new("RGB", (2, 2))), list[float])
assert_type(ours.embed_image(Image.from_path("dress.png")), list[float])
ours.embed_image(pixels)  # mypy cannot tell whether the Any within an array is another image
ours.embed_image(block)  # nor that within a content block
assert_type(ours.embed_image({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}), list[float])
assert_type(ours.embed_image(uris=["dress.png"]), list[list[float]])
assert_type(ours.embed_image([Path("dress.png")]), list[list[float]])
assert_type(ours.embed_images(["dress.png", "coat.png"]), list[list[float]])
ours.embed_images([Path("dress.png"), b"...", block, pixels])
ours.embed_images(Path("images").glob("*.png"))
ours.embed_images({"dress": Pillow.new("RGB", (2, 2))}.values())

# pairs

assert_type(ours.embed_pairs([("a red dress", "dress.png")]), list[list[float]])
ours.embed_pairs([("a red dress", Path("dress.png")), ("a coat", b"...")], weight=0.3)
ours.embed_pairs([Pair("a red dress", Path("dress.png"), 0.8)])
ours.embed_pairs(zip(["a red dress"], ["dress.png"], strict=True))
ours.embed_pairs([("a red dress", block)])
ours.embed_pairs([Pdf("a.pdf").page(1)])


async def asynchronous() -> None:
    """The async twins."""
    assert_type(await ours.aembed_query("a red dress"), list[float])
    assert_type(await ours.aembed_documents(["a red dress"]), list[list[float]])
    assert_type(await ours.aembed_image(Path("dress.png")), list[float])
    assert_type(await ours.aembed_image(["dress.png"]), list[list[float]])
    assert_type(await ours.aembed_images([Path("dress.png"), block]), list[list[float]])
    assert_type(await ours.aembed_pairs([("a red dress", b"...")], weight=0.3), list[list[float]])
    assert_type(await retriever.ainvoke({"text": "in blue", "image": Path("dress.png")}, k=3), list[Document])
    assert_type(await diversifier.acompress_documents([], "a red dress"), list[Document])
    assert_type((await aadd_documents(store, [Document("a")])).ids, list[str])
    async with ours as entered, retriever, diversifier, retriever.as_tool():
        assert_type(entered, JinaClipEmbeddings)
    await retriever.aclose()
    await asyncio.gather(ours.aembed_query("a"), ours.aembed_query("b"))


def rows_of_a_failed_call() -> Iterator[int]:
    """What a failed call has embedded all the same."""
    try:
        ours.embed_images(["dress.png", "coat.png"])
    except InputError as error:
        assert_type(error.index, int | None)
        results: Results = error.partial
        yield from results.errors


# searches

store = InMemoryVectorStore(ours)
retriever = JinaClipRetriever(vectorstore=store)
JinaClipRetriever(vectorstore=store, embeddings=ours, k=10, weight=0.3, image_key="url", search_kwargs={"filter": {}})
assert_type(retriever.invoke("a red dress"), list[Document])
retriever.invoke({"image": Path("dress.png")})
retriever.invoke({"text": "in blue", "image": b"..."}, k=10, weight=0.3, filter={"category": "dress"})
retriever.invoke(Path("dress.png"))
retriever.invoke(Pillow.new("RGB", (2, 2)))
retriever.invoke(block)
retriever.invoke([create_text_block("in blue"), block])
retriever.invoke(HumanMessage("a red dress"))
assert_type(retriever.batch(["a red dress", "a coat"]), list[list[Document]])

retriever.invoke([HumanMessage("a red dress")])
retriever.invoke(PromptTemplate.from_template("a {colour} dress").invoke({"colour": "red"}))
JinaClipRetriever(vectorstore=store, search_type="mmr", search_kwargs={"fetch_k": 50, "lambda_mult": 0.3})
JinaClipRetriever(vectorstore=store, search_type="similarity_score_threshold", score_key="score")
with retriever as entered_retriever:
    assert_type(entered_retriever, JinaClipRetriever)

diversifier = JinaClipDiversifier(embeddings=ours)
JinaClipDiversifier(embeddings=ours, vectorstore=store)
JinaClipDiversifier(
    embeddings=ours, top_n=5, clusters=3, method="mmr", lambda_mult=0.3, seed=1, image_key="url", vector_key="vector"
)
assert_type(diversifier.compress_documents(retriever.invoke("a red dress"), "a red dress"), list[Document])

ids, failed = add_documents(store, [Document("a red dress", metadata={"image": "dress.png"})], on_error="skip")
assert_type(ids, list[str])
assert_type(failed, list[ItemFailure])
add_documents(store, (Document(text) for text in "ab"), weight=0.5, image_key="photo", ids=["1", "2"])

assert_type(retriever.as_tool(), JinaClipTool)
tool: BaseTool = retriever.as_tool(name="find_clothes", description="Finds clothes.", show_images=False)
JinaClipTool(retriever=retriever)
