"""No run holds an event loop, whatever it is given; in CPU of the loop's thread, as a busy machine does not count."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
import pytest
from haystack import Document
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.dataclasses import ByteStream, ImageContent
from haystack.document_stores.in_memory import InMemoryDocumentStore
from PIL import Image

from haystack_jinaclip import (
    JinaClipDiversityRanker,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
    JinaClipQueryEmbedder,
    JinaClipRetriever,
    JinaClipZeroShotRouter,
)
from tests.haystack.conftest import longest_turn, new

COUNT = 40
HELD = 0.05
"""Seconds of CPU for which a run may hold the loop at a stretch."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Forty files of two megabytes, no two alike."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(COUNT):
        pixels = np.full((820, 820, 3), seed, np.uint8)
        pixels[::9] = 255 - seed
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
        (folder / f"{seed}.png").write_bytes(buffer.getvalue())
    return folder


def documents(photos, form) -> list[Document]:
    files = sorted(photos.iterdir())
    if form == "paths":
        return [Document(content=file.name, meta={"file_path": file.name}) for file in files]
    blobs = [ByteStream.from_file_path(file, mime_type="image/png") for file in files]
    return [Document(id=str(i), content=str(i), blob=blob) for i, blob in enumerate(blobs)]


LONG = pytest.mark.long
CASES = [
    (JinaClipDocumentImageEmbedder, "paths"),
    pytest.param(JinaClipDocumentImageEmbedder, "blobs", marks=LONG),
    pytest.param(JinaClipDiversityRanker, "paths", marks=LONG),
    pytest.param(JinaClipDiversityRanker, "blobs", marks=LONG),
    pytest.param(JinaClipFusedDocumentEmbedder, "paths", marks=LONG),
    pytest.param(JinaClipFusedDocumentEmbedder, "blobs", marks=LONG),
    pytest.param(JinaClipZeroShotRouter, "paths", marks=LONG),
    pytest.param(JinaClipZeroShotRouter, "blobs", marks=LONG),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "form"), CASES)
async def test_a_run_over_forty_pictures_leaves_the_loop_free(hosted, server, photos, kind, form) -> None:
    quiet = {**hosted, "root_path": str(photos), "progress_bar": False, "image_quality": 50}  # which is made fast
    given = documents(photos, form)
    if kind is JinaClipDiversityRanker:
        given = [Document(id=one.id, blob=one.blob, meta=one.meta) for one in given]
    async with new(kind, **quiet) as made:
        assert await longest_turn(made.run_async(given)) < HELD
    assert server.ledger()["images"] == COUNT


@pytest.mark.slow
@pytest.mark.parametrize("form", ["base64", pytest.param("paths", marks=LONG), pytest.param("bytes", marks=LONG)])
async def test_a_query_of_forty_pictures_leaves_the_loop_free(hosted, server, photos, form) -> None:
    """Of a retriever too, whose store answers in a thread."""
    files = sorted(photos.iterdir())
    forms = {
        "paths": lambda file: file,
        "bytes": ByteStream.from_file_path,
        "base64": lambda file: ImageContent(
            base64.b64encode(file.read_bytes()).decode(), "image/png", validation=False
        ),
    }
    images = [forms[form](file) for file in files]
    hits = InMemoryEmbeddingRetriever(InMemoryDocumentStore())
    async with JinaClipRetriever(retriever=hits, embedder=JinaClipQueryEmbedder(**hosted, image_quality=50)) as search:
        assert await longest_turn(search.run_async("a red dress", image=images)) < HELD
    assert server.ledger()["images"] == COUNT


def content(file) -> ImageContent:
    return ImageContent(base64.b64encode(file.read_bytes()).decode(), "image/png", validation=False)
