"""Queries, a text or an image to search with, and documents: by their text, by their image, or by both.

Saved pipelines name these classes by this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from haystack import Document, component
from haystack.dataclasses import ByteStream, ImageContent

from haystack_integrations.components.embedders.jinaclip._component import JinaClipComponent, usage_meta
from haystack_integrations.components.embedders.jinaclip._documents import aembed_documents, embed_documents
from haystack_integrations.components.embedders.jinaclip._sources import ImageSource, PairSource, TextSource
from jinaclip import Image, JinaClip, Results
from jinaclip.hosts import EmbedderConfig, ImageResize, UrlMode, aembed_query, check_weight, embed_query


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipTextEmbedder(JinaClipComponent):
    """Embeds a text to search with; on jina-clip-v2 the model's own instruction for queries goes before it.

    Args:
        prefix: goes before the text.
        suffix: goes after the text.
        deadline: seconds the whole call may take; None is 30.
    """

    prefix: str = ""
    suffix: str = ""
    truncate: bool = EmbedderConfig.truncate

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
        return query_output(clip, embed_query(clip, query))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        query, clip = self._query(text), await self.warm_up_async()
        return query_output(clip, await aembed_query(clip, query))

    def _query(self, text: Any) -> str:
        if isinstance(text, str):
            return self.prefix + text + self.suffix
        others = "Documents go to JinaClipDocumentEmbedder, an image to JinaClipImageEmbedder"
        raise TypeError(f"JinaClipTextEmbedder takes a str, not {type(text).__name__}; {others}")


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipImageEmbedder(JinaClipComponent):
    """Embeds an image to search with; its `embedding` fits any retriever's `query_embedding`.

    A str is an https or data: URL, or else a path that must lie in the working directory or under
    `image_policy["allowed_roots"]`, since it may come from an agent or a user.

    Args:
        image_policy: fields of `jinaclip.ImagePolicy` by name, as plain values that YAML can hold.
    """

    image_policy: dict[str, Any] | None = None
    image_resize: ImageResize = EmbedderConfig.image_resize
    image_quality: int | None = EmbedderConfig.image_quality
    url_mode: UrlMode = EmbedderConfig.url_mode

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    def run(self, image: str | Path | ByteStream | ImageContent) -> dict[str, Any]:
        """Embeds one image.

        Returns:
            `embedding`, a list of floats, and `meta` with the model and the tokens used.

        Raises:
            TypeError: it is nothing of the kind.
            ValueError: it cannot be opened, the policy refuses it, or there is no key.
            JinaClipError: the backend failed.
        """
        check_image(image)
        clip = self.warm_up()
        return query_output(clip, embed_query(clip, image, partial(as_image, clip=clip)))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, image: str | Path | ByteStream | ImageContent) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        check_image(image)
        clip = await self.warm_up_async()
        return query_output(clip, await aembed_query(clip, image, partial(as_image, clip=clip)))


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipDocumentEmbedder(JinaClipComponent):
    """Embeds documents by their content, and by fields of their meta where there are any to embed.

    Args:
        prefix: goes before each text.
        suffix: goes after each text.
        meta_fields_to_embed: fields of `meta` that go before the content.
        embedding_separator: stands between them.
        progress_bar: whether to draw one.
        raise_on_failure: False keeps a document that cannot be embedded, without embedding, and logs why; during an
            outage that may be all of them. A wrong key, an empty balance or budget, a wrong option, weights that cannot
            be loaded and a missing extra are raised all the same.
    """

    prefix: str = ""
    suffix: str = ""
    truncate: bool = EmbedderConfig.truncate
    meta_fields_to_embed: list[str] | None = None
    embedding_separator: str = "\n"
    batch_size: int | None = EmbedderConfig.batch_size
    progress_bar: bool = True
    raise_on_failure: bool = True

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embeds documents.

        Returns:
            `documents`, copies with `embedding` set to a list of floats, all of them and in order; `meta` with the
            model and the tokens used, empty where there was nothing to do.

        Raises:
            TypeError: it is no list of Documents.
            ValueError: a document has no text, or one that is too long, or there is no key.
            JinaClipError: the backend failed; `.partial` holds what was embedded, a `jinaclip.Results`.
        """
        return embed_documents(self, self._source(), documents, raise_on_failure=self.raise_on_failure)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return await aembed_documents(self, self._source(), documents, raise_on_failure=self.raise_on_failure)

    def _source(self) -> TextSource:
        return TextSource(self.meta_fields_to_embed, self.embedding_separator, self.prefix, self.suffix)


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipDocumentImageEmbedder(JinaClipComponent):
    """Embeds documents by their image: `blob`, else the file that `meta` names, or a page of it if that is a PDF.

    Args:
        image_policy: fields of `jinaclip.ImagePolicy` by name, as plain values that YAML can hold.
        file_path_meta_field: field of `meta` with the path of the image, for documents without `blob`.
        root_path: folder that these paths start from and may not leave, unless `image_policy["allowed_roots"]` names
            others; None is the working directory.
        progress_bar: whether to draw one.
        raise_on_failure: see `JinaClipDocumentEmbedder`.
    """

    image_policy: dict[str, Any] | None = None
    image_resize: ImageResize = EmbedderConfig.image_resize
    image_quality: int | None = EmbedderConfig.image_quality
    file_path_meta_field: str = "file_path"
    root_path: str | None = None
    batch_size: int | None = EmbedderConfig.batch_size
    progress_bar: bool = True
    raise_on_failure: bool = True

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embeds documents.

        Returns:
            `documents`, copies with `embedding` set to a list of floats and `meta["embedding_source"]`, all of them and
            in order; `meta` with the model and the tokens used, empty where there was nothing to do.

        Raises:
            TypeError: it is no list of Documents.
            ValueError: a document has no image that may be read, or there is no key.
            RuntimeError: a page of a PDF file cannot be rendered.
            JinaClipError: the backend failed; `.partial` holds what was embedded, a `jinaclip.Results`.
        """
        return embed_documents(self, self._source(), documents, raise_on_failure=self.raise_on_failure)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return await aembed_documents(self, self._source(), documents, raise_on_failure=self.raise_on_failure)

    def _source(self) -> ImageSource:
        return ImageSource(self.file_path_meta_field, self.root_path)


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipFusedDocumentEmbedder(JinaClipComponent):
    """Embeds documents that have a text and an image, such as products: one vector for both; see `jinaclip.fuse`.

    Takes the options of `JinaClipDocumentEmbedder` and `JinaClipDocumentImageEmbedder`, and one of its own.

    Args:
        weight: share of the text, from 0 (the image alone is sent) to 1 (the text alone is sent).
    """

    prefix: str = ""
    suffix: str = ""
    truncate: bool = EmbedderConfig.truncate
    meta_fields_to_embed: list[str] | None = None
    embedding_separator: str = "\n"
    image_policy: dict[str, Any] | None = None
    image_resize: ImageResize = EmbedderConfig.image_resize
    image_quality: int | None = EmbedderConfig.image_quality
    file_path_meta_field: str = "file_path"
    root_path: str | None = None
    weight: float = 0.5
    batch_size: int | None = EmbedderConfig.batch_size
    progress_bar: bool = True
    raise_on_failure: bool = True

    def __post_init__(self) -> None:
        JinaClipComponent.__post_init__(self)
        check_weight(self.weight)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embeds documents.

        Returns:
            `documents`, copies with `embedding` set to a list of floats and `meta["embedding_source"]`, all of them and
            in order; `meta` with the model and the tokens used, empty where there was nothing to do.

        Raises:
            TypeError: it is no list of Documents.
            ValueError: a document lacks a text or an image that may be read, or there is no key.
            RuntimeError: a page of a PDF file cannot be rendered.
            JinaClipError: the backend failed; `.partial` holds what was embedded, a `jinaclip.Results`.
        """
        return embed_documents(self, self._source(), documents, raise_on_failure=self.raise_on_failure)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return await aembed_documents(self, self._source(), documents, raise_on_failure=self.raise_on_failure)

    def _source(self) -> PairSource:
        text = TextSource(self.meta_fields_to_embed, self.embedding_separator, self.prefix, self.suffix)
        return PairSource(text, ImageSource(self.file_path_meta_field, self.root_path), self.weight)


def check_image(image: Any) -> None:
    """Raises TypeError if it is nothing that JinaClipImageEmbedder takes."""
    if not isinstance(image, str | Path | ByteStream | ImageContent):
        kinds = f"a str, Path, ByteStream or ImageContent, not {type(image).__name__}"
        others = "see JinaClipDocumentImageEmbedder, JinaClipTextEmbedder"
        raise TypeError(f"JinaClipImageEmbedder takes {kinds}; {others}")


def as_image(image: str | Path | ByteStream | ImageContent, clip: JinaClip) -> Image:
    """The image, not yet opened. Raises InputError if the policy refuses it."""
    if isinstance(image, ByteStream):
        return Image.from_bytes(image.data)
    if isinstance(image, ImageContent):
        return Image.from_base64(image.base64_image)
    return clip.resolve_image(image)


def query_output(clip: JinaClip, results: Results) -> dict[str, Any]:
    """What an embedder of queries gives. Raises what the query failed with."""
    return {"embedding": results.unwrap()[0].tolist(), "meta": usage_meta(clip, results)}
