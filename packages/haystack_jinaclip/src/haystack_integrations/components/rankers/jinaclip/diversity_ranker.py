"""Search results in an order that shows different pictures first."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Literal

from haystack import Document, component

from haystack_integrations.components.embedders.jinaclip.embedders import FileOptions
from jinaclip import diversify


@component
@dataclass(eq=False, repr=False, kw_only=True)
class JinaClipDiversityRanker(FileOptions):
    """Puts search results in an order that shows different pictures first; see `jinaclip.diversify`.

    It takes the embeddings that the documents carry, which retrievers hand over with `return_embedding=True`; documents
    without are embedded by their picture, as `JinaClipDocumentImageEmbedder` would, and only then is a key, or are the
    weights, needed. What has no picture keeps its place; so does, by default, a document whose picture cannot be
    embedded.

    Args:
        top_k: how many documents to give; None gives all.
        clusters: how many kinds of pictures to tell apart; only for "kmeans".
        method: "kmeans", over documents with a picture (needs the extra `rerank`), or "mmr", over all with embeddings.
        lambda_mult: share of relevance from 0 to 1; only for "mmr".
        seed: for the starting points of k-means.

    Raises:
        ConfigError: an option is out of range (a ValueError).
        MissingDependencyError: "kmeans" without scikit-learn (an ImportError).
    """

    top_k: int | None = None
    clusters: int = 5
    method: Literal["kmeans", "mmr"] = "kmeans"
    lambda_mult: float = 0.5
    seed: int = 0
    progress_bar: bool = False
    raise_on_failure: bool = False

    def __post_init__(self) -> None:
        FileOptions.__post_init__(self)
        self._order([], [], None)  # refuses wrong options

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
        results, bare = self._results(documents, top_k)
        return self._order(results, FileOptions.run(self, bare)["documents"], top_k)

    @component.output_types(documents=list[Document])
    async def run_async(self, documents: list[Document], top_k: int | None = None) -> dict[str, Any]:
        """`run` without blocking the event loop."""
        results, bare = self._results(documents, top_k)
        embedded = (await FileOptions.run_async(self, bare))["documents"]
        return await asyncio.to_thread(self._order, results, embedded, top_k)

    def _results(self, documents: list[Document], top_k: int | None) -> tuple[list[Document], list[Document]]:
        """The different documents, and those of them that have a picture and no embedding."""
        self.check(documents)
        self._order([], [], top_k)  # refuses a wrong one before anything is paid for
        seen: dict[str, Document] = {}
        results = [seen.setdefault(each.id, each) for each in documents if each.id not in seen]
        return results, [each for each in results if each.embedding is None and self._pictured(each)]

    def _pictured(self, document: Document) -> bool:
        return "embedding_source" in document.meta or bool(self.picture_type(document))

    def _order(self, results: list[Document], embedded: list[Document], top_k: int | None) -> dict[str, Any]:
        k = next((each for each in (top_k, self.top_k) if each is not None), len(results) or 1)
        vectors = {document.id: document.embedding for document in [*results, *embedded]}
        rows = [vectors[each.id] if self.method == "mmr" or self._pictured(each) else None for each in results]
        scores = [document.score for document in results if document.score is not None]
        options = {name: getattr(self, name) for name in ("clusters", "method", "lambda_mult", "seed")}
        order = diversify(rows, k, relevance=scores if len(scores) == len(rows) else None, **options)
        return {"documents": [results[place] for place in order]}
