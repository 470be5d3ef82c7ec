"""A file of a log: records that one process appends, and others read as it grows.

There are two kinds of records, with numbers of four bytes, little-endian:

    entry:    mark, length of the key, of the entry, checksum of both and the key
              | key | entry, which has a checksum of its own
    vectors:  mark, count, length of the fingerprint, bytes of a vector, checksum of the vectors,
              checksum of these four and of what follows | fingerprint, keys | vectors

Vectors that came together are one record, as packing each as an entry would take a hundred times as long.

Within a log, a later record of a key stands for the earlier ones. Where the head of one is spoilt, the mark of the next
is looked for, so that no other is lost with it. What stands behind the last whole record may be under way: only who
writes the log cuts it off, when it opens it.
"""

from __future__ import annotations

import logging
import os
import re
import zlib
from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from struct import Struct

import numpy as np

from jinaclip.cache.entries import VectorEntries, pack_vector

logger = logging.getLogger("jinaclip")
HEAD = Struct("<4sIII")
LENGTHS = Struct("<II")
VECTORS_HEAD = Struct("<4sIIIII")
VECTORS_LENGTHS = Struct("<IIII")
MARK, VECTORS_MARK = b"jCL\x7f", b"jCV\x7f"
"""At whatever offset, these bytes are in no float32 vector of length 1: as numbers they would be over 100."""
MARKS = re.compile(b"jC[LV]\x7f")
KEY = 32
"""Bytes of a key of a vector."""
MOST_KEY = 1024
"""Bytes of a key; a longer one is not looked at."""
SPOILT = "the cache %s is spoilt: %d bytes of it cannot be read; what they held is embedded anew"
READ_AT_ONCE = 2**16
"""Bytes, where records or a mark are looked for."""
SAFE = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
"""A link that somebody laid in place of a file is not followed."""
READING = os.O_RDONLY | SAFE
WRITING = os.O_RDWR | os.O_CREAT | os.O_APPEND | SAFE
ROW = 0
Place = tuple[int, int]
"""Where an entry begins, and its length; or a vector, and `ROW`."""


@dataclass(frozen=True, slots=True)
class VectorsRecord:
    """A record of vectors.

    Attributes:
        start: where the first vector begins.
        count: how many there are.
        fingerprint: what made them.
        size: bytes of each.
        checksum: of them.
    """

    start: int
    count: int
    fingerprint: bytes
    size: int
    checksum: int

    @property
    def end(self) -> int:
        """Where the next record begins."""
        return self.start + self.count * self.size

    def places(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, Place]]:
        """The place of each vector."""
        return zip(keys, zip(range(self.start, self.end, self.size), repeat(ROW)), strict=False)


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
        self._records: list[VectorsRecord] = []
        self._last_read: tuple[VectorsRecord, bytes] | None = None

    def follow(self) -> None:
        """Notes where the whole records lie that were appended since. What is between them is passed over."""
        end = os.fstat(self._file).st_size
        if end == self._end:
            return
        start, spoilt = self.size, 0
        while start < end:
            found = self._read_record(start, end)
            if found is None:
                start = self._find_mark(start + 1, end)
                continue
            spoilt += start - self.size
            self.size = start = found
        self._end, self._piece = end, b""
        if spoilt:
            logger.warning(SPOILT, self.path, spoilt)

    def cut(self) -> None:
        """Cuts off what is behind the last whole record, which a crash tore."""
        if self._end and not self.size:  # there are bytes, and not one whole record
            logger.warning(SPOILT, self.path, self._end)
        if self.size < self._end:
            os.ftruncate(self._file, self.size)
            self._end = self.size

    def _read_record(self, start: int, end: int) -> int | None:
        """Notes the places of the record that begins there, and gives where it ends; None if no whole one does."""
        mark = self._read_piece(start, len(MARK))
        if mark == VECTORS_MARK:
            return self._read_vectors(start, end)
        return self._read_entry(start, end) if mark == MARK else None

    def _read_entry(self, start: int, end: int) -> int | None:
        head = self._read_piece(start, HEAD.size)
        if len(head) < HEAD.size:
            return None
        _, key_length, length, checksum = HEAD.unpack(head)
        place = start + HEAD.size + key_length
        if key_length > MOST_KEY or place + length > end:
            return None
        key = self._read_piece(start + HEAD.size, key_length)
        if _checksum(key, length) != checksum:
            return None
        self.places[key] = place, length
        return int(place + length)

    def _read_vectors(self, start: int, end: int) -> int | None:
        head = self._read_piece(start, VECTORS_HEAD.size)
        if len(head) < VECTORS_HEAD.size:
            return None
        _, count, fingerprint_length, size, checksum, own = VECTORS_HEAD.unpack(head)
        place = start + VECTORS_HEAD.size + fingerprint_length + KEY * count
        if place + count * size > end:
            return None
        names = self._read(start + VECTORS_HEAD.size, place - start - VECTORS_HEAD.size)
        if zlib.crc32(names, zlib.crc32(VECTORS_LENGTHS.pack(count, fingerprint_length, size, checksum))) != own:
            return None
        keys = (names[at : at + KEY] for at in range(fingerprint_length, len(names), KEY))
        return self._note_vectors(VectorsRecord(place, count, names[:fingerprint_length], size, checksum), keys)

    def _note_vectors(self, record: VectorsRecord, keys: Iterable[bytes]) -> int:
        self._records.append(record)
        self.places.update(record.places(keys))
        return record.end

    def _find_mark(self, start: int, end: int) -> int:
        """Where the next record may begin; the end if there is no mark any more."""
        while start < end:
            found = MARKS.search(self._read(start, READ_AT_ONCE))
            if found is not None:
                return start + found.start()
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
        self._write(b"".join(chain.from_iterable(records)))
        for key, entry in entries.items():
            start = self.size + HEAD.size + len(key)
            self.places[key] = start, len(entry)
            self.size = start + len(entry)

    def append_vectors(self, entries: VectorEntries) -> None:
        """Writes vectors that came together, whose keys have 32 bytes. Raises as `append`."""
        rows, names = entries.rows.reshape(-1).view(np.uint8).data, b"".join([entries.fingerprint, *entries])
        lengths = len(entries), len(entries.fingerprint), len(rows) // len(entries), zlib.crc32(rows)
        head = VECTORS_HEAD.pack(VECTORS_MARK, *lengths, zlib.crc32(names, zlib.crc32(VECTORS_LENGTHS.pack(*lengths))))
        self._write(head + names, rows)
        start = self.size + len(head) + len(names)
        self.size = self._note_vectors(VectorsRecord(start, lengths[0], entries.fingerprint, *lengths[2:]), entries)

    def _write(self, *pieces: bytes | memoryview) -> None:
        try:
            for piece in pieces:
                written = 0
                while written < len(piece):
                    written += os.write(self._file, memoryview(piece)[written:])
        except OSError:
            with suppress(OSError):  # then what was written of them is passed over
                os.ftruncate(self._file, self.size)
            self.size = os.fstat(self._file).st_size
            raise

    def read(self, keys: Iterable[bytes]) -> dict[bytes, bytes]:
        """The entries of keys that have places. Vectors of a record that is spoilt are forgotten."""
        found = ((key, self._read_one(key, *self.places[key])) for key in keys if key in self.places)
        return {key: entry for key, entry in found if entry is not None}

    def _read_one(self, key: bytes, start: int, length: int) -> bytes | None:
        if length != ROW:
            return self._read(start, length)
        record = self._records[bisect(self._records, start, key=lambda one: one.start) - 1]
        rows = self._read_rows(record)
        if rows is None:
            return None
        return pack_vector(key, record.fingerprint, np.frombuffer(rows, "<f4", record.size // 4, start - record.start))

    def _read_rows(self, record: VectorsRecord) -> bytes | None:
        """The vectors of a record, of which one is rarely read alone; None if they are spoilt."""
        if self._last_read is None or self._last_read[0] is not record:
            rows = self._read(record.start, record.end - record.start)
            if zlib.crc32(rows) != record.checksum:
                self._forget(record)
                return None
            self._last_read = record, rows
        return self._last_read[1]

    def _forget(self, record: VectorsRecord) -> None:
        logger.warning(SPOILT, self.path, record.end - record.start)
        for key, (start, _) in list(self.places.items()):
            if record.start <= start < record.end:
                del self.places[key]

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
