"""The kinds of input, Text, Image and Pair, and how what callers pass becomes one of them."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, TextIOBase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, Union, cast

import numpy as np
from numpy.typing import NDArray

from jinaclip.blank import is_blank
from jinaclip.errors import InputError
from jinaclip.uris import (
    DATA_HEADER,
    LONGEST_NAME,
    LONGEST_PATH,
    LONGEST_SHOWN,
    decode_base64,
    decode_data_uri,
    find_header,
    is_data_uri,
    path_of,
    remove_images,
)
from jinaclip.vectors import check_weight

if TYPE_CHECKING:
    import PIL.Image

ImageKind = Literal["path", "url", "bytes", "file", "pil", "array", "drawable"]
_ADDRESS = re.compile(r"\s*(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+)://")
"""How an address begins; "C:/a.png" and "IMG:001.png" are names of files."""
_LONGEST_START = 64
"""Characters within which a str says whether it is an address, or base64."""
_DATA = re.compile(r"\s*data:(?P<header>[^,;]*;[^,]*base64)?", re.IGNORECASE)
"""How a data: URI begins, and its header if nothing follows it."""
_BASE64_IMAGE = re.compile(r"\s*(?:[/_]9j[/_]|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/=_\s-]*")
"""How the base64 of a JPEG, PNG, GIF or WebP file begins."""
BASE64_IS_NO_PATH = "a str is a path or a URL, and this one is base64; pass Image.from_base64(...) or a data: URI"
_UNREADABLE = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]")
_LOST = "\ufffd"
"""What stands for bytes that could not be decoded. Python calls it printable."""
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


class BinaryFile(Protocol):
    """A file that is open for reading bytes: of `open(..., "rb")`, a member of an archive, a temporary file."""

    def read(self, size: int, /) -> bytes | None:
        """At most so many bytes, none at the end of the file."""


class Upload(Protocol):
    """A file that a web framework received and keeps open, such as `UploadFile` of Starlette and FastAPI."""

    @property
    def file(self) -> BinaryFile:
        """The open file."""


ImageLike: TypeAlias = Union[
    str,
    os.PathLike[str],
    bytes,
    bytearray,
    memoryview,
    BytesIO,
    BinaryFile,
    Upload,
    "PIL.Image.Image",
    NDArray[Any],
    "Image",
    Drawable,
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
        if self.kind == "file":
            fits = is_open_file(self.source)
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
    def from_bytes(cls, data: bytes | bytearray | memoryview | BytesIO | BinaryFile | Upload) -> Image:
        """An encoded file: JPEG, PNG, WebP or GIF; one that is open is read by the call that takes this image."""
        if is_open_file(data):
            return cls("file", data)
        with _only_input_errors(data, "file"):
            return cls("bytes", data.getvalue() if isinstance(data, BytesIO) else bytes(memoryview(cast(bytes, data))))

    @classmethod
    def from_base64(cls, text: str | bytes, *, max_bytes: int | None = None) -> Image:
        """An encoded file in base64, standard or URL-safe alphabet, with or without padding.

        Args:
            text: the base64.
            max_bytes: most bytes that it may hold, such as `image_policy.max_bytes`; a longer text is refused before
                it is decoded. None leaves that to the call that takes this image.

        Raises:
            InputError: it is no base64, or too long.
        """
        with _only_input_errors(text, "base64"):
            raw = text if isinstance(text, str | bytes) else bytes(memoryview(text))
        return cls("bytes", decode_base64(raw, max_bytes))

    @classmethod
    def from_pil(cls, image: PIL.Image.Image) -> Image:
        """A Pillow image of any mode."""
        return cls("pil", image)

    @classmethod
    def from_array(cls, array: NDArray[Any]) -> Image:
        """A uint8 array of shape (H, W, 3), (H, W, 4) or (H, W): red, green, blue, and alpha if there are four.

        OpenCV's frames are BGR, which nothing in an array tells: pass `frame[..., ::-1]`, or
        `cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)`. Else red and blue are exchanged, and the vector is that of other
        colours.

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
        identity: device and number of the file that was opened, if `file` is a path, which may lead elsewhere by now.
    """

    file: Path | bytes
    size: tuple[int, int]
    mode: str
    frame: int
    info: Mapping[Any, Any]
    format: str = ""
    identity: tuple[int, int] | None = None


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
    """The value as a Text. Raises as `check_text`."""
    return Text(check_text(value.value if isinstance(value, Text) else value))


def check_text(value: Any) -> str:
    """A text that can be embedded.

    Raises:
        InputError: it is no str, is blank, holds an image instead, or cannot be written as UTF-8.
    """
    if not isinstance(value, str):
        hint = "; images go through embed_images" if is_image_like(value) else ""
        raise InputError(f"must be a str, not {type(value).__name__}{hint}")
    if is_blank(value):
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
    return str.__str__(value)  # the text itself, whatever a subclass, an enum say, prints


def is_binary(text: str) -> bool:
    """Whether a str is the content of a file that holds no text."""
    head = text[:_READ_FOR_BINARY]
    if head.isprintable() and _LOST not in head:  # takes less time than the next, and is true of most
        return False
    return len(_UNREADABLE.findall(head)) > max(_FEW_UNREADABLE, _MOST_UNREADABLE * len(head))


def as_image(value: Any, max_bytes: int | None = None) -> Image:
    """The value as an Image, not yet opened.

    A str is an address if it begins with a scheme and `://`, as in "https://", or is a `data:` URI. Else it is a path,
    whatever colons it has. Paths and `file://` URIs are confined to the allowed roots.

    Args:
        value: what a caller passed.
        max_bytes: the cap `image_policy.max_bytes`, for data: URIs, which are decoded here; None is no cap.

    Raises:
        InputError: no image can be made of it.
    """
    if isinstance(value, Image):
        return value
    if isinstance(value, str):
        return _from_str(str.__str__(value), max_bytes)
    if isinstance(value, bytes | bytearray | memoryview | BytesIO) or is_open_file(value):
        return Image.from_bytes(value)
    if isinstance(value, os.PathLike):
        return Image.from_path(value)
    if isinstance(value, np.ndarray):
        return Image.from_array(value)
    if is_pil(value):
        return Image.from_pil(value)
    if is_drawable(value):
        return Image("drawable", value)
    several = " but several items; pass one of them" if isinstance(value, Iterable) else ""
    raise InputError(
        f"{type(value).__name__} is no image{several}; pass a path, https or data: URL, bytes, a file opened in mode "
        '"rb", BytesIO, PIL image, uint8 array or jinaclip.Image'
    )


def _from_str(value: str, max_bytes: int | None) -> Image:
    header = find_header(value)
    if header is not None:
        return Image("bytes", decode_data_uri(value, header, max_bytes))
    address = _ADDRESS.match(value, 0, _LONGEST_START)
    if address is not None and address["scheme"].lower() == "file":
        return Image("path", path_of(value), confined=True)
    if address is not None:
        return Image.from_url(value)
    _check_path(value)
    return Image("path", Path(value), confined=True)


def _check_path(text: str) -> None:
    """Raises InputError for what can be no path on any system."""
    if len(text) > LONGEST_PATH:
        if _BASE64_IMAGE.fullmatch(text, 0, _LONGEST_START):
            raise InputError(BASE64_IS_NO_PATH)
        raise InputError(
            f"a str of {len(text)} characters is no path and no URL; if it is base64, pass Image.from_base64(...) or "
            "a data: URI"
        )
    if not text.strip() or "\0" in text:
        raise InputError("an empty string, or one with a NUL, names no image")
    data = _DATA.match(text)
    if data and (data["header"] or max(map(len, text.split("/"))) > LONGEST_NAME):
        raise InputError(f'a data: URI needs a comma within the {DATA_HEADER} characters after "data:"')


def is_image_like(value: Any) -> bool:
    """Whether a value that is no text can only be meant as one image."""
    known = isinstance(value, Image | bytes | bytearray | memoryview | BytesIO | os.PathLike)
    return known or is_pil(value) or is_open_file(value)


def is_open_file(value: Any) -> bool:
    """Whether a value is read as a file is, and so can only be meant as what it holds.

    Some paths have a `read`, too; what also names a file is an open one only if it can seek.
    """
    if isinstance(value, type | BytesIO) or not callable(getattr(value, "read", None)):
        return False
    return not isinstance(value, os.PathLike) or callable(getattr(value, "seek", None))


def is_text_file(value: Any) -> bool:
    """Whether a value is a file that was opened in text mode, and so gives str."""
    return isinstance(value, TextIOBase) or (is_open_file(value) and isinstance(getattr(value, "encoding", None), str))


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
    if is_text_file(values) and what not in ("images", "pairs"):
        lone = False  # its lines are texts
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
