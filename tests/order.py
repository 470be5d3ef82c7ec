"""Quick before slow: the order of the folders, so that what is broken shows early.

`tests/conftest.py` makes this a plugin. Within a folder the order is pytest's.
"""

from __future__ import annotations

from pathlib import Path

import pytest

TESTS = Path(__file__).parent
QUICK_TO_SLOW = [
    "wires",
    "telemetry",
    "images",
    "core",
    "sources",
    "llamaindex",
    "langchain",
    "haystack",
    "contract",
    "api",
    "compare",
    "cache",
    "evaluation",
    "server",
    "bulk",
    "local",
    "stores",
    "catalogue",
    "examples",
    "packaging",
]
"""Folders by the time of a test in them. The files that lie beside them go first, and what is not listed last."""


def place(path: Path) -> int:
    """Where the tests of this file stand in the order."""
    if path.parent == TESTS:
        return -1
    folder = path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else ""
    return QUICK_TO_SLOW.index(folder) if folder in QUICK_TO_SLOW else len(QUICK_TO_SLOW)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: place(item.path))
