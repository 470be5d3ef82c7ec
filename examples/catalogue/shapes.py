"""The outlines of the garments, in a plane of their own: x from the middle to the right, y downwards from the shoulder.

A garment is a list of parts, drawn in order. The outline of a symmetrical part is given by its right half, from the
middle of its upper edge to the middle of its lower one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from examples.catalogue.products import Attributes

Point = tuple[float, float]
Points = list[Point]


@dataclass(frozen=True, slots=True)
class Part:
    """A polygon of cloth, a polygon of darker trim, or an open line of seam."""

    points: Points
    kind: str = "cloth"


@dataclass(frozen=True, slots=True)
class Frame:
    """What a picture of a garment shows, the same for all its lengths."""

    top: float
    bottom: float
    shape: Callable[[Attributes, float], list[Part]]


NECK = 0.2
NECKLINES = {
    "round": [(0.0, 0.22), (0.08, 0.2), (0.15, 0.13), (0.19, 0.05), (NECK, 0.0)],
    "v": [(0.0, 0.44), (NECK, 0.0)],
    "square": [(0.0, 0.26), (NECK, 0.26), (NECK, 0.0)],
    "high": [(0.0, -0.17), (0.15, -0.17), (0.17, 0.0)],
    "": [(0.0, 0.1), (NECK, 0.0)],
}
SLEEVES = {"short": 0.42, "long": 1.0}
SHOULDER, ARMPIT = (0.43, 0.06), (0.38, 0.36)
STRAP = [(0.27, 0.0), (0.29, 0.2), (0.36, 0.36)]
SKIRT_HEMS = {"mini": 0.55, "midi": 0.95, "maxi": 1.4}
DRESS_HEMS = {"mini": 1.1, "midi": 1.5, "maxi": 1.95}
TOP_HEMS = {"cropped": 0.68, "full": 1.08}
LEG_HEMS = {"cropped": 0.95, "full": 1.6, "mini": 0.5, "midi": 0.8}


def mirrored(half: Points) -> Points:
    """A closed outline from its right half."""
    return [*half, *((-x, y) for x, y in reversed(half))]


def both(points: Points, kind: str = "cloth") -> list[Part]:
    """A part and its mirror image."""
    return [Part(points, kind), Part([(-x, y) for x, y in points], kind)]


def sleeves(sleeve: str, pose: float, width: float = 0.24) -> list[Part]:
    """Two tubes from the shoulders; the pose is the angle of the arms from the body, in radians."""
    if sleeve not in SLEEVES:
        return []
    length, taper = SLEEVES[sleeve], 0.75 if sleeve == "long" else 0.95
    along, across = (math.sin(pose), math.cos(pose)), (math.cos(pose), -math.sin(pose))
    start = (SHOULDER[0] - 0.12, SHOULDER[1] + 0.1)
    end = (start[0] + along[0] * length, start[1] + along[1] * length)
    corners = [(start, 0.5, 1), (end, 0.5 * taper, 1), (end, 0.5 * taper, -1), (start, 0.5, -1)]
    return both([(x + s * w * width * across[0], y + s * w * width * across[1]) for (x, y), w, s in corners])


def bodice(a: Attributes, hem: float, waist: float, hip: float) -> Part:
    """From the neckline to the hem; straps instead of shoulders where there are no sleeves to hold."""
    arms = STRAP if a.sleeve == "sleeveless" or a.garment == "top" else [SHOULDER, ARMPIT]
    sides = [(waist, 0.72), (hip, hem)] if hem > 0.72 else [(waist + 0.03, hem)]
    return Part(mirrored([*NECKLINES[a.neckline], *arms, *sides, (0.0, hem + 0.02)]))


def legs(hem: float, top: float, width: float, flare: float) -> list[Part]:
    """Two legs from the waist, and a band above them."""
    leg = [(0.0, top), (0.3, top), (0.36, top + 0.3), (0.1 + width + flare, hem), (0.1 + flare, hem), (0.0, top + 0.42)]
    return [
        *both(leg),
        Part(mirrored([(0.0, top - 0.04), (0.31, top - 0.04), (0.31, top + 0.07), (0.0, top + 0.07)]), "trim"),
    ]


def band(y: float, half: float, height: float = 0.1) -> Part:
    """A strip of trim across the body."""
    return Part(mirrored([(0.0, y), (half, y), (half, y + height), (0.0, y + height)]), "trim")


def buttons(x: float, start: float, end: float, count: int) -> list[Part]:
    """Small squares down a line."""
    ys = [start + (end - start) * i / (count - 1) for i in range(count)]
    return [
        Part([(x - 0.03, y - 0.03), (x + 0.03, y - 0.03), (x + 0.03, y + 0.03), (x - 0.03, y + 0.03)], "trim")
        for y in ys
    ]


def lapels(depth: float) -> list[Part]:
    """Two turned-over fronts."""
    return both([(0.0, depth), (0.13, -0.02), (0.3, 0.02), (0.3, 0.22), (0.2, 0.26)], "trim")


def dress(a: Attributes, pose: float) -> list[Part]:
    """Fitted to the waist, then wider to the hem."""
    hem = DRESS_HEMS[a.length]
    return [
        *sleeves(a.sleeve, pose),
        bodice(a, hem, 0.27, 0.3 + 0.2 * hem),
        Part([(-0.27, 0.72), (0.27, 0.72)], "seam"),
    ]


def skirt(a: Attributes, pose: float) -> list[Part]:
    """A waistband and a cone; the pose makes it wider."""
    hem = SKIRT_HEMS[a.length]
    half = [(0.0, 0.0), (0.3, 0.0), (0.38 + 0.2 * hem + 0.15 * pose, hem), (0.0, hem + 0.06)]
    folds = [Part([(x, 0.15), (x * 1.8, hem - 0.05)], "seam") for x in (-0.12, 0.12)]
    return [Part(mirrored(half)), *folds, band(0.0, 0.31, 0.12)]


def t_shirt(a: Attributes, pose: float) -> list[Part]:
    """Straight sides, no bands."""
    return [*sleeves(a.sleeve, pose, 0.3), bodice(a, 1.08, 0.38, 0.38)]


def top(a: Attributes, pose: float) -> list[Part]:
    """Fitted, on straps."""
    return [bodice(a, TOP_HEMS[a.length], 0.29, 0.36 + 0.05 * pose)]


def shirt(a: Attributes, pose: float) -> list[Part]:
    """A turned-down collar, buttons down the front, a chest pocket."""
    collar = both([(0.0, 0.14), (0.13, -0.12), (0.27, 0.02), (0.2, 0.2)], "trim")
    pocket = Part([(0.1, 0.42), (0.28, 0.42), (0.28, 0.6), (0.1, 0.6), (0.1, 0.42)], "seam")
    return [*sleeves(a.sleeve, pose), bodice(a, 1.1, 0.37, 0.38), *collar, *buttons(0.0, 0.26, 1.0, 5), pocket]


def jacket(a: Attributes, pose: float) -> list[Part]:
    """Lapels, a zip, a hem band and two slanted pockets."""
    hem = TOP_HEMS[a.length]
    pockets = both([(0.16, hem - 0.2), (0.27, hem - 0.36)], "seam")
    zip_ = Part([(0.0, 0.3), (0.0, hem)], "seam")
    return [
        *sleeves("long", pose, 0.28),
        bodice(a, hem, 0.4, 0.4),
        *lapels(0.42),
        zip_,
        *pockets,
        band(hem - 0.05, 0.41),
    ]


def coat(a: Attributes, pose: float) -> list[Part]:
    """Long, two rows of buttons, a belt."""
    hem = {"midi": 1.4, "maxi": 1.95}[a.length]
    rows = [part for x in (-0.12, 0.12) for part in buttons(x, 0.5, 1.2, 4)]
    front = Part([(0.0, 0.4), (0.0, hem)], "seam")
    return [
        *sleeves("long", pose, 0.28),
        bodice(a, hem, 0.38, 0.46),
        *lapels(0.46),
        front,
        band(0.78, 0.39, 0.12),
        *rows,
    ]


def trousers(a: Attributes, pose: float) -> list[Part]:
    """Two long legs; the pose spreads them."""
    return legs(LEG_HEMS[a.length], 0.0, 0.24, 0.1 * pose)


def shorts(a: Attributes, pose: float) -> list[Part]:
    """Two short wide legs."""
    return legs(LEG_HEMS[a.length], 0.0, 0.36, 0.08 * pose)


def sweater(a: Attributes, pose: float) -> list[Part]:
    """Wide, with ribbed bands at hem and cuffs."""
    hem = TOP_HEMS[a.length]
    ribs = [Part([(x / 10, hem - 0.12), (x / 10, hem)], "seam") for x in range(-4, 5)]
    tubes = sleeves("long", pose, 0.3)
    cuffs = [Part(_cuff(tube.points), "trim") for tube in tubes]
    return [*tubes, *cuffs, bodice(a, hem, 0.41, 0.42), band(hem - 0.13, 0.43, 0.15), *ribs]


def _cuff(tube: Points) -> Points:
    """The last seventh of a sleeve."""
    (a, b, c, d), part = tube, 0.15
    far = [(p[0] + (q[0] - p[0]) * part, p[1] + (q[1] - p[1]) * part) for p, q in ((b, a), (c, d))]
    return [far[0], b, c, far[1]]


def hoodie(a: Attributes, pose: float) -> list[Part]:
    """A hood behind the neck, a pouch, two cords."""
    hood = Part(mirrored([(0.0, -0.34), (0.16, -0.3), (0.26, -0.16), (0.3, 0.05), (0.0, 0.24)]), "trim")
    pouch = Part([(-0.16, 0.68), (0.16, 0.68), (0.26, 0.98), (-0.26, 0.98), (-0.16, 0.68)], "seam")
    cords = both([(0.06, 0.2), (0.07, 0.5)], "seam")
    return [*sleeves(a.sleeve, pose, 0.3), bodice(a, 1.08, 0.4, 0.4), hood, pouch, *cords]


def jumpsuit(a: Attributes, pose: float) -> list[Part]:
    """A bodice and legs in one, belted."""
    upper = [*sleeves(a.sleeve, pose), bodice(a, 0.8, 0.29, 0.3)]
    hem = {"cropped": 1.5, "full": 2.05}[a.length]
    return [*upper, *legs(hem, 0.76, 0.24, 0.08 * pose)]


FRAMES = {
    "dress": Frame(-0.2, 2.0, dress),
    "skirt": Frame(-0.1, 1.5, skirt),
    "t-shirt": Frame(-0.2, 1.2, t_shirt),
    "top": Frame(-0.2, 1.2, top),
    "shirt": Frame(-0.2, 1.2, shirt),
    "jacket": Frame(-0.1, 1.2, jacket),
    "coat": Frame(-0.1, 2.0, coat),
    "trousers": Frame(-0.1, 1.7, trousers),
    "shorts": Frame(-0.2, 1.1, shorts),
    "sweater": Frame(-0.2, 1.2, sweater),
    "hoodie": Frame(-0.4, 1.2, hoodie),
    "jumpsuit": Frame(-0.2, 2.1, jumpsuit),
}
