"""Whether a cache file is in order, for the tests."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def check_sound(path: Path) -> int:
    """That SQLite finds nothing wrong; gives the number of entries."""
    file = sqlite3.connect(path)
    try:
        assert file.execute("pragma integrity_check").fetchall() == [("ok",)]
        return int(file.execute("select count(*) from entries").fetchone()[0])
    finally:
        file.close()
