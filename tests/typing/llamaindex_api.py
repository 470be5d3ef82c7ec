"""Every public call of llamaindex_jinaclip as its users write it. Read by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import assert_type

import httpx
import numpy as np
from llama_index.core import VectorStoreIndex
from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.rate_limiter import TokenBucketRateLimiter
from llama_index.core.schema import BaseNode, ImageNode, MediaResource, NodeWithScore, QueryBundle, TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.vector_stores import SimpleVectorStore
from PIL import Image as Pillow
from pydantic import SecretStr

from jinaclip import Image, ImagePolicy, InputError, JinaClip, JinaClipError, Results
from llamaindex_jinaclip import JinaClipDiversifier, JinaClipEmbedding, JinaClipRetriever, SkippedNode, label_images

# made with no option, with some, with all

embed = JinaClipEmbedding()
JinaClipEmbedding("jina-clip-v1")
JinaClipEmbedding("jina-clip-v2", dimensions=512)
host: MultiModalEmbedding = JinaClipEmbedding(model_name="jina-clip-v2", dimensions=512)
JinaClipEmbedding(api_key="jina_...")
JinaClipEmbedding(api_key=SecretStr("jina_..."))
JinaClipEmbedding(
    model_name="jina-clip-v1",
    backend="local",
    dimensions=None,
    normalized=True,
    truncate=False,
    embed_batch_size=64,
    max_concurrency=8,
    max_retries=4,
    timeout=60,
    deadline=None,
    api_key=None,
    base_url="https://api.jina.ai",
    headers={"X-Team": "shop"},
    transport=httpx.AsyncHTTPTransport,
    wire="jina",
    space="shop",
    requests_per_minute=None,
    tokens_per_minute=None,
    token_budget=1_000_000,
    cache=True,
    device="cuda",
    dtype="float16",
    revision="main",
    engine="torch",
    threads=2,
    image_policy=ImagePolicy(allowed_roots=("/data",)),
    image_resize="pad",
    image_quality=80,
    image_decode="fast",
    url_mode="forward",
    show_progress=True,
    fusion_weight=0.25,
    on_error="skip",
    num_workers=None,
    callback_manager=CallbackManager([TokenCountingHandler()]),
    rate_limiter=TokenBucketRateLimiter(requests_per_minute=60),
    embeddings_cache=SimpleKVStore(),
)
embed.fusion_weight = 0
embed.dimensions = 64
embed.api_key = "jina_..."
embed.deadline = 5
embed.headers = {"X-Team": "shop"}
embed.max_concurrency = None
assert_type(embed.clip, JinaClip)
assert_type(embed.embed_batch_size, int)
assert_type(embed.model_copy(update={"dimensions": 64}), JinaClipEmbedding)

# texts

Vector = list[float]


def read_lines() -> Iterator[str]:
    """Texts from a generator."""
    yield "a red dress"


assert_type(embed.get_query_embedding("a red dress"), Vector)
assert_type(embed.get_text_embedding("a red dress"), Vector)
assert_type(embed.get_text_embedding_batch(["a red dress"], show_progress=True), list[Vector])
embed.get_text_embedding_batch(("a red dress", "ein blauer Mantel"))
embed.get_text_embedding_batch(read_lines())

# images, in any form

embed.get_image_embedding("dress.jpg")
assert_type(embed.get_image_embedding(Path("dress.jpg")), Vector)
embed.get_image_embedding(b"...")
embed.get_image_embedding(BytesIO(b"..."))
embed.get_image_embedding(Pillow.new("RGB", (8, 8)))
embed.get_image_embedding(np.zeros((8, 8, 3), np.uint8))
embed.get_image_embedding(Image.from_url("https://example.org/dress.jpg"))
embed.get_image_embedding(ImageBlock(path=Path("dress.jpg")))
embed.get_image_embedding(MediaResource(path=Path("dress.jpg")))
embed.get_image_embedding(ImageNode(image_path="dress.jpg"))
names: list[str] = ["dress.jpg"]
paths: list[Path] = [Path("dress.jpg")]
assert_type(embed.get_image_embedding_batch(names), list[Vector])
embed.get_image_embedding_batch(paths, show_progress=True)
embed.get_image_embedding_batch(["dress.jpg", Path("coat.png"), b"..."])
embed.get_image_embedding_batch(Path("images").glob("*.jpg"))

# nodes

pictured = label_images([ImageNode(image_path="dress.jpg")])
assert_type(pictured, list[ImageNode])
label_images(TextNode(text=line) for line in read_lines())
assert_type(embed(pictured), Sequence[BaseNode])
embed([TextNode(text="red"), *pictured], show_progress=True)
IngestionPipeline(transformations=[embed]).run(nodes=pictured)
VectorStoreIndex(list(embed(pictured)), embed_model=embed)
skipped: list[SkippedNode] = []
embed(pictured, failed=skipped)
assert_type(skipped[0].node, BaseNode)
assert_type(skipped[0].reason, JinaClipError)

try:
    embed(pictured)
except InputError as error:
    if isinstance(error.partial, Results):
        assert_type(error.partial.errors[0].name, str)


async def call() -> None:
    """The same without blocking the event loop."""
    assert_type(await embed.aget_query_embedding("a red dress"), Vector)
    assert_type(await embed.aget_text_embedding("a red dress"), Vector)
    assert_type(await embed.aget_text_embedding_batch(read_lines()), list[Vector])
    assert_type(await embed.aget_image_embedding(Path("dress.jpg")), Vector)
    assert_type(await embed.aget_image_embedding_batch(paths), list[Vector])
    assert_type(await embed.acall(pictured), Sequence[BaseNode])


# searches

retriever = JinaClipRetriever(VectorStoreIndex([], embed_model=embed), embed, similarity_top_k=5, fusion_weight=0.3)
assert_type(retriever.retrieve("red"), list[NodeWithScore])
retriever.retrieve(QueryBundle("red", image_path="dress.jpg"))
retriever.retrieve(ImageBlock(path=Path("dress.jpg")))
with JinaClipRetriever(VectorStoreIndex([]).vector_store, embed) as opened:
    assert_type(opened, JinaClipRetriever)


async def search() -> None:
    """The same without blocking the event loop."""
    assert_type(await retriever.aretrieve(ImageNode(image_path="dress.jpg")), list[NodeWithScore])
    async with embed as one:
        assert_type(one, JinaClipEmbedding)


# results

diverse = JinaClipDiversifier(embed_model=embed)
JinaClipDiversifier(embed_model=embed, top_n=5, clusters=4, method="mmr", lambda_mult=0.3, seed=1)
JinaClipDiversifier(embed_model=embed, vector_store=SimpleVectorStore())
found: list[NodeWithScore] = []
assert_type(diverse.postprocess_nodes(found, QueryBundle("red")), list[NodeWithScore])
diverse.postprocess_nodes(found, query_str="red")
VectorStoreIndex([], embed_model=embed).as_query_engine(node_postprocessors=[diverse])
