"""Pages of PDF files as images."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Self

from jinaclip.errors import ConversionError, InputError, MissingDependencyError
from jinaclip.inputs import Image

DPI = 300
_pdfium = threading.Lock()
"""PDFium works for one thread at a time."""


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
        with self.pages.open_file(self) as file:
            return draw(file, self.number, max_pixels)


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
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"page_number={number!r} of a page of a PDF must be a whole number from 1")
        page = Page(pdf.source, number, self)
        with self.open_file(page) as file:
            if number > len(file):
                raise IndexError(f"the last page is {len(file)}")
        return page

    @contextmanager
    def open_file(self, page: Page) -> Iterator[Any]:
        """Opens the file of a page. No other thread uses PDFium meanwhile, and any error becomes a ConversionError."""
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
    return page.render(scale=min(DPI / 72, (0.9 * max_pixels / prod(page.get_size())) ** 0.5)).to_pil()
