"""The backends that have to keep the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from jinaclip import JinaClip
from tests.tiny import make_checkpoint

Make = Callable[..., JinaClip]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny checkpoints of both models."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {version: make_checkpoint(folder / version, version) for version in ("v1", "v2")}


@pytest.fixture(params=["api-v1", "api-v2", "local-v1", "local-v2"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a JinaClip over one of the backends; takes options."""
    backend, _, version = request.param.partition("-")
    if backend == "local":
        folder = request.getfixturevalue("checkpoints")[version]
        return partial(JinaClip, str(folder), backend="local", device="cpu")
    server = request.getfixturevalue("server")
    return partial(JinaClip, f"jina-clip-{version}", api_key="jina_test_contract", base_url=server.url)


@pytest.fixture
def clip(make: Make) -> Iterator[JinaClip]:
    with make() as made:
        yield made
