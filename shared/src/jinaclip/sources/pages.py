"""Pages of PDF files in folders: drawn when their turn comes, by whichever process they were handed to."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING, ClassVar

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images import Page, Pdf, Reserve
from jinaclip.inputs import Image
from jinaclip.sources.places import printable
from jinaclip.sources.records import failed_row
from jinaclip.sources.references import Stored, StoredFile
from jinaclip.sources.rows import SourceRow

if TYPE_CHECKING:
    import PIL.Image

MOST_BYTES = 200 * 2**20
"""Of a document, unless the image policy allows more; they are larger than photos."""
MOST_OPEN = 4
"""Documents whose bytes are kept for the next page."""


@dataclass(frozen=True, slots=True)
class Document:
    """A PDF file as it was when it was first read.

    Attributes:
        file: where it is.
        digest: SHA-256 of its content.
        policy: of it `max_bytes` and `allowed_roots` count.
    """

    file: StoredFile
    digest: bytes
    policy: ImagePolicy = field(compare=False)


@dataclass(frozen=True, slots=True)
class StoredPage(Stored):
    """A page of a PDF file, by number from 1. It can be pickled, and passed wherever an image can."""

    document: Document
    number: int
    padded: ClassVar[bool] = True

    def read(self, policy: ImagePolicy) -> Image:
        """The page as an image that is drawn when its turn comes."""
        return Image("drawable", self)

    def render(self, max_pixels: int) -> PIL.Image.Image:
        """The page as a PIL image; raises as `jinaclip.images.Page.render`, and InputError if the file has changed."""
        return self._page().render(max_pixels)

    def render_reserved(self, max_pixels: int, reserve: Reserve) -> PIL.Image.Image:
        """As `render`; see `Page.render_reserved`."""
        return self._page().render_reserved(max_pixels, reserve)

    def _page(self) -> Page:
        return Page(_documents.open(self.document), self.number)


class OpenDocuments:
    """The documents that were used last. One that is left out is closed once its last page is drawn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[Document, Pdf] = OrderedDict()

    def add(self, document: Document, data: bytes) -> Pdf:
        """Keeps a document; gives the one that was kept already, if it was."""
        with self._lock:
            pdf = self._open.get(document) or Pdf(data, image_policy=of_documents(document.policy))
            self._open[document] = pdf
            self._open.move_to_end(document)
            left = self._open.popitem(last=False) if len(self._open) > MOST_OPEN else None
        del left  # not under the lock: it may end processes
        return pdf

    def open(self, document: Document) -> Pdf:
        """A document; read again if it was left out.

        Raises:
            InputError: it cannot be read, or has changed.
        """
        with self._lock:
            pdf = self._open.get(document)
        if pdf is not None:
            return pdf
        data = read_document(document.file, document.policy)
        if sha256(data).digest() != document.digest:
            raise InputError(f"{document.file} changed while it was embedded; run the command again")
        return self.add(document, data)

    def close(self) -> None:
        """Leaves all out."""
        with self._lock:
            left, self._open = self._open, OrderedDict()
        for pdf in left.values():
            pdf.close()


_documents = OpenDocuments()


def close_documents() -> None:
    """Closes the PDF files that are kept for the next page, and ends the processes that draw them, once a run ends.

    A page that is drawn all the same opens its file again.
    """
    _documents.close()


def read_document(file: StoredFile, policy: ImagePolicy) -> bytes:
    """The content of a PDF file. Raises InputError as `StoredFile.read`."""
    data: bytes = file.read(of_documents(policy)).source
    return data


def of_documents(policy: ImagePolicy) -> ImagePolicy:
    """The policy, with the larger files that documents are."""
    return replace(policy, max_bytes=max(policy.max_bytes, MOST_BYTES))


def read_pages(file: StoredFile, policy: ImagePolicy) -> Iterator[SourceRow]:
    """A row for each page of a PDF file, with an id as in "report.pdf#page=3"; one with an error if it does not open.

    Raises:
        MissingDependencyError: pypdfium2 is not installed.
    """
    name = printable(file.path)
    try:
        data = read_document(file, policy)
        document = Document(file, sha256(data).digest(), policy)
        count = _documents.add(document, data).page_count
        del data
    except InputError as error:
        yield failed_row(name, f"cannot be opened: {error}", name, file)
        return
    if not count:
        yield failed_row(name, "has no pages", name, file)
    for number in range(1, count + 1):
        page = f"{name}#page={number}"
        yield SourceRow(page, None, StoredPage(document, number), page)
