"""Python's collector of garbage rests while tests are collected, and then passes over all that there is.

Ten thousand tests and the libraries that they import are more than a million objects, none of them garbage. Looking
through them took half of the time to collect the tests, and a third of a second of each test that collects garbage.
`tests/conftest.py` makes this a plugin.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress

import pytest

with suppress(ImportError):
    import hypothesis  # noqa: F401 - it asks who holds a source of chance, and is not told of holders that are passed over


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
