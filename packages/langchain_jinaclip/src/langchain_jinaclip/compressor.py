"""JinaClipDiversifier: search results in an order that shows more of what there is."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field, PrivateAttr, WithJsonSchema

from jinaclip import InputError, JinaClip
from jinaclip.hosts import Closing, ImageLike, Steps, arun_steps, describe_fields, run_steps, wait_for, wait_for_thread
from jinaclip.retrieval import Diversifier
from langchain_jinaclip.documents import EMBEDDED_AS
from langchain_jinaclip.embeddings import JinaClipEmbeddings
from langchain_jinaclip.inputs import image_of
from langchain_jinaclip.stores import find_vectors

logger = logging.getLogger(__name__)


class JinaClipDiversifier(Closing, BaseDocumentCompressor):
    """Puts results first whose images look different from one another; see `jinaclip.retrieval.diversify`.

    Takes the documents in order of relevance, 50 of them as a rule. A document without an image, or with one that
    cannot be read or that `image_policy` does not allow, keeps its place, as does one that was embedded as a text. No
    document is changed, and only `top_n` drops any.

    Vectors are those that the documents bring under `vector_key`, else those of `vectorstore`. Where there are none the
    images are embedded again in every search; a warning in the log says once what that costs.

    Args:
        embeddings: embeds the images of documents that bring no vector.
        top_n: how many to return; None for all.
        clusters: how many kinds of images to tell apart; only for "kmeans".
        method: "kmeans" (needs the extra `rerank`) or "mmr" (maximal marginal relevance).
        lambda_mult: share of relevance, 0 to 1; only for "mmr".
        seed: for the starting points of k-means.
        image_key: the metadata entry that holds the image reference of a document, a path or a URL.
        vector_key: the metadata entry that holds the vector of a document, made by the same model. "mmr" counts vectors
            of documents without an image too.
        vectorstore: where the documents were found: an InMemoryVectorStore, QdrantVectorStore, Chroma, LanceDB or
            FAISS, whose vectors are read by the documents' ids.

    Raises:
        ValidationError: an option is of the wrong type, or unknown.
        ConfigError: an option is out of range.
        MissingDependencyError: "kmeans" without scikit-learn.
    """

    # hidden, as what is passed here by mistake may be a key
    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True, json_schema_extra=describe_fields
    )

    embeddings: JinaClipEmbeddings
    top_n: int | None = Field(default=None, ge=1)
    clusters: int = Diversifier.clusters
    method: Literal["kmeans", "mmr"] = Diversifier.method
    lambda_mult: float = Diversifier.lambda_mult
    seed: int = Diversifier.seed
    image_key: str = "image"
    vector_key: str | None = None
    vectorstore: Annotated[VectorStore | None, WithJsonSchema({"type": "null"})] = Field(default=None, exclude=True)

    _has_warned: bool = PrivateAttr(default=False)

    def model_post_init(self, context: Any) -> None:
        """Checks the options."""
        self._diversifier()

    def _diversifier(self) -> Diversifier:
        return Diversifier(self.top_n, self.clusters, self.method, self.lambda_mult, self.seed)

    @property
    def clip(self) -> JinaClip:
        """What embeds images."""
        return self.embeddings.clip

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
        return run_steps(self._compress(documents))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Any = None
    ) -> list[Document]:
        """`compress_documents` without blocking the event loop."""
        return await arun_steps(self._compress(documents))

    def _compress(self, documents: Sequence[Document]) -> Steps[list[Document]]:
        vectors, images = yield from wait_for_thread(self._read, documents)
        diversifier = self._diversifier()
        order = yield from wait_for(diversifier.order, diversifier.aorder, self.clip, vectors, images)
        return [documents[place] for place in order]

    def _read(self, documents: Sequence[Document]) -> tuple[list[Any], list[ImageLike | None]]:
        """The vector and the image of each document, None where it has none."""
        images = [self._image(place, document) for place, document in enumerate(documents)]
        vectors = [document.metadata.get(self.vector_key) for document in documents]
        if self.vectorstore is not None and any(vector is None for vector in vectors):
            stored = find_vectors(self.vectorstore, documents)
            vectors = [own if own is not None else found for own, found in zip(vectors, stored, strict=True)]
        self._warn_once([image for image, vector in zip(images, vectors, strict=True) if vector is None])
        return vectors, images

    def _image(self, place: int, document: Document) -> ImageLike | None:
        """The image that the vector of a document is of, None where there is none that could be opened."""
        if document.metadata.get(EMBEDDED_AS) == "text":
            return None
        try:
            return image_of(document, self.image_key)
        except InputError as error:
            logger.warning("result %d counts as one without an image: %s", place, error)
            return None

    def _warn_once(self, missing: Sequence[ImageLike | None]) -> None:
        """Says what it costs that these images have no vector."""
        images = [image for image in missing if image is not None]
        if not images or self._has_warned:
            return
        self._has_warned = True
        count, tokens = self._price(images)
        if count:
            logger.warning(
                "the results come without vectors, so each search embeds their images again: %d images here, %s; pass "
                "the store as vectorstore=, or put vectors into the metadata and name the entry as vector_key=",
                count,
                f"about {tokens} tokens" if self.embeddings.backend == "api" else "computed on this machine",
            )

    def _price(self, images: Sequence[ImageLike]) -> tuple[int, int]:
        """How many of these images will be embedded, without those in the cache, and tokens for them."""
        count = tokens = 0
        for image in images:
            with contextlib.suppress(InputError):  # one that cannot be embedded costs nothing
                estimate = self.clip.estimate([self.clip.resolve_image(image)])
                count, tokens = count + estimate.items, tokens + estimate.tokens
        return count, tokens
