"""Tests of what is not installed everywhere are skipped; `pytest -rs` lists them with the reason."""

from importlib.util import find_spec

import pytest


def is_installed(module: str) -> bool:
    """Imports nothing."""
    return find_spec(module) is not None


def skip_without(module: str) -> None:
    """Skips the test that calls this, itself or by a fixture, where `module` is not installed."""
    if not is_installed(module):
        pytest.skip(f"needs {module}, which is not installed")
