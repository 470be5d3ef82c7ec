"""The process that draws the pages of one PDF file, at the other end of the pipes of `renderers.Renderer`.

It runs as a file, by the interpreter alone: nothing of the package is imported here, and of others only pypdfium2. What
the file does to it, it does to this process alone.
"""

from __future__ import annotations

import math
import os
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

FRAME = struct.Struct("<cIIQ")
"""What goes before a message: what it is, two numbers, and how many bytes follow."""
OPEN, DRAW, TEXT = b"o", b"d", b"t"
"""Requests. OPEN has the length of the password, which goes before the file; the others a page, and most pixels."""
READY, DONE, LOCKED, FAILED = b"r", b"k", b"l", b"f"
"""Answers. DONE has two numbers: the pages of a file, or width and height. LOCKED is a file without its password."""
MOVING, PORTFOLIO = 1, 2
"""What a page or a file holds and PDFium does not draw: videos, sounds and 3D models; files within the file."""
DPI = 300
LONGEST_TEXT = 4 * 2**20
"""Bytes of the text of a page; a printed one has some thousands."""
ANNOTATIONS = 1000
"""Annotations of a page that are looked at."""


def main() -> None:
    """Answers requests until stdin ends."""
    limit_memory(int(sys.argv[1]))
    sys.path.extend(path for path in sys.argv[2:] if path not in sys.path)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # what a library prints does not get among them
    requests: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=read_requests, args=(requests,), daemon=True).start()
    try:
        server = Server()
        send(answers, READY)
        while True:
            send(answers, *server.answer(*requests.get()))
    except ImportError as error:
        send(answers, FAILED, 0, 0, str(error).encode())


def limit_memory(size: int) -> None:
    """Lets this process have so many bytes, and write none to a disk, where the system can limit that."""
    with suppress(ImportError):  # Windows
        import resource

        for kind, limit in ((resource.RLIMIT_AS, size), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
            with suppress(ValueError, OSError):  # less is allowed already, or this system has no such limit
                resource.setrlimit(kind, (limit, limit))


def read_requests(requests: SimpleQueue[Any]) -> None:
    """Puts requests where the main thread finds them. PDFium may draw for ever: once nobody can ask any more, ends."""
    with suppress(EOFError, OSError), os.fdopen(0, "rb", buffering=0) as pipe:
        while True:
            kind, first, second, length = FRAME.unpack(read_bytes(pipe, FRAME.size))
            requests.put((kind, first, second, read_bytes(pipe, length)))
    os._exit(0)


def read_bytes(pipe: Any, length: int) -> bytearray:
    """So many bytes. Raises EOFError if they do not come."""
    data = bytearray(length)
    view, at = memoryview(data), 0
    while at < length:
        count = pipe.readinto(view[at:])
        if not count:
            raise EOFError
        at += count
    return data


def send(pipe: Any, kind: bytes, first: int = 0, second: int = 0, *parts: Any) -> None:
    """Writes a message."""
    views = [memoryview(part).cast("B") for part in parts]
    head = memoryview(FRAME.pack(kind, first, second, sum(map(len, views))))
    for view in (head, *views):
        at = 0
        while at < len(view):
            at += pipe.write(view[at:])


class Server:
    """Holds the file, and does what is asked of it."""

    def __init__(self) -> None:
        import pypdfium2  # type: ignore[import-untyped]
        from pypdfium2 import raw

        self._pypdfium2, self._raw = pypdfium2, raw
        self._file: Any = None
        self._notes = 0
        self._work: dict[bytes, Callable[..., tuple[Any, ...]]] = {
            OPEN: self._open,
            DRAW: self._draw,
            TEXT: self._read,
        }

    def answer(self, kind: bytes, first: int, second: int, data: bytearray) -> tuple[Any, ...]:
        """The parts of an answer."""
        try:
            return self._work[kind](first, second, data)
        except Exception as error:  # noqa: BLE001  ctypes may raise any error
            if kind == OPEN and "password" in str(error).lower():
                return LOCKED, 0, 0
            text = " ".join(str(error).split()) or type(error).__name__
            return FAILED, 0, 0, text[:200].encode("utf-8", "replace")

    def _open(self, password: int, _: int, data: bytearray) -> tuple[Any, ...]:
        key = data[:password].decode() or None
        self._file = self._pypdfium2.PdfDocument(bytes(memoryview(data)[password:]), password=key)
        if self._file.get_formtype() == self._raw.FORMTYPE_XFA_FULL:
            raise ValueError("it is an XFA form, which PDFium does not draw; print it into a PDF file")
        self._file.init_forms()  # before any page is loaded: fields are drawn as they are filled in
        if self._file.get_pagemode() == self._raw.PAGEMODE_USEATTACHMENTS and self._file.count_attachments():
            self._notes = PORTFOLIO
        return DONE, len(self._file), 0

    def _draw(self, number: int, max_pixels: int, _: bytearray) -> tuple[Any, ...]:
        page = self._file[number]
        try:
            scale = scale_of(page.get_size(), max_pixels)
            bitmap = page.render(scale=scale, rev_byteorder=True)
            if bitmap.n_channels != 3 or bitmap.stride != 3 * bitmap.width:
                raise ValueError(f"pypdfium2 drew in {bitmap.mode}, not in RGB")
            notes = self._notes | self._look(page)
            return DONE, bitmap.width, bitmap.height, bytes([notes]), bitmap.buffer
        finally:
            page.close()

    def _look(self, page: Any) -> int:
        """What of a page PDFium does not draw."""
        raw = self._raw
        moving = {getattr(raw, f"FPDF_ANNOT_{name}") for name in ("MOVIE", "SOUND", "SCREEN", "RICHMEDIA", "THREED")}
        for index in range(min(raw.FPDFPage_GetAnnotCount(page), ANNOTATIONS)):
            annotation = raw.FPDFPage_GetAnnot(page, index)
            kind = raw.FPDFAnnot_GetSubtype(annotation)
            raw.FPDFPage_CloseAnnot(annotation)
            if kind in moving:
                return MOVING
        return 0

    def _read(self, number: int, _: int, data: bytearray) -> tuple[Any, ...]:
        page = self._file[number]
        try:
            layer = page.get_textpage()
            count = layer.count_chars()
            text = layer.get_text_range(0, count).encode("utf-8", "replace") if count else b""
        finally:
            page.close()
        if len(text) > LONGEST_TEXT:
            raise ValueError(f"its text takes {len(text)} bytes, more than {LONGEST_TEXT}")
        return DONE, 0, 0, text


def scale_of(size: tuple[float, float], max_pixels: int) -> float:
    """Pixels per point: 300 dpi where a page of this size, in points, then has at most so many pixels."""
    width, height = size
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise ValueError(f"it is {width:g} x {height:g} points large")
    scale = min(DPI / 72, (0.9 * max_pixels / (width * height)) ** 0.5)
    while math.ceil(width * scale) * math.ceil(height * scale) > max_pixels:  # a thin line has one pixel across
        scale *= 0.9
    return scale


if __name__ == "__main__":
    main()
