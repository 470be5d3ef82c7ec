"""Labels of images in the metadata of nodes: LlamaIndex knows a node by its text and metadata, which name no image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from llama_index.core.schema import BaseNode, MediaResource, MetadataMode, Node

from jinaclip import InputError
from jinaclip.hosts import is_blank
from llamaindex_jinaclip.entries import as_list, check_nodes
from llamaindex_jinaclip.images import Source, image_place, image_source

N = TypeVar("N", bound=BaseNode)
LABEL = "jinaclip_image"
"""The metadata that names a node's image."""
REMEDY = (
    "pass the nodes through llamaindex_jinaclip.label_images first; LlamaIndex's ingestion cache goes by text and "
    "metadata, and would give the vector of this image to the next one with the same"
)


def label_images(nodes: Iterable[N]) -> list[N]:
    """Labels the images of nodes, in place, so that LlamaIndex tells nodes apart that differ in their images alone.

    Without a label its ingestion cache gives the nodes of one image for those of another, and its index builds drop a
    node that has neither text nor metadata. The label is a line of metadata, `jinaclip_image`: where the image is, and
    a digest of its base64, its address, or its path with the file's size and time of change. No image is opened. Beside
    a text, the label is kept out of what is embedded and of what language models read. Nodes without an image stay as
    they are. Call it again after an image has changed; what it labels again it labels afresh.

    Args:
        nodes: several, of any kind.

    Returns:
        The same nodes.

    Raises:
        InputError: it is one node and not several, or an item is no node.
    """
    listed = as_list(nodes, "node")
    check_nodes(listed)
    for node in listed:
        if image_source(node) is not None:
            put_label(node)
    return listed


def put_label(node: BaseNode) -> None:
    """Labels a node that is made for an image."""
    if isinstance(node, Node) and node.text_resource is None:
        node.text_resource = MediaResource(text="")  # without one, LlamaIndex shows no metadata
    node.metadata = {**node.metadata, LABEL: image_label(node)}
    hidden = [LABEL] if has_words(node) else []
    node.excluded_embed_metadata_keys = [key for key in node.excluded_embed_metadata_keys if key != LABEL] + hidden
    node.excluded_llm_metadata_keys = [key for key in node.excluded_llm_metadata_keys if key != LABEL] + hidden


def check_label(node: BaseNode) -> None:
    """Whether a node with an image has the label of that image.

    Raises:
        InputError: it has none, or that of another image or of another state of the file.
    """
    label = node.metadata.get(LABEL)
    if label is None:
        raise InputError(f"its image has no label: {REMEDY}")
    if label != image_label(node):
        raise InputError(f"its image is not the one that was labelled {label!r}: {REMEDY}")


def image_label(node: BaseNode) -> str:
    """Where the image of a node is, and a digest that changes with the image as far as can be told without opening it.

    Of a lost image too: that it is missing is said where it is embedded.
    """
    data, path, address = image_source(node) or Source(None, None, None)
    in_file = path or ((address or "").lower().startswith("file://") and address)
    state = data or (in_file and file_state(in_file)) or address
    digest = hashlib.sha256(repr(state).encode()).hexdigest()
    return f"{image_place(node)} {digest[:32]}"


def file_state(path: str) -> tuple[str, int, int]:
    """A path with the size of the file and its time of change, in nanoseconds; zeros if it cannot be read."""
    with suppress(OSError, ValueError):
        is_uri = path.lower().startswith("file://")
        facts = Path(url2pathname(urlsplit(path).path) if is_uri else path).stat()
        return path, facts.st_size, facts.st_mtime_ns
    return path, 0, 0


def has_words(node: BaseNode) -> bool:
    """Whether a node has a text of its own, beside metadata."""
    return not is_blank(node.get_content(MetadataMode.NONE))
