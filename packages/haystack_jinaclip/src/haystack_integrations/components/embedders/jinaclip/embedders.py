"""Queries, a text or an image to search with or both, and documents: by their text, by their image, or by both.

Saved pipelines name these classes by this module.
"""

from __future__ import annotations

from typing import Any

from haystack import component

from haystack_integrations.components.embedders.jinaclip._component import DocumentComponent, EmbeddingComponent
from haystack_integrations.components.embedders.jinaclip._handle import ClipHandle
from haystack_integrations.components.embedders.jinaclip._options import (
    FusedDocumentOptions,
    ImageDocumentOptions,
    ImageOptions,
    QueryOptions,
    TextDocumentOptions,
    TextOptions,
    take_options,
)
from haystack_integrations.components.embedders.jinaclip._queries import ImageInput, Query, embed_search, read_images
from haystack_integrations.components.embedders.jinaclip._sources import ImageSource, PairSource, TextSource
from jinaclip.hosts import Steps, arun_steps, check_weight, run_steps, without_arguments


@component
class JinaClipTextEmbedder(EmbeddingComponent[TextOptions]):
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

        Args:
            text: what to search for.

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
        return (yield from embed_search(clip, Query(self.options.prefix + text + self.options.suffix)))


@component
class JinaClipImageEmbedder(EmbeddingComponent[ImageOptions]):
    """Embeds an image to search with; its `embedding` fits any retriever's `query_embedding`.

    A str is an https, data: or file:// URL, or else a path; files must lie in the working directory or under
    `image_policy["allowed_roots"]`, since it may come from an agent or a user.

    Takes the options of `ImageOptions`.

    Attributes:
        options: as they were given, and the defaults of the others.
        handle: holds the component's JinaClip.
    """

    @take_options(ImageOptions)
    def __init__(self, options: ImageOptions) -> None:
        self.options = options
        self.handle = ClipHandle(options)

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    @without_arguments
    def run(self, image: ImageInput) -> dict[str, Any]:
        """Embeds one image, or several as one vector, their mean.

        Args:
            image: what to search for; in a list, such as converters of images give, None is passed over.

        Returns:
            `embedding`, a list of floats, and `meta` with the model and the tokens used.

        Raises:
            TypeError: it is nothing of the kind.
            ValueError: there is no image, it cannot be opened, the policy refuses it, or there is no key.
            JinaClipError: the backend failed.
        """
        return run_steps(self._embed(image))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    @without_arguments
    async def run_async(self, image: ImageInput) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return await arun_steps(self._embed(image))

    def _embed(self, image: ImageInput) -> Steps[dict[str, Any]]:
        query = Query(None, read_images(image, type(self).__name__))
        clip = yield from self.handle.wait()
        return (yield from embed_search(clip, query))


@component
class JinaClipQueryEmbedder(EmbeddingComponent[QueryOptions]):
    """Embeds a text, an image, or a text and an image together, as one vector to search with.

    Images are taken as `JinaClipImageEmbedder` takes them.

    Takes the options of `QueryOptions`: those for texts, those for images, and `weight`.

    Attributes:
        options: as they were given, and the defaults of the others.
        handle: holds the component's JinaClip.
    """

    @take_options(QueryOptions)
    def __init__(self, options: QueryOptions) -> None:
        check_weight(options.weight)
        self.options = options
        self.handle = ClipHandle(options)

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    @without_arguments
    def run(self, text: str | None = None, image: ImageInput = None, weight: float | None = None) -> dict[str, Any]:
        """Embeds a query of which at least one half is there.

        Args:
            text: what to search for; None or blank if it is the image alone.
            image: an image, or several, of which the mean counts; None is passed over.
            weight: share of the text, from 0 to 1, where there are both; None takes the component's own. What has no
                share is not sent.

        Returns:
            `embedding`, a list of floats, and `meta` with the model and the tokens used.

        Raises:
            TypeError: the text or the image is nothing of the kind.
            ValueError: there is neither, one cannot be embedded, the weight is out of range, or there is no key.
            JinaClipError: the backend failed.
        """
        return run_steps(self._embed(text, image, weight))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    @without_arguments
    async def run_async(
        self, text: str | None = None, image: ImageInput = None, weight: float | None = None
    ) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return await arun_steps(self._embed(text, image, weight))

    def _embed(self, text: str | None, image: ImageInput, weight: float | None) -> Steps[dict[str, Any]]:
        query = Query.of(text, image, self.options, weight=weight, component=type(self).__name__)
        clip = yield from self.handle.wait()
        return (yield from embed_search(clip, query))


@component
class JinaClipDocumentEmbedder(DocumentComponent[TextDocumentOptions]):
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


@component
class JinaClipDocumentImageEmbedder(DocumentComponent[ImageDocumentOptions]):
    """Embeds documents by their `blob`, or by the image file, address, or page of a PDF file that their meta names.

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


@component
class JinaClipFusedDocumentEmbedder(DocumentComponent[FusedDocumentOptions]):
    """Embeds documents that have a text and an image, such as products: one vector for both; see `jinaclip.fuse`.

    A document that has one of the two alone is embedded by that; what has no share by `weight` is not sent.

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
        self.source = PairSource.of(options)
