"""Draws a product: the same bytes for the same product and size, on any machine with the same Pillow."""

from __future__ import annotations

import colorsys
import math
import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from examples.catalogue.products import Product
from examples.catalogue.shapes import FRAMES, Frame, Points

Colour = tuple[int, int, int]

DYES: dict[str, Colour] = {
    "red": (206, 32, 41),
    "orange": (243, 128, 22),
    "yellow": (247, 209, 45),
    "green": (42, 140, 62),
    "turquoise": (38, 194, 182),
    "blue": (38, 78, 186),
    "purple": (122, 48, 152),
    "pink": (244, 132, 178),
    "brown": (117, 71, 38),
    "black": (30, 30, 34),
    "white": (246, 246, 244),
    "grey": (140, 143, 148),
}
OVERSAMPLING = 2
"""Shapes are drawn larger by this and reduced, since Pillow's polygons have hard edges."""
MARGIN = 0.06


@dataclass(frozen=True, slots=True)
class View:
    """How this article was photographed: everything about the picture that no text mentions."""

    pose: float
    scale: float
    turn: float
    shift: tuple[float, float]
    mirror: int
    shade: float
    backdrop: tuple[Colour, Colour]
    pitch: float
    slant: float

    @classmethod
    def of(cls, seed: int) -> View:
        """The view a seed means."""
        rng = random.Random(seed)
        backdrop = rng.random(), rng.uniform(0.02, 0.13), rng.uniform(0.78, 0.95)
        light, dark = (colorsys.hsv_to_rgb(backdrop[0], backdrop[1], backdrop[2] + step) for step in (0.05, -0.08))
        return cls(
            pose=rng.uniform(0.3, 0.85),
            scale=rng.uniform(0.88, 1.04),
            turn=rng.uniform(-0.09, 0.09),
            shift=(rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.05)),
            mirror=rng.choice((-1, 1)),
            shade=rng.uniform(0.92, 1.05),
            backdrop=(_bytes(light), _bytes(dark)),
            pitch=rng.uniform(0.13, 0.16),
            slant=rng.uniform(-0.12, 0.12),
        )


def _bytes(colour: tuple[float, float, float]) -> Colour:
    red, green, blue = (round(255 * min(max(part, 0.0), 1.0)) for part in colour)
    return red, green, blue


def draw(product: Product, size: int = 256) -> Image.Image:
    """The picture of a product, RGB, `size` pixels square."""
    view, frame, side = View.of(product.seed), FRAMES[product.attributes.garment], size * OVERSAMPLING
    parts = frame.shape(product.attributes, view.pose)
    placed = [(part, _place(part.points, frame, view, side)) for part in parts]
    picture = _backdrop(view, side)
    cloth = _cloth(product, view, side)
    main = _shaded(product.attributes.colour, view)
    edge = _edge(main)
    pen, width = ImageDraw.Draw(picture), max(1, side // 110)
    for part, points in placed:
        if part.kind == "cloth":
            _fill(picture, cloth, points)
            pen.line([*points, points[0]], fill=edge, width=width, joint="curve")
        elif part.kind == "trim":
            pen.polygon(points, fill=_trim(main), outline=edge, width=width)
        else:
            pen.line(points, fill=edge, width=width, joint="curve")
    return picture.resize((size, size), Image.Resampling.BOX)


def _place(points: Points, frame: Frame, view: View, side: int) -> Points:
    """From the plane of the garment to pixels: scaled to the frame, mirrored, turned and shifted."""
    unit = side * (1 - 2 * MARGIN) * view.scale / max(frame.bottom - frame.top, 1.7)
    middle, (sin, cos) = (frame.top + frame.bottom) / 2, (math.sin(view.turn), math.cos(view.turn))
    centre = [side * (0.5 + shift) for shift in view.shift]
    flat = [(view.mirror * x * unit, (y - middle) * unit) for x, y in points]
    return [(centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in flat]


def _fill(picture: Image.Image, cloth: Image.Image, points: Points) -> None:
    """Cuts a part out of the cloth."""
    mask = Image.new("1", picture.size)
    ImageDraw.Draw(mask).polygon(points, fill=1)
    picture.paste(cloth, mask=mask)


def _backdrop(view: View, side: int) -> Image.Image:
    """A wall lit from above."""
    ramp = Image.linear_gradient("L").resize((side, side))
    light, dark = (Image.new("RGB", (side, side), colour) for colour in view.backdrop)
    return Image.composite(dark, light, ramp)


def _cloth(product: Product, view: View, side: int) -> Image.Image:
    """The whole canvas as woven: the main colour, with less than half of it in the second."""
    a = product.attributes
    cloth = Image.new("RGB", (side, side), _shaded(a.colour, view))
    if a.pattern != "plain":
        second = Image.new("RGB", (side, side), _shaded(a.second_colour, view))
        cloth.paste(second, mask=Image.fromarray(_weave(a.pattern, view, side)))
    return cloth


def _weave(pattern: str, view: View, side: int) -> NDArray[np.bool_]:
    """(side, side): where the second colour is."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / (side * view.pitch)
    sin, cos = math.sin(view.slant), math.cos(view.slant)
    across, down = (x * cos - y * sin) % 1, (x * sin + y * cos) % 1
    if pattern == "striped":
        return down < 0.42
    if pattern == "dotted":
        return (across - 0.5) ** 2 + (down - 0.5) ** 2 < 0.35**2
    return (across < 0.27) | (down < 0.27)


def _shaded(name: str, view: View) -> Colour:
    return _bytes(tuple(part * view.shade / 255 for part in DYES[name]))  # type: ignore[arg-type]


def _trim(colour: Colour) -> Colour:
    """Darker than its cloth, or lighter where the cloth is nearly black."""
    return _mixed(colour, (255, 255, 255), 0.2) if sum(colour) < 150 else _mixed(colour, (0, 0, 0), 0.18)


def _edge(colour: Colour) -> Colour:
    return _mixed(colour, (255, 255, 255), 0.35) if sum(colour) < 150 else _mixed(colour, (0, 0, 0), 0.55)


def _mixed(colour: Colour, other: Colour, part: float) -> Colour:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(colour, other, strict=True))
    return red, green, blue
