"""Draws the frames of an animation one after the other, as browsers do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import PIL.Image

from jinaclip.images.readers.base import Size

After = Literal["keep", "clear", "restore"]
"""What becomes of the place of a frame before the next is drawn."""
CLEAR = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    Attributes:
        box: left, top, right and bottom of where it stands; what lies outside the canvas is not shown.
        decode: gives its pixels as RGBA.
        after: what becomes of its place before the next is drawn.
        blend: how it is drawn. "over": laid over what is there; "stencil": the same for pixels that are either clear or
            not; "replace": instead of what is there, its clear pixels too.
    """

    box: tuple[int, int, int, int]
    decode: Callable[[], PIL.Image.Image]
    after: After = "keep"
    blend: Literal["over", "stencil", "replace"] = "over"


def draw(size: Size, frames: Iterable[Frame]) -> PIL.Image.Image:
    """The canvas, RGBA, as it is while the last of the frames is shown."""
    canvas, saved, last = PIL.Image.new("RGBA", size, CLEAR), None, None
    for frame in frames:
        if last is not None and last.after == "clear":
            canvas.paste(CLEAR, last.box)
        elif saved is not None:
            canvas = saved
        saved, last = canvas.copy() if frame.after == "restore" else None, frame
        canvas = _draw_one(canvas, frame)
    return canvas


def _draw_one(canvas: PIL.Image.Image, frame: Frame) -> PIL.Image.Image:
    pixels = frame.decode()
    if frame.blend != "over":
        canvas.paste(pixels, frame.box, pixels if frame.blend == "stencil" else None)
        return canvas
    layer = PIL.Image.new("RGBA", canvas.size, CLEAR)  # and not canvas.alpha_composite, which may refuse large parts
    layer.paste(pixels, frame.box)
    return PIL.Image.alpha_composite(canvas, layer)
