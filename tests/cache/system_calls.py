"""The system calls by which SQLite writes, replaced: its interface for tests, `xSetSystemCall`. sqlite.org/c3ref/vfs"""

from __future__ import annotations

import ctypes
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

Write = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)
SetCall = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_alive: list[object] = []


class Vfs(ctypes.Structure):
    """The first fields of sqlite3_vfs, up to the one that is needed."""

    _fields_ = (
        *((name, ctypes.c_int) for name in ("iVersion", "szOsFile", "mxPathname")),
        *((name, ctypes.c_void_p) for name in ("pNext", "zName", "pAppData")),
        *((f"method{number}", ctypes.c_void_p) for number in range(13)),
        ("xSetSystemCall", SetCall),
    )


def library() -> ctypes.CDLL:
    """SQLite, as Python's own module has loaded it."""
    names = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "sqlite3" in line}
    for name in sorted(names):
        found = ctypes.CDLL(name)
        if hasattr(found, "sqlite3_vfs_find") and found.sqlite3_libversion_number() == version_number():
            return found
    raise LookupError("SQLite is part of Python here, and cannot be reached")


def version_number() -> int:
    first, second, third = sqlite3.sqlite_version_info
    return first * 1_000_000 + second * 1000 + third


def replace_calls(function: Callable[[str, int, int, int, int], int]) -> None:
    """Has a function called with name, file number, address, size and offset, for each piece that SQLite writes."""
    found = library()
    found.sqlite3_vfs_find.restype = ctypes.POINTER(Vfs)
    vfs = found.sqlite3_vfs_find(None)
    for name in ("pwrite", "pwrite64"):
        call = Write(lambda *arguments, name=name: function(name, *arguments))
        _alive.append(call)
        pointer = ctypes.cast(call, ctypes.c_void_p)
        code = vfs.contents.xSetSystemCall(ctypes.cast(vfs, ctypes.c_void_p), name.encode(), pointer)
        assert code in (0, 12), code  # 12: there is no such call here


if __name__ == "__main__":
    sqlite3.connect(":memory:").close()
    library()
    sys.exit(0)
