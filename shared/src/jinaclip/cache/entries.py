"""What is stored under a key: bytes that tell whether they are still as they were written, and where.

A vector: "V", checksum, length of the fingerprint, fingerprint, float32 little-endian. A digest: "D", checksum, digest.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jinaclip.vectors import Vectors

VECTOR, DIGEST = b"V", b"D"
_HEAD = 5
"""The kind, and four bytes of checksum."""
LENGTH_SLACK = 1e-3
"""By which a vector of length 1 may miss it."""


class VectorEntries(Mapping[bytes, bytes]):
    """The entries of vectors that came together, by their keys. Each is packed when it is asked for.

    Args:
        keys: of the vectors, each of them once.
        rows: float32 of shape (n, d); copied, unless nobody can write to them.
        fingerprint: ASCII, of which the first 255 bytes are kept.

    Attributes:
        rows: float32 little-endian.
        fingerprint: what is kept of it.
    """

    def __init__(self, keys: Sequence[bytes], rows: Vectors | Sequence[Vectors], fingerprint: bytes) -> None:
        self._keys = keys
        self.rows = np.ascontiguousarray(rows, "<f4")
        if self.rows.flags.writeable:  # whoever gave them may use their memory again
            self.rows = self.rows.copy()
        self.fingerprint = fingerprint[:255]

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._keys)

    def __getitem__(self, key: bytes) -> bytes:
        row = memoryview(self.rows[self._places[key]])
        head = bytes([len(self.fingerprint)]) + self.fingerprint
        checksum = zlib.crc32(row, zlib.crc32(VECTOR + key + head))
        return b"".join((VECTOR, checksum.to_bytes(4, "little"), head, row))

    @cached_property
    def _places(self) -> dict[bytes, int]:
        return dict(zip(self._keys, range(len(self)), strict=True))


def pack_vector(key: bytes, fingerprint: bytes, row: Vectors) -> bytes:
    """The entry of a vector of float32, shape (d,). Of `fingerprint`, ASCII, the first 255 bytes are kept."""
    return VectorEntries([key], row[None], fingerprint)[key]


def pack_digest(key: bytes, digest: bytes) -> bytes:
    """The entry of a digest."""
    return _seal(DIGEST, key, digest)


@dataclass(frozen=True, slots=True)
class Found:
    """What entries say.

    Attributes:
        keys: of the sound ones, in order.
        rows: their vectors, float32 of shape (n, d); not to be written to.
        unsound: keys of those that are not what was written, or no vectors of this width.
    """

    keys: list[bytes]
    rows: Vectors
    unsound: list[bytes]


def read_vectors(entries: dict[bytes, bytes], width: int, *, normalized: bool) -> Found:
    """The vectors of entries, each checked: its checksum, width, finiteness and length."""
    bodies = {key: body for key, entry in entries.items() if (body := _vector_of(key, entry, width)) is not None}
    keys = [*bodies]
    rows = np.frombuffer(b"".join(bodies.values()), "<f4").astype(np.float32, copy=False).reshape(len(keys), width)
    sound = _sound(rows, normalized=normalized)
    if len(keys) == len(entries) and sound.all():  # as nearly always; what follows copies all rows
        return Found(keys, rows, [])
    good = {key for key, is_sound in zip(keys, sound, strict=True) if is_sound}
    return Found([key for key in keys if key in good], rows[sound], [key for key in entries if key not in good])


def read_vector(key: bytes, entry: bytes) -> Vectors | None:
    """The vector of an entry, float32 of shape (d,); None if it is not what was written."""
    content = _open(VECTOR, key, entry)
    body = content[1 + content[0] :] if content else b""
    return np.frombuffer(body, "<f4").astype(np.float32) if body and not len(body) % 4 else None


def read_digest(key: bytes, entry: bytes) -> bytes | None:
    """The digest of an entry; None if it is not what was written."""
    return _open(DIGEST, key, entry)


def fingerprint_of(entry: bytes) -> str:
    """The fingerprint in the entry of a vector: what had made it."""
    return entry[_HEAD + 1 : _HEAD + 1 + entry[_HEAD]].decode("ascii", "replace")


def checksum_of(entry: bytes) -> int:
    """The checksum in an entry."""
    return int.from_bytes(entry[1:_HEAD], "little")


def is_vector(entry: bytes) -> bool:
    """Whether an entry claims to be a vector."""
    return entry[:1] == VECTOR


def _vector_of(key: bytes, entry: bytes, width: int) -> bytes | None:
    content = _open(VECTOR, key, entry)
    if not content:
        return None
    body = content[1 + content[0] :]
    return body if len(body) == 4 * width else None


def _sound(rows: Vectors, *, normalized: bool) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", rows, rows)
    sound = np.isfinite(squares) & (squares > 0)
    return sound & (np.abs(squares - 1) < 2 * LENGTH_SLACK) if normalized else sound


def _seal(kind: bytes, key: bytes, content: bytes) -> bytes:
    return kind + _checksum(kind, key, content) + content


def _open(kind: bytes, key: bytes, entry: object) -> bytes | None:
    """The content of an entry; None if it is unsound, in a spoilt file even of another type."""
    if not isinstance(entry, bytes) or entry[:1] != kind:
        return None
    content = entry[_HEAD:]
    return content if entry[1:_HEAD] == _checksum(kind, key, content) else None


def _checksum(kind: bytes, key: bytes, content: bytes) -> bytes:
    """Of the key too: an entry that came under another key is as wrong as one that was spoilt."""
    return zlib.crc32(content, zlib.crc32(kind + key)).to_bytes(4, "little")
