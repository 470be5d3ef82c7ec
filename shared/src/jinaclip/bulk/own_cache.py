"""The cache of one run, in its output: it holds what was answered and is in no part yet, and goes when all is done.

A run in one process appends to a log, which costs next to nothing. Several processes, those of Ray, share a SQLite
file; whichever of the two goes on after the other finds what that had.
"""

from __future__ import annotations

from contextlib import closing, suppress
from itertools import islice
from pathlib import Path

from jinaclip.bulk.parts import Shard, suffix_of
from jinaclip.cache import Cache, LogStore, StoreError

CACHE_BYTES = 2**30
"""At most, of what several processes share."""
LOG_BYTES = 2**28
"""At most, of a log: the half that is always there holds 30,000 vectors, three times what is in flight and waits."""
LOG, OLDER = ".log", ".log.old"
AT_ONCE = 1000
"""Entries that are moved together."""


def cache_name(shard: Shard | None) -> str:
    """Of the file that several processes share."""
    return f"_cache{suffix_of(shard)}.sqlite"


def open_cache(folder: Path, shard: Shard | None) -> Cache:
    """The cache of a run in one process: a log, unless a run of several has left its file."""
    shared = folder / cache_name(shard)
    if shared.exists():
        return Cache(shared, max_bytes=CACHE_BYTES)
    return Cache(store=LogStore(shared.with_suffix(LOG), LOG_BYTES))


def share_cache(folder: Path, shard: Shard | None) -> None:
    """Gives a run of several processes what one in a single process has left."""
    shared = folder / cache_name(shard)
    log = shared.with_suffix(LOG)
    if log.exists() or shared.with_suffix(OLDER).exists():
        with closing(Cache(shared, max_bytes=CACHE_BYTES)) as cache, suppress(StoreError):
            entries = LogStore(log, LOG_BYTES).scan()
            while some := dict(islice(entries, AT_ONCE)):
                cache.add(some)


def remove_cache(path: Path) -> None:
    """Removes its files, which nobody has open any more; one that cannot be removed stays.

    Args:
        path: of the file that several processes share.
    """
    others = (path.with_suffix(LOG), path.with_suffix(OLDER))
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm"), *others):
        with suppress(OSError):
            file.unlink(missing_ok=True)
