"""What LangChain passes about as images, as queries and as documents, in the core's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage

from jinaclip import Image, InputError, JinaClip, Pair, hosts
from jinaclip.hosts import Drawable, ImageLike, is_data_uri, is_image_like, remove_images

ImageInput: TypeAlias = "ImageLike | Mapping[str, object]"
"""What every image parameter takes: what the core takes, or an image content block."""
Query: TypeAlias = "ImageInput | BaseMessage | Sequence[ImageInput]"
"""What a search takes: a text, an image, {"text": ..., "image": ...}, content blocks, or a message that holds them."""
URL = re.compile(r"\s*https?://\S+\s*", re.IGNORECASE)
"""A string that is a URL from its beginning to its end, and no text about one."""


def unwrap_block(image: ImageInput) -> ImageLike:
    """The URL or data: URI that an image content block holds; what is no block comes back as it is.

    Raises:
        InputError: a block without an image that can be opened here.
    """
    if not isinstance(image, Mapping):
        return image
    try:
        block: Any = HumanMessage([dict(image)]).content_blocks[0]  # the shapes of providers become the standard one
    except (KeyError, TypeError, ValueError):  # one that lacks what its shape promises
        block = {"type": "non_standard"}
    if block["type"] == "image" and block.get("base64"):
        return f"data:{block.get('mime_type') or 'image/*'};base64,{block['base64']}"
    if block["type"] == "image" and block.get("url"):
        url: str = block["url"]
        return url
    raise InputError(
        f"a content block of type {image.get('type')!r} without url or base64 of an image; pass an image block with "
        "one of them (a file_id names a file that only its provider has)"
    )


def resolve_image(clip: JinaClip, image: ImageInput) -> Image:
    """The image, or that of a content block, if the policy of `clip` allows it. Raises InputError if not."""
    return clip.resolve_image(unwrap_block(image))


def resolve_pair(clip: JinaClip, pair: tuple[str, ImageInput] | Pair | Drawable, weight: float) -> Pair:
    """A (text, image), or a page of a PDF file, as a Pair of this weight; a Pair keeps its own.

    Raises:
        InputError: it is neither, or its image is unusable.
    """
    if isinstance(pair, Pair):
        return Pair(pair.text, resolve_image(clip, pair.image), pair.weight)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return clip.reader().pair(pair, weight)
    return Pair(pair[0], resolve_image(clip, pair[1]), weight)


def is_single(images: object) -> bool:
    """Whether this is one image, file or block, and not several in a list, a generator or the like."""
    single = isinstance(images, str | np.ndarray | Mapping) or is_image_like(images)
    return single or not isinstance(images, Iterable)


def split_query(query: Query) -> tuple[Any, ImageLike | None]:
    """Text and image of a query, None for what it lacks. `check_text` says whether the text is one.

    Raises:
        InputError: it lacks both, holds several images, or a block that is no usable image.
    """
    texts: list[Any]
    images: list[Any]
    if isinstance(query, Mapping) and "type" not in query:
        if unknown := query.keys() - {"text", "image"}:
            raise InputError(f"a query has no {min(map(repr, unknown))}; its keys are 'text' and 'image'")
        texts, images = [query.get("text")], [query.get("image")]
    else:
        blocks = query.content_blocks if isinstance(query, BaseMessage) else query
        parts: Sequence[Any] = blocks if isinstance(blocks, list | tuple) else [blocks]
        texts = [text_of(part) for part in parts]
        images = [part for part, text in zip(parts, texts, strict=True) if text is None]
    texts, images = ([value for value in values if not is_blank(value)] for values in (texts, images))
    if not texts and not images:
        raise InputError('a query needs a text, an image or both, as in {"text": ..., "image": ...}')
    if len(images) > 1:
        raise InputError(f"a query holds one image, not {len(images)}")
    text = texts[0] if len(texts) == 1 else "\n".join(map(str, texts)) or None
    return text, unwrap_block(images[0]) if images else None


def text_of(part: Any) -> str | None:
    """The text that a part of a query is; None for an image, also as a bare URL or data: URI."""
    if isinstance(part, Mapping) and part.get("type") == "text":
        return str(part.get("text") or "")
    return part if isinstance(part, str) and not URL.fullmatch(part) and not is_data_uri(part) else None


def check_text(clip: JinaClip, text: Any) -> str:
    """The text of a query, if it is one, so that no trace shows the bytes of an image.

    Raises:
        InputError: it is no str, or holds an image.
    """
    if isinstance(text, str) and remove_images(text) != text:
        raise InputError('the text holds an image in base64; pass it as {"text": ..., "image": ...}')
    try:
        return clip.reader().text(text).value
    except InputError as error:
        raise InputError(f"the text: {error}") from None


def check_image(clip: JinaClip, image: ImageLike) -> Image:
    """The image of a query, if the policy of `clip` allows it.

    Raises:
        InputError: it does not, or it is no image; in the words in which embedding it would say so.
    """
    try:
        return clip.resolve_image(image)
    except InputError as error:
        raise InputError(f"the image: {error}") from None


def is_blank(value: Any) -> bool:
    """Whether a value is neither text nor image, as an empty field of a form."""
    return value is None or (isinstance(value, str) and hosts.is_blank(value))


def image_of(document: Document, image_key: str) -> ImageLike | None:
    """The image of a document, or None: from its metadata, else the content that Chroma's `add_images` made.

    Raises:
        InputError: the metadata holds a content block that is no usable image.
    """
    reference: Any = document.metadata.get(image_key)
    content = document.page_content.strip()
    if not is_blank(reference):
        return unwrap_block(reference)
    if not is_image_data(content):
        return None
    return content if content[:5].lower() == "data:" else f"data:;base64,{content}"


def is_image_data(value: Any) -> bool:
    """Whether a value is bytes, an array, or from its beginning to its end an image file in base64 or a data: URI."""
    text = str(value)
    return isinstance(value, bytes | np.ndarray) or (not is_blank(text) and is_blank(remove_images(text, "")))
