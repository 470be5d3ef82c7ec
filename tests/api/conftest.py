"""Fixtures of the tests of the API backend."""

import signal

import pytest

from tests.api.world import World


@pytest.fixture(autouse=True)
def ended_worlds():
    """Closes the loops of the worlds that a test has made."""
    yield
    while World.made:
        World.made.pop().close()


@pytest.fixture(autouse=True)
def interruptible():
    """Lets Ctrl-C arrive as KeyboardInterrupt, also where a shell runs the tests in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
