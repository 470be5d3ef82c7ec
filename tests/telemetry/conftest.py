"""Hooks that are taken back after each test."""

import pytest

from jinaclip import telemetry


@pytest.fixture(autouse=True)
def default_hooks():
    yield
    telemetry.set_hooks(None)


@pytest.fixture
def events():
    """All events from now on."""
    seen = []
    telemetry.set_hooks(seen.append)
    return seen
