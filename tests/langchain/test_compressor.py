"""Search results re-ordered by JinaClipDiversifier, so that the first ones look different."""

from __future__ import annotations

import asyncio
import base64
import copy
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore
from pydantic import ValidationError

from jinaclip import ConfigError, ImagePolicy
from jinaclip.retrieval import diversify
from jinaclip.testing.process import Server
from langchain_jinaclip import JinaClipDiversifier, JinaClipEmbeddings, JinaClipRetriever
from tests.articles import Article
from tests.langchain.conftest import Make, new_chroma, over_stores_and_backends
from tests.langchain.test_embeddings import encoded, picture
from tests.langchain.test_stores import fill, found

KINDS: tuple[Any, ...] = ("kmeans", "mmr")


def ordered(diversifier: JinaClipDiversifier, documents: Any) -> list[Document]:
    """The documents in their new order, the same sync and async; what is passed in stays as it is."""
    before = copy.deepcopy(documents)
    sync = diversifier.compress_documents(documents, "a red dress")
    assert asyncio.run(diversifier.acompress_documents(documents, "a red dress")) == sync
    assert documents == before
    return sync


def of(shown: Article, text: str = "", **facts: Any) -> Document:
    return Document(text, metadata={"id": shown.id, "image": str(shown.picture), **facts})


@pytest.mark.slow
@over_stores_and_backends
def test_a_store_s_results_come_in_the_order_that_diversify_gives_their_pictures(
    new_store: Any, embeddings: JinaClipEmbeddings, catalogue: list[Article]
) -> None:
    shown = catalogue[:40]
    pictures = embeddings.clip.embed_images([one.picture for one in shown])
    store: VectorStore = fill(new_store(embeddings), shown, pictures.tolist())
    base = JinaClipRetriever(vectorstore=store, k=12)
    best = found(base.invoke("a dress"))
    places = {one.id: place for place, one in enumerate(shown)}
    for method in KINDS:
        order = diversify(pictures[[places[one] for one in best]], 6, clusters=4, method=method)
        expected = [best[place] for place in order]
        assert expected != best[:6]
        diversifier = JinaClipDiversifier(embeddings=embeddings, top_n=6, clusters=4, method=method)
        search = ContextualCompressionRetriever(base_retriever=base, base_compressor=diversifier)
        assert found(search.invoke("a dress")) == expected
        assert found(asyncio.run(search.ainvoke("a dress"))) == expected


def test_nothing_in_gives_nothing_out_without_a_key(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JINA_API_KEY", "jina_test_here_alone")
    of_the_environment = pickle.dumps(make(api_key=None))
    monkeypatch.delenv("JINA_API_KEY")
    monkeypatch.delenv("JINAAI_API_KEY", raising=False)
    keyless = pickle.loads(of_the_environment)
    for method in KINDS:
        assert ordered(JinaClipDiversifier(embeddings=keyless, method=method), []) == []


@pytest.mark.parametrize("method", KINDS)
def test_a_document_without_a_picture_keeps_its_place(
    both: Any, catalogue: list[Article], method: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Texts, files that are gone or broken, addresses that the policy refuses: none is dropped, none stops the rest."""
    letters = base64.b64encode(b"\xff\xd8\xff" + bytes(90)).decode()
    texts = [Document("a text"), Document("gone", metadata={"image": "no-such.png"}), Document(letters)]
    texts.append(Document("refused", metadata={"image": "https://127.0.0.1/a.png"}))
    texts.append(Document("a block", metadata={"image": {"type": "image", "file_id": "x"}}))
    documents = [of(shown) for shown in catalogue[:12]]
    places = (0, 3, 4, 9, 10)
    for place, document in zip(places, texts, strict=True):
        documents.insert(place, document)
    with caplog.at_level(logging.WARNING):
        result = ordered(JinaClipDiversifier(embeddings=both["local"], clusters=3, method=method), documents)
    assert [result[place] for place in places] == texts
    assert sorted(map(repr, result)) == sorted(map(repr, documents))
    assert result != documents, "the others moved"
    assert caplog.text.count("counts as one without an image") == 4 * 2
    assert "result 10 counts as one without an image: a content block" in caplog.text


@pytest.mark.slow
def test_the_base64_that_chroma_made_content_is_embedded_as_a_picture(both: Any, catalogue: list[Article]) -> None:
    chosen = catalogue[:12]
    store: Any = new_chroma(both["local"], 128, [])
    store.add_images(uris=[str(shown.picture) for shown in chosen], metadatas=[{"id": shown.id} for shown in chosen])
    documents = store.similarity_search("a dress", k=12)
    assert all(len(document.page_content) > 1000 for document in documents)
    named = [of(next(shown for shown in chosen if shown.id == one)) for one in found(documents)]
    diversifier = JinaClipDiversifier(embeddings=both["local"], clusters=4)
    assert found(ordered(diversifier, documents)) == found(ordered(diversifier, named)) != found(documents)


def test_vectors_in_the_metadata_are_used_and_nothing_is_sent(
    make: Make, server: Server, both: Any, catalogue: list[Article]
) -> None:
    vectors = both["local"].embed_images([shown.picture for shown in catalogue[:12]])
    documents = [of(shown, vector=vector) for shown, vector in zip(catalogue[:12], vectors, strict=True)]
    expected = [documents[place] for place in diversify(vectors, 12)]
    assert ordered(JinaClipDiversifier(embeddings=make(), vector_key="vector"), documents) == expected
    assert server.ledger()["received"] == {}


def test_only_the_pictures_without_a_vector_are_embedded(make: Make, server: Server, tmp_path: Path) -> None:
    embeddings = make(image_policy=ImagePolicy(allowed_roots=(tmp_path,)))
    files = [tmp_path / f"{seed}.png" for seed in range(4)]
    for seed, file in enumerate(files):
        picture(seed).save(file)
    vectors = embeddings.embed_images(files)
    billed = embeddings.clip.usage.items
    documents = [Document("", metadata={"image": str(file), "vector": None}) for file in files]
    for document, vector in zip(documents[:3], vectors, strict=False):
        document.metadata["vector"] = vector
    diversifier = JinaClipDiversifier(embeddings=embeddings, vector_key="vector", method="mmr", lambda_mult=0.2)
    assert diversifier.compress_documents(documents, "a") == [
        documents[place] for place in diversify(vectors, 4, method="mmr", lambda_mult=0.2)
    ]
    assert embeddings.clip.usage.items == billed + 1


def test_vectors_of_texts_count_for_mmr_and_not_for_pictures_alone(make: Make) -> None:
    rows = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]
    documents = [Document(str(place), metadata={"vector": row}) for place, row in enumerate(rows)]
    options = {"embeddings": make(), "vector_key": "vector", "clusters": 2, "lambda_mult": 0.3}
    assert ordered(JinaClipDiversifier(**options, method="mmr"), documents) == [documents[i] for i in (0, 2, 1)]
    assert ordered(JinaClipDiversifier(**options), documents) == documents


def test_callbacks_are_accepted_and_a_pipeline_passes_them_on(both: Any, catalogue: list[Article]) -> None:
    documents = [of(shown) for shown in catalogue[:8]]
    diversifier = JinaClipDiversifier(embeddings=both["local"], clusters=3)
    expected = diversifier.compress_documents(tuple(documents), "a", callbacks=[BaseCallbackHandler()])
    pipeline = DocumentCompressorPipeline(transformers=[diversifier])
    assert pipeline.compress_documents(documents, "a", callbacks=[BaseCallbackHandler()]) == expected
    assert asyncio.run(pipeline.acompress_documents(documents, "a", callbacks=[BaseCallbackHandler()])) == expected


WRONG = [{"top_n": 0}, {"clusters": 0}, {"method": "best"}, {"lambda_mult": 1.5}, {"seed": -1}, {"k": 4}]


@pytest.mark.parametrize("option", WRONG, ids=str)
def test_a_wrong_option_is_refused_when_the_object_is_made(make: Make, option: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, ConfigError), match=next(iter(option))):
        JinaClipDiversifier(embeddings=make(), **option)


def test_its_options_and_defaults_are_those_of_diversify() -> None:
    defaults = {name: field.default for name, field in JinaClipDiversifier.model_fields.items()}
    shared = diversify.__kwdefaults__.keys() - {"relevance"}  # the order of the documents says it
    assert {name: defaults[name] for name in shared} == {name: diversify.__kwdefaults__[name] for name in shared}


async def test_the_loop_goes_on_and_a_cancelled_call_ends_while_the_service_is_silent(
    make: Make, server: Server
) -> None:
    server.configure(base_ms=60_000)
    letters = base64.b64encode(encoded(picture(1))).decode()
    diversifier = JinaClipDiversifier(embeddings=make())
    call = asyncio.ensure_future(diversifier.acompress_documents([Document(letters)] * 3, "a"))
    while not await asyncio.to_thread(lambda: server.ledger()["received"]):  # the loop turns while the call waits
        assert not call.done()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    server.reset()


@pytest.mark.slow
def test_options_that_are_changed_later_count(embeddings: JinaClipEmbeddings, catalogue: list[Article]) -> None:
    documents = [of(shown) for shown in catalogue[:8]]
    diversifier = JinaClipDiversifier(embeddings=embeddings, method="mmr", lambda_mult=0.2)
    copied = diversifier.model_copy(update={"top_n": 3})
    wanted = ordered(JinaClipDiversifier(embeddings=embeddings, method="mmr", lambda_mult=1, top_n=2), documents)
    assert len(ordered(copied, documents)) == 3
    diversifier.top_n, diversifier.lambda_mult = 2, 1
    assert ordered(diversifier, documents) == wanted
