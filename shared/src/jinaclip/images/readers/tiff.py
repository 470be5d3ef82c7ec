"""Takes one image out of a TIFF file, with nothing but what its pixels need.

Pillow reads all directories and all tags, follows offsets into each other, and warns about odd ones; and Python's
warnings cannot be silenced for a single thread. So the file gets a new directory, behind its end, that has the few tags
that say how the pixels are stored, each of them checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from jinaclip.errors import InputError
from jinaclip.images.readers.base import Size

DAMAGED = "the TIFF file cannot be read; it is damaged or cut short"
TYPES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 16: 8}
"""Bytes of a value of each type."""
WHOLE = {1: 1, 3: 2, 4: 4, 16: 8}
"""Those of whole numbers from 0."""
WIDTH, HEIGHT, COMPRESSION, ORIENTATION, JPEG_TABLES = 256, 257, 259, 274, 347
STRIPS, STRIP_BYTES, ROWS, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 273, 279, 278, 322, 323, 324, 325
SAMPLES, PLANES = 277, 284
ONE = {WIDTH, HEIGHT, COMPRESSION, 262, 266, SAMPLES, ROWS, PLANES, 292, 293, 317, TILE_WIDTH, TILE_HEIGHT}
"""Tags of one number: also PhotometricInterpretation, FillOrder, SamplesPerPixel, PlanarConfiguration, T4Options,
T6Options and Predictor."""
MOST_NUMBERS = 2**18
"""Most numbers of a tag: a palette of 16 bits has 3 * 2**16, and no file so many strips or tiles."""
MANY = {258, STRIPS, STRIP_BYTES, 320, TILES, TILE_BYTES, 338, 339, JPEG_TABLES, 530, 532}
"""Tags of several: BitsPerSample, StripOffsets, StripByteCounts, ColorMap, TileOffsets, TileByteCounts, ExtraSamples,
SampleFormat, JPEGTables, YCbCrSubSampling and ReferenceBlackWhite."""
METHODS = {
    1: "none",
    2: "CCITT",
    3: "CCITT group 3",
    4: "CCITT group 4",
    5: "LZW",
    7: "JPEG",
    8: "Deflate",
    32773: "PackBits",
    32946: "Deflate",
}
"""Compressions that are decoded. The old JPEG (6) is not: it was never defined, and readers guess."""


@dataclass(frozen=True, slots=True)
class Page:
    """One image of a TIFF file.

    Attributes:
        data: a TIFF file with this image alone.
        size: width and height as stored.
        orientation: 1 to 8.
        is_last: whether no other image follows.
        part: pixels of a tile, which may be larger than the image; 0 if there are none.
    """

    data: bytes
    size: Size
    orientation: int
    is_last: bool
    part: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a file, classic or BigTIFF, has its numbers."""

    order: Literal["little", "big"]
    count: int
    offset: int

    @property
    def entry(self) -> int:
        """Bytes of an entry of a directory."""
        return 4 + 2 * self.offset


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a directory, as it is stored, and its numbers if they are whole."""

    tag: int
    raw: bytes
    numbers: tuple[int, ...]


def find_page(data: bytes, number: int, max_pixels: int) -> Page:
    """Finds an image by its number, from 0.

    Raises:
        InputError: the file is damaged, has no such image, or one that cannot be decoded.
    """
    layout, at = _read_layout(data)
    visited = {0}
    for _ in range(number):
        visited.add(at)
        at = _next(data, layout, at)
        if at in visited:
            raise InputError(f"the TIFF file has no frame {number}")
    entries = list(_read_entries(data, layout, at))
    numbers = {entry.tag: entry.numbers for entry in entries}
    size = _one(numbers, WIDTH), _one(numbers, HEIGHT)
    if size[0] * size[1] <= max_pixels:  # else it is refused for that
        _check_parts(numbers, max_pixels)
        _check_places(numbers, len(data))
    turn = numbers.get(ORIENTATION, (1,))[:1]
    return Page(
        _rewrite(data, layout, [entry for entry in entries if entry.tag != ORIENTATION]),
        size,
        turn[0] if turn and 1 <= turn[0] <= 8 else 1,
        _next(data, layout, at) in {*visited, at},
        _one(numbers, TILE_WIDTH, 0) * _one(numbers, TILE_HEIGHT, 0),
    )


def _read_layout(data: bytes) -> tuple[Layout, int]:
    """The layout, and where the first directory is."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    if int.from_bytes(data[2:4], order) == 43:
        return Layout(order, 8, 8), int.from_bytes(data[8:16], order)
    return Layout(order, 2, 4), int.from_bytes(data[4:8], order)


def _bounds(data: bytes, layout: Layout, at: int) -> tuple[int, int]:
    """Where the entries of a directory begin and end."""
    start = at + layout.count
    end = start + layout.entry * int.from_bytes(data[at:start], layout.order)
    if at < 8 or end + layout.offset > len(data):
        raise InputError(DAMAGED)
    return start, end


def _next(data: bytes, layout: Layout, at: int) -> int:
    """Where the next directory is; 0 if there is none."""
    _, end = _bounds(data, layout, at)
    return int.from_bytes(data[end : end + layout.offset], layout.order)


def _read_entries(data: bytes, layout: Layout, at: int) -> Iterator[Entry]:
    """The entries that say how pixels are stored, each once, in the order of their tags."""
    start, end = _bounds(data, layout, at)
    found: dict[int, Entry] = {}
    for place in range(start, end, layout.entry):
        raw = data[place : place + layout.entry]
        tag = int.from_bytes(raw[:2], layout.order)
        if tag in ONE or tag in MANY or tag == ORIENTATION:
            if tag in found:
                raise InputError(f"the TIFF file has tag {tag} twice, which readers take in different ways")
            found[tag] = Entry(tag, raw, _read_numbers(data, layout, tag, raw))
    yield from (found[tag] for tag in sorted(found))


def _read_numbers(data: bytes, layout: Layout, tag: int, raw: bytes) -> tuple[int, ...]:
    kind = int.from_bytes(raw[2:4], layout.order)
    count = int.from_bytes(raw[4 : 4 + layout.offset], layout.order)
    length = count * TYPES.get(kind, 0)
    at, where = 0, raw[4 + layout.offset :]
    if length > layout.offset:
        at, where = int.from_bytes(where, layout.order), data
    if not length or at + length > len(where) or (tag in ONE and (count != 1 or kind not in WHOLE)):
        raise InputError(f"{DAMAGED}: tag {tag} is")
    if kind not in WHOLE or tag == JPEG_TABLES:
        return ()
    if count > MOST_NUMBERS:
        raise InputError(f"the TIFF file has {count} numbers in tag {tag}, more than any encoder writes")
    step = WHOLE[kind]
    return tuple(int.from_bytes(where[i : i + step], layout.order) for i in range(at, at + length, step))


def _one(numbers: dict[int, tuple[int, ...]], tag: int, default: int | None = None) -> int:
    if tag in numbers:
        return numbers[tag][0]
    if default is None:
        raise InputError(f"{DAMAGED}: tag {tag} is missing")
    return default


def _check_places(numbers: dict[int, tuple[int, ...]], length: int) -> None:
    """Whether all strips or tiles are inside of the file: what is put behind its end is not to be taken for pixels."""
    for starts, counts in ((STRIPS, STRIP_BYTES), (TILES, TILE_BYTES)):
        places, sizes = numbers.get(starts, ()), numbers.get(counts, ())
        if len(places) != len(sizes) or any(at + size > length for at, size in zip(places, sizes, strict=True)):
            raise InputError(f"{DAMAGED}: not all of its pixels are there")


def _check_parts(numbers: dict[int, tuple[int, ...]], max_pixels: int) -> None:
    """Whether the pixels can be decoded within bounds: a tile is decoded whole, however small the image is."""
    method = _one(numbers, COMPRESSION, 1)
    if method not in METHODS:
        raise InputError(f"the TIFF file is compressed by method {method}; of those, {sorted(METHODS)} can be decoded")
    width, height = max(1, _one(numbers, WIDTH)), max(1, _one(numbers, HEIGHT))
    across, down = _one(numbers, TILE_WIDTH, width), _one(numbers, TILE_HEIGHT, _one(numbers, ROWS, height))
    if TILES in numbers and across * down > max_pixels:
        raise InputError(
            f"a tile of the TIFF file has {across} x {down} pixels, more than image_policy.max_pixels={max_pixels}"
        )
    planes = _one(numbers, SAMPLES, 1) if _one(numbers, PLANES, 1) == 2 else 1
    parts = -(-width // max(1, across)) * -(-height // max(1, down)) * planes
    if {len(numbers[tag]) for tag in (STRIPS, TILES) if tag in numbers} != {parts}:
        raise InputError(f"{DAMAGED}: it should have {parts} strips or tiles")


def _rewrite(data: bytes, layout: Layout, entries: list[Entry]) -> bytes:
    """The file with one directory of these entries, behind what is there; their values stay where they are."""
    at = (len(data) + 15) // 16 * 16
    first = at.to_bytes(layout.offset, layout.order)
    head = data[: layout.offset] + first
    count = len(entries).to_bytes(layout.count, layout.order)
    directory = count + b"".join(entry.raw for entry in entries) + bytes(layout.offset)
    return head + data[len(head) :].ljust(at - len(head), b"\0") + directory
