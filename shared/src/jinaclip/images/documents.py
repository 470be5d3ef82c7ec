"""PDF files, and their pages as images. PDFium draws them in processes of their own: see `renderers.py`."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar

from jinaclip.config import ImagePolicy
from jinaclip.errors import ConfigError, ConversionError, InputError
from jinaclip.images import pdfium, renderers
from jinaclip.images.opening import read
from jinaclip.images.renderers import CLOSED, Locked, NotDrawn, Renderer
from jinaclip.images.reserve import Reserve, reserve_nothing
from jinaclip.images.streams import read_stream
from jinaclip.inputs import BinaryFile, Image, Pair, Upload, as_image
from jinaclip.numeric import is_number, is_whole
from jinaclip.process import run_apart
from jinaclip.telemetry import logger

if TYPE_CHECKING:
    import PIL.Image

R = TypeVar("R")
PdfLike: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryFile | Upload | Image
"""What a PDF file may be given as."""
POLICY = ImagePolicy(max_bytes=200 * 2**20)
"""Documents are larger than photos."""
RENDER_SECONDS = 30.0
UNSEEN = {
    pdfium.MOVING: "holds a video, a sound or a 3D model, of which only what stands on the page was drawn",
    pdfium.PORTFOLIO: "belongs to a file that carries other files, which were not drawn",
}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a PDF file, by number from 1. It can be passed wherever an image can.

    It is drawn when its turn comes: at 300 dpi, or as large as `image_policy.max_pixels` allows, with annotations and
    with forms as they are filled in.
    """

    pdf: Pdf
    number: int

    @property
    def padded(self) -> bool:
        """Whether the model is to see the whole page, with white beside it, and not its centre square."""
        return self.pdf.padded

    def render(self, max_pixels: int) -> PIL.Image.Image:
        """The page as a PIL image of at most `max_pixels` pixels, at 300 dpi where that fits.

        Raises:
            ConversionError: PDFium cannot draw it, or takes too long.
            InputError: its file cannot be read, or the image policy refuses it.
        """
        return self.render_reserved(max_pixels, reserve_nothing)

    def render_reserved(self, max_pixels: int, reserve: Reserve) -> PIL.Image.Image:
        """As `render`; `reserve` is told width and height before the pixels come into this process.

        So a page that takes for ever holds none of the pixels that others wait for.
        """
        return run_apart(self.pdf.draw, self.number, max_pixels, reserve)

    @property
    def text(self) -> str:
        """The text layer of the page, with what is in it and cannot be seen; "" if it has none, as scans do.

        What a form is filled in with is not in it. Raises as `render`. Blocks, as that does.
        """
        return run_apart(self.pdf.read_text, self.number)

    def pair(self, weight: float = 0.5) -> Pair:
        """The text and the image of the page, to be embedded as one vector; `embed_pairs` does this to a page.

        Args:
            weight: share of the text, from 0 to 1.

        Raises:
            InputError: the page has no text layer; or as `render`.
        """
        text = self.text
        if not text.strip():
            raise InputError(
                f"page {self.number} of {self.pdf.name} has no text layer, as scans have none; embed it as an image, "
                "or recognise its text first and pass (text, page)"
            )
        return Pair(text, self, weight)


class Pdf:
    """A PDF file: iterate over it for its pages. Nothing is read before it is needed. Safe to use from many threads.

        with Pdf("report.pdf") as pdf:
            vectors = clip.embed_images(pdf)

    Pages are drawn by processes that end when this object is closed or collected; it needs a Python interpreter on the
    machine, which a frozen program may lack.

    Args:
        source: a path, bytes, a file that is open for binary reading, or an upload of a web framework; an open file is
            read now, as images are. A str is confined, as everywhere: see `ImagePolicy.allowed_roots`.
        password: of an encrypted file.
        image_policy: of it `max_bytes` and `allowed_roots` count; None is the default with 200 MiB for a file.
        padded: False lets the model see a page as it sees an image, by default its centre square alone.
        render_timeout: seconds that one page may take. Its process is then ended.

    Raises:
        ConfigError: an option is wrong.
        InputError: the source is nothing of the kind.
    """

    def __init__(
        self,
        source: PdfLike,
        *,
        password: str | None = None,
        image_policy: ImagePolicy | None = None,
        padded: bool = True,
        render_timeout: float = RENDER_SECONDS,
    ) -> None:
        self._policy = check_policy(image_policy)
        self._seconds = check_seconds(render_timeout)
        self._password = check_password(password)
        self.padded = check_padded(padded)
        self._image = as_document(source, self._policy)
        self._page_count: int | None = None
        self._closed = False
        self._owner = object()
        weakref.finalize(self, renderers.end_all, self._owner)

    def __repr__(self) -> str:
        return f"Pdf({self.name})"

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._image.source.name if self._image.kind == "path" else "a PDF file in memory"

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells files apart."""
        return self._image.source, self._image.confined

    @property
    def page_count(self) -> int:
        """How many pages it has.

        Raises:
            ConversionError: PDFium cannot open it: it is damaged, or encrypted and the password is not right.
            InputError: it cannot be read, or the image policy refuses it.
            MissingDependencyError: pypdfium2 is not installed.
        """
        return run_apart(self.count, self.name)

    def __len__(self) -> int:
        return self.page_count

    def __iter__(self) -> Iterator[Page]:
        """Its pages. Raises as `page_count`."""
        for number in range(1, self.page_count + 1):
            yield Page(self, number)

    def page(self, number: int) -> Page:
        """A page by its number from 1; it exists.

        Raises:
            InputError: the number is not a whole number from 1; or as `page_count`.
            ConversionError: the file has no such page; or as `page_count`.
        """
        page = Page(self, check_number(number))
        run_apart(self._check_number, page.number)
        return page

    def close(self) -> None:
        """Ends the processes that draw its pages, also one that is drawing. Its pages cannot be drawn any more."""
        self._closed = True
        run_apart(renderers.end_all, self._owner)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- in threads of ours, where any error is the file's, and not one that a signal handler raises

    def count(self, what: str) -> int:
        """How many pages there are; `what` is what a message says cannot be had."""
        if self._page_count is None or self._closed:
            return self._ask(what, lambda renderer: renderer.page_count)
        return self._page_count

    def draw(self, number: int, max_pixels: int, reserve: Reserve) -> PIL.Image.Image:
        """A page as a PIL image; see `Page.render`."""
        import PIL.Image

        drawing = self._ask_of_page(number, lambda renderer: renderer.draw(number - 1, max_pixels, reserve))
        for note, unseen in UNSEEN.items():
            if drawing.notes & note:
                logger.warning("page %d of %s %s", number, self.name, unseen)
        return PIL.Image.frombytes("RGB", (drawing.width, drawing.height), drawing.pixels)

    def read_text(self, number: int) -> str:
        """The text of a page. Not called `read`, by which open files are told."""
        text = self._ask_of_page(number, lambda renderer: renderer.read(number - 1))
        return re.sub(r"[\x02\ufffe]\s*", "", text).replace("\r\n", "\n")  # words that were divided at a line's end

    def _check_number(self, number: int) -> None:
        count = self.count(f"page {number} of {self.name}")
        if number > count:
            raise ConversionError(f"page {number} of {self.name} cannot be rendered: the last page is {count}")

    def _ask_of_page(self, number: int, request: Callable[[Renderer], R]) -> R:
        self._check_number(number)
        return self._ask(f"page {number} of {self.name}", request)

    def _ask(self, what: str, request: Callable[[Renderer], R]) -> R:
        try:
            with self._renderer() as renderer:
                self._page_count = renderer.page_count
                return request(renderer)
        except Locked:
            problem = "wrong" if self._password else "needed: pass password=..."
            raise ConversionError(
                f"{what} cannot be rendered: it is encrypted, and its password is {problem}"
            ) from None
        except NotDrawn as error:
            raise ConversionError(f"{what} cannot be rendered: {error}") from None

    @contextmanager
    def _renderer(self) -> Iterator[Renderer]:
        """A process that has the file open, for this thread alone."""
        renderer = renderers.take_idle(self._owner)
        if renderer is None and not self._closed:  # a thread of a cancelled call may still ask
            data = read(self._image, self._policy)
            renderer = Renderer(self._owner, data, self._password, self._seconds)
            del data
        if renderer is None:
            raise NotDrawn(CLOSED)
        try:
            if self._closed:  # while it started
                renderer.end()
                raise NotDrawn(CLOSED)
            yield renderer
        finally:
            if renderer.is_alive:
                renderers.keep_idle(renderer)


class Pages:
    """Pages of many PDF files, each by its path or content. Safe to use from many threads.

    Args: as those of `Pdf`, for every file.
    """

    def __init__(
        self,
        *,
        image_policy: ImagePolicy | None = None,
        padded: bool = True,
        render_timeout: float = RENDER_SECONDS,
    ) -> None:
        self._open = partial(
            Pdf,
            image_policy=check_policy(image_policy),
            padded=check_padded(padded),
            render_timeout=check_seconds(render_timeout),
        )
        self._files: dict[tuple[Any, ...], Pdf] = {}
        self._closed = False

    def __len__(self) -> int:
        """How many files are known."""
        return len(self._files)

    def find(self, pdf: PdfLike, number: Any, *, password: str | None = None) -> Page:
        """The page with this number; it exists.

        Args:
            pdf: as `Pdf` takes it.
            number: from 1.
            password: of an encrypted file.

        Raises: as `Pdf.page`.
        """
        check_number(number)
        opened = self._open(pdf, password=password)
        file = self._files.setdefault((*opened.key, password), opened)
        if self._closed:
            file.close()
        return file.page(number)

    def close(self) -> None:
        """Closes the files, also one of which a page is drawn."""
        self._closed = True
        for file in tuple(self._files.values()):
            file.close()
        self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_number(number: Any) -> int:
    """The number of a page. Raises InputError if it is none."""
    if not is_whole(number) or number < 1:
        raise InputError(f"page_number={number!r} of a page of a PDF must be a whole number from 1")
    return int(number)


def check_policy(policy: Any) -> ImagePolicy:
    """The policy, or that of documents for None. Raises ConfigError if it is none."""
    if policy is not None and not isinstance(policy, ImagePolicy):
        raise ConfigError("image_policy must be an ImagePolicy or None", option="image_policy")
    return policy or POLICY


def check_seconds(seconds: Any) -> float:
    """Seconds that a page may take. Raises ConfigError if they are none."""
    if not is_number(seconds) or not 0 < seconds < inf:
        raise ConfigError(f"render_timeout={seconds!r} must be a number of seconds above 0", option="render_timeout")
    return float(seconds)


def check_padded(padded: Any) -> bool:
    """Whether pages are padded. Raises ConfigError if it is neither True nor False."""
    if not isinstance(padded, bool):
        raise ConfigError(f"padded={padded!r} must be a bool", option="padded")
    return padded


def check_password(password: Any) -> str:
    """The password, "" for None. Raises ConfigError, which does not show it, if it is no str."""
    if password is not None and (not isinstance(password, str) or "\0" in password):
        raise ConfigError("password must be a str without NUL, or None", option="password")
    return password or ""


def as_document(source: Any, policy: ImagePolicy) -> Image:
    """A path, which stays the same when the working directory changes, or bytes. Raises InputError for others."""
    image = as_image(source, policy.max_bytes)
    if image.kind == "file":
        return Image("bytes", read_stream(image.source, policy))
    if image.kind == "path":
        return Image("path", image.source.absolute(), confined=image.confined)
    if image.kind != "bytes":
        raise InputError(f"a PDF file is a path, bytes or an open binary file, not {image}; fetch what has a URL first")
    return image
