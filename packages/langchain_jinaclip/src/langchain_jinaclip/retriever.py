"""JinaClipRetriever: text, picture, or both into any vector store; and JinaClipTool, the same for a model."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Self

from langchain_core.documents import Document
from langchain_core.messages.content import create_image_block, create_text_block
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import ArgsSchema, BaseTool, ToolException
from langchain_core.vectorstores import VectorStore
from pydantic import BaseModel, ConfigDict, Field, model_validator

from jinaclip import ConfigError, InputError, fuse, without_pictures
from langchain_jinaclip.embeddings import JinaClipEmbeddings
from langchain_jinaclip.inputs import halves, is_blank, is_picture, picture_of

SHOWN = 300
"""Characters of a metadata entry above which it is no fact for a model to read."""


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

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """The documents nearest to a text, an image or both.

        Raises:
            InputError: the query is unusable, a picture stands in its text, or `image_policy` does not allow its image.
            ConfigError: `k` or `weight` is out of range.
            JinaClipError: the backend failed.
        """
        shown, asked = self._asked(input)
        return super().invoke(shown, config, **asked, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002
        """`invoke` without blocking the event loop."""
        shown, asked = await asyncio.to_thread(self._asked, input)
        return await super().ainvoke(shown, config, **asked, **kwargs)

    def _asked(self, query: Any) -> tuple[str, dict[str, Any]]:
        """The query as tracers may see it, without bytes of pictures; and its halves."""
        text, image = halves(query)
        self.embeddings.clip.look_through([] if text is None else [text])  # a trace would show what is no text
        if text and without_pictures(text) != text:
            raise InputError('the text holds a picture in base64; pass it as {"text": ..., "image": ...}')
        image = None if image is None else self.embeddings.clip.accept(image)
        return f"{text or ''} [image: {image}]".lstrip() if image else text, {"text": text, "image": image}

    def _get_relevant_documents(self, query: str, *, run_manager: Any, **asked: Any) -> list[Document]:
        text, image, weight, search = self._checked(**asked)
        look = [self.embeddings.embed_image(image)] if image is not None else []  # first: it may be broken
        words = [self._words.embed_query(text)] if text is not None else []
        found = self.vectorstore.similarity_search_by_vector(_fused(words + look, weight), **search)
        return [self._without_file(document) for document in found]

    async def _aget_relevant_documents(self, query: str, *, run_manager: Any, **asked: Any) -> list[Document]:
        text, image, weight, search = self._checked(**asked)
        look = [await self.embeddings.aembed_image(image)] if image is not None else []
        words = [await self._words.aembed_query(text)] if text is not None else []
        found = await self.vectorstore.asimilarity_search_by_vector(_fused(words + look, weight), **search)
        return [self._without_file(document) for document in found]

    @property
    def _words(self) -> Any:
        """What embeds texts: the store's cache, where it is one around our embeddings."""
        held = self.vectorstore.embeddings
        return held if getattr(held, "underlying_embeddings", None) is self.embeddings else self.embeddings

    def _checked(self, text: Any, image: Any, k: Any = None, weight: Any = None, filter: Any = None) -> tuple[Any, ...]:  # noqa: A002
        """Text, image, weight and options for the store, before anything is paid for; those of the call go first."""
        given = {"k": k, "weight": weight, "filter": filter}
        search = {"k": self.k, "weight": self.weight, **self.search_kwargs}
        search |= {name: value for name, value in given.items() if value is not None}
        if isinstance(search["k"], bool) or not isinstance(search["k"], int) or search["k"] < 1:
            raise ConfigError(f"k={search['k']!r} must be a whole number of at least 1")
        fuse([1.0], [1.0], search["weight"])  # refuses a wrong weight
        return text, image, search.pop("weight"), search

    def _without_file(self, document: Document) -> Document:
        """Chroma's `add_images` makes the base64 of the file the content; where a reference is known, that will do."""
        known = is_picture(document.page_content) and not is_blank(document.metadata.get(self.image_key))
        return document.model_copy(update={"page_content": ""}) if known else document

    def as_tool(self, **options: Any) -> JinaClipTool:  # type: ignore[override]
        """The search as a tool for agents; takes the options of `JinaClipTool`, `name` and `description` among them."""
        return JinaClipTool(retriever=self, **options)


def _fused(vectors: list[Any], weight: float) -> list[float]:
    return vectors[0] if len(vectors) == 1 else fuse(vectors[0], vectors[1], weight).tolist()


class SearchInput(BaseModel):
    """What the model is asked for."""

    text: str | None = Field(default=None, description="what to look for, in words of any language")
    image: str | None = Field(default=None, description="path or https URL of a picture to look for similar ones")


class JinaClipTool(BaseTool):
    """Searches with a text, an image reference or both, and answers with standard text and image blocks.

    Image references come from a model: they are strings, and reach what `image_policy` lets strings reach. One that is
    refused becomes a tool message with the reason, so that the model can do better; so does any unusable query.

    Args:
        retriever: does the search.
        name: as the model sees it.
        description: tell the model what there is to find.
        show_images: whether the answer holds the pictures, or only their references.
    """

    model_config = ConfigDict(extra="forbid")

    name: str = "image_search"
    description: str = "Finds pictures and texts by a text, by a picture, or by both together."
    args_schema: ArgsSchema | None = SearchInput
    handle_tool_error: Any = True
    handle_validation_error: Any = "text and image must be strings; give one of them, or both"
    retriever: JinaClipRetriever
    show_images: bool = True

    def _run(self, text: str | None = None, image: str | None = None) -> list[Any]:
        try:
            return self._told(self.retriever.invoke({"text": text, "image": image}))
        except InputError as error:
            raise ToolException(str(error)) from error

    async def _arun(self, text: str | None = None, image: str | None = None) -> list[Any]:
        try:
            return await asyncio.to_thread(self._told, await self.retriever.ainvoke({"text": text, "image": image}))
        except InputError as error:
            raise ToolException(str(error)) from error

    def _told(self, documents: list[Document]) -> list[Any]:
        blocks = [block for number, found in enumerate(documents, 1) for block in self._blocks(number, found)]
        return blocks or [create_text_block("nothing found")]

    def _blocks(self, number: int, document: Document) -> list[Any]:
        content, reference = document.page_content, picture_of(document, self.retriever.image_key)
        facts = {name: fact for name, fact in document.metadata.items() if name[:1] != "_" and not is_picture(fact)}
        lines = [f"result {number}", "" if is_picture(content) else content]
        lines += [f"{name}: {fact}" for name, fact in facts.items() if len(str(fact)) <= SHOWN]
        try:
            pictures = [self._picture(reference)] if reference is not None and self.show_images else []
        except InputError as error:
            pictures, lines = [], [*lines, f"the picture cannot be shown: {error}"]
        return [create_text_block(without_pictures("\n".join(filter(None, lines)))), *pictures]

    def _picture(self, reference: Any) -> Any:
        if isinstance(reference, str) and reference.startswith("https://"):
            self.retriever.embeddings.clip.accept(reference)
            return create_image_block(url=reference)  # whoever shows it fetches it
        file = self.retriever.embeddings.clip.preview(reference)
        return create_image_block(base64=base64.b64encode(file).decode(), mime_type="image/jpeg")
