"""Locks of files: one run at a time writes into a folder, or a shard of it, and one process into a log."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.parts import Shard, suffix_of
from jinaclip.errors import ConfigError


class Lock(Protocol):
    """What both functions give."""

    def release(self) -> None:
        """Lets others write."""


class NoLock:
    """Of a place that has none."""

    def release(self) -> None:
        """Nothing to do."""


def take_lock(folder: OutputFolder, shard: Shard | None) -> Lock:
    """The lock of a folder, which the system releases when this process ends, however it does.

    Only local folders have one: elsewhere two runs would do the same work twice, and the next one drops what is
    twofold.

    Raises:
        ConfigError: another run has it, or the folder cannot be written.
    """
    from filelock import FileLock, Timeout

    if folder.local is None:
        return NoLock()
    try:
        folder.local.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.local / f"_lock{suffix_of(shard)}")
        lock.acquire(timeout=0)
    except Timeout:
        which = f"shard {shard[0]}/{shard[1]} of {folder}" if shard else f"{folder}"
        raise ConfigError(
            f"another run writes into {which}: wait for it, or choose another --out", option="out"
        ) from None
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error}", option="out") from None
    return lock


def try_lock(path: Path) -> Lock | None:
    """The lock of a file, which the system releases when this process ends; None if another has it.

    Any thread may release it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock
