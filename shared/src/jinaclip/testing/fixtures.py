"""Fixtures for pytest: `pytest_plugins = ["jinaclip.testing.fixtures"]` in your top-level conftest.py.

jinaclip_service   one service for the whole run, a `jinaclip.testing.Server`
jinaclip_server    the same, reset for each test
jinaclip_api_key   a key that no other test uses
jinaclip_client    makes JinaClips that speak to jinaclip_server with this key
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Protocol

from jinaclip.clip import JinaClip
from jinaclip.requirements import missing_dependency
from jinaclip.testing.process import Server
from jinaclip.testing.settings import Settings

try:
    import pytest
except ModuleNotFoundError as missing:
    raise missing_dependency("jinaclip.testing.fixtures", missing.name, "testing") from None

_numbers = itertools.count(1)


class MakeClient(Protocol):
    """Makes a JinaClip; `options` are those of JinaClip, which the test's own key and address are the defaults of."""

    def __call__(self, model: str = "jina-clip-v2", **options: Any) -> JinaClip:
        """A new JinaClip, closed after the test."""


@pytest.fixture(scope="session")
def jinaclip_service() -> Iterator[Server]:
    """One service for the whole run; tests take `jinaclip_server`."""
    with Server() as server:
        yield server


@pytest.fixture
def jinaclip_server(jinaclip_service: Server) -> Server:
    """The service, honest and with an empty ledger."""
    jinaclip_service.reset()
    return jinaclip_service


@pytest.fixture
def jinaclip_api_key() -> str:
    """A key of this test's own: what a client learns about the limits of a key lasts as long as its process."""
    return f"{Settings().key}_{next(_numbers)}"


@pytest.fixture
def jinaclip_client(
    jinaclip_server: Server, jinaclip_api_key: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeClient]:
    """Makes JinaClips that speak to `jinaclip_server`. The cache of who runs the tests does not answer for it."""
    monkeypatch.delenv("JINACLIP_CACHE", raising=False)
    clips: list[JinaClip] = []

    def make(model: str = "jina-clip-v2", **options: Any) -> JinaClip:
        clip = JinaClip(model, **{"api_key": jinaclip_api_key, "base_url": jinaclip_server.url, **options})
        clips.append(clip)
        return clip

    yield make
    for clip in clips:
        clip.close()
