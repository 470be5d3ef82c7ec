"""Search results in an order that shows different images first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from haystack import Document, component

from haystack_integrations.components.embedders.jinaclip._component import JinaClipComponent
from haystack_integrations.components.embedders.jinaclip._documents import (
    aembed_documents,
    check_documents,
    embed_documents,
)
from haystack_integrations.components.embedders.jinaclip._sources import ImageSource
from jinaclip.hosts import EmbedderConfig, ImageResize, run_in_thread
from jinaclip.retrieval import Diversifier, diversify


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipDiversityRanker(JinaClipComponent):
    """Puts search results in an order that shows different images first; see `jinaclip.retrieval.diversify`.

    It takes the embeddings that the documents carry, which retrievers hand over with `return_embedding=True`; documents
    without are embedded by their image, as `JinaClipDocumentImageEmbedder` would, with the same options, and only then
    is a key, or are the weights, needed. What has no image keeps its place; so does, by default, a document whose image
    cannot be embedded.

    Args:
        top_k: how many documents to give; None gives all.
        clusters: how many kinds of images to tell apart; only for "kmeans".
        method: "kmeans", over documents with an image (needs the extra `rerank`), or "mmr", over all with embeddings.
        lambda_mult: share of relevance from 0 to 1; only for "mmr".
        seed: for the starting points of k-means.

    Raises:
        ConfigError: an option is out of range (a ValueError).
        MissingDependencyError: "kmeans" without scikit-learn (an ImportError).
    """

    top_k: int | None = None
    clusters: int = Diversifier.clusters
    method: Literal["kmeans", "mmr"] = Diversifier.method
    lambda_mult: float = Diversifier.lambda_mult
    seed: int = Diversifier.seed
    image_policy: dict[str, Any] | None = None
    image_resize: ImageResize = EmbedderConfig.image_resize
    image_quality: int | None = EmbedderConfig.image_quality
    file_path_meta_field: str = "file_path"
    root_path: str | None = None
    batch_size: int | None = EmbedderConfig.batch_size
    progress_bar: bool = False
    raise_on_failure: bool = False

    def __post_init__(self) -> None:
        JinaClipComponent.__post_init__(self)
        self._order([], {}, None)  # refuses wrong options

    def warm_up(self) -> Any:
        """Nothing: key and weights wait until a document comes without embedding."""

    async def warm_up_async(self) -> Any:
        """Nothing, as `warm_up`."""

    @component.output_types(documents=list[Document])
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
        found = self._unique(documents, top_k)
        bare = self._without_embedding(found)
        embedded = embed_documents(self, self._source(), bare, raise_on_failure=self.raise_on_failure)
        return {"documents": self._order(found, vectors_by_id([*found, *embedded["documents"]]), top_k)}

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        found = self._unique(documents, top_k)
        bare = self._without_embedding(found)
        embedded = await aembed_documents(self, self._source(), bare, raise_on_failure=self.raise_on_failure)
        vectors = vectors_by_id([*found, *embedded["documents"]])
        return {"documents": await run_in_thread(self._order, found, vectors, top_k)}

    def _source(self) -> ImageSource:
        return ImageSource(self.file_path_meta_field, self.root_path)

    def _unique(self, documents: list[Document], top_k: int | None) -> list[Document]:
        """The different documents, each where it stood first. Raises before anything is paid for."""
        check_documents(documents, self)
        self._order([], {}, top_k)
        first: dict[str, Document] = {}
        for document in documents:
            first.setdefault(document.id, document)
        return [*first.values()]

    def _without_embedding(self, documents: list[Document]) -> list[Document]:
        """The documents whose image is still to be embedded."""
        return [document for document in documents if document.embedding is None and self._has_image(document)]

    def _has_image(self, document: Document) -> bool:
        return "embedding_source" in document.meta or bool(self._source().mime_type(document))

    def _order(
        self, documents: list[Document], vectors: dict[str, list[float] | None], top_k: int | None
    ) -> list[Document]:
        """The documents to show, in order."""
        k = top_k if top_k is not None else self.top_k
        by_image = self.method == "kmeans"
        rows = [None if by_image and not self._has_image(document) else vectors[document.id] for document in documents]
        scores = [document.score for document in documents if document.score is not None]
        order = diversify(
            rows,
            k if k is not None else len(documents) or 1,
            clusters=self.clusters,
            relevance=scores if len(scores) == len(documents) else None,
            seed=self.seed,
            method=self.method,
            lambda_mult=self.lambda_mult,
        )
        return [documents[place] for place in order]


def vectors_by_id(documents: list[Document]) -> dict[str, list[float] | None]:
    """The embedding of each document; of several with one id that of the last."""
    return {document.id: document.embedding for document in documents}
