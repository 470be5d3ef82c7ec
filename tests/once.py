"""What takes long to make is made once for all processes of a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A file that the first who asks for it makes; the others wait for that. Tests only read it.

    Args:
        tmp_path_factory: pytest's; each process of pytest-xdist has a folder of its own in one of the run.
        name: of the file, one in the whole run.
        make: writes the file to the path that it is given.
    """
    from filelock import FileLock

    root = tmp_path_factory.getbasetemp()
    file = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / name
    with FileLock(f"{file}.lock"):
        if not file.exists():
            unfinished = file.with_name(f"unfinished-{name}")
            make(unfinished)
            unfinished.rename(file)
    return file
