"""Nodes by what they hold: a text, a picture, or both; and which of many an error is about."""

from __future__ import annotations

import hashlib
import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import BaseNode, ImageNode, MediaResource, MetadataMode, Node

from jinaclip import Image, InputError, JinaClipError, Partial, fuse

Embedded = tuple[Iterable[int], list[Embedding]]
"""Indices of nodes, and vectors in the same order."""
PICTURE_KEY = "picture"
"""Metadata that names the picture of a node that would otherwise hold no text at all."""


def halves(nodes: Sequence[BaseNode], weight: float) -> tuple[dict[int, str], dict[int, Image | str]]:
    """Texts and pictures to embed, by the node's index. A half without weight is left out.

    Raises:
        InputError: a node is made for a picture and has none; `.index` says which.
    """
    texts: dict[int, str] = {}
    pictures: dict[int, Image | str] = {}
    for index, node in enumerate(nodes):
        pictured, worded = _sources(node) is not None, bool(node.get_content(MetadataMode.NONE).strip())
        if pictured and not (worded and weight == 1):
            pictures[index] = _picture(node, index)
        if not pictured or (worded and weight > 0):  # LlamaIndex's text to embed: with metadata
            texts[index] = node.get_content(MetadataMode.EMBED)
    return texts, pictures


def _sources(node: BaseNode) -> tuple[str | bytes | None, str | None, str | None] | None:
    """Base64, path and address of a node's picture; None if the node is not made for one."""
    if isinstance(node, ImageNode):
        return node.image, node.image_path, node.image_url
    found = getattr(node, "image_resource", None)
    return found and (found.data, found.path and str(found.path), found.url and str(found.url))


def _picture(node: BaseNode, index: int) -> Image | str:
    """Paths and addresses come with the data, so they stay strings, for which the image policy is strict."""
    data, path, address = _sources(node) or (None, None, None)
    try:
        if not (data or path or address):
            raise InputError(
                "no picture; ImageNode(image_resource=...) and node dumps lose `data`: use ImageNode(image=<base64>)"
            )
        return Image.from_base64(data) if data else path or address or ""
    except InputError as error:
        raise InputError(f"node {index}, {node.class_name()} {node.node_id}: {error}", index=index) from None


def place(nodes: Sequence[BaseNode], texts: Embedded, pictures: Embedded, weight: float) -> Sequence[BaseNode]:
    """Gives each node its vector, and picture nodes without text and metadata a line of metadata.

    Index builds drop nodes of which LlamaIndex would embed no text, even if they have a vector.
    """
    words, looks = dict(zip(*texts, strict=True)), dict(zip(*pictures, strict=True))
    for index, node in enumerate(nodes):
        text, picture = words.get(index), looks.get(index)
        node.embedding = fuse(text, picture, weight).tolist() if text and picture else text or picture
        if picture and not node.get_content(MetadataMode.EMBED):
            if isinstance(node, Node) and node.text_resource is None:
                node.text_resource = MediaResource(text="")  # without one, LlamaIndex shows no metadata
            taken = {*node.metadata, *node.excluded_embed_metadata_keys}
            free = next(key for n in itertools.count() if (key := PICTURE_KEY + "_" * n) not in taken)
            node.metadata[free] = _name(node).split("?")[0]
    return nodes


@contextmanager
def of_nodes(nodes: Sequence[BaseNode], indices: Iterable[int]) -> Iterator[None]:
    """Around the embedding of these nodes' texts or pictures: an error counts in nodes."""
    try:
        yield
    except JinaClipError as error:
        relocate(error, [*indices])
        if error.index is not None:
            error.add_note(f"{error.index} is the node's index; its id is {nodes[error.index].node_id}")
        raise


def pictures_being_hashed() -> dict[str, Any]:
    """What the ingestion hash that is being taken, if any, leaves out: the pictures of its nodes.

    LlamaIndex hashes the text and metadata of nodes and the transformation's `to_dict`, so pictures without text share
    a key and the second gets the vector of the first. It does not tell the transformation which nodes it is about, so
    they are looked up where it asks.
    """
    frame = sys._getframe()
    while frame and frame.f_code is not get_transformation_hash.__code__:
        frame = frame.f_back  # type: ignore[assignment]
    pictures = [(i, *_state(n)) for i, n in enumerate(frame.f_locals["nodes"]) if _sources(n)] if frame else []
    return {"pictures": pictures} if pictures else {}


def _state(node: BaseNode) -> tuple[Any, ...]:
    """The name of a node's picture and, of a file, what changes when another picture comes to lie there."""
    name = _name(node)
    with suppress(OSError, ValueError):
        file = Path(name).stat()
        return name, file.st_size, file.st_mtime_ns
    return (name,)


def _name(node: BaseNode) -> str:
    """What tells a node's picture from another's, without opening it."""
    data, path, address = _sources(node) or (None, None, None)
    data = address if not data and address and address[:5].lower() == "data:" else data
    content = data.encode() if isinstance(data, str) else data
    return f"sha256:{hashlib.sha256(content).hexdigest()}" if content else path or address or ""


@contextmanager
def whole(items: Iterable[Any], what: str) -> Iterator[list[Any]]:
    """All items of a call as a list; what fails in a batch of them is counted in this list.

    Raises:
        InputError: it is one item.
    """
    single = isinstance(items, str | bytes | bytearray | BytesIO | Path | Mapping) or hasattr(items, "__array__")
    if single or not isinstance(items, Iterable):
        raise InputError(f"{what} must be several items, not one {type(items).__name__}; pass a list")
    listed = list(items)  # LlamaIndex asks for the length, which generators lack
    try:
        yield listed
    except JinaClipError as error:
        firsts = {id(item): index for index, item in reversed([*enumerate(listed)])}
        relocate(error, [firsts.get(id(item), i) for i, item in enumerate(getattr(error, "batch", listed))])
        raise


@contextmanager
def batch(items: Sequence[Any]) -> Iterator[None]:
    """Around the embedding of one batch: an error takes along what it counts in."""
    try:
        yield
    except JinaClipError as error:
        error.batch = items  # type: ignore[attr-defined]
        raise


def relocate(error: JinaClipError, places: Sequence[int]) -> None:
    """Makes an error, and what it holds, count in another list."""
    errors, vectors = error.partial.errors, error.partial.vectors
    for one in {error, *errors.values()}:
        if one.index is not None:
            text = re.sub(rf"\b(text|image) {one.index}\b", rf"\1 {places[one.index]}", str(one), count=1)
            one.args, one.index = (text,), places[one.index]
    error.partial = Partial({places[i]: v for i, v in vectors.items()}, {places[i]: e for i, e in errors.items()})
