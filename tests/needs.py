"""What a test needs: a library that is not installed everywhere (`pytest -rs` lists the skipped), or a long time."""

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
    """A case of `parametrize`, or of a fixture, that makes its test long: `make test-all` runs it."""
    return pytest.param(*values, marks=pytest.mark.long)
