"""Documents embedded in one call, and given back as copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

from haystack import Document, logging

from haystack_integrations.components.embedders.jinaclip._component import JinaClipComponent, usage_meta
from haystack_integrations.components.embedders.jinaclip._sources import Source
from jinaclip import InputError, ItemFailure, JinaClip, JinaClipError, Results
from jinaclip.errors import NotSentError
from jinaclip.hosts import aembed, embed, run_in_thread
from jinaclip.images import Pages

logger = logging.getLogger(__name__)


def embed_documents(
    component: JinaClipComponent, source: Source, documents: list[Document], *, raise_on_failure: bool
) -> dict[str, Any]:
    """Embeds documents for a component.

    Args:
        component: whose JinaClip embeds them.
        source: finds what is embedded of a document.
        documents: stay as they are.
        raise_on_failure: False keeps a document that cannot be embedded, without embedding, and logs why.

    Returns:
        `documents`, copies with their embeddings, all of them and in order; `meta` with the model and the tokens used,
        empty where there was nothing to do.

    Raises:
        TypeError: it is no list of Documents.
        InputError: a document cannot be embedded.
        JinaClipError: the backend failed; `.partial` holds the `jinaclip.Results`.
    """
    check_documents(documents, component)
    if not documents:  # nothing is worth warming up for
        return {"documents": [], "meta": {}}
    clip = component.get_clip()
    with Pages() as pages:
        convert = partial(source.find, clip=clip, pages=pages)
        items = select_items(source, documents, convert, strict=raise_on_failure)
        results = embed(clip, items, convert, name=name_document, strict=raise_on_failure)
    return finish(clip, source, documents, results, raise_on_failure=raise_on_failure)


async def aembed_documents(
    component: JinaClipComponent, source: Source, documents: list[Document], *, raise_on_failure: bool
) -> dict[str, Any]:
    """`embed_documents` without blocking the event loop."""
    check_documents(documents, component)
    if not documents:
        return {"documents": [], "meta": {}}
    clip = await component.get_clip_async()
    pages = Pages()
    convert = partial(source.find, clip=clip, pages=pages)
    try:
        items = await run_in_thread(select_items, source, documents, convert, strict=raise_on_failure)
        results = await aembed(clip, items, convert, name=name_document, strict=raise_on_failure)
    finally:
        await run_in_thread(pages.close)  # others may be rendering, and closing waits for them
    # millions of numbers become floats
    return await run_in_thread(finish, clip, source, documents, results, raise_on_failure=raise_on_failure)


def check_documents(documents: Any, component: JinaClipComponent) -> None:
    """Raises TypeError if it is no list of Documents."""
    wrong = [documents]
    if isinstance(documents, list):
        wrong = [item for item in documents if not isinstance(item, Document)]
    if wrong:
        what = f"{type(wrong[0]).__name__}; queries go to JinaClipTextEmbedder or JinaClipImageEmbedder"
        raise TypeError(f"{type(component).__name__} takes a list of Documents, not {what}")


def name_document(_: int, document: Document) -> str:
    """What messages call a document."""
    return f"Document with ID '{document.id}'"


def select_items(
    source: Source, documents: list[Document], convert: Callable[[Document], object], *, strict: bool
) -> Iterable[Document]:
    """The documents as the core is to take them.

    A list, of which the core converts all before it sends anything; or an iterator if there are pages of PDF files, of
    25 MB each, which are then rendered when their turn comes.

    Raises:
        InputError: `strict`, there are pages, and a document cannot be converted.
    """
    if not any(map(source.is_page, documents)):
        return documents
    for index, document in enumerate(documents if strict else ()):
        try:
            convert(document)
        except InputError as error:
            raise ItemFailure(error, index, name_document(index, document)).error() from error
    return iter(documents)


def finish(
    clip: JinaClip, source: Source, documents: list[Document], results: Results, *, raise_on_failure: bool
) -> dict[str, Any]:
    """What a run gives, if it succeeded or its failures are to be logged only."""
    if raise_on_failure or not is_forgivable(results):
        results.unwrap()
    for failure in results.errors.values():
        cause = f" ({results.stopped})" if isinstance(failure.reason, NotSentError) else ""
        logger.error("No embedding: {failure}{cause}", failure=failure, cause=cause)
    return {"documents": copy_documents(documents, results, source), "meta": usage_meta(clip, results)}


def is_forgivable(results: Results) -> bool:
    """Whether all that failed is a document's own fault, or one of the service that may be gone next time."""
    stopped = [results.stopped] if results.stopped is not None else []
    reasons: list[JinaClipError] = [*stopped, *(failure.reason for failure in results.errors.values())]
    return all(isinstance(reason, InputError) or reason.retryable for reason in reasons)


def copy_documents(documents: list[Document], results: Results, source: Source) -> list[Document]:
    """Copies of the documents: with an embedding and what it was made of, or without if they failed."""
    copies = [replace(document, embedding=None) for document in documents]
    places, vectors = results.successes()
    label = {} if source.label is None else {"embedding_source": source.label}
    for place, vector in zip(places.tolist(), vectors, strict=True):
        copies[place] = replace(copies[place], embedding=vector.tolist(), meta={**copies[place].meta, **label})
    return copies
