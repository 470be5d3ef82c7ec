"""Search results in an order that shows different images first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

from haystack import Document, component, default_from_dict, default_to_dict

from haystack_integrations.components.embedders.jinaclip._documents import check_documents, embed_documents
from haystack_integrations.components.embedders.jinaclip._handle import ClipHandle
from haystack_integrations.components.embedders.jinaclip._options import (
    ImageDocumentOptions,
    check_options,
    take_options,
)
from haystack_integrations.components.embedders.jinaclip._sources import ImageSource
from jinaclip.hosts import Steps, arun_steps, run_steps, wait_for_thread, without_arguments
from jinaclip.retrieval import Diversifier, diversify


@dataclass(frozen=True, repr=False, kw_only=True)
class DiversityOptions(ImageDocumentOptions):
    """Options of what orders documents by their images.

    Args:
        top_k: how many documents to give; None gives all.
        clusters: how many kinds of images to tell apart; only for "kmeans".
        method: "kmeans", over documents with an image (needs the extra `rerank`), or "mmr", over all with embeddings.
        lambda_mult: share of relevance from 0 to 1; only for "mmr".
        seed: for the starting points of k-means.
        progress_bar: whether to draw one.
        raise_on_failure: False lets a document whose image cannot be embedded keep its place, and logs why.
    """

    top_k: int | None = None
    clusters: int = Diversifier.clusters
    method: Literal["kmeans", "mmr"] = Diversifier.method
    lambda_mult: float = Diversifier.lambda_mult
    seed: int = Diversifier.seed
    progress_bar: bool = False
    raise_on_failure: bool = False


@component
class JinaClipDiversityRanker:
    """Puts search results in an order that shows different images first; see `jinaclip.retrieval.diversify`.

    It takes the embeddings that the documents carry, which retrievers hand over with `return_embedding=True`; documents
    without are embedded by their image, as `JinaClipDocumentImageEmbedder` would, with the same options, and only then
    is a key, or are the weights, needed: there is no `warm_up`. What has no image keeps its place; so does, by default,
    a document whose image cannot be embedded.

    Takes the options of `DiversityOptions`.

    Attributes:
        options: as they were given, and the defaults of the others.
        handle: holds the JinaClip that embeds images.
        source: finds the image of a document.

    Raises:
        ConfigError: an option is out of range (a ValueError).
        MissingDependencyError: "kmeans" without scikit-learn (an ImportError).
    """

    @take_options(DiversityOptions)
    def __init__(self, options: DiversityOptions) -> None:
        self.options = options
        self.handle = ClipHandle(options)
        self.source = ImageSource.of(options)
        self._order([], {}, None)  # refuses wrong options

    @component.output_types(documents=list[Document])
    @without_arguments
    def run(self, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """Orders documents.

        Args:
            documents: best first, or with scores, which then count instead. Of those with the same id the first counts.
            top_k: how many to give; None takes the component's own.

        Returns:
            `documents`, the same objects, embedding and score as they were.

        Raises:
            TypeError: it is no list of Documents.
            ValueError: `top_k` is less than 1, or there is no key where one is needed.
            JinaClipError: the backend failed.
        """
        return {"documents": run_steps(self._rank(documents, top_k))}

    @component.output_types(documents=list[Document])
    @without_arguments
    async def run_async(self, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return {"documents": await arun_steps(self._rank(documents, top_k))}

    def to_dict(self) -> dict[str, Any]:
        """The component as a saved pipeline holds it, without `transport`.

        Raises:
            ValueError: the key is a token, or the value of a header is one or a str; these are never saved.
        """
        return default_to_dict(self, **self.options.to_save())

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component of a saved pipeline."""
        return default_from_dict(cls, data)

    def close(self) -> None:
        """Closes connections and lets go of the weights, if any were needed; a run may need them again."""
        self.handle.close()

    async def close_async(self) -> None:
        """`close` without blocking the event loop."""
        await self.handle.close_async()

    def _get_telemetry_data(self) -> dict[str, Any]:
        return self.options.telemetry()

    def _rank(self, documents: list[Document], top_k: int | None) -> Steps[list[Document]]:
        found = self._unique(documents, top_k)
        bare = self._without_embedding(found)
        strict = self.options.raise_on_failure
        embedded = yield from embed_documents(self.handle, self.source, bare, raise_on_failure=strict)
        vectors = vectors_by_id([*found, *embedded.documents])
        return (yield from wait_for_thread(self._order, found, vectors, top_k))

    def _unique(self, documents: list[Document], top_k: int | None) -> list[Document]:
        """The different documents, each where it stood first. Raises before anything is paid for."""
        check_documents(documents, type(self).__name__)
        self._order([], {}, top_k)
        first: dict[str, Document] = {}
        for document in documents:
            first.setdefault(document.id, document)
        return [*first.values()]

    def _without_embedding(self, documents: list[Document]) -> list[Document]:
        """The documents whose image is still to be embedded."""
        return [document for document in documents if document.embedding is None and self._has_image(document)]

    def _has_image(self, document: Document) -> bool:
        return "embedding_source" in document.meta or bool(self.source.mime_type(document))

    def _order(
        self, documents: list[Document], vectors: dict[str, list[float] | None], top_k: int | None
    ) -> list[Document]:
        """The documents to show, in order."""
        options = self.options
        k = top_k if top_k is not None else options.top_k
        check_options({"top_k": k})
        by_image = options.method == "kmeans"
        rows = [None if by_image and not self._has_image(document) else vectors[document.id] for document in documents]
        scores = [document.score for document in documents if document.score is not None]
        order = diversify(
            rows,
            k if k is not None else len(documents) or 1,
            clusters=options.clusters,
            relevance=scores if len(scores) == len(documents) else None,
            seed=options.seed,
            method=options.method,
            lambda_mult=options.lambda_mult,
        )
        return [documents[place] for place in order]


def vectors_by_id(documents: list[Document]) -> dict[str, list[float] | None]:
    """The embedding of each document; of several with one id that of the last."""
    return {document.id: document.embedding for document in documents}
