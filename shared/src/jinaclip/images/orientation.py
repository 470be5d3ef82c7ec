"""How the EXIF block of a PIL image says that it is turned."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jinaclip.images.containers import orientation

if TYPE_CHECKING:
    import PIL.Image

LYING = 5
"""From this EXIF orientation on, width and height are exchanged."""


def read_orientation(opened: PIL.Image.Image) -> int:
    """The orientation in the EXIF block that Pillow keeps with an image, 1 to 8."""
    exif = opened.info.get("exif")
    return orientation(exif) if isinstance(exif, bytes) else 1
