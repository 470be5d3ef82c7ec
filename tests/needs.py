"""What a test needs: a library that is not installed everywhere, see `skips.py`, or much time, see `pyproject.toml`."""

from importlib.util import find_spec
from typing import Any

import pytest


def is_installed(module: str) -> bool:
    """Imports nothing."""
    return find_spec(module) is not None


def skip_without(module: str) -> None:
    """Skips the test that calls this, itself or by a fixture, where `module` is not installed."""
    if not is_installed(module):
        pytest.skip(f"needs {module}, which is not installed")


def long(*values: Any) -> Any:
    """A case of `parametrize`, or of a fixture, that makes its test long: `make test-long` runs it."""
    return pytest.param(*values, marks=pytest.mark.long)


def slow(*values: Any) -> Any:
    """A case that makes its test slow: `make test-all` runs it, and so does CI."""
    return pytest.param(*values, marks=pytest.mark.slow)
