"""Every public call of haystack-jinaclip, as type checkers see it. It is never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import httpx
from haystack import Document, Pipeline
from haystack.components.embedders.types import DocumentEmbedder, TextEmbedder
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.components.retrievers.types import TextRetriever
from haystack.dataclasses import ByteStream, ImageContent
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import ComponentDevice, Secret

from haystack_integrations.components.embedders import jinaclip as embedders
from haystack_integrations.components.rankers import jinaclip as rankers
from haystack_integrations.components.retrievers import jinaclip as retrievers
from haystack_integrations.components.routers import jinaclip as routers
from haystack_jinaclip import (
    JinaClipDiversityRanker,
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
    JinaClipImageEmbedder,
    JinaClipQueryEmbedder,
    JinaClipRetriever,
    JinaClipTextEmbedder,
    JinaClipZeroShotRouter,
)
from jinaclip import JinaClip

key = Secret.from_env_var("KEY")
policy = {"max_pixels": 1000, "allowed_roots": ["/data"]}

# -- making

text = JinaClipTextEmbedder(
    key,
    "jina-clip-v2",
    backend="api",
    dimensions=512,
    normalized=True,
    truncate=True,
    max_concurrency=4,
    max_retries=1,
    timeout=10,
    deadline=20.0,
    base_url="https://api.jina.ai",
    headers={"X-Team": "shop", "X-Shop": key},
    transport=httpx.AsyncHTTPTransport,
    wire="jina",
    requests_per_minute=100,
    tokens_per_minute=None,
    token_budget=10_000,
    cache="vectors.sqlite",
    prefix="a ",
    suffix=" please",
)
image = JinaClipImageEmbedder(
    backend="local",
    device=ComponentDevice.from_str("cuda:0"),
    dtype="bfloat16",
    revision="main",
    engine="torch",
    threads=2,
    image_policy=policy,
    image_resize="pad",
    image_quality=90,
    image_decode="fast",
    url_mode="fetch",
)
texts = JinaClipDocumentEmbedder(
    device="cpu",
    meta_fields_to_embed=["name"],
    embedding_separator=" ",
    batch_size=16,
    progress_bar=False,
    raise_on_failure=False,
)
images = JinaClipDocumentImageEmbedder(root_path="images", file_path_meta_field="path", image_policy=policy)
learnt = JinaClipDocumentEmbedder(batch_size=None, max_concurrency=None, headers={"X-Team": "shop"}, transport=None)
secret = JinaClipDocumentEmbedder(headers={"X-Team": key})
products = JinaClipFusedDocumentEmbedder(weight=0.3, prefix="a ", root_path=None)
store = InMemoryDocumentStore()
ranker = JinaClipDiversityRanker(top_k=3, clusters=2, method="mmr", lambda_mult=0.3, seed=1, document_store=store)
both = JinaClipQueryEmbedder(weight=0.3, prefix="a ", url_mode="fetch")
search = JinaClipRetriever(retriever=InMemoryEmbeddingRetriever(store), embedder=both)
router = JinaClipZeroShotRouter(labels=["dress", "coat"], template="{}", temperature=0.1, raise_on_failure=False)

# -- what they are

as_text_embedders: list[TextEmbedder] = [text, both]
as_text_retriever: TextRetriever = search
as_document_embedders: list[DocumentEmbedder] = [texts, images, products]
same_class: type[JinaClipTextEmbedder] = embedders.JinaClipTextEmbedder
same_ranker: type[JinaClipDiversityRanker] = rankers.JinaClipDiversityRanker
timeout: float = text.options.timeout
root: str | None = images.options.root_path
method: Literal["kmeans", "mmr"] = ranker.options.method
weight: float = search.embedder.options.weight
labels: list[str] = router.options.labels
same_retriever: type[JinaClipRetriever] = retrievers.JinaClipRetriever
same_router: type[JinaClipZeroShotRouter] = routers.JinaClipZeroShotRouter

# -- saving, life

saved: dict[str, Any] = products.to_dict()
loaded: JinaClipFusedDocumentEmbedder = JinaClipFusedDocumentEmbedder.from_dict(saved)
text.warm_up()
clip: JinaClip = text.handle.get()
text.close()
ranker.close()
pipe = Pipeline()
pipe.add_component("image", image)

# -- running

documents = [Document(content="a")]
query: dict[str, Any] = text.run("a red dress")
for given in ("https://example.org/a.png", Path("a.png"), ByteStream(b""), ImageContent("")):
    query = image.run(given)
    query = both.run("a red dress", given, 0.3)
query = image.run([ImageContent(""), None])
found: list[Document] = search.run("a red dress", image=Path("a.png"), top_k=3)["documents"]
routes: dict[str, Any] = router.run(documents)
for embedder in as_document_embedders:
    result: dict[str, Any] = embedder.run(documents)
ranked: list[Document] = ranker.run(documents, top_k=1)["documents"]


async def run_async() -> None:
    """The same without blocking the event loop."""
    await images.warm_up_async()
    warm: JinaClip = await images.handle.get_async()
    await text.close_async()
    async with both as same, search:
        embedder: JinaClipQueryEmbedder = same
    results: list[dict[str, Any]] = [
        await text.run_async("a red dress"),
        await image.run_async(Path("a.png")),
        await embedder.run_async(None, Path("a.png")),
        await search.run_async("a red dress"),
        await router.run_async(documents),
        await texts.run_async(documents),
        await images.run_async(documents),
        await products.run_async(documents),
        await ranker.run_async(documents, top_k=1),
    ]
    print(warm, results)


# -- what is wrong is seen: an ignore that is not needed is an error

JinaClipTextEmbedder("a key")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
JinaClipTextEmbedder(key, "jina-clip-v2", "api")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
JinaClipTextEmbedder(prefix=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
text.options.timeout = 1.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
JinaClipTextEmbedder(weight=0.5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
JinaClipTextEmbedder(backend="cloud")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
JinaClipImageEmbedder(image_resize="crop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
JinaClipDocumentImageEmbedder(root_path=Path("images"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
JinaClipDiversityRanker(method="random")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
text.run(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
both.run("a", weight="half")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
JinaClipRetriever(retriever=text, embedder=both)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
JinaClipZeroShotRouter()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
image.run(b"bytes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
texts.run(["a text"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
ranker.run(documents, top_k="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
