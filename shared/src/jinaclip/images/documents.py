"""Pages of PDF files as images."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Self

from jinaclip.errors import ConversionError, InputError, MissingDependencyError
from jinaclip.inputs import Image
from jinaclip.numeric import is_whole
from jinaclip.process import run_apart

DPI = 300
_pdfium = threading.Lock()
"""PDFium works for one thread at a time."""


def _renew_lock() -> None:
    global _pdfium
    _pdfium = threading.Lock()  # in a forked child: a thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a PDF, by number from 1. It can be passed wherever an image can.

    A page at 300 dpi takes 25 MB, so pass an iterator rather than a list: each page is rendered when its turn comes.
    """

    pdf: Path | bytes
    number: int
    pages: Pages = field(repr=False)

    def render(self, max_pixels: int) -> Any:
        """The page as a PIL image of at most `max_pixels` pixels, at 300 dpi where that fits.

        Raises:
            ConversionError: PDFium cannot render it.
        """
        return run_apart(self.pages.draw, self, max_pixels)

    def measure(self, max_pixels: int) -> tuple[int, int]:
        """Width and height of what `render` gives, about.

        Raises:
            ConversionError: PDFium cannot open it.
        """
        return run_apart(self.pages.measure, self, max_pixels)


class Pages:
    """PDF files. Each is opened once and stays open until this object is closed. Safe to use from many threads."""

    def __init__(self) -> None:
        self._files: dict[Path | bytes, Any] = {}
        self._closed = False

    def __len__(self) -> int:
        """How many files are open."""
        return len(self._files)

    def find(self, pdf: Image, number: Any) -> Page:
        """The page with this number; it exists.

        Args:
            pdf: a path or bytes, checked against the image policy: see `JinaClip.resolve_image`.
            number: from 1.

        Raises:
            InputError: the number is not a whole number from 1.
            ConversionError: PDFium cannot read the file, or the file has no such page.
            MissingDependencyError: pypdfium2 is not installed.
        """
        if not is_whole(number) or number < 1:
            raise InputError(f"page_number={number!r} of a page of a PDF must be a whole number from 1")
        page = Page(pdf.source, int(number), self)
        run_apart(self._check, page)
        return page

    def _check(self, page: Page) -> None:
        with self.open_file(page) as file:
            if page.number > len(file):
                raise IndexError(f"the last page is {len(file)}")

    def draw(self, page: Page, max_pixels: int) -> Any:
        """A page as a PIL image; see `Page.render`. Runs in a thread of ours."""
        with self.open_file(page) as file:
            return draw(file, page.number, max_pixels)

    def measure(self, page: Page, max_pixels: int) -> tuple[int, int]:
        """Width and height of a page as it will be drawn. Runs in a thread of ours."""
        with self.open_file(page) as file:
            width, height = file.get_page_size(page.number - 1)
        return tuple(math.ceil(scale_of((width, height), max_pixels) * side) for side in (width, height))

    @contextmanager
    def open_file(self, page: Page) -> Iterator[Any]:
        """Opens the file of a page. No other thread uses PDFium meanwhile, and any error becomes a ConversionError.

        To be used in a thread of ours, where every error is PDFium's, and not one that a signal handler raises.
        """
        try:
            from pypdfium2 import PdfDocument  # type: ignore[import-untyped]
        except ModuleNotFoundError:
            raise MissingDependencyError("PDF pages need pypdfium2: pip install 'jinaclip[pdf]'") from None
        with _pdfium:
            try:
                if self._closed:  # a thread of a cancelled call may still ask
                    raise RuntimeError("its file was closed")
                if page.pdf not in self._files:
                    self._files[page.pdf] = PdfDocument(page.pdf)
                yield self._files[page.pdf]
            except Exception as error:  # ctypes may raise any error
                name = page.pdf.name if isinstance(page.pdf, Path) else "a PDF file in memory"
                raise ConversionError(f"page {page.number} of {name} cannot be rendered: {error}") from error

    def close(self) -> None:
        """Closes the files, once no thread is rendering."""
        with _pdfium:
            self._closed = True
            while self._files:
                self._files.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def draw(pdf: Any, number: int, max_pixels: int) -> Any:
    """Renders a page as a PIL image. PDFium's page is freed on return, while the caller still holds the lock."""
    page = pdf[number - 1]
    return page.render(scale=scale_of(page.get_size(), max_pixels)).to_pil()


def scale_of(size: tuple[float, float], max_pixels: int) -> float:
    """Pixels per point: 300 dpi where a page of this size, in points, then has at most so many pixels."""
    return float(min(DPI / 72, (0.9 * max_pixels / prod(size)) ** 0.5))
