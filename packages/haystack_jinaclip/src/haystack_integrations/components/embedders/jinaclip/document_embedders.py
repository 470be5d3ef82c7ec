"""Documents: by their text, by their picture, or by both."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

from haystack import Document, component, logging
from haystack.components.converters.image.image_utils import _extract_image_sources_info

from haystack_integrations.components.embedders.jinaclip._component import Embedder, PictureOptions, TextOptions, usage
from haystack_integrations.components.embedders.jinaclip._pages import Page, Pages
from jinaclip import InputError, JinaClip, JinaClipError

logger = logging.getLogger(__name__)
mimetypes.add_type("image/webp", ".webp")  # a table of the system has them, if there is one
mimetypes.add_type("image/jpeg", ".jfif")


@dataclass(eq=False, repr=False, kw_only=True)
class DocumentsEmbedder(Embedder):
    """Options of whatever embeds documents.

    Args:
        progress_bar: whether to draw one.
        raise_on_failure: False keeps a document that cannot be embedded, without embedding, and logs why. A wrong key,
            an empty balance or budget and a wrong option are raised all the same.
    """

    batch_size: int = 64
    progress_bar: bool = True
    raise_on_failure: bool = True
    method: ClassVar[str]

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embeds documents.

        Returns:
            `documents`, copies with `embedding` set to a list of floats, all of them and in order; `meta` with the
            model and the tokens used, empty where there was nothing to do.

        Raises:
            TypeError: it is no list of Documents.
            ValueError: a document cannot be embedded, or there is no key.
            RuntimeError: a page of a PDF file cannot be rendered.
            JinaClipError: the backend failed; `.partial` holds what was embedded, by position.
        """
        with Batch(self, documents, self.warm_up()) as batch:
            batch.rows = dict(enumerate(self._embed(batch)))
        return batch.output()

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        with await asyncio.to_thread(Batch, self, documents, await self.warm_up_async()) as batch:  # looks at files
            batch.rows = dict(enumerate(await self._embed(batch, "a")))
        return batch.output()

    def parts(self, document: Document) -> tuple[Any, ...]:
        """What is embedded of a document: a text, a picture, or both. Raises InputError if it has none."""
        raise NotImplementedError

    def embedded(self, document: Document, embedding: list[float]) -> Document:
        """A copy with its embedding."""
        return replace(document, embedding=embedding)

    def _embed(self, batch: Batch, twin: str = "", **options: Any) -> Any:
        return getattr(batch.clip, twin + self.method)(batch.feed(), **options)


@dataclass(eq=False, repr=False, kw_only=True)
class ContentOptions(TextOptions):
    """Options of whatever embeds the text of documents.

    Args:
        meta_fields_to_embed: fields of `meta` that go before the content.
        embedding_separator: stands between them.
    """

    meta_fields_to_embed: list[str] | None = None
    embedding_separator: str = "\n"

    def parts(self, document: Document) -> tuple[Any, ...]:
        """The text of a document. Raises InputError if it has none."""
        found = [document.meta.get(name) for name in self.meta_fields_to_embed or ()]
        texts = [*(str(value) for value in found if value is not None), document.content or ""]
        if not any(text.strip() for text in texts):
            raise InputError(f"Document with ID '{document.id}' has no text to embed")
        return (self.prefix + self.embedding_separator.join(texts) + self.suffix,)


@dataclass(eq=False, repr=False, kw_only=True)
class FileOptions(PictureOptions):
    """Options of whatever embeds the pictures of documents.

    Args:
        file_path_meta_field: field of `meta` with the path of the picture, for documents without `blob`.
        root_path: folder that these paths start from and may not leave; None is the working directory.
    """

    file_path_meta_field: str = "file_path"
    root_path: str | None = None
    source_type: ClassVar[str] = "image"

    def parts(self, document: Document) -> tuple[Any, ...]:
        """The picture of a document, not yet opened. Raises InputError if it has none that may be read."""
        try:
            return (self._source(document),)
        except (OSError, TypeError, ValueError) as error:
            raise InputError(f"Document with ID '{document.id}': {error}") from None

    def embedded(self, document: Document, embedding: list[float]) -> Document:
        """A copy with its embedding, and what that was made of."""
        source = {"type": self.source_type, "file_path_meta_field": self.file_path_meta_field}
        return replace(document, embedding=embedding, meta={**document.meta, "embedding_source": source})

    def _source(self, document: Document) -> bytes | Path | Page:
        blob, number = document.blob, document.meta.get("page_number")
        if blob is None:
            root = self.root_path or str(Path.cwd())
            found = _extract_image_sources_info([document], self.file_path_meta_field, root)[0]
        source, mime_type = (found["path"], found["mime_type"]) if blob is None else (blob.data, blob.mime_type)
        if mime_type != "application/pdf":
            return source
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"meta['page_number'] of a page of a PDF must be a whole number from 1, not {number!r}")
        return Page(source, number)


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipDocumentEmbedder(ContentOptions, DocumentsEmbedder):
    """Embeds documents by their content, and by fields of their meta where told to."""

    method: ClassVar[str] = "embed_documents"


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipDocumentImageEmbedder(FileOptions, DocumentsEmbedder):
    """Embeds documents by their picture: `blob`, else the file that `meta` names, or a page of it if that is a PDF."""

    method: ClassVar[str] = "embed_images"


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipFusedDocumentEmbedder(ContentOptions, FileOptions, DocumentsEmbedder):
    """Embeds documents that have a text and a picture, such as products: one vector for both; see `jinaclip.fuse`.

    Args:
        weight: share of the text, from 0 (picture alone) to 1 (text alone).
    """

    weight: float = 0.5
    method: ClassVar[str] = "embed_pairs"
    source_type: ClassVar[str] = "text+image"

    def parts(self, document: Document) -> tuple[Any, ...]:
        """The text and the picture of a document. Raises InputError if it lacks one."""
        return ContentOptions.parts(self, document) + FileOptions.parts(self, document)

    def _embed(self, batch: Batch, twin: str = "", **options: Any) -> Any:
        return DocumentsEmbedder._embed(self, batch, twin, weight=self.weight, **options)


class Batch:
    """The documents of one run. As a context it takes what a failed call had embedded, if the embedder is lenient.

    Raises:
        TypeError: it is no list of Documents.
        InputError: one of them cannot be embedded, unless the embedder is lenient.
    """

    def __init__(self, embedder: DocumentsEmbedder, documents: list[Document], clip: JinaClip) -> None:
        given = documents if isinstance(documents, list) else None
        odd = sorted({type(item).__name__ for item in given or () if not isinstance(item, Document)})
        if given is None or odd:
            what = type(documents).__name__ if given is None else f"one with {', '.join(odd)} in it"
            others = "a query goes to JinaClipTextEmbedder or JinaClipImageEmbedder"
            raise TypeError(f"{type(embedder).__name__} takes a list of Documents, not {what}; {others}")
        self.clip, self.rows, self._before = clip, dict[int, Any](), clip.usage.tokens
        self._embedder, self._documents, self._pages = embedder, documents, Pages()
        self._errors = dict[int, JinaClipError]()
        self._parts = [self._attempt(i, embedder.parts, document) for i, document in enumerate(documents)]
        self._paged = any(isinstance(part, Page) for parts in self._parts for part in parts)

    def feed(self) -> Iterable[Any]:
        """The items: in a list, which the core looks through first, unless some may fail or are large."""
        items = (self._attempt(i, self._item, parts) for i, parts in enumerate(self._parts))
        return items if self._paged or not self._embedder.raise_on_failure else list(items)

    def output(self) -> dict[str, Any]:
        """All documents in order, those that failed without embedding."""
        done = self._embedder.embedded
        documents = [
            done(document, self.rows[i].tolist()) if i in self.rows else replace(document, embedding=None)
            for i, document in enumerate(self._documents)
        ]
        return {"documents": documents, "meta": usage(self.clip, self._before) if documents else {}}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> bool:
        if self._paged:  # others may be rendering, and this waits for them
            self._pages.close()
        if not isinstance(error, JinaClipError):
            return False
        if error.index is not None:
            error.add_note(f"item {error.index} is the document with ID '{self._documents[error.index].id}'")
        self.rows, self._errors = dict(error.partial.vectors), {**error.partial.errors, **self._errors}
        # a document's own fault, or one of the service that may be gone next time
        small = all(isinstance(each, InputError) or each.retryable for each in [error, *self._errors.values()])
        forgiven = small and not self._embedder.raise_on_failure
        for index in [i for i in range(len(self._documents)) if forgiven and i not in self.rows]:
            why = self._errors.get(index, error)
            logger.error("Document with ID '{id}' gets no embedding: {why}", id=self._documents[index].id, why=why)
        return forgiven

    def _attempt(self, index: int, make: Callable[[Any], Any], value: Any) -> Any:
        """What is made of a value; for a lenient embedder nothing where that fails, which the core refuses."""
        try:
            return make(value)
        except InputError as error:
            error.index = index
            if self._embedder.raise_on_failure:
                raise
            self._errors.setdefault(index, error)
            return ()

    def _item(self, parts: tuple[Any, ...]) -> Any:
        most = self.clip.config.image_policy.max_pixels
        ready = tuple(self._pages.render(part, most) if isinstance(part, Page) else part for part in parts)
        return ready[0] if len(ready) == 1 else ready
