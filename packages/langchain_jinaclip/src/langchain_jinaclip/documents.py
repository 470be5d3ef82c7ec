"""`add_documents`: texts and images into any vector store, embedded first, so that what fails costs itself alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from jinaclip import ConfigError, Image, InputError, ItemFailure, JinaClip, Pair, Results
from jinaclip.hosts import (
    Steps,
    aembed,
    arun_steps,
    check_weight,
    embed,
    run_steps,
    wait_for,
    wait_for_thread,
    without_arguments,
)
from langchain_jinaclip.embeddings import JinaClipEmbeddings
from langchain_jinaclip.inputs import image_of, is_blank, is_image_data, make_readable, name_image
from langchain_jinaclip.vector_table import Vector, answer_from

OnError = Literal["raise", "skip"]
EmbeddedAs = Literal["text", "image", "pair"]
EMBEDDED_AS = "embedded_as"
"""The metadata entry that says of a document with an image what its vector is of: "text", "image" or "pair"."""


class Outcome(NamedTuple):
    """What came of the documents.

    Attributes:
        ids: of the documents that were stored, in their order.
        failed: why the others were not, in their order: `.index` of each in the list, `.reason`, and a sentence as
            `str`.
    """

    ids: list[str]
    failed: list[ItemFailure]


class Row(NamedTuple):
    """A document with its vector.

    Attributes:
        place: its index among the documents that were passed.
        document: as it is to be stored.
        vector: of it.
    """

    place: int
    document: Document
    vector: Vector


@without_arguments
def add_documents(
    store: VectorStore,
    documents: Iterable[Document],
    on_error: OnError = "raise",
    *,
    weight: float = 0.0,
    image_key: str = "image",
    ids: Sequence[str] | None = None,
    **options: Any,
) -> Outcome:
    """Embeds documents and stores those that have a vector, through the store's own `add_documents`.

    The vector of a document is that of the image which its metadata names, or of its text where there is none. A
    document without content gets the reference of its image as content. The entry "embedded_as" of its metadata says
    what the vector of a document with an image is of.

    Args:
        store: any whose embeddings are `JinaClipEmbeddings`.
        documents: texts, images, or both.
        on_error: with "raise" nothing is stored unless every document has a vector; with "skip" those that have one
            are stored. What ends the whole call, such as a bad key or an outage, is raised in both cases, and nothing
            is stored then. What was embedded is in the cache, if `embeddings` has one.
        weight: share of the text in the vector of a document with both, 0 to 1; at 0 its text is not embedded, at 1
            its image is not.
        image_key: the metadata entry that holds the image of a document, in any form that `embed_images` takes.
        ids: of the documents, in their order; else their own `id`, else the store makes some.
        options: for the store's `add_documents`.

    Returns:
        Outcome: `(ids, failed)`.

    Raises:
        InputError: a document is unusable and `on_error` is "raise"; `.index` says which, `.partial` has the vectors.
        ConfigError: the store's embeddings are not ours, or an option is wrong; nothing was sent.
        JinaClipError: the backend failed.
        Exception: whatever the store raises. It is given the documents in one call, unless some have equal contents
            and different vectors: then in several, of which some may have succeeded.
    """
    return run_steps(_add(store, _list(documents), on_error, weight, image_key, ids, options))


@without_arguments
async def aadd_documents(
    store: VectorStore,
    documents: Iterable[Document],
    on_error: OnError = "raise",
    *,
    weight: float = 0.0,
    image_key: str = "image",
    ids: Sequence[str] | None = None,
    **options: Any,
) -> Outcome:
    """`add_documents` without blocking the event loop."""
    return await arun_steps(_add(store, _list(documents), on_error, weight, image_key, ids, options))


def _add(
    store: VectorStore,
    documents: list[Document],
    on_error: OnError,
    weight: float,
    image_key: str,
    ids: Sequence[str] | None,
    options: dict[str, Any],
) -> Steps[Outcome]:
    clip = _embeddings_of(store).clip
    ids = _ids(documents, ids)
    _check(documents, on_error, ids)
    convert = partial(content_of, clip, image_key=image_key, weight=check_weight(weight))
    strict, name = on_error == "raise", partial(_name, image_key=image_key)
    results = yield from wait_for(embed, aembed, clip, documents, convert, name=name, strict=strict)
    if on_error == "raise" or results.stopped is not None:
        results.unwrap()
    stored: dict[int, str] = {}
    for rows in _rounds((yield from wait_for_thread(_rows, documents, results, image_key, weight))):
        own = {} if ids is None else {"ids": [ids[row.place] for row in rows]}
        found = yield from wait_for(_store, _astore, store, rows, {**options, **own})
        stored |= zip((row.place for row in rows), found, strict=True)
    return Outcome([stored[place] for place in sorted(stored)], [results.errors[i] for i in sorted(results.errors)])


def _embeddings_of(store: VectorStore) -> JinaClipEmbeddings:
    embeddings = store.embeddings
    if isinstance(embeddings, JinaClipEmbeddings):
        return embeddings
    raise ConfigError(
        f"add_documents needs a store whose embeddings are JinaClipEmbeddings, and those of {type(store).__name__} are "
        f"{type(embeddings).__name__}; in place of CacheBackedEmbeddings use JinaClipEmbeddings(cache=...)"
    )


def _list(documents: Iterable[Document]) -> list[Document]:
    if isinstance(documents, Document):  # of which pydantic makes an iterable of its fields
        raise InputError("documents must be several, not one Document; pass [document]")
    return [*documents]


def _ids(documents: list[Document], ids: Iterable[str] | None) -> list[str] | None:
    """The ids to store under; None where the store is to make all, or knows them by the documents."""
    if ids is not None:
        return [*ids]
    own = [getattr(document, "id", None) for document in documents]
    if all(own) or not any(own):
        return None
    return [id_ or str(uuid4()) for id_ in own]  # LangChain hands over None, of which some stores make no id


def _check(documents: list[Document], on_error: str, ids: Sequence[str] | None) -> None:
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error={on_error!r} must be 'raise' or 'skip'")
    if ids is not None and len(ids) != len(documents):
        raise ConfigError(f"there are {len(ids)} ids for {len(documents)} documents")
    for index, document in enumerate(documents):
        if not isinstance(document, Document):
            raise InputError(f"item {index} is no Document but {type(document).__name__}")


# -- what is embedded


def content_of(clip: JinaClip, document: Document, *, image_key: str, weight: float) -> str | Image | Pair:
    """What is embedded of a document.

    Raises:
        InputError: its image is unusable.
    """
    image, kind = image_of(document, image_key), kind_of(document, image_key, weight)
    if image is None or kind == "text":
        return document.page_content
    return Pair(document.page_content, image, weight) if kind == "pair" else clip.resolve_image(image)


def kind_of(document: Document, image_key: str, weight: float) -> EmbeddedAs:
    """Whether its text, its image or both are embedded."""
    has_text = not is_blank(document.page_content) and not is_image_data(document.page_content)
    if image_of(document, image_key) is None or (has_text and weight == 1):
        return "text"
    return "pair" if has_text and weight > 0 else "image"


def _name(index: int, document: Document, *, image_key: str) -> str:
    """What messages call a document."""
    reference = document.metadata.get(image_key)
    name = document.id if is_blank(reference) else name_image(reference, document)
    return f"document {index}" + (f" ({name})" if name else "")


# -- what is stored


def _rows(documents: list[Document], results: Results, image_key: str, weight: float) -> list[Row]:
    """The documents that have a vector, as they are to be stored."""
    return [
        Row(int(place), _finish(documents[place], image_key, weight), vector.tolist())
        for place, vector in zip(*results.successes(), strict=True)
    ]


def _finish(document: Document, image_key: str, weight: float) -> Document:
    """A document with content, and with a mark if it has an image."""
    readable = make_readable(document, image_key)
    if is_blank(document.metadata.get(image_key)):
        return readable
    mark = {EMBEDDED_AS: kind_of(document, image_key, weight)}
    return readable.model_copy(update={"metadata": {**document.metadata, **mark}})


def _rounds(rows: list[Row]) -> list[list[Row]]:
    """The rows, one list for each call of the store: within one, no text stands for two vectors."""
    rounds: defaultdict[int, list[Row]] = defaultdict(list)
    vectors: defaultdict[str, list[Vector]] = defaultdict(list)
    for row in rows:
        known = vectors[row.document.page_content]
        if row.vector not in known:
            known.append(row.vector)
        rounds[known.index(row.vector)].append(row)
    return [*rounds.values()]


def _store(store: VectorStore, rows: list[Row], options: dict[str, Any]) -> list[str]:
    with answer_from({row.document.page_content: row.vector for row in rows}) as table:
        ids = store.add_documents([row.document for row in rows], **options)
    table.check(type(store).__name__)
    return ids


async def _astore(store: VectorStore, rows: list[Row], options: dict[str, Any]) -> list[str]:
    with answer_from({row.document.page_content: row.vector for row in rows}) as table:
        ids = await store.aadd_documents([row.document for row in rows], **options)
    table.check(type(store).__name__)
    return ids
