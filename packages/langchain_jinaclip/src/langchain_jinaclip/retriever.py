"""JinaClipRetriever: text, image, or both into any vector store."""

from __future__ import annotations

import difflib
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever, LangSmithRetrieverParams
from langchain_core.runnables import RunnableConfig
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field, model_validator

from jinaclip import ConfigError, JinaClip, fuse
from jinaclip.hosts import (
    Closing,
    Steps,
    arun_steps,
    check_weight,
    describe_fields,
    is_whole,
    run_steps,
    wait_for,
    wait_for_thread,
    without_arguments,
)
from langchain_jinaclip.embeddings import JinaClipEmbeddings
from langchain_jinaclip.inputs import Query, QueryParts, aread_query, make_readable, read_query
from langchain_jinaclip.searches import THRESHOLD, ScoredDocuments, SearchType, check_search, search
from langchain_jinaclip.tool import JinaClipTool


class JinaClipRetriever(Closing, BaseRetriever):
    """Searches a vector store that was filled with vectors of `JinaClipEmbeddings`.

    A query is a text; an image: `{"image": ...}` with anything that `JinaClipEmbeddings` takes, an image content block,
    or a bare URL; both: `{"text": ..., "image": ...}`; or a prompt, a message or a conversation that holds them: then
    what the user said last. Blocks that are neither text nor image are passed over. A bare str is a text, unless the
    whole of it is an http(s) URL or the data: URI of an image. `invoke` takes `k`, `weight`, and options of the store,
    such as `filter`, for one call.

    Of a document without content, or with an image file in base64 as content, the reference of the image becomes the
    content, so that results differ in it.

    Args:
        vectorstore: any that can search by vector.
        embeddings: by default those of the store.
        k: most documents to return.
        weight: share of the text in a query of both, 0 to 1; at 0 the text is not embedded, at 1 the image is not.
        image_key: the metadata entry that holds the image reference of a document, a path or a URL.
        search_type: "similarity"; "mmr" (maximal marginal relevance), with `fetch_k` and `lambda_mult` among the
            options of the store; or "similarity_score_threshold", with `score_threshold` among them.
        search_kwargs: options of the store for every search, such as `filter`.
        score_key: the metadata entry that is to get the score of each result as the store gives it, a similarity or a
            distance; with "similarity_score_threshold" it is a relevance from 0 to 1. None for no scores.

    Texts are embedded by the store's `CacheBackedEmbeddings`, where it holds one around `embeddings`.

    Raises:
        ValidationError: the store's embeddings are not ours, it cannot do this kind of search, or an option is wrong.
    """

    # hidden, as what is passed here by mistake may be a key
    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True, json_schema_extra=describe_fields
    )

    vectorstore: VectorStore
    embeddings: JinaClipEmbeddings = None  # type: ignore[assignment]  # filled in below
    k: int = Field(default=4, ge=1)
    weight: float = Field(default=0.5, ge=0, le=1)
    image_key: str = "image"
    search_type: SearchType = "similarity"
    search_kwargs: dict[str, Any] = Field(default_factory=dict)
    score_key: str | None = None

    @model_validator(mode="after")
    def _take_embeddings_of_the_store(self) -> Self:
        if self.embeddings is None:
            # a CacheBackedEmbeddings has underlying ones
            found = getattr(self.vectorstore.embeddings, "underlying_embeddings", self.vectorstore.embeddings)
            if not isinstance(found, JinaClipEmbeddings):
                raise ValueError(
                    f"the store's embeddings are {type(found).__name__}, not JinaClipEmbeddings; build the store with "
                    "JinaClipEmbeddings, or pass those that its vectors were made with as embeddings="
                )
            self.embeddings = found
        check_search(self.vectorstore, self.search_type, scored=self.score_key is not None)
        return self

    @property
    def clip(self) -> JinaClip:
        """What embeds the queries."""
        return self.embeddings.clip

    @without_arguments
    def invoke(self, input: Query, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """The documents nearest to a text, an image or both.

        Raises:
            InputError: the query is unusable, an image stands in its text, or `image_policy` does not allow its image.
            ConfigError: `k` or `weight` is out of range, or `score_threshold` is missing.
            JinaClipError: the backend failed.
        """
        parts = read_query(self.clip, input)
        return super().invoke(parts.label, config, query_parts=parts, **kwargs)

    @without_arguments
    async def ainvoke(
        self,
        input: Query,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """`invoke` without blocking the event loop."""
        parts = await aread_query(self.clip, input)
        return await super().ainvoke(parts.label, config, query_parts=parts, **kwargs)

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        """What traces say of the search, as LangChain's own retriever says it."""
        return LangSmithRetrieverParams(
            **super()._get_ls_params(**kwargs),
            ls_vector_store_provider=type(self.vectorstore).__name__,
            ls_embedding_provider=type(self.embeddings).__name__,
            ls_embedding_model=self.embeddings.model,
        )

    def _get_relevant_documents(
        self, query: str, *, run_manager: Any, query_parts: QueryParts | None = None, **options: Any
    ) -> list[Document]:
        return run_steps(self._search(query_parts or read_query(self.clip, query), options))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: Any, query_parts: QueryParts | None = None, **options: Any
    ) -> list[Document]:
        return await arun_steps(self._search(query_parts or read_query(self.clip, query), options))

    def _search(self, parts: QueryParts, call: dict[str, Any]) -> Steps[list[Document]]:
        """The documents nearest to a query, by the options of this call."""
        if parts.refusal is not None:
            raise parts.refusal
        weight, options = self._search_options(call)
        vector = yield from self._embed(parts, weight)
        text, scored = parts.text or parts.label, self.score_key is not None
        found = yield from search(self.vectorstore, self.search_type, vector, text, options, scored=scored)
        return (yield from wait_for_thread(self._finish, found))

    def _embed(self, parts: QueryParts, weight: float) -> Steps[list[float]]:
        """The vector of a query. Its image goes first: it may be broken. A half without weight is not embedded."""
        of_image = of_text = None
        if parts.image is not None and (parts.text is None or weight < 1):
            of_image = (yield from wait_for(self.clip.embed_image, self.clip.aembed_image, parts.image)).tolist()
        if parts.text is not None and (parts.image is None or weight > 0):
            texts = self._text_embeddings
            of_text = yield from wait_for(texts.embed_query, texts.aembed_query, parts.text)
        if of_image is not None and of_text is not None:
            return fuse(of_text, of_image, weight).tolist()
        return of_image or of_text or []

    @property
    def _text_embeddings(self) -> Embeddings:
        """What embeds texts: the store's cache, where it is one around our embeddings."""
        own = self.vectorstore.embeddings
        cached = own is not None and getattr(own, "underlying_embeddings", None) is self.embeddings
        return own if own is not None and cached else self.embeddings

    def _search_options(self, call: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        """The weight, and options for the store, before anything is paid for; those of the call go first."""
        options = {"k": self.k, "weight": self.weight, **self.search_kwargs}
        options |= {name: value for name, value in call.items() if value is not None}
        for name in options.keys() - {"weight"}:  # some stores would take it and say nothing
            if difflib.get_close_matches(name, ["weight"], cutoff=0.8):
                raise ConfigError(f"there is no option {name!r}; did you mean 'weight'?")
        if not is_whole(options["k"]) or options["k"] < 1:
            raise ConfigError(f"k={options['k']!r} must be a whole number of at least 1")
        if self.search_type == THRESHOLD and "score_threshold" not in options:
            raise ConfigError(f"search_type={THRESHOLD!r} needs score_threshold, in search_kwargs or for the call")
        options["k"] = int(options["k"])
        return check_weight(options.pop("weight")), options

    def _finish(self, found: ScoredDocuments) -> list[Document]:
        """The documents as callers get them; those of the store stay as they are."""
        documents = [make_readable(document, self.image_key) for document, _ in found]
        if self.score_key is None:
            return documents
        return [
            document.model_copy(update={"metadata": {**document.metadata, self.score_key: float(score or 0)}})
            for document, (_, score) in zip(documents, found, strict=True)
        ]

    def as_tool(self, **options: Any) -> JinaClipTool:  # type: ignore[override]
        """The search as a tool for agents; takes the options of `JinaClipTool`, `name` and `description` among them."""
        return JinaClipTool(retriever=self, **options)
