"""A host's items, of whatever class, embedded in one call."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Literal

from jinaclip import images
from jinaclip.call.request import Draft, Name, Read, Task, draft_many, draft_one, read_now, read_soon
from jinaclip.call.results import Results
from jinaclip.clip import JinaClip
from jinaclip.errors import InputError
from jinaclip.inputs import is_held
from jinaclip.process import Latch, mark_coroutine_function

Convert = Callable[[Any], Any]
"""Gives what `JinaClip.embed` takes for an item of the host's, or raises an InputError that says why there is none."""
Kind = Literal["text", "image", "pair", "item"]
"""What a host's items are; an "item" may be any of the others."""


def take(item: Any, clip: JinaClip | None = None) -> Any:
    """An item as it is now: a copy of an array, a buffer or a PIL image, whose owner may change or refill it.

    `embed` and `aembed` do this at the call; it is for adapters that wait for something before they call them. What
    cannot be copied comes back as it is, and fails where it is embedded.

    Args:
        item: one item of the host's.
        clip: what will embed it; open files are read as far as its image policy allows, without it as far as the
            default one does.
    """
    try:
        return images.take(item, None if clip is None else clip.config.image_policy)
    except InputError:
        return item


def embed(
    clip: JinaClip,
    items: Iterable[Any],
    convert: Convert | None = None,
    *,
    task: Task = "document",
    kind: Kind = "item",
    name: Name | None = None,
    strict: bool = False,
    urgent: bool = False,
    show_progress: bool | None = None,
    stop: Latch | None = None,
) -> Results:
    """Embeds a host's items; rows and errors stand at the items' own indices.

    Args:
        clip: embeds them.
        items: of a list all are converted at once, of an iterator each when its turn comes. Arrays, buffers and PIL
            images are copied at once, what else they hold is the caller's: see `JinaClip.embed`.
        convert: gives a str or Text, a Pair, or an image for an item; the InputError that it raises fails that item.
            None where the items are what `JinaClip` takes for their kind.
        task: whether texts are documents or queries.
        kind: what the items are; messages call one so, with its index.
        name: a name of its own for messages, by index and item, such as "document 17 (dress.jpg)".
        strict: send nothing if an item is known to be unusable before, for results that are to be unwrapped.
        urgent: somebody waits, as for one query: see `deadline`.
        show_progress: whether to draw a bar; None goes by the clip's option.
        stop: ends the call once it is set, from any thread: nothing more is sent, and what is in flight is waited for.

    Returns:
        Results, whose `unwrap()` gives the vectors or raises.

    Raises:
        InputError: `items` is one item and not several.
        BudgetError: a list would exceed `token_budget`.
        Exception: whatever the caller's own iterator raises.
    """
    draft = _draft(clip, items, convert, task, kind, name, urgent)
    return clip.run(read_now(draft), strict=strict, show_progress=show_progress, stop=stop)


@mark_coroutine_function
def aembed(
    clip: JinaClip,
    items: Iterable[Any],
    convert: Convert | None = None,
    *,
    task: Task = "document",
    kind: Kind = "item",
    name: Name | None = None,
    strict: bool = False,
    urgent: bool = False,
    show_progress: bool | None = None,
) -> Coroutine[Any, Any, Results]:
    """`embed` without blocking the event loop: items are taken at the call, and converted in a thread."""
    draft = _draft(clip, items, convert, task, kind, name, urgent)
    return _arun(clip, draft, strict=strict, show_progress=show_progress)


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
    return clip.run(read_now(_draft_query(clip, item, convert, kind)), strict=True)


@mark_coroutine_function
def aembed_query(
    clip: JinaClip, item: Any, convert: Convert | None = None, *, kind: Kind = "item"
) -> Coroutine[Any, Any, Results]:
    """`embed_query` without blocking the event loop: what is no text is read in a thread."""
    return _arun(clip, _draft_query(clip, item, convert, kind), strict=True)


async def _arun(clip: JinaClip, draft: Draft, *, strict: bool, show_progress: bool | None = None) -> Results:
    return await clip.arun(await read_soon(draft), strict=strict, show_progress=show_progress)


def _draft(
    clip: JinaClip,
    items: Iterable[Any],
    convert: Convert | None,
    task: Task,
    kind: Kind,
    name: Name | None,
    urgent: bool,
) -> Draft:
    read = _reading(clip, convert, kind, early=is_held(items))
    policy, converts = clip.config.image_policy, convert is not None
    return draft_many(items, read, kind, task, name=name, policy=policy, urgent=urgent, converts=converts)


def _draft_query(clip: JinaClip, item: Any, convert: Convert | None, kind: Kind) -> Draft:
    read = _reading(clip, convert, kind)
    policy, converts = clip.config.image_policy, convert is not None
    return draft_one(item, read, kind, "query", policy=policy, urgent=True, converts=converts)


def _reading(clip: JinaClip, convert: Convert | None, kind: Kind, *, early: bool = True) -> Read:
    reader = clip.reader(early=early)
    if convert is not None:
        return lambda item: reader.item(convert(item))
    readings: dict[Kind, Read] = {
        "text": reader.text,
        "image": reader.image,
        "pair": reader.pair,
        "item": reader.item,
    }
    return readings[kind]
