"""Re-ranking by the vectors that a store keeps: nothing is embedded again; where that cannot be, it says so once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from jinaclip import ImagePolicy
from jinaclip.retrieval import diversify
from jinaclip.testing.process import Server
from langchain_jinaclip import JinaClipDiversifier, JinaClipEmbeddings, JinaClipRetriever, add_documents
from langchain_jinaclip.stores import find_vectors
from tests.langchain.conftest import Make, put
from tests.langchain.test_compressor import ordered
from tests.langchain.test_embeddings import picture

COUNT = 10


@pytest.fixture
def shop(make: Make, tmp_path: Path) -> JinaClipEmbeddings:
    return make(image_policy=ImagePolicy(allowed_roots=(tmp_path,)))


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    names = [str(tmp_path / f"{seed}.png") for seed in range(COUNT)]
    for seed, name in enumerate(names):
        picture(seed, (30, 20)).save(name)
    return names


@pytest.fixture
def filled(new_store: Callable[..., VectorStore], shop: JinaClipEmbeddings, images: list[str]) -> VectorStore:
    store = new_store(shop, 1024)
    put(store, images, shop.embed_images(images), images, [{"image": image} for image in images])
    return store


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kmeans", "mmr"])
def test_the_vectors_of_the_store_give_the_order_that_embedding_again_gives_for_nothing(
    filled: VectorStore, shop: JinaClipEmbeddings, server: Server, method: Any
) -> None:
    options: dict[str, Any] = {"embeddings": shop, "method": method, "lambda_mult": 0.2}
    documents = JinaClipRetriever(vectorstore=filled, k=COUNT).invoke("a dress")
    expected = ordered(JinaClipDiversifier(**options), documents)
    embedded = server.ledger()["images"]
    assert ordered(JinaClipDiversifier(**options, vectorstore=filled), documents) == expected
    assert server.ledger()["images"] == embedded


def test_a_whole_search_sends_the_query_alone(filled: VectorStore, shop: JinaClipEmbeddings, server: Server) -> None:
    search = ContextualCompressionRetriever(
        base_retriever=JinaClipRetriever(vectorstore=filled, k=COUNT),
        base_compressor=JinaClipDiversifier(embeddings=shop, vectorstore=filled, top_n=3),
    )
    before = server.ledger()
    assert len(search.invoke("a dress")) == len(asyncio.run(search.ainvoke("a dress"))) == 3
    after = server.ledger()
    assert (after["texts"] - before["texts"], after["images"] - before["images"]) == (2, 0)


def test_a_document_that_the_store_does_not_have_is_embedded(
    filled: VectorStore, shop: JinaClipEmbeddings, server: Server, images: list[str]
) -> None:
    documents = JinaClipRetriever(vectorstore=filled, k=COUNT - 1).invoke("a dress")
    documents.append(Document("a stranger", metadata={"image": images[0]}))
    before = server.ledger()["images"]
    JinaClipDiversifier(embeddings=shop, vectorstore=filled).compress_documents(documents, "a dress")
    assert server.ledger()["images"] == before + 1


class Unknown(VectorStore):
    """A store of a kind whose vectors cannot be read."""

    def similarity_search(self, *_: Any, **__: Any) -> list[Document]:
        return []

    @classmethod
    def from_texts(cls, *_: Any, **__: Any) -> Unknown:
        return cls()


@pytest.mark.parametrize("store", [None, Unknown()], ids=["without", "unknown"])
def test_what_embedding_again_costs_is_said_once(
    shop: JinaClipEmbeddings, images: list[str], store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    documents = [Document(image, metadata={"image": image}) for image in images]
    documents.append(Document("no image"))
    diversifier = JinaClipDiversifier(embeddings=shop, vectorstore=store)
    billed = shop.clip.usage.tokens
    with caplog.at_level(logging.WARNING):
        first = diversifier.compress_documents(documents, "a")
        billed = shop.clip.usage.tokens - billed
        assert asyncio.run(diversifier.acompress_documents(documents, "a")) == first
    [record] = [one for one in caplog.records if "each search" in one.message]
    assert f"{COUNT} images here, about {billed} tokens" in record.message
    assert "vectorstore=" in record.message and "vector_key=" in record.message


def test_what_the_cache_has_costs_nothing_and_is_not_said(
    shop: JinaClipEmbeddings, images: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cached = shop.model_copy(update={"cache": tmp_path / "vectors.sqlite"})
    cached.embed_images(images[1:])
    documents = [Document(image, metadata={"image": image}) for image in images]
    with caplog.at_level(logging.WARNING):
        JinaClipDiversifier(embeddings=cached).compress_documents(documents[1:], "a")
        assert caplog.text == ""
        JinaClipDiversifier(embeddings=cached).compress_documents(documents, "a")
    assert "1 images here, about 4000 tokens" in caplog.text


def test_nothing_is_said_where_nothing_is_embedded(
    filled: VectorStore, shop: JinaClipEmbeddings, caplog: pytest.LogCaptureFixture
) -> None:
    documents = JinaClipRetriever(vectorstore=filled, k=COUNT).invoke("a dress")
    with caplog.at_level(logging.WARNING):
        JinaClipDiversifier(embeddings=shop, vectorstore=filled).compress_documents(documents, "a")
        JinaClipDiversifier(embeddings=shop).compress_documents([Document("a text")], "a")
        JinaClipDiversifier(embeddings=shop).compress_documents([], "a")
    assert caplog.text == ""


def test_what_was_embedded_as_a_text_is_no_image_whatever_its_metadata_names(
    shop: JinaClipEmbeddings, server: Server, images: list[str]
) -> None:
    """Chunks of a text beside the image that it is about, as `add_documents` marks them."""
    store = InMemoryVectorStore(shop)
    add_documents(store, [Document("", metadata={"image": image}) for image in images])
    chunks = add_documents(
        store, [Document(f"chunk {n}", metadata={"image": images[0]}) for n in range(3)], weight=1
    ).ids
    documents = JinaClipRetriever(vectorstore=store, k=COUNT + 3).invoke("a dress")
    places = [place for place, one in enumerate(documents) if one.id in chunks]
    before = server.ledger()["images"]
    for given in ({"vectorstore": store}, {}):
        result = ordered(JinaClipDiversifier(embeddings=shop, **given), documents)
        assert [result[place].page_content for place in places] == [documents[place].page_content for place in places]
    assert server.ledger()["images"] == before + 2 * COUNT, "and its image is not embedded either"


def test_vectors_in_the_metadata_go_first(filled: VectorStore, shop: JinaClipEmbeddings, images: list[str]) -> None:
    own = shop.embed_documents([f"text {n}" for n in range(COUNT)])
    documents = JinaClipRetriever(vectorstore=filled, k=COUNT).invoke("a dress")
    for document, vector in zip(documents, own, strict=True):
        document.metadata["vector"] = vector
    diversifier = JinaClipDiversifier(embeddings=shop, vectorstore=filled, vector_key="vector")
    expected = [documents[place] for place in diversify(own, COUNT)]
    assert diversifier.compress_documents(documents, "a") == expected


class LanceDB(Unknown):
    """The class of langchain-community, as far as its table is concerned: a real one."""

    def __init__(self, table: Any) -> None:
        self.get_table = lambda: table


class FAISS(Unknown):
    """The class of langchain-community, as far as its index is concerned: a real one."""

    def __init__(self, index: Any, ids: dict[int, str]) -> None:
        self.index, self.index_to_docstore_id = index, ids


@pytest.mark.slow
def test_vectors_are_read_out_of_lancedb_by_the_id_that_the_metadata_has(tmp_path: Path) -> None:
    import lancedb

    rows = [{"id": id_, "vector": [float(n), 1.0], "text": id_} for n, id_ in enumerate(["a", "it's", "c"])]
    store = LanceDB(lancedb.connect(tmp_path).create_table("shop", rows))
    documents = [Document("", metadata={"id": id_}) for id_ in ("it's", "missing", "a")] + [Document("no id")]
    assert find_vectors(store, documents) == [[1.0, 1.0], None, [0.0, 1.0], None]
    other = lancedb.connect(tmp_path).create_table("other", [{"key": "a", "embedding": [1.0, 1.0]}])
    assert find_vectors(LanceDB(other), documents) == [None] * 4, "columns of other names"


def test_vectors_are_read_out_of_faiss_by_id() -> None:
    import faiss

    index = faiss.IndexFlatL2(2)
    index.add(np.array([[0, 1], [1, 1]], np.float32))
    documents = [Document("", id=id_) for id_ in ("b", "missing", "a")]
    b, missing, a = find_vectors(FAISS(index, {0: "a", 1: "b"}), documents)
    assert (b.tolist(), missing, a.tolist()) == ([1.0, 1.0], None, [0.0, 1.0])
