"""JinaClipTool: the retriever in the hands of a model."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages.content import create_image_block, create_text_block
from langchain_core.tools import ArgsSchema, BaseTool, ToolException
from pydantic import BaseModel, ConfigDict, Field

from jinaclip import InputError
from langchain_jinaclip.inputs import is_base64_picture, without_pictures
from langchain_jinaclip.retriever import JinaClipRetriever

SHOWN = 300
"""Characters of a metadata entry above which it is no fact for a model to read."""


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
            found = self.retriever.invoke({"text": text, "image": image})
        except InputError as error:
            raise ToolException(str(error)) from error
        return self._told(found)

    async def _arun(self, text: str | None = None, image: str | None = None) -> list[Any]:
        try:
            found = await self.retriever.ainvoke({"text": text, "image": image})
        except InputError as error:
            raise ToolException(str(error)) from error
        return await asyncio.to_thread(self._told, found)

    def _told(self, documents: list[Document]) -> list[Any]:
        blocks = [block for number, found in enumerate(documents, 1) for block in self._blocks(number, found)]
        return blocks or [create_text_block("nothing found")]

    def _blocks(self, number: int, document: Document) -> list[Any]:
        content, facts = document.page_content, document.metadata
        inline = is_base64_picture(content)  # what Chroma's `add_images` leaves; it is no text for a model
        lines = [f"result {number}", "" if inline else without_pictures(content)]
        short = {name: fact for name, fact in facts.items() if name[:1] != "_" and len(str(fact)) <= SHOWN}
        lines += [f"{name}: {fact}" for name, fact in short.items() if not is_base64_picture(str(fact))]
        reference = facts.get(self.retriever.image_key) or (inline and f"data:;base64,{content.rpartition(',')[2]}")
        pictures: list[Any] = []
        try:
            pictures += [self._picture(reference)] if reference and self.show_images else []
        except InputError as error:
            lines.append(f"the picture cannot be shown: {error}")
        return [create_text_block("\n".join(filter(None, lines))), *pictures]

    def _picture(self, reference: Any) -> Any:
        if isinstance(reference, str) and reference.startswith("https://"):
            self.retriever.embeddings.clip.accept(reference)
            return create_image_block(url=reference)  # whoever shows it fetches it
        file = self.retriever.embeddings.clip.preview(reference)
        return create_image_block(base64=base64.b64encode(file).decode(), mime_type="image/jpeg")
