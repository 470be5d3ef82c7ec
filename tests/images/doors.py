"""What comes out of every door for a set of images, under settings of Pillow that other libraries may make.

Run as a program in a process of its own: prints JSON, for no setting and for each of them a digest per door and image.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from PIL import GifImagePlugin, ImageFile, PngImagePlugin

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images import Pages, open_image, preview, size, take, upload
from jinaclip.inputs import Image, as_image
from tests.core import corpus
from tests.core.corpus import chunk, colours, encoded, exif, saved_frames

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP")
POLICY = ImagePolicy(formats=FORMATS)
SECOND = ImagePolicy(formats=FORMATS, frame=1)


def replaced(owner: Any, name: str, value: Any) -> Callable[[], Iterator[None]]:
    """A setting: an attribute with another value."""

    def set_it() -> Iterator[None]:
        before = getattr(owner, name)
        setattr(owner, name, value)
        yield
        setattr(owner, name, before)

    return set_it


def registered(table: dict[str, Any], names: tuple[str, ...], value: Any) -> Callable[[], Iterator[None]]:
    """A setting: other entries of a table, or none of these."""

    def set_it() -> Iterator[None]:
        before = dict(table)
        for name in names:
            table.pop(name, None)
            if value is not None:
                table[name] = value
        yield
        table.clear()
        table.update(before)

    return set_it


def nothing() -> Iterator[None]:
    yield


def broken(*_: Any, **__: Any) -> Any:
    raise RuntimeError("of another library")


CODECS = ("raw", "jpeg", "zip", "gif", "libtiff", "packbits")
SETTINGS: dict[str, Callable[[], Iterator[None]]] = {
    **{f"MAX_IMAGE_PIXELS={v!r}": replaced(PIL.Image, "MAX_IMAGE_PIXELS", v) for v in (None, 0, 700, "x")},
    "LOAD_TRUNCATED_IMAGES": replaced(ImageFile, "LOAD_TRUNCATED_IMAGES", True),
    **{f"MAXBLOCK={v}": replaced(ImageFile, "MAXBLOCK", v) for v in (0, 1, 2**22)},
    **{f"SAFEBLOCK={v!r}": replaced(ImageFile, "SAFEBLOCK", v) for v in (1, 2**30)},
    "ERRORS": replaced(ImageFile, "ERRORS", {}),
    "MAX_TEXT_CHUNK": replaced(PngImagePlugin, "MAX_TEXT_CHUNK", 1),
    "MAX_TEXT_MEMORY": replaced(PngImagePlugin, "MAX_TEXT_MEMORY", 0),
    **{f"LOADING_STRATEGY={v}": replaced(GifImagePlugin, "LOADING_STRATEGY", v) for v in (1, 2, None)},
    "no plugins": registered(PIL.Image.OPEN, (*FORMATS, "MPO"), None),
    "other plugins": registered(PIL.Image.OPEN, (*FORMATS, "MPO"), (broken, lambda prefix: True)),
    "other decoders": registered(PIL.Image.DECODERS, CODECS, broken),
    "init": replaced(PIL.Image, "init", broken),
    "warnings": nothing,
}


def photo() -> PIL.Image.Image:
    """An image whose file is larger than a block of Pillow's, when it is not compressed."""
    return PIL.Image.fromarray(np.kron(colours(6, 8), np.ones((20, 20, 1), np.uint8)))


@cache
def files() -> dict[str, bytes]:
    """Sound files, and files with what Pillow warns of or trips over."""
    plain, photo_png = encoded(colours(), "PNG"), encoded(photo(), "PNG", compress_level=0)
    text = chunk(b"tEXt", b"Comment\0" + b"x" * 5000)
    odd = {256: 40, 257: 30, 65000: "x" * 50, 700: b"<x:xmpmeta/>" * 9}
    tiff = encoded(colours(), "TIFF", tiffinfo=odd)
    return {
        **{form: encoded(photo(), form) for form in ("JPEG", "GIF", "WEBP", "AVIF", "BMP", "TIFF")},
        "PNG": photo_png,
        "grey PNG": encoded(colours()[..., 0], "PNG"),
        "16 bits": encoded(PIL.Image.fromarray(corpus.deep()), "PNG"),
        "palette": corpus.palette(clear=b"\0\xff"),
        "interlaced": encoded(colours(), "GIF"),
        "LZW": encoded(photo(), "TIFF", compression="tiff_lzw"),
        "clear": encoded(colours(30, 40, 4), "WEBP", lossless=True),
        "turned": encoded(colours(), "JPEG", exif=exif(6)),
        "texts": corpus.with_chunk(plain, text),
        "broken animation": corpus.with_chunk(plain, chunk(b"acTL", b"\xff" * 8)),
        "odd EXIF": encoded(colours(), "AVIF", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 50),
        "odd EXIF of a JPEG": encoded(colours(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\1" * 50),
        "odd tags": tiff,
        **{f"frames, {form}": saved_frames(form) for form in ("PNG", "GIF", "WEBP", "TIFF")},
        "disposed": saved_frames("GIF", disposal=2, transparency=0),
        "off canvas": corpus.off_canvas(),
    }


@cache
def damaged() -> dict[str, bytes]:
    """Files that are cut short, or hold nonsense where pixels should be: to be refused, whatever is set."""
    cut = {f"cut {name}": data[: len(data) * 2 // 3] for name, data in files().items() if name in FORMATS}
    jpeg = bytearray(encoded(photo(), "JPEG"))
    at = jpeg.index(b"\xff\xda") + 20
    jpeg[at : at + 40] = b"\xff\xc4" * 20
    png = encoded(colours(), "PNG")
    start, end = png.index(b"IDAT"), png.index(b"IEND") - 4
    short = png[: start - 4] + chunk(b"IDAT", png[start + 4 : end - 1000]) + png[end:]
    return {**cut, "scan of nonsense": bytes(jpeg), "short IDAT": short}


class Drawing:
    """Draws itself as an image that is there, and may not be decoded yet."""

    def __init__(self, image: PIL.Image.Image) -> None:
        self.image = image

    def render(self, max_pixels: int) -> PIL.Image.Image:
        return self.image


def lazy(data: bytes) -> PIL.Image.Image:
    """A PIL image whose pixels are still in its file. It is opened before anything is set."""
    return PIL.Image.open(BytesIO(data))


def member(data: bytes) -> PIL.Image.Image:
    """As `lazy`, of an archive: a file that only its owner can open."""
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("image", data)
    return PIL.Image.open(zipfile.ZipFile(buffer).open("image"))


def prepare(folder: Path, pages: Pages) -> dict[str, Callable[[], Any]]:
    """What is to be done under each setting. Opened anew for each, as an image can be decoded once."""
    doors: dict[str, Callable[[], Any]] = {}
    for name, data in (*files().items(), *damaged().items()):
        path = folder / name.replace(" ", "_")
        if not path.exists():
            path.write_bytes(data)
        doors[f"{name}: path"] = lambda path=path: pixels(Image.from_path(path))
        doors[f"{name}: size"] = lambda path=path: [*size(Image.from_path(path), POLICY)]
        if name.startswith("frames"):
            doors[f"{name}: second"] = lambda data=data: pixels(as_image(data), SECOND)
        if name in FORMATS:
            doors[f"{name}: none"] = lambda data=data: sent(data, "none", None)
            doors[f"{name}: member"] = partial(taken, member(data))
            doors[f"{name}: drawing"] = partial(drawn, lazy(data))
        if name in files():
            doors[f"{name}: lazy"] = partial(taken, lazy(data))
    for name in ("JPEG", "PNG", "scan of nonsense", "short IDAT"):
        data = {**files(), **damaged()}[name]
        doors[f"{name}: bytes"] = lambda data=data: pixels(as_image(data))
        doors[f"{name}: model"] = lambda data=data: sent(data, "model", None)
        doors[f"{name}: quality"] = lambda data=data: sent(data, "pad", 80)
        doors[f"{name}: preview"] = lambda data=data: digest(preview(as_image(data), policy=POLICY, side=16))
        doors[f"{name}: lazy, drawn"] = partial(drawn, lazy(data))
    doors["array"] = lambda: pixels(as_image(colours()))
    doors["array of alpha"] = lambda: sent(colours(30, 40, 4), "model", None)
    page = Image.from_path(folder / "a.pdf")
    doors["page"] = lambda: pixels(as_image(pages.find(page, 1)))
    return doors


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def pixels(image: Any, policy: ImagePolicy = POLICY) -> str:
    opened = open_image(image, policy)
    return f"{opened.size} {digest(opened.tobytes())}"


def taken(image: PIL.Image.Image) -> str:
    return pixels(as_image(take(image)))


def drawn(image: PIL.Image.Image) -> str:
    return pixels(as_image(Drawing(image)))


def sent(value: Any, mode: Any, quality: int | None) -> str:
    return digest(upload(as_image(value), policy=POLICY, mode=mode, side=16, quality=quality).data)


def results(doors: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    return {name: result(door) for name, door in doors.items()}


def result(door: Callable[[], Any]) -> Any:
    try:
        return door()
    except InputError:
        return "InputError"
    except Exception as error:
        return f"raised {error!r}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Pages() as pages:
        warnings.simplefilter("ignore")
        PIL.Image.fromarray(colours()).save(Path(folder) / "a.pdf")
        found = {"": results(prepare(Path(folder), pages))}
        for name, setting in SETTINGS.items():
            doors = prepare(Path(folder), pages)
            with contextmanager(setting)(), warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("error" if name == "warnings" else "always")
                found[name] = results(doors)
            found[name]["warned"] = [str(one.message) for one in warned]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
