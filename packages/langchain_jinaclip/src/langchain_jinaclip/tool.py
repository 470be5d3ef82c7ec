"""JinaClipTool: the retriever in the hands of a model."""

from __future__ import annotations

import base64
from typing import Any, Protocol, runtime_checkable

from langchain_core.documents import Document
from langchain_core.messages.content import create_image_block, create_text_block
from langchain_core.tools import ArgsSchema, BaseTool, ToolException
from pydantic import BaseModel, ConfigDict, Field

from jinaclip import InputError
from jinaclip.hosts import remove_images, run_in_thread
from langchain_jinaclip.embeddings import JinaClipEmbeddings
from langchain_jinaclip.inputs import image_of, is_image_data

LONGEST_FACT = 300
"""Characters of a metadata entry above which a model does not get it."""


@runtime_checkable
class Search(Protocol):
    """What a tool searches with: a `JinaClipRetriever`, which makes tools of itself and so stands above this module."""

    embeddings: JinaClipEmbeddings
    image_key: str

    def invoke(self, input: Any, /) -> list[Document]:  # noqa: A002  LangChain's word
        """The documents nearest to a text, an image or both."""

    async def ainvoke(self, input: Any, /) -> list[Document]:  # noqa: A002
        """`invoke` without blocking the event loop."""


class SearchInput(BaseModel):
    """What the model is asked for."""

    text: str | None = Field(default=None, description="what to look for, in words of any language")
    image: str | None = Field(default=None, description="path or https URL of an image to look for similar ones")


class JinaClipTool(BaseTool):
    """Searches with a text, an image reference or both, and answers with standard text and image blocks.

    Image references come from a model: they are strings, and reach what `image_policy` lets strings reach. One that is
    refused becomes a tool message with the reason, so that the model can do better; so does any unusable query.

    Args:
        retriever: does the search, a `JinaClipRetriever`.
        name: as the model sees it.
        description: tell the model what there is to find.
        show_images: whether the answer holds the images, or only their references.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    name: str = "image_search"
    description: str = "Finds images and texts by a text, by an image, or by both together."
    args_schema: ArgsSchema | None = SearchInput
    handle_tool_error: Any = True
    handle_validation_error: Any = "text and image must be strings; give one of them, or both"
    retriever: Search
    show_images: bool = True

    def _run(self, text: str | None = None, image: str | None = None) -> list[Any]:
        try:
            return self._answer(self.retriever.invoke({"text": text, "image": image}))
        except InputError as error:
            raise ToolException(str(error)) from error

    async def _arun(self, text: str | None = None, image: str | None = None) -> list[Any]:
        try:
            return await run_in_thread(self._answer, await self.retriever.ainvoke({"text": text, "image": image}))
        except InputError as error:
            raise ToolException(str(error)) from error

    def _answer(self, documents: list[Document]) -> list[Any]:
        """Blocks for all results, best first."""
        blocks = [block for number, document in enumerate(documents, 1) for block in self._blocks(number, document)]
        return blocks or [create_text_block("nothing found")]

    def _blocks(self, number: int, document: Document) -> list[Any]:
        """A text block for a result, and an image block if it has an image that may be shown."""
        content = document.page_content
        facts = {k: fact for k, fact in document.metadata.items() if k[:1] != "_" and not is_image_data(fact)}
        lines = [f"result {number}", "" if is_image_data(content) else content]
        lines += [f"{name}: {fact}" for name, fact in facts.items() if len(str(fact)) <= LONGEST_FACT]
        try:
            images = self._image_blocks(document) if self.show_images else []
        except InputError as error:
            images, lines = [], [*lines, f"the image cannot be shown: {error}"]
        return [create_text_block(remove_images("\n".join(filter(None, lines)))), *images]

    def _image_blocks(self, document: Document) -> list[Any]:
        image, clip = image_of(document, self.retriever.image_key), self.retriever.embeddings.clip
        if image is None:
            return []
        if isinstance(image, str) and image.startswith("https://"):
            clip.resolve_image(image)
            return [create_image_block(url=image)]  # whoever shows it fetches it
        encoded = base64.b64encode(clip.preview(image)).decode()
        return [create_image_block(base64=encoded, mime_type="image/jpeg")]
