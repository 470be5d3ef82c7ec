"""LlamaIndex over the test server, and over the catalogue's model on both backends."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from llama_index.core.instrumentation import root_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.rate_limiter import BaseRateLimiter
from PIL import Image as Pillow
from pydantic import Field

from jinaclip import ImagePolicy
from llamaindex_jinaclip import JinaClipEmbedding

KEYS = (f"jina_test_llamaindex_{number}" for number in itertools.count())


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
