"""Every text, image and query of an evaluation, embedded once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jinaclip.call.request import Task
from jinaclip.call.results import ItemFailure, Results
from jinaclip.clip import JinaClip
from jinaclip.errors import InputError
from jinaclip.evaluation.records import Item, Query, Source, read_items, read_queries
from jinaclip.evaluation.searches import Corpus
from jinaclip.evaluation.vector_store import Key, VectorStore, image_key, text_key
from jinaclip.hosts import embed
from jinaclip.vectors import Vectors, check_weight, normalize

logger = logging.getLogger("jinaclip")

MOST_NAMES = 5
"""Names in one warning."""


@dataclass(frozen=True, slots=True)
class Column:
    """Inputs of one kind, to be embedded together: descriptions, images or queries."""

    inputs: Sequence[Any]
    names: Sequence[str]
    """What messages call each."""
    keys: Sequence[Key]
    convert: Callable[[Any], Any]
    """Gives what `JinaClip.embed` takes for an input."""
    task: Task = "document"


def embed_corpus(
    clip: JinaClip, items: Source, queries: Source, weight: float, cache: str | os.PathLike[str] | None
) -> Corpus:
    """Reads and embeds everything; all rows are validated before anything is sent.

    Raises:
        InputError: a row is unusable, or the queries ask for categories that no item has.
        BudgetError: what there is to embed would exceed `token_budget`.
        JinaClipError: the backend failed. `.index` is a row of the items, or a query's number among those that were
            not left out; `.partial` counts the same way, and holds stored vectors too.
    """
    check_weight(weight)
    table, all_queries = read_items(items), read_queries(queries)
    chosen = select_queries(table, all_queries)
    validate_images(clip, table)
    store, columns = VectorStore(cache), make_columns(clip, table, chosen, with_keys=cache is not None)
    announce(clip, columns, [find_missing(column, store) for column in columns])
    texts, images, query_vectors = (normalize(embed_column(clip, column, store)) for column in columns)
    return Corpus(table, chosen, texts, images, query_vectors, weight, len(all_queries) - len(chosen))


def select_queries(table: Sequence[Item], queries: Sequence[Query]) -> list[Query]:
    """The queries that ask for something there is; warns of the others, and of each category that no item has.

    Raises:
        InputError: there is no such query.
    """
    known = {pair for item in table for pair in item.categories.items()}
    chosen = [query for query in queries if not known.isdisjoint(query.categories.items())]
    if not chosen:
        raise InputError("no item has a category that a query asks for; do both name levels and categories alike?")
    left_out = [query for query in queries if known.isdisjoint(query.categories.items())]
    unknown = dict.fromkeys(pair for query in queries for pair in query.categories.items() if pair not in known)
    if left_out:
        names = join_names(repr(query.id) for query in left_out)
        logger.warning(
            "%d of %d queries are left out, no item is what they ask for: %s", len(left_out), len(queries), names
        )
    if unknown:
        names = join_names(f"{level}={word!r}" for level, word in unknown)
        logger.warning("%d categories that queries ask for are no item's: %s", len(unknown), names)
    return chosen


def join_names(names: Iterable[str]) -> str:
    """The first of many names, for a message."""
    listed = list(names)
    return ", ".join(listed[:MOST_NAMES]) + (", ..." if len(listed) > MOST_NAMES else "")


def validate_images(clip: JinaClip, table: Sequence[Item]) -> None:
    """Refuses images that the policy forbids, or that are not there, as far as can be told without opening them.

    Raises:
        InputError: one will not be opened; the message names its row.
    """
    for index, item in enumerate(table):
        try:
            clip.resolve_image(item.image)
        except InputError as error:
            raise ItemFailure(error, index, image_name(index, item)).error() from None


def text_name(index: int, item: Item) -> str:
    """What messages call the description of an item."""
    return f"text of row {index} (id {item.id!r})"


def image_name(index: int, item: Item) -> str:
    """What messages call the image of an item."""
    return f"image of row {index} (id {item.id!r})"


def make_columns(
    clip: JinaClip, table: Sequence[Item], queries: Sequence[Query], *, with_keys: bool
) -> tuple[Column, Column, Column]:
    """Descriptions, images and queries."""
    fingerprint, policy = clip.fingerprint, clip.config.image_policy

    def text_keys(kind: Task, texts: Sequence[str]) -> list[Key]:
        return [text_key(fingerprint, kind, text) if with_keys else None for text in texts]

    texts, images = [item.text for item in table], [item.image for item in table]
    asked = [query.text for query in queries]
    return (
        Column(texts, [text_name(i, item) for i, item in enumerate(table)], text_keys("document", texts), str),
        Column(
            images,
            [image_name(i, item) for i, item in enumerate(table)],
            [image_key(fingerprint, image, policy) if with_keys else None for image in images],
            clip.resolve_image,
        ),
        Column(asked, [f"query {query.id!r}" for query in queries], text_keys("query", asked), str, "query"),
    )


def find_missing(column: Column, store: VectorStore) -> list[int]:
    """Indices of the inputs whose vector is not stored."""
    stored = store.load(column.keys)
    return [index for index in range(len(column.inputs)) if index not in stored]


def announce(clip: JinaClip, columns: tuple[Column, Column, Column], missing: Sequence[Sequence[int]]) -> None:
    """Logs what there is to embed and about what it will cost.

    Raises:
        BudgetError: that would exceed `token_budget`.
    """
    (texts, images, queries), counts = columns, [len(column.inputs) for column in columns]
    words = [texts.inputs[i] for i in missing[0]]
    words += dict.fromkeys(queries.inputs[i] for i in missing[2])  # a query that is asked twice is sent once
    cost = clip.estimate([*words, *(clip.resolve_image(images.inputs[i]) for i in missing[1])])
    logger.info(
        "%d items, %d queries; to embed: %d texts, %d images, about %s tokens",
        counts[0], counts[2], len(words), len(missing[1]), f"{cost.tokens:,}",
    )  # fmt: skip
    clip.check_budget(cost.tokens)


def embed_column(clip: JinaClip, column: Column, store: VectorStore) -> Vectors:
    """A vector for each input, (n, d): those that are stored, and new ones for the others, which are stored then.

    Raises:
        JinaClipError: the backend failed; it names the input. What was embedded until then is stored, as it is when
            Ctrl-C ends the call. `.index` and `.partial` count all inputs of the column.
    """
    stored = store.load(column.keys)
    missing = [index for index in range(len(column.inputs)) if index not in stored]

    def keep(results: Results) -> Results:
        new = results.at(missing)
        store.save(column.keys, dict(zip(*new.successes(), strict=True)))
        return merge(new, stored, len(column.inputs))

    try:
        results = embed(
            clip,
            [column.inputs[index] for index in missing],
            column.convert,
            task=column.task,
            name=lambda number, _: column.names[missing[number]],
        )
    except BaseException as error:
        if isinstance(partial := getattr(error, "partial", None), Results):
            error.partial = keep(partial)  # type: ignore[attr-defined]
        raise
    return keep(results).unwrap()


def merge(new: Results, stored: dict[int, Vectors], count: int) -> Results:
    """Results of all inputs of a column: a row for each, of those that were stored and of those that are new."""
    vectors = np.full((count, new.vectors.shape[1]), np.nan, np.float32)
    for index, row in stored.items():
        vectors[index] = row
    vectors[new.places] = new.vectors
    return replace(new, vectors=vectors, places=np.arange(count))
