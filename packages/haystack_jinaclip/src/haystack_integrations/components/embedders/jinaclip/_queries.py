"""One item to search with: a text, or an image in any form that Haystack has for one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from haystack.dataclasses import ByteStream, ImageContent

from haystack_integrations.components.embedders.jinaclip._documents import usage_meta
from jinaclip import Image, JinaClip
from jinaclip.hosts import Kind, Steps, aembed_query, embed_query, wait_for


def embed_one(
    clip: JinaClip, item: Any, convert: Callable[[Any], Any] | None = None, *, kind: Kind
) -> Steps[dict[str, Any]]:
    """Embeds one item to search with.

    Args:
        clip: embeds it.
        item: a text, or what `convert` makes an image of.
        convert: None for a text.
        kind: what messages call it.

    Returns:
        `embedding`, a list of floats, and `meta` with the model and the tokens used.

    Raises:
        InputError: it cannot be embedded.
        JinaClipError: the backend failed.
    """
    results = yield from wait_for(embed_query, aembed_query, clip, item, convert, kind=kind)
    return {"embedding": results.unwrap()[0].tolist(), "meta": usage_meta(clip, results)}


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
        return Image.from_base64(image.base64_image, max_bytes=clip.config.image_policy.max_bytes)
    return clip.resolve_image(image)
