"""JinaClipRetriever: text, picture, or both into any vector store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.vectorstores import VectorStore
from pydantic import ConfigDict, Field, model_validator

from jinaclip import fuse
from langchain_jinaclip.embeddings import JinaClipEmbeddings
from langchain_jinaclip.inputs import Query, is_base64_picture

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

    from langchain_jinaclip.tool import JinaClipTool


class JinaClipRetriever(BaseRetriever):
    """Searches a vector store that was filled with vectors of `JinaClipEmbeddings`.

    A query is a text; an image: `{"image": ...}` with anything that `JinaClipEmbeddings` takes, an image content block,
    or a bare URL; both: `{"text": ..., "image": ...}`; or a message that holds them. A bare str is a text, unless the
    whole of it is an http(s) or data: URL. `invoke` takes `k`, `weight` and `filter` for one call.

    Args:
        vectorstore: any that can search by vector.
        embeddings: by default those of the store.
        k: most documents to return.
        weight: share of the text in a query of both, 0 to 1.
        image_key: the metadata entry that holds the image reference of a document, a path or a URL.
        search_kwargs: for the store's `similarity_search_by_vector`, such as `filter`.

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
            found = self.vectorstore.embeddings
            found = getattr(found, "underlying_embeddings", found)  # of a CacheBackedEmbeddings
            if not isinstance(found, JinaClipEmbeddings):
                raise ValueError(
                    f"the store's embeddings are {type(found).__name__}, not JinaClipEmbeddings; build the store with "
                    "JinaClipEmbeddings, or pass those that its vectors were made with as embeddings="
                )
            self.embeddings = found
        return self

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """The documents nearest to a text, an image or both.

        Raises:
            InputError: the query is unusable, or `image_policy` does not allow its image.
            JinaClipError: the backend failed.
        """
        return super().invoke(Query.of(input), config, **kwargs)  # the base class shows its input to tracers

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """`invoke` without blocking the event loop."""
        return await super().ainvoke(await asyncio.to_thread(Query.of, input), config, **kwargs)

    def _get_relevant_documents(self, query: str, *, run_manager: Any, **options: Any) -> list[Document]:
        asked, clip = Query.of(query), self.embeddings.clip
        text = None if asked.text is None else clip.embed_query(asked.text)
        image = None if asked.image is None else clip.embed_image(asked.image)
        found = self.vectorstore.similarity_search_by_vector(**self._search(text, image, **options))
        return [self._without_file(document) for document in found]

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any, **options: Any) -> list[Document]:
        asked, clip = Query.of(query), self.embeddings.clip
        text = None if asked.text is None else await clip.aembed_query(asked.text)
        image = None if asked.image is None else await clip.aembed_image(asked.image)
        found = await self.vectorstore.asimilarity_search_by_vector(**self._search(text, image, **options))
        return [self._without_file(document) for document in found]

    def _search(self, text: Any, image: Any, k: Any = None, weight: Any = None, filter: Any = None) -> dict[str, Any]:  # noqa: A002
        """What to ask the store; options of the call go before those of the object."""
        if text is not None and image is not None:
            text = fuse(text, image, self.weight if weight is None else weight)
        given = {"k": k, "filter": filter}
        chosen = {name: value for name, value in given.items() if value is not None}
        return {"embedding": (image if text is None else text).tolist(), "k": self.k, **self.search_kwargs, **chosen}

    def _without_file(self, document: Document) -> Document:
        """Chroma's `add_images` makes the base64 of the file the content; where a reference is known, that will do."""
        if document.metadata.get(self.image_key) and is_base64_picture(document.page_content):
            return document.model_copy(update={"page_content": ""})
        return document

    def as_tool(self, **options: Any) -> JinaClipTool:  # type: ignore[override]
        """The search as a tool for agents; takes the options of `JinaClipTool`, `name` and `description` among them."""
        from langchain_jinaclip.tool import JinaClipTool

        return JinaClipTool(retriever=self, **options)
