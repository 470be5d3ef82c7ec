"""Pages of PDF files as pictures."""

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
    """A page of a PDF, by number from 1, for whatever takes an image.

    At 300 dpi one takes 25 MB: pass an iterator rather than a list, and each is rendered when its turn comes.
    """

    pdf: Path | bytes
    number: int
    pages: Pages = field(repr=False)

    def render(self, most: int) -> Any:
        """The page as a PIL picture of at most so many pixels, at 300 dpi where that fits.

        Raises:
            ConversionError: PDFium cannot.
        """
        with self.pages.opened(self) as file:
            return rendered(file, self.number, most)


class Pages:
    """PDF files, each opened once, until this object is closed. Safe to use from many threads."""

    def __init__(self) -> None:
        self._files: dict[Path | bytes, Any] = {}
        self._over = False

    def __len__(self) -> int:
        """How many files are open."""
        return len(self._files)

    def find(self, pdf: Image, number: Any) -> Page:
        """A page that is there.

        Args:
            pdf: a path or bytes; see `JinaClip.accept`, which holds it against the image policy.
            number: from 1.

        Raises:
            InputError: that is no number of a page.
            ConversionError: PDFium cannot read the file, or it has no such page.
            MissingDependencyError: pypdfium2 is not installed.
        """
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise InputError(f"page_number={number!r} of a page of a PDF must be a whole number from 1")
        page = Page(pdf.source, number, self)
        with self.opened(page) as file:
            if number > len(file):
                raise IndexError(f"the last page is {len(file)}")
        return page

    @contextmanager
    def opened(self, page: Page) -> Iterator[Any]:
        """The file of a page, while no other thread works with PDFium; whatever fails is a ConversionError."""
        try:
            from pypdfium2 import PdfDocument  # type: ignore[import-untyped]
        except ModuleNotFoundError:
            raise MissingDependencyError("PDF pages need pypdfium2: pip install 'jinaclip[pdf]'") from None
        with _pdfium:
            try:
                if self._over:  # of a cancelled call, a thread may still ask
                    raise RuntimeError("its file was closed")
                if page.pdf not in self._files:
                    self._files[page.pdf] = PdfDocument(page.pdf)
                yield self._files[page.pdf]
            except Exception as error:  # ctypes may raise anything
                name = page.pdf.name if isinstance(page.pdf, Path) else "a PDF file in memory"
                raise ConversionError(f"page {page.number} of {name} cannot be rendered: {error}") from error

    def close(self) -> None:
        """Closes the files. Waits for whoever is rendering."""
        with _pdfium:
            self._over = True
            while self._files:
                self._files.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rendered(pdf: Any, number: int, most: int) -> Any:
    """A page as a PIL picture. What PDFium holds of the page goes with this frame, while the lock is held."""
    page = pdf[number - 1]
    return page.render(scale=min(DPI / 72, (0.9 * most / prod(page.get_size())) ** 0.5)).to_pil()
