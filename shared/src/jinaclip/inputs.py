"""The kinds of input, Text, Image and Pair, and how what callers pass becomes one of them."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, Union
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from jinaclip.errors import InputError
from jinaclip.vectors import check_weight

if TYPE_CHECKING:
    import PIL.Image

ImageKind = Literal["path", "url", "bytes", "pil", "array", "drawable"]
DATA_HEADER = 256
"""Longest header of a data: URI; longer ones are not headers."""
LONGEST_SHOWN = 200
"""Longest name of an image that is shown whole."""
_LETTER, _GAP = r"[A-Za-z0-9+/=_%-]", r"(?:\s|\\[nr])+"
ENCODED_IMAGE = re.compile(
    # the header of a data: URI, or how JPEG, PNG, GIF and WebP begin; JSON has its line breaks as \n
    rf"(?:(?i:data:(?:image/|application/octet-stream|;)[^,\s]{{0,250}},)(?:{_GAP})?"
    r"|(?=(?:(?<![A-Za-z0-9])|(?<=\\n))[/_]9j[/_]|iVBORw0KGgo|R0lGOD|UklGR))"
    # lines of base64, and one that is not full where it stands alone; or all of it in one,
    # where percent encoding keeps . and ~
    rf"(?:(?:{_LETTER}{{60,76}}(?![A-Za-z0-9+/=_%.~-])|{_LETTER}{{16,}}{_GAP}{_LETTER}{{40,}})(?:{_GAP}{_LETTER}{{40,}})*"
    rf"(?:{_GAP}{_LETTER}{{1,75}}(?=\s*\Z|[ \t]*[\r\n\\\"'<>)]))?|[A-Za-z0-9+/=_%.~-]{{40,}}(?<![.~]))"
)
"""An image file in base64 within a text."""
_IMAGE_URI = re.compile(r"\s*data:(?:image/|application/octet-stream|;)[^,\s]{0,250},(?:\S|[\r\n])*\s*", re.IGNORECASE)
_UNREADABLE = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]")
_READ_FOR_BINARY = 1024
"""Characters in which a file that was read as text gives itself away."""
_MOST_UNREADABLE = 0.1
"""Share of control and replacement characters among them above which a text is none; a few may stand in any text."""
_FEW_UNREADABLE = 16


T = TypeVar("T")


class Drawable(Protocol):
    """Draws itself as an image when its turn comes, as a page of a document does.

    It may also have
    - `measure(max_pixels)`, which gives the width and height of what `render` will draw, in pixels; without it room is
      kept for the most that it may draw;
    - `padded = True`, to be seen as a whole, with white beside it, where an image is cropped;
    - `pair(weight)`, which gives a `Pair`, so that it can be passed to `embed_pairs`;
    - `render_reserved(max_pixels, reserve)`, if another process draws it: as `render`, and calls `reserve` with width
      and height once it knows them.
    """

    def render(self, max_pixels: int) -> PIL.Image.Image:
        """The image, of at most so many pixels. Runs in a thread."""


ImageLike: TypeAlias = Union[
    str, os.PathLike[str], bytes, bytearray, memoryview, BytesIO, "PIL.Image.Image", NDArray[Any], "Image", Drawable
]
"""What every image parameter takes."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text to embed."""

    value: str


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """An image to embed, not yet opened. Built by `Image.from_*`, or from what `embed_image` accepts.

    `confined` images were named by a plain string and must obey `ImagePolicy.allowed_roots`.
    """

    kind: ImageKind
    source: Any
    confined: bool = False

    def __post_init__(self) -> None:
        expected = {"path": Path, "url": str, "bytes": bytes, "array": np.ndarray}.get(self.kind)
        fits = bool(expected) and isinstance(self.source, expected or ())
        if self.kind == "pil":
            fits = is_pil(self.source) or isinstance(self.source, Unread)
        if self.kind == "drawable":
            fits = is_drawable(self.source)
        if not fits:
            raise InputError(f"{type(self.source).__name__} is no {self.kind} of an image")

    def __repr__(self) -> str:
        shown = repr(self.source) if self.kind in ("path", "url") else type(self.source).__name__
        return f"Image({self.kind}: {shown})"

    def __str__(self) -> str:
        """Where it is, for logs and traces: no bytes, and of a URL neither user nor query, which may hold secrets."""
        where = str(self.source) if self.kind in ("path", "url") else self.kind
        if self.kind == "url":
            where = re.sub(r"(?<=//)[^/@]*@|[?#].*", "", where, flags=re.DOTALL)
        where = remove_images(where)  # base64 that was meant as a file
        return where if len(where) <= LONGEST_SHOWN else f"{where[:16]}..."

    @classmethod
    def from_path(cls, path: str | os.PathLike[str]) -> Image:
        """A file anywhere this process may read."""
        with _only_input_errors(path, "path"):
            return cls("path", Path(path))

    @classmethod
    def from_url(cls, url: str) -> Image:
        """An https address, fetched under the image policy."""
        return cls("url", url)

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview | BytesIO) -> Image:
        """An encoded file: JPEG, PNG, WebP or GIF."""
        with _only_input_errors(data, "file"):
            return cls("bytes", data.getvalue() if isinstance(data, BytesIO) else bytes(memoryview(data)))

    @classmethod
    def from_base64(cls, text: str | bytes) -> Image:
        """An encoded file in base64, standard or URL-safe alphabet, with or without padding.

        Raises:
            InputError: it is no base64.
        """
        with _only_input_errors(text, "base64"):
            raw = text.encode("ascii", "replace") if isinstance(text, str) else bytes(memoryview(text))
        raw = b"".join(raw.split()).translate(bytes.maketrans(b"-_", b"+/"))
        raw += b"=" * (-len(raw.rstrip(b"=")) % 4) if not raw.endswith(b"=") else b""
        try:
            return cls("bytes", base64.b64decode(raw, validate=True))
        except binascii.Error:
            raise InputError("the base64 of an image cannot be decoded; is it complete?") from None

    @classmethod
    def from_pil(cls, image: PIL.Image.Image) -> Image:
        """A Pillow image of any mode."""
        return cls("pil", image)

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> Image:
        """A uint8 array of shape (H, W, 3), (H, W, 4) or (H, W).

        Raises:
            InputError: another dtype or shape.
        """
        with _only_input_errors(array, "array"):
            values = np.asarray(array)
        shaped = values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))
        if values.dtype != np.uint8 or not shaped or 0 in values.shape:
            raise InputError(
                f"an image array must be uint8 of shape (H, W, 3), (H, W, 4) or (H, W), not {values.dtype} "
                f"{values.shape}; scale floats to 0..255 and move channels last"
            )
        return cls("array", values)


@dataclass(frozen=True, slots=True, eq=False)
class Unread:
    """A PIL image whose pixels were still in its file when it was passed, to be opened again from there.

    Attributes:
        file: its path, or its content.
        size: width and height.
        mode: Pillow's.
        frame: from 0.
        info: what its owner had in `info`.
        format: Pillow's name of it, if that is known.
    """

    file: Path | bytes
    size: tuple[int, int]
    mode: str
    frame: int
    info: Mapping[Any, Any]
    format: str = ""


@contextmanager
def _only_input_errors(value: Any, what: str) -> Iterator[None]:
    try:
        yield
    except (TypeError, ValueError) as error:  # an InputError is a ValueError too
        if isinstance(error, InputError):
            raise
        raise InputError(f"{type(value).__name__} is no usable {what} of an image") from None


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A text and an image that belong together, embedded as one vector; see `fuse`.

    Attributes:
        text: what goes through `embed_documents`.
        image: what goes through `embed_images`.
        weight: share of the text, 0 to 1. At 0 the text is not sent, at 1 the image is not.

    Raises:
        ConfigError: the weight is out of range.
    """

    text: str | Text
    image: ImageLike
    weight: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", check_weight(self.weight))

    @property
    def halves(self) -> tuple[Any, ...]:
        """The text and the image, as far as they have weight."""
        return (self.text,) * (self.weight > 0) + (self.image,) * (self.weight < 1)


def as_text(value: Any) -> Text:
    """The value as a Text.

    Raises:
        InputError: it is no str, is blank, holds an image instead, or cannot be written as UTF-8.
    """
    if isinstance(value, Text):
        value = value.value
    if not isinstance(value, str):
        hint = "; images go through embed_images" if is_image_like(value) else ""
        raise InputError(f"must be a str, not {type(value).__name__}{hint}")
    if not value.strip():
        raise InputError("empty or blank; leave it out")
    if is_data_uri(value):
        raise InputError("a data: URI of an image is no text; pass it as an image, Image.from_base64(...) say")
    if is_binary(value):
        raise InputError("binary data, such as an image file that was read as text; read it as what it is")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"holds half a character (a lone surrogate) at position {error.start}; "
                'decode it again, or text.encode("utf-8", "replace").decode()'
            ) from None
    return Text(str.__str__(value))  # the text itself, whatever a subclass, an enum say, prints


def is_binary(text: str) -> bool:
    """Whether a str is the content of a file that holds no text."""
    head = text[:_READ_FOR_BINARY]
    if _UNREADABLE.search(head) is None:
        return False
    return len(_UNREADABLE.findall(head)) > max(_FEW_UNREADABLE, _MOST_UNREADABLE * len(head))


def is_data_uri(text: str) -> bool:
    """Whether the whole of a str is the data: URI of an image."""
    return text[:DATA_HEADER].lstrip()[:5].lower() == "data:" and _IMAGE_URI.fullmatch(text) is not None


def as_image(value: Any) -> Image:
    """The value as an Image, not yet opened. A str is a data: URI, a URL, or else a path confined to allowed roots.

    Raises:
        InputError: no image can be made of it.
    """
    if isinstance(value, Image):
        return value
    if isinstance(value, str):
        return _from_str(value)
    if isinstance(value, os.PathLike):
        return Image.from_path(value)
    if isinstance(value, bytes | bytearray | memoryview | BytesIO):
        return Image.from_bytes(value)
    if isinstance(value, np.ndarray):
        return Image.from_array(value)
    if is_pil(value):
        return Image.from_pil(value)
    if is_drawable(value):
        return Image("drawable", value)
    raise InputError(
        f"{type(value).__name__} is no image; pass a path, https or data: URL, bytes, BytesIO, PIL image, "
        "uint8 array or jinaclip.Image"
    )


def _from_str(value: str) -> Image:
    scheme = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]+):", value[:DATA_HEADER])
    if not value.strip() or "\0" in value:
        raise InputError("an empty string, or one with a NUL, names no image")
    if scheme and scheme[1].lower() == "data":
        return _from_data_uri(value.strip())
    if scheme:
        return Image.from_url(value)
    return Image("path", Path(value), confined=True)


def _from_data_uri(uri: str) -> Image:
    header, comma, body = uri[5:].partition(",") if "," in uri[: DATA_HEADER + 5] else ("", "", "")
    if not comma:
        raise InputError("a data: URI needs a comma after its header")
    mime, *parameters = (part.strip().lower() for part in header.split(";"))
    if mime and not mime.startswith("image/") and mime != "application/octet-stream":
        raise InputError(f"a data: URI of type {mime[:64]!r} is no image")
    return Image.from_base64(body) if "base64" in parameters else Image.from_bytes(unquote_to_bytes(body))


def remove_images(text: str, instead: str = "[image]") -> str:
    """The text with `instead` for every image in it, for models and traces, which have no use for base64.

    An image is a `data:` URI, or the bare base64 of a JPEG, PNG, GIF or WebP file, also when it is wrapped into lines,
    of the standard or the URL-safe alphabet; with fewer than 40 letters it stays.
    """
    return ENCODED_IMAGE.sub(lambda _: instead, text)


def is_image_like(value: Any) -> bool:
    """Whether a value that is no text can only be meant as one image."""
    return isinstance(value, Image | bytes | bytearray | memoryview | BytesIO | os.PathLike) or is_pil(value)


def is_pil(value: Any) -> bool:
    """Whether a value is a PIL image; loads no Pillow to find out."""
    return any(cls.__module__ == "PIL.Image" and cls.__name__ == "Image" for cls in type(value).__mro__)


def is_drawable(value: Any) -> bool:
    """Whether a value draws itself: see `Drawable`."""
    return not isinstance(value, type) and callable(getattr(value, "render", None))


def iterate(values: Iterable[T], what: str, single: str) -> Iterator[T]:
    """Iterates over values that must be several, not one.

    Raises:
        InputError: a lone item, a mapping, or nothing that can be iterated.
    """
    lone = isinstance(values, str | Text | Pair) or is_image_like(values) or is_image_array(values)
    scalar = isinstance(values, np.ndarray) and values.ndim == 0
    if lone or scalar or isinstance(values, Mapping) or not isinstance(values, Iterable):
        remedy = f"pass {single}, or use the method for one" if lone else "pass a list"
        raise InputError(f"{what} must be several items, not one {type(values).__name__}; {remedy}")
    return iter(values)


def is_image_array(values: Any) -> bool:
    """Whether a value can only be meant as the pixels of one image."""
    return isinstance(values, np.ndarray) and values.ndim in (2, 3) and values.dtype != object


def is_held(values: Iterable[Any]) -> bool:
    """Whether the caller holds all the values already, so that looking through them costs nothing."""
    return isinstance(values, Collection)
