"""Decodes PNG files with Pillow, and composes the frames of animated ones as browsers do."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
from PIL import ImageFile
from PIL.PngImagePlugin import PngImageFile

from jinaclip.images.containers.apng import PREVIOUS, Frame, read_frames
from jinaclip.images.containers.png import check_stream
from jinaclip.images.containers.refusals import ambiguous, damaged

_CLEAR = (0, 0, 0, 0)


class PngFile(PngImageFile):
    """A PNG file for Pillow's own reader, which leaves two things out.

    Raises:
        InputError: by `load`, its pixels end too early, or have colours that are not in its palette.
    """

    def load_prepare(self) -> None:
        """Called by Pillow before it decodes."""
        self._colours = len(self.palette.palette) // 3 if self.mode == "P" and self.palette else 256
        self._file = self.fp
        super().load_prepare()

    def load_end(self) -> None:
        """Called by Pillow after it has decoded."""
        super().load_end()
        if self._colours < 256 and any(self.histogram()[self._colours :]):
            raise ambiguous("PNG", "it has pixels of a colour that is not in its palette")
        if self._may_lack_rows() and self._file:
            self._file.seek(0)
            check_stream(self._file.read())

    def _may_lack_rows(self) -> bool:
        """Whether pixels may be missing: Pillow leaves them 0, and says nothing if they end with a row."""
        box = (0, self.height - 1, self.width, self.height)
        last = self.resize((self.width, 1), PIL.Image.Resampling.NEAREST, box)  # crop looks at MAX_IMAGE_PIXELS
        return bool(self.info.get("interlace")) or not np.asarray(last).any()


class AnimatedPngFile(ImageFile.ImageFile):
    """An animated PNG file for Pillow, in place of its own reader, for frames after the first.

    Raises:
        InputError: the file is damaged, or, by `seek` and `load`, one of its frames is.
    """

    format = "PNG"
    format_description = "PNG, composed as browsers do"

    def _open(self) -> None:
        self._following = read_frames(self.fp.read() if self.fp else b"")
        frame = next(self._following, None)
        self._frames = [frame] if frame else []
        self._size, self._mode = (frame.box[2:] if frame else (1, 1)), "RGBA"
        self._shown, self._composed = 0, False

    def seek(self, frame: int) -> None:
        """Chooses the frame that is loaded."""
        while len(self._frames) <= frame:
            following = next(self._following, None)
            if following is None:
                raise EOFError
            if following.box[2] > self.width or following.box[3] > self.height:
                raise damaged("PNG", f"frame {len(self._frames)} is larger than its canvas")
            self._frames.append(following)
        self._shown, self._composed = frame, False

    def tell(self) -> int:
        """The frame that is chosen, from 0."""
        return self._shown

    def load(self) -> Any:
        """Composes the chosen frame with those before it."""
        if not self._composed:
            canvas = PIL.Image.new("RGBA", self.size, _CLEAR)
            for frame in self._frames[: self._shown]:
                before = canvas.crop(frame.box) if frame.disposal == PREVIOUS and frame is not self._frames[0] else None
                _draw(frame, canvas)
                if before or frame.disposal != 0:
                    canvas.paste(before or _CLEAR, frame.box)
            _draw(self._frames[self._shown], canvas)
            self.im, self._mode, self.tile, self._composed = canvas.im, canvas.mode, [], True
        return super().load()


def _draw(frame: Frame, canvas: PIL.Image.Image) -> None:
    pixels = _decode(frame.file)
    if frame.overlays:
        canvas.alpha_composite(pixels, frame.box[:2])
    else:
        canvas.paste(pixels, frame.box)


def _decode(file: bytes) -> PIL.Image.Image:
    opened = PngFile(BytesIO(file))
    if opened.mode != "I;16":
        return opened.convert("RGBA")
    values = np.asarray(opened)
    pixels = PIL.Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGBA")
    clear = opened.info.get("transparency")
    if clear is not None:
        pixels.putalpha(PIL.Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return pixels
