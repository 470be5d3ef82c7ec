"""JinaClipTool: the retriever in the hands of a model."""

from __future__ import annotations

import base64
import logging
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

from langchain_core.documents import Document
from langchain_core.messages.content import create_image_block, create_text_block
from langchain_core.tools import ArgsSchema, BaseTool, InjectedToolArg, ToolException
from pydantic import BaseModel, ConfigDict, Field, field_serializer

from jinaclip import InputError, JinaClip, JinaClipError
from jinaclip.hosts import (
    Closing,
    Steps,
    arun_steps,
    describe_fields,
    remove_images,
    run_steps,
    wait_for,
    wait_for_thread,
)
from langchain_jinaclip.conversation import attached_image
from langchain_jinaclip.embeddings import JinaClipEmbeddings
from langchain_jinaclip.inputs import image_of, is_blank, is_image_data

logger = logging.getLogger(__name__)
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
    """What the model is asked for, and what its agent adds."""

    text: str | None = Field(default=None, description="what to look for, in words of any language")
    image: str | None = Field(default=None, description="path or https URL of an image to look for similar ones")
    attached: int | None = Field(
        default=None,
        description="number of an image that the user attached to this conversation, to look for similar ones: 1 is "
        "the last, 2 the one before; instead of image",
    )
    runtime: Annotated[Any, InjectedToolArg] = Field(
        default=None, description="LangChain's ToolRuntime; agents fill it in, models do not see it"
    )

    @field_serializer("runtime")
    def _leave_out(self, runtime: Any) -> None:
        """LangChain dumps what it has read, and the runtime holds the whole conversation."""


class JinaClipTool(Closing, BaseTool):
    """Searches with a text, an image or both, and answers with standard text and image blocks.

    The image is a reference that the model writes, or one that the user attached to the conversation: agents of
    LangChain hand their state over. References are strings, and reach what `image_policy` lets strings reach. One that
    is refused becomes a tool message with the reason, so that the model can do better; so does any unusable query, and
    any search that fails: the agent goes on.

    The tool message has the results as its `artifact`, a list of `Document`, for those who show sources.

    Args:
        retriever: does the search, a `JinaClipRetriever`.
        name: as the model sees it.
        description: tell the model what there is to find.
        show_images: whether the answer holds the images, or only their references.
    """

    # hidden, as what is passed here by mistake may be a key
    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True, json_schema_extra=describe_fields
    )

    name: str = "image_search"
    description: str = "Finds images and texts by a text, by an image, or by both together."
    args_schema: ArgsSchema | None = SearchInput
    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    handle_tool_error: Any = True
    handle_validation_error: Any = (
        "text and image must be strings, attached a whole number; give a text, an image or both"
    )
    retriever: Search
    show_images: bool = True

    @property
    def clip(self) -> JinaClip:
        """What embeds the queries."""
        return self.retriever.embeddings.clip

    def _run(
        self,
        text: str | None = None,
        image: str | None = None,
        attached: int | None = None,
        runtime: Annotated[Any, InjectedToolArg] = None,
    ) -> tuple[list[Any], list[Document]]:
        with Failures():
            return run_steps(self._search(text, image, attached, runtime))

    async def _arun(
        self,
        text: str | None = None,
        image: str | None = None,
        attached: int | None = None,
        runtime: Annotated[Any, InjectedToolArg] = None,
    ) -> tuple[list[Any], list[Document]]:
        with Failures():
            return await arun_steps(self._search(text, image, attached, runtime))

    def _search(
        self, text: str | None, image: str | None, attached: int | None, runtime: Any
    ) -> Steps[tuple[list[Any], list[Document]]]:
        """Blocks for the model, and the results as they are."""
        if attached is not None and not is_blank(image):
            raise InputError("give image or attached, not both")
        shown = image if attached is None else attached_image(runtime, attached)
        search = self.retriever
        documents = yield from wait_for(search.invoke, search.ainvoke, {"text": text, "image": shown})
        return (yield from wait_for_thread(self._answer, documents)), documents

    def _answer(self, documents: list[Document]) -> list[Any]:
        """Blocks for all results, best first."""
        blocks = [block for number, document in enumerate(documents, 1) for block in self._blocks(number, document)]
        return blocks or [create_text_block("nothing found")]

    def _blocks(self, number: int, document: Document) -> list[Any]:
        """A text block for a result, and an image block if it has an image that may be shown."""
        content = document.page_content
        facts = {name: fact for name, fact in document.metadata.items() if name[:1] != "_" and is_short(fact)}
        lines = [f"result {number}", "" if is_image_data(content) else content]
        lines += [f"{name}: {fact}" for name, fact in facts.items() if not is_image_data(fact)]
        try:
            images = self._image_blocks(document) if self.show_images else []
        except InputError as error:
            images, lines = [], [*lines, f"the image cannot be shown: {error}"]
        return [create_text_block(remove_images("\n".join(filter(None, lines)))), *images]

    def _image_blocks(self, document: Document) -> list[Any]:
        image = image_of(document, self.retriever.image_key)
        if image is None:
            return []
        if isinstance(image, str) and image.startswith("https://"):
            self.clip.resolve_image(image)
            return [create_image_block(url=image)]  # whoever shows it fetches it
        encoded = base64.b64encode(self.clip.preview(image)).decode()
        return [create_image_block(base64=encoded, mime_type="image/jpeg")]


def is_short(fact: Any) -> bool:
    """Whether a metadata entry is short enough for a model, and no bytes."""
    return not isinstance(fact, bytes) and len(str(fact)) <= LONGEST_FACT


class Failures:
    """Turns what a search fails of into a `ToolException`, which LangChain hands to the model as a message.

    Errors of ours say why. Of all others the model gets the class alone, as a store may put an address or a key into
    its message; the log has the whole.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, frames: object) -> None:
        if isinstance(error, InputError):
            raise ToolException(str(error)) from error
        if isinstance(error, JinaClipError):
            logger.warning("a search by an agent failed: %s", error)
            raise ToolException(f"the search failed: {error}") from error
        if isinstance(error, Exception):
            logger.error("a search by an agent failed", exc_info=error)
            raise ToolException(f"the search failed: {type(error).__name__} of the store") from error
