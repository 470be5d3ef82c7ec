"""Entries appended to files: nothing is cheaper, and a kill loses no more than the write that it strikes.

Each process appends to a log of its own, and reads those of the others in the folder as they grow. A log is one file or
two, whose names begin with its number: a file that is full is followed by another, and the one before it is removed. So
the latest entries of each process are always there.

A record is a mark, the length of the key and of the entry, and a checksum of both lengths and the key, four bytes each,
little-endian; then the key, then the entry, which has a checksum of its own. A later record of a key stands for the
earlier ones. Where the head of one is spoilt, the mark of the next is looked for, so that no other is lost with it.
What stands behind the last whole record may be under way: only who writes the log cuts it off, when it opens it.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from struct import Struct
from typing import Protocol

from jinaclip.cache.store import StoreError, StoreSize

logger = logging.getLogger("jinaclip")
HEAD = Struct("<4sIII")
LENGTHS = Struct("<II")
MARK = b"jCL\x7f"
"""As a float32 no number of a vector of length 1."""
MOST_KEY = 1024
"""Bytes of a key; a longer one is not looked at."""
SPOILT = "the cache %s is spoilt: %d bytes of it cannot be read; what they held is embedded anew"
READ_AT_ONCE = 2**16
"""Bytes, where records or a mark are looked for."""
END = ".log"
KEPT = 2
"""Files of a log: the one that is written to, and the one before it."""
SAFE = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
"""A link that somebody laid in place of a file is not followed."""
READING = os.O_RDONLY | SAFE
WRITING = os.O_RDWR | os.O_CREAT | os.O_APPEND | SAFE
Place = tuple[int, int]
"""Where an entry begins, and its length."""


class Lock(Protocol):
    """That of a log."""

    def release(self) -> None:
        """Lets another process write it."""


TakeLock = Callable[[Path], Lock | None]
"""Gives the lock of a file, which the system releases when this process ends; None if another has it."""


class LogStore:
    """Entries in the logs of a folder. Where each lies is held in memory, in about 200 bytes.

    Args:
        folder: of the logs; it is made on first use.
        max_bytes: most bytes of each log, but for what is put at once. There are as many as there were ever processes
            at a time, since the next one takes over the log of one that has ended.
        take_lock: of the file beside a log that says who writes it.
    """

    def __init__(self, folder: Path, max_bytes: int, take_lock: TakeLock) -> None:
        self._folder = folder
        self._most = max_bytes // KEPT
        self._take_lock = take_lock
        self._lock: Lock | None = None
        self._prefix = ""
        self._own: list[LogFile] = []  # the latest last
        self._others: dict[str, LogFile] = {}

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
                found |= {key: file.read(key) for key in file.places.keys() & keys}
        return found

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        """Appends entries."""
        with self._opened():
            if self._own[-1].size > self._most:
                self._begin_another()
            self._own[-1].append(entries)

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Forgets where entries lie."""
        with self._opened():
            for file in self._files():
                for key in keys:
                    file.places.pop(key, None)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, those that are still there in an older version too, of each log the latest last."""
        with self._convert_errors():
            for name in self._names():
                file = LogFile(self._folder / name, READING)
                try:
                    file.follow()
                    yield from ((key, file.read(key)) for key in file.places)
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
        self.forget()
        for file in files:
            file.close()
        if lock is not None:
            lock.release()

    def forget(self) -> None:
        """Leaves the files to the parent."""
        self._lock, self._own, self._others = None, [], {}

    def _files(self) -> Iterator[LogFile]:
        return chain(self._others.values(), self._own)

    def _names(self) -> list[str]:
        """Of all files, those of a log in the order in which they were written."""
        with suppress(FileNotFoundError):
            return sorted(path.name for path in self._folder.iterdir() if path.suffix == END)
        return []

    def _follow_others(self) -> None:
        """Reads what other processes have appended since."""
        names = {name for name in self._names() if not name.startswith(self._prefix)}
        for name in self._others.keys() - names:
            self._others.pop(name).close()
        for name in names - self._others.keys():
            with suppress(FileNotFoundError):  # its writer has removed it by now
                self._others[name] = LogFile(self._folder / name, READING)
        for file in self._others.values():
            file.follow()

    # -- the own log

    def _open(self) -> None:
        """Takes a log that nobody writes, with what is in it, or begins one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._prefix, self._lock = self._claim()
        names = [name for name in self._names() if name.startswith(self._prefix)]
        self._own = [LogFile(self._folder / name, WRITING) for name in names or [self._name_of(0)]]
        for file in self._own:
            file.follow()
            file.cut()

    def _claim(self) -> tuple[str, Lock]:
        """How the names of the first log begin that nobody writes, and its lock."""
        number = 0
        while (lock := self._take_lock(self._folder / f"{number}.lock")) is None:
            number += 1
        return f"{number}-", lock

    def _name_of(self, number: int) -> str:
        """Of one of its files."""
        return f"{self._prefix}{number:09}{END}"

    def _begin_another(self) -> None:
        """Goes on in another file, and removes what was before the one that is full."""
        number = int(self._own[-1].path.stem.removeprefix(self._prefix)) + 1
        self._own.append(LogFile(self._folder / self._name_of(number), WRITING))
        while len(self._own) > KEPT:
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


class LogFile:
    """One file of records, open.

    Args:
        path: of the file.
        flags: for reading, or for writing, which one process does.

    Attributes:
        path: of the file.
        places: where the entry of each key lies, as far as it was followed.
        size: bytes of it, up to the end of its last whole record.
    """

    def __init__(self, path: Path, flags: int) -> None:
        self.path = path
        self.places: dict[bytes, Place] = {}
        self.size = 0
        self._file = os.open(path, flags, 0o666)
        self._end = 0
        """Of the file, when it was followed."""
        self._piece_start, self._piece = 0, b""

    def follow(self) -> None:
        """Notes where the whole records lie that were appended since. What is between them is passed over."""
        end = os.fstat(self._file).st_size
        if end == self._end:
            return
        start, spoilt = self.size, 0
        while start < end:
            found = self._read_head(start, end)
            if found is None:
                start = self._find_mark(start + 1, end)
                continue
            key, place = found
            self.places[key] = place
            spoilt += start - self.size
            self.size = start = sum(place)
        self._end, self._piece = end, b""
        if spoilt:
            logger.warning(SPOILT, self.path, spoilt)

    def cut(self) -> None:
        """Cuts off what is behind the last whole record, which a crash tore."""
        if self._end and not self.size:  # not one record is what we write
            logger.warning(SPOILT, self.path, self._end)
        if self.size < self._end:
            os.ftruncate(self._file, self.size)
            self._end = self.size

    def _read_head(self, start: int, end: int) -> tuple[bytes, Place] | None:
        """The key of the record that begins there, and the place of its entry; None if no whole one does."""
        head = self._read_piece(start, HEAD.size)
        if len(head) < HEAD.size:
            return None
        mark, key_length, length, checksum = HEAD.unpack(head)
        place = start + HEAD.size + key_length
        if mark != MARK or key_length > MOST_KEY or place + length > end:
            return None
        key = self._read_piece(start + HEAD.size, key_length)
        return (key, (place, length)) if _checksum(key, length) == checksum else None

    def _find_mark(self, start: int, end: int) -> int:
        """Where the next record may begin; the end if there is no mark any more."""
        while start < end:
            found = self._read(start, READ_AT_ONCE).find(MARK)
            if found >= 0:
                return start + found
            start += READ_AT_ONCE - len(MARK) + 1
        return end

    def _read_piece(self, start: int, length: int) -> bytes:
        """Bytes of a piece that is read at once, as one head comes soon after another."""
        skipped = start - self._piece_start
        if skipped < 0 or skipped + length > len(self._piece):
            self._piece_start, self._piece, skipped = start, self._read(start, READ_AT_ONCE), 0
        return self._piece[skipped : skipped + length]

    def append(self, entries: Mapping[bytes, bytes]) -> None:
        """Writes entries. Raises OSError if not all of them could be written; then none is."""
        records = [(_head(key, entry), key, entry) for key, entry in entries.items()]
        data = b"".join(chain.from_iterable(records))
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, memoryview(data)[written:])
        except OSError:
            os.ftruncate(self._file, self.size)
            raise
        for key, entry in entries.items():
            start = self.size + HEAD.size + len(key)
            self.places[key] = start, len(entry)
            self.size = start + len(entry)

    def read(self, key: bytes) -> bytes:
        """The entry of a key."""
        return self._read(*self.places[key])

    def _read(self, start: int, length: int) -> bytes:
        os.lseek(self._file, start, os.SEEK_SET)
        return os.read(self._file, length)

    def close(self) -> None:
        """Closes it."""
        os.close(self._file)


def _head(key: bytes, entry: bytes) -> bytes:
    return HEAD.pack(MARK, len(key), len(entry), _checksum(key, len(entry)))


def _checksum(key: bytes, length: int) -> int:
    return zlib.crc32(key, zlib.crc32(LENGTHS.pack(len(key), length)))
