"""What holds in LangChain, LlamaIndex and Haystack alike, found by walking what each adapter gives."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from pydantic import BaseModel

import haystack_jinaclip
import langchain_jinaclip
import llamaindex_jinaclip
from jinaclip import JinaClip
from jinaclip.testing import Server

ADAPTERS = {
    f"{package.__name__}.{name}": getattr(package, name)
    for package in (langchain_jinaclip, llamaindex_jinaclip, haystack_jinaclip)
    for name in package.__all__
    if inspect.isclass(getattr(package, name))
}
NO_SCHEMA = {"langchain_jinaclip.JinaClipRetriever", "langchain_jinaclip.JinaClipTool"}
"""They hold a store or a retriever, for which Pydantic makes no schema; that of the tool's arguments is its model's."""
MODELS = {name: kind for name, kind in ADAPTERS.items() if issubclass(kind, BaseModel) and name not in NO_SCHEMA}
COMPONENTS = {name: kind for name, kind in ADAPTERS.items() if name.startswith("haystack_jinaclip")}


# Descriptions


def undescribed(schema: dict[str, Any]) -> list[str]:
    """Fields without a description, of a schema and of those within it; LlamaIndex adds `class_name`, no field."""
    parts = {schema["title"]: schema, **schema.get("$defs", {})}
    fields = {f"{part}.{name}": field for part in parts for name, field in parts[part].get("properties", {}).items()}
    return [name for name, field in fields.items() if not field.get("description") and not name.endswith(".class_name")]


@pytest.mark.parametrize("name", MODELS)
def test_every_field_of_a_schema_that_a_host_shows_has_a_description(name: str) -> None:
    assert undescribed(MODELS[name].model_json_schema()) == []


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_option_of_a_component_is_described(name: str) -> None:
    """Where editors and `help` look."""
    init = COMPONENTS[name].__init__
    parameters = [*inspect.signature(init).parameters][1:]
    section = inspect.getdoc(init).partition("Args:\n")[2].partition("\n\n")[0]
    told = re.findall(r"^    (\w+): \S", section, re.MULTILINE)
    assert parameters and sorted(told) == sorted(parameters)


# Usage


async def ask_langchain(options: dict[str, Any], texts: list[str]) -> list[int]:
    made = [langchain_jinaclip.JinaClipEmbeddings(**options) for _ in texts]
    await asyncio.gather(*(one.aembed_query(text) for one, text in zip(made, texts, strict=True)))
    return [one.clip.usage.tokens for one in made]


async def ask_llamaindex(options: dict[str, Any], texts: list[str]) -> list[int]:
    made = [llamaindex_jinaclip.JinaClipEmbedding(**options) for _ in texts]
    await asyncio.gather(*(one.aget_query_embedding(text) for one, text in zip(made, texts, strict=True)))
    return [one.clip.usage.tokens for one in made]


async def ask_haystack(options: dict[str, Any], texts: list[str]) -> list[int]:
    one = haystack_jinaclip.JinaClipTextEmbedder(**{**options, "api_key": Secret.from_token(options["api_key"])})
    found = await asyncio.gather(*(one.run_async(text) for text in texts))
    return [answer["meta"]["usage"]["total_tokens"] for answer in found]


ASK = {"langchain": ask_langchain, "llamaindex": ask_llamaindex, "haystack": ask_haystack}
"""A call for each text, all at once: what each was billed. They share requests, as they have one key."""


@pytest.mark.parametrize("host", ASK)
async def test_what_fifty_calls_at_once_are_billed_adds_up_to_the_bill_and_each_has_its_share(
    host: str, server: Server, jinaclip_api_key: str, tmp_path: Path
) -> None:
    server.configure(base_ms=20)
    texts = ["a red dress " * (number // 5 + 1) + str(number) for number in range(50)]
    options = {"api_key": jinaclip_api_key, "base_url": server.url, "cache": tmp_path / "vectors.sqlite"}
    tokens = await ASK[host](options, texts)
    ledger = server.ledger()
    assert sum(tokens) == ledger["tokens"]
    assert ledger["requests"] < 50, "they were merged"
    assert min(tokens) > 0 and tokens[-1] > 3 * tokens[0]


@pytest.mark.slow
@pytest.mark.parametrize("host", ASK)
async def test_what_one_host_paid_for_costs_no_host_anything(
    host: str, server: Server, jinaclip_api_key: str, tmp_path: Path
) -> None:
    texts = [f"a red dress {number}" for number in range(20)]
    options = {"api_key": jinaclip_api_key, "base_url": server.url, "cache": tmp_path / "vectors.sqlite"}
    assert sum(await ASK[host](options, texts)) == server.ledger()["tokens"] > 0
    server.reset()
    for ask in ASK.values():
        assert await ask(options, texts) == [0] * 20
    assert server.ledger()["requests"] == 0


# Closing

NO_CLIP = {"llamaindex_jinaclip.SkippedNode"}
"""Plain values."""
Parts = dict[str, Any]
"""What adapters are made of: options for each host, and LangChain's and LlamaIndex's embeddings."""


def langchain_store(parts: Parts) -> InMemoryVectorStore:
    return InMemoryVectorStore(parts["embeddings"])


def haystack_retriever(parts: Parts) -> Any:
    embedder = haystack_jinaclip.JinaClipQueryEmbedder(**parts["haystack"])
    finder = InMemoryEmbeddingRetriever(InMemoryDocumentStore())
    return haystack_jinaclip.JinaClipRetriever(retriever=finder, embedder=embedder)


MAKE: dict[str, Callable[[Parts], Any]] = {
    "langchain_jinaclip.JinaClipEmbeddings": lambda parts: parts["embeddings"],
    "langchain_jinaclip.JinaClipDiversifier": lambda parts: langchain_jinaclip.JinaClipDiversifier(
        embeddings=parts["embeddings"]
    ),
    "langchain_jinaclip.JinaClipRetriever": lambda parts: langchain_jinaclip.JinaClipRetriever(
        vectorstore=langchain_store(parts)
    ),
    "langchain_jinaclip.JinaClipTool": lambda parts: langchain_jinaclip.JinaClipRetriever(
        vectorstore=langchain_store(parts)
    ).as_tool(),
    "llamaindex_jinaclip.JinaClipEmbedding": lambda parts: parts["embedding"],
    "llamaindex_jinaclip.JinaClipDiversifier": lambda parts: llamaindex_jinaclip.JinaClipDiversifier(
        embed_model=parts["embedding"]
    ),
    "llamaindex_jinaclip.JinaClipRetriever": lambda parts: llamaindex_jinaclip.JinaClipRetriever(
        VectorStoreIndex([], embed_model=parts["embedding"]), parts["embedding"]
    ),
    "haystack_jinaclip.JinaClipRetriever": haystack_retriever,
    "haystack_jinaclip.JinaClipZeroShotRouter": lambda parts: haystack_jinaclip.JinaClipZeroShotRouter(
        labels=["red", "blue"], **parts["haystack"]
    ),
}
"""How to make each; Haystack's others take options alone."""


def clip_of(adapter: Any) -> JinaClip:
    held = getattr(adapter, "embedder", adapter)
    return held.handle.get() if hasattr(held, "handle") else held.clip


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name not in NO_CLIP])
async def test_with_and_close_give_connections_back_and_what_is_closed_works_again(
    name: str, server: Server, jinaclip_api_key: str
) -> None:
    options = {"base_url": server.url, "api_key": jinaclip_api_key}
    parts = {
        "embeddings": langchain_jinaclip.JinaClipEmbeddings(**options),
        "embedding": llamaindex_jinaclip.JinaClipEmbedding(**options),
        "haystack": {**options, "api_key": Secret.from_token(jinaclip_api_key)},
    }
    one = MAKE[name](parts) if name in MAKE else ADAPTERS[name](**parts["haystack"])

    async def connections() -> int:
        await clip_of(one).aembed_query("red")
        return server.ledger()["connections"]

    with one as entered:
        assert entered is one
        assert await connections() == await connections() == 1
    assert await connections() == 2
    async with one as entered:
        assert entered is one
    assert await connections() == 3
    one.close()
    one.close()
    assert await connections() == 4
    await (one.aclose if hasattr(one, "aclose") else one.close_async)()
    assert await connections() == 5
