"""One fault server for all tests, reset for each, and JinaClips that speak to it; the catalogue and its model."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # before any test imports Haystack: tests tell nobody
os.environ.pop("JINACLIP_CACHE", None)  # a developer's own vectors would answer for the service

from jinaclip.testing import Server
from tests.needs import is_installed, skip_without

pytest_plugins = ["jinaclip.testing.fixtures", "tests.garbage", "tests.order", "tests.skips", "tests.wires.fixtures"]
NEED_TORCH = {"catalogue", "local"}
"""Folders whose modules import torch. Elsewhere it is the fixtures that need it, below and in tests/tiny.py."""


class WithoutTorch(pytest.File):
    """A test module that is skipped unread, by name: of equal reasons, pytest-xdist reports one."""

    def collect(self):
        pytest.skip(f"all of {self.nodeid}: needs torch, which is not installed", allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    if module_path.relative_to(Path(__file__).parent).parts[0] in NEED_TORCH and not is_installed("torch"):
        return WithoutTorch.from_parent(parent, path=module_path)
    return None


@pytest.fixture(autouse=True)
def interruptible():
    """Lets Ctrl-C arrive as KeyboardInterrupt, also where a shell runs the tests in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def catalogue_checkpoint():
    """The folder of the small model that was trained on the catalogue; tests that use it need torch."""
    skip_without("torch")
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
def served(catalogue_checkpoint, tmp_path_factory):
    """`jinaclip serve` in a process of its own, with the catalogue's model under the name of jina-clip-v2."""
    skip_without("starlette")
    from tests.server.processes import serving

    log = tmp_path_factory.mktemp("served") / "log"
    options = ("--model", catalogue_checkpoint, "--device", "cpu", "--served-name", "jina-clip-v2")
    with serving(log, *options) as running:
        yield running


@pytest.fixture(scope="session")
def service(jinaclip_service):
    """The fault server of the whole run."""
    return jinaclip_service


@pytest.fixture
def server(jinaclip_server):
    """The fault server, reset."""
    return jinaclip_server


@pytest.fixture
def clip(jinaclip_client):
    """Makes JinaClips with a key of this test's own, so that no test meets what another's account learnt."""
    return jinaclip_client


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
    monkeypatch.setattr("jinaclip.backends.api.limits.FIRST_PAUSE", 0.001)
