"""JinaClipRetriever: text, image, or both into any vector store."""

from __future__ import annotations

from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field, model_validator

from jinaclip import ConfigError, Image, fuse
from jinaclip.hosts import (
    Steps,
    arun_steps,
    check_weight,
    is_whole,
    run_in_thread,
    run_steps,
    take,
    wait_for,
    without_arguments,
)
from langchain_jinaclip.embeddings import JinaClipEmbeddings
from langchain_jinaclip.inputs import Query, check_image, check_text, is_blank, is_image_data, split_query
from langchain_jinaclip.tool import JinaClipTool


class JinaClipRetriever(BaseRetriever):
    """Searches a vector store that was filled with vectors of `JinaClipEmbeddings`.

    A query is a text; an image: `{"image": ...}` with anything that `JinaClipEmbeddings` takes, an image content block,
    or a bare URL; both: `{"text": ..., "image": ...}`; or a message that holds them. A bare str is a text, unless the
    whole of it is an http(s) URL or the data: URI of an image. `invoke` takes `k`, `weight` and `filter` for one call.

    Args:
        vectorstore: any that can search by vector.
        embeddings: by default those of the store.
        k: most documents to return.
        weight: share of the text in a query of both, 0 to 1.
        image_key: the metadata entry that holds the image reference of a document, a path or a URL.
        search_kwargs: for the store's `similarity_search_by_vector`, such as `filter`.

    Texts are embedded by the store's `CacheBackedEmbeddings`, where it holds one around `embeddings`.

    Raises:
        ValidationError: the store's embeddings are not ours, or an option is wrong.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    vectorstore: VectorStore
    embeddings: JinaClipEmbeddings = None  # type: ignore[assignment]  # filled in below
    k: int = Field(default=4, ge=1)
    weight: float = Field(default=0.5, ge=0, le=1)
    image_key: str = "image"
    search_kwargs: dict[str, Any] = Field(default_factory=dict)

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
        return self

    @without_arguments
    def invoke(self, input: Query, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """The documents nearest to a text, an image or both.

        Raises:
            InputError: the query is unusable, an image stands in its text, or `image_policy` does not allow its image.
            ConfigError: `k` or `weight` is out of range.
            JinaClipError: the backend failed.
        """
        label, parts = self._read_query(input)
        return super().invoke(label, config, **parts, **kwargs)

    @without_arguments
    async def ainvoke(
        self,
        input: Query,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """`invoke` without blocking the event loop."""
        taken = (
            {name: take(value, self.embeddings.clip) for name, value in input.items()}
            if isinstance(input, dict)
            else take(input, self.embeddings.clip)
        )
        label, parts = await run_in_thread(self._read_query, taken)
        return await super().ainvoke(label, config, **parts, **kwargs)

    def _read_query(self, query: Query) -> tuple[str, dict[str, Any]]:
        """The query as tracers may see it, without bytes of images; and its text and its image."""
        text, reference = split_query(query)
        text = None if text is None else check_text(self.embeddings.clip, text)
        image = None if reference is None else check_image(self.embeddings.clip, reference)
        label = text or ""
        if image is not None:
            label = f"{label} [image: {image}]".lstrip()
        return label, {"text": text, "image": image}

    def _get_relevant_documents(self, query: str, *, run_manager: Any, **options: Any) -> list[Document]:
        return run_steps(self._search(**options))

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any, **options: Any) -> list[Document]:
        return await arun_steps(self._search(**options))

    def _search(
        self,
        *,
        text: str | None = None,
        image: Image | None = None,
        k: int | None = None,
        weight: float | None = None,
        filter: Any = None,  # noqa: A002
    ) -> Steps[list[Document]]:
        """The documents nearest to a text, an image or both, of which at least one is there."""
        share, options = self._search_options(k=k, weight=weight, filter=filter)
        clip, texts, store = self.embeddings.clip, self._text_embeddings, self.vectorstore
        of_image = of_text = None
        if image is not None:  # first: it may be broken
            of_image = (yield from wait_for(clip.embed_image, clip.aembed_image, image)).tolist()
        if text is not None:
            of_text = yield from wait_for(texts.embed_query, texts.aembed_query, text)
        found = yield from wait_for(
            store.similarity_search_by_vector,
            store.asimilarity_search_by_vector,
            _fuse(of_text, of_image, share),
            **options,
        )
        return [self._without_image_data(document) for document in found]

    @property
    def _text_embeddings(self) -> Embeddings:
        """What embeds texts: the store's cache, where it is one around our embeddings."""
        own = self.vectorstore.embeddings
        cached = own is not None and getattr(own, "underlying_embeddings", None) is self.embeddings
        return own if own is not None and cached else self.embeddings

    def _search_options(self, **call: Any) -> tuple[float, dict[str, Any]]:
        """The weight, and options for the store, before anything is paid for; those of the call go first."""
        options = {"k": self.k, "weight": self.weight, **self.search_kwargs}
        options |= {name: value for name, value in call.items() if value is not None}
        if not is_whole(options["k"]) or options["k"] < 1:
            raise ConfigError(f"k={options['k']!r} must be a whole number of at least 1")
        options["k"] = int(options["k"])
        return check_weight(options.pop("weight")), options

    def _without_image_data(self, document: Document) -> Document:
        """Chroma's `add_images` makes the base64 of the file the content; where a reference is known, that will do."""
        known = is_image_data(document.page_content) and not is_blank(document.metadata.get(self.image_key))
        return document.model_copy(update={"page_content": ""}) if known else document

    def as_tool(self, **options: Any) -> JinaClipTool:  # type: ignore[override]
        """The search as a tool for agents; takes the options of `JinaClipTool`, `name` and `description` among them."""
        return JinaClipTool(retriever=self, **options)


def _fuse(text: list[float] | None, image: list[float] | None, weight: float) -> list[float]:
    """The vector of a query, of which at least one half is there."""
    if text is not None and image is not None:
        return fuse(text, image, weight).tolist()
    return text or image or []
