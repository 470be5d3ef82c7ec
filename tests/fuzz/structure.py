"""Takes image files apart and puts them together again, with lengths and checksums that are right."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

from tests.fuzz.mutate import mutate_bytes


class Part(NamedTuple):
    """A chunk, segment or block.

    Attributes:
        kind: its name, marker or first byte.
        body: its content, without length and checksum.
        tail: what belongs to it behind that: the data of a scan, the sub-blocks of a frame.
    """

    kind: bytes
    body: bytes
    tail: bytes = b""


def split_png(data: bytes) -> list[Part]:
    parts, at = [], 8
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        parts.append(Part(data[at + 4 : at + 8], data[at + 8 : end]))
        at = end + 4
    return parts


def join_png(parts: list[Part]) -> bytes:
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body, _ in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def split_jpeg(data: bytes) -> list[Part]:
    parts, at = [], 2
    while at + 4 <= len(data) and data[at + 1] != 0xD9:
        marker, end = data[at + 1 : at + 2], at + 2 + int.from_bytes(data[at + 2 : at + 4])
        following = end
        while following < len(data) and data[following : following + 1] != b"\xff":
            following += 1
        if marker == b"\xda":
            following = data.find(b"\xff", end)
            while following >= 0 and (data[following + 1] == 0 or 0xD0 <= data[following + 1] <= 0xD7):
                following = data.find(b"\xff", following + 1)
            following = len(data) if following < 0 else following
        parts.append(Part(marker, data[at + 4 : end], data[end:following]))
        at = following
    return parts


def join_jpeg(parts: list[Part]) -> bytes:
    segments = (b"\xff" + kind + struct.pack(">H", len(body) % 65534 + 2) + body + tail for kind, body, tail in parts)
    return b"\xff\xd8" + b"".join(segments) + b"\xff\xd9"


def split_gif(data: bytes) -> list[Part]:
    at = 13 + _palette(data[10])
    parts = [Part(b"G", data[:at])]
    while at < len(data) and data[at] in b"!,":
        kind = data[at : at + 1]
        start = at + 2 if kind == b"!" else at + 10 + _palette(data[at + 9]) + 1
        end = start
        while end < len(data) and data[end]:
            end += 1 + data[end]
        parts.append(Part(kind, data[at + 1 : start], data[start : end + 1]))
        at = end + 1
    return parts


def _palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def join_gif(parts: list[Part]) -> bytes:
    return b"".join((b"" if kind == b"G" else kind) + body + tail for kind, body, tail in parts) + b";"


def split_webp(data: bytes) -> list[Part]:
    return _split_chunks(data, 12)


def _split_chunks(data: bytes, at: int) -> list[Part]:
    parts = []
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        parts.append(Part(data[at : at + 4], data[at + 8 : end]))
        at = end + end % 2
    return parts


def join_webp(parts: list[Part]) -> bytes:
    chunks = (kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for kind, body, _ in parts)
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


FORMS: dict[str, tuple[Callable[[bytes], list[Part]], Callable[[list[Part]], bytes]]] = {
    "PNG": (split_png, join_png),
    "JPEG": (split_jpeg, join_jpeg),
    "GIF": (split_gif, join_gif),
    "WEBP": (split_webp, join_webp),
}


def mutate_structure(form: str, data: bytes, donor: bytes, draw: random.Random) -> bytes:
    """One to three changes of the parts: dropped, doubled, moved, divided, taken from another file, tampered with."""
    split, join = FORMS[form]
    parts, others = split(data), split(donor)
    for _ in range(draw.choice([1, 1, 2, 3])):
        if parts:
            draw.choice(CHANGES)(parts, others, draw)
    joined = join(parts)
    return mutate_bytes(joined, draw) if draw.random() < 0.1 else joined


def _drop(parts: list[Part], others: list[Part], draw: random.Random) -> None:
    del parts[draw.randrange(len(parts))]


def _double(parts: list[Part], others: list[Part], draw: random.Random) -> None:
    parts.insert(draw.randrange(len(parts) + 1), draw.choice(parts))


def _move(parts: list[Part], others: list[Part], draw: random.Random) -> None:
    part = parts.pop(draw.randrange(len(parts)))
    parts.insert(draw.randrange(len(parts) + 1), part)


def _divide(parts: list[Part], others: list[Part], draw: random.Random) -> None:
    at = draw.randrange(len(parts))
    kind, body, tail = parts[at]
    cut = draw.randrange(len(body) + 1)
    parts[at : at + 1] = [Part(kind, body[:cut]), Part(kind, body[cut:], tail)]


def _borrow(parts: list[Part], others: list[Part], draw: random.Random) -> None:
    if others:
        at = draw.randrange(len(parts) + 1)
        parts[at : at + draw.randrange(2)] = [draw.choice(others)]


def _tamper(parts: list[Part], others: list[Part], draw: random.Random) -> None:
    at = draw.randrange(len(parts))
    kind, body, tail = parts[at]
    if draw.random() < 0.3:
        tail = mutate_bytes(tail, draw)
    else:
        body = mutate_bytes(body, draw)
    parts[at] = Part(kind, body, tail)


def _rename(parts: list[Part], others: list[Part], draw: random.Random) -> None:
    at, name = draw.randrange(len(parts)), draw.choice([*parts, *others]).kind
    parts[at] = parts[at]._replace(kind=name)


def _set_byte(parts: list[Part], others: list[Part], draw: random.Random) -> None:
    """A field near the start of a part: sizes, places, flags."""
    at = draw.randrange(len(parts))
    kind, body, tail = parts[at]
    if body:
        place = draw.randrange(min(len(body), 24))
        value = draw.choice([0, 1, 2, 3, 4, 8, 16, 0x7F, 0x80, 0xFF, body[place] + 1 & 0xFF, body[place] - 1 & 0xFF])
        parts[at] = Part(kind, body[:place] + bytes([value]) + body[place + 1 :], tail)


CHANGES: list[Callable[[list[Part], list[Part], random.Random], None]] = [
    _drop,
    _double,
    _move,
    _divide,
    _borrow,
    _borrow,
    _tamper,
    _rename,
    _set_byte,
    _set_byte,
]
