"""Nodes by what they hold: a text, an image, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.schema import BaseNode, MetadataMode

from jinaclip import Image, JinaClip, Pair
from llamaindex_jinaclip.entries import Entry
from llamaindex_jinaclip.images import find_image, image_place, image_source
from llamaindex_jinaclip.labels import check_label, has_words


def read_node(node: BaseNode, weight: float, clip: JinaClip) -> str | Image | Pair:
    """What `JinaClip.embed` takes for a node.

    Raises:
        InputError: the image is missing, damaged, not allowed, or not labelled.
    """
    text = node_text(node, weight)
    image = find_image(node, clip.config.image_policy.max_bytes) if takes_image(node, weight) else None
    if image is None:
        return text or ""
    image = clip.resolve_image(image)
    check_label(node)
    return image if text is None else Pair(text, image, weight)


def node_text(node: BaseNode, weight: float) -> str | None:
    """The text that is embedded of a node, metadata included; None where its image is embedded alone."""
    alone = image_source(node) is None
    return node.get_content(MetadataMode.EMBED) if alone or (weight > 0 and has_words(node)) else None


def takes_image(node: BaseNode, weight: float) -> bool:
    """Whether the image of a node is embedded: it has one, and the text does not have all the weight."""
    return image_source(node) is not None and not (weight == 1 and has_words(node))


def name_node(_: int, node: BaseNode) -> str:
    """What error messages call a node."""
    return f"node {node.node_id}"


def node_entry(node: BaseNode, weight: float) -> Entry:
    """An entry for a node."""
    text, with_image = node_text(node, weight), takes_image(node, weight)
    return Entry(
        item=node,
        chunk="\n".join(part for part in (text, image_place(node) if with_image else None) if part),
        key=None if with_image else text,
        inputs=(text is not None) + with_image,
    )


def place_vectors(entries: Sequence[Entry], vectors: Mapping[int, Embedding]) -> None:
    """Gives nodes their vectors, by index."""
    for index, vector in vectors.items():
        entries[index].item.embedding = vector
