"""Reads the chunks of a PNG file, as strictly as its readers differ."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from jinaclip.errors import InputError
from jinaclip.images.containers.exif import EXIF, orientation
from jinaclip.images.containers.refusals import ambiguous, damaged

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MAX_CHUNKS = 20_000
"""Most chunks of a file. Encoders write chunks of 8 KiB and more, so that these are 160 MB."""
IHDR, PLTE, TRNS, IDAT, IEND = b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"
ACTL, FCTL, FDAT, EXIF_CHUNK = b"acTL", b"fcTL", b"fdAT", b"eXIf"
_CHECKED = (IHDR, PLTE, TRNS, IDAT, IEND, ACTL, FCTL, FDAT, EXIF_CHUNK)
_ANIMATION = (ACTL, FCTL, FDAT)
_ONCE = (PLTE, TRNS, ACTL, EXIF_CHUNK)
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""Bits of a sample that a colour type may have."""
_GREY, _RGB, _PALETTE = 0, 2, 3
_ANCILLARY = 0x20
"""The bit of a chunk's first letter that lets readers skip the chunk if they do not know it."""


def strip(data: bytes) -> tuple[bytes, bytes, bool]:
    """The file without its metadata, its EXIF block, and whether the file is complete.

    Raises:
        InputError: the file is damaged, or readers would not agree on what it shows.
    """
    chunks = _Chunks(data)
    complete = chunks.read()
    return chunks.pixels(complete), chunks.exif(), complete


class _Chunks:
    """The chunks of a file that have a bearing on its pixels."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._first: dict[bytes, tuple[int, int]] = {}
        self._last = b""
        self._pixels_end = 0

    def read(self) -> bool:
        """Checks the chunks, one after the other, up to the end of the image. Whether that was reached."""
        for kind, start, end in _walk(self._data):
            if (kind == IHDR) != (self._last == b""):
                raise ambiguous("PNG", "its IHDR chunk is not the first, or not the only one")
            if kind not in _CHECKED:
                _check_ancillary(kind)
            elif end + 4 > len(self._data):
                self._read_part(kind, start)
                return False
            elif kind != IEND and not (kind in _ANIMATION and IDAT in self._first):  # of later frames, or of no effect
                self._check_place(kind)
                self._check_sum(kind, start, end)
                self._check_content(kind, self._data[start:end])
                self._first.setdefault(kind, (start, end))
            self._last = kind
            if kind == IDAT:
                self._pixels_end = end + 4
            elif kind == IEND:
                return True
        return False

    def pixels(self, complete: bool) -> bytes:
        """The file of these chunks."""
        header = self._whole(IHDR) if IHDR in self._first else b""
        parts: list[bytes | memoryview] = [SIGNATURE, header, *self._colours()]
        if self._pixels_end:
            parts.append(self._data[self._first[IDAT][0] - 8 : self._pixels_end])
        return b"".join([*parts, make_chunk(IEND, b"")] if complete else parts)

    def exif(self) -> bytes:
        """The EXIF block; empty if there is none."""
        return bytes(self._body(EXIF_CHUNK)) if EXIF_CHUNK in self._first else b""

    def _body(self, kind: bytes) -> memoryview:
        start, end = self._first[kind]
        return self._data[start:end]

    def _whole(self, kind: bytes) -> memoryview:
        start, end = self._first[kind]
        return self._data[start - 8 : end + 4]

    def _colours(self) -> list[bytes | memoryview]:
        parts: list[bytes | memoryview] = []
        if PLTE in self._first and self._colour_type() == _PALETTE:
            parts.append(self._whole(PLTE))
        if TRNS in self._first:
            parts.append(make_chunk(TRNS, self._transparency()))
        return parts

    def _depth(self) -> int:
        return self._body(IHDR)[8]

    def _colour_type(self) -> int:
        return self._body(IHDR)[9]

    def _read_part(self, kind: bytes, start: int) -> None:
        """Takes what is there of a chunk that breaks off, if it holds pixels."""
        if kind == IDAT:
            self._check_place(kind)
            self._check_header()
            self._first.setdefault(kind, (start, len(self._data)))
            self._pixels_end = len(self._data)

    def _check_sum(self, kind: bytes, start: int, end: int) -> None:
        if zlib.crc32(self._data[start - 4 : end]) != int.from_bytes(self._data[end : end + 4], "big"):
            raise InputError(f"the PNG file is damaged: the checksum of its {kind.decode()} chunk is wrong")

    def _check_place(self, kind: bytes) -> None:
        """Readers differ in which of two chunks they take, and in what they make of a chunk out of place."""
        name = kind.decode()
        if kind in _ONCE and kind in self._first:
            raise ambiguous("PNG", f"it has two {name} chunks")
        if kind in (PLTE, TRNS) and (IDAT in self._first or (kind == PLTE and TRNS in self._first)):
            raise ambiguous("PNG", f"its {name} chunk is out of place")
        if kind == IDAT and IDAT in self._first and self._last != IDAT:
            raise ambiguous("PNG", "other chunks lie between its IDAT chunks")
        if kind == FDAT or (kind == FCTL and FCTL in self._first):
            raise ambiguous("PNG", f"a {name} chunk stands before its pixels")

    def _check_content(self, kind: bytes, body: memoryview) -> None:
        if kind == IHDR:
            _check_ihdr(body)
        elif kind == PLTE and (len(body) % 3 or not 3 <= len(body) <= 768):
            raise damaged("PNG", f"its palette has {len(body)} bytes")
        elif kind == TRNS:
            self._check_transparency(body)
        elif kind == ACTL and len(body) != 8:
            raise damaged("PNG", "its acTL chunk has a wrong length")
        elif kind == FCTL:
            self._check_first_frame(body)
        elif kind == IDAT and IDAT not in self._first:
            self._check_header()
        elif kind == EXIF_CHUNK:
            self._check_exif(bytes(body))

    def _is_animated(self) -> bool:
        frames = int.from_bytes(self._body(ACTL)[:4], "big") if ACTL in self._first else 0
        return 0 < frames < 2**31

    def _check_header(self) -> None:
        """Checks what must stand before the pixels."""
        if self._colour_type() == _PALETTE and PLTE not in self._first:
            raise damaged("PNG", "it has no palette")
        if self._is_animated() and FCTL not in self._first:
            raise ambiguous("PNG", "its animation does not begin with the image that programs without animation show")

    def _check_transparency(self, body: memoryview) -> None:
        kind = self._colour_type()
        if (kind == _GREY and len(body) != 2) or (kind == _RGB and len(body) != 6) or len(body) > 256:
            raise damaged("PNG", "its tRNS chunk has a wrong length")
        if kind == _RGB and self._depth() == 16:
            raise ambiguous(
                "PNG", "it marks a colour of 16 bits as clear, which readers round before or after they compare"
            )
        if kind in (_GREY, _RGB) and any(level >> self._depth() for level in _levels(body)):
            raise ambiguous("PNG", "it marks a colour as clear that no pixel can have")

    def _transparency(self) -> bytes:
        """Levels of grey with less than 8 bits are scaled as the pixels are, which Pillow leaves out."""
        body, depth = bytes(self._body(TRNS)), self._depth()
        if self._colour_type() != _GREY or depth not in (1, 2, 4):
            return body
        return (_levels(body)[0] * 255 // (2**depth - 1)).to_bytes(2, "big")

    def _check_first_frame(self, body: memoryview) -> None:
        """The first frame must be the whole image, or animations and programs without them begin differently."""
        if len(body) != 26 or body[24] > 2 or body[25] > 1:
            raise damaged("PNG", "its fcTL chunk has no meaning")
        number, width, height, left, top = struct.unpack_from(">5I", body)
        if struct.pack(">2I", width, height) != self._body(IHDR)[:8] or number or left or top:
            raise ambiguous("PNG", "the first frame of its animation is not the whole image")

    def _check_exif(self, body: bytes) -> None:
        """Browsers skip a block that comes after the pixels or begins as in a JPEG; others turn the image by it."""
        odd = IDAT in self._first or body.startswith(EXIF)
        if odd and orientation(body) != 1:
            raise ambiguous("PNG", "its EXIF turn stands where only some programs look")


def _walk(data: memoryview) -> Iterator[tuple[bytes, int, int]]:
    """Kind of each chunk, and where its content starts and ends, which may be behind the end of the file."""
    at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if len(data) < at + 8:
            return
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        yield bytes(data[at + 4 : at + 8]), at + 8, end
        at = end + 4
    raise InputError(f"the PNG file has over {MAX_CHUNKS} chunks, which no encoder makes")


def _check_ancillary(kind: bytes) -> None:
    if not (kind.isalpha() and kind[0] & _ANCILLARY):
        raise damaged("PNG", "it has a chunk of an unknown kind that readers must know")


def _check_ihdr(body: memoryview) -> None:
    if len(body) != 13:
        raise damaged("PNG", "its IHDR chunk has a wrong length")
    depth, kind, compression, filtering, interlaced = body[8:]
    if depth not in _DEPTHS.get(kind, ()) or compression or filtering or interlaced > 1:
        raise damaged("PNG", "its IHDR chunk names a form of pixels that does not exist")


def _levels(body: bytes | memoryview) -> tuple[int, ...]:
    """The numbers of 16 bits in a tRNS chunk."""
    return struct.unpack(f">{len(body) // 2}H", body)


def make_chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk with its length and checksum."""
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
