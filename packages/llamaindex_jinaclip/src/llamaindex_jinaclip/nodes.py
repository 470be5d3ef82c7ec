"""Nodes by what they hold: a text, an image, or both."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import BaseNode, ImageNode, MediaResource, MetadataMode, Node

from jinaclip import Image, InputError, JinaClip, Pair
from llamaindex_jinaclip.entries import Entry, public_name

IMAGE_KEY = "image"
"""Metadata that names the image of a node that would otherwise hold no text at all."""
LOST = "no image; ImageNode(image_resource=...) and node dumps lose `data`: use ImageNode(image=<base64>)"


# -- what is embedded of a node


def image_source(node: BaseNode) -> tuple[Any, str | None, str | None] | None:
    """The base64, path and address that a node has of an image; None for a node that is made for text alone."""
    if isinstance(node, ImageNode):
        return node.image, node.image_path, node.image_url
    found = getattr(node, "image_resource", None)
    return (found.data, found.path and str(found.path), found.url and str(found.url)) if found else None


def image_of(node: BaseNode) -> Image | str | None:
    """A node's image, or None. Paths and addresses come with the data, so they stay str, confined by the policy.

    Raises:
        InputError: the node should have an image and has none, or its base64 is damaged.
    """
    source = image_source(node)
    if source is None:
        return None
    data, path, address = source
    if not (data or path or address):
        raise InputError(LOST)
    return Image.from_base64(data) if data else path or address


def text_of(node: BaseNode, weight: float) -> str | None:
    """The text that is embedded of a node, metadata included; None where its image is embedded alone."""
    alone = image_source(node) is None
    return node.get_content(MetadataMode.EMBED) if alone or (weight > 0 and has_words(node)) else None


def takes_image(node: BaseNode, weight: float) -> bool:
    """Whether the image of a node is embedded: it has one, and the text does not have all the weight."""
    return image_source(node) is not None and not (weight == 1 and has_words(node))


def has_words(node: BaseNode) -> bool:
    """Whether a node has a text of its own, beside metadata."""
    return bool(node.get_content(MetadataMode.NONE).strip())


def read_node(node: BaseNode, weight: float, clip: JinaClip) -> str | Image | Pair:
    """What `JinaClip.embed` takes for a node.

    Raises:
        InputError: the image is missing, damaged, or not allowed.
    """
    text = text_of(node, weight)
    image = image_of(node) if takes_image(node, weight) else None
    if image is None:
        return text or ""
    image = clip.resolve_image(image)
    return image if text is None else Pair(text, image, weight)


def node_entry(node: BaseNode, weight: float) -> Entry:
    """An entry for a node. Decodes base64 where a label has to be made of it."""
    text, with_image = text_of(node, weight), takes_image(node, weight)
    data, path, address = image_source(node) or (None, None, None)
    place = "image" if data or (address or "").startswith("data:") else public_name(path or address or "")
    bare = with_image and not node.get_content(MetadataMode.EMBED)
    return Entry(
        item=node,
        name=f"node {node.node_id}",
        chunk="\n".join(part for part in (text, place if with_image else None) if part),
        key=None if with_image else text,
        inputs=(text is not None) + with_image,
        label=public_name(image_key(node)) if bare else "",
    )


def place_vectors(entries: Sequence[Entry], vectors: Mapping[int, Embedding]) -> None:
    """Gives nodes their vectors, by index, and a line of metadata to those that would have neither that nor a text.

    Index builds drop nodes of which LlamaIndex would embed no text, even if they have a vector.
    """
    for index, vector in vectors.items():
        node, label = entries[index].item, entries[index].label
        node.embedding = vector
        if label:
            add_label(node, label)


def add_label(node: BaseNode, label: str) -> None:
    """Adds a line of metadata under a name that the node does not use."""
    if isinstance(node, Node) and node.text_resource is None:
        node.text_resource = MediaResource(text="")  # without one, LlamaIndex shows no metadata
    taken = {*node.metadata, *node.excluded_embed_metadata_keys}
    free = next(key for n in itertools.count() if (key := IMAGE_KEY + "_" * n) not in taken)
    node.metadata[free] = label


# -- the ingestion cache


def hash_supplement() -> dict[str, Any]:
    """What the ingestion hash that is being taken, if any, leaves out, where one of its nodes has an image.

    LlamaIndex hashes the texts and metadata of all nodes in one string and the transformation's `to_dict`, so images
    without text share a key and the second gets the vector of the first; where one text ends and the next begins, and
    what is not to be embedded, makes no difference either. It does not tell the transformation which nodes it is
    about, so they are looked up where it asks. Texts alone keep the hash that they have in LlamaIndex.
    """
    frame = sys._getframe()
    while frame and frame.f_code is not get_transformation_hash.__code__:
        frame = frame.f_back  # type: ignore[assignment]
    states = [node_state(node) for node in frame.f_locals["nodes"]] if frame else []
    with_image = any(state[0] for state in states)
    return {"images": hashlib.sha256(repr(states).encode()).hexdigest()} if with_image else {}


def node_state(node: BaseNode) -> tuple[Any, ...]:
    """The key of a node's image, what changes when another image comes to lie there, and the node's texts."""
    key, file = image_key(node), None
    with suppress(OSError, ValueError):
        file = Path(key).stat() if key else None
    changes = file and (file.st_size, file.st_mtime_ns)
    return key, changes, node.get_content(MetadataMode.NONE), node.get_content(MetadataMode.EMBED)


def image_key(node: BaseNode) -> str:
    """What tells a node's image from another, without opening it: a path, an address or a digest; "" without image."""
    try:
        image = image_of(node)
    except InputError as error:
        return f"no image: {error}"
    if image is None or (isinstance(image, str) and image[:5].lower() != "data:"):
        return image or ""
    content = image.source if isinstance(image, Image) else image.encode()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
