"""Pages of PDF files as pictures."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from jinaclip import InputError, MissingDependencyError

_pdfium = threading.Lock()
"""PDFium works for one thread at a time."""


class ConversionError(InputError, RuntimeError):
    """A page of a PDF file cannot be rendered."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a PDF, by number from 1. Rendered when its turn comes: at 300 dpi one takes 25 MB."""

    pdf: Path | bytes
    number: int


class Pages:
    """Renders the pages of one run, opening each file once."""

    def __init__(self) -> None:
        self._open: dict[Path | bytes, Any] = {}
        self._over = False

    def render(self, page: Page, most: int) -> Any:
        """The page as a PIL picture of at most so many pixels.

        Raises:
            ConversionError: PDFium cannot read the file, or has no such page.
            MissingDependencyError: pypdfium2 is not installed.
        """
        try:
            from pypdfium2 import PdfDocument  # type: ignore[import-untyped]
        except ModuleNotFoundError:
            raise MissingDependencyError("PDF pages need pypdfium2: pip install 'haystack-jinaclip[pdf]'") from None
        with _pdfium:
            try:
                if self._over:  # of a cancelled run, a thread may still ask
                    raise RuntimeError("the run has ended")
                if page.pdf not in self._open:
                    self._open[page.pdf] = PdfDocument(page.pdf)
                return rendered(self._open[page.pdf], page.number, most)
            except Exception as error:  # ctypes may raise anything
                name = page.pdf.name if isinstance(page.pdf, Path) else "a blob"
                raise ConversionError(f"page {page.number} of {name} cannot be rendered: {error}") from error

    def close(self) -> None:
        """Closes the files."""
        with _pdfium:
            self._over = True
            while self._open:
                self._open.popitem()[1].close()


def rendered(pdf: Any, number: int, most: int) -> Any:
    """A page as a PIL picture, at less than 300 dpi where that were too many pixels.

    What PDFium holds of the page goes with this frame, while the lock is held.
    """
    page = pdf[number - 1]
    return page.render(scale=min(300 / 72, (0.9 * most / prod(page.get_size())) ** 0.5)).to_pil()
