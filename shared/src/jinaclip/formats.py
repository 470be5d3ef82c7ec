"""Formats of image files: the names that `image_policy.formats` may list, how files look, what helps with others."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

KNOWN = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP")
"""Formats that are read without a look at what is registered with Pillow."""
USUAL = ("JPEG", "PNG", "WEBP", "GIF")
"""Formats that are accepted unless others are named. Not looked up: a policy is made long before Pillow is loaded."""
FEATURES = {"WEBP": "webp", "AVIF": "avif"}
"""Formats that Pillow may be built without, and Pillow's names for them."""
OTHER_NAMES = {
    "JPG": "JPEG",
    "JPE": "JPEG",
    "JFIF": "JPEG",
    "MPO": "JPEG",
    "TIF": "TIFF",
    "APNG": "PNG",
    "AVIFS": "AVIF",
    "JP2": "JPEG2000",
    "J2K": "JPEG2000",
    "JPX": "JPEG2000",
}
_HEIF = (
    "pip install pillow-heif, call pillow_heif.register_heif_opener() before this, and list "
    'image_policy.formats=(..., "HEIF")'
)
_JXL = 'pip install pillow-jxl-plugin, import pillow_jxl before this, and list image_policy.formats=(..., "JXL")'
_SVG = "SVG is a drawing without pixels: render it to PNG first, with cairosvg or resvg for example"
_PDF = 'pass its pages, which jinaclip.Pdf(path) gives, with pip install "jinaclip[pdf]"'
_VIDEO = "take a frame of it first, with PyAV or OpenCV for example, and pass that as an array"
PACKAGES = {"HEIF": _HEIF, "HEIC": _HEIF, "JXL": _JXL, "SVG": _SVG, "PDF": _PDF}
"""What helps with a format that Pillow does not read by itself."""


def find_problem(names: Any) -> str | None:
    """What a value of `image_policy.formats` should be, in words, or None if it is fine.

    Pillow is loaded only where a name is not one of `USUAL`.
    """
    if not isinstance(names, tuple | list) or not names or not all(isinstance(name, str) for name in names):
        return 'a tuple of Pillow\'s format names, such as ("JPEG", "PNG")'
    problems = (_problem_of(name.upper()) for name in names)
    return next((f"names of formats that Pillow reads here; {problem}" for problem in problems if problem), None)


def _problem_of(name: str) -> str | None:
    if name in USUAL or is_readable(name):
        return None
    if name in PACKAGES:
        return f"for {name!r}: {PACKAGES[name]}"
    if name in KNOWN:
        return f"Pillow was built without {name} on this machine; its wheels from PyPI have it: pip install -U pillow"
    from PIL import Image

    names = sorted({*KNOWN, *Image.OPEN, *OTHER_NAMES})
    close = OTHER_NAMES.get(name) or next(iter(difflib.get_close_matches(name, names, 1)), None)
    if close is not None:
        return f"{name[:40]!r} is none; did you mean {OTHER_NAMES.get(close, close)!r}?"
    return f"{name[:40]!r} is none; a plugin for it has to be registered with Pillow before this"


def is_readable(name: str) -> bool:
    """Whether Pillow reads a format in this process, by itself or by a plugin that was registered with it."""
    if name in FEATURES:
        from PIL import features

        return bool(features.check(FEATURES[name]))
    return name in KNOWN or registered_name(name) is not None


def registered_name(name: str) -> str | None:
    """The name under which Pillow has a plugin for a format, or None. HEIC and HEIF are one format."""
    from PIL import Image

    names = {"HEIC": ("HEIC", "HEIF"), "HEIF": ("HEIF", "HEIC")}.get(name, (name,))
    if not any(one in Image.OPEN for one in names):
        Image.init()
    return next((one for one in names if one in Image.OPEN), None)


class Look(NamedTuple):
    """How a kind of file looks.

    Attributes:
        format: its name in `image_policy.formats`; None if no such file is an image.
        name: for messages.
        fits: whether a file looks like this, going by its first bytes.
        help: what its owner may do.
    """

    format: str | None
    name: str
    fits: Callable[[bytes], bool]
    help: str


def find_look(data: bytes) -> Look | None:
    """What a file looks like by its first bytes, or None."""
    head = data[:4096]
    return next((look for look in LOOKS if look.fits(head)), None)


def describe(data: bytes, accepted: Iterable[str]) -> str:
    """Why a file is not accepted, and what helps. To follow "the image is"."""
    listed, look = tuple(accepted), find_look(data)
    formats = f"image_policy.formats={listed}"
    if look is None:
        return f"none of {listed}, going by its content; convert it first"
    if look.format in KNOWN and look.format not in listed:
        return f"{look.format}, which is not among {formats}, going by its content; {look.help}"
    return f"none of {formats}: it looks like {look.name}, going by its content; {look.help}"


def _begins(*starts: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(starts)


def _tag(*names: bytes) -> Callable[[bytes], bool]:
    """Whether a file begins with one of these elements, after a declaration and comments."""
    pattern = re.compile(
        rb"(?:\xef\xbb\xbf)?(?:\s|<\?[^>]{0,500}\?>|<!--.{0,2000}?-->|<!DOCTYPE\s+(?!html)[^>\[]{0,500}>)*<(?:"
        + b"|".join(names)
        + rb")[\s>/]",
        re.IGNORECASE | re.DOTALL,
    )
    return lambda head: pattern.match(head) is not None


def _riff(kind: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[:4] == b"RIFF" and head[8:12] == kind


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    """Whether a file of the ISO base media format (HEIF, AVIF, MP4) has one of these brands."""

    def fits(head: bytes) -> bool:
        if head[4:8] != b"ftyp":
            return False
        end = min(len(head), int.from_bytes(head[:4]))
        named = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
        return bool(named & {*brands})

    return fits


def _is_bmp(head: bytes) -> bool:
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in (12, 16, 40, 52, 56, 64, 108, 124)


def _is_base64(head: bytes) -> bool:
    return re.match(rb"\s*(?:data:image/|/9j/|iVBORw0KGgo|R0lGOD|UklGR)[\w+/=;,-]{16,}", head) is not None


def _is_text(head: bytes) -> bool:
    """Whether it is UTF-8 without control characters. A character may be cut at the end of the head."""
    text = head.decode("utf-8", "ignore")
    return len(text.encode()) >= len(head) - 3 and re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]", text) is None


def _list(name: str) -> str:
    return f'convert it first, or list it: image_policy.formats=(..., "{name}")'


LOOKS = (
    Look("JPEG", "a JPEG", _begins(b"\xff\xd8\xff"), _list("JPEG")),
    Look("PNG", "a PNG", _begins(b"\x89PNG\r\n\x1a\n"), _list("PNG")),
    Look("GIF", "a GIF", _begins(b"GIF87a", b"GIF89a"), _list("GIF")),
    Look("WEBP", "a WebP", _riff(b"WEBP"), _list("WEBP")),
    Look("AVIF", "an AVIF", _brand(b"avif", b"avis"), _list("AVIF")),
    Look(
        "HEIF",
        "HEIC or HEIF, as phones take photos",
        _brand(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"),
        f"convert it first, or {_HEIF}",
    ),
    Look("TIFF", "a TIFF", _begins(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), _list("TIFF")),
    Look("BMP", "a BMP", _is_bmp, _list("BMP")),
    Look(
        "JPEG2000",
        "a JPEG 2000",
        _begins(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
        _list("JPEG2000"),
    ),
    Look("JXL", "a JPEG XL", _begins(b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"), f"convert it first, or {_JXL}"),
    Look("ICO", "an icon", _begins(b"\0\0\1\0"), _list("ICO")),
    Look("PSD", "a Photoshop file", _begins(b"8BPS"), "export it as PNG first"),
    Look(None, "PostScript", _begins(b"%!PS", b"\xc5\xd0\xd3\xc6"), "render it to PNG first"),
    Look(None, "a PDF", lambda head: b"%PDF-" in head[:1024], _PDF),
    Look(None, "an SVG", _tag(b"svg", rb"!DOCTYPE\s+svg"), _SVG),
    Look(
        None,
        "an HTML page",
        _tag(rb"!DOCTYPE\s+html", b"html", b"head", b"body", b"script", b"title", b"div"),
        "is this the address of a page, or an error of its server? pass the address of the image on it",
    ),
    Look(None, "XML", _begins(b"<?xml", b"\xef\xbb\xbf<?xml"), "is it an error that a server answered?"),
    Look(
        None,
        "a pointer of git-lfs, not the file it stands for",
        _begins(b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/"),
        "get the files with git lfs pull",
    ),
    Look(None, "a video (MP4 or MOV)", lambda head: head[4:8] in (b"ftyp", b"moov", b"wide"), _VIDEO),
    Look(None, "a video (WebM or Matroska)", _begins(b"\x1aE\xdf\xa3"), _VIDEO),
    Look(None, "a video (AVI)", _riff(b"AVI "), _VIDEO),
    Look(None, "a sound (WAV)", _riff(b"WAVE"), "images and texts can be embedded"),
    Look(None, "a ZIP archive, or a document of an office program", _begins(b"PK\3\4"), "take the image out of it"),
    Look(
        None,
        "a compressed file",
        _begins(b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"7z\xbc\xaf\x27\x1c", b"Rar!", b"\x28\xb5\x2f\xfd"),
        "unpack it first",
    ),
    Look(None, "base64 of an image", _is_base64, "pass Image.from_base64(...)"),
    Look(
        None,
        "JSON",
        lambda head: re.match(rb"(?:\xef\xbb\xbf)?\s*[\[{]\s*[\"\[{\]}\d]", head) is not None and _is_text(head),
        "is it an error that a server answered?",
    ),
    Look(None, "zeros and nothing else", lambda head: bool(head) and not head.strip(b"\0"), "get the file again"),
    Look(None, "blank text", lambda head: not head.strip(), "get the file again"),
    Look(None, "text", _is_text, "a text goes through embed_documents"),
)
"""What a file may look like, the first that fits."""
