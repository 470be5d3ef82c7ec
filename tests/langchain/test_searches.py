"""The kinds of search of LangChain's own retriever, by text, image or both, in real stores, and what traces tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.retrievers import EnsembleRetriever
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore, VectorStoreRetriever
from pydantic import ValidationError

from jinaclip import ConfigError, ImagePolicy, InputError
from jinaclip.testing.process import Server
from langchain_jinaclip import JinaClipEmbeddings, JinaClipRetriever
from tests.langchain.conftest import Make, new_chroma, put
from tests.langchain.test_embeddings import picture
from tests.langchain.test_retriever import Tracer

Shelf = tuple[VectorStore, JinaClipEmbeddings]
WORDS = ["red", "green", "blue", "white", "black", "grey"]


@pytest.fixture
def shelf(make: Make, new_store: Callable[..., VectorStore]) -> Shelf:
    """A store of each kind with texts, the embeddings that filled it, and a number in the metadata."""
    embeddings = make()
    store = graded(new_store(embeddings, 1024))
    put(store, WORDS, embeddings.embed_documents(WORDS), WORDS, [{"n": n} for n in range(len(WORDS))])
    return store, embeddings


def graded(store: Any) -> Any:
    """The store, with relevance from 0 to 1 for Chroma, whose own is negative for vectors as far apart as these."""
    store.override_relevance_score_fn = lambda distance: min(1.0, 1 - distance / 2)
    return store


def both_ways(retriever: BaseRetriever, query: Any, **options: Any) -> list[Document]:
    """The documents found, the same sync and async."""
    found = retriever.invoke(query, **options)
    assert asyncio.run(retriever.ainvoke(query, **options)) == found
    return found


def contents(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


def only(kind: str, number: int) -> dict[str, Any]:
    """An option of the store by which it finds one document."""
    if kind == "memory":
        return {"filter": lambda document: document.metadata["n"] == number}
    if kind == "chroma":
        return {"filter": {"n": number}}
    from qdrant_client.models import FieldCondition, Filter, MatchValue

    return {"filter": Filter(must=[FieldCondition(key="metadata.n", match=MatchValue(value=number))])}


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("similarity", {"k": 3}),
    ("mmr", {"k": 3, "fetch_k": 6, "lambda_mult": 0.3}),
    ("mmr", {"k": 3, "fetch_k": 3, "lambda_mult": 1.0}),
    ("similarity_score_threshold", {"k": 6, "score_threshold": 0.5}),
]


@pytest.mark.parametrize("search", KINDS, ids=["similarity", "mmr", "mmr_relevant", "threshold"])
def test_a_text_finds_what_langchain_s_own_retriever_finds(shelf: Shelf, kind: str, search: Any) -> None:
    """Options in `search_kwargs` and for the call, in both."""
    (store, _), (search_type, options) = shelf, search
    if (kind, search_type) == ("memory", "similarity_score_threshold"):
        with pytest.raises(ValidationError, match="InMemoryVectorStore has no relevance scores"):
            JinaClipRetriever(vectorstore=store, search_type=search_type)
        return
    theirs = VectorStoreRetriever(vectorstore=store, search_type=search_type, search_kwargs=options)
    ours = JinaClipRetriever(vectorstore=store, search_type=search_type, search_kwargs=options)
    assert both_ways(ours, "a red dress") == theirs.invoke("a red dress") != []
    bare = JinaClipRetriever(vectorstore=store, search_type=search_type)
    assert both_ways(bare, "a red dress", **options) == theirs.invoke("a red dress")
    assert contents(both_ways(bare, "a red dress", **{**options, **only(kind, 3)})) in (["white"], [])


@pytest.mark.slow
@pytest.mark.parametrize("search_type", ["similarity", "mmr", "similarity_score_threshold"])
def test_an_image_and_both_go_through_every_kind_of_search(make: Make, search_type: Any) -> None:
    embeddings, store = make(), graded(new_chroma(make(), 1024, []))
    images = [picture(seed) for seed in range(5)]
    put(store, list("abcde"), embeddings.embed_images(images), list("abcde"), [{"n": n} for n in range(5)])
    options = {"score_threshold": 0.9} if search_type == "similarity_score_threshold" else {}
    retriever = JinaClipRetriever(vectorstore=store, search_type=search_type, k=1)
    assert contents(both_ways(retriever, {"image": images[3]}, **options)) == ["d"]
    assert contents(both_ways(retriever, {"text": "in blue", "image": images[3]}, weight=0.01, **options)) == ["d"]
    other = both_ways(retriever, {"text": "in blue", "image": picture(9)}, **options)
    assert (other == []) is bool(options), "nothing is near enough, where a threshold says so"


@pytest.mark.parametrize("search_type", ["similarity", "similarity_score_threshold"])
def test_scores_are_those_of_the_store_and_documents_in_it_stay_as_they_are(
    shelf: Shelf, kind: str, search_type: Any
) -> None:
    store, embeddings = shelf
    if kind == "memory" and search_type != "similarity":
        with pytest.raises(ValidationError):
            JinaClipRetriever(vectorstore=store, search_type=search_type)
        return
    options = {} if search_type == "similarity" else {"score_threshold": 0.0}
    found = both_ways(
        JinaClipRetriever(vectorstore=store, search_type=search_type, score_key="score", k=6), "red", **options
    )
    cosines = np.array(embeddings.embed_documents(contents(found))) @ np.array(embeddings.embed_query("red"))
    raw = 1 - cosines if kind == "chroma" else cosines
    expected = (1 + cosines) / 2 if options else raw
    assert np.allclose([document.metadata["score"] for document in found], expected, atol=1e-4)
    assert all("score" not in document.metadata for document in JinaClipRetriever(vectorstore=store).invoke("red"))


def test_scores_of_mmr_where_the_store_has_them_and_else_a_refusal_when_made(shelf: Shelf, kind: str) -> None:
    store, _ = shelf
    options: dict[str, Any] = {"vectorstore": store, "search_type": "mmr", "score_key": "score"}
    if kind != "qdrant":
        with pytest.raises(ValidationError, match=r"cannot do a 'mmr' search by a vector and give scores.*score_key"):
            JinaClipRetriever(**options)
        return
    assert all(type(one.metadata["score"]) is float for one in both_ways(JinaClipRetriever(**options), "red"))


class Bare(VectorStore):
    """A store that searches by text alone."""

    def __init__(self, embeddings: Any) -> None:
        self._own = embeddings

    @property
    def embeddings(self) -> Any:
        return self._own

    def similarity_search(self, query: str, k: int = 4, **_: Any) -> list[Document]:
        raise AssertionError(query)

    @classmethod
    def from_texts(cls, *_: Any, **__: Any) -> Bare:
        raise NotImplementedError


@pytest.mark.parametrize("search_type", ["similarity", "mmr", "similarity_score_threshold"])
def test_a_store_that_cannot_search_so_is_refused_when_the_retriever_is_made(
    make: Make, server: Server, search_type: Any
) -> None:
    with pytest.raises(ValidationError, match="Bare"):
        JinaClipRetriever(vectorstore=Bare(make()), search_type=search_type)
    assert server.ledger()["received"] == {}


def test_a_threshold_needs_embeddings_that_answer_and_a_number(make: Make, server: Server) -> None:
    cached = CacheBackedEmbeddings.from_bytes_store(make(), InMemoryByteStore(), key_encoder="sha256")
    with pytest.raises(ValidationError, match="CacheBackedEmbeddings"):
        JinaClipRetriever(vectorstore=new_chroma(cached, 1024, []), search_type="similarity_score_threshold")
    retriever = JinaClipRetriever(vectorstore=new_chroma(make(), 1024, []), search_type="similarity_score_threshold")
    with pytest.raises(ConfigError, match="needs score_threshold"):
        retriever.invoke("red")
    with pytest.raises(ValidationError, match="search_type"):
        JinaClipRetriever(vectorstore=InMemoryVectorStore(make()), search_type="hybrid")
    assert server.ledger()["received"] == {}


def test_options_of_a_store_reach_it_under_its_own_names(make: Make) -> None:
    store = new_chroma(make(), 1024, [])
    store.add_texts(["a red dress", "a blue coat"])
    retriever = JinaClipRetriever(vectorstore=store)
    assert contents(both_ways(retriever, "x", where_document={"$contains": "coat"})) == ["a blue coat"]
    with pytest.raises(TypeError, match="nonsense"):
        retriever.invoke("x", nonsense=1)


# -- what merges results of several searches


def test_an_ensemble_keeps_all_images_of_chroma(make: Make, tmp_path: Path) -> None:
    embeddings = make(image_policy=ImagePolicy(allowed_roots=(tmp_path,)))
    store: Any = new_chroma(embeddings, 1024, [])
    uris = [str(tmp_path / f"{seed}.png") for seed in range(8)]
    for seed, uri in enumerate(uris):
        picture(seed, (20, 20)).save(uri)
    store.add_images(uris=uris, metadatas=[{"image": uri} for uri in uris])
    one = JinaClipRetriever(vectorstore=store, k=8)
    ensemble = EnsembleRetriever(retrievers=[one, one])
    found = both_ways(ensemble, "a dress")
    assert sorted(contents(found)) == sorted(uris)
    assert sorted(contents(both_ways(EnsembleRetriever(retrievers=[one], id_key="image"), "a dress"))) == sorted(uris)


@pytest.mark.parametrize("content", ["", "  \u200b", None])
def test_documents_without_content_differ_in_what_they_are_told_by(make: Make, content: str | None) -> None:
    """Rows of images, as a README of a store would add them; an image of its own in the metadata goes by its id."""
    store, embeddings = InMemoryVectorStore(make()), make()
    references = ["a.png", Path("b.png"), "https://example.com/c.png", b"bytes", {"type": "image", "base64": "AAAA"}]
    texts = [content if content is not None else "a title"] * len(references)
    put(store, list("01234"), embeddings.embed_documents(list("abcde")), texts, [{"image": one} for one in references])
    found = contents(JinaClipRetriever(vectorstore=store, k=5).invoke("a"))
    names = ["a.png", "b.png", "https://example.com/c.png", "image 3", "image 4"]
    assert sorted(found) == (names if content is not None else texts)
    assert [row["text"] for row in store.store.values()] == texts, "the store keeps what it has"


# -- traces


class Watch(AsyncCallbackHandler):
    """Keeps the events of retrievers."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    async def on_retriever_start(self, serialized: Any, query: str, *, metadata: Any = None, **_: Any) -> None:
        self.events.append(("start", query, {k: v for k, v in metadata.items() if k[:3] == "ls_"}))

    async def on_retriever_end(self, documents: Any, **_: Any) -> None:
        self.events.append(("end", len(documents)))

    async def on_retriever_error(self, error: BaseException, **_: Any) -> None:
        self.events.append(("error", str(error)))


NAMES = {
    "ls_retriever_name": "jinaclip",
    "ls_vector_store_provider": "InMemoryVectorStore",
    "ls_embedding_provider": "JinaClipEmbeddings",
    "ls_embedding_model": "jina-clip-v2",
}


async def test_every_search_starts_and_ends_in_a_trace_refused_ones_too(make: Make, server: Server) -> None:
    retriever, watch = JinaClipRetriever(vectorstore=InMemoryVectorStore(make())), Watch()
    await retriever.ainvoke("a red dress", {"callbacks": [watch]})
    with pytest.raises(InputError):
        await retriever.ainvoke({"image": "/etc/hostname"}, {"callbacks": [watch]})
    with pytest.raises(ConfigError):
        await retriever.ainvoke("a", {"callbacks": [watch]}, k=0)
    started = ["a red dress", "[unusable query]", "a"]
    assert [event[1:] for event in watch.events if event[0] == "start"] == [(query, NAMES) for query in started]
    assert [event[0] for event in watch.events] == ["start", "end", "start", "error", "start", "error"]
    assert "allowed_roots" in watch.events[3][1]
    tracer = Tracer()
    with pytest.raises(InputError):
        retriever.invoke({}, {"callbacks": [tracer]})
    [run] = tracer.kept
    assert run.run_type == "retriever" and "needs a text" in run.error
    assert NAMES.items() <= run.extra["metadata"].items()
