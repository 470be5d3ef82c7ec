"""What LangChain passes about as images and as queries, in the core's words."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

from langchain_core.messages import BaseMessage, HumanMessage

from jinaclip import InputError


def as_image(value: Any, index: int | None = None) -> Any:
    """An image content block as the URL or data: URI that it holds; anything else as it is, for the core to judge.

    Raises:
        InputError: the block is no image, or names a file that only its provider has.
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
    held = " and ".join(sorted(map(str, value.keys() - {"type"}))) or "nothing"
    raise InputError(
        f"{'the image' if index is None else f'image {index}'} is a content block of type {value.get('type')!r} with "
        f"{held}; pass an image block with url or base64 (a file_id names a file that only its provider has)",
        index=index,
    )


def as_pair(value: Any, index: int) -> Any:
    """The same for the image of a (text, image)."""
    is_pair = isinstance(value, tuple | list) and len(value) == 2
    return (value[0], as_image(value[1], index)) if is_pair else value


def each(convert: Callable[[Any, int], Any], values: Any) -> Any:
    """Several values converted: of a list at once, of an iterator lazily; what is neither is left to the core."""
    if isinstance(values, list | tuple):
        return [convert(value, index) for index, value in enumerate(values)]
    lazy = isinstance(values, Iterator) and not hasattr(values, "read")  # an open file is an iterator too, over lines
    return (_kept(convert, value, index) for index, value in enumerate(values)) if lazy else values


def _kept(convert: Callable[[Any, int], Any], value: Any, index: int) -> Any:
    """A value converted, or the error in its place, so that what follows it is still embedded."""
    try:
        return convert(value, index)
    except InputError as error:
        return error


class Query(str):
    """A text, an image or both. As a str it is what traces may show: the text and where the image is, not its bytes."""

    __slots__ = ("image", "text")
    text: Any
    image: Any

    @classmethod
    def of(cls, value: Any) -> Self:
        """Reads a query.

        Raises:
            InputError: it holds neither text nor image, or several images.
        """
        if isinstance(value, cls):
            return value
        text, image = (None if isinstance(half, str) and not half.strip() else half for half in _halves(value))
        if text is None and image is None:
            raise InputError('a query needs a text, an image or both, as in {"text": ..., "image": ...}')
        shown = [] if image is None else [f"[image: {_told(image)}]"]
        query = cls(" ".join(([] if text is None else [str(text)]) + shown))
        query.text, query.image = text, image
        return query


def _halves(value: Any) -> tuple[Any, Any]:
    """Text and image, None or blank where there is none."""
    if isinstance(value, Mapping) and "type" not in value:
        if unknown := value.keys() - {"text", "image"}:
            raise InputError(f"a query has no {min(map(repr, unknown))}; its keys are 'text' and 'image'")
        return value.get("text"), as_image(value.get("image"))
    if isinstance(value, Mapping | BaseMessage | list | tuple):
        return _of_blocks(value.content_blocks if isinstance(value, BaseMessage) else value)
    if isinstance(value, str) and not _is_data(value) and not re.fullmatch(r"\s*https?://\S+\s*", value):
        return value, None
    return None, value


def _of_blocks(blocks: Any) -> tuple[str, Any]:
    texts, images = [], []
    for block in [blocks] if isinstance(blocks, Mapping) else blocks:
        if isinstance(block, str) or (isinstance(block, Mapping) and block.get("type") == "text"):
            texts.append(block if isinstance(block, str) else str(block.get("text") or ""))
        else:
            images.append(as_image(block))
    if len(images) > 1:
        raise InputError(f"a query holds one image, not {len(images)}")
    return "\n".join(texts), images[0] if images else None


def _told(image: Any) -> str:
    if _is_data(image):
        return image.partition(",")[0][:64]
    if isinstance(image, os.PathLike):
        return str(image)
    if not isinstance(image, str):
        return type(image).__name__
    where = re.sub(r"(?<=//)[^/@]*@", "", image.partition("?")[0]) if "://" in image[:32] else image
    return where if len(where) <= 200 and not is_base64_picture(image) else f"{where[:16]}..."


def _is_data(value: Any) -> bool:
    return isinstance(value, str) and bool(re.match(r"\s*data:[^\s,]{0,250},\S", value[:512], re.IGNORECASE))


def is_base64_picture(content: str) -> bool:
    """Whether a document's content is an image file in base64 (JPEG, PNG, GIF or WebP), bare or as a data: URI."""
    return bool(re.match(r"\s*(data:image/[^,]*,)?(/9j/|iVBORw0KGgo|R0lGOD|UklGR)[A-Za-z0-9+/=]{64}", content))


def without_pictures(content: str) -> str:
    """A text for a model, pictures in data: URIs, as Markdown and HTML have them, left out."""
    return re.sub(r"data:image/[^,\s]*,[A-Za-z0-9+/=_%-]{64,}", "[picture]", content)
