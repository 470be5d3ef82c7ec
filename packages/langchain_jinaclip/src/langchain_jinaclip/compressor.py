"""JinaClipDiversifier: search results in an order that shows more of what there is."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

from langchain_core.documents import BaseDocumentCompressor, Document
from pydantic import ConfigDict, Field

from jinaclip import InputError
from jinaclip.hosts import ImageLike, describe_fields
from jinaclip.retrieval import Diversifier
from langchain_jinaclip.embeddings import JinaClipEmbeddings
from langchain_jinaclip.inputs import image_of

logger = logging.getLogger(__name__)


class JinaClipDiversifier(BaseDocumentCompressor):
    """Puts results first whose images look different from one another; see `jinaclip.retrieval.diversify`.

    Takes the documents in order of relevance, 50 of them as a rule. A document without an image, or with one that
    cannot be read or that `image_policy` does not allow, keeps its place. No document is changed, and only `top_n`
    drops any.

    Args:
        embeddings: embeds the images of documents that bring no vector.
        top_n: how many to return; None for all.
        clusters: how many kinds of images to tell apart; only for "kmeans".
        method: "kmeans" (needs the extra `rerank`) or "mmr" (maximal marginal relevance).
        lambda_mult: share of relevance, 0 to 1; only for "mmr".
        seed: for the starting points of k-means.
        image_key: the metadata entry that holds the image reference of a document, a path or a URL.
        vector_key: the metadata entry that holds the vector of a document, made by the same model; None where stores
            keep vectors to themselves. Saves embedding the image. "mmr" counts vectors of documents without an image
            too.

    Raises:
        ValidationError: an option is of the wrong type, or unknown.
        ConfigError: an option is out of range.
        MissingDependencyError: "kmeans" without scikit-learn.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=describe_fields)

    embeddings: JinaClipEmbeddings
    top_n: int | None = Field(default=None, ge=1)
    clusters: int = Diversifier.clusters
    method: Literal["kmeans", "mmr"] = Diversifier.method
    lambda_mult: float = Diversifier.lambda_mult
    seed: int = Diversifier.seed
    image_key: str = "image"
    vector_key: str | None = None

    def model_post_init(self, context: Any) -> None:
        """Checks the options."""
        self._diversifier()

    def _diversifier(self) -> Diversifier:
        return Diversifier(self.top_n, self.clusters, self.method, self.lambda_mult, self.seed)

    def compress_documents(self, documents: Sequence[Document], query: str, callbacks: Any = None) -> list[Document]:
        """The documents in their new order; no documents give [], no vectors and no request.

        Args:
            documents: results, best first.
            query: not used; the order says what is relevant.
            callbacks: not called.

        Raises:
            InputError: what stands under `vector_key` is no vector, or the vectors are not all of one width.
            JinaClipError: the backend failed.
        """
        vectors, images = self._vectors(documents), self._images(documents)
        order = self._diversifier().order(self.embeddings.clip, vectors, images)
        return [documents[place] for place in order]

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Any = None
    ) -> list[Document]:
        """`compress_documents` without blocking the event loop."""
        vectors, images = self._vectors(documents), self._images(documents)
        order = await self._diversifier().aorder(self.embeddings.clip, vectors, images)
        return [documents[place] for place in order]

    def _vectors(self, documents: Sequence[Document]) -> list[Any]:
        """The vector of each document, None where it brings none."""
        return [document.metadata.get(self.vector_key) for document in documents]

    def _images(self, documents: Sequence[Document]) -> list[ImageLike | None]:
        """The image of each document, None where it has none that could be opened."""
        images: list[ImageLike | None] = []
        for place, document in enumerate(documents):
            try:
                images.append(image_of(document, self.image_key))
            except InputError as error:
                logger.warning("result %d counts as one without an image: %s", place, error)
                images.append(None)
        return images
