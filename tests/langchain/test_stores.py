"""Texts, pictures and fused documents of the catalogue in real stores, over both backends."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.stores import InMemoryByteStore
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore

from jinaclip import fuse
from jinaclip.errors import BadResponseError
from jinaclip.testing.process import Server
from jinaclip.testing.vectors import expected_vector
from langchain_jinaclip import JinaClipEmbeddings, JinaClipRetriever
from tests.articles import Article
from tests.langchain.conftest import Make, new_chroma, over_stores_and_backends, put

NewStore = Callable[..., VectorStore]
K = 5


def metadata(shown: Article) -> dict[str, str]:
    return {"id": shown.id, "image": str(shown.picture), "category": shown.category}


def fill(
    store: VectorStore, catalogue: list[Article], vectors: list[list[float]], *, titles: bool = True
) -> VectorStore:
    texts = [shown.title if titles else "" for shown in catalogue]
    put(store, [shown.id for shown in catalogue], vectors, texts, [metadata(shown) for shown in catalogue])
    return store


def found(documents: list[Document]) -> list[str]:
    return [document.metadata["id"] for document in documents]


def ranking(catalogue: list[Article], vectors: Any, query: Any, k: int = K) -> list[str]:
    """What exact search must find, by the core's vectors alone."""
    return [catalogue[i].id for i in np.argsort(-(np.array(vectors) @ np.array(query)), kind="stable")[:k]]


@pytest.fixture(scope="session")
def pictures(both: dict[str, JinaClipEmbeddings], catalogue: list[Article]) -> dict[str, list[list[float]]]:
    """The vectors of the catalogue's pictures, by backend."""
    return {name: one.embed_images([shown.picture for shown in catalogue]) for name, one in both.items()}


def queries(catalogue: list[Article]) -> list[Any]:
    """Texts in two languages, pictures, and both."""
    first, second = catalogue[3], catalogue[17]
    return [
        first.title,
        second.german,
        {"image": first.picture},
        {"image": str(second.picture)},
        {"text": first.title, "image": second.picture},
    ]


def vector_of(clip: Any, query: Any) -> Any:
    if isinstance(query, str):
        return clip.embed_query(query)
    image = clip.embed_image(query["image"])
    return fuse(clip.embed_query(query["text"]), image) if "text" in query else image


@over_stores_and_backends
def test_every_store_ranks_pictures_as_exact_search_over_the_core_does_sync_and_async(
    new_store: NewStore, embeddings: JinaClipEmbeddings, pictures: Any, catalogue: list[Article]
) -> None:
    vectors = pictures[embeddings.backend]
    retriever = JinaClipRetriever(vectorstore=fill(new_store(embeddings), catalogue, vectors), k=K)
    for query in queries(catalogue):
        expected = ranking(catalogue, vectors, vector_of(embeddings.clip, query))
        assert found(retriever.invoke(query)) == expected
        assert found(asyncio.run(retriever.ainvoke(query))) == expected


def test_both_backends_rank_alike_and_may_share_an_index(
    new_store: NewStore, both: Any, pictures: Any, catalogue: Any
) -> None:
    """What one backend has indexed, the other finds: nobody indexes again to change between them."""
    filled = fill(new_store(both["local"]), catalogue, pictures["local"])
    at_home = JinaClipRetriever(vectorstore=filled, k=K)
    hosted = JinaClipRetriever(vectorstore=filled, embeddings=both["api"], k=K)
    for query in queries(catalogue):
        assert found(at_home.invoke(query)) == found(hosted.invoke(query))


@pytest.mark.slow
def test_a_picture_is_found_by_itself_and_a_title_finds_its_kind(
    new_store: NewStore, both: Any, pictures: Any, catalogue: Any
) -> None:
    retriever = JinaClipRetriever(vectorstore=fill(new_store(both["local"]), catalogue, pictures["local"]), k=10)
    for shown in catalogue[:5]:
        assert retriever.invoke({"image": shown.picture})[0].metadata["id"] == shown.id
    hits = [shown.id in found(retriever.invoke(shown.title)) for shown in catalogue[::3]]
    assert sum(hits) >= 0.9 * len(hits)


@pytest.mark.slow
@over_stores_and_backends
def test_texts_go_in_and_out_by_the_stores_own_methods(
    new_store: NewStore, embeddings: JinaClipEmbeddings, catalogue: Any
) -> None:
    """`add_documents`, `similarity_search` and `as_retriever`, sync and async, as with any embeddings."""
    store = new_store(embeddings)
    store.add_documents([Document(shown.title, metadata=metadata(shown)) for shown in catalogue[:20]])
    titles = embeddings.clip.embed_documents([shown.title for shown in catalogue[:20]])
    for shown in catalogue[:3]:
        expected = ranking(catalogue, titles, embeddings.clip.embed_query(shown.german), 3)
        assert found(store.similarity_search(shown.german, k=3)) == expected
        assert found(asyncio.run(store.asimilarity_search(shown.german, k=3))) == expected
        assert found(store.as_retriever(search_kwargs={"k": 3}).invoke(shown.german)) == expected


@pytest.mark.slow
@over_stores_and_backends
def test_fused_documents_are_found_by_text_by_picture_and_by_both(
    new_store: NewStore, embeddings: Any, catalogue: Any
) -> None:
    fused = embeddings.embed_pairs([(shown.title, shown.picture) for shown in catalogue[:24]])
    retriever = JinaClipRetriever(vectorstore=fill(new_store(embeddings), catalogue[:24], fused), k=K)
    for shown in catalogue[:5]:
        for query in (shown.title, {"image": shown.picture}, {"text": shown.title, "image": shown.picture}):
            document = retriever.invoke(query)[0]
            assert found([document]) == [shown.id]
            assert (document.page_content, document.metadata["image"]) == (shown.title, str(shown.picture))


@pytest.mark.slow
@over_stores_and_backends
def test_runnable_batch_asks_from_many_threads(
    new_store: NewStore, embeddings: Any, pictures: Any, catalogue: Any
) -> None:
    filled = fill(new_store(embeddings), catalogue, pictures[embeddings.backend])
    retriever = JinaClipRetriever(vectorstore=filled, k=K)
    asked = [query for shown in catalogue[:6] for query in (shown.title, {"image": shown.picture})]
    expected = [found(retriever.invoke(query)) for query in asked]
    assert [found(one) for one in retriever.batch(asked, {"max_concurrency": 8})] == expected
    assert [found(one) for one in asyncio.run(retriever.abatch(asked))] == expected
    with ThreadPoolExecutor(4) as pool:  # a loop of its own in each thread
        runs = pool.map(lambda query: found(asyncio.run(retriever.ainvoke(query))), asked)
        assert list(runs) == expected


def test_chroma_adds_and_finds_images_with_our_vectors(both: Any, catalogue: list[Article]) -> None:
    """With only `embed_images`, Chroma would index the base64 of the file under a text model of its own."""
    embeddings, chosen = both["local"], catalogue[:8]
    store: Any = new_chroma(embeddings, 128, [])
    uris = [str(shown.picture) for shown in chosen]
    store.add_images(uris=uris, metadatas=[metadata(shown) for shown in chosen], ids=[shown.id for shown in chosen])
    held = store.get(ids=[chosen[0].id], include=["embeddings"])["embeddings"][0]
    assert np.allclose(held, embeddings.embed_image(uris[0]), atol=1e-6)
    for form in (uris[2], chosen[2].picture):
        assert found(store.similarity_search_by_image(uri=form, k=1)) == [chosen[2].id]
    with pytest.raises(ValueError):  # Chroma 1.1.0 hands on a nested list; when this passes, the README may say so
        store.similarity_search_by_image_with_relevance_score(uri=uris[2], k=1)
    scored = store.similarity_search_by_vector_with_relevance_scores(embeddings.embed_image(uris[2]), k=1)
    assert found([document for document, _ in scored]) == [chosen[2].id]


def test_pictures_that_chroma_made_content_do_not_come_back_as_content(both: Any, catalogue: list[Article]) -> None:
    store: Any = new_chroma(both["local"], 128, [])
    uris = [str(shown.picture) for shown in catalogue[:3]]
    store.add_images(uris=uris, metadatas=[metadata(shown) for shown in catalogue[:3]])
    raw = store.similarity_search_by_image(uri=uris[0], k=3)
    assert all(len(document.page_content) > 1000 for document in raw)
    ours = JinaClipRetriever(vectorstore=store).invoke({"image": uris[0]})
    assert (
        {document.page_content for document in ours} == {document.metadata["image"] for document in ours} == set(uris)
    )


def test_a_filter_and_a_number_hold_for_one_call(
    new_store: NewStore, kind: str, both: Any, pictures: Any, catalogue: Any
) -> None:
    retriever = JinaClipRetriever(vectorstore=fill(new_store(both["local"]), catalogue, pictures["local"]), k=K)
    wanted = catalogue[0].category
    if kind == "qdrant":
        from qdrant_client.models import FieldCondition, Filter, MatchValue

        chosen: Any = Filter(must=[FieldCondition(key="metadata.category", match=MatchValue(value=wanted))])
    elif kind == "chroma":
        chosen = {"category": wanted}
    else:
        chosen = lambda document: document.metadata["category"] == wanted  # noqa: E731
    kinds = {shown.id: shown.category for shown in catalogue}
    ranked = ranking(catalogue, pictures["local"], vector_of(both["local"].clip, "dress"), len(catalogue))
    expected = [one for one in ranked if kinds[one] == wanted][:7]
    assert found(retriever.invoke("dress", filter=chosen, k=7)) == expected
    always = JinaClipRetriever(vectorstore=retriever.vectorstore, k=7, search_kwargs={"filter": chosen})
    assert found(asyncio.run(always.ainvoke("dress"))) == expected
    assert len(retriever.invoke("dress")) == K


@pytest.mark.usefixtures("hasty")
def test_a_store_never_loses_documents_to_a_short_answer(make: Make, server: Server) -> None:
    """InMemoryVectorStore pairs documents and vectors without counting: missing vectors would drop documents."""
    store = InMemoryVectorStore(make(max_retries=1))
    server.configure(fault_rate=1.0, faults=["short_reply"])
    with pytest.raises(BadResponseError):
        store.add_texts(["one", "two", "three"])
    assert store.store == {}


def test_building_stores_and_retrievers_costs_no_request(new_store: NewStore, make: Make, server: Server) -> None:
    JinaClipRetriever(vectorstore=new_store(make(), 1024)).as_tool()
    assert server.ledger()["received"] == {}


def test_an_in_memory_store_is_saved_and_read_again(make: Make, tmp_path: Path) -> None:
    """float32 would be dumped and fail to load."""
    store = InMemoryVectorStore.from_texts(["a", "b"], make())
    store.dump(str(tmp_path / "store.json"))
    again = InMemoryVectorStore.load(str(tmp_path / "store.json"), make())
    assert again.similarity_search("a", k=2) == store.similarity_search("a", k=2)


def test_a_cache_gives_the_same_vectors_and_asks_once(make: Make, server: Server) -> None:
    embeddings = make()
    documents, asked = InMemoryByteStore(), InMemoryByteStore()
    cached = CacheBackedEmbeddings.from_bytes_store(
        embeddings,
        documents,
        namespace=embeddings.clip.space,
        query_embedding_cache=asked,
        key_encoder="sha256",
    )
    for _ in range(2):
        assert cached.embed_documents(["a", "b"]) == embeddings.embed_documents(["a", "b"])
        assert cached.embed_query("a") == embeddings.embed_query("a")
    requests = server.ledger()["answered"]
    cached.embed_documents(["a", "b"])
    cached.embed_query("a")
    assert server.ledger()["answered"] == requests
    assert cached.embed_query("a") != cached.embed_documents(["a"])[0], "a shared store would mix the two up"


def test_a_cache_is_not_taken_for_that_of_other_settings(make: Make) -> None:
    shared = InMemoryByteStore()
    for options in ({}, {"dimensions": 64}, {"model": "jina-clip-v1"}, {"normalized": False}):
        embeddings = make(**options)
        cached = CacheBackedEmbeddings.from_bytes_store(
            embeddings, shared, namespace=embeddings.clip.space, key_encoder="sha256"
        )
        assert cached.embed_documents(["a"]) == embeddings.embed_documents(["a"])


def test_a_retriever_looks_through_a_cache_for_image_methods(make: Make, tmp_path: Path) -> None:
    """CacheBackedEmbeddings hides them."""
    embeddings = make()
    cached = CacheBackedEmbeddings.from_bytes_store(embeddings, InMemoryByteStore(), key_encoder="sha256")
    retriever = JinaClipRetriever(vectorstore=InMemoryVectorStore(cached))
    assert retriever.embeddings is embeddings


def test_a_store_with_other_embeddings_is_refused() -> None:
    from langchain_core.embeddings import DeterministicFakeEmbedding

    with pytest.raises(ValueError, match=r"DeterministicFakeEmbedding.*embeddings="):
        JinaClipRetriever(vectorstore=InMemoryVectorStore(DeterministicFakeEmbedding(size=8)))


def test_the_indexing_api_skips_what_it_has(new_store: NewStore, make: Make, server: Server) -> None:
    store, records = new_store(make(), 1024), InMemoryRecordManager("shop")
    records.create_schema()
    documents = [Document(text, metadata={"source": text}) for text in ("a", "b", "c")]
    name = lambda document: str(uuid.uuid5(uuid.NAMESPACE_OID, document.page_content))  # noqa: E731  Qdrant wants UUIDs
    options = {"cleanup": "incremental", "source_id_key": "source", "key_encoder": name}
    assert index(documents, records, store, **options)["num_added"] == 3
    answered = server.ledger()["answered"]
    assert index(documents, records, store, **options)["num_skipped"] == 3
    assert server.ledger()["answered"] == answered
    assert {document.page_content for document in store.similarity_search("a", k=3)} == {"a", "b", "c"}


def test_vectors_are_json(make: Make) -> None:
    vectors = make().embed_documents(["a"])
    assert json.loads(json.dumps(vectors)) == vectors
    assert np.allclose(vectors[0], expected_vector("text", "a"), atol=1e-6)
