"""No call holds the event loop: what its thread computes between two turns, on 40 pictures of 2 MB in any form."""

from __future__ import annotations

import asyncio
import base64
import time

import numpy as np
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.schema import ImageNode, MediaResource, Node, NodeWithScore, QueryBundle, TextNode
from PIL import Image as Pillow

from llamaindex_jinaclip import JinaClipDiversifier, JinaClipRetriever, label_images
from tests.needs import long

COUNT, SEARCHED, MOST = 40, 8, 0.05
"""Pictures of a call, searches at once, and the most seconds of CPU that may pass between two turns of the loop."""


class Turns:
    """Counts the CPU that the loop's thread takes from one turn to the next."""

    def __init__(self):
        self.longest = 0.0

    async def watch(self, waiting):
        """The outcome of a coroutine; the longest time between two turns meanwhile is in `longest`."""
        task = asyncio.ensure_future(waiting)
        last = time.thread_time()
        while not task.done():
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest, last = max(self.longest, now - last), now
        return await task


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A picture of noise of 2 MB."""
    path = tmp_path_factory.mktemp("large") / "large.png"
    Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (840, 840, 3), np.uint8)).save(path, compress_level=0)
    assert path.stat().st_size > 2_000_000
    return path


FORMS = {
    "paths": lambda path: str(path),
    "bytes": lambda path: path.read_bytes(),
    "blocks": lambda path: ImageBlock(image=path.read_bytes()),
    "resources": lambda path: MediaResource(data=path.read_bytes()),
}
NODES = {
    "paths": lambda path: ImageNode(image_path=str(path)),
    "base64": lambda path: ImageNode(image=base64.b64encode(path.read_bytes()).decode()),
    "resources": lambda path: Node(image_resource=MediaResource(data=path.read_bytes())),
    "data: URIs": lambda path: ImageNode(
        image_url=f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    ),
}


@pytest.fixture
def made(embed, large, monkeypatch, tmp_path):
    """An embedding that finds the one picture in its cache, so that only reading and preparing it is measured."""
    monkeypatch.chdir(large.parent)
    one = embed(cache=tmp_path / "cache.sqlite")
    one.get_image_embedding(large)
    return one


@pytest.mark.slow
@pytest.mark.parametrize("form", [long("paths"), "bytes", "blocks", long("resources")])
async def test_images(made, large, form):
    images = [FORMS[form](large) for _ in range(COUNT)]
    turns = Turns()
    assert len(await turns.watch(made.aget_image_embedding_batch(images))) == COUNT
    assert turns.longest < MOST


@pytest.mark.slow
@pytest.mark.parametrize("form", ["paths", "base64", long("resources"), long("data: URIs")])
async def test_nodes(made, large, form):
    nodes = label_images([NODES[form](large) for _ in range(COUNT)])
    turns = Turns()
    assert len(await turns.watch(made.acall(nodes))) == COUNT
    assert turns.longest < MOST


@pytest.mark.slow
@pytest.mark.parametrize("form", [long("paths"), "base64", long("resources"), long("data: URIs")])
async def test_results_of_a_search(made, large, form):
    """Which the postprocessor embeds again."""
    nodes = label_images([NODES[form](large) for _ in range(COUNT)])
    results = [NodeWithScore(node=node, score=0.5) for node in nodes]
    turns = Turns()
    assert len(await turns.watch(JinaClipDiversifier(embed_model=made).apostprocess_nodes(results))) == COUNT
    assert turns.longest < MOST


SEARCHES = {
    "bundles": lambda path: QueryBundle("", image_path=str(path)),
    "bundles with data: URIs": lambda path: QueryBundle(
        "", image_path=f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    ),
    "blocks": FORMS["blocks"],
    "base64": NODES["base64"],
}


@pytest.mark.parametrize("form", ["bundles", long("bundles with data: URIs"), "blocks", "base64"])
async def test_searches(made, large, form):
    """Several at once, of a picture each."""
    retriever = JinaClipRetriever(VectorStoreIndex([TextNode(text="red")], embed_model=made), made)
    queries = [SEARCHES[form](large) for _ in range(SEARCHED)]
    turns = Turns()

    async def search():
        return await asyncio.gather(*map(retriever.aretrieve, queries))

    assert len(await turns.watch(search())) == SEARCHED
    assert turns.longest < MOST
