"""LlamaIndex over the test server, and over the catalogue's model on both backends."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.instrumentation import root_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.rate_limiter import BaseRateLimiter
from PIL import Image as Pillow
from pydantic import Field

from examples.catalogue.drawing import draw
from examples.catalogue.products import Attributes, Product, products
from examples.catalogue.scores import CHECKPOINT
from examples.catalogue.wording import title
from jinaclip import ImagePolicy
from llamaindex_jinaclip import JinaClipEmbedding
from tests.server.process import Server

KEYS = (f"jina_test_llamaindex_{number}" for number in itertools.count())
COUNT = 60


@pytest.fixture
def embed(server):
    """Makes embeddings that speak to the test server, with a key of this test's own."""
    key, made = next(KEYS), []

    def make(**options):
        made.append(JinaClipEmbedding(**{"api_key": key, "base_url": server.url, **options}))
        return made[-1]

    yield make
    for one in made:
        one.clip.close()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Eight pictures of noise in the working directory; their names."""
    monkeypatch.chdir(tmp_path)
    names = [f"p{i}.png" for i in range(8)]
    for i, name in enumerate(names):
        Pillow.fromarray(np.random.default_rng(i).integers(0, 256, (24, 32, 3), np.uint8)).save(name)
    return names


class Recorder(BaseEventHandler):
    """Keeps the events it is told of."""

    events: list = Field(default_factory=list)

    def handle(self, event, **kwargs):
        self.events.append(event)

    def named(self, name):
        return [event for event in self.events if event.class_name() == name]


@pytest.fixture
def recorder():
    handler = Recorder()
    root_dispatcher.add_event_handler(handler)
    yield handler
    root_dispatcher.event_handlers.remove(handler)


class Turnstile(BaseRateLimiter):
    """A rate limiter that lets everybody in, and counts."""

    def __init__(self):
        self.sync = self.asynchronous = 0

    def acquire(self, num_tokens=0):
        self.sync += 1

    async def async_acquire(self, num_tokens=0):
        self.asynchronous += 1


@pytest.fixture
def turnstile():
    return Turnstile()


@dataclass(frozen=True)
class Article:
    """A product of the catalogue, its picture on disk."""

    id: str
    attributes: Attributes
    title: str
    picture: Path


@pytest.fixture(scope="session")
def catalogue_checkpoint():
    return str(CHECKPOINT)


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory):
    """Products that the model has not seen; the one at place 7 is a red dress."""
    folder = tmp_path_factory.mktemp("catalogue")
    chosen = products("test", COUNT)
    chosen[7] = Product("red-dress", Attributes("dress", "red", "plain", "", "midi", "short", "round"), 5)
    for product in chosen:
        draw(product).save(folder / f"{product.id}.png")
    return [Article(p.id, p.attributes, title(p, "en"), folder / f"{p.id}.png") for p in chosen]


@pytest.fixture(scope="session")
def modelled(catalogue_checkpoint):
    """A server that answers with the catalogue's model."""
    with Server(model=catalogue_checkpoint) as running:
        yield running


@pytest.fixture(params=["api", "local"])
def shop(request, catalogue, catalogue_checkpoint):
    """An embedding with the catalogue's model, over either backend, that may read the catalogue's folder."""
    options = {"model_name": catalogue_checkpoint, "backend": "local", "device": "cpu"}
    if request.param == "api":
        url = request.getfixturevalue("modelled").url
        options = {"api_key": next(KEYS), "base_url": url, "dimensions": 128, "image_resize": "none"}
    made = JinaClipEmbedding(**options, image_policy=ImagePolicy(allowed_roots=catalogue[0].picture.parent))
    yield made
    made.clip.close()
