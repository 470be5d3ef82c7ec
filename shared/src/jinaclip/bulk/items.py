"""From a row of a source to what is embedded, and what tells it apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from jinaclip import images
from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError, JinaClipError, UnreadableError
from jinaclip.images import Page
from jinaclip.inputs import Image, Pair, as_image, check_text
from jinaclip.sources import SourceRow, Stored, StoredPage
from jinaclip.sources.pages import of_documents

Kind = Literal["text", "image", "pair"]
PairMode = Literal["fuse", "both"]
DIGEST_BYTES = 16
NO_DIGEST = bytes(DIGEST_BYTES)
"""Of an item without content."""
UNNAMED = b"\xff" * DIGEST_BYTES
"""Of an item without content whose row is called by its place, as its id could not be read."""
LENGTH_BYTES = 8
SMALL = 2**14
"""Bytes of a field that is copied, as that takes less time than another call."""


@dataclass(slots=True)
class Item:
    """One thing to embed; never changed.

    Attributes:
        id: of its row. Id and kind together are unique in an output.
        kind: "text", "image" or "pair".
        content: what `JinaClip.embed` takes; None if there is an error.
        digest: 16 bytes, equal for equal content; see `digest_of`. `NO_DIGEST` or `UNNAMED` if there is an error.
        where: the place of its row, for messages.
        error: why it cannot be embedded; None if it can be tried.
        key: `key_of` its id and kind.
    """

    id: str
    kind: Kind
    content: str | Image | Pair | None
    digest: bytes
    where: str
    error: JinaClipError | None = None
    key: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.key = key_of(self.id, self.kind)

    @property
    def is_unread(self) -> bool:
        """Whether its file is not there, or cannot be read: so nobody knows whether its content is that of before."""
        return isinstance(self.error, UnreadableError)


def name_item(item: Item) -> str:
    """An item for messages; see `name_row`."""
    return name_row(item.id, item.where)


def name_row(row_id: str, where: str) -> str:
    """A row for messages: its id, and its place where that is not the same."""
    return where if row_id == where else f"id {row_id!r}, {where}"


def items_of(row: SourceRow, pair: PairMode | None, weight: float, policy: ImagePolicy) -> list[Item]:
    """The items of a row. Blocks: it reads the image's file, so that what was digested is what is embedded.

    Args:
        row: from a source.
        pair: "fuse" makes one item of a text and an image, "both" and None two.
        weight: of the text in a fused pair, 0 to 1.
        policy: which images are accepted.

    Returns:
        One or two items. What is wrong with one is its `error`; an error of the row is that of one item, which is an
        image if the row is known to hold one.

    Raises:
        ConfigError: the weight is out of range.
    """
    kinds = kinds_of(row, pair)
    if row.error is not None:
        return [_failed(row, kinds[0], row.error)]
    return [_item_of(row, kind, weight, policy) for kind in kinds]


def kinds_of(row: SourceRow, pair: PairMode | None) -> tuple[Kind, ...]:
    """The kinds of the items of a row, in their order. Reads no file; see `items_of`."""
    if row.image is None:
        return () if row.text is None and row.error is None else ("text",)
    if row.text is None or row.error is not None:
        return ("image",)
    return ("pair",) if pair == "fuse" else ("text", "image")


def _item_of(row: SourceRow, kind: Kind, weight: float, policy: ImagePolicy) -> Item:
    if kind == "text":
        return _text_item(row)
    return _image_item(row, policy) if kind == "image" else _pair_item(row, weight, policy)


def key_of(row_id: str, kind: str) -> bytes:
    """16 bytes that stand for an id and a kind."""
    return digest_of_one(kind, row_id)


def digest_of(kind: bytes, fields: Iterable[bytes]) -> bytes:
    """The first 16 bytes of a SHA-256 over a kind and fields, each behind its length in 8 bytes, little-endian.

    Of items the fields are:
    - text: the text in UTF-8
    - image: b"file" and the bytes of its file; b"url" and its address, whatever lies there; b"page", the SHA-256 of its
      PDF file and its number in decimal; b"pixels", mode, width and height (decimal) and the pixels of what has no file
    - pair: the text in UTF-8 and the digest of the image

    The weight of a pair, a task and the like are no part of it: a run with others is another output. All outputs hold
    these digests, so this must never change.
    """
    state, small = hashlib.sha256(), [len(kind).to_bytes(LENGTH_BYTES, "little"), kind]
    for one in fields:
        small.append(len(one).to_bytes(LENGTH_BYTES, "little"))
        if len(one) <= SMALL:
            small.append(one)
            continue
        state.update(b"".join(small))
        state.update(one)
        small.clear()
    state.update(b"".join(small))
    return state.digest()[:DIGEST_BYTES]


def digest_of_one(kind: str, field: str) -> bytes:
    """`digest_of` a single field in UTF-8: most rows need two of these, and nothing else takes them as long."""
    data = field.encode()
    state = _beginning_of(kind).copy()  # takes less time than a state of its own
    state.update(len(data).to_bytes(LENGTH_BYTES, "little") + data)
    return state.digest()[:DIGEST_BYTES]


@cache
def _beginning_of(kind: str) -> hashlib._Hash:
    name = kind.encode()
    return hashlib.sha256(len(name).to_bytes(LENGTH_BYTES, "little") + name)


def _failed(row: SourceRow, kind: Kind, error: JinaClipError) -> Item:
    return Item(row.id, kind, None, NO_DIGEST if row.is_named else UNNAMED, row.where, error)


def _text_item(row: SourceRow) -> Item:
    try:
        text = check_text(row.text)
    except InputError as error:
        return _failed(row, "text", InputError(f"text of {row.where}: {error}"))
    return Item(row.id, "text", text, digest_of_one("text", text), row.where)


def _image_item(row: SourceRow, policy: ImagePolicy) -> Item:
    try:
        image, fields = read_image(row.image, policy)
    except InputError as error:
        kind = UnreadableError if isinstance(error, UnreadableError) else InputError
        return _failed(row, "image", kind(f"image of {row.where}: {error}"))
    return Item(row.id, "image", image, digest_of(b"image", fields), row.where)


def _pair_item(row: SourceRow, weight: float, policy: ImagePolicy) -> Item:
    text, image = _text_item(row), _image_item(row, policy)
    if not isinstance(text.content, str) or image.content is None:
        error = text.error or image.error or InputError(f"{row.where} has nothing to embed")
        return _failed(row, "pair", error)
    digest = digest_of(b"pair", (text.content.encode(), image.digest))
    return Item(row.id, "pair", Pair(text.content, image.content, weight), digest, row.where)  # type: ignore[arg-type]


def read_image(value: Any, policy: ImagePolicy) -> tuple[Image, tuple[bytes, ...]]:
    """An image with the bytes of its file, if it has one, and the fields of its digest.

    Raises:
        InputError: it cannot be read, the policy refuses it, or nothing tells what it will draw.
    """
    image = value.read(policy) if isinstance(value, Stored) else as_image(value, policy.max_bytes)
    if image.kind == "url":
        images.check(image, policy)
        return image, (b"url", image.source.encode())
    if image.kind == "drawable":
        return image, _fields_of_page(image.source, policy)
    if image.kind in ("pil", "array"):
        pixels = images.open_image(image, policy)
        return image, (b"pixels", *(str(fact).encode() for fact in (pixels.mode, *pixels.size)), pixels.tobytes())
    file = images.download(image, policy)
    return file, (b"file", file.source)


def _fields_of_page(page: Any, policy: ImagePolicy) -> tuple[bytes, ...]:
    """The fields of the digest of a page of a PDF file."""
    if isinstance(page, StoredPage):
        return b"page", page.document.digest, str(page.number).encode()
    if isinstance(page, Page):
        document = images.download(as_image(page.pdf.key[0]), of_documents(policy)).source
        return b"page", hashlib.sha256(document).digest(), str(page.number).encode()
    raise InputError(f"{type(page).__name__} draws itself, and nothing tells two of them apart; pass its bytes")
