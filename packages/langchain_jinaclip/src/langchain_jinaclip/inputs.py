"""What LangChain passes about as images, as queries and as documents, in the core's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from os import PathLike
from typing import Any, TypeAlias

import numpy as np
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.messages.content import create_text_block
from langchain_core.prompt_values import PromptValue

from jinaclip import Image, InputError, JinaClip, Pair, hosts
from jinaclip.hosts import Drawable, ImageLike, is_data_uri, is_image_like, remove_images, run_in_thread, take
from langchain_jinaclip.blocks import image_of_block, is_image_block, text_of_block

ImageInput: TypeAlias = "ImageLike | Mapping[str, object]"
"""What every image parameter takes: what the core takes, or an image content block."""
Query: TypeAlias = "ImageInput | BaseMessage | PromptValue | Sequence[ImageInput | BaseMessage]"
"""What a search takes: a text, an image, {"text": ..., "image": ...}, content blocks, or messages that hold them."""
URL = re.compile(r"\s*https?://\S+\s*", re.IGNORECASE)
"""A string that is a URL from its beginning to its end, and no text about one."""

LONG_WORD = 4096
"""Characters of a text without a blank after which its beginning says what it is; to look at megabytes takes long."""


def unwrap_block(image: ImageInput) -> ImageLike:
    """What an image content block holds; what is no block comes back as it is.

    Raises:
        InputError: a block without an image that can be opened here.
    """
    return image_of_block(image) if isinstance(image, Mapping) else image


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
    """Whether this is one image, file or block, and not several in a list, a generator or an array of names."""
    if isinstance(images, np.ndarray):
        return images.dtype.kind not in "OSU"
    return isinstance(images, str | Mapping) or is_image_like(images) or not isinstance(images, Iterable)


@dataclass(frozen=True)
class QueryParts:
    """A query that was read.

    Attributes:
        label: how traces may show it: the text, and where the image is; never its bytes.
        text: None for an image alone.
        image: None for a text alone.
        refusal: why the query cannot be used, or None. It then has neither text nor image.
    """

    label: str
    text: str | None = None
    image: Image | None = None
    refusal: InputError | None = None


def read_query(clip: JinaClip, query: Query) -> QueryParts:
    """A query as a text and an image that `clip` would take. An unusable one is a value too: searches are traced."""
    try:
        text, reference = split_query(query)
        text = None if text is None else check_text(clip, text)
        image = None if reference is None else check_image(clip, reference)
    except InputError as error:
        return QueryParts("[unusable query]", refusal=error)
    shown = [text, None if image is None else f"[image: {image}]"]
    return QueryParts(" ".join(filter(None, shown)), text, image)


async def aread_query(clip: JinaClip, query: Query) -> QueryParts:
    """`read_query` without blocking the event loop. A short text takes no thread: a thousand may be asked at once."""
    if isinstance(query, str) and len(query) <= LONG_WORD and not URL.fullmatch(query):
        return read_query(clip, query)
    return await run_in_thread(read_query, clip, take_query(clip, query))


def take_query(clip: JinaClip, query: Query) -> Query:
    """A query as it is now, to be read a little later: copies of arrays and buffers, whose owner may refill them."""
    if isinstance(query, dict):
        return {name: take(value, clip) for name, value in query.items()}
    if isinstance(query, list | tuple):
        return [take(value, clip) for value in query]
    taken: Query = take(query, clip)
    return taken


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
        texts, images = split_parts(parts_of(query))
    texts, images = ([value for value in values if not is_blank(value)] for values in (texts, images))
    if not texts and not images:
        raise InputError('a query needs a text, an image or both, as in {"text": ..., "image": ...}')
    if len(images) > 1:
        raise InputError(f"a query holds one image, not {len(images)}")
    text = texts[0] if len(texts) == 1 else "\n".join(map(str, texts)) or None
    return text, unwrap_block(images[0]) if images else None


def parts_of(query: Query) -> list[Any]:
    """The strings, images and content blocks of a query."""
    if isinstance(query, PromptValue):
        query = query.to_messages()
    listed: list[Any] = list(query) if isinstance(query, list | tuple) else [query]
    if not any(isinstance(part, BaseMessage) for part in listed):
        return listed
    return [block for message in find_last_words(listed) for block in blocks_of(message)]


def find_last_words(messages: Sequence[Any]) -> list[BaseMessage]:
    """What the user said last in a conversation, in one message or several; without a user, its last message."""
    own = [message for message in messages if isinstance(message, BaseMessage)]
    before = dropwhile(lambda message: not isinstance(message, HumanMessage), reversed(own))
    said = [*takewhile(lambda message: isinstance(message, HumanMessage), before)]
    return said[::-1] or own[-1:]


def blocks_of(message: BaseMessage) -> list[Any]:
    """The content of a message as blocks."""
    content = [message.content] if isinstance(message.content, str) else message.content
    return [create_text_block(part) if isinstance(part, str) else part for part in content]


def split_parts(parts: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Texts and images among the parts of a query; other blocks, such as reasoning and tool calls, are passed over."""
    texts, images = list[Any](), list[Any]()
    for part in parts:
        if isinstance(part, Mapping):
            is_image = is_image_block(part)
            text = None if is_image else text_of_block(part)
        else:
            text = part if isinstance(part, str) and not URL.fullmatch(part) and not is_data_uri(part) else None
            is_image = text is None
        texts += [] if text is None else [text]
        images += [part] if is_image else []
    return texts, images


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
    if not is_blank(reference):
        return unwrap_block(reference)
    content = document.page_content.strip()
    if not is_image_data(content):
        return None
    return content if content[:5].lower() == "data:" else f"data:;base64,{content}"


def make_readable(document: Document, image_key: str) -> Document:
    """The document; in place of no content, or of an image file in base64, with the reference of its image as content.

    Chroma's `add_images` makes such content. What merges results of several searches, as LangChain's EnsembleRetriever
    does, takes documents of equal content for one.
    """
    reference = document.metadata.get(image_key)
    content = document.page_content
    if is_blank(reference) or not (is_blank(content) or is_image_data(content)):
        return document
    return document.model_copy(update={"page_content": name_image(reference, document)})


def name_image(reference: Any, document: Document) -> str:
    """A short name of the image of a document: where it is, else the id of the document, never its bytes."""
    if isinstance(reference, Mapping):
        reference = reference.get("url")
    if isinstance(reference, str | PathLike) and not is_image_data(str(reference)):
        return remove_images(str(reference))
    return f"image {document.id or document.metadata.get('_id', '')}".rstrip()


def is_image_data(value: Any) -> bool:
    """Whether a value is bytes, an array, or from its beginning to its end an image file in base64 or a data: URI."""
    if isinstance(value, bytes | np.ndarray):
        return True
    text = str(value).strip()
    if len(text) > LONG_WORD and len(text.split(None, 1)) == 1:
        text = text[:LONG_WORD]
    return not is_blank(text) and is_blank(remove_images(text, ""))
