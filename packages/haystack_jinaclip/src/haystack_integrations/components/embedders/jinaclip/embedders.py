"""Queries, a text or an image to search with, and documents: by their text, by their image, or by both.

Saved pipelines name these classes by this module.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Self

from haystack import Document, component, default_from_dict, default_to_dict
from haystack.dataclasses import ByteStream, ImageContent

from haystack_integrations.components.embedders.jinaclip._documents import (
    EmbeddedDocuments,
    check_documents,
    embed_documents,
)
from haystack_integrations.components.embedders.jinaclip._handle import ClipHandle
from haystack_integrations.components.embedders.jinaclip._options import (
    FusedDocumentOptions,
    ImageDocumentOptions,
    ImageQueryOptions,
    TextDocumentOptions,
    TextOptions,
    take_options,
)
from haystack_integrations.components.embedders.jinaclip._queries import as_image, check_image, embed_one
from haystack_integrations.components.embedders.jinaclip._sources import ImageSource, PairSource, TextSource
from jinaclip.hosts import Steps, arun_steps, check_weight, run_steps, without_arguments


@component
class JinaClipTextEmbedder:
    """Embeds a text to search with; on jina-clip-v2 the model's own instruction for queries goes before it.

    Takes the options of `TextOptions`; `deadline`, for which None is 30 seconds, is that of the whole call.

    Attributes:
        options: as they were given, and the defaults of the others.
        handle: holds the component's JinaClip.
    """

    @take_options(TextOptions)
    def __init__(self, options: TextOptions) -> None:
        self.options = options
        self.handle = ClipHandle(options)

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
        return run_steps(self._embed(text))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return await arun_steps(self._embed(text))

    def _embed(self, text: Any) -> Steps[dict[str, Any]]:
        if not isinstance(text, str):
            others = "Documents go to JinaClipDocumentEmbedder, an image to JinaClipImageEmbedder"
            raise TypeError(f"JinaClipTextEmbedder takes a str, not {type(text).__name__}; {others}")
        clip = yield from self.handle.wait()
        return (yield from embed_one(clip, self.options.prefix + text + self.options.suffix, kind="text"))

    def to_dict(self) -> dict[str, Any]:
        """The component as a saved pipeline holds it, without `transport`.

        Raises:
            ValueError: the key is a token, or the value of a header is one or a str; these are never saved.
        """
        return default_to_dict(self, **self.options.to_save())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component of a saved pipeline."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Reads the key or loads the weights. Pipelines and `run` do it; once warm it does nothing.

        Raises:
            ValueError: no key is set, or the options do not fit the model.
            JinaClipError: the weights cannot be loaded.
        """
        self.handle.warm_up()

    async def warm_up_async(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self.handle.warm_up_async()

    def close(self) -> None:
        """Closes connections and lets go of the weights; the next run opens and loads them again."""
        self.handle.close()

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""
        await self.handle.close_async()

    def _get_telemetry_data(self) -> dict[str, Any]:
        return self.options.telemetry()


@component
class JinaClipImageEmbedder:
    """Embeds an image to search with; its `embedding` fits any retriever's `query_embedding`.

    A str is an https, data: or file:// URL, or else a path; files must lie in the working directory or under
    `image_policy["allowed_roots"]`, since it may come from an agent or a user.

    Takes the options of `ImageQueryOptions`.

    Attributes:
        options: as they were given, and the defaults of the others.
        handle: holds the component's JinaClip.
    """

    @take_options(ImageQueryOptions)
    def __init__(self, options: ImageQueryOptions) -> None:
        self.options = options
        self.handle = ClipHandle(options)

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    @without_arguments
    def run(self, image: str | Path | ByteStream | ImageContent) -> dict[str, Any]:
        """Embeds one image.

        Returns:
            `embedding`, a list of floats, and `meta` with the model and the tokens used.

        Raises:
            TypeError: it is nothing of the kind.
            ValueError: it cannot be opened, the policy refuses it, or there is no key.
            JinaClipError: the backend failed.
        """
        return run_steps(self._embed(image))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    @without_arguments
    async def run_async(self, image: str | Path | ByteStream | ImageContent) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return await arun_steps(self._embed(image))

    def _embed(self, image: Any) -> Steps[dict[str, Any]]:
        check_image(image)
        clip = yield from self.handle.wait()
        return (yield from embed_one(clip, image, partial(as_image, clip=clip), kind="image"))

    def to_dict(self) -> dict[str, Any]:
        """The component as a saved pipeline holds it, without `transport`.

        Raises:
            ValueError: the key is a token, or the value of a header is one or a str; these are never saved.
        """
        return default_to_dict(self, **self.options.to_save())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component of a saved pipeline."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Reads the key or loads the weights. Pipelines and `run` do it; once warm it does nothing.

        Raises:
            ValueError: no key is set, or the options do not fit the model.
            JinaClipError: the weights cannot be loaded.
        """
        self.handle.warm_up()

    async def warm_up_async(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self.handle.warm_up_async()

    def close(self) -> None:
        """Closes connections and lets go of the weights; the next run opens and loads them again."""
        self.handle.close()

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""
        await self.handle.close_async()

    def _get_telemetry_data(self) -> dict[str, Any]:
        return self.options.telemetry()


@component
class JinaClipDocumentEmbedder:
    """Embeds documents by their content, and by fields of their meta where there are any to embed.

    Takes the options of `TextDocumentOptions`.

    Attributes:
        options: as they were given, and the defaults of the others.
        handle: holds the component's JinaClip.
        source: finds the text of a document.
    """

    @take_options(TextDocumentOptions)
    def __init__(self, options: TextDocumentOptions) -> None:
        self.options = options
        self.handle = ClipHandle(options)
        self.source = TextSource.of(options)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    @without_arguments
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
        return run_steps(self._embed(documents)).output()

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    @without_arguments
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return (await arun_steps(self._embed(documents))).output()

    def _embed(self, documents: list[Document]) -> Steps[EmbeddedDocuments]:
        check_documents(documents, type(self).__name__)
        strict = self.options.raise_on_failure
        return (yield from embed_documents(self.handle, self.source, documents, raise_on_failure=strict))

    def to_dict(self) -> dict[str, Any]:
        """The component as a saved pipeline holds it, without `transport`.

        Raises:
            ValueError: the key is a token, or the value of a header is one or a str; these are never saved.
        """
        return default_to_dict(self, **self.options.to_save())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component of a saved pipeline."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Reads the key or loads the weights. Pipelines and `run` do it; once warm it does nothing.

        Raises:
            ValueError: no key is set, or the options do not fit the model.
            JinaClipError: the weights cannot be loaded.
        """
        self.handle.warm_up()

    async def warm_up_async(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self.handle.warm_up_async()

    def close(self) -> None:
        """Closes connections and lets go of the weights; the next run opens and loads them again."""
        self.handle.close()

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""
        await self.handle.close_async()

    def _get_telemetry_data(self) -> dict[str, Any]:
        return self.options.telemetry()


@component
class JinaClipDocumentImageEmbedder:
    """Embeds documents by their image: `blob`, else the file that `meta` names, or a page of it if that is a PDF.

    Takes the options of `ImageDocumentOptions`.

    Attributes:
        options: as they were given, and the defaults of the others.
        handle: holds the component's JinaClip.
        source: finds the image of a document.
    """

    @take_options(ImageDocumentOptions)
    def __init__(self, options: ImageDocumentOptions) -> None:
        self.options = options
        self.handle = ClipHandle(options)
        self.source = ImageSource.of(options)

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    @without_arguments
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
        return run_steps(self._embed(documents)).output()

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    @without_arguments
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return (await arun_steps(self._embed(documents))).output()

    def _embed(self, documents: list[Document]) -> Steps[EmbeddedDocuments]:
        check_documents(documents, type(self).__name__)
        strict = self.options.raise_on_failure
        return (yield from embed_documents(self.handle, self.source, documents, raise_on_failure=strict))

    def to_dict(self) -> dict[str, Any]:
        """The component as a saved pipeline holds it, without `transport`.

        Raises:
            ValueError: the key is a token, or the value of a header is one or a str; these are never saved.
        """
        return default_to_dict(self, **self.options.to_save())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component of a saved pipeline."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Reads the key or loads the weights. Pipelines and `run` do it; once warm it does nothing.

        Raises:
            ValueError: no key is set, or the options do not fit the model.
            JinaClipError: the weights cannot be loaded.
        """
        self.handle.warm_up()

    async def warm_up_async(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self.handle.warm_up_async()

    def close(self) -> None:
        """Closes connections and lets go of the weights; the next run opens and loads them again."""
        self.handle.close()

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""
        await self.handle.close_async()

    def _get_telemetry_data(self) -> dict[str, Any]:
        return self.options.telemetry()


@component
class JinaClipFusedDocumentEmbedder:
    """Embeds documents that have a text and an image, such as products: one vector for both; see `jinaclip.fuse`.

    Takes the options of `FusedDocumentOptions`: those for texts, those for images, and `weight`.

    Attributes:
        options: as they were given, and the defaults of the others.
        handle: holds the component's JinaClip.
        source: finds the text and the image of a document.
    """

    @take_options(FusedDocumentOptions)
    def __init__(self, options: FusedDocumentOptions) -> None:
        self.options = options
        self.handle = ClipHandle(options)
        self.source = PairSource(TextSource.of(options), ImageSource.of(options), check_weight(options.weight))

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    @without_arguments
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
        return run_steps(self._embed(documents)).output()

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    @without_arguments
    async def run_async(self, documents: list[Document]) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return (await arun_steps(self._embed(documents))).output()

    def _embed(self, documents: list[Document]) -> Steps[EmbeddedDocuments]:
        check_documents(documents, type(self).__name__)
        strict = self.options.raise_on_failure
        return (yield from embed_documents(self.handle, self.source, documents, raise_on_failure=strict))

    def to_dict(self) -> dict[str, Any]:
        """The component as a saved pipeline holds it, without `transport`.

        Raises:
            ValueError: the key is a token, or the value of a header is one or a str; these are never saved.
        """
        return default_to_dict(self, **self.options.to_save())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component of a saved pipeline."""
        return default_from_dict(cls, data)

    def warm_up(self) -> None:
        """Reads the key or loads the weights. Pipelines and `run` do it; once warm it does nothing.

        Raises:
            ValueError: no key is set, or the options do not fit the model.
            JinaClipError: the weights cannot be loaded.
        """
        self.handle.warm_up()

    async def warm_up_async(self) -> None:
        """`warm_up` without blocking the event loop."""
        await self.handle.warm_up_async()

    def close(self) -> None:
        """Closes connections and lets go of the weights; the next run opens and loads them again."""
        self.handle.close()

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""
        await self.handle.close_async()

    def _get_telemetry_data(self) -> dict[str, Any]:
        return self.options.telemetry()
