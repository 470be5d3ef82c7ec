"""Queries, a text or a picture to search with, and documents: by their text, by their picture, or by both."""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from haystack import Document, component, logging
from haystack.dataclasses import ByteStream, ImageContent

from haystack_integrations.components.embedders.jinaclip._component import Embedder, PictureOptions, TextOptions
from jinaclip import Image, InputError, JinaClip, JinaClipError, Pages, fuse

logger = logging.getLogger(__name__)
PDF = "application/pdf"
ALLOW = "; set root_path to its folder, or allow that with image_policy={'allowed_roots': [...]}"
"""What helps a path in `meta`; the core, which does not know `root_path`, says to pass a Path."""


@component
class JinaClipTextEmbedder(TextOptions):
    """Embeds a text to search with; on jina-clip-v2 the model's own instruction for queries goes before it."""

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, text: str) -> dict[str, Any]:
        """Embeds one text.

        Returns:
            `embedding`, a list of floats, and `meta` with the model and the tokens used.

        Raises:
            TypeError: it is no str.
            ValueError: it is blank or too long, or there is no key.
            JinaClipError: the backend failed.
        """
        query, clip = self._query(text), self.warm_up()
        return self.answer(clip, clip.usage.tokens, clip.embed_query(query))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        query, clip = self._query(text), await self.warm_up_async()
        return self.answer(clip, clip.usage.tokens, await clip.aembed_query(query))

    def _query(self, text: Any) -> str:
        if isinstance(text, str):
            return self.prefix + text + self.suffix
        others = "Documents go to JinaClipDocumentEmbedder, a picture to JinaClipImageEmbedder"
        raise TypeError(f"JinaClipTextEmbedder takes a str, not {type(text).__name__}; {others}")


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipImageEmbedder(PictureOptions):
    """Embeds a picture to search with; its `embedding` fits any retriever's `query_embedding`.

    A str is an https or data: URL, or else a path that must lie in the working directory or under
    `image_policy["allowed_roots"]`, since it may come from an agent or a user.
    """

    url_mode: Literal["fetch", "forward"] = "fetch"

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, image: str | Path | ByteStream | ImageContent) -> dict[str, Any]:
        """Embeds one picture.

        Returns:
            `embedding`, a list of floats, and `meta` with the model and the tokens used.

        Raises:
            TypeError: it is nothing of the kind.
            ValueError: it cannot be opened, the policy refuses it, or there is no key.
            JinaClipError: the backend failed.
        """
        query, clip = self._query(image), self.warm_up()
        return self.answer(clip, clip.usage.tokens, clip.embed_image(query))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, image: str | Path | ByteStream | ImageContent) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        query, clip = self._query(image), await self.warm_up_async()
        return self.answer(clip, clip.usage.tokens, await clip.aembed_image(query))

    def _query(self, image: Any) -> str | Path | Image:
        if isinstance(image, ByteStream):
            return Image.from_bytes(image.data)
        if isinstance(image, ImageContent):
            return Image.from_base64(image.base64_image)
        if isinstance(image, str | Path):
            return image
        kinds = f"a str, Path, ByteStream or ImageContent, not {type(image).__name__}"
        raise TypeError(f"JinaClipImageEmbedder takes {kinds}; see JinaClipDocumentImageEmbedder, JinaClipTextEmbedder")


@dataclass(eq=False, repr=False, kw_only=True)
class DocumentsEmbedder(Embedder):
    """Options of whatever embeds documents.

    Args:
        progress_bar: whether to draw one.
        raise_on_failure: False keeps a document that cannot be embedded, without embedding, and logs why; during an
            outage that may be all of them. A wrong key, an empty balance or budget, a wrong option, weights that cannot
            be loaded and a missing extra are raised all the same.
    """

    batch_size: int = 64
    progress_bar: bool = True
    raise_on_failure: bool = True
    embed: ClassVar[str]
    """What it calls of the core."""

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
        with Batch(self, documents) as batch:
            if documents:  # else nothing is worth warming up for
                items = batch.items(Embedder.warm_up(self))
                batch.rows = dict(enumerate(self._embed(batch.clip, items)))
        return batch.output()

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        async with Batch(self, documents) as batch:
            if documents:
                items = await asyncio.to_thread(batch.items, await Embedder.warm_up_async(self))  # looks at files
                batch.rows = dict(enumerate(await self._embed(batch.clip, items, "a")))
        return await asyncio.to_thread(batch.output)  # millions of numbers become floats

    def item(self, document: Document, clip: JinaClip, pages: Pages) -> Any:
        """What is embedded of a document: a text, a picture, or both. Raises InputError if it has none."""
        raise NotImplementedError

    def check(self, documents: Any) -> None:
        """Raises TypeError if it is no list of Documents."""
        odd = [i for i in documents if not isinstance(i, Document)] if isinstance(documents, list) else [documents]
        if odd:
            what = f"{type(odd[0]).__name__}; queries go to JinaClipTextEmbedder or JinaClipImageEmbedder"
            raise TypeError(f"{type(self).__name__} takes a list of Documents, not {what}")

    def embedded(self, document: Document, embedding: list[float]) -> Document:
        """A copy with its embedding."""
        return replace(document, embedding=embedding)

    def _embed(self, clip: JinaClip, items: Iterable[Any], twin: str = "", **options: Any) -> Any:
        return getattr(clip, twin + self.embed)(items, **options)


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipDocumentEmbedder(TextOptions, DocumentsEmbedder):
    """Embeds documents by their content, and by fields of their meta where told to.

    Args:
        meta_fields_to_embed: fields of `meta` that go before the content.
        embedding_separator: stands between them.
    """

    meta_fields_to_embed: list[str] | None = None
    embedding_separator: str = "\n"
    embed: ClassVar[str] = "embed_documents"

    def item(self, document: Document, *_: object) -> Any:
        """The text of a document. Raises InputError if it has none."""
        found = [document.meta.get(name) for name in self.meta_fields_to_embed or ()]
        texts = [*(str(value) for value in found if value is not None), document.content or ""]
        if not any(text.strip() for text in texts):
            raise InputError("it has no text to embed")
        return self.prefix + self.embedding_separator.join(texts) + self.suffix


@dataclass(eq=False, repr=False, kw_only=True)
class FileOptions(PictureOptions, DocumentsEmbedder):
    """Options of whatever embeds the pictures of documents.

    Args:
        file_path_meta_field: field of `meta` with the path of the picture, for documents without `blob`.
        root_path: folder that these paths start from and may not leave, unless `image_policy["allowed_roots"]` names
            others; None is the working directory.
    """

    file_path_meta_field: str = "file_path"
    root_path: str | None = None
    embed: ClassVar[str] = "embed_images"
    source_type: ClassVar[str] = "image"

    def item(self, document: Document, clip: JinaClip, pages: Pages) -> Any:
        """The picture of a document, not yet opened. Raises InputError if it has none that may be read."""
        blob, path, kind = document.blob, document.meta.get(self.file_path_meta_field), self.picture_type(document)
        if not kind:
            raise InputError(f"neither blob nor meta[{self.file_path_meta_field!r}]={path!r} has a picture's MIME type")
        # an absolute path, since it may not be taken for an address
        source = clip.accept(blob.data if blob else str(Path(self.root_path or "", str(path)).absolute()))
        return pages.find(source, document.meta.get("page_number")) if kind == PDF else source

    def picture_type(self, document: Document) -> str:
        """The MIME type of a document's picture as far as its name tells; "" if it has none."""
        blob, path = document.blob, document.meta.get(self.file_path_meta_field)
        told = (blob.mime_type or "image/*") if blob else document.meta.get("mime_type")
        kind = str(told or mimetypes.guess_type(str(path), strict=False)[0])
        return kind if kind.startswith(("image/", PDF)) and (blob or isinstance(path, str)) else ""

    def embedded(self, document: Document, embedding: list[float]) -> Document:
        """A copy with its embedding, and what that was made of."""
        source = {"type": self.source_type, "file_path_meta_field": self.file_path_meta_field}
        return replace(document, embedding=embedding, meta={**document.meta, "embedding_source": source})


@component
class JinaClipDocumentImageEmbedder(FileOptions):
    """Embeds documents by their picture: `blob`, else the file that `meta` names, or a page of it if that is a PDF."""


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipFusedDocumentEmbedder(JinaClipDocumentEmbedder, FileOptions):
    """Embeds documents that have a text and a picture, such as products: one vector for both; see `jinaclip.fuse`.

    Args:
        weight: share of the text, from 0 (picture alone) to 1 (text alone).
    """

    weight: float = 0.5
    embed: ClassVar[str] = "embed_pairs"
    source_type: ClassVar[str] = "text+image"

    def __post_init__(self) -> None:
        Embedder.__post_init__(self)
        fuse([1.0], [1.0], self.weight)  # refuses a wrong weight

    def item(self, document: Document, *run: Any) -> Any:
        """The text and the picture of a document. Raises InputError if it lacks one."""
        return JinaClipDocumentEmbedder.item(self, document), FileOptions.item(self, document, *run)

    def _embed(self, clip: JinaClip, items: Iterable[Any], twin: str = "", **options: Any) -> Any:
        return DocumentsEmbedder._embed(self, clip, items, twin, weight=self.weight, **options)


class Batch(AbstractContextManager["Batch"], AbstractAsyncContextManager["Batch"]):
    """The documents of one run. As a context it takes what a failed call had embedded, if the embedder is lenient.

    Raises:
        TypeError: it is no list of Documents.
    """

    def __init__(self, embedder: DocumentsEmbedder, documents: list[Document]) -> None:
        embedder.check(documents)
        self._embedder, self._documents = embedder, documents
        self._pages, self.rows = Pages(), dict[int, Any]()

    def items(self, clip: JinaClip) -> Iterable[Any]:
        """What to embed: in a list, which the core looks through first, unless some may fail or are large.

        Args:
            clip: what will embed them.

        Raises:
            InputError: a document cannot be embedded; where the embedder is lenient, the error takes its place instead.
        """
        self.clip, self._before = clip, clip.usage.tokens
        items = [self._item(index, document) for index, document in enumerate(self._documents)]
        return items if self._embedder.raise_on_failure and not self._pages else iter(items)

    def output(self) -> dict[str, Any]:
        """All documents in order, those that failed without embedding."""
        documents = [replace(document, embedding=None) for document in self._documents]
        for index, row in self.rows.items():
            documents[index] = self._embedder.embedded(documents[index], row.tolist())
        return {"documents": documents, "meta": self._embedder.usage(self.clip, self._before) if documents else {}}

    def __exit__(self, _: object, error: BaseException | None, *__: object) -> bool:
        self._pages.close()
        return isinstance(error, JinaClipError) and self._forgives(error)

    async def __aexit__(self, *failure: Any) -> bool:
        return await asyncio.to_thread(self.__exit__, *failure)  # others may be rendering, and closing waits for them

    def _item(self, index: int, document: Document) -> Any:
        try:
            return self._embedder.item(document, self.clip, self._pages)
        except InputError as error:
            why = re.sub("; pass a pathlib.Path.*", ALLOW, str(error))
            if self._embedder.raise_on_failure:
                raise type(error)(f"Document with ID '{document.id}': {why}", index=index) from error
            return type(error)(why)  # the log will name the document

    def _forgives(self, error: JinaClipError) -> bool:
        """Whether a failed call costs only some documents their embedding; the log says which."""
        if error.index is not None:
            error.add_note(f"item {error.index} is the document with ID '{self._documents[error.index].id}'")
        self.rows, errors = dict(error.partial.vectors), error.partial.errors
        # a document's own fault, or one of the service that may be gone next time
        small = all(isinstance(each, InputError) or each.retryable for each in [error, *errors.values()])
        if self._embedder.raise_on_failure or not small:
            return False
        for i in sorted(set(range(len(self._documents))) - set(self.rows)):
            one, why = self._documents[i], errors.get(i, error)
            logger.error("Document with ID '{id}' gets no embedding: {why}", id=one.id, why=why)
        return True
