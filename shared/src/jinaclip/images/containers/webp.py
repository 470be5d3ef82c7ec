"""Reads the chunks of WebP files, and refuses those that say one thing in one place and another in the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinaclip.errors import InputError

MAX_CHUNKS = 100_000
"""Most chunks of a file. An animation has one for each frame."""
_HEADER, _ALPHA, _LOSSY, _LOSSLESS = b"VP8X", b"ALPH", b"VP8 ", b"VP8L"
_ANIMATION, _FRAME = b"ANIM", b"ANMF"
_CRITICAL = (_HEADER, _ALPHA, _LOSSY, _LOSSLESS, _ANIMATION, _FRAME)
_ALPHA_FLAG, _ANIMATION_FLAG, _FRAGMENTS_FLAG = 0x10, 0x02, 0x01
_LOSSLESS_ALPHA = 0x10
"""In byte 4 of a lossless bitstream: its pixels have alpha. A hint, which decoders do not go by."""

Chunk = tuple[bytes, bytes]
"""The kind of a chunk, and its content."""


@dataclass(frozen=True, slots=True)
class Stripped:
    """A WebP file without its metadata.

    Attributes:
        data: the file. Its flags and hints say that there is alpha wherever there may be.
        opaque: the area, as left, top, right and lower edge, in which the original promised that there is none.
    """

    data: bytes
    opaque: tuple[int, int, int, int] | None


def size(data: bytes) -> tuple[int, int]:
    """Width and height, read before memory is taken for the canvas; (0, 0) if the header does not say."""
    kind, body = data[12:16], data[20:30]
    return _canvas(body) if kind == _HEADER else _measure(kind, body)


def strip(data: bytes) -> Stripped:
    """The file without its metadata and without what follows it.

    Raises:
        InputError: the file is cut short, or its parts do not fit together.
    """
    chunks = list(_chunks(data, 12, _end(data)))
    if not chunks or chunks[0][0] not in (_HEADER, _LOSSY, _LOSSLESS):
        raise _damaged("it does not begin with an image or a header")
    if chunks[0][0] == _HEADER:
        return _strip_extended(*chunks)
    if any(kind in _CRITICAL for kind, _ in chunks[1:]):
        raise _damaged("something follows its only image")
    return _strip_still(chunks[:1], _measure(*chunks[0]), has_alpha=_has_alpha(chunks[0]))


def _end(data: bytes) -> int:
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise InputError("the WEBP file is cut short; get it whole")
    return end


def _chunks(data: bytes, at: int, end: int) -> Iterator[Chunk]:
    for _ in range(MAX_CHUNKS):
        if at + 8 > end:
            return
        start = at + 8
        at = start + int.from_bytes(data[at + 4 : start], "little")
        if at + at % 2 > end:
            raise _damaged("a chunk is longer than the file")
        yield data[start - 8 : start - 4], data[start:at]
        at += at % 2
    raise InputError(f"the WEBP file has over {MAX_CHUNKS:,} chunks, which no encoder makes")


def _damaged(why: str) -> InputError:
    return InputError(f"the WEBP file is damaged: {why}")


def _canvas(header: bytes) -> tuple[int, int]:
    return int.from_bytes(header[4:7], "little") + 1, int.from_bytes(header[7:10], "little") + 1


def _measure(kind: bytes, stream: bytes) -> tuple[int, int]:
    """Width and height of a bitstream."""
    if kind == _LOSSLESS:
        bits = int.from_bytes(stream[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return int.from_bytes(stream[6:8], "little") & 0x3FFF, int.from_bytes(stream[8:10], "little") & 0x3FFF


def _strip_extended(header: Chunk, *chunks: Chunk) -> Stripped:
    if len(header[1]) != 10:
        raise _damaged(f"its header has {len(header[1])} bytes, not 10")
    flags, canvas = header[1][0], _canvas(header[1])
    if flags & _FRAGMENTS_FLAG:
        raise _damaged("its header names fragments, which are no longer part of the format")
    strip_chunks = _strip_animated if flags & _ANIMATION_FLAG else _strip_still
    return strip_chunks([*chunks], canvas, has_alpha=bool(flags & _ALPHA_FLAG))


def _strip_still(chunks: list[Chunk], canvas: tuple[int, int], *, has_alpha: bool) -> Stripped:
    image = _image(chunks, canvas, has_alpha=has_alpha)
    return Stripped(_riff([_header(_ALPHA_FLAG, canvas), *image]), None if has_alpha else (0, 0, *canvas))


def _strip_animated(chunks: list[Chunk], canvas: tuple[int, int], *, has_alpha: bool) -> Stripped:
    critical = [chunk for chunk in chunks if chunk[0] in _CRITICAL]
    kinds = [kind for kind, _ in critical]
    if kinds[:2] != [_ANIMATION, _FRAME] or set(kinds[1:]) != {_FRAME}:
        raise _damaged("an animation has one ANIM chunk, then frames")
    frames = [(kind, _frame(body, has_alpha=has_alpha)) for kind, body in critical[1:]]
    opaque = None if has_alpha else _box(frames[0][1])
    return Stripped(_riff([_header(_ALPHA_FLAG | _ANIMATION_FLAG, canvas), critical[0], *frames]), opaque)


def _frame(body: bytes, *, has_alpha: bool) -> bytes:
    """The content of a frame without what is no image."""
    left, top, right, lower = _box(body)
    chunks = list(_chunks(body, 16, len(body)))
    if chunks and chunks[0][0] not in _CRITICAL:
        raise _damaged("a frame does not begin with its image")
    image = _image(chunks, (right - left, lower - top), has_alpha=has_alpha)
    return body[:16] + b"".join(map(_chunk, image))


def _box(frame: bytes) -> tuple[int, int, int, int]:
    left, top, width, height = (int.from_bytes(frame[at : at + 3], "little") for at in (0, 3, 6, 9))
    return 2 * left, 2 * top, 2 * left + width + 1, 2 * top + height + 1


def _image(chunks: list[Chunk], area: tuple[int, int], *, has_alpha: bool) -> list[Chunk]:
    """The one image among the chunks: a lossless bitstream, or a lossy one, right behind its alpha if it has any.

    Raises:
        InputError: there is another number of them, or it does not fit the area or the flags.
    """
    places = [number for number, (kind, _) in enumerate(chunks) if kind in _CRITICAL]
    image = chunks[places[0] : places[-1] + 1] if places else []
    kinds = [kind for kind, _ in image]
    if kinds not in ([_LOSSLESS], [_LOSSY], [_ALPHA, _LOSSY]):
        raise _damaged(f"where one image is to be, it holds {_names(kinds)}")
    if _measure(*image[-1]) != area:
        raise _damaged("its image has another size than its header says")
    if not has_alpha and any(map(_has_alpha, image)):
        raise _damaged("its header says that it has no alpha, and its image has")
    return [*image[:-1], _with_alpha(image[-1])]


def _names(kinds: list[bytes]) -> str:
    return b", ".join(kinds[:5]).decode("ascii", "replace") or "none"


def _has_alpha(chunk: Chunk) -> bool:
    kind, body = chunk
    return kind == _ALPHA or (kind == _LOSSLESS and bool(body[4] & _LOSSLESS_ALPHA))


def _with_alpha(image: Chunk) -> Chunk:
    """The image, with the hint that there is alpha where there may be."""
    kind, body = image
    return (kind, body[:4] + bytes([body[4] | _LOSSLESS_ALPHA]) + body[5:]) if kind == _LOSSLESS else image


def _header(flags: int, canvas: tuple[int, int]) -> Chunk:
    sides = [(side - 1).to_bytes(3, "little") for side in canvas]
    return _HEADER, flags.to_bytes(4, "little") + b"".join(sides)


def _chunk(chunk: Chunk) -> bytes:
    kind, body = chunk
    return kind + len(body).to_bytes(4, "little") + body + bytes(len(body) % 2)


def _riff(chunks: list[Chunk]) -> bytes:
    body = b"WEBP" + b"".join(map(_chunk, chunks))
    return b"RIFF" + len(body).to_bytes(4, "little") + body
