"""Every text, image and query of an evaluation, embedded once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from jinaclip.clip import JinaClip
from jinaclip.errors import InputError, JinaClipError, Partial, rename
from jinaclip.evaluation.kept import Kept, Part, image_key, text_key
from jinaclip.evaluation.records import Item, Query, Source, read_items, read_queries
from jinaclip.evaluation.searches import Embedded
from jinaclip.fusion import check_weight
from jinaclip.vectors import Vectors, normalize

logger = logging.getLogger("jinaclip")

Places = Sequence[int]
AT_ONCE = 16
"""Queries on their way together."""
NAMED = 5
"""How many of many a warning names."""


def embed(
    clip: JinaClip, items: Source, queries: Source, weight: float, cache: str | os.PathLike[str] | None
) -> Embedded:
    """Reads and embeds everything, looking at all rows before anything is sent.

    Raises:
        InputError: a row is unusable, or the queries ask for categories that no item has.
        BudgetError: what there is to embed would exceed `token_budget`.
    """
    check_weight(weight)
    table, asked_for = read_items(items), read_queries(queries)
    wanted = answerable(table, asked_for)
    check_images(clip, table)
    kept, parts = Kept(cache), parted(clip, table, wanted, cache is not None)
    announce(clip, table, wanted, *(kept.missing(part) for part in parts))
    texts, images, asked = (normalize(kept.filled(part)) for part in parts)
    return Embedded(table, wanted, asked, texts, images, weight, len(asked_for) - len(wanted))


def answerable(table: Sequence[Item], queries: Sequence[Query]) -> list[Query]:
    """The queries that ask for something there is; warns of the others, and of each category that no item has.

    Raises:
        InputError: there are none.
    """
    known = {pair for item in table for pair in item.categories.items()}
    found = [query for query in queries if not known.isdisjoint(query.categories.items())]
    if not found:
        raise InputError("no item has a category that a query asks for; do both name levels and categories alike?")
    left_out = [query for query in queries if known.isdisjoint(query.categories.items())]
    unknown = dict.fromkeys(pair for query in queries for pair in query.categories.items() if pair not in known)
    if left_out:
        names = some(repr(query.id) for query in left_out)
        logger.warning(
            "%d of %d queries are left out, no item is what they ask for: %s", len(left_out), len(queries), names
        )
    if unknown:
        names = some(f"{level}={word!r}" for level, word in unknown)
        logger.warning("%d categories that queries ask for are no item's: %s", len(unknown), names)
    return found


def some(names: Iterable[str]) -> str:
    """The first of many."""
    listed = list(names)
    return ", ".join(listed[:NAMED]) + (", ..." if len(listed) > NAMED else "")


def check_images(clip: JinaClip, table: Sequence[Item]) -> None:
    """Looks at paths, addresses and types of all images.

    Raises:
        InputError: one will not be opened; the message names its row.
    """
    try:
        clip.look_through(images=[item.image for item in table])
    except InputError as error:
        if error.index is not None:
            rename(error, named(table[error.index], error.index))
        raise


def parted(clip: JinaClip, table: Sequence[Item], wanted: Sequence[Query], keyed: bool) -> tuple[Part, Part, Part]:
    """Descriptions, images and queries, each to be embedded together."""
    texts, images = [item.text for item in table], [item.image for item in table]
    asked = [query.text for query in wanted]
    mark, policy = clip.fingerprint, clip.config.image_policy
    names = [named(item, index) for index, item in enumerate(table)]
    return (
        Part(
            names,
            [text_key(mark, "document", text) if keyed else None for text in texts],
            lambda places: clip.embed_documents([texts[i] for i in places]),
        ),
        Part(
            names,
            [image_key(mark, image, policy) if keyed else None for image in images],
            lambda places: clip.embed_images([images[i] for i in places]),
        ),
        Part(
            [f"query {query.id!r}" for query in wanted],
            [text_key(mark, "query", text) if keyed else None for text in asked],
            lambda places: embed_queries(clip, [asked[i] for i in places]),
        ),
    )


def named(item: Item, index: int) -> str:
    """A row as messages call it."""
    return f"row {index} (id {item.id!r})"


def announce(
    clip: JinaClip, table: Sequence[Item], wanted: Sequence[Query], texts: Places, images: Places, asked: Places
) -> None:
    """Says what there is to embed, and what it will cost.

    Raises:
        BudgetError: that would exceed `token_budget`.
    """
    words = [*(table[i].text for i in texts), *dict.fromkeys(wanted[i].text for i in asked)]
    cost = clip.estimate(words, [table[i].image for i in images])
    logger.info(
        "%d items, %d queries; to embed: %d texts, %d images, about %s tokens",
        len(table), len(wanted), len(words), len(images), f"{cost.tokens:,}",
    )  # fmt: skip
    clip.check_budget(cost.tokens)


def embed_queries(clip: JinaClip, texts: Sequence[str]) -> Vectors:
    """(q, d): as queries, so that v2's instruction goes before each; several at once.

    Raises:
        JinaClipError: the backend failed; `.index` and `.partial` as `JinaClip.embed_documents` has them.
    """
    pool = ThreadPoolExecutor(AT_ONCE)  # threads: a notebook's event loop runs already
    sent = {text: pool.submit(clip.embed_query, text) for text in dict.fromkeys(texts)}
    rows = [sent[text] for text in texts]  # what is asked twice is paid for once
    try:
        return np.stack([row.result() for row in drawn(rows, clip.config.show_progress)])
    except BaseException as error:
        pool.shutdown(cancel_futures=True)  # what is on its way is paid for, so it is waited for
        ended = {index: row.exception() for index, row in enumerate(rows) if not row.cancelled()}
        made = {index: rows[index].result() for index, failure in ended.items() if failure is None}
        error.partial = Partial(made)  # type: ignore[attr-defined]
        if isinstance(error, JinaClipError):
            error.index = next(index for index, failure in ended.items() if failure is error)
        raise
    finally:
        pool.shutdown()


def drawn(rows: Iterable[Any], progress: bool) -> Iterable[Any]:
    """The same, with a bar."""
    if not progress:
        return rows
    from tqdm.auto import tqdm

    return tqdm(rows, desc="queries", unit="item")
