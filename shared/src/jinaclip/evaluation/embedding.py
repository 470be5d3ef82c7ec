"""Every text, image and query of an evaluation, embedded once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinaclip.call.request import Task
from jinaclip.call.results import ItemFailure
from jinaclip.clip import JinaClip
from jinaclip.errors import InputError
from jinaclip.evaluation.records import Item, Query, Source, read_items, read_queries
from jinaclip.evaluation.searches import Corpus
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
    convert: Callable[[Any], Any]
    """Gives what `JinaClip.embed` takes for an input."""
    task: Task = "document"


def embed_corpus(clip: JinaClip, items: Source, queries: Source, weight: float) -> Corpus:
    """Reads and embeds everything; all rows are validated before anything is sent.

    Raises:
        InputError: a row is unusable, or the queries ask for categories that no item has.
        BudgetError: what there is to embed would exceed `token_budget`.
        JinaClipError: the backend failed. `.index` is a row of the items, or a query's number among those that were
            not left out; `.partial` counts the same way.
    """
    check_weight(weight)
    table, all_queries = read_items(items), read_queries(queries)
    chosen = select_queries(table, all_queries)
    validate_images(clip, table)
    columns = make_columns(clip, table, chosen)
    announce(clip, columns)
    texts, images, query_vectors = (normalize(embed_column(clip, column)) for column in columns)
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


def make_columns(clip: JinaClip, table: Sequence[Item], queries: Sequence[Query]) -> tuple[Column, Column, Column]:
    """Descriptions, images and queries."""
    return (
        Column([item.text for item in table], [text_name(i, item) for i, item in enumerate(table)], str),
        Column(
            [item.image for item in table], [image_name(i, item) for i, item in enumerate(table)], clip.resolve_image
        ),
        Column([query.text for query in queries], [f"query {query.id!r}" for query in queries], str, "query"),
    )


def announce(clip: JinaClip, columns: tuple[Column, Column, Column]) -> None:
    """Logs what there is to embed and about what it will cost, without what the cache has.

    Raises:
        BudgetError: that would exceed `token_budget`.
    """
    texts, images, queries = columns
    words = clip.estimate(texts.inputs)
    asked = clip.estimate([*dict.fromkeys(queries.inputs)], task=queries.task)  # one that is asked twice is sent once
    shown = clip.estimate([*map(clip.resolve_image, images.inputs)])
    tokens = words.tokens + asked.tokens + shown.tokens
    logger.info(
        "%d items, %d queries; to embed: %d texts, %d images, about %s tokens",
        len(texts.inputs), len(queries.inputs), words.items + asked.items, shown.items, f"{tokens:,}",
    )  # fmt: skip
    clip.check_budget(tokens)


def embed_column(clip: JinaClip, column: Column) -> Vectors:
    """A vector for each input, (n, d).

    Raises:
        JinaClipError: the backend failed; it names the input.
    """
    names = column.names
    return embed(clip, column.inputs, column.convert, task=column.task, name=lambda number, _: names[number]).unwrap()
