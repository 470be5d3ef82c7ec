"""Documents embedded in one call, and given back as copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from haystack import Document, logging

from haystack_integrations.components.embedders.jinaclip._handle import ClipHandle
from haystack_integrations.components.embedders.jinaclip._sources import Source
from jinaclip import InputError, ItemFailure, JinaClip, JinaClipError, Results
from jinaclip.errors import NotSentError
from jinaclip.hosts import Steps, aembed, embed, start_thread, wait_for, wait_for_thread
from jinaclip.images import Pages

logger = logging.getLogger(__name__)

LABEL, ERROR = "embedding_source", "embedding_error"
"""Fields of `meta`: what an embedding was made of, as Haystack's own embedders of images write it; why there is none,
in the manner of its extractors."""


@dataclass(frozen=True, slots=True)
class EmbeddedDocuments:
    """What a run gives.

    Attributes:
        documents: copies with their embeddings, in order.
        failed_documents: copies of the others, with the reason in their meta.
        meta: the model and the tokens of this run, empty where there was nothing to do.
        places: where each of `documents` stood in the list that was given.
    """

    documents: list[Document] = field(default_factory=list)
    failed_documents: list[Document] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    places: list[int] = field(default_factory=list)

    def output(self) -> dict[str, Any]:
        """The same by the names of the outputs."""
        return {"documents": self.documents, "failed_documents": self.failed_documents, "meta": self.meta}


def embed_documents(
    handle: ClipHandle, source: Source, documents: list[Document], *, raise_on_failure: bool
) -> Steps[EmbeddedDocuments]:
    """Embeds documents.

    Args:
        handle: holds the JinaClip that embeds them.
        source: finds what is embedded of a document.
        documents: stay as they are.
        raise_on_failure: False puts a document that cannot be embedded among those that failed, and logs why.

    Raises:
        InputError: a document cannot be embedded.
        JinaClipError: the backend failed; `.partial` holds the `jinaclip.Results`.
    """
    given = [*documents]  # the caller may change the list while an async run waits
    if not given:  # nothing is worth warming up for
        return EmbeddedDocuments()
    clip = yield from handle.wait()
    results = yield from embed_items(clip, source, given, strict=raise_on_failure)
    # in a thread, where there is a loop: millions of numbers become floats
    return (yield from wait_for_thread(finish, clip, source, given, results, raise_on_failure=raise_on_failure))


def embed_items(clip: JinaClip, source: Source, documents: list[Document], *, strict: bool) -> Steps[Results]:
    """Embeds what the source finds of the documents; PDF files stay open meanwhile."""
    pages = Pages(image_policy=clip.config.image_policy)
    convert = partial(source.find, clip=clip, pages=pages)

    def name(_: int, document: Document) -> str:
        return source.name(document)

    try:
        items = yield from wait_for_thread(select_items, source, documents, convert, strict=strict)
        results = yield from wait_for(embed, aembed, clip, items, convert, name=name, strict=strict)
        yield from wait_for_thread(pages.close)
    except BaseException:
        close_later(pages)
        raise
    return results


def close_later(pages: Pages) -> None:
    """Closes PDF files, and ends what draws their pages; who was cancelled, or failed, does not wait for that."""
    with suppress(JinaClipError):  # at the end of the process, which closes them too
        start_thread("jinaclip-pages", pages.close)


def check_documents(documents: Any, component: str) -> None:
    """Raises TypeError if it is no list of Documents.

    Args:
        documents: what a component was given.
        component: its name.
    """
    wrong = [documents]
    if isinstance(documents, list):
        wrong = [item for item in documents if not isinstance(item, Document)]
    if wrong:
        what = f"{type(wrong[0]).__name__}; queries go to JinaClipTextEmbedder or JinaClipImageEmbedder"
        raise TypeError(f"{component} takes a list of Documents, not {what}")


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
            raise ItemFailure(error, index, source.name(document)).error() from error
    return iter(documents)


def finish(
    clip: JinaClip, source: Source, documents: list[Document], results: Results, *, raise_on_failure: bool
) -> EmbeddedDocuments:
    """What a run gives, if it succeeded or its failures are to be logged only."""
    if raise_on_failure or not is_forgivable(results):
        results.unwrap()
    failed = [fail(documents[place], failure, results) for place, failure in sorted(results.errors.items())]
    places, vectors = results.successes()
    done = [
        copy_document(documents[place], vector.tolist(), source)
        for place, vector in zip(places.tolist(), vectors, strict=True)
    ]
    return EmbeddedDocuments(done, failed, usage_meta(clip, results.usage.tokens), places.tolist())


def fail(document: Document, failure: ItemFailure, results: Results) -> Document:
    """A copy of a document that was not embedded, with the reason in its meta, which is logged, too."""
    cause = f" ({results.stopped})" if isinstance(failure.reason, NotSentError) else ""
    logger.error("No embedding: {failure}{cause}", failure=failure, cause=cause)
    meta = {name: value for name, value in document.meta.items() if name != LABEL}
    return replace(document, embedding=None, meta={**meta, ERROR: f"{failure.reason}{cause}"})


def is_forgivable(results: Results) -> bool:
    """Whether all that failed is a document's own fault, or one of the service that may be gone next time."""
    stopped = [results.stopped] if results.stopped is not None else []
    reasons: list[JinaClipError] = [*stopped, *(failure.reason for failure in results.errors.values())]
    return all(isinstance(reason, InputError) or reason.retryable for reason in reasons)


def copy_document(document: Document, embedding: list[float], source: Source) -> Document:
    """A copy with the embedding; what meta says of an earlier embedding, or of an earlier failure, is gone."""
    label = source.label(document)
    meta = {name: value for name, value in document.meta.items() if name not in (LABEL, ERROR)}
    return replace(document, embedding=embedding, meta=meta if label is None else {**meta, LABEL: label})


def usage_meta(clip: JinaClip, tokens: int) -> dict[str, Any]:
    """The `meta` of a run: the model, and the tokens of this run alone."""
    return {"model": clip.spec.name, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}
