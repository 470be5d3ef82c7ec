"""Files with two faces: those that would show one image to people and another to the model.

Files are tampered with by their structure. What we make of one is compared with what Pillow makes of it by a plain
road, and, by `make browser`, with what Chromium shows.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
from PIL import ImageOps

from jinaclip import Image, ImagePolicy, InputError
from jinaclip.images import open_image
from jinaclip.images.containers import sniff
from tests.fuzz.structure import FORMS, Part, mutate_structure, split_gif, split_png, split_webp
from tests.images.cases import SAME, Crafted
from tests.images.crafted import crafted_files

POLICY = ImagePolicy(max_pixels=10**6)
LEVELS = {"JPEG": 3, "PNG": 1, "WEBP": 1, "GIF": 0}
"""Most levels between two programs that show the same image: they round otherwise."""


@cache
def _sound_files() -> dict[str, list[Crafted]]:
    """Files of which we show what the browser does."""
    files = [file for file in crafted_files() if file.ours == SAME and not file.frame]
    return {form: [file for file in files if file.form == form] for form in FORMS}


def mutated_file(draw: random.Random) -> bytes:
    form = draw.choice(list(FORMS))
    first, second = draw.choices(_sound_files()[form], k=2)
    return mutate_structure(form, first.data, second.data, draw)


def see(data: bytes) -> Any:
    """Our pixels, uint8 of shape (height, width, 3), or None if we refuse the file."""
    try:
        return np.asarray(open_image(Image.from_bytes(data), POLICY))
    except InputError:
        return None


def see_plainly(data: bytes) -> Any:
    """What Pillow shows of the file as it came, or None if it refuses it: the first frame, upright, on white.

    A GIF is its frame at its place, as Pillow fills the rest with a colour of the palette.
    """
    try:
        with PIL.Image.open(BytesIO(data)) as opened:
            box = opened.tile[0][1] if opened.format == "GIF" else None
            opened.load()
            pixels = _to_8_bits(opened) if opened.mode.startswith("I") else opened.convert("RGBA")
            turned = pixels if opened.format == "WEBP" else ImageOps.exif_transpose(_with_exif(pixels, opened))
    except Exception:
        return None
    page = PIL.Image.new("RGBA", turned.size, "white")
    page.alpha_composite(turned.crop(box) if box else turned, box[:2] if box else (0, 0))
    return np.asarray(page.convert("RGB"))


def _to_8_bits(opened: PIL.Image.Image) -> PIL.Image.Image:
    values = np.asarray(opened).astype(np.uint32)
    pixels = PIL.Image.fromarray((values >> 8).astype(np.uint8)).convert("RGBA")
    if "transparency" in opened.info:
        pixels.putalpha(PIL.Image.fromarray(np.where(values == opened.info["transparency"], 0, 255).astype(np.uint8)))
    return pixels


def _with_exif(pixels: PIL.Image.Image, opened: PIL.Image.Image) -> PIL.Image.Image:
    if exif := opened.info.get("exif"):
        pixels.info["exif"] = exif
    return pixels


def compare(ours: Any, theirs: Any, data: bytes) -> str:
    """How two faces of a file differ; empty if they do not."""
    if theirs is None:
        return "the other refuses it"
    if ours.shape != theirs.shape:
        return f"ours is of shape {ours.shape}, the other's of {theirs.shape}"
    most = int(np.abs(ours.astype(int) - theirs).max())
    form = sniff(data) or ""
    return f"up to {most} levels between them" if most > LEVELS[form] else ""


def _first_frame(data: bytes) -> tuple[bytes, list[Part], bytes]:
    """Of a GIF: the global palette, the blocks before the first frame, and the frame's own palette."""
    parts = split_gif(data)
    at = next(number for number, part in enumerate(parts) if part.kind == b",")
    return parts[0].body[13:], parts[1:at], parts[at].body[9:-1]


def _has_grey_local_palette(data: bytes) -> bool:
    if sniff(data) != "GIF":
        return False
    shared, _, own = _first_frame(data)
    return bool(shared and own) and all(own[at] == at // 3 for at in range(len(own)))


def _has_two_controls(data: bytes) -> bool:
    if sniff(data) != "GIF":
        return False
    return sum(part.body[:1] == b"\xf9" for part in _first_frame(data)[1]) > 1


def _has_uncovered_canvas(data: bytes) -> bool:
    """A WebP animation that names no alpha."""
    if sniff(data) != "WEBP":
        return False
    first = split_webp(data)[0]
    return first.kind == b"VP8X" and first.body[0] & 0x12 == 2


def _has_clear_grey(data: bytes) -> bool:
    """Of 2 or 4 bits."""
    if sniff(data) != "PNG":
        return False
    parts = split_png(data)
    return parts[0].body[8] in (2, 4) and parts[0].body[9] == 0 and any(part.kind == b"tRNS" for part in parts)


def _has_odd_turn(data: bytes) -> bool:
    """An orientation that is not one short number, or that stands in a block of another name."""
    blocks = [part.body for part in FORMS[sniff(data) or ""][0](data) if part.kind in (b"\xe1", b"eXIf")]
    usual = (b"\x12\1\3\0\1\0\0\0", b"\1\x12\0\3\0\0\0\1")
    return any(b"\x12" in body and not any(entry in body for entry in usual) for body in blocks) or any(
        body.lower().startswith(b"exif") and not body.startswith(b"Exif\0\0") for body in blocks
    )


PILLOWS_OWN: dict[str, Callable[[bytes], bool]] = {
    "takes the global palette for a local one of greys": _has_grey_local_palette,
    "adds up the control blocks of a GIF, of which the last one counts": _has_two_controls,
    "shows black where no frame of a WebP animation lies, if the file names no alpha": _has_uncovered_canvas,
    "turns by an EXIF entry of another type, and not by a block of another name": _has_odd_turn,
    "does not scale the clear level of PNG files of 2 or 4 bits": _has_clear_grey,
}
"""Where Pillow is known not to show what browsers do, and we do."""


def is_blank_in_chromium(theirs: Any, data: bytes) -> bool:
    """A lossy WebP whose first partition is used up by its header.

    Chromium decodes piece by piece, and libwebp then gives up where it goes on otherwise. It is known of images of a
    few blocks of 16 x 16 pixels alone, as each takes bits of that partition.
    """
    lossy = [part.body for part in split_webp(data) if part.kind == b"VP8 "] if sniff(data) == "WEBP" else []
    return bool(lossy) and int.from_bytes(lossy[0][:3], "little") >> 5 < 64 and bool((theirs == 255).all())


def find_other_face(data: bytes) -> str:
    """How our pixels differ from those of Pillow's plain road, unless that is known; empty if we refuse the file."""
    ours = see(data)
    if ours is None:
        return ""
    theirs = see_plainly(data)
    problem = "" if theirs is None else compare(ours, theirs, data)
    return "" if problem and any(is_known(data) for is_known in PILLOWS_OWN.values()) else problem
