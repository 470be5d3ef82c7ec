"""A call of the core, with what LlamaIndex does around a batch: events, its cache, its rate limiter."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]  # not said to be public
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent

from jinaclip import JinaClip, Results, hosts
from llamaindex_jinaclip.entries import Entry
from llamaindex_jinaclip.steps import Step, Steps

COLLECTION = "embeddings"
"""LlamaIndex's name for the vectors in `embeddings_cache`."""

dispatcher = get_dispatcher(__name__)


def embed_entries(
    model: BaseEmbedding,
    clip: JinaClip,
    entries: Sequence[Entry],
    convert: Callable[[Any], Any],
    vectors: dict[int, Embedding],
    show_progress: bool,
) -> Steps[list[Embedding]]:
    """Embeds all entries in one call of the core, which makes the batches and sends several at once.

    Args:
        model: whose events, cache and rate limiter these are.
        clip: the core object.
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
        yield from recall(model, entries, vectors)
        places = [index for index in range(len(entries)) if index not in vectors]
        missing = [entries[index] for index in places]
        yield from acquire(model, missing)
        call = Step(
            hosts.embed,
            hosts.aembed,
            clip,
            missing,
            lambda entry: convert(entry.item),
            name=lambda _, entry: entry.name,
            strict=True,
            show_progress=show_progress or None,
        )
        try:
            results = (yield call).at(places)
        except BaseException as error:  # Ctrl-C, a host's time limit: what was embedded until then is not lost
            if isinstance(partial := getattr(error, "partial", None), Results):
                error.partial = partial.at(places)  # type: ignore[attr-defined]
                vectors.update(rows_by_index(error.partial))  # type: ignore[attr-defined]
            raise
        made = rows_by_index(results)
        vectors.update(made)
        yield from remember(model, entries, made)
        results.unwrap()
    return [vectors[index] for index in range(len(entries))]


def rows_by_index(results: Results) -> dict[int, Embedding]:
    """The vectors that there are, as LlamaIndex keeps them."""
    indices, rows = results.successes()
    return dict(zip(indices.tolist(), rows.tolist(), strict=True))


def embed_entry(
    model: BaseEmbedding,
    entry: Entry,
    embed: Callable[[Any], Embedding],
    aembed: Callable[[Any], Awaitable[Embedding]],
) -> Steps[Embedding]:
    """Embeds a single item with a method of the model, or its async twin."""
    vectors: dict[int, Embedding] = {}
    with events(model, [entry], vectors):
        yield from recall(model, [entry], vectors)
        if not vectors:
            yield from acquire(model, [entry])
            vectors[0] = yield Step(embed, aembed, entry.item)
            yield from remember(model, [entry], vectors)
    return vectors[0]


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


def recall(model: BaseEmbedding, entries: Sequence[Entry], vectors: dict[int, Embedding]) -> Steps[None]:
    """Adds the vectors that `embeddings_cache` has."""
    cache = model.embeddings_cache
    for index, entry in enumerate(entries):
        if cache is not None and entry.key is not None:
            found = yield Step(cache.get, cache.aget, key=entry.key, collection=COLLECTION)
            if found:
                vectors[index] = next(iter(found.values()))


def remember(model: BaseEmbedding, entries: Sequence[Entry], vectors: Mapping[int, Embedding]) -> Steps[None]:
    """Puts vectors into `embeddings_cache`."""
    cache = model.embeddings_cache
    for index, vector in vectors.items():
        key = entries[index].key
        if cache is not None and key is not None:
            yield Step(cache.put, cache.aput, key=key, val={str(uuid.uuid4()): vector}, collection=COLLECTION)


def acquire(model: BaseEmbedding, entries: Sequence[Entry]) -> Steps[None]:
    """Waits for a permit of `rate_limiter` for every `embed_batch_size` texts and images."""
    limiter = model.rate_limiter
    if limiter is not None:
        for _ in range(0, sum(entry.inputs for entry in entries), model.embed_batch_size):
            yield Step(limiter.acquire, limiter.async_acquire)
