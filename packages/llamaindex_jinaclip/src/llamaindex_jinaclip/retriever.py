"""JinaClipRetriever: a search by text, by image, or by both."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from llama_index.core import VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.embeddings.base import Embedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent
from llama_index.core.retrievers import VectorIndexRetriever
from llama_index.core.schema import BaseNode, MetadataMode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import BasePydanticVectorStore
from llama_index_instrumentation import get_dispatcher

from jinaclip import ConfigError, InputError, JinaClip, Pair
from jinaclip.hosts import (
    Closing,
    Steps,
    arun_steps,
    check_weight,
    is_blank,
    is_image_like,
    refuse_unknown,
    run_steps,
    wait_for,
)
from llamaindex_jinaclip.calls import embed_entries, embed_query
from llamaindex_jinaclip.embedding import JinaClipEmbedding
from llamaindex_jinaclip.entries import Entry
from llamaindex_jinaclip.images import HOLDERS, AnyImage, image_place, image_source, open_image

dispatcher = get_dispatcher(__name__)
Query: TypeAlias = str | QueryBundle | AnyImage
"""What can be searched by."""
OPTIONS = (*[*inspect.signature(VectorIndexRetriever).parameters][1:-1], "vector_store_kwargs")
"""What LlamaIndex's retriever takes beside the index; the last one it reads out of its `**kwargs`."""


class ImageQuery(QueryBundle):
    """A query with an image that is no path. The image is no field, so that no event, dump or `repr` shows it.

    Args:
        text: may be empty.
        image: what holds an image in LlamaIndex, or an address.
    """

    def __init__(self, text: str, image: Any) -> None:
        super().__init__(text)
        self.image = image


class JinaClipRetriever(Closing, BaseRetriever):
    """Finds nodes by a text, an image, or both fused into one vector, in one vector store for texts and images.

    A query is a text, a str; a `QueryBundle` with text, `image_path` or both, or with a vector; or an image: a `Path`,
    bytes, a PIL image, an array, an `ImageBlock`, a `MediaResource`, or a node or document, whose text is searched by
    too. `image_path` is a path or an address, under the image policy of `embed_model`.

    Args:
        index: a `VectorStoreIndex`, or a vector store that keeps nodes whole, as most do.
        embed_model: of the vectors in there.
        fusion_weight: share of the text in a query of both, 0 to 1.
        **options: what `VectorIndexRetriever` takes: `similarity_top_k`, `filters`, `vector_store_query_mode`,
            `vector_store_kwargs` and the like.

    Raises:
        ConfigError: an option is wrong or unknown.
    """

    def __init__(
        self,
        index: VectorStoreIndex | BasePydanticVectorStore,
        embed_model: JinaClipEmbedding,
        *,
        fusion_weight: float = 0.5,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
        **options: Any,
    ) -> None:
        refuse_unknown(options, OPTIONS)
        if not isinstance(embed_model, JinaClipEmbedding):
            raise ConfigError(f"embed_model must be a JinaClipEmbedding, not {type(embed_model).__name__}")
        self.embed_model = embed_model
        self.fusion_weight = check_weight(fusion_weight)
        self._search = VectorIndexRetriever(open_index(index, embed_model), embed_model=embed_model, **options)
        super().__init__(callback_manager=callback_manager, verbose=verbose)

    @property
    def clip(self) -> JinaClip:
        """The core object of `embed_model`."""
        return self.embed_model.clip

    def retrieve(self, str_or_query_bundle: Query) -> list[NodeWithScore]:
        """The nodes that are found, best first.

        Raises:
            InputError: there is nothing to search by, or it cannot be embedded.
            JinaClipError: the backend failed.
        """
        query = read_query(str_or_query_bundle)
        with end_if_it_fails(query):
            return super().retrieve(query)

    async def aretrieve(self, str_or_query_bundle: Query) -> list[NodeWithScore]:
        """`retrieve` without blocking the event loop."""
        query = read_query(str_or_query_bundle)
        with end_if_it_fails(query):
            return await super().aretrieve(query)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return run_steps(self._find(query_bundle))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await arun_steps(self._find(query_bundle))

    def _find(self, query: QueryBundle) -> Steps[list[NodeWithScore]]:
        vector = query.embedding
        if vector is None:
            vector = yield from self._embed(query)
        bundle = QueryBundle(query.query_str, embedding=vector)
        return (yield from wait_for(self._search.retrieve, self._search.aretrieve, bundle))

    def _embed(self, query: QueryBundle) -> Steps[Embedding]:
        """The vector of a query: of its texts, of its image, or of both."""
        model, image = self.embed_model, query.image if isinstance(query, ImageQuery) else query.image_path
        texts = [text for text in query.embedding_strs if not is_blank(text)]
        if image is None and not texts:
            raise InputError("there is nothing to search by: a query needs a text, an image or a vector")
        if image is None:
            mean = model.get_agg_embedding_from_queries, model.aget_agg_embedding_from_queries
            return (yield from wait_for(*mean, texts))
        entry = search_entry("\n".join(texts), image)
        read = partial(read_search, text="\n".join(texts), weight=self.fusion_weight, clip=self.clip)
        embed = partial(embed_query, self.clip, convert=read, kind="pair" if texts else "image")
        return (yield from embed_entries(embed, model, self.clip, [entry], {}))[0]


def open_index(index: Any, embed_model: JinaClipEmbedding) -> VectorStoreIndex:
    """The index to search: what was given, or one over a vector store.

    Raises:
        ConfigError: it cannot be searched by one vector, or finds ids alone.
    """
    if isinstance(index, MultiModalVectorStoreIndex):
        raise ConfigError(
            "a MultiModalVectorStoreIndex has two stores; pass a VectorStoreIndex over one for both kinds"
        )
    if isinstance(index, VectorStoreIndex):
        return index
    if not isinstance(index, BasePydanticVectorStore):
        raise ConfigError(f"index must be a VectorStoreIndex or a vector store, not {type(index).__name__}")
    if not index.stores_text:
        raise ConfigError(f"{type(index).__name__} keeps vectors alone; pass the VectorStoreIndex, which has the nodes")
    told = embed_model.callback_manager  # which an index replaces by its own
    return VectorStoreIndex.from_vector_store(index, embed_model=embed_model, callback_manager=told)


def read_query(query: Query) -> QueryBundle:
    """A query in any form as a bundle that shows no content of an image. Raises InputError if it is no query."""
    if isinstance(query, BaseNode | NodeWithScore):
        return ImageQuery(query.get_content(MetadataMode.NONE), query) if has_image(query) else text_query(query)
    if isinstance(query, (*HOLDERS, np.ndarray)) or is_image_like(query):
        return ImageQuery("", query)
    if isinstance(query, str):
        return QueryBundle(query)
    if not isinstance(query, QueryBundle):
        raise InputError(
            f"a query is a str, an image, or QueryBundle(text, image_path=...) for both, not {type(query).__name__}"
        )
    return query if query.image_path is None else hide_image(query)


def hide_image(query: QueryBundle) -> QueryBundle:
    """The same query with its image out of sight, if it is no path: a `data:` URI, or an address with a signature."""
    if image_place(query.image_path) == query.image_path:
        return query
    hidden = ImageQuery(query.query_str, query.image_path)
    hidden.custom_embedding_strs, hidden.embedding = query.custom_embedding_strs, query.embedding
    return hidden


def has_image(node: BaseNode | NodeWithScore) -> bool:
    """Whether a node is made for an image."""
    return image_source(node) is not None


def text_query(node: BaseNode | NodeWithScore) -> QueryBundle:
    """The text of a node that has no image, as a query."""
    return QueryBundle(node.get_content(MetadataMode.NONE))


def search_entry(text: str, image: Any) -> Entry:
    """An entry for a query with an image."""
    chunk = "\n".join(part for part in (text, image_place(image)) if part)
    return Entry(image, chunk, inputs=1 + bool(text), task="query")


def read_search(image: Any, text: str, weight: float, clip: JinaClip) -> Any:
    """What `JinaClip.embed` takes for a query with an image."""
    opened = open_image(image, clip)
    return Pair(text, opened, weight) if text else opened


@contextmanager
def end_if_it_fails(query: QueryBundle) -> Iterator[None]:
    """Gives the dispatcher an end of a search that fails; LlamaIndex itself leaves its start alone."""
    try:
        yield
    except BaseException:
        dispatcher.event(RetrievalEndEvent(str_or_query_bundle=query, nodes=[]))
        raise
