"""Embedders over both backends, pictures, a PDF file, and the catalogue's products."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import signal
import time
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.joiners import DocumentJoiner
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret
from PIL import Image

from haystack_jinaclip import (
    JinaClipDiversityRanker,
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
    JinaClipImageEmbedder,
    JinaClipQueryEmbedder,
    JinaClipTextEmbedder,
    JinaClipZeroShotRouter,
)
from tests.tiny import make_checkpoint

DOCUMENTS = (JinaClipDocumentEmbedder, JinaClipDocumentImageEmbedder, JinaClipFusedDocumentEmbedder)
QUERIES = (JinaClipTextEmbedder, JinaClipImageEmbedder, JinaClipQueryEmbedder)
EMBEDDERS = (*QUERIES, *DOCUMENTS)
ALL = (*EMBEDDERS, JinaClipDiversityRanker, JinaClipZeroShotRouter)
REQUIRED = {JinaClipZeroShotRouter: {"labels": ["dress", "coat"]}}
"""Options that a component cannot do without."""
KEYS = (f"jina_test_haystack_{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A checkpoint of v2 with random weights and 64 dimensions."""
    return make_checkpoint(tmp_path_factory.mktemp("tiny") / "v2", "v2")


@pytest.fixture
def hosted(server):
    """Options for the API, with a key of this test's own."""
    return {"api_key": Secret.from_token(next(KEYS)), "base_url": server.url}


@pytest.fixture(params=["api", "local"])
def options(request):
    """Options of both backends."""
    if request.param == "api":
        return request.getfixturevalue("hosted")
    return {"model": str(request.getfixturevalue("tiny")), "backend": "local", "device": "cpu"}


@pytest.fixture
def make(options):
    """Makes embedders of one backend, and closes them."""
    made = []

    def make_one(kind, **more):
        quiet = {"progress_bar": False} if kind in DOCUMENTS else {}
        made.append(new(kind, **options, **quiet, **more))
        return made[-1]

    yield make_one
    for one in made:
        one.close()


@pytest.fixture(params=["run", "run_async"])
def run(request):
    """Calls `run` or `run_async` of an embedder, and closes it; the next call warms it up again."""

    async def call(embedder, *arguments):
        try:
            return embedder.run(*arguments) if request.param == "run" else await embedder.run_async(*arguments)
        finally:
            await embedder.close_async()

    return call


def new(kind, *arguments, **options):
    """A component with its defaults, but for these options."""
    return kind(*arguments, **{**REQUIRED.get(kind, {}), **options})


async def longest_turn(work) -> float:
    """Seconds of CPU for which the loop was held at a stretch while this ran. Collecting garbage is not its doing."""
    gc.collect()
    gc.disable()
    task = asyncio.ensure_future(work)
    longest, before = 0.0, time.thread_time()
    try:
        while not task.done():
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, before = max(longest, now - before), now
        await task
    finally:
        gc.enable()
    return longest


class TimeLimit(Exception):
    """Of a host, raised by the handler of a signal."""


@pytest.fixture
def time_limit():
    """Raises TimeLimit in the main thread after so many seconds."""

    def end(*_):
        raise TimeLimit

    before = signal.signal(signal.SIGALRM, end)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def options_of(kind):
    """The parameters of a component by name."""
    return {name: item for name, item in inspect.signature(kind.__init__).parameters.items() if name != "self"}


def alike(result, other):
    """Whether two results are the same: vectors but for the noise of how items were batched, the rest exactly."""

    def split(given):
        rows = [given, *given.get("documents", [])]
        vectors = [row.embedding if isinstance(row, Document) else row.get("embedding") for row in rows]
        rest = [replace(document, embedding=None) for document in given.get("documents", [])], given.get("meta")
        return [vector for vector in vectors if vector is not None], rest

    (vectors, rest), (others, another) = split(result), split(other)
    return rest == another and np.shape(vectors) == np.shape(others) and np.allclose(vectors, others, atol=2e-6)


def picture(seed, size=(90, 70)):
    """A noisy picture."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8))


def png(seed, size=(90, 70)):
    """The same as a file's bytes."""
    buffer = BytesIO()
    picture(seed, size).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Three pictures, a text file, and a PDF file with a red, a green and a blue page."""
    for seed in range(3):
        (tmp_path / f"{seed}.png").write_bytes(png(seed))
    (tmp_path / "notes.txt").write_text("no picture")
    pages = [Image.new("RGB", (60, 80), colour) for colour in ("red", "lime", "blue")]
    pages[0].save(tmp_path / "pages.pdf", save_all=True, append_images=pages[1:])
    return tmp_path


@pytest.fixture
def documents():
    """Documents that every embedder of documents can embed, given the folder."""
    return [Document(content=f"product {i}", meta={"file_path": f"{i}.png", "name": f"name {i}"}) for i in range(3)]


@pytest.fixture(scope="session", params=["api", "local"])
def trained(request, catalogue_checkpoint):
    """Options for the catalogue's model, at home and behind the server."""
    if request.param == "local":
        return {"model": catalogue_checkpoint, "backend": "local", "device": "cpu"}
    url = request.getfixturevalue("modelled").url
    return {"api_key": Secret.from_token(next(KEYS)), "base_url": url, "dimensions": 128}


COUNT = 32
"""Products in the stores."""


def articles(catalogue, kind) -> list[Document]:
    """The products as documents with a title, or with a picture, or with both."""
    meta = [{"kind": kind, "product": item.id, "file_path": item.picture.name} for item in catalogue]
    titles = [None if kind == "picture" else item.title for item in catalogue]
    return [Document(content=title, meta=each) for title, each in zip(titles, meta, strict=True)]


def brochure(catalogue) -> list[Document]:
    """Pages of a PDF file that shows every eighth product."""
    from PIL import Image

    shown = catalogue[7::8]
    pages = [Image.open(item.picture) for item in shown]
    path = catalogue[0].picture.parent / "brochure.pdf"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    return [
        Document(meta={"kind": "page", "product": item.id, "file_path": path.name, "page_number": number})
        for number, item in enumerate(shown, 1)
    ]


def indexing(options, catalogue, stores) -> Pipeline:
    """texts, pictures, products -> embedder of each -> joiner -> writer of each store."""
    quiet = {**options, "progress_bar": False}
    place = {"root_path": str(catalogue[0].picture.parent)}
    pipe = Pipeline()
    pipe.add_component("titles", JinaClipDocumentEmbedder(**quiet))
    pipe.add_component("pictures", JinaClipDocumentImageEmbedder(**quiet, **place))
    pipe.add_component("products", JinaClipFusedDocumentEmbedder(**quiet, **place, image_resize="none"))
    pipe.add_component("joiner", DocumentJoiner())
    for name in ("titles", "pictures", "products"):
        pipe.connect(f"{name}.documents", "joiner.documents")
    for name, store in stores.items():
        pipe.add_component(f"{name}_writer", DocumentWriter(store))
        pipe.connect("joiner.documents", f"{name}_writer.documents")
    return pipe


@pytest.fixture(scope="session")
def stocked(trained, catalogue):
    """Both stores, filled by one indexing pipeline over one backend with the first half of the catalogue."""
    catalogue = catalogue[:COUNT]
    qdrant = pytest.importorskip("haystack_integrations.document_stores.qdrant")
    stores = {
        "memory": InMemoryDocumentStore(embedding_similarity_function="cosine"),
        "qdrant": qdrant.QdrantDocumentStore(":memory:", embedding_dim=128, progress_bar=False),
    }
    pipe = indexing(trained, catalogue, stores)
    pictures = articles(catalogue, "picture") + brochure(catalogue)
    result = pipe.run(
        {
            "titles": {"documents": articles(catalogue, "title")},
            "pictures": {"documents": pictures},
            "products": {"documents": articles(catalogue, "product")},
        }
    )
    for name in ("titles", "pictures", "products"):  # closing the pipeline would close an in-memory Qdrant, for good
        pipe.get_component(name).close()
    count = 3 * len(catalogue) + len(catalogue[7::8])
    assert [result[f"{name}_writer"]["documents_written"] for name in stores] == [count, count]
    return stores
