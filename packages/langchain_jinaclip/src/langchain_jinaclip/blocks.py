"""Content blocks of messages, in LangChain's standard shape or in a provider's: the text or the image in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import HumanMessage

from jinaclip import InputError
from jinaclip.hosts import ImageLike

IMAGE_TYPES = ("image", "image_url", "input_image")
"""Blocks that hold an image, or are meant to."""
FILE_TYPES = ("file", "media")
"""Blocks that hold an image if their `mime_type` says so."""


def is_image_block(block: Mapping[str, Any]) -> bool:
    """Whether a block is meant as an image, usable or not."""
    kind = block.get("type")
    if kind in FILE_TYPES:
        return str(block.get("mime_type")).lower().startswith("image/")
    return kind in IMAGE_TYPES or (kind is None and isinstance(block.get("image"), Mapping))


def text_of_block(block: Mapping[str, Any]) -> str | None:
    """The text of a text block; None of any other, be it reasoning, a tool call or a sound."""
    standard = standard_block(block)
    return str(standard.get("text") or "") if standard["type"] == "text" else None


def image_of_block(block: Mapping[str, Any]) -> ImageLike:
    """The URL, the data: URI or the bytes that an image block holds.

    Raises:
        InputError: a block without an image that can be opened here.
    """
    standard = standard_block(block) if is_image_block(block) else {}
    data: Any = standard.get("base64")
    if isinstance(data, str) and data:
        return f"data:{standard.get('mime_type') or 'image/*'};base64,{data}"
    found: Any = data or standard.get("url")
    if found:
        image: ImageLike = found
        return image
    raise InputError(
        f"a content block of type {block.get('type')!r} without url or base64 of an image; pass an image block with "
        "one of them (a file_id names a file that only its provider has)"
    )


def standard_block(block: Mapping[str, Any]) -> Mapping[str, Any]:
    """A block in LangChain's standard shape; of type "non_standard" if it has none, or lacks a part of it."""
    try:
        standard: Mapping[str, Any] = HumanMessage([rewrite_block(block)]).content_blocks[0]
    except (KeyError, TypeError, ValueError):
        return {"type": "non_standard"}
    return standard


def rewrite_block(block: Mapping[str, Any]) -> dict[str, Any]:
    """Shapes that LangChain does not translate (bare addresses, `input_image`, `media`), in one that it knows."""
    kind, address = block.get("type"), block.get("image_url")
    if kind != "image_url" and isinstance(address, Mapping):
        address = address.get("url")
    if kind in IMAGE_TYPES and isinstance(address, str):
        return {"type": "image", "url": address}
    if kind == "media":
        return {**block, "type": "file", "base64": block.get("data"), "url": block.get("file_uri")}
    return dict(block)
