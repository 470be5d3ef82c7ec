"""What is embedded of a document: its text, its image, or both."""

from __future__ import annotations

import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from haystack import Document

from haystack_integrations.components.embedders.jinaclip._options import ImageDocumentOptions, TextDocumentOptions
from jinaclip import Image, InputError, JinaClip, Pair
from jinaclip.hosts import is_blank
from jinaclip.images import Page, Pages, outside_of

PDF = "application/pdf"


class Source(Protocol):
    """Finds what is embedded of a document."""

    @property
    def label(self) -> dict[str, str] | None:
        """What `meta["embedding_source"]` says of the embedding, if anything."""

    def find(self, document: Document, clip: JinaClip, pages: Pages) -> str | Image | Page | Pair:
        """What to embed. Raises InputError if the document has nothing of the kind."""

    def is_page(self, document: Document) -> bool:
        """Whether that is, or holds, a page of a PDF file."""


@dataclass(frozen=True, slots=True)
class TextSource:
    """The text of a document: fields of its meta and its content.

    Attributes:
        meta_fields: names of the fields that go before the content.
        separator: stands between them.
        prefix: goes before it all.
        suffix: goes after it all.
    """

    meta_fields: list[str] | None
    separator: str
    prefix: str
    suffix: str

    @classmethod
    def of(cls, options: TextDocumentOptions) -> Self:
        """As the options of a component say."""
        return cls(options.meta_fields_to_embed, options.embedding_separator, options.prefix, options.suffix)

    @property
    def label(self) -> None:
        """Nothing, as Haystack's own embedders of texts."""
        return

    def find(self, document: Document, clip: JinaClip | None = None, pages: Pages | None = None) -> str:
        """The text. Raises InputError if there is none."""
        values = [document.meta.get(name) for name in self.meta_fields or ()]
        texts = [*(str(value) for value in values if value is not None), document.content or ""]
        if all(map(is_blank, texts)):
            raise InputError("it has no text to embed")
        return self.prefix + self.separator.join(texts) + self.suffix

    def is_page(self, _: Document) -> bool:
        """Never."""
        return False


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The image of a document: its blob, else the file that its meta names, or a page of it if that is a PDF.

    Attributes:
        meta_field: field of the meta with the path of the file.
        root: folder that paths start from; None is the working directory of each call.
    """

    meta_field: str
    root: Path | None

    @classmethod
    def of(cls, options: ImageDocumentOptions) -> Self:
        """As the options of a component say."""
        root = options.root_path
        return cls(options.file_path_meta_field, None if root is None else Path(root).absolute())

    @property
    def label(self) -> dict[str, str]:
        """As Haystack's own embedders of images write it."""
        return {"type": "image", "file_path_meta_field": self.meta_field}

    def find(self, document: Document, clip: JinaClip, pages: Pages) -> Image | Page:
        """The image, not yet opened. Raises InputError if there is none that may be read."""
        blob, path = document.blob, document.meta.get(self.meta_field)
        mime_type = self.mime_type(document)
        if not mime_type:
            raise InputError(f"neither blob nor meta[{self.meta_field!r}]={path!r} has the MIME type of an image")
        image = clip.resolve_image(blob.data) if blob else self._file(str(path), clip)
        return pages.find(image, document.meta.get("page_number")) if mime_type == PDF else image

    def mime_type(self, document: Document) -> str:
        """The MIME type of a document's image, or of its PDF file, as far as names tell; "" if it has no image."""
        blob, path = document.blob, document.meta.get(self.meta_field)
        if blob:
            mime_type = blob.mime_type or "image/*"
        elif isinstance(path, str):
            mime_type = str(document.meta.get("mime_type") or mimetypes.guess_type(path, strict=False)[0])
        else:
            return ""
        return mime_type if mime_type.startswith(("image/", PDF)) else ""

    def is_page(self, document: Document) -> bool:
        """Whether it is a page of a PDF file."""
        return self.mime_type(document) == PDF

    def _file(self, path: str, clip: JinaClip) -> Image:
        absolute = str(Path(self.root or "", path).absolute())  # which cannot be taken for an address
        try:
            return clip.resolve_image(absolute)
        except InputError:
            image = Image("path", Path(absolute), confined=True)
            limit = outside_of(image, clip.config.image_policy)
            if limit is None:
                raise
            raise InputError(
                f"image file {str(image)!r} lies outside {limit}; set root_path to its folder, or allow that with "
                "image_policy={'allowed_roots': [...]}"
            ) from None


@dataclass(frozen=True, slots=True)
class PairSource:
    """The text and the image of a document, as one vector.

    Attributes:
        text: finds the text.
        image: finds the image.
        weight: share of the text, from 0 to 1.
    """

    text: TextSource
    image: ImageSource
    weight: float

    @property
    def label(self) -> dict[str, str]:
        """As that of an image, of another type."""
        return {**self.image.label, "type": "text+image"}

    def find(self, document: Document, clip: JinaClip, pages: Pages) -> Pair:
        """Both. Raises InputError if the document lacks one."""
        return Pair(self.text.find(document), self.image.find(document, clip, pages), self.weight)

    def is_page(self, document: Document) -> bool:
        """Whether the image is a page of a PDF file."""
        return self.image.is_page(document)
