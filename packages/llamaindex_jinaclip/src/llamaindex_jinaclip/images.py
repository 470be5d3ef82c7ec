"""Images as LlamaIndex keeps them: nodes, documents, resources of either, and blocks of chat messages."""

from __future__ import annotations

import os
from typing import Any, NamedTuple, TypeAlias

from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.schema import BaseNode, ImageNode, MediaResource, NodeWithScore

from jinaclip import Image, InputError, JinaClip
from jinaclip.hosts import ImageLike

AnyImage: TypeAlias = ImageLike | BaseNode | NodeWithScore | MediaResource | ImageBlock
"""What every image parameter takes."""
HOLDERS = (BaseNode, NodeWithScore, MediaResource, ImageBlock)
"""LlamaIndex's classes that may hold an image."""
LOST = "no image; ImageNode(image_resource=...) and node dumps lose `data`: use ImageNode(image=<base64>)"


class Source(NamedTuple):
    """What a holder says of its image, as far as it does."""

    data: Any
    """Its file: base64 as str or bytes, or an open file."""
    path: str | None
    address: str | None


def image_source(holder: Any) -> Source | None:
    """Where the image of a holder is; None for a node that is made for text alone."""
    if isinstance(holder, NodeWithScore):
        return image_source(holder.node)
    if isinstance(holder, ImageNode):
        return Source(holder.image, holder.image_path, holder.image_url)
    if isinstance(holder, ImageBlock):
        return Source(holder.image, text_of(holder.path), text_of(holder.url))
    found = holder if isinstance(holder, MediaResource) else getattr(holder, "image_resource", None)
    return Source(found.data, text_of(found.path), text_of(found.url)) if found else None


def text_of(place: Any) -> str | None:
    """A path or an address as a str: it came with the data, so that the image policy confines it."""
    return None if place is None else str(place)


def find_image(holder: Any, max_bytes: int) -> ImageLike | None:
    """The image of a holder as the core takes it, not yet opened; None for a node that is made for text alone.

    Args:
        holder: a node, resource or block.
        max_bytes: the image policy's, which the length of base64 is held against before it is decoded.

    Raises:
        InputError: there should be an image and there is none, or its base64 is damaged or too long.
    """
    source = image_source(holder)
    if source is None:
        return None
    if not any(source):
        raise InputError(LOST)
    data = source.data
    if not isinstance(data, str | bytes) or not data:
        return data or source.path or source.address
    if data[:5].lower() in ("data:", b"data:"):
        return data if isinstance(data, str) else data.decode("ascii", "replace")
    return Image.from_base64(data, max_bytes=max_bytes)


def open_image(image: Any, clip: JinaClip) -> Image:
    """An image in any form, of a holder too, if the image policy allows it as far as can be told without opening it.

    Raises:
        InputError: it does not, or a holder has no image or a damaged one, or it is no image.
    """
    if isinstance(image, HOLDERS):
        found = find_image(image, clip.config.image_policy.max_bytes)
        if found is None:
            raise InputError(f"this {type(image).__name__} holds no image")
        image = found
    return clip.resolve_image(image)


def image_place(image: Any) -> str:
    """Where an image is, without what may be a secret, for events and labels; of one in memory only what it is."""
    if isinstance(image, HOLDERS):
        data, path, address = image_source(image) or Source(None, None, None)
        return "image" if data else place_of(path or address or "image")
    if isinstance(image, os.PathLike | Image):
        return str(image)
    return place_of(image, "str") if isinstance(image, str) else type(image).__name__


def place_of(name: str, in_memory: str = "image") -> str:
    """An address without its user and query, which may hold a password or a signature; a path as it is."""
    if "data:" in name[:99].lower():
        return in_memory
    return str(Image.from_url(name)) if "://" in name else name
