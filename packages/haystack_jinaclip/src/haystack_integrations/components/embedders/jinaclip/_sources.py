"""What is embedded of a document: its text, its image, or both."""

from __future__ import annotations

import mimetypes
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from haystack import Document
from haystack.dataclasses import ByteStream

from haystack_integrations.components.embedders.jinaclip._options import (
    FusedDocumentOptions,
    ImageDocumentOptions,
    TextDocumentOptions,
)
from jinaclip import Image, InputError, JinaClip, Pair
from jinaclip.hosts import check_weight, is_blank, is_data_uri
from jinaclip.images import Page, Pages, outside_of

PDF = "application/pdf"
UNSAID = ("", "application/octet-stream", "binary/octet-stream")
"""MIME types that say nothing: the content, or the name, has to tell."""
PDF_BEGINS, PDF_WITHIN = b"%PDF-", 1024
ADDRESS = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]+://")
FILE_PATH = "file_path"
"""Where Haystack's own converters put the name of a document's file."""
LONGEST_PLACE = 1000
"""Characters of a path or an address that are looked at to show it."""


class Source(Protocol):
    """Finds what is embedded of a document."""

    def has(self, document: Document) -> bool:
        """Whether a document has anything of the kind."""

    def find(self, document: Document, clip: JinaClip, pages: Pages) -> str | Image | Page | Pair:
        """What to embed. Raises InputError if the document has nothing of the kind."""

    def label(self, document: Document) -> dict[str, str] | None:
        """What `meta["embedding_source"]` says of the embedding, if anything."""

    def is_page(self, document: Document) -> bool:
        """Whether that is, or holds, a page of a PDF file."""

    def name(self, document: Document) -> str:
        """What messages call a document: its id, and its file if it has one."""


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

    def has(self, document: Document) -> bool:
        """Whether it has a text; a prefix alone is none."""
        return not all(map(is_blank, self._texts(document)))

    def find(self, document: Document, clip: JinaClip | None = None, pages: Pages | None = None) -> str:
        """The text. Raises InputError if there is none."""
        if not self.has(document):
            raise InputError("it has no text to embed")
        return self.prefix + self.separator.join(self._texts(document)) + self.suffix

    def label(self, _: Document) -> None:
        """Nothing, as Haystack's own embedders of texts."""
        return

    def is_page(self, _: Document) -> bool:
        """Never."""
        return False

    def name(self, document: Document) -> str:
        """Its id, and its file if it has one."""
        return name_document(document, FILE_PATH)

    def _texts(self, document: Document) -> list[str]:
        values = [document.meta.get(name) for name in self.meta_fields or ()]
        return [*(str(value) for value in values if value is not None), document.content or ""]


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The image of a document: its blob, else what its meta names: an image file, its address, a page of a PDF file.

    Attributes:
        meta_field: field of the meta with the path or the address.
        root: folder that paths start from; None is the working directory of each call.
    """

    meta_field: str
    root: Path | None

    @classmethod
    def of(cls, options: ImageDocumentOptions) -> Self:
        """As the options of a component say."""
        root = options.root_path
        return cls(options.file_path_meta_field, None if root is None else Path(root).absolute())

    def has(self, document: Document) -> bool:
        """Whether it has an image, as far as names tell. A PDF file without the number of a page is none."""
        kind = self.mime_type(document)
        return bool(kind) and (kind != PDF or document.meta.get("page_number") is not None)

    def find(self, document: Document, clip: JinaClip, pages: Pages) -> Image | Page:
        """The image, not yet opened. Raises InputError if there is none that may be read."""
        blob, place = document.blob, document.meta.get(self.meta_field)
        mime_type = self.mime_type(document)
        if not mime_type:
            raise InputError(self.absence(document))
        image = clip.resolve_image(blob.data) if blob else self._resolve(str(place), clip)
        return pages.find(image, read_number(document.meta.get("page_number"))) if mime_type == PDF else image

    def absence(self, document: Document) -> str:
        """What to say of a document without an image."""
        place = document.meta.get(self.meta_field)
        if not document.blob and place is None:
            return f"it has no image: neither a blob nor meta[{self.meta_field!r}]"
        return f"neither blob nor meta[{self.meta_field!r}]={show_value(place)} has the MIME type of an image"

    def label(self, _: Document) -> dict[str, str]:
        """As Haystack's own embedders of images write it."""
        return {"type": "image", "file_path_meta_field": self.meta_field}

    def mime_type(self, document: Document) -> str:
        """The MIME type of a document's image, or of its PDF file, as far as names tell; "" if it has no image."""
        blob, place = document.blob, document.meta.get(self.meta_field)
        if blob:
            mime_type = type_of_blob(blob)
        elif is_place(place):
            mime_type = type_of_place(str(place), document.meta.get("mime_type"))
        else:
            return ""
        return mime_type if mime_type.startswith(("image/", PDF)) else ""

    def is_page(self, document: Document) -> bool:
        """Whether it is a page of a PDF file."""
        return self.mime_type(document) == PDF

    def name(self, document: Document) -> str:
        """Its id, and its file if it has one."""
        return name_document(document, self.meta_field)

    def _resolve(self, place: str, clip: JinaClip) -> Image:
        if is_address(place):
            return clip.resolve_image(place)
        absolute = str(Path(self.root or "", place).absolute())  # which cannot be taken for an address
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
    """The text and the image of a document, as one vector; of a document with one of the two, that.

    Attributes:
        text: finds the text.
        image: finds the image.
        weight: share of the text, from 0 to 1; what has no share is not looked at.
    """

    text: TextSource
    image: ImageSource
    weight: float

    @classmethod
    def of(cls, options: FusedDocumentOptions) -> Self:
        """As the options of a component say. Raises ConfigError if the weight is out of range."""
        return cls(TextSource.of(options), ImageSource.of(options), check_weight(options.weight))

    def has(self, document: Document) -> bool:
        """Whether it has a text or an image."""
        return self.text.has(document) or self.image.has(document)

    def find(self, document: Document, clip: JinaClip, pages: Pages) -> str | Image | Page | Pair:
        """The pair, or the half that there is. Raises InputError if there is neither."""
        half = self._half(document)
        if half is self.image and not self.image.mime_type(document):
            raise InputError(f"it has no text to embed, and {self.image.absence(document)}")
        if half is not None:
            return half.find(document, clip, pages)
        return Pair(self.text.find(document), self.image.find(document, clip, pages), self.weight)

    def label(self, document: Document) -> dict[str, str] | None:
        """As that of an image, of another type; that of the half if there is one alone."""
        half = self._half(document)
        return {**self.image.label(document), "type": "text+image"} if half is None else half.label(document)

    def is_page(self, document: Document) -> bool:
        """Whether a page of a PDF file is among what is embedded."""
        return self._half(document) is not self.text and self.image.is_page(document)

    def name(self, document: Document) -> str:
        """Its id, and its file if it has one."""
        return self.image.name(document)

    def _half(self, document: Document) -> TextSource | ImageSource | None:
        """What embeds a document of which one half is there, or counts, alone; None where both are."""
        has_text, has_image = self.text.has(document), self.image.has(document)
        if has_text and has_image and 0 < self.weight < 1:
            return None
        return self.text if has_text and (self.weight > 0 or not has_image) else self.image


def is_place(place: Any) -> bool:
    """Whether a value of a document's meta may say where an image is."""
    return isinstance(place, str | os.PathLike)


def is_address(place: str) -> bool:
    """Whether it is an address, and no path; a name with a colon is a path."""
    return bool(ADDRESS.match(place)) or is_data_uri(place)


def type_of_blob(blob: ByteStream) -> str:
    """The MIME type of a blob; where none is said that of a PDF file if it begins like one, else that of an image."""
    said = plain_type(blob.mime_type)
    if said not in UNSAID:
        return said
    return PDF if PDF_BEGINS in blob.data[:PDF_WITHIN] else "image/*"


def type_of_place(place: str, said: Any) -> str:
    """The MIME type of a file: as it is said, else as its name tells; an address that tells nothing is an image's."""
    kind = plain_type(said)
    if kind not in UNSAID:
        return kind
    if is_data_uri(place):
        return "image/*"
    address = is_address(place)
    guess = mimetypes.guess_type(urlsplit(place).path if address else place, strict=False)[0]
    return guess or ("image/*" if address else "")


def plain_type(said: Any) -> str:
    """A MIME type as servers and files say it, in lower case and without parameters; "" if it is not said."""
    return str(said or "").partition(";")[0].strip().lower()


def read_number(number: Any) -> Any:
    """The number of a page, of which some make a str or a float; what is none stays, and is refused with a reason."""
    if isinstance(number, str) and number.strip().isdecimal():
        return int(number)
    return int(number) if isinstance(number, float) and number.is_integer() else number


def name_document(document: Document, field: str) -> str:
    """What messages call a document."""
    place = document.meta.get(field)
    where = f" ({show_place(place)})" if is_place(place) and str(place) else ""
    return f"Document with ID '{document.id}'{where}"


def show_value(value: Any) -> str:
    """What meta says of an image, for messages: of what may hold one itself only the type."""
    if is_place(value):
        return repr(show_place(value) if str(value) else "")
    return "None" if value is None else f"<{type(value).__name__}>"


def show_place(place: Any) -> str:
    """A path or an address for messages: neither bytes of an image in it, nor the query of an address."""
    text = str(place)[:LONGEST_PLACE]
    return str(Image.from_url(text) if is_address(text) else Image.from_path(text))
