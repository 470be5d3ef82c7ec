"""Entries appended to files: nothing is cheaper, and a kill loses no more than the write that it strikes.

Each process appends to a log of its own, and reads those of the others in the folder as they grow. A log is one file or
two, whose names begin with its number: a file that is full is followed by another, and the one before it is removed. So
the latest entries of each process are always there. What is in a file, `log_file` says.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Protocol

from jinaclip.cache.entries import VectorEntries
from jinaclip.cache.log_file import KEY, READING, WRITING, LogFile
from jinaclip.cache.store import StoreError, StoreSize
from jinaclip.process import keep_for_good

logger = logging.getLogger("jinaclip")
SUFFIX = ".log"
SETTLED_NS = 2 * 10**9
"""Nanoseconds for which the time of a folder may not tell of another change; some file systems count seconds."""
FILES = 2
"""Files of a log: the one that is written to, and the one before it."""


class Lock(Protocol):
    """That of a log."""

    def release(self) -> None:
        """Lets another process write it."""


TryLock = Callable[[Path], Lock | None]
"""Gives the lock of a file, which the system releases when this process ends; None if another has it."""


class LogStore:
    """Entries in the logs of a folder. Where each lies is held in memory, in about 200 bytes.

    Args:
        folder: of the logs; it is made on first use.
        max_bytes: most bytes of each log, but for what is put at once. There are as many as there were ever processes
            at a time, since the next one takes over the log of one that has ended.
        try_lock: of the file beside a log that says who writes it.
    """

    def __init__(self, folder: Path, max_bytes: int, try_lock: TryLock) -> None:
        self._folder = folder
        self._most = max_bytes // FILES
        self._try_lock = try_lock
        self._lock: Lock | None = None
        self._prefix = ""
        self._own: list[LogFile] = []  # the latest last
        self._others: dict[str, LogFile] = {}
        self._passed_over: set[str] = set()
        self._listed_at = 0
        """When the folder had changed that was listed, in nanoseconds; 0 if it is to be listed again."""

    @property
    def name(self) -> str:
        """The folder."""
        return str(self._folder)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The entries of these keys, those that other processes have appended by now too."""
        found: dict[bytes, bytes] = {}
        with self._opened():
            self._follow_others()
            for file in self._files():
                there = file.places.keys() & keys
                found |= file.read(sorted(there, key=file.places.__getitem__))  # a record is read once
        return found

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        """Appends entries."""
        with self._opened():
            if self._own[-1].size > self._most:
                self._begin_another()
            if isinstance(entries, VectorEntries) and all(len(key) == KEY for key in entries):
                self._own[-1].append_vectors(entries)
            else:
                self._own[-1].append(entries)

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Forgets where entries lie."""
        with self._opened():
            for file in self._files():
                for key in keys:
                    file.places.pop(key, None)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, file by file; a key that a later file of its log has again comes twice, the newer last."""
        with self._convert_errors():
            for name in self._names():
                file = LogFile(self._folder / name, READING)
                try:
                    file.follow()
                    for key in [*file.places]:
                        yield from file.read([key]).items()
                finally:
                    file.close()

    def size(self) -> StoreSize:
        """Keys, and bytes of all files."""
        with self._opened():
            self._follow_others()
            files = [*self._files()]
            return StoreSize(len({key for file in files for key in file.places}), sum(file.size for file in files))

    def clear(self) -> None:
        """Removes all logs."""
        with self._convert_errors():
            self.close()
            for name in self._names():
                (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the files, and lets another process write to the log."""
        files, lock = [*self._files()], self._lock
        self._drop()
        for file in files:
            file.close()
        if lock is not None:
            lock.release()

    def forget(self) -> None:
        """Leaves the files and the lock to the parent."""
        keep_for_good(self._lock)
        self._drop()

    def _drop(self) -> None:
        self._lock, self._own, self._others, self._listed_at = None, [], {}, 0

    def _files(self) -> Iterator[LogFile]:
        return chain(self._others.values(), self._own)

    def _names(self) -> list[str]:
        """Of all files, those of a log in the order in which they were written."""
        with suppress(FileNotFoundError):
            return sorted(path.name for path in self._folder.iterdir() if path.suffix == SUFFIX)
        return []

    def _follow_others(self) -> None:
        """Reads what other processes have appended since."""
        changed_at = self._folder.stat().st_mtime_ns
        if changed_at != self._listed_at:
            self._open_others()
            has_settled = time.time_ns() - changed_at > SETTLED_NS  # else another file may come at the same time
            self._listed_at = changed_at if has_settled else 0
        for name, file in self._others.items():
            with self._pass_over(name):
                file.follow()

    def _open_others(self) -> None:
        """Opens the files that are new, and lets go of those that are gone."""
        names = {name for name in self._names() if not name.startswith(self._prefix)}
        for name in self._others.keys() - names:
            self._others.pop(name).close()
        for name in names - self._others.keys():
            with self._pass_over(name):
                self._others[name] = LogFile(self._folder / name, READING)

    @contextmanager
    def _pass_over(self, name: str) -> Iterator[None]:
        """Goes on without another's file that cannot be read."""
        try:
            yield
        except FileNotFoundError:  # its writer has removed it by now
            return
        except OSError as error:
            if name not in self._passed_over:
                self._passed_over.add(name)
                logger.warning("the cache %s is read without %s: %s", self._folder, name, error)

    # -- the own log

    def _open(self) -> None:
        """Takes a log that nobody writes, with what is in it, or begins one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._prefix, lock = self._claim()
        names = [name for name in self._names() if name.startswith(self._prefix)]
        with ExitStack() as undo:
            undo.callback(lock.release)
            own = list[LogFile]()
            for name in names or [self._name_of(0)]:
                own.append(LogFile(self._folder / name, WRITING))
                undo.callback(own[-1].close)
                own[-1].follow()
                own[-1].cut()
            undo.pop_all()
        self._lock, self._own = lock, own

    def _claim(self) -> tuple[str, Lock]:
        """The prefix of the first log that nobody writes, and its lock."""
        number = 0
        while (lock := self._try_lock(self._folder / f"{number}.lock")) is None:
            number += 1
        return f"{number}-", lock

    def _name_of(self, number: int) -> str:
        """Of one of its files."""
        return f"{self._prefix}{number:09}{SUFFIX}"

    def _begin_another(self) -> None:
        """Goes on in another file, and removes what was before the one that is full."""
        number = int(self._own[-1].path.stem.removeprefix(self._prefix)) + 1
        self._own.append(LogFile(self._folder / self._name_of(number), WRITING))
        while len(self._own) > FILES:
            file = self._own.pop(0)
            file.close()
            with suppress(OSError):  # Windows removes no file that another process reads
                file.path.unlink()

    @contextmanager
    def _opened(self) -> Iterator[None]:
        with self._convert_errors():
            if not self._own:
                self._open()
            yield

    @contextmanager
    def _convert_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"the cache {self._folder} cannot be used: {error}") from None
