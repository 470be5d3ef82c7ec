"""Reads the blocks of GIF files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinaclip.errors import InputError

MAX_BLOCKS = 100_000
"""Most blocks that are walked: images, the control blocks before them, other extensions."""
MAX_SUB_BLOCKS = 1_000_000
"""Most sub-blocks. One holds up to 255 bytes, so that files with as many are made to cost time."""
CODE_SIZES = range(2, 9)
BACKGROUND, PREVIOUS = 2, 3
"""Disposals: once a frame was shown, its area becomes clear, or what it was before."""
_IMAGE, _EXTENSION, _TRAILER, _CONTROL = 0x2C, 0x21, 0x3B, 0xF9


@dataclass(frozen=True, slots=True)
class Frame:
    """One image block, and the control block before it.

    Attributes:
        box: left, top, right and lower edge on the canvas.
        colours: red, green and blue of each index.
        clear: the index that shows what is below.
        disposal: BACKGROUND, PREVIOUS, or 0 to leave the frame.
        interlaced: whether its rows are stored in four passes.
        code_size: bits of its indices.
        start: where its sub-blocks begin in the file.
    """

    box: tuple[int, int, int, int]
    colours: bytes
    clear: int | None
    disposal: int
    interlaced: bool
    code_size: int
    start: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        left, top, right, lower = self.box
        return right - left, lower - top


class Blocks:
    """The blocks of a GIF file, one after the other.

    Raises:
        InputError: the file is cut short, or holds what no reader is to guess about.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self._at, self._blocks, self._sub_blocks = data, 6, 0, 0
        self.screen, self._colours = self._read_screen()

    def _read_screen(self) -> tuple[tuple[int, int], bytes]:
        """Width and height of the canvas, and the global palette."""
        head = self._take(7)
        size = int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little")
        return size, self._read_colours(head[4])

    def _read_colours(self, flags: int) -> bytes:
        return self._take(3 << (flags & 7) + 1) if flags & 0x80 else b""

    def _take(self, count: int) -> bytes:
        taken = self.data[self._at : self._at + count]
        if len(taken) < count:
            raise InputError("the GIF file is cut short; get it whole")
        self._at += count
        return taken

    def frames(self) -> Iterator[Frame]:
        """The frames up to the trailer, or up to the end of the file."""
        clear, disposal = None, 0
        while self._at < len(self.data):
            self._blocks = count(self._blocks, MAX_BLOCKS)
            kind = self._take(1)[0]
            if kind == _TRAILER:
                return
            if kind == _IMAGE:
                yield self._read_frame(clear, disposal)
                self._at = self.find_end(self._at)
                clear, disposal = None, 0
            elif kind != _EXTENSION:
                raise InputError(f"the GIF file is damaged: byte {self._at - 1} begins no block")
            elif self._take(1)[0] == _CONTROL:
                clear, disposal = self._read_control()
            else:
                self._at = self.find_end(self._at)

    def _read_control(self) -> tuple[int | None, int]:
        """The transparent index and the disposal."""
        size, flags, *_, clear, end = self._take(6)
        if (size, end) != (4, 0):
            raise InputError("the GIF file is damaged: a graphic control extension must hold 4 bytes")
        disposal = flags >> 2 & 7
        return clear if flags & 1 else None, {2: BACKGROUND, 3: PREVIOUS, 4: PREVIOUS}.get(disposal, 0)

    def _read_frame(self, clear: int | None, disposal: int) -> Frame:
        head = self._take(9)
        left, top, width, height = (int.from_bytes(head[at : at + 2], "little") for at in (0, 2, 4, 6))
        if width < 1 or height < 1:
            raise InputError(f"a frame of the GIF file is {width} x {height} pixels, which is no area")
        colours = self._read_colours(head[8]) or self._colours
        if not colours:
            raise InputError("the GIF file has no palette; viewers do not agree on its colours")
        code_size = self._take(1)[0]
        if code_size not in CODE_SIZES:
            raise InputError(f"the GIF file is damaged: its code size is {code_size}, not 2 to 8")
        box = left, top, left + width, top + height
        return Frame(box, colours, clear, disposal, bool(head[8] & 0x40), code_size, self._at)

    def find_end(self, at: int) -> int:
        """Where the sub-blocks end that begin at `at`; the length of the file if it is cut short there."""
        data = self.data
        while at < len(data) and (size := data[at]):
            at += size + 1
            self._sub_blocks = count(self._sub_blocks, MAX_SUB_BLOCKS)
        return min(at + 1, len(data))


def count(walked: int, most: int) -> int:
    """One more. Raises InputError if that is more than there may be."""
    if walked == most:
        raise InputError(f"the GIF file has over {most:,} blocks, which no encoder makes")
    return walked + 1
