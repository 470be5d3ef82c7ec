"""Whole pipelines: saved and loaded, joined, nested, asked by an agent."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from haystack import Pipeline, SuperComponent
from haystack.components.agents import Agent
from haystack.components.converters.image import ImageFileToDocument
from haystack.components.generators.chat.mock import MockChatGenerator
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.core.errors import PipelineRuntimeError
from haystack.dataclasses import ByteStream, ChatMessage, ToolCall
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.tools import PipelineTool
from haystack.utils import Secret

from haystack_jinaclip import (
    JinaClipDiversityRanker,
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipImageEmbedder,
    JinaClipQueryEmbedder,
    JinaClipRetriever,
    JinaClipTextEmbedder,
)
from jinaclip import AuthenticationError, InputError
from tests.haystack.conftest import ALL, COUNT, DOCUMENTS, EMBEDDERS, QUERIES, articles, new, options_of, png
from tests.needs import long

LOAD = """
import asyncio, json, os, sys, traceback
import haystack.components.embedders, haystack.core.super_component
from haystack import Pipeline

def work(yaml, data, twin):
    assert not [name for name in sys.modules if "jinaclip" in name]
    pipe = Pipeline.loads(yaml)
    assert pipe.dumps() == yaml
    if data is not None:
        return asyncio.run(pipe.run_async(data)) if twin else pipe.run(data)

for line in sys.stdin:
    if not os.fork():
        try:
            print(json.dumps(work(*json.loads(line))), flush=True)
        except BaseException:
            print(json.dumps({"error": traceback.format_exc()}), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def fresh():
    """Tells what a saved pipeline gives in a process that knows nothing but Haystack, forked anew for each."""
    missing = {"JINA_API_KEY", "JINAAI_API_KEY"}
    environment = {name: value for name, value in os.environ.items() if name not in missing}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", LOAD], text=True, env=environment, **pipes) as process:

        def load(pipe, data=None, *, twin=False):
            process.stdin.write(json.dumps([pipe.dumps(), data, twin]) + "\n")
            process.stdin.flush()
            result = json.loads(process.stdout.readline())
            assert "error" not in (result or {}), result["error"]
            return result

        yield load
        process.stdin.close()


def search(text_embedder, image_embedder, retriever) -> Pipeline:
    """A text and a picture, each with a retriever of its own."""
    pipe = Pipeline()
    for name, embedder in (("text", text_embedder), ("image", image_embedder)):
        pipe.add_component(name, embedder)
        pipe.add_component(f"{name}_hits", retriever())
        pipe.connect(f"{name}.embedding", f"{name}_hits.query_embedding")
    return pipe


@pytest.mark.slow
@pytest.mark.parametrize("twin", [False, True], ids=["run", "run_async"])
def test_a_saved_pipeline_loads_and_runs_in_a_fresh_process(tiny, fresh, twin) -> None:
    """No extra arguments, our packages not imported before; the same vector comes out."""
    pipe = Pipeline()
    pipe.add_component("embedder", JinaClipTextEmbedder(model=str(tiny), backend="local", device="cpu", prefix="a "))
    data = {"embedder": {"text": "red dress"}}
    there = fresh(pipe, data, twin=twin)["embedder"]
    assert np.allclose(there["embedding"], pipe.run(data)["embedder"]["embedding"], atol=2e-6)


@pytest.mark.slow
def test_every_class_loads_from_yaml_without_a_key(fresh) -> None:
    """On a machine that has none, and under the name that was saved."""
    pipe = Pipeline()
    for kind in ALL:
        pipe.add_component(kind.__name__, new(kind))
    hits = InMemoryEmbeddingRetriever(InMemoryDocumentStore())
    pipe.add_component("search", JinaClipRetriever(retriever=hits, embedder=JinaClipQueryEmbedder()))
    ranked = JinaClipDiversityRanker(document_store=InMemoryDocumentStore())
    pipe.add_component("ranked", ranked)
    saved = pipe.dumps()
    for folder, count in (("embedders", 6 + 1), ("rankers", 2), ("routers", 1), ("retrievers", 1)):
        assert saved.count(f"type: haystack_integrations.components.{folder}.jinaclip.") == count
    fresh(pipe)


@pytest.mark.slow
def test_a_pipeline_saved_earlier_still_loads(fresh) -> None:
    """`saved.yaml` was written when components still inherited from each other: the same classes, the same values."""
    saved = (Path(__file__).parent / "saved.yaml").read_text()
    pipe = Pipeline.loads(saved)
    then, now = (yaml.safe_load(text)["components"] for text in (saved, pipe.dumps()))
    assert len(then) == 6
    for name, component in then.items():
        assert now[name]["type"] == component["type"]
        assert component["init_parameters"].items() <= now[name]["init_parameters"].items()
    fresh(pipe)


@pytest.mark.slow
def test_a_super_component_is_saved_with_what_it_holds(tiny, fresh) -> None:
    """Nested YAML, by itself and in a pipeline, in a fresh process."""
    inner = Pipeline()
    inner.add_component("t", JinaClipTextEmbedder(model=str(tiny), backend="local", device="cpu"))
    wrapped = SuperComponent(
        pipeline=inner, input_mapping={"query": ["t.text"]}, output_mapping={"t.embedding": "embedding"}
    )
    vector = wrapped.run(query="a red dress")["embedding"]
    again = SuperComponent.from_dict(wrapped.to_dict())
    assert again.run(query="a red dress")["embedding"] == vector
    assert asyncio.run(again.run_async(query="a red dress"))["embedding"] == vector
    outer = Pipeline()
    outer.add_component("search", again)
    there = fresh(outer, {"search": {"query": "a red dress"}})
    assert np.allclose(there["search"]["embedding"], vector, atol=2e-6)
    outer.close()


def test_the_error_of_the_core_is_the_cause(hosted, server) -> None:
    pipe = Pipeline()
    pipe.add_component("embedder", JinaClipTextEmbedder(**hosted))
    with pytest.raises(PipelineRuntimeError, match="blank") as caught:
        pipe.run({"embedder": {"text": " "}})
    assert isinstance(caught.value.__cause__, InputError)
    server.configure(script=["auth_401"])
    with pytest.raises(PipelineRuntimeError) as caught:
        asyncio.run(pipe.run_async({"embedder": {"text": "a red dress"}}))
    assert isinstance(caught.value.__cause__, AuthenticationError)
    assert hosted["api_key"].resolve_value() not in str(caught.value)
    pipe.close()


@pytest.mark.slow
def test_branches_run_at_once(make, folder, documents) -> None:
    """All embedders side by side give what they give one after the other, over several loops."""
    pipe = Pipeline()
    for kind in EMBEDDERS:
        place = {"root_path": str(folder)} if "root_path" in options_of(kind) else {}
        pipe.add_component(kind.__name__, make(kind, **place))
    text, image = {"text": "a dress"}, {"image": ByteStream(png(1))}
    data = {kind.__name__: {"documents": documents} for kind in DOCUMENTS}
    data |= dict(zip((kind.__name__ for kind in QUERIES), (text, image, text | image), strict=True))

    def vectors(result):
        found = [result[kind.__name__]["embedding"] for kind in QUERIES]
        return found + [document.embedding for kind in DOCUMENTS for document in result[kind.__name__]["documents"]]

    wanted = vectors(pipe.run(data))
    for limit in (1, 2, 6):
        got = vectors(asyncio.run(pipe.run_async(data, concurrency_limit=limit)))
        assert len(got) == 12
        assert all(np.allclose(a, b, atol=2e-6) for a, b in zip(got, wanted, strict=True))
    pipe.close()


def test_sockets_fit_haystacks_own_components(make, folder) -> None:
    """A converter's pictures come out as documents that the picture embedder takes, through a pipeline."""
    pipe = Pipeline()
    pipe.add_component("converter", ImageFileToDocument(store_full_path=True))
    pipe.add_component("embedder", make(JinaClipDocumentImageEmbedder, root_path=str(folder)))
    pipe.connect("converter.documents", "embedder.documents")
    (got,) = pipe.run({"converter": {"sources": [folder / "1.png"]}})["embedder"]["documents"]
    wanted = make(JinaClipImageEmbedder).run(folder / "1.png")["embedding"]
    assert np.allclose(got.embedding, wanted, atol=2e-6)
    pipe.close()


# -- the catalogue


@pytest.fixture(scope="module", params=["memory", "qdrant"])
def searching(request, trained, stocked):
    """A query pipeline over one store."""
    store = stocked[request.param]
    if request.param == "memory":
        pipe = search(
            JinaClipTextEmbedder(**trained), JinaClipImageEmbedder(**trained), lambda: InMemoryEmbeddingRetriever(store)
        )
    else:
        from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever

        pipe = search(
            JinaClipTextEmbedder(**trained), JinaClipImageEmbedder(**trained), lambda: QdrantEmbeddingRetriever(store)
        )
    yield pipe
    pipe.close()


def first(pipe, kind, *, text="x", image=None, k=3):
    """The products found first among documents of a kind, by text or by picture."""
    filters = {"field": "meta.kind", "operator": "==", "value": kind}
    image = image or ByteStream(png(1))
    hits = {"filters": filters, "top_k": k}
    result = pipe.run({"text": {"text": text}, "image": {"image": image}, "text_hits": hits, "image_hits": hits})
    return {name: [d.meta["product"] for d in result[f"{name}_hits"]["documents"]] for name in ("text", "image")}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["title", "picture", "product", "page"])
@pytest.mark.parametrize("text", ["a red dress", long("ein Kleid in Rot"), "红色连衣裙"])
def test_a_text_finds_the_product(searching, catalogue, kind, text) -> None:
    """In three languages: a title, a picture, both in one vector, a page. There is more than one red dress."""
    looks = {item.id: (item.attributes.colour, item.attributes.garment) for item in catalogue}
    assert looks[first(searching, kind, text=text)["text"][0]] == ("red", "dress")


@pytest.mark.parametrize("kind", ["title", "picture", "product", "page"])
def test_a_picture_finds_the_product(searching, catalogue, kind) -> None:
    """Itself, both in one vector, its page; of the titles one of a dress."""
    found = first(searching, kind, image=catalogue[7].picture)["image"]
    if kind == "title":
        assert {item.id: item.attributes.garment for item in catalogue}[found[0]] == "dress"
    else:
        assert found[0] == "red-dress"


def test_indexed_documents_keep_what_they_were(stocked, catalogue) -> None:
    """Through both stores."""
    for store in stocked.values():
        filters = {"field": "meta.kind", "operator": "==", "value": "page"}
        pages = sorted(store.filter_documents(filters), key=lambda document: document.meta["page_number"])
        assert [page.meta["product"] for page in pages] == [item.id for item in catalogue[7:COUNT:8]]
        assert all(page.meta["embedding_source"]["type"] == "image" for page in pages)


async def test_the_same_pipeline_runs_on_a_loop(trained, stocked) -> None:
    """In-memory store, whose async side is the same store."""
    store = stocked["memory"]
    pipe = search(
        JinaClipTextEmbedder(**trained), JinaClipImageEmbedder(**trained), lambda: InMemoryEmbeddingRetriever(store)
    )
    data = {"text": {"text": "a red dress"}, "image": {"image": ByteStream(png(1))}}
    wanted, got = pipe.run(data), await pipe.run_async(data)
    ids = [[d.id for d in result["text_hits"]["documents"]] for result in (wanted, got)]
    assert ids[0] == ids[1] and len(ids[0]) == 10
    await pipe.close_async()


def test_an_agent_searches_the_catalogue(trained, stocked, catalogue) -> None:
    """A retrieval pipeline as a tool: what it finds reaches the agent's messages."""
    pipe = Pipeline()
    pipe.add_component("embedder", JinaClipTextEmbedder(**trained))
    pipe.add_component("hits", InMemoryEmbeddingRetriever(stocked["memory"], top_k=1))
    pipe.connect("embedder.embedding", "hits.query_embedding")
    tool = PipelineTool(
        pipeline=pipe,
        name="search_catalogue",
        description="Finds products by what they look like",
        input_mapping={"query": ["embedder.text"]},
        output_mapping={"hits.documents": "documents"},
        outputs_to_string={"source": "documents", "handler": lambda found: found[0].meta["product"]},
    )
    call = ChatMessage.from_assistant(tool_calls=[ToolCall("search_catalogue", {"query": "a red dress"})])
    agent = Agent(chat_generator=MockChatGenerator(responses=[call, "There it is."]), tools=[tool])
    messages = agent.run(messages=[ChatMessage.from_user("a red dress, please")])["messages"]
    (found,) = [m.tool_call_result.result for m in messages if m.tool_call_result]
    looks = {item.id: (item.attributes.colour, item.attributes.garment) for item in catalogue}
    assert looks[found] == ("red", "dress")
    pipe.close()


def test_both_backends_index_alike(catalogue, catalogue_checkpoint, modelled) -> None:
    """Promise 2: text, picture and both, to 1e-5."""
    api = {"api_key": Secret.from_token("jina_test_alike"), "base_url": modelled.url, "dimensions": 128}
    local = {"model": catalogue_checkpoint, "backend": "local", "device": "cpu"}
    place = {"root_path": str(catalogue[0].picture.parent)}
    given = articles(catalogue[:6], "product")
    for kind in DOCUMENTS:
        more = {} if kind is JinaClipDocumentEmbedder else {**place, "image_resize": "none"}
        rows = []
        for options in (api, local):
            made = new(kind, **options, **more, progress_bar=False)
            rows.append([document.embedding for document in made.run(given)["documents"]])
            made.close()
        assert np.abs(np.subtract(*rows)).max() <= 1e-5
