"""The backends that have to keep the contract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from jinaclip import JinaClip

Make = Callable[..., JinaClip]


@pytest.fixture(params=["api-v1", "api-v2"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes a JinaClip over one of the backends; takes options."""
    backend, _, version = request.param.partition("-")
    server = request.getfixturevalue("server")
    return partial(JinaClip, f"jina-clip-{version}", backend=backend, api_key="jina_test_contract", base_url=server.url)


@pytest.fixture
def clip(make: Make) -> Iterator[JinaClip]:
    with make() as made:
        yield made
