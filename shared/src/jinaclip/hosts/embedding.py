"""A host's items, of whatever class, embedded in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from jinaclip.call.request import Name, Read, Request, Task, read_many, read_one
from jinaclip.call.results import Results
from jinaclip.clip import JinaClip
from jinaclip.inputs import Text
from jinaclip.process import run_in_thread

Convert = Callable[[Any], Any]
"""Gives what `JinaClip.embed` takes for an item of the host's, or raises an InputError that says why there is none."""
Kind = Literal["text", "image", "pair", "item"]
"""What a host's items are; an "item" may be any of the others."""


def embed(
    clip: JinaClip,
    items: Iterable[Any],
    convert: Convert | None = None,
    *,
    task: Task = "document",
    kind: Kind = "item",
    name: Name | None = None,
    strict: bool = False,
    show_progress: bool | None = None,
) -> Results:
    """Embeds a host's items; rows and errors stand at the items' own indices.

    Args:
        clip: embeds them.
        items: of a list all are converted at once, of an iterator each when its turn comes.
        convert: gives a str or Text, a Pair, or an image for an item; the InputError that it raises fails that item.
            None where the items are what `JinaClip` takes for their kind.
        task: whether texts are documents or queries.
        kind: what the items are; messages call one so, with its index.
        name: a name of its own for messages, by index and item, such as "document 17 (dress.jpg)".
        strict: send nothing if an item is known to be unusable before, for results that are to be unwrapped.
        show_progress: whether to draw a bar; None goes by the clip's option.

    Returns:
        Results, whose `unwrap()` gives the vectors or raises.

    Raises:
        InputError: `items` is one item and not several.
        BudgetError: a list would exceed `token_budget`.
        Exception: whatever the caller's own iterator raises.
    """
    request = _request(clip, items, convert, task, kind, name, snapshot=False)
    return clip.run(request, strict=strict, show_progress=show_progress)


async def aembed(
    clip: JinaClip,
    items: Iterable[Any],
    convert: Convert | None = None,
    *,
    task: Task = "document",
    kind: Kind = "item",
    name: Name | None = None,
    strict: bool = False,
    show_progress: bool | None = None,
) -> Results:
    """`embed` without blocking the event loop: items are read in a thread, unless they are texts as they stand."""
    if convert is None and kind == "text":
        request = _request(clip, items, convert, task, kind, name, snapshot=True)
    else:
        request = await run_in_thread(_request, clip, items, convert, task, kind, name, snapshot=True)
    return await clip.arun(request, strict=strict, show_progress=show_progress)


def embed_query(clip: JinaClip, item: Any, convert: Convert | None = None, *, kind: Kind = "item") -> Results:
    """Embeds one item to search with: a text as a query, an image, or a Pair. Somebody waits: see `deadline`.

    Args:
        clip: embeds it.
        item: one item of the host's.
        convert: as for `embed`.
        kind: as for `embed`.

    Returns:
        Results of one row. Its error, if it has one, has no index.
    """
    return clip.run(_query_request(clip, item, convert, kind, snapshot=False), strict=True)


async def aembed_query(clip: JinaClip, item: Any, convert: Convert | None = None, *, kind: Kind = "item") -> Results:
    """`embed_query` without blocking the event loop: the item is read in a thread, unless it is a text as it stands."""
    if convert is None and (kind == "text" or isinstance(item, str | Text)):
        request = _query_request(clip, item, convert, kind, snapshot=True)
    else:
        request = await run_in_thread(_query_request, clip, item, convert, kind, snapshot=True)
    return await clip.arun(request, strict=True)


def _query_request(clip: JinaClip, item: Any, convert: Convert | None, kind: Kind, *, snapshot: bool) -> Request:
    return read_one(item, _reading(clip, convert, kind, snapshot=snapshot), kind, "query", urgent=True)


def _request(
    clip: JinaClip,
    items: Iterable[Any],
    convert: Convert | None,
    task: Task,
    kind: Kind,
    name: Name | None,
    *,
    snapshot: bool,
) -> Request:
    return read_many(items, _reading(clip, convert, kind, snapshot=snapshot), kind, task, name=name)


def _reading(clip: JinaClip, convert: Convert | None, kind: Kind, *, snapshot: bool) -> Read:
    reader = clip.reader(snapshot=snapshot)
    if convert is not None:
        return lambda item: reader.item(convert(item))
    readings: dict[Kind, Read] = {
        "text": reader.text,
        "image": reader.image,
        "pair": reader.pair,
        "item": reader.item,
    }
    return readings[kind]
