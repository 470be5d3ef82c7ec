"""Decodes GIF files and composes their frames as browsers do. Of Pillow's reader only the decompression is used."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import PIL.Image
from PIL import ImageChops, ImageFile

from jinaclip.errors import InputError
from jinaclip.images.containers.gif import BACKGROUND, PREVIOUS, Blocks, Frame

_CLEAR = (0, 0, 0, 0)


class GifFile(ImageFile.ImageFile):
    """A GIF file for Pillow, in place of its own reader.

    What no frame covers is clear, whatever background colour the file names. The canvas is the file's screen, or larger
    if the first frame is; later frames are cut to it. `load` raises OSError if the data of a frame is damaged or cut
    short; what it had by then is kept, and a second `load` gives it.

    Raises:
        InputError: the blocks of the file up to its first frame make no sense.
    """

    format = "GIF"
    format_description = "GIF, composed as browsers do"

    def _open(self) -> None:
        self._blocks = Blocks(self.fp.read() if self.fp else b"")
        self._following = self._blocks.frames()
        self._frames = [frame] if (frame := next(self._following, None)) else []
        if not self._frames:
            raise InputError("the GIF file holds no image")
        (width, height), (_, _, right, lower) = self._blocks.screen, self._frames[0].box
        self._size, self._mode = (max(width, right), max(height, lower)), "RGBA"
        self._shown, self._composed = 0, False

    @property
    def is_animated(self) -> bool:
        """Whether anything follows the first frame that may be another one."""
        try:
            return self._has(1)
        except InputError:
            return True

    def _has(self, number: int) -> bool:
        """Whether the file has so many frames after the first."""
        while len(self._frames) <= number:
            frame = next(self._following, None)
            if frame is None:
                return False
            if frame.size[0] * frame.size[1] > self.width * self.height:
                raise InputError(f"frame {len(self._frames)} of the GIF file is larger than its canvas")
            self._frames.append(frame)
        return True

    def seek(self, frame: int) -> None:
        """Chooses the frame that is loaded."""
        if not self._has(frame):
            raise EOFError
        self._shown, self._composed = frame, False

    def tell(self) -> int:
        """The frame that is chosen, from 0."""
        return self._shown

    def load(self) -> Any:
        """Composes the chosen frame with those before it."""
        if not self._composed:
            self._composed = True
            canvas = PIL.Image.new("RGBA", self.size, _CLEAR)
            try:
                self._compose(canvas)
            finally:
                if canvas.getchannel("A").getextrema() == (255, 255):
                    canvas = canvas.convert("RGB")
                self.im, self._mode, self.tile = canvas.im, canvas.mode, []
        return super().load()

    def _compose(self, canvas: PIL.Image.Image) -> None:
        for frame in self._frames[: self._shown]:
            before = canvas.crop(frame.box) if frame.disposal == PREVIOUS else None
            self._draw(frame, canvas)
            if before:
                canvas.paste(before, frame.box)
            elif frame.disposal == BACKGROUND:
                canvas.paste(_CLEAR, frame.box)
        self._draw(self._frames[self._shown], canvas)

    def _draw(self, frame: Frame, canvas: PIL.Image.Image) -> None:
        """Draws a frame, or what can be decoded of it before this raises OSError."""
        indices = PIL.Image.new("L", frame.size)
        seen = None
        try:
            self._decode(frame, indices)
        except ValueError as error:
            seen = self._find_decoded(frame, indices)
            raise OSError(str(error)) from None
        finally:
            visible = indices.point([255 * (index != frame.clear) for index in range(256)])
            if seen:
                visible = ImageChops.darker(visible, seen)
            indices.putpalette(frame.colours.ljust(768, b"\0"))
            canvas.paste(indices.convert("RGB"), frame.box, visible)

    def _decode(self, frame: Frame, indices: PIL.Image.Image) -> None:
        end = self._blocks.find_end(frame.start)
        data = memoryview(self._blocks.data)[frame.start : end]
        indices.frombytes(data, "gif", (frame.code_size, frame.interlaced, -1))

    def _find_decoded(self, frame: Frame, indices: PIL.Image.Image) -> PIL.Image.Image:
        """255 where the data reached. There, and only there, it gives the same on another ground."""
        again = PIL.Image.new("L", frame.size, 255)
        with suppress(ValueError):
            self._decode(frame, again)
        return ImageChops.difference(indices, again).point([255, *[0] * 255])
