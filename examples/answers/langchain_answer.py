"""An agent of LangChain that answers about an image which the user attached, with sources.

    python examples/answers/langchain_answer.py

The user shows a photo and asks for something like it. The model calls the search tool with the words and the number of
the attached image, gets texts and images of what was found, looks at all of them, and answers; the sources are the
documents that its answer cites. No key, no GPU, no internet: the search runs on the small model of the catalogue, and
`VisionModel` stands in for a model that sees. Put `init_chat_model("...")` in its place.
"""

from __future__ import annotations

import base64
import io
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.messages.content import create_citation, create_image_block, create_text_block
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.vectorstores import InMemoryVectorStore

sys.path.insert(0, str(Path(__file__).parents[2]))
from examples.answers.colours import name_colour
from examples.catalogue.drawing import DYES, draw
from examples.catalogue.products import GARMENTS, Attributes, Product, products
from examples.catalogue.scores import CHECKPOINT
from examples.catalogue.wording import title
from jinaclip import ImagePolicy
from langchain_jinaclip import JinaClipEmbeddings, JinaClipRetriever, add_documents

OPTIONS = {"model": str(CHECKPOINT), "backend": "local", "device": "cpu"}
COUNT = 200
COAT = Product("", Attributes("coat", "blue", "plain", "", "maxi"), 41)
"""What the user shows; its image is not in the catalogue."""
QUESTION = "Do you have a coat like this in red?"


# -- what an application does


@dataclass(frozen=True)
class Answer:
    """What the model says, and the documents that it cites."""

    text: str
    sources: list[Document]


def build_agent(model: BaseChatModel, store: InMemoryVectorStore, k: int = 5) -> Any:
    """An agent that can search the store by words, by an image, or by both."""
    search = JinaClipRetriever(vectorstore=store, k=k).as_tool(description="Finds clothes by words, an image, or both.")
    return create_agent(model, [search])


def ask(agent: Any, question: str, image: bytes) -> Answer:
    """Asks about an image, and finds the sources in what the tool had found."""
    shown = create_image_block(base64=base64.b64encode(image).decode(), mime_type="image/png")
    message = HumanMessage(content_blocks=[create_text_block(question), shown])
    messages = agent.invoke({"messages": [message]})["messages"]
    found = [document for one in messages if isinstance(one, ToolMessage) for document in one.artifact or ()]
    cited = {note.get("url") for block in messages[-1].content_blocks for note in block.get("annotations", ())}
    return Answer(messages[-1].text, [document for document in found if document.metadata["image"] in cited])


def index(options: dict[str, Any], chosen: Sequence[Product], folder: Path) -> InMemoryVectorStore:
    """A store of the products: the vector of the image, the title as text; the folder gets the images."""
    store = InMemoryVectorStore(JinaClipEmbeddings(**options, image_policy=ImagePolicy(allowed_roots=(folder,))))
    documents = []
    for product in chosen:
        image = folder / f"{product.id}.png"
        draw(product).save(image)
        documents.append(Document(title(product, "en"), id=product.id, metadata={"image": str(image)}))
    add_documents(store, documents)
    return store


# -- what stands in for a vision model


class VisionModel(BaseChatModel):
    """Asks for a search by the attached image, looks at the bytes of what it is shown, and cites what it speaks of."""

    @property
    def _llm_type(self) -> str:
        return "stand-in"

    def bind_tools(self, tools: Any, **_: Any) -> VisionModel:  # type: ignore[override]
        """It knows the one tool that there is."""
        return self

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        [question] = [message for message in messages if isinstance(message, HumanMessage)]
        last = messages[-1]
        said = describe(question, last) if isinstance(last, ToolMessage) else call_search(question)
        return ChatResult(generations=[ChatGeneration(message=said)])


def call_search(question: HumanMessage) -> AIMessage:
    """The call of the tool: the words of the user, and the image that was attached last."""
    arguments = {"text": question.text, "attached": 1}
    return AIMessage("", tool_calls=[ToolCall(name="image_search", args=arguments, id="search", type="tool_call")])


def describe(question: HumanMessage, results: ToolMessage) -> AIMessage:
    """The answer: what the user showed, and the results that fit the question.

    The garment is read in the texts of the results, the colour is seen in their images.
    """
    [shown, *_] = [*colours_of(question), "nothing that I can see"]
    colour, garment = word_of(DYES, question.text), word_of(GARMENTS, question.text)
    found = zip(names_of(results), colours_of(results), strict=False)
    hits = [(name, image) for (name, image), seen in found if seen == colour and garment in name.lower()]
    told = f"There is a {colour} {garment}: {hits[0][0]}." if hits else f"I see no {colour} {garment}."
    notes = [create_citation(url=image, title=name) for name, image in hits[:1]]
    return AIMessage(content_blocks=[create_text_block(f"You showed me something {shown}. {told}", annotations=notes)])


def word_of(words: Iterable[str], text: str) -> str:
    """The first of these words that a text has."""
    return next(word for word in words if word in text.strip("?.").split())


def colours_of(message: BaseMessage) -> Iterator[str]:
    """The colour of each image in a message, by its bytes."""
    for block in message.content_blocks:
        if block["type"] == "image":
            yield name_colour(base64.b64decode(block["base64"]))


def names_of(results: BaseMessage) -> Iterator[tuple[str, str]]:
    """The title and the reference of each result, by the text blocks of the tool."""
    for block in results.content_blocks:
        if block["type"] == "text":
            lines = block["text"].splitlines()
            yield lines[1], next(line for line in lines if line.startswith("image: ")).removeprefix("image: ")


def main(folder: Path) -> None:
    """Asks, and prints the answer with its sources."""
    plain = [product for product in products("test", COUNT) if product.attributes.pattern == "plain"]
    photo = io.BytesIO()
    draw(COAT).save(photo, "PNG")
    answer = ask(build_agent(VisionModel(), index(OPTIONS, plain, folder)), QUESTION, photo.getvalue())
    print(f"{QUESTION}\n{answer.text}")
    for source in answer.sources:
        print(f"    {Path(source.metadata['image']).name}: {source.page_content}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(Path(folder))
