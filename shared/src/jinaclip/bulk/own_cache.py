"""The cache of one run, in its output: it holds what was answered and is in no part yet, and goes when all is done.

Each process appends to a log of its own, the actors of Ray too, which costs next to nothing, and reads those of the
others; so whichever run goes on after another finds what that had.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from jinaclip.bulk.lock import try_lock
from jinaclip.bulk.parts import Shard, suffix_of
from jinaclip.cache import Cache, LogStore

LOG_BYTES = 2**29
"""Most bytes of a log. The half that is always there holds 65,000 vectors of 1,024 numbers; 53,000 at most are in no
part yet: 48 blocks in flight, the part that fills, and the one that is being written."""
ENTRY_BYTES = 128
"""Of a vector in a log beside its numbers, about: its key, and of an image the digest by its file."""
EARLIER = (".sqlite", ".sqlite-wal", ".sqlite-shm", ".log", ".log.old")
"""How files end that earlier versions had instead of the folder."""


def cache_folder(folder: Path, shard: Shard | None) -> Path:
    """Where the logs are, in the folder of an output."""
    return folder / f"_cache{suffix_of(shard)}"


def open_cache(folder: Path) -> Cache:
    """The cache of this process, in a folder of logs; nothing is made before it is used."""
    return Cache(store=LogStore(folder, LOG_BYTES, try_lock))


def logged_bytes(dimensions: int) -> int:
    """What a log takes for a vector, about.

    Args:
        dimensions: the full width, which is kept.
    """
    return 4 * dimensions + ENTRY_BYTES


def remove_cache(folder: Path) -> None:
    """Removes a folder of logs, which nobody has open any more, and what earlier versions had.

    What cannot be removed stays.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for end in EARLIER:
        with suppress(OSError):
            folder.with_name(folder.name + end).unlink(missing_ok=True)
