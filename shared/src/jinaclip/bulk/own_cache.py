"""The cache of one run, in its output: it holds what was answered and is in no part yet, and goes when all is done."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from jinaclip.bulk.parts import Shard, suffix_of

CACHE_BYTES = 2**30
"""At most."""


def cache_name(shard: Shard | None) -> str:
    """Of its file."""
    return f"_cache{suffix_of(shard)}.sqlite"


def remove_cache(path: Path) -> None:
    """Removes its files, which nobody has open any more; one that cannot be removed stays."""
    for end in ("", "-wal", "-shm"):
        with suppress(OSError):
            Path(f"{path}{end}").unlink(missing_ok=True)
