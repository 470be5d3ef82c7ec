"""Nodes by what they hold: a text, a picture, or both."""

from __future__ import annotations

import hashlib
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import BaseNode, ImageNode, MediaResource, MetadataMode, Node

from jinaclip import Batches, Image, InputError, JinaClip, JinaClipError, fuse

PICTURE_KEY = "picture"
"""Metadata that names the picture of a node that would otherwise hold no text at all."""
LOST = "no picture; ImageNode(image_resource=...) and node dumps lose `data`: use ImageNode(image=<base64>)"


class Halves:
    """Nodes, with the texts and pictures to embed of them by the node's index. A half without weight is left out.

    Args:
        nodes: several, of any kind.
        weight: share of the text in nodes that have a picture too.
        clip: what will embed them.

    Raises:
        InputError: it is one node, or one of them cannot be embedded as far as `Batches` can tell, or is made for a
            picture and has none; `.index` says which.
    """

    def __init__(self, nodes: Iterable[BaseNode], weight: float, clip: JinaClip) -> None:
        if isinstance(nodes, BaseNode):
            raise InputError(f"nodes must be several, not one {nodes.class_name()}; pass [node]")
        self.nodes = nodes if isinstance(nodes, Sequence) else list(nodes)
        self.weight = weight
        texts: dict[int, str] = {}
        pictures: dict[int, Image | str | InputError] = {}
        with naming(self.nodes):
            for index, node in enumerate(self.nodes):
                picture, worded = picture_of(node), bool(node.get_content(MetadataMode.NONE).strip())
                if picture is not None and not (worded and weight == 1):
                    pictures[index] = picture  # an InputError is raised when all are looked through
                if picture is None or (worded and weight > 0):  # LlamaIndex's text to embed: with metadata
                    texts[index] = node.get_content(MetadataMode.EMBED)
            self.texts = Batches(clip, "texts", texts.values(), [*texts])
            self.pictures = Batches(clip, "images", pictures.values(), [*pictures])

    def place(self) -> Sequence[BaseNode]:
        """Gives each node its vector, and picture nodes without text and metadata a line of metadata.

        Index builds drop nodes of which LlamaIndex would embed no text, even if they have a vector.

        Raises:
            JinaClipError: some have failed; the nodes that are done have their vectors all the same.
        """
        done: dict[int, Embedding] = {}
        for index, node in enumerate(self.nodes):
            made = [half.vectors[index] for half in (self.texts, self.pictures) if index in half.vectors]
            if len(made) < (index in self.texts.items) + (index in self.pictures.items):
                continue
            done[index] = node.embedding = fuse(made[0], made[1], self.weight).tolist() if len(made) == 2 else made[0]
            if index in self.pictures.items and not node.get_content(MetadataMode.EMBED):
                _label(node)
        with naming(self.nodes):
            if error := self.texts.error or self.pictures.error:
                raise Batches.holding(error, done, self.texts.errors | self.pictures.errors)
        return self.nodes


def picture_of(node: BaseNode) -> Image | str | InputError | None:
    """A node's picture, why there is none where there should be, or None.

    Paths and addresses come with the data, so they stay strings, for which the image policy is strict.
    """
    if isinstance(node, ImageNode):
        data, path, address = node.image, node.image_path, node.image_url
    elif found := getattr(node, "image_resource", None):
        data, path, address = found.data, found.path and str(found.path), found.url and str(found.url)
    else:
        return None
    try:
        return Image.from_base64(data) if data else path or address or InputError(LOST)
    except InputError as error:
        return error


def _label(node: BaseNode) -> None:
    if isinstance(node, Node) and node.text_resource is None:
        node.text_resource = MediaResource(text="")  # without one, LlamaIndex shows no metadata
    taken = {*node.metadata, *node.excluded_embed_metadata_keys}
    free = next(key for n in itertools.count() if (key := PICTURE_KEY + "_" * n) not in taken)
    node.metadata[free] = public(_name(picture_of(node)))


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
    """What the ingestion hash that is being taken, if any, leaves out, where one of its nodes has a picture.

    LlamaIndex hashes the texts and metadata of all nodes in one string and the transformation's `to_dict`, so pictures
    without text share a key and the second gets the vector of the first; where one text ends and the next begins, and
    what is not to be embedded, makes no difference either. It does not tell the transformation which nodes it is
    about, so they are looked up where it asks. Texts alone keep the hash that they have in LlamaIndex.
    """
    frame = sys._getframe()
    while frame and frame.f_code is not get_transformation_hash.__code__:
        frame = frame.f_back  # type: ignore[assignment]
    states = [_state(node) for node in frame.f_locals["nodes"]] if frame else []
    pictured = any(state[0] for state in states)
    return {"pictures": hashlib.sha256(repr(states).encode()).hexdigest()} if pictured else {}


def _state(node: BaseNode) -> tuple[Any, ...]:
    """The name of a node's picture, what changes when another picture comes to lie there, and the node's texts."""
    name, file = _name(picture_of(node)), None
    with suppress(OSError, ValueError):
        file = Path(name).stat() if name else None
    changes = file and (file.st_size, file.st_mtime_ns)
    return name, changes, node.get_content(MetadataMode.NONE), node.get_content(MetadataMode.EMBED)


def _name(picture: Image | str | InputError | None) -> str:
    """What tells a picture from another, without opening it; "" is none."""
    if picture is None or (isinstance(picture, str) and picture[:5].lower() != "data:"):
        return picture or ""
    content = picture.source if isinstance(picture, Image) else str(picture).encode()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def public(name: str) -> str:
    """An address without its user and query, which may hold a password or a signature; a path as it is."""
    return str(Image.from_url(name)) if "://" in name else name
