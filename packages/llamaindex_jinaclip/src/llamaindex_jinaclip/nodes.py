"""Nodes by what they hold: a text, a picture, or both."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import BaseNode, ImageNode, MediaResource, MetadataMode, Node

from jinaclip import Batches, Image, InputError, JinaClip, JinaClipError, fuse

PICTURE_KEY = "picture"
"""Metadata that names the picture of a node that would otherwise hold no text at all."""


def halves(nodes: Sequence[BaseNode], weight: float, clip: JinaClip) -> tuple[Batches, Batches]:
    """Texts and pictures to embed, by the node's index, all looked through. A half without weight is left out.

    Raises:
        InputError: one cannot be embedded, or a node is made for a picture and has none; `.index` says which.
    """
    texts: dict[int, str] = {}
    pictures: dict[int, Image | str] = {}
    with naming(nodes):
        for index, node in enumerate(nodes):
            picture, worded = picture_of(node), bool(node.get_content(MetadataMode.NONE).strip())
            if picture is not None and not (worded and weight == 1):
                if isinstance(picture, InputError):
                    raise InputError(f"node {index}, {node.class_name()} {node.node_id}: {picture}", index=index)
                pictures[index] = picture
            if picture is None or (worded and weight > 0):  # LlamaIndex's text to embed: with metadata
                texts[index] = node.get_content(MetadataMode.EMBED)
        return Batches(clip, "texts", texts.values(), [*texts]), Batches(clip, "images", pictures.values(), [*pictures])


def _sources(node: BaseNode) -> tuple[str | bytes | None, str | None, str | None] | None:
    """Base64, path and address of a node's picture; None if the node is not made for one."""
    if isinstance(node, ImageNode):
        return node.image, node.image_path, node.image_url
    found = getattr(node, "image_resource", None)
    return found and (found.data, found.path and str(found.path), found.url and str(found.url))


def picture_of(node: BaseNode) -> Image | str | InputError | None:
    """A node's picture, why there is none where there should be, or None.

    Paths and addresses come with the data, so they stay strings, for which the image policy is strict.
    """
    data, path, address = _sources(node) or (None, None, None)
    try:
        if data or path or address:
            return Image.from_base64(data) if data else path or address
    except InputError as error:
        return error
    lost = "no picture; ImageNode(image_resource=...) and node dumps lose `data`: use ImageNode(image=<base64>)"
    return InputError(lost) if _sources(node) else None


def place(nodes: Sequence[BaseNode], texts: Batches, pictures: Batches, weight: float) -> Sequence[BaseNode]:
    """Gives each node its vector, and picture nodes without text and metadata a line of metadata.

    Index builds drop nodes of which LlamaIndex would embed no text, even if they have a vector.

    Raises:
        JinaClipError: some have failed; the nodes that are done have their vectors all the same.
    """
    done: dict[int, Embedding] = {}
    for index, node in enumerate(nodes):
        made = [work.vectors[index] for work in (texts, pictures) if index in work.vectors]
        if len(made) < (index in texts.items) + (index in pictures.items):
            continue
        done[index] = node.embedding = fuse(made[0], made[1], weight).tolist() if len(made) == 2 else made[0]
        if index in pictures.items and not node.get_content(MetadataMode.EMBED):
            _label(node)
    with naming(nodes):
        if error := texts.error or pictures.error:
            raise Batches.holding(error, done, texts.errors | pictures.errors)
    return nodes


def _label(node: BaseNode) -> None:
    if isinstance(node, Node) and node.text_resource is None:
        node.text_resource = MediaResource(text="")  # without one, LlamaIndex shows no metadata
    taken = {*node.metadata, *node.excluded_embed_metadata_keys}
    free = next(key for n in itertools.count() if (key := PICTURE_KEY + "_" * n) not in taken)
    node.metadata[free] = _name(node).split("?")[0]


@contextmanager
def naming(nodes: Sequence[BaseNode]) -> Iterator[None]:
    """An error that counts in nodes also gets the id of its node."""
    try:
        yield
    except JinaClipError as error:
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
