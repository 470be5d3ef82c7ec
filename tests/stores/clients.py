"""Clients of stores, or the reason why a test is skipped."""

from __future__ import annotations

from types import ModuleType

import pytest


def client(module: str) -> ModuleType:
    """The module; skips, and says where to get it, if it is not installed."""
    return pytest.importorskip(module, reason=f"needs {module}, which is not installed")
