"""A tiny checkpoint of each model for every test, and one that may be broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from jinaclip import JinaClip
from tests.tiny import make_checkpoint


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {version: make_checkpoint(folder / version, version) for version in ("v1", "v2")}


@pytest.fixture(params=["v1", "v2"])
def folder(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> Path:
    return checkpoints[request.param]


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """A checkpoint of this test's own, to be changed."""
    return make_checkpoint(tmp_path / "own", "v2")


@pytest.fixture
def local(folder: Path):
    """Makes local JinaClips on the CPU; takes options."""
    made = []

    def make(**options: object) -> JinaClip:
        made.append(JinaClip(str(folder), backend="local", **{"device": "cpu", **options}))
        return made[-1]

    yield make
    for clip in made:
        clip.close()
