"""JinaClipDiversifier: search results in an order that shows more of what there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field

from jinaclip import Diversifier
from langchain_jinaclip.embeddings import JinaClipEmbeddings
from langchain_jinaclip.inputs import picture_of


class JinaClipDiversifier(BaseDocumentCompressor):
    """Puts results first whose pictures look different from one another; see `jinaclip.diversify`.

    Takes the documents in order of relevance, 50 of them as a rule. A document without a picture, or with one that
    cannot be read or that `image_policy` does not allow, keeps its place. None is changed, and none dropped but by
    `top_n`.

    Args:
        embeddings: embeds the pictures of documents that bring no vector.
        top_n: how many to return; None for all.
        clusters: how many kinds of pictures to tell apart; only for "kmeans".
        method: "kmeans" (needs the extra `rerank`) or "mmr" (maximal marginal relevance).
        lambda_mult: share of relevance, 0 to 1; only for "mmr".
        seed: for the starting points of k-means.
        image_key: the metadata entry that holds the image reference of a document, a path or a URL.
        vector_key: the metadata entry that holds the vector of a document, made by the same model; None where stores
            keep vectors to themselves. Saves embedding the picture. "mmr" counts vectors of documents without a
            picture too.

    Raises:
        ValidationError: an option is of the wrong type, or unknown.
        ConfigError: an option is out of range.
        MissingDependencyError: "kmeans" without scikit-learn.
    """

    model_config = ConfigDict(extra="forbid")

    embeddings: JinaClipEmbeddings
    top_n: int | None = Field(default=None, ge=1)
    clusters: int = Diversifier.clusters
    method: Literal["kmeans", "mmr"] = Diversifier.method
    lambda_mult: float = Diversifier.lambda_mult
    seed: int = Diversifier.seed
    image_key: str = "image"
    vector_key: str | None = None

    def model_post_init(self, context: Any) -> None:
        """Looks at the options."""
        self._diversifier()

    def _diversifier(self) -> Diversifier:
        return Diversifier(self.top_n, self.clusters, self.method, self.lambda_mult, self.seed)

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> list[Document]:
        """The documents in their new order; no documents give [], no vectors and no request.

        Args:
            documents: results, best first.
            query: not looked at; the order says what is relevant.
            callbacks: not called.

        Raises:
            InputError: vectors under `vector_key` are none, or not all of one width.
            JinaClipError: the backend failed.
        """
        return [documents[place] for place in self._diversifier().order(self.embeddings.clip, *self._held(documents))]

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Any = None
    ) -> list[Document]:
        """`compress_documents` without blocking the event loop."""
        order = await self._diversifier().aorder(self.embeddings.clip, *self._held(documents))
        return [documents[place] for place in order]

    def _held(self, documents: Sequence[Document]) -> tuple[list[Any], list[Any]]:
        """Vector and picture of each document, None where it has none."""
        vectors = [document.metadata.get(self.vector_key) for document in documents]
        return vectors, [picture_of(document, self.image_key) for document in documents]
