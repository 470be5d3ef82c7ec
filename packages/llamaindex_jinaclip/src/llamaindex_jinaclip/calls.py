"""A call of the core, with what LlamaIndex does around a batch: events, its cache, its rate limiter."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # not said to be public
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent

from jinaclip import JinaClip, Results, hosts
from jinaclip.hosts import Task
from llamaindex_jinaclip.entries import Entry
from llamaindex_jinaclip.twins import Call

dispatcher = get_dispatcher(__name__)


async def embed_entries(
    call: Call,
    model: BaseEmbedding,
    clip: JinaClip,
    entries: Sequence[Entry],
    convert: Callable[[Any], Any],
    vectors: dict[int, Embedding],
    *,
    show_progress: bool = False,
) -> list[Embedding]:
    """Embeds all entries in one call of the core, which makes the batches and sends several at once.

    Args:
        call: whether to block, see `twins`.
        model: whose events, cache and rate limiter these are.
        clip: its core object.
        entries: what to embed; without any, nothing happens.
        convert: gives what the core takes for the item of an entry.
        vectors: filled, by index, so that whoever catches an error has what was made until then.
        show_progress: draw a bar, whatever the option says.

    Raises:
        JinaClipError: an entry has no vector; `.index` and `.partial` count in `entries`.
    """
    if not entries:
        return []
    with events(model, entries, vectors):
        vectors.update(await recall(call, model, clip, entries))
        places = [index for index in range(len(entries)) if index not in vectors]
        missing = [entries[index] for index in places]
        if missing:
            await acquire(call, model, sum(entry.inputs for entry in missing))
            with moved_partial(places, vectors):
                results = await embed_missing(call, clip, missing, convert, show_progress=show_progress)
            made = results.at(places)
            vectors.update(rows_by_index(made))
            await remember(call, model, clip, entries, rows_by_index(made))
            made.unwrap()
    return [vectors[index] for index in range(len(entries))]


async def embed_missing(
    call: Call, clip: JinaClip, entries: Sequence[Entry], convert: Callable[[Any], Any], *, show_progress: bool
) -> Results:
    """What comes of entries that no cache holds: a query alone, as somebody waits for it, or many documents."""
    if [entry.task for entry in entries] == ["query"]:
        query: Results = await call(hosts.embed_query, hosts.aembed_query, clip, entries[0].item, convert)
        return query
    results: Results = await call(
        hosts.embed,
        hosts.aembed,
        clip,
        entries,
        lambda entry: convert(entry.item),
        name=lambda _, entry: entry.name,
        strict=True,
        show_progress=show_progress or None,
    )
    return results


@contextmanager
def moved_partial(places: Sequence[int], vectors: dict[int, Embedding]) -> Iterator[None]:
    """Lets the `.partial` of an exception that ends the call, Ctrl-C say, count in all entries; adds its vectors."""
    try:
        yield
    except BaseException as error:
        partial = getattr(error, "partial", None)
        if isinstance(partial, Results):
            error.partial = partial.at(places)  # type: ignore[attr-defined]
            vectors.update(rows_by_index(partial.at(places)))
        raise


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


async def recall(call: Call, model: BaseEmbedding, clip: JinaClip, entries: Sequence[Entry]) -> dict[int, Embedding]:
    """The vectors that `embeddings_cache` has, by index."""
    cache, found = model.embeddings_cache, dict[int, Embedding]()
    if cache is None:
        return found
    names = collections(clip)
    for index, entry in enumerate(entries):
        if entry.key is not None:
            held = await call(cache.get, cache.aget, key=entry.key, collection=names[entry.task])
            if held:
                found[index] = next(iter(held.values()))
    return found


async def remember(
    call: Call, model: BaseEmbedding, clip: JinaClip, entries: Sequence[Entry], vectors: Mapping[int, Embedding]
) -> None:
    """Puts vectors of texts into `embeddings_cache`."""
    cache = model.embeddings_cache
    if cache is None:
        return
    names = collections(clip)
    for index, vector in vectors.items():
        entry = entries[index]
        if entry.key is not None:
            value = {str(uuid.uuid4()): vector}
            await call(cache.put, cache.aput, key=entry.key, val=value, collection=names[entry.task])


def collections(clip: JinaClip) -> dict[Task, str]:
    """Where `embeddings_cache` keeps vectors of documents and of queries.

    LlamaIndex's key is the text alone, in one collection: a query would answer for a document, one model or width for
    another, and the vector of a text that was cut for one that is to be refused.
    """
    cut = "-cut" if clip.config.truncate else ""
    return {task: f"embeddings-{task}-{clip.space}{cut}" for task in ("document", "query")}


# -- the rate limiter


async def acquire(call: Call, model: BaseEmbedding, inputs: int) -> None:
    """Waits for a permit of `rate_limiter` for every `embed_batch_size` of so many texts and images."""
    limiter = model.rate_limiter
    if limiter is not None:
        for _ in range(0, inputs, model.embed_batch_size):
            await call(limiter.acquire, limiter.async_acquire)
