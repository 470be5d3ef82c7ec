"""What a call is about: texts, images or nodes, with what LlamaIndex wants to know of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import TextIOBase
from typing import Any, TypeVar

from llama_index.core.bridge.pydantic import BaseModel
from llama_index.core.schema import BaseNode

from jinaclip import InputError
from jinaclip.hosts import Task, is_image_like, take
from llamaindex_jinaclip.images import image_place

T = TypeVar("T")
LONE = (str, BaseModel, Mapping)
"""What can be iterated and is one item all the same: a str would be taken for its letters, a node for its fields."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One item of a call.

    Attributes:
        item: the text, image or node.
        chunk: what events say of it: the text, or where the image is; never an image's bytes or a secret.
        key: the text under which `embeddings_cache` keeps its vector; None if it is not cached.
        inputs: how many texts and images are embedded for it.
        task: whether a text is a document or a query.
    """

    item: Any
    chunk: str
    key: str | None = None
    inputs: int = 1
    task: Task = "document"


def text_entry(text: Any, task: Task = "document") -> Entry:
    """An entry for a text, or for what should have been one."""
    if not isinstance(text, str):
        return Entry(text, "")
    words = str.__str__(text)  # the text itself, whatever an enum, say, prints
    return Entry(text, words, words, task=task)


def image_entry(image: Any) -> Entry:
    """An entry for an image in any form."""
    return Entry(image, image_place(image))


def as_list(items: Iterable[T], kind: str) -> list[T]:
    """The items, each as it is when it is given, of which there may be any number but not a lone one.

    Raises:
        InputError: it is one item, or nothing that can be iterated.
    """
    pixels = getattr(items, "ndim", 1) != 1
    lines = kind == "text" and isinstance(items, TextIOBase)
    image = is_image_like(items) and not lines
    if pixels or image or isinstance(items, LONE) or not isinstance(items, Iterable):
        raise InputError(f"{kind}s must be several, not one {type(items).__name__}; pass [{kind}]")
    return [take(item) for item in items]


def check_nodes(nodes: Iterable[Any]) -> None:
    """Whether all of these are nodes. Raises InputError, whose `.index` says which is none."""
    for index, node in enumerate(nodes):
        if not isinstance(node, BaseNode):
            error = InputError(f"node {index}: must be a node of LlamaIndex, not {type(node).__name__}")
            error.index = index
            raise error
