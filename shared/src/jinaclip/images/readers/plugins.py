"""Reads formats by plugins: those of Pillow, kept from the settings of the process, and those that users registered."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import cache, partial
from io import BytesIO
from itertools import groupby
from typing import Any

import PIL.Image
from PIL import ImageFile
from PIL.BmpImagePlugin import BmpImageFile, BmpRleDecoder
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from jinaclip.errors import InputError
from jinaclip.images import codecs
from jinaclip.images.orientation import read_orientation
from jinaclip.images.readers import tiff
from jinaclip.images.readers.base import Opened

WHOLE_CODECS = ("raw", "packbits", "libtiff")
"""Decoders that take the whole data at once."""
RLE = "bmp_rle"
SHORT = 24
"""Bytes of a WebP file that tell its kind, but not its size."""


class WholeFile(ImageFile.ImageFile):
    """Decodes as `ImageFile.load` does, but looks at no setting of the process, and takes no data that is cut short.

    To be mixed into a class of Pillow, behind it: what that calls as `super().load()` comes here first.
    """

    def load(self) -> Any:
        """Decodes the tiles, if there are any that can be decoded here."""
        if self.tile and self.fp is not None and all(tile[0] in WHOLE_CODECS for tile in self.tile):
            self.fp.seek(0)
            self.im = decode_tiles(self, self.fp.read()).im
            self.tile = []
        return super().load()


@cache
def kept_apart(reader: type[Any]) -> type[Any]:
    """A class of Pillow that reads a format, decoding as `WholeFile` does."""
    return type(reader.__name__, (reader, WholeFile), {})


def decode_tiles(opened: ImageFile.ImageFile, data: bytes, truncated: bool = False) -> PIL.Image.Image:
    """Decodes the tiles of an opened image.

    Args:
        opened: its header was read.
        data: what the offsets of its tiles refer to.
        truncated: keep what could be decoded.

    Raises:
        ValueError: the data is damaged or cut short.
    """
    pixels = PIL.Image.new(opened.mode, opened.size)
    for box, tiles in groupby(opened.tile, key=lambda tile: tile[1] or (0, 0, *opened.size)):
        whole = box == (0, 0, *opened.size)
        part = pixels if whole else PIL.Image.new(opened.mode, (box[2] - box[0], box[3] - box[1]))
        for codec, _, offset, args in tiles:
            _decode_tile(part, memoryview(data)[offset:], codec, args, truncated)
        if not whole:
            pixels.paste(part, box[:2])
    if opened.palette is not None:
        pixels.palette = opened.palette
    pixels.info = dict(opened.info)
    return pixels


def _decode_tile(part: PIL.Image.Image, data: memoryview, codec: str, args: Any, truncated: bool) -> None:
    arguments = args if isinstance(args, tuple) else () if args is None else (args,)
    if codec != RLE:
        codecs.fill(part, data, codec, *arguments, truncated=truncated)
        return
    decoder = BmpRleDecoder(part.mode, *arguments)
    decoder.setimage(part.im, None)
    decoder.setfd(BytesIO(data))
    decoder.decode(b"")


class _ShortReads(BytesIO):
    """A file that gives less than asked for.

    WebPImageFile asks for 30 bytes first, and holds the size in them against MAX_IMAGE_PIXELS if it gets all 30. The
    size was checked before.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(size if size is None or size < 0 else min(size, SHORT))


def open_webp(data: bytes, number: int) -> Opened:
    """Opens a frame. libwebp takes memory for the canvas here: its size is to be checked before."""
    opened = kept_apart(WebPImageFile)(_ShortReads(data))
    return _open_frame("WEBP", opened, number)


def open_avif(data: bytes, number: int) -> Opened:
    """Opens a frame; memory for its pixels is taken when it is decoded."""
    from PIL.AvifImagePlugin import AvifImageFile

    return _open_frame("AVIF", kept_apart(AvifImageFile)(BytesIO(hide_exif(data))), number)


def _open_frame(form: str, opened: Any, number: int) -> Opened:
    frames = int(opened.n_frames)
    if number >= frames:
        raise InputError(f"the {form} file has no frame {number}")
    opened.seek(number)
    return Opened(form, opened.size, partial(_load, opened), read_orientation(opened), frames=frames)


def _load(opened: PIL.Image.Image, truncated: bool) -> PIL.Image.Image:
    opened.load()
    return opened


def hide_exif(data: bytes) -> bytes:
    """An AVIF file in which no decoder finds EXIF.

    AVIF says in properties of its own how an image is turned, and EXIF is to be ignored; Pillow parses it, and warns if
    it is odd.
    """
    start, end = _find_box(data, _find_box(data, (0, len(data)), b"meta", 4), b"iinf", 0)
    hidden = re.sub(
        rb"(infe(?:\x02.{3}.{2}|\x03.{3}.{4}).{2})Exif",
        lambda found: found[1] + b"none",
        data[start:end],
        flags=re.DOTALL,
    )
    return data[:start] + hidden + data[end:]


def _find_box(data: bytes, bounds: tuple[int, int], name: bytes, skipped: int) -> tuple[int, int]:
    """Where the content of a box begins and ends that lies within these bounds; empty if there is none."""
    at, end = bounds
    while at + 8 <= end:
        size, start = int.from_bytes(data[at : at + 4]), at + 8
        if size == 1:
            size, start = int.from_bytes(data[at + 8 : at + 16]), at + 16
        following = at + size if size else end
        if following < start:
            break
        if data[at + 4 : at + 8] == name:
            return start + skipped, min(following, end)
        at = following
    return end, end


def open_bmp(data: bytes) -> Opened:
    """Opens a file of the one image that BMP has."""
    opened = BmpImageFile(BytesIO(data))
    return Opened("BMP", opened.size, lambda truncated: decode_tiles(opened, data, truncated))


def open_tiff(data: bytes, number: int, max_pixels: int) -> Opened:
    """Opens one of the images of a file."""
    page = tiff.find_page(data, number, max_pixels)

    def decode(truncated: bool) -> PIL.Image.Image:
        opened = TiffImageFile(BytesIO(page.data))
        packed = any(tile[0] == "libtiff" for tile in opened.tile)
        return decode_tiles(opened, page.data if packed else data, truncated)

    frames = 1 if page.is_last and not number else 2
    return Opened("TIFF", page.size, decode, page.orientation, page.part, frames)


def open_registered(data: bytes, name: str, number: int, check: Callable[[tuple[int, int]], None]) -> Opened | None:
    """Opens a file by the plugin that is registered with Pillow under a name; None if that does not take it.

    Args:
        data: the file.
        name: as in `PIL.Image.OPEN`.
        number: of the frame.
        check: checks the size of the image, and of each frame up to this one.
    """
    reader, accepts = PIL.Image.OPEN[name]
    accepted = True if accepts is None else accepts(data[:16])
    if not accepted or isinstance(accepted, str):  # a str says why it does not
        return None
    own = isinstance(reader, type) and reader.__module__.startswith("PIL.")
    try:
        opened: Any = (kept_apart(reader) if own else reader)(BytesIO(data), "")
    except (SyntaxError, IndexError, TypeError, struct.error):  # as a plugin says that a file is none of its
        if accepts is not None:
            raise
        return None
    check(opened.size)
    for frame in range(1, number + 1):
        opened.seek(frame)  # one after the other: each may be of another size
        check(opened.size)
    return Opened(str(opened.format or name), opened.size, partial(_load, opened), read_orientation(opened))
