"""Decodes WebP files with libwebp, from a container that we have read ourselves."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import PIL.Image
from PIL import ImageFile
from PIL.WebPImagePlugin import WebPImageFile

from jinaclip.errors import InputError
from jinaclip.images.containers import webp


class WebPFile(ImageFile.ImageFile):
    """A WebP file for Pillow, in place of its own reader, which it drives.

    What no frame covers is clear, whether or not the file says that it has alpha. Metadata is not read, the EXIF block
    included: Chromium does not turn WebP images either.

    Raises:
        InputError: its parts do not fit together, or, by `load`, pixels are transparent that were said to be opaque.
    """

    format = "WEBP"
    format_description = "WebP, composed as browsers do"

    def _open(self) -> None:
        stripped = webp.strip(self.fp.read() if self.fp else b"")
        self._reader, self._opaque = WebPImageFile(BytesIO(stripped.data)), stripped.opaque
        self._size, self._mode, self._loaded = self._reader.size, self._reader.mode, False

    @property
    def is_animated(self) -> bool:
        """Whether it has more than one frame."""
        return self._reader.n_frames > 1

    def seek(self, frame: int) -> None:
        """Chooses the frame that is loaded."""
        self._reader.seek(frame)
        self._loaded = False

    def tell(self) -> int:
        """The frame that is chosen, from 0."""
        return self._reader.tell()

    def load(self) -> Any:
        """Decodes the chosen frame, and those before it."""
        if not self._loaded:
            pixels = self._decode()
            self.im, self._mode, self.tile, self._loaded = pixels.im, pixels.mode, [], True
        return super().load()

    def _decode(self) -> PIL.Image.Image:
        self._reader.load()
        if self._reader.mode != "RGBA":
            return self._reader
        alpha = self._reader.getchannel("A")
        if self._opaque and not _is_opaque(alpha.crop(self._opaque)):
            raise InputError("the WEBP file is damaged: it says that it has no alpha, and its pixels have")
        return self._reader.convert("RGB") if _is_opaque(alpha) else self._reader


def _is_opaque(alpha: PIL.Image.Image) -> bool:
    return alpha.getextrema() == (255, 255)
