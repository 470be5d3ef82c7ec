"""The retriever by text, image or both: in pipelines, beside retrievers by words, as a tool of an agent."""

from __future__ import annotations

import asyncio
import threading

import pytest
from haystack import Document, Pipeline
from haystack.components.agents import Agent
from haystack.components.converters.image import ImageFileToImageContent
from haystack.components.generators.chat.mock import MockChatGenerator
from haystack.components.retrievers import (
    InMemoryBM25Retriever,
    InMemoryEmbeddingRetriever,
    MultiRetriever,
    TextEmbeddingRetriever,
)
from haystack.core.errors import PipelineRuntimeError
from haystack.dataclasses import ByteStream, ChatMessage, ImageContent, ToolCall
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import ComponentTool
from haystack.utils.experimental import ExperimentalWarning

from haystack_jinaclip import JinaClipQueryEmbedder, JinaClipRetriever, JinaClipTextEmbedder
from jinaclip import AuthenticationError, ConfigError, InputError
from tests.haystack.conftest import png

PICTURES = {"field": "meta.kind", "operator": "==", "value": "picture"}


def finds(store, options, **more) -> JinaClipRetriever:
    """A retriever of the pictures of a store."""
    hits = InMemoryEmbeddingRetriever(store, filters=PICTURES, **more)
    return JinaClipRetriever(retriever=hits, embedder=JinaClipQueryEmbedder(**options))


@pytest.fixture
def retriever(trained, stocked):
    """Of the pictures of the catalogue, over both backends."""
    with finds(stocked["memory"], trained) as made:
        yield made


def products_of(found) -> list[str]:
    return [document.meta["product"] for document in found["documents"]]


async def test_it_finds_what_its_two_parts_find(retriever, catalogue, run) -> None:
    """By text, by image, and by both, with the weight, filters and number of the run."""
    queries = [("a red dress", None), (None, catalogue[7].picture), ("a red dress", catalogue[3].picture)]
    for query, image in queries:
        got = await run(retriever, query, None, 5, image, 0.3)
        embedded = retriever.embedder.run(query, image, 0.3)
        wanted = retriever.retriever.run(query_embedding=embedded["embedding"], top_k=5)
        assert products_of(got) == products_of(wanted) and len(got["documents"]) == 5
        assert got["meta"] == embedded["meta"]
    pages = {"field": "meta.kind", "operator": "==", "value": "page"}
    found = (await run(retriever, "a red dress", pages))["documents"]
    assert {document.meta["kind"] for document in found} == {"page"}


async def test_text_and_image_together_find_what_neither_finds_first(retriever, catalogue, run) -> None:
    """A product of the image's kind in the colour of the text."""
    looks = {item.id: item.attributes for item in catalogue}
    dress = next(item for item in catalogue if item.attributes.garment == "dress" and item.attributes.colour != "red")
    (first,) = products_of(await run(retriever, "red", None, 1, dress.picture, 0.5))
    assert (looks[first].garment, looks[first].colour) == ("dress", "red")


def test_it_is_saved_and_loaded_with_what_it_holds(retriever) -> None:
    pipe = Pipeline()
    local = JinaClipQueryEmbedder(backend="local", model=retriever.embedder.options.model, weight=0.2)
    pipe.add_component("search", JinaClipRetriever(retriever=retriever.retriever, embedder=local))
    saved = pipe.dumps()
    loaded = Pipeline.loads(saved).get_component("search")
    assert loaded.to_dict() == pipe.get_component("search").to_dict()
    assert (loaded.embedder.options.weight, loaded.retriever.filters) == (0.2, PICTURES)


async def test_sync_and_async_agree_in_a_pipeline(trained, stocked, catalogue) -> None:
    pipe = Pipeline()
    pipe.add_component("convert", ImageFileToImageContent())
    pipe.add_component("search", finds(stocked["memory"], trained))
    pipe.connect("convert.image_contents", "search.image")
    data = {"convert": {"sources": [catalogue[7].picture]}, "search": {"query": "a dress", "top_k": 3}}
    found = pipe.run(data)["search"]
    again = (await pipe.run_async(data))["search"]
    assert products_of(found) == products_of(again) and products_of(found)[0] == "red-dress"
    await pipe.close_async()
    pipe.close()


async def test_it_stands_where_haystacks_text_retrievers_do(trained, stocked, run) -> None:
    """Beside one by words in a MultiRetriever; its embedder stands in a TextEmbeddingRetriever."""
    store = stocked["memory"]
    with pytest.warns(ExperimentalWarning):
        both = MultiRetriever(
            retrievers={"words": InMemoryBM25Retriever(store), "looks": finds(store, trained)}, top_k=5
        )
    found = both.run(query="a red dress")["documents"]
    assert {document.meta["kind"] for document in found} >= {"picture"} and len(found) == 5
    again = (await both.run_async(query="a red dress", active_retrievers=["looks"]))["documents"]
    assert {document.meta["kind"] for document in again} == {"picture"}
    text = TextEmbeddingRetriever(
        retriever=InMemoryEmbeddingRetriever(store, filters=PICTURES), text_embedder=JinaClipQueryEmbedder(**trained)
    )
    assert text.run(query="a red dress", top_k=3)["documents"]
    both.close()
    text.close()


def test_an_agent_searches_by_words_and_by_the_image_of_the_conversation(trained, stocked, catalogue) -> None:
    """The tool's parameters are described; the image comes from the agent's state, and never through the model."""
    search = finds(stocked["memory"], trained, top_k=1)
    tool = ComponentTool(
        component=search,
        name="search_images",
        inputs_from_state={"image": "image"},
        outputs_to_state={"documents": {"source": "documents"}},
        outputs_to_string={"source": "documents", "handler": name_products},
    )
    described = tool.parameters["properties"]
    assert described.keys() == {"query", "weight", "filters", "top_k"}
    assert all(one["description"] and not one["description"].startswith("Input '") for one in described.values())
    call = ChatMessage.from_assistant(tool_calls=[ToolCall("search_images", {"query": "red", "weight": 0.5})])
    agent = Agent(
        chat_generator=MockChatGenerator(responses=[call, "There."]),
        tools=[tool],
        state_schema={"image": {"type": ImageContent}, "documents": {"type": list[Document]}},
    )
    dress = next(item for item in catalogue if item.attributes.garment == "dress" and item.attributes.colour != "red")
    image = ImageContent.from_file_path(dress.picture)
    looks = {item.id: item.attributes for item in catalogue}
    for answer in (
        agent.run(messages=[ChatMessage.from_user("this in red")], image=image),
        asyncio.run(agent.run_async(messages=[ChatMessage.from_user("this in red")], image=image)),
    ):
        (told,) = [m.tool_call_result.result for m in answer["messages"] if m.tool_call_result]
        assert (looks[told].garment, looks[told].colour) == ("dress", "red")
        assert products_of(answer) == [told]
    search.close()


def name_products(documents) -> str:
    return ", ".join(document.meta["product"] for document in documents)


def test_a_tool_may_be_given_an_image_by_its_path(trained, stocked, catalogue) -> None:
    """An agent's string, which stays in the folders that are allowed."""
    folder = catalogue[7].picture.parent
    allowed = {**trained, "image_policy": {"allowed_roots": [str(folder)]}}
    tool = ComponentTool(component=finds(stocked["memory"], allowed, top_k=1), name="search_images")
    assert products_of(tool.invoke(image=str(catalogue[7].picture))) == ["red-dress"]
    confined = ComponentTool(component=finds(stocked["memory"], trained, top_k=1), name="search_images")
    with pytest.raises(Exception, match="allowed_roots"):
        confined.invoke(image=str(catalogue[7].picture))
    tool.close()
    confined.close()


class Plain:
    """A retriever of somebody else's that has nothing but `run`, and notes in which thread it runs."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def run(self, query_embedding, filters=None, top_k=None):
        self.threads.append(threading.current_thread())
        return {"documents": [Document(content=f"{len(query_embedding)} {top_k}")]}


async def test_a_retriever_of_any_make_will_do(hosted) -> None:
    """One without async twin runs in a thread; one without `warm_up` or `close` is not asked to."""
    made = JinaClipRetriever(retriever=Plain(), embedder=JinaClipQueryEmbedder(**hosted, dimensions=64))
    made.warm_up()
    await made.warm_up_async()
    for found in (made.run("a", top_k=2), await made.run_async("a", top_k=2)):
        assert [document.content for document in found["documents"]] == ["64 2"]
    here, there = made.retriever.threads
    assert here is threading.current_thread() and there is not here
    made.close()
    async with made:
        pass


def test_other_components_are_refused_when_it_is_made(hosted) -> None:
    hits = InMemoryEmbeddingRetriever(InMemoryDocumentStore())
    with pytest.raises(ConfigError, match="embedder must be a JinaClipQueryEmbedder, not JinaClipTextEmbedder"):
        JinaClipRetriever(retriever=hits, embedder=JinaClipTextEmbedder(**hosted))
    with pytest.raises(ConfigError, match=r"retriever must be .*, not InMemoryDocumentStore"):
        JinaClipRetriever(retriever=InMemoryDocumentStore(), embedder=JinaClipQueryEmbedder(**hosted))
    words = InMemoryBM25Retriever(InMemoryDocumentStore())
    with pytest.raises(ConfigError, match=r"whose run takes query_embedding, not InMemoryBM25Retriever"):
        JinaClipRetriever(retriever=words, embedder=JinaClipQueryEmbedder(**hosted))


async def test_errors_of_a_search_keep_their_kind(hosted, server, run) -> None:
    made = JinaClipRetriever(retriever=Plain(), embedder=JinaClipQueryEmbedder(**hosted))
    with pytest.raises(InputError, match="nothing to search with"):
        await run(made)
    with pytest.raises(TypeError, match="takes a str"):
        await run(made, None, None, None, 7)
    server.configure(script=["auth_401"])
    pipe = Pipeline()
    pipe.add_component("search", made)
    with pytest.raises(PipelineRuntimeError) as caught:
        pipe.run({"search": {"query": "a red dress", "image": ByteStream(png(1))}})
    assert isinstance(caught.value.__cause__, AuthenticationError)
    pipe.close()
