"""One fault server for all tests, reset for each, and JinaClips that speak to it; the catalogue and its model."""

import itertools
import os

import pytest

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # before any test imports Haystack: tests tell nobody

from jinaclip import JinaClip
from jinaclip.testing.process import Server

KEYS = (f"jina_test_{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def catalogue_checkpoint():
    """The folder of the small model that was trained on the catalogue."""
    from examples.catalogue.scores import CHECKPOINT

    return str(CHECKPOINT)


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory):
    """Products that the model has never seen, the red dress at place 7 among them."""
    from tests.articles import draw_articles

    return draw_articles(tmp_path_factory.mktemp("catalogue"))


@pytest.fixture(scope="session")
def modelled(catalogue_checkpoint):
    """A server that answers with the catalogue's model, its 128 numbers filled up to the 1024 of jina-clip-v2."""
    with Server(model=catalogue_checkpoint) as running:
        yield running


@pytest.fixture(scope="session")
def service():
    with Server() as running:
        yield running


@pytest.fixture
def server(service):
    service.reset()
    return service


@pytest.fixture
def clip(server):
    """Makes JinaClips with a key of this test's own, so that no test meets what another's account learnt."""
    key, made = next(KEYS), []

    def make(model="jina-clip-v2", **options):
        made.append(JinaClip(model, **{"api_key": key, "base_url": server.url, **options}))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture(params=["sync", "async"])
def run(request):
    """Calls a method of a JinaClip by its sync name, as itself or as its async twin."""

    async def call(clip, method, *arguments, **options):
        if request.param == "sync":
            return getattr(clip, method)(*arguments, **options)
        return await getattr(clip, f"a{method}")(*arguments, **options)

    return call


@pytest.fixture
def hasty(monkeypatch):
    """Takes the waiting out of retries; what is waited for is tested with a clock of our own."""
    monkeypatch.setattr("jinaclip.backends.api.policy.backoff", lambda failures: 0.0)
    monkeypatch.setattr("jinaclip.backends.api.verdicts.CONCURRENCY_PAUSE", 0.001)
