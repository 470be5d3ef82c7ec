"""Embedders over both backends, pictures, a PDF file, and the catalogue's products."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before Haystack is imported: tests tell nobody

from haystack import Document
from haystack.utils import Secret

from haystack_jinaclip import (
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
    JinaClipImageEmbedder,
    JinaClipTextEmbedder,
)
from tests.server.process import Server
from tests.tiny import make_checkpoint

DOCUMENTS = (JinaClipDocumentEmbedder, JinaClipDocumentImageEmbedder, JinaClipFusedDocumentEmbedder)
ALL = (JinaClipTextEmbedder, JinaClipImageEmbedder, *DOCUMENTS)
KEYS = (f"jina_test_haystack_{number}" for number in itertools.count())
COUNT = 60


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
        made.append(kind(**options, **quiet, **more))
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


@dataclass(frozen=True)
class Item:
    """A product of the catalogue, its picture on disk and its title."""

    id: str
    garment: str
    colour: str
    picture: Path
    title: str


@pytest.fixture(scope="session")
def catalogue_checkpoint():
    """The folder of the catalogue's trained model."""
    scores = pytest.importorskip("examples.catalogue.scores", reason="the catalogue is not in this tree")
    return str(scores.CHECKPOINT)


@pytest.fixture(scope="session")
def catalogue(catalogue_checkpoint, tmp_path_factory):
    """Products that the model has never seen, one of them a red dress."""
    from examples.catalogue.drawing import draw
    from examples.catalogue.products import Attributes, Product, products
    from examples.catalogue.wording import title

    chosen = products("test", COUNT)
    chosen[7] = Product("red-dress", Attributes("dress", "red", "plain", "", "midi", "short", "round"), 5)
    place = tmp_path_factory.mktemp("catalogue")
    for product in chosen:
        draw(product, 512).save(place / f"{product.id}.png")
    return [
        Item(p.id, p.attributes.garment, p.attributes.colour, place / f"{p.id}.png", title(p, "en")) for p in chosen
    ]


@pytest.fixture(scope="session")
def modelled(catalogue_checkpoint):
    """A server that answers with the catalogue's model."""
    pytest.importorskip("tests.server.model", reason="the test server cannot answer with a model in this tree")
    with Server(model=catalogue_checkpoint) as running:
        yield running


@pytest.fixture(scope="module", params=["api", "local"])
def trained(request, catalogue_checkpoint):
    """Options for the catalogue's model, at home and behind the server."""
    if request.param == "local":
        return {"model": catalogue_checkpoint, "backend": "local", "device": "cpu"}
    url = request.getfixturevalue("modelled").url
    return {"api_key": Secret.from_token(next(KEYS)), "base_url": url, "dimensions": 128}
