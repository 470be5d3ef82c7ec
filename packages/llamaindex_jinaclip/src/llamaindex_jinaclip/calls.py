"""A call of the core, with what LlamaIndex does around a batch: events, its cache, its rate limiter."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index_instrumentation import get_dispatcher

from jinaclip import JinaClip, Results, hosts
from jinaclip.hosts import Steps, Task, wait_for
from llamaindex_jinaclip.entries import Entry

Embed: TypeAlias = Callable[[list[Any]], Steps[Results]]
"""A call of the core for items."""
dispatcher = get_dispatcher(__name__)


def embed_entries(
    embed: Embed,
    model: BaseEmbedding,
    clip: JinaClip,
    entries: Sequence[Entry],
    vectors: dict[int, Embedding],
    settle: Callable[[Results], Any] = Results.unwrap,
) -> Steps[list[Embedding]]:
    """Embeds all entries in one call of the core, which makes the batches and sends several at once.

    Args:
        embed: calls the core for the items of entries that no cache holds.
        model: whose events, cache and rate limiter these are.
        clip: its core object.
        entries: what to embed; without any, nothing happens.
        vectors: filled, by index, so that whoever catches an error has what was made until then.
        settle: what becomes of the results, which count in `entries`; the default raises if one has no vector.

    Returns:
        The vectors that there are, in order.

    Raises:
        JinaClipError: an entry has no vector; `.index` and `.partial` count in `entries`.
    """
    if not entries:
        return []
    with events(model, entries, vectors):
        vectors.update((yield from recall(model, clip, entries)))
        places = [index for index in range(len(entries)) if index not in vectors]
        missing = [entries[index] for index in places]
        if missing:
            yield from acquire(model, sum(entry.inputs for entry in missing))
            with moved_partial(places, vectors):
                results = yield from embed([entry.item for entry in missing])
            made = results.at(places)
            rows = rows_by_index(made)
            vectors.update(rows)
            yield from remember(model, clip, entries, rows)
            settle(made)
    return [vectors[index] for index in sorted(vectors)]


def embed_query(
    clip: JinaClip, items: list[Any], convert: hosts.Convert | None = None, *, kind: hosts.Kind = "text"
) -> Steps[Results]:
    """A call for what to search with, the only item: somebody waits."""
    return wait_for(hosts.embed_query, hosts.aembed_query, clip, items[0], convert, kind=kind)


def embed_items(
    clip: JinaClip,
    items: list[Any],
    convert: hosts.Convert | None = None,
    *,
    kind: hosts.Kind = "item",
    name: hosts.Name | None = None,
    strict: bool = True,
    show_progress: bool,
) -> Steps[Results]:
    """A call for several items; `strict` as for `hosts.embed`; `show_progress` draws a bar, whatever the option."""
    bar = show_progress or None
    return wait_for(
        hosts.embed, hosts.aembed, clip, items, convert, kind=kind, name=name, strict=strict, show_progress=bar
    )


@contextmanager
def moved_partial(places: Sequence[int], vectors: dict[int, Embedding]) -> Iterator[None]:
    """Lets the `.partial` of an exception that ends the call, Ctrl-C say, count in all entries; adds its vectors."""
    try:
        yield
    except BaseException as error:
        move_partial(error, places, vectors)
        raise


def move_partial(error: Any, places: Sequence[int], vectors: dict[int, Embedding]) -> None:
    """Numbers the `.partial` of an exception anew, if it has one; any class of exception may be given one."""
    partial = getattr(error, "partial", None)
    if isinstance(partial, Results):
        error.partial = partial.at(places)
        vectors.update(rows_by_index(error.partial))


def rows_by_index(results: Results) -> dict[int, Embedding]:
    """The vectors that there are, as LlamaIndex keeps them."""
    indices, rows = results.successes()
    return dict(zip(indices.tolist(), rows.tolist(), strict=True))


# -- events


@contextmanager
def events(model: BaseEmbedding, entries: Sequence[Entry], vectors: Mapping[int, Embedding]) -> Iterator[None]:
    """A start and an end for those who watch; the end comes after errors too, with the vectors that were made."""
    payload = model.to_payload()
    dispatcher.event(EmbeddingStartEvent(model_dict=payload))
    try:
        with model.callback_manager.event(CBEventType.EMBEDDING, {EventPayload.SERIALIZED: payload}) as event:
            yield
            chunks, embeddings = list_vectors(entries, vectors)
            event.on_end({EventPayload.CHUNKS: chunks, EventPayload.EMBEDDINGS: embeddings})
    finally:
        chunks, embeddings = list_vectors(entries, vectors)
        dispatcher.event(EmbeddingEndEvent(chunks=chunks, embeddings=embeddings))


def list_vectors(entries: Sequence[Entry], vectors: Mapping[int, Embedding]) -> tuple[list[str], list[Embedding]]:
    """The chunks that have a vector, and the vectors."""
    order = sorted(vectors)
    return [entries[index].chunk for index in order], [vectors[index] for index in order]


# -- the cache of text vectors


def recall(model: BaseEmbedding, clip: JinaClip, entries: Sequence[Entry]) -> Steps[dict[int, Embedding]]:
    """The vectors that `embeddings_cache` has, by index."""
    cache, found = model.embeddings_cache, dict[int, Embedding]()
    if cache is None:
        return found
    names = collections(clip)
    for index, entry in enumerate(entries):
        if entry.key is not None:
            held = yield from wait_for(cache.get, cache.aget, key=entry.key, collection=names[entry.task])
            if held:
                found[index] = next(iter(held.values()))
    return found


def remember(
    model: BaseEmbedding, clip: JinaClip, entries: Sequence[Entry], vectors: Mapping[int, Embedding]
) -> Steps[None]:
    """Puts vectors of texts into `embeddings_cache`."""
    cache = model.embeddings_cache
    if cache is None:
        return
    names = collections(clip)
    for index, vector in vectors.items():
        entry = entries[index]
        if entry.key is not None:
            value = {str(uuid.uuid4()): vector}
            yield from wait_for(cache.put, cache.aput, key=entry.key, val=value, collection=names[entry.task])


def collections(clip: JinaClip) -> dict[Task, str]:
    """Where `embeddings_cache` keeps vectors of documents and of queries.

    LlamaIndex's key is the text alone, in one collection: a query would answer for a document, one model or width for
    another, and the vector of a text that was cut for one that is to be refused.
    """
    cut = "-cut" if clip.config.truncate else ""
    return {task: f"embeddings-{task}-{clip.space}{cut}" for task in ("document", "query")}


# -- the rate limiter


def acquire(model: BaseEmbedding, inputs: int) -> Steps[None]:
    """Waits for a permit of `rate_limiter` for every `embed_batch_size` of so many texts and images."""
    limiter = model.rate_limiter
    if limiter is not None:
        for _ in range(0, inputs, model.embed_batch_size):
            yield from wait_for(limiter.acquire, limiter.async_acquire)
