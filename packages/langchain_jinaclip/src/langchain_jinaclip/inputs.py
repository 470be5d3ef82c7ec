"""What LangChain passes about as images, as queries and as documents, in the core's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage

from jinaclip import InputError, without_pictures

ADDRESS = re.compile(r"\s*(https?://\S+\s*\Z|data:[^\s,]{0,250},\S)", re.IGNORECASE)
"""A string that is the URL or the data: URI of an image from its beginning to its end, and no text about one."""


def as_image(value: Any) -> Any:
    """An image content block as the URL or data: URI that it holds; anything else as it is, for the core to judge.

    A block that is no usable image becomes the InputError that the core raises when it comes to it.
    """
    if not isinstance(value, Mapping):
        return value
    try:
        block: Any = HumanMessage([dict(value)]).content_blocks[0]  # the shapes of providers become the standard one
    except (KeyError, TypeError, ValueError):  # one that lacks what its shape promises
        block = {"type": "non_standard"}
    if block["type"] == "image" and block.get("base64"):
        return f"data:{block.get('mime_type') or 'image/*'};base64,{block['base64']}"
    if block["type"] == "image" and block.get("url"):
        return block["url"]
    return InputError(
        f"a content block of type {value.get('type')!r} without url or base64 of an image; pass an image block with "
        "one of them (a file_id names a file that only its provider has)"
    )


def as_pair(value: Any) -> Any:
    """The same for the image of a (text, image)."""
    return (value[0], as_image(value[1])) if isinstance(value, tuple | list) and len(value) == 2 else value


def is_several(values: Any) -> bool:
    """Whether these are several items, whatever holds them, and not one text, picture, file or block."""
    one = isinstance(values, str | bytes | bytearray | memoryview | np.ndarray | Mapping) or hasattr(values, "read")
    return isinstance(values, Iterable) and not one


def each(convert: Callable[[Any], Any], values: Any) -> Any:
    """Several values converted, of a list at once, else one by one; a lone one as it is, for the core to refuse."""
    if not is_several(values):
        return values
    return [convert(value) for value in values] if isinstance(values, Sequence) else map(convert, values)


def halves(query: Any) -> tuple[Any, Any]:
    """Text and image of a query, None for what it lacks.

    Raises:
        InputError: it lacks both, or holds several images.
    """
    if isinstance(query, Mapping) and "type" not in query:
        if unknown := query.keys() - {"text", "image"}:
            raise InputError(f"a query has no {min(map(repr, unknown))}; its keys are 'text' and 'image'")
        texts, images = [query.get("text")], [query.get("image")]
    else:
        blocks = query.content_blocks if isinstance(query, BaseMessage) else query
        parts = blocks if isinstance(blocks, list | tuple) else [blocks]
        texts = [text_of(part) for part in parts]
        images = [part for part, text in zip(parts, texts, strict=True) if text is None]
    texts, images = ([half for half in found if not is_blank(half)] for found in (texts, images))
    if not texts and not images:
        raise InputError('a query needs a text, an image or both, as in {"text": ..., "image": ...}')
    if len(images) > 1:
        raise InputError(f"a query holds one image, not {len(images)}")
    return texts[0] if len(texts) == 1 else "\n".join(map(str, texts)) or None, as_image(images[0]) if images else None


def text_of(part: Any) -> Any:
    """The text that a part of a query is; None for an image, also as a bare URL or data: URI."""
    if isinstance(part, Mapping) and part.get("type") == "text":
        return str(part.get("text") or "")
    return part if isinstance(part, str) and not ADDRESS.match(part) else None


def is_blank(half: Any) -> bool:
    """Whether this is neither text nor image, as an empty field of a form."""
    return half is None or (isinstance(half, str) and not half.strip())


def picture_of(document: Document, image_key: str) -> Any:
    """Reference of a document's picture, or None: in the metadata, else the content that Chroma's `add_images` made."""
    named, content = document.metadata.get(image_key), document.page_content.strip()
    if not is_blank(named):
        return as_image(named)
    return (content if content[:5].lower() == "data:" else f"data:;base64,{content}") if is_picture(content) else None


def is_picture(value: Any) -> bool:
    """Whether a value is bytes, an array, or from its beginning to its end an image file in base64 or a data: URI."""
    text = str(value)
    return isinstance(value, bytes | np.ndarray) or (not is_blank(text) and is_blank(without_pictures(text, "")))
