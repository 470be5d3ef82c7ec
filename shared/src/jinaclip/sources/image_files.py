"""Folders of images and of PDF files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from jinaclip.config import ImagePolicy
from jinaclip.sources.pages import read_pages
from jinaclip.sources.places import FOLDER_END, Folder, printable
from jinaclip.sources.records import failed_row
from jinaclip.sources.references import StoredFile
from jinaclip.sources.rows import SourceRow, Split, StoredSource

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".tif", ".tiff", ".bmp")
"""Names of image files; what is in them decides whether they are."""
DOCUMENTS = (".pdf",)
FILES_PER_SPLIT = 256


@dataclass(frozen=True, slots=True)
class ImageFileReader:
    """Reads image files, a row each, and PDF files, a row for each page. Ids are paths from the folder."""

    folder: Folder
    policy: ImagePolicy

    def read(self, path: str) -> Iterator[SourceRow]:
        """The row of an image, or those of the pages of a document."""
        name, file = printable(path), StoredFile(self.folder, path)
        if path.endswith(FOLDER_END):
            yield failed_row(name, f"is a link out of {self.folder.name}; name that folder as a source", name, file)
        elif path.lower().endswith(DOCUMENTS):
            yield from read_pages(file, self.policy)
        else:
            yield SourceRow(name, None, file, name)


def is_image_file(path: str) -> bool:
    """Whether a file is listed as an image or a document: by its name."""
    return path.lower().endswith((*IMAGES, *DOCUMENTS))


class ImageFileSource(StoredSource[str]):
    """Image files and PDF files.

    Args:
        name: what messages call it.
        reader: reads them.
        paths: of files, those of other kinds among them; listed anew each time.
    """

    def __init__(self, name: str, reader: ImageFileReader, paths: Iterable[str]) -> None:
        super().__init__(name, reader, frozenset(["image"]))
        self._paths = paths

    def pieces(self) -> Iterator[str]:
        """Paths of images and documents, and of links to folders outside."""
        return (path for path in self._paths if is_image_file(path) or path.endswith(FOLDER_END))

    def count(self) -> int | None:
        """How many there are; None if one is a document, whose pages only reading it tells."""
        total = 0
        for path in self.pieces():
            if path.lower().endswith(DOCUMENTS):
                return None
            total += 1
        return total

    def splits(self) -> list[Split[Any]]:
        """See `Source.splits`: some hundred files each."""
        paths, splits = self.pieces(), []
        while some := tuple(islice(paths, FILES_PER_SPLIT)):
            splits.append(Split(self.reader, some))
        return splits
