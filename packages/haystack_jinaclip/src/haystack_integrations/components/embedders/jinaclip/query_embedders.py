"""Queries: a text or a picture to search with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from haystack import component
from haystack.dataclasses import ByteStream, ImageContent

from haystack_integrations.components.embedders.jinaclip._component import PictureOptions, TextOptions, answer
from jinaclip import Image


@component
@dataclass(eq=False, repr=False, kw_only=True)
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
        return answer(clip, clip.usage.tokens, clip.embed_query(query))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, text: str) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        query, clip = self._query(text), await self.warm_up_async()
        return answer(clip, clip.usage.tokens, await clip.aembed_query(query))

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
        return answer(clip, clip.usage.tokens, clip.embed_image(query))

    @component.output_types(embedding=list[float], meta=dict[str, Any])
    async def run_async(self, image: str | Path | ByteStream | ImageContent) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        query, clip = self._query(image), await self.warm_up_async()
        return answer(clip, clip.usage.tokens, await clip.aembed_image(query))

    def _query(self, image: Any) -> str | Path | Image:
        if isinstance(image, ByteStream):
            return Image.from_bytes(image.data)
        if isinstance(image, ImageContent):
            return Image.from_base64(image.base64_image)
        if isinstance(image, str | Path):
            return image
        kinds = f"a str, Path, ByteStream or ImageContent, not {type(image).__name__}"
        raise TypeError(f"JinaClipImageEmbedder takes {kinds}; see JinaClipDocumentImageEmbedder, JinaClipTextEmbedder")
