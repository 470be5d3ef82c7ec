"""Reads the segments of a JPEG file, as strictly as its readers differ.

What precedes the first scan is handed on without metadata. From there to the end the file is handed on byte for byte:
what the data of a scan mean depends on every marker among them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from jinaclip.errors import InputError
from jinaclip.images.containers.exif import EXIF, has_header, orientation
from jinaclip.images.containers.refusals import ambiguous, damaged, unsupported
from jinaclip.images.containers.scans import FRAMES, Frame, Scans, divide_up

MAX_SEGMENTS = 10_000
"""Most segments of a file. A depth map of 20 MB takes 320."""
MAX_TABLES = 2**16
"""Most bytes of tables before the first scan. A full set takes 3 KB."""
MAX_EXIF_BLOCKS = 16
"""Most EXIF blocks of a file. Each is searched, and programs write one, or split a large one among a few segments."""
MAX_FILL = 2**16
"""Most fill bytes before a marker. Pillow copies all of them for each piece of the file that it reads."""
_DHT, _EOI, _SOS, _DQT, _DRI = 0xC4, 0xD9, 0xDA, 0xDB, 0xDD
_APP0, _APP1, _APP14, _COM = 0xE0, 0xE1, 0xEE, 0xFE
_TABLES = (_DHT, _DQT, _DRI)
_KNOWN = (_EOI, _SOS, *FRAMES, *_TABLES, *range(_APP0, _APP0 + 16), _COM)
_UNSUPPORTED = {
    **dict.fromkeys((0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xDE, 0xDF), "is lossless or hierarchical"),
    **dict.fromkeys((0xC9, 0xCA, 0xCC), "uses arithmetic coding"),
}
"""Forms of JPEG that Pillow may read and not all browsers do."""
_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_FILL = re.compile(rb"\xff+")
_WINDOW, _LARGEST_WINDOW = 2**14, 2**20
"""Bytes of a scan that are looked at in one step: few at first, as a file may have many short scans."""


class _Segment(NamedTuple):
    """A segment: its marker, where it starts, where its content starts and ends."""

    marker: int
    start: int
    body: int
    end: int


def strip(data: bytes) -> tuple[bytes, bytes, bool]:
    """The file without its metadata, its EXIF block, and whether the file is complete.

    Raises:
        InputError: the file is damaged, or readers would not agree on what it shows.
    """
    segments = _Segments(data)
    complete = segments.read()
    return segments.pixels(complete), segments.exif, complete


class _Segments:
    """The segments of a file that have a bearing on its pixels."""

    def __init__(self, data: bytes) -> None:
        self.exif = b""
        self._exif_blocks = 0
        self._data = data
        self._view = memoryview(data)
        self._header: list[memoryview] = []
        self._table_bytes = 0
        self._jfif = False
        self._adobe: memoryview | None = None
        self._restart_interval = 0
        self._scans: Scans | None = None
        self._first_scan: int | None = None
        self._end = len(data)

    def read(self) -> bool:
        """Checks the segments, one after the other, up to the end of the image. Whether that was reached."""
        at = len(b"\xff\xd8")
        for _ in range(MAX_SEGMENTS):
            segment = _find_segment(self._data, at)
            if segment is None:
                return False
            at = segment.end
            if segment.marker == _EOI:
                self._end = at
                return self._scans is not None and self._scans.are_complete()
            at = self._read_scan(segment) if segment.marker == _SOS else at
            self._read_segment(segment)
        raise InputError(f"the JPEG file has over {MAX_SEGMENTS} segments, which no encoder makes")

    def pixels(self, complete: bool) -> bytes:
        """The file of these segments. One that is cut short gets an end, so that libjpeg decodes what comes before."""
        parts: list[bytes | memoryview] = [b"\xff\xd8", _JFIF if self._jfif else b"", self._adobe or b""]
        parts += self._header
        if self._first_scan is not None:
            parts.append(self._view[self._first_scan : self._end])
        return b"".join(parts if complete else [*parts, b"\xff\xd9"])

    def _read_segment(self, segment: _Segment) -> None:
        body = self._view[segment.body : segment.end]
        if segment.marker in FRAMES:
            self._read_frame(segment.marker, body)
        if segment.marker == _DRI:
            self._read_restart_interval(body)
        if self._first_scan is not None:
            return  # handed on with the scans; what it says of colours and turns comes too late for any reader
        if segment.marker in (*FRAMES, *_TABLES):
            self._keep(segment)
        else:
            self._read_metadata(segment, bytes(body[:5]))

    def _read_metadata(self, segment: _Segment, name: bytes) -> None:
        """Takes what says how colours are stored, and how the image is turned."""
        length = segment.end - segment.body
        if segment.marker == _APP0 and name == b"JFIF\0":
            self._jfif |= length >= 14
        elif segment.marker == _APP1 and name == b"Exif\0" and length > 5:
            self._read_exif(self._data[segment.body : segment.end])
        elif segment.marker == _APP14 and name == b"Adobe" and length >= 12:
            self._read_adobe(self._view[segment.start : segment.end])

    def _keep(self, segment: _Segment) -> None:
        self._header.append(self._view[segment.start : segment.end])
        self._table_bytes += segment.end - segment.start
        if self._table_bytes > MAX_TABLES:
            raise InputError(f"the JPEG file has over {MAX_TABLES} bytes of tables, which no encoder makes")

    def _read_frame(self, marker: int, body: memoryview) -> None:
        if self._scans is not None:
            raise ambiguous("JPEG", "it has two frames")
        self._scans = Scans(Frame(marker, bytes(body)))

    def _read_restart_interval(self, body: memoryview) -> None:
        if len(body) != 2:
            raise damaged("JPEG", "its restart interval has a wrong length")
        self._restart_interval = int.from_bytes(body, "big")

    def _read_exif(self, block: bytes) -> None:
        """Browsers look at the first block alone. Others look at later ones too, which may also be its continuation."""
        self._exif_blocks += 1
        if self._exif_blocks > MAX_EXIF_BLOCKS:
            raise InputError(f"the JPEG file has over {MAX_EXIF_BLOCKS} EXIF blocks, which no program writes")
        block = EXIF + block[len(EXIF) :]  # whatever the last byte of the name is
        if self.exif and has_header(block) and orientation(block) != orientation(self.exif):
            raise ambiguous("JPEG", "its EXIF blocks turn it in different ways")
        self.exif = self.exif or block

    def _read_adobe(self, segment: memoryview) -> None:
        if self._adobe not in (None, segment):
            raise ambiguous("JPEG", "it has two Adobe segments")
        self._adobe = segment

    def _read_scan(self, segment: _Segment) -> int:
        """Checks a scan. Where its data end."""
        if self._scans is None:
            raise damaged("JPEG", "it has a scan before its frame")
        if self._first_scan is None:
            self._first_scan = segment.start
            self._check_colours(self._scans.frame)
        units = self._scans.add(bytes(self._view[segment.body : segment.end]))
        end, restarts = _read_scan_data(self._data, segment.end)
        if end < len(self._data):
            self._check_restarts(restarts, units)
        return end

    def _check_restarts(self, restarts: int, units: int) -> None:
        """Where some are missing, a part of the image would be grey. Some encoders end with one more."""
        wanted = max(divide_up(units, self._restart_interval) - 1, 0) if self._restart_interval else 0
        if restarts not in (wanted, wanted + 1):
            raise damaged("JPEG", f"a scan has {restarts} restart markers, not {wanted}")

    def _check_colours(self, frame: Frame) -> None:
        """Libjpeg believes JFIF, which allows no RGB; others believe Adobe's segment."""
        if self._jfif and self._adobe is not None and self._adobe[15] == 0 and len(frame.components) == 3:
            raise ambiguous("JPEG", "its JFIF segment says that it is YCbCr, its Adobe segment that it is RGB")


def _find_segment(data: bytes, at: int) -> _Segment | None:
    """The segment at this place, or None where the file ends before it does.

    Bytes before it that are no marker are left out, as libjpeg does.
    """
    start = data.find(b"\xff", at)
    fill = _FILL.match(data, start) if start >= 0 else None
    if fill is None or fill.end() == len(data):
        return None
    _check_fill(fill.end() - start)
    after = fill.end() + 1
    marker = data[after - 1]
    if marker == 0:
        raise ambiguous("JPEG", "it has data between its segments")
    if marker not in _KNOWN:
        _refuse(marker)
    length = int.from_bytes(data[after : after + 2], "big") if marker != _EOI else 0
    if marker != _EOI and length < 2 and after + 2 <= len(data):
        raise damaged("JPEG", f"its segment {marker:02X} is {length} bytes long")
    end = after + length
    return _Segment(marker, after - 2, min(after + 2, end), end) if end <= len(data) else None


def _refuse(marker: int) -> NoReturn:
    if marker in _UNSUPPORTED:
        raise unsupported("JPEG", _UNSUPPORTED[marker])
    raise damaged("JPEG", f"it has the marker {marker:02X} where none should be")


def _read_scan_data(data: bytes, start: int) -> tuple[int, int]:
    """Where the data of a scan end, which is at the next marker, and how many restart markers they hold.

    Raises:
        InputError: these do not count from 0 to 7, over and over, or there are fill bytes that readers take for data.
    """
    end, restarts, fill = len(data), 0, 0
    for places, found in _read_markers(data, start):
        others = np.flatnonzero((found != 0xFF) & (found & 0xF8 != 0xD0))
        codes = found[: others[0]] if len(others) else found
        numbers = codes[codes != 0xFF] & 7
        if (numbers != (np.arange(restarts, restarts + len(numbers)) & 7)).any():
            raise damaged("JPEG", "its restart markers are out of order")
        restarts += len(numbers)
        fill += len(codes) - len(numbers)
        _check_fill(fill)
        if len(others):
            end = int(places[others[0]])
            break
    if fill and data.find(b"\xff\xff\0", start, end) >= 0:
        raise ambiguous("JPEG", "its scans have fill bytes within their data")
    return end, restarts


def _read_markers(data: bytes, at: int) -> Iterator[tuple[NDArray[np.intp], NDArray[np.uint8]]]:
    """Places and codes of the markers and fill bytes in the data of scans; the data byte FF is written as FF00."""
    size = _WINDOW
    while at < len(data) - 1:
        window = np.frombuffer(data, np.uint8, min(size, len(data) - at), at)
        places = np.flatnonzero(window[:-1] == 0xFF)
        codes = window[places + 1]
        yield places[codes != 0] + at, codes[codes != 0]
        at += len(window) - 1
        size = min(4 * size, _LARGEST_WINDOW)


def _check_fill(count: int) -> None:
    if count > MAX_FILL:
        raise InputError(f"the JPEG file has over {MAX_FILL} fill bytes before a marker, which no encoder makes")
