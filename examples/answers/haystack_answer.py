"""Questions answered from images and texts that a search found: no key, no GPU, no internet.

    python examples/answers/haystack_answer.py

A pipeline finds images and texts of a catalogue and hands both to a chat model, which looks at the images; its answer
comes with its sources. Then an agent does so, with image search as a tool and an image from the conversation as query.
The chat model here is a stand-in that sees colours; any of Haystack's that takes images goes in its place.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
sys.path.insert(0, str(Path(__file__).parents[2]))
from haystack import Document, Pipeline, component
from haystack.components.agents import Agent
from haystack.components.builders import AnswerBuilder
from haystack.components.joiners import DocumentJoiner
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.dataclasses import ChatMessage, ChatRole, GeneratedAnswer, ImageContent, TextContent, ToolCall
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import ComponentTool, ToolsType

from examples.answers.colours import name_colour
from examples.catalogue.drawing import DYES, draw
from examples.catalogue.products import Attributes, Product, products
from examples.catalogue.wording import title
from haystack_jinaclip import (
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipQueryEmbedder,
    JinaClipRetriever,
)

CHECKPOINT = Path(__file__).parents[1] / "catalogue" / "checkpoint"
OPTIONS: dict[str, Any] = {"model": str(CHECKPOINT), "backend": "local", "device": "cpu"}
RED_DRESS = Product("red-dress", Attributes("dress", "red", "plain", "", "midi", "short", "round"), 5)
COAT = Product("green-coat", Attributes("coat", "green", "plain", "", "maxi"), 9)
"""An image that a customer sends; it is not in the catalogue."""
Parts = list[TextContent | ImageContent]


# -- the catalogue


def choose_products(count: int = 60) -> list[Product]:
    """A red dress, and others of one colour each."""
    plain = [product for product in products("test", 5 * count) if product.attributes.pattern == "plain"]
    return [RED_DRESS, *plain[: count - 1]]


def fill_store(folder: Path, chosen: list[Product], options: dict[str, Any] = OPTIONS) -> InMemoryDocumentStore:
    """A document store with products: of each its image, and its title as a text."""
    for product in chosen:
        draw(product).save(folder / f"{product.id}.png")
    images = [Document(meta={"kind": "image", "file_path": str(folder / f"{one.id}.png")}) for one in chosen]
    texts = [Document(id=f"{one.id}-text", content=title(one, "en"), meta={"kind": "text"}) for one in chosen]
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    with JinaClipDocumentImageEmbedder(**options, root_path=str(folder), progress_bar=False) as embedder:
        store.write_documents(embedder.run(images)["documents"])
    with JinaClipDocumentEmbedder(**options, progress_bar=False) as embedder:
        store.write_documents(embedder.run(texts)["documents"])
    return store


def find_kind(store: InMemoryDocumentStore, kind: str, top_k: int) -> InMemoryEmbeddingRetriever:
    """Finds images alone, or texts alone: a text is always nearer to texts."""
    filters = {"field": "meta.kind", "operator": "==", "value": kind}
    return InMemoryEmbeddingRetriever(store, filters=filters, top_k=top_k)


# -- what a chat model is shown


def show_documents(documents: list[Document]) -> Parts:
    """Numbered sources as a chat model takes them: texts as texts, images as images."""
    parts: Parts = []
    for number, document in enumerate(documents, 1):
        parts.append(TextContent(f"[{number}] {document.content or 'an image:'}"))
        if document.content is None:
            parts.append(ImageContent.from_file_path(document.meta["file_path"]))
    return parts


@component
class QuestionBuilder:
    """A question and its sources as one message."""

    @component.output_types(messages=list[ChatMessage])
    def run(self, question: str, documents: list[Document]) -> dict[str, Any]:
        """The message."""
        return {"messages": [ChatMessage.from_user(content_parts=[question, *show_documents(documents)])]}


@component
class ColourChatGenerator:
    """A stand-in for a chat model that sees: it says which sources have the colour of the question.

    Like any other it decides by itself to call a tool; here, the first one, once.
    """

    @component.output_types(replies=list[ChatMessage])
    def run(self, messages: list[ChatMessage], tools: ToolsType | None = None) -> dict[str, Any]:
        """The answer, or the call of a tool."""
        asked = next(message for message in reversed(messages) if message.is_from(ChatRole.USER))
        question, last = str(asked.texts[0]), messages[-1]
        if tools and last is asked:
            call = ToolCall(next(iter(tools)).name, {"query": question, "top_k": 3})
            return {"replies": [ChatMessage.from_assistant(tool_calls=[call])]}
        return {"replies": [ChatMessage.from_assistant(answer_question(question, read_parts(last)))]}


def read_parts(message: ChatMessage) -> list[str | bytes]:
    """The texts and the images of a message in their order, as a model's own program reads them."""
    result = message.tool_call_result
    if result is not None:
        return [part.text if isinstance(part, TextContent) else decode(part.base64_image) for part in result.result]
    content = message.to_openai_dict_format()["content"]
    return [part["text"] if part["type"] == "text" else decode(part["image_url"]["url"]) for part in content]


def decode(image: str) -> bytes:
    """The bytes of an image in base64."""
    return base64.b64decode(image.rpartition(",")[2])


def answer_question(question: str, parts: list[str | bytes]) -> str:
    """Which of the numbered sources have the colour that the question names."""
    colour = next((word for word in re.findall(r"\w+", question.lower()) if word in DYES), "no colour")
    seen, told, number = list[str](), list[str](), ""
    for part in parts:
        if isinstance(part, bytes):
            seen += [number] if name_colour(part) == colour else []
        elif source := re.match(r"\[\d+\]", part):
            number = source[0]
            told += [number] if colour in part.split() else []
    return f"{colour}, to look at: {' '.join(seen) or 'nothing'}; in words: {' '.join(told) or 'nothing'}"


# -- a pipeline, and an agent


def answering_pipeline(store: InMemoryDocumentStore, options: dict[str, Any] = OPTIONS) -> Pipeline:
    """embedder -> retrievers of images and of texts -> joiner -> message -> chat model -> answer with sources."""
    pipe = Pipeline()
    pipe.add_component("embedder", JinaClipQueryEmbedder(**options))
    pipe.add_component("images", find_kind(store, "image", 3))
    pipe.add_component("texts", find_kind(store, "text", 2))
    pipe.add_component("joiner", DocumentJoiner(join_mode="concatenate", sort_by_score=False))
    pipe.add_component("message", QuestionBuilder())
    pipe.add_component("model", ColourChatGenerator())
    pipe.add_component("answer", AnswerBuilder(reference_pattern=r"\[(\d+)\]"))
    for kind in ("images", "texts"):
        pipe.connect("embedder.embedding", f"{kind}.query_embedding")
        pipe.connect(f"{kind}.documents", "joiner.documents")
    pipe.connect("joiner.documents", "message.documents")
    pipe.connect("message.messages", "model.messages")
    pipe.connect("model.replies", "answer.replies")
    pipe.connect("joiner.documents", "answer.documents")
    return pipe


def ask(pipe: Pipeline, question: str, image: ImageContent | None = None) -> GeneratedAnswer:
    """The answer to a question, and in its `documents` the sources that it names."""
    query = {"text": question, "image": image}
    data = {"embedder": query, "message": {"question": question}, "answer": {"query": question}}
    answer: GeneratedAnswer = pipe.run(data)["answer"]["answers"][0]
    return answer


def searching_agent(store: InMemoryDocumentStore, options: dict[str, Any] = OPTIONS) -> Agent:
    """An agent with image search as a tool, which also takes the image of the conversation, from the agent's state."""
    tool = ComponentTool(
        component=JinaClipRetriever(retriever=find_kind(store, "image", 3), embedder=JinaClipQueryEmbedder(**options)),
        name="search_images",
        description="Finds images of products by words, and by the image of the conversation if there is one",
        inputs_from_state={"image": "image"},
        outputs_to_state={"documents": {"source": "documents"}},
        outputs_to_string={"source": "documents", "handler": show_documents, "raw_result": True},
    )
    schema = {"image": {"type": ImageContent}, "documents": {"type": list[Document]}}
    return Agent(chat_generator=ColourChatGenerator(), tools=[tool], state_schema=schema)


def main() -> None:
    """Indexes, asks the pipeline, asks the agent."""
    with TemporaryDirectory() as place:
        store = fill_store(Path(place), choose_products())
        draw(COAT).save(Path(place) / "sent.png")
        answer = ask(answering_pipeline(store), "a red dress")
        print(f"a red dress?\n    {answer.data}")
        for source in answer.documents:
            shown = source.content or Path(source.meta["file_path"]).name
            print(f"    [{source.meta['source_index']}] {shown}")
        sent = ImageContent.from_file_path(Path(place) / "sent.png")
        message = ChatMessage.from_user(content_parts=["one like this, but red", sent])
        result = searching_agent(store).run(messages=[message], image=sent)
        print(f"\none like this, but red?  (with an image of a green coat)\n    {result['last_message'].text}")
        for number, source in enumerate(result["documents"], 1):
            print(f"    [{number}] {Path(source.meta['file_path']).name}")


if __name__ == "__main__":
    main()
