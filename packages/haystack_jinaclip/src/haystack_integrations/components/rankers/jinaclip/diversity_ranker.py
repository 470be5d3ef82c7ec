"""Search results in an order that shows different images first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from haystack import Document, component, logging
from haystack.document_stores.types import DocumentStore

from haystack_integrations.components.embedders.jinaclip._component import ClipComponent
from haystack_integrations.components.embedders.jinaclip._documents import (
    LABEL,
    EmbeddedDocuments,
    check_documents,
    embed_documents,
)
from haystack_integrations.components.embedders.jinaclip._handle import ClipHandle
from haystack_integrations.components.embedders.jinaclip._options import (
    ImageDocumentOptions,
    check_options,
    take_options,
)
from haystack_integrations.components.embedders.jinaclip._sources import ImageSource
from jinaclip.hosts import Steps, arun_steps, is_blank, run_steps, wait_for_thread, without_arguments
from jinaclip.retrieval import Diversifier, diversify

logger = logging.getLogger(__name__)

Vectors = dict[str, list[float]]


@dataclass(frozen=True, repr=False, kw_only=True)
class DiversityOptions(ImageDocumentOptions):
    """Options of what orders documents by their images.

    Args:
        top_k: how many documents to give; None gives all.
        clusters: how many kinds of images to tell apart; only for "kmeans".
        method: "kmeans", over documents with an image (needs the extra `rerank`), or "mmr", over all with embeddings.
        lambda_mult: share of relevance from 0 to 1; only for "mmr".
        seed: for the starting points of k-means.
        document_store: where the embeddings of documents that come without are fetched from, by their ids.
        embed_missing: whether the images of documents that have no embedding there either are embedded, and paid for;
            False leaves those in their places.
        raise_on_failure: False lets a document whose image cannot be embedded keep its place, and logs why.
    """

    top_k: int | None = None
    clusters: int = Diversifier.clusters
    method: Literal["kmeans", "mmr"] = Diversifier.method
    lambda_mult: float = Diversifier.lambda_mult
    seed: int = Diversifier.seed
    document_store: DocumentStore | None = None
    embed_missing: bool = True
    progress_bar: bool = False
    raise_on_failure: bool = False


@component
class JinaClipDiversityRanker(ClipComponent[DiversityOptions]):
    """Puts search results in an order that shows different images first; see `jinaclip.retrieval.diversify`.

    It takes the embeddings that the documents carry, which retrievers hand over with `return_embedding=True`, or those
    of `document_store`. Images of documents without are embedded, as `JinaClipDocumentImageEmbedder` would, with the
    same options; a warning says once what that costs, and `embed_missing=False` forbids it. Only then is a key, or are
    the weights, needed: there is no `warm_up`.

    What counts as an image is a document that was embedded as one, by its `meta["embedding_source"]`, or that has an
    image and no text. Others keep their places; so does, by default, a document whose image cannot be embedded.

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
        self._warned = False
        self._order([], {}, None)  # refuses wrong options

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    @without_arguments
    def run(self, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """Orders documents.

        Args:
            documents: best first, or with scores, which then count instead. Of those with the same id the first counts.
            top_k: how many to give; None takes the component's own.

        Returns:
            `documents`, the same objects, embedding and score as they were; `meta` with the model and the tokens of
            this run, empty where no image was embedded.

        Raises:
            TypeError: it is no list of Documents.
            ValueError: `top_k` is less than 1, or there is no key where one is needed.
            JinaClipError: the backend failed.
        """
        return run_steps(self._rank(documents, top_k))

    @component.output_types(documents=list[Document], meta=dict[str, Any])
    @without_arguments
    async def run_async(self, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        return await arun_steps(self._rank(documents, top_k))

    def _rank(self, documents: list[Document], top_k: int | None) -> Steps[dict[str, Any]]:
        found = self._unique(documents, top_k)
        vectors = vectors_by_id(found)
        vectors |= yield from self._fetch([one for one in found if one.id not in vectors and self._counts(one)])
        bare = [one for one in found if one.id not in vectors and self.is_image(one)]
        embedded = yield from self._embed(bare)
        vectors |= vectors_by_id(embedded.documents)
        order = yield from wait_for_thread(self._order, found, vectors, top_k)
        return {"documents": order, "meta": embedded.meta}

    def is_image(self, document: Document) -> bool:
        """Whether a document's embedding is, or would be, that of an image."""
        label = document.meta.get(LABEL)
        if label is not None:
            return isinstance(label, dict) and "image" in str(label.get("type"))
        return is_blank(document.content or "") and self.source.has(document)

    def _counts(self, document: Document) -> bool:
        """Whether a document's embedding, if it had one, would be looked at."""
        return self.options.method == "mmr" or self.is_image(document)

    def _unique(self, documents: list[Document], top_k: int | None) -> list[Document]:
        """The different documents, each where it stood first. Raises before anything is paid for."""
        check_documents(documents, type(self).__name__)
        self._order([], {}, top_k)
        first: dict[str, Document] = {}
        for document in documents:
            first.setdefault(document.id, document)
        return [*first.values()]

    def _fetch(self, documents: list[Document]) -> Steps[Vectors]:
        """The embeddings that the document store has of documents."""
        store = self.options.document_store
        if store is None or not documents:
            return {}
        of_them = {"field": "id", "operator": "in", "value": [document.id for document in documents]}
        # in a thread: of the protocol's methods this is the only one that every store has
        return vectors_by_id((yield from wait_for_thread(store.filter_documents, of_them)))

    def _embed(self, documents: list[Document]) -> Steps[EmbeddedDocuments]:
        """Embeds the images of documents that have no embedding anywhere, unless that is not wanted."""
        if not documents or not self.options.embed_missing:
            return EmbeddedDocuments()
        clip = yield from self.handle.wait()
        self._warn(len(documents), len(documents) * clip.spec.tokens_per_tile)
        strict = self.options.raise_on_failure
        return (yield from embed_documents(self.handle, self.source, documents, raise_on_failure=strict))

    def _warn(self, count: int, tokens: int) -> None:
        """Says once that runs cost something, which they need not."""
        if self._warned:
            return
        self._warned = True
        logger.warning(
            "{count} documents came to {component} without an embedding, so it embeds their images in every run: "
            "{cost} this time. Set return_embedding=True where they are retrieved, or give the ranker their "
            "document_store; embed_missing=False leaves them in their places. This is said once.",
            count=count,
            component=type(self).__name__,
            cost=f"up to {tokens} tokens" if self.options.backend == "api" else "time on this machine",
        )

    def _order(self, documents: list[Document], vectors: Vectors, top_k: int | None) -> list[Document]:
        """The documents to show, in order."""
        options = self.options
        k = top_k if top_k is not None else options.top_k
        check_options({"top_k": k})
        rows = [vectors.get(document.id) if self._counts(document) else None for document in documents]
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


def vectors_by_id(documents: list[Document]) -> Vectors:
    """The embedding of each document that has one."""
    return {document.id: document.embedding for document in documents if document.embedding is not None}
