"""Fixtures of the tests of the API backend."""

import pytest

from tests.api.world import World


@pytest.fixture(autouse=True)
def ended_worlds():
    """Closes the loops of the worlds that a test has made."""
    yield
    while World.made:
        World.made.pop().close()
