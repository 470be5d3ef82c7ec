"""Entries appended to a file, for one process: nothing is cheaper, and a kill loses no more than the write it strikes.

A record is a mark, the length of the key and of the entry, and a checksum of both lengths and the key, four bytes each,
little-endian; then the key, then the entry, which has a checksum of its own. A later record of a key stands for the
earlier ones. Where the head of one is spoilt, the mark of the next is looked for, so that no other is lost with it. A
file that is full becomes the older one, and what was the older one goes: so the latest entries are always there.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from struct import Struct

from jinaclip.cache.store import StoreError, StoreSize

logger = logging.getLogger("jinaclip")
HEAD = Struct("<4sIII")
LENGTHS = Struct("<II")
MARK = b"jCL\x7f"
"""As a float32 no number of a vector of length 1."""
MOST_KEY = 1024
"""Bytes of a key; a longer one is not looked at."""
SPOILT = "the cache %s is spoilt: %d bytes of it cannot be read; what they held is embedded anew"
SEARCHED = 2**16
"""Bytes that are read at once where a mark is looked for."""
FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
"""A link that somebody laid in place of the file is not followed."""
Place = tuple[int, int]
"""Where an entry begins, and its length."""


class LogStore:
    """Entries in a file and an older one. Where each lies is held in memory, in about 200 bytes.

    Args:
        path: of the file; it is made on first use. No other process may use it.
        max_bytes: most bytes of the two, but for what is put at once.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._older = path, older_path(path)
        self._most = max_bytes // 2
        self._logs: list[Log] = []  # the latest first

    @property
    def name(self) -> str:
        """The path."""
        return str(self._path)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The entries of these keys."""
        found: dict[bytes, bytes] = {}
        with self._opened() as logs:
            for log in reversed(logs):
                found |= {key: log.read(key) for key in log.places.keys() & keys}
        return found

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        """Appends entries."""
        with self._opened() as logs:
            logs[0].append(entries)
            if logs[0].size > self._most:
                self._begin_another(*logs)

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Forgets where entries lie."""
        with self._opened() as logs:
            for log in logs:
                for key in keys:
                    log.places.pop(key, None)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, those that are still there in an older version too, the latest last."""
        with self._convert_errors():
            for log in reversed(self._open()):
                try:
                    yield from ((key, log.read(key)) for key in log.places)
                finally:
                    log.close()

    def size(self) -> StoreSize:
        """Keys, and bytes of both files."""
        with self._opened() as logs:
            return StoreSize(len({key for log in logs for key in log.places}), sum(log.size for log in logs))

    def clear(self) -> None:
        """Removes both files."""
        with self._convert_errors():
            self.close()
            for path in (self._path, self._older):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the files."""
        logs, self._logs = self._logs, []
        for log in logs:
            log.close()

    def forget(self) -> None:
        """Leaves the files to the parent."""
        self._logs = []

    def _begin_another(self, full: Log, *older: Log) -> None:
        """Makes the full file the older one; what is known of it stays, as finding it again would take long."""
        self._logs = []
        for log in older:
            log.close()
        full.move(self._older)
        self._logs = [Log(self._path), full]

    @contextmanager
    def _opened(self) -> Iterator[list[Log]]:
        with self._convert_errors():
            self._logs = self._logs or self._open()
            yield self._logs

    def _open(self) -> list[Log]:
        return [Log(path) for path in (self._path, self._older) if path is self._path or path.exists()]

    @contextmanager
    def _convert_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"the cache {self._path} cannot be used: {error}") from None


class Log:
    """One file of records, open. What was torn off its end by a crash is cut off.

    Attributes:
        places: where the entry of each key lies.
        size: bytes of it.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._file = os.open(path, FLAGS, 0o666)
        self.places: dict[bytes, Place] = {}
        self.size = 0
        self._find_places(os.fstat(self._file).st_size)

    def _find_places(self, end: int) -> None:
        """Notes where whole records lie. What is between them is passed over, what is behind the last cut off."""
        start = spoilt = 0
        while start < end:
            found = self._read_head(start, end)
            if found is None:
                start = self._find_mark(start + 1, end)
                continue
            key, place = found
            self.places[key] = place
            spoilt += start - self.size
            self.size = start = sum(place)
        spoilt = spoilt if self.size else end  # not one record is what we write
        if spoilt:
            logger.warning(SPOILT, self._path, spoilt)
        if self.size < end:
            os.ftruncate(self._file, self.size)

    def _read_head(self, start: int, end: int) -> tuple[bytes, Place] | None:
        """The key of the record that begins there, and the place of its entry; None if no whole one does."""
        head = self._read(start, HEAD.size)
        if len(head) < HEAD.size:
            return None
        mark, key_length, length, checksum = HEAD.unpack(head)
        place = start + HEAD.size + key_length
        if mark != MARK or key_length > MOST_KEY or place + length > end:
            return None
        key = self._read(start + HEAD.size, key_length)
        return (key, (place, length)) if _checksum(key, length) == checksum else None

    def _find_mark(self, start: int, end: int) -> int:
        """Where the next record may begin; the end if there is no mark any more."""
        while start < end:
            found = self._read(start, SEARCHED).find(MARK)
            if found >= 0:
                return start + found
            start += SEARCHED - len(MARK) + 1
        return end

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

    def move(self, path: Path) -> None:
        """Gives the file another path, where it replaces what is there."""
        self.close()  # Windows renames no open file
        self._path.replace(path)
        self._path, self._file = path, os.open(path, FLAGS)

    def close(self) -> None:
        """Closes it."""
        os.close(self._file)


def older_path(path: Path) -> Path:
    """Of the older file."""
    return path.with_name(f"{path.name}.old")


def _head(key: bytes, entry: bytes) -> bytes:
    return HEAD.pack(MARK, len(key), len(entry), _checksum(key, len(entry)))


def _checksum(key: bytes, length: int) -> int:
    return zlib.crc32(key, zlib.crc32(LENGTHS.pack(len(key), length)))
