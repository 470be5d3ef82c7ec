"""The ranker that shows different pictures first."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import warnings
from dataclasses import replace

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.core.errors import PipelineRuntimeError
from haystack.dataclasses import ByteStream
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret

from haystack_jinaclip import (
    JinaClipDiversityRanker,
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipTextEmbedder,
)
from jinaclip import AuthenticationError, ConfigError, MissingDependencyError
from jinaclip.retrieval import diversify
from tests.haystack.conftest import png

SOURCE = {"type": "image", "file_path_meta_field": "file_path"}


def result(name, vector, score=None, **meta) -> Document:
    """A result of a search by picture, as a store hands it over."""
    embedding = [float(number) for number in vector] if vector is not None else None
    return Document(id=name, content=name, embedding=embedding, score=score, meta={"embedding_source": SOURCE, **meta})


def two_kinds(count=6) -> list[Document]:
    """Results of which all but the last two look alike."""
    alike = [result(f"alike-{i}", (1, i / 100, 0)) for i in range(count - 2)]
    return [*alike, *(result(f"other-{i}", (0, i / 100, 1)) for i in range(2))]


def names(given) -> list[str]:
    return [document.id for document in given["documents"]]


@pytest.fixture
def offline(monkeypatch):
    """Neither a key nor a service: whoever asks for them fails."""
    for name in ("JINA_API_KEY", "JINAAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return {"base_url": "http://127.0.0.1:9"}


@pytest.mark.parametrize("method", ["kmeans", "mmr"])
async def test_different_pictures_come_first(offline, run, method) -> None:
    """By the embeddings that the documents carry, as `diversify` orders them; no key is asked for."""
    given = two_kinds()
    made = JinaClipDiversityRanker(**offline, method=method, clusters=2, lambda_mult=0.3)
    wanted = diversify([document.embedding for document in given], 6, method=method, clusters=2, lambda_mult=0.3)
    got = await run(made, given)
    assert got.keys() == {"documents", "meta"} and got["meta"] == {}
    assert names(got) == [given[place].id for place in wanted]
    assert names(got)[:2] == ["alike-0", "other-0"]


async def test_top_k_is_of_the_component_or_of_the_run(offline, run) -> None:
    made, given = JinaClipDiversityRanker(**offline, clusters=2, top_k=3), two_kinds()
    assert names(await run(made, given)) == ["alike-0", "other-0", "alike-1"]
    assert names(await run(made, given, 2)) == ["alike-0", "other-0"]
    assert len(names(await run(made, given, 50))) == 6
    assert len(names(await run(JinaClipDiversityRanker(**offline), given))) == 6


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True])
async def test_a_wrong_top_k_is_a_value_error(offline, run, top_k) -> None:
    """Of the run too, and even where there is nothing to order."""
    for given in (two_kinds(), []):
        with pytest.raises(ValueError, match=r"^top_k=.*at least 1"):
            await run(JinaClipDiversityRanker(**offline), given, top_k)


async def test_no_documents_need_neither_key_nor_network(offline, run) -> None:
    """Nor does a pipeline that warms the ranker up."""
    assert await run(JinaClipDiversityRanker(**offline), []) == {"documents": [], "meta": {}}
    pipe = Pipeline()
    pipe.add_component("ranker", JinaClipDiversityRanker(**offline))
    for given in ([], two_kinds()):
        data = {"ranker": {"documents": given}}
        assert len(pipe.run(data)["ranker"]["documents"]) == len(given)
        assert len((await pipe.run_async(data))["ranker"]["documents"]) == len(given)


@pytest.mark.parametrize("value", [None, "text", [1], (Document(content="a"),), [Document(content="a"), None]])
async def test_what_is_no_list_of_documents_is_refused(offline, run, value) -> None:
    with pytest.raises(TypeError, match="JinaClipDiversityRanker takes a list of Documents"):
        await run(JinaClipDiversityRanker(**offline), value)


async def test_documents_and_scores_stay_as_they_were(hosted, run) -> None:
    """The same objects come out; those without embedding stay without."""
    blob = ByteStream(png(1), mime_type="image/png")
    given = [*two_kinds(), Document(id="bare", blob=blob, score=0.1), Document(content="a text")]
    made = JinaClipDiversityRanker(**hosted, dimensions=64, clusters=2)
    for document in given[:6]:
        document.embedding.extend([0.0] * 61)
    before = copy.deepcopy(given)
    got = (await run(made, given))["documents"]
    assert given == before
    assert {id(document) for document in got} == {id(document) for document in given}
    assert next(document for document in got if document.id == "bare").embedding is None


async def test_scores_count_where_all_have_one(offline, run) -> None:
    """Else the order given does."""
    made = JinaClipDiversityRanker(**offline, clusters=2)
    given = [result("third", (1, 0), 0.1), result("second", (0, 1), 0.5), result("first", (1, 0.01), 0.9)]
    assert names(await run(made, given)) == ["first", "second", "third"]
    given[1] = result("second", (0, 1))
    assert names(await run(made, given)) == ["third", "second", "first"]


async def test_of_documents_with_one_id_the_first_counts(offline, run) -> None:
    """Two retrievers may have found the same one."""
    given = [*two_kinds(), result("alike-0", (0, 0, 1))]
    got = await run(JinaClipDiversityRanker(**offline, clusters=2), given)
    assert sorted(names(got)) == sorted(document.id for document in given[:6])
    assert given[0] in got["documents"] and given[6] not in got["documents"]


async def test_a_document_found_twice_stands_where_it_was_found_first(offline, run) -> None:
    """Of several retrievers' results the last, and worst, place of a document says nothing."""
    given = [result("best", (1, 0)), result("second", (1, 0)), result("third", (1, 0)), result("best", (1, 0))]
    assert names(await run(JinaClipDiversityRanker(**offline), given)) == ["best", "second", "third"]


async def test_what_has_no_picture_keeps_its_place(offline, run) -> None:
    """With "kmeans" texts are left alone, whatever vector they carry; for "mmr" that vector counts too."""
    text = Document(id="text", content="a text", embedding=[0.0, 0.0, 1.0], meta={"file_path": "notes.txt"})
    none = Document(id="none", content="a text")
    given = [*two_kinds()[:1], text, *two_kinds()[1:], none]
    got = names(await run(JinaClipDiversityRanker(**offline, clusters=2), given))
    assert (got[1], got[-1]) == ("text", "none")
    assert got[:3] == ["alike-0", "text", "other-0"]
    got = names(await run(JinaClipDiversityRanker(**offline, method="mmr", lambda_mult=0.1), [*given[:3], given[-2]]))
    assert got[:2] == ["alike-0", "text"] and len(got) == 4


@pytest.mark.slow
async def test_pictures_are_embedded_where_embeddings_are_missing(make, folder, server, run) -> None:
    """Blobs, files, PDF pages, as the document embedder finds them; only those, and never as texts."""
    blobs = [Document(id=f"blob-{i}", blob=ByteStream(png(i))) for i in (0, 1)]
    files = [Document(id=f"file-{i}", meta={"file_path": f"{i}.png"}) for i in (0, 1)]
    page = Document(id="page", meta={"file_path": "pages.pdf", "page_number": 2})
    given = [*blobs, *files, page, Document(id="text", content="no picture")]
    made = make(JinaClipDiversityRanker, root_path=str(folder), clusters=3)
    alone = make(JinaClipDocumentImageEmbedder, root_path=str(folder)).run(given[:5])["documents"]
    sent = server.ledger()
    rows = [document.embedding for document in alone] + [None]
    wanted = [given[place].id for place in diversify(rows, 6, clusters=3)]
    assert names(await run(made, given)) == wanted
    ledger = server.ledger()
    assert ledger["texts"] == sent["texts"] == 0
    stored = [alone[0], *given[1:2], *alone[2:], given[5]]
    assert names(await run(made, stored)) == wanted
    if made.options.backend == "api":
        assert server.ledger()["images"] - ledger["images"] == 1


async def test_only_what_was_embedded_as_a_picture_or_has_no_text_counts_as_one(hosted, server, folder, run) -> None:
    """Chunks of a PDF name its file too, and have vectors of their texts: no page is drawn, and they keep their places.

    So does a text beside an image file. Of products the label says that their images were embedded.
    """
    vector = np.eye(64).tolist()
    chunk, both = {"file_path": "pages.pdf", "page_number": 1}, {"type": "text+image"}
    given = [
        Document(id="chunk-0", content="a chunk", meta=chunk, embedding=vector[0]),
        result("seen-0", vector[1]),
        Document(id="chunk-1", content="another", meta={**chunk, "page_number": 2}),
        result("seen-1", vector[1]),
        Document(id="caption", content="a caption", meta={"file_path": "1.png"}),
        Document(id="product", content="a dress", embedding=vector[2], meta={"embedding_source": both}),
        Document(id="bare", content=" ", embedding=vector[1], meta={"file_path": "2.png"}),
    ]
    made = JinaClipDiversityRanker(**hosted, dimensions=64, clusters=2, root_path=str(folder))
    got = await run(made, given)
    assert names(got) == ["chunk-0", "seen-0", "chunk-1", "product", "caption", "seen-1", "bare"]
    assert got["meta"] == {} and server.ledger()["requests"] == 0


@pytest.fixture(params=["memory", "qdrant"])
def store(request):
    """A document store with six pictures of two kinds, and a text."""
    if request.param == "memory":
        made = InMemoryDocumentStore()
    else:
        qdrant = pytest.importorskip("haystack_integrations.document_stores.qdrant")
        made = qdrant.QdrantDocumentStore(":memory:", embedding_dim=3, progress_bar=False)
    made.write_documents([*two_kinds(), Document(id="text", content="a text", embedding=[0.0, 1.0, 0.1])])
    return made


def bare(documents) -> list[Document]:
    return [replace(document, embedding=None) for document in documents]


@pytest.mark.parametrize("method", ["kmeans", "mmr"])
async def test_embeddings_are_taken_from_the_document_store(offline, run, store, method, caplog) -> None:
    """As a retriever hands documents over by default; nothing is embedded, and nothing is said."""
    given = [*two_kinds(), Document(id="text", content="a text", embedding=[0.0, 1.0, 0.1])]
    options = {**offline, "method": method, "clusters": 2, "lambda_mult": 0.3}
    wanted = names(await run(JinaClipDiversityRanker(**options), given))
    got = await run(JinaClipDiversityRanker(**options, document_store=store), bare(given))
    assert names(got) == wanted and got["meta"] == {}
    assert all(document.embedding is None for document in got["documents"])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_what_embedding_costs_is_said_once_and_told_by_meta(hosted, server, run, caplog) -> None:
    """With what to do about it."""
    given = [Document(id=str(seed), blob=ByteStream(png(seed))) for seed in range(3)]
    made = JinaClipDiversityRanker(**hosted, clusters=2)
    tokens = [(await run(made, given))["meta"]["usage"]["total_tokens"] for _ in range(2)]
    assert sum(tokens) == server.ledger()["tokens"] and tokens[0] == tokens[1] == 12_000
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told.startswith("3 documents came to JinaClipDiversityRanker without an embedding")
    for helps in ("up to 12000 tokens", "return_embedding=True", "document_store", "embed_missing=False", "once"):
        assert helps in told


async def test_a_ranker_that_may_not_embed_leaves_documents_where_they_are(offline, run, caplog) -> None:
    """No key, no request, no warning: those with embeddings are ordered around the others."""
    pictures = two_kinds()
    given = [pictures[0], Document(id="bare", blob=ByteStream(png(1))), *pictures[1:]]
    got = await run(JinaClipDiversityRanker(**offline, clusters=2, embed_missing=False), given)
    assert names(got)[:3] == ["alike-0", "bare", "other-0"] and got["meta"] == {}
    assert not caplog.records


async def test_what_the_document_store_does_not_have_is_embedded(hosted, server, run, store) -> None:
    given = [*bare(two_kinds()), Document(id="new", blob=ByteStream(png(1)))]
    made = JinaClipDiversityRanker(**hosted, model="jina-clip-v2", dimensions=3, clusters=2, document_store=store)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of so few dimensions
        assert len(names(await run(made, given))) == 7
    assert server.ledger()["images"] == 1


async def test_a_picture_that_cannot_be_had_costs_no_result(hosted, folder, run, caplog) -> None:
    """Missing files, files outside the root, broken blobs; the log tells."""
    vector = np.eye(64)
    good = [result("good-0", vector[0]), result("good-1", vector[1])]
    bad = [
        Document(id="missing", meta={"file_path": "missing.png"}),
        Document(id="outside", meta={"file_path": "/etc/passwd", "mime_type": "image/png"}),
        Document(id="broken", blob=ByteStream(b"no picture", mime_type="image/png")),
    ]
    made = JinaClipDiversityRanker(**hosted, dimensions=64, root_path=str(folder))
    with caplog.at_level(logging.WARNING):
        got = names(await run(made, [good[0], *bad, good[1]]))
    assert got == ["good-0", "missing", "outside", "broken", "good-1"]
    assert all(any(document.id in record.getMessage() for record in caplog.records) for document in bad)
    strict = JinaClipDiversityRanker(**hosted, dimensions=64, root_path=str(folder), raise_on_failure=True)
    with pytest.raises(ValueError, match="missing"):
        await run(strict, [good[0], *bad])


async def test_a_bad_key_is_told_where_one_is_needed(hosted, server, run) -> None:
    server.configure(key="jina_another")
    with pytest.raises(AuthenticationError):
        await run(JinaClipDiversityRanker(**hosted), [Document(blob=ByteStream(png(1)))])
    made = JinaClipDiversityRanker(Secret.from_env_var("UNSET"))
    with pytest.raises(ValueError, match="UNSET"):
        await run(made, [Document(blob=ByteStream(png(1)))])
    assert len(names(await run(made, two_kinds()))) == 6


async def test_without_scikit_learn_the_extra_is_named(offline, run, monkeypatch) -> None:
    """When the ranker is made; mmr works all the same."""
    monkeypatch.setattr("jinaclip.requirements.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"jinaclip\[rerank\]"):
        JinaClipDiversityRanker(**offline)
    assert len(names(await run(JinaClipDiversityRanker(**offline, method="mmr"), two_kinds()))) == 6


def test_the_life_of_a_ranker_is_safe_to_repeat(hosted) -> None:
    """Closing closes what was needed, and may be repeated; there is nothing to warm up."""
    made, given = JinaClipDiversityRanker(**hosted), [Document(blob=ByteStream(png(i))) for i in range(2)]

    async def live() -> None:
        assert len(names(await made.run_async(given))) == 2
        await made.close_async()
        await made.close_async()

    for _ in range(2):
        assert len(names(made.run(given))) == 2
        made.close()
        made.close()
        asyncio.run(live())


def test_ordering_leaves_the_loop_free(offline) -> None:
    """Clustering happens in a thread."""
    rng = np.random.default_rng(0)
    given = [result(str(i), row) for i, row in enumerate(rng.normal(size=(400, 64)))]
    made = JinaClipDiversityRanker(**offline, clusters=20)

    async def rank() -> int:
        call = asyncio.gather(made.run_async(given))
        turns = 0
        while not call.done():
            turns += 1
            await asyncio.sleep(0)
        assert len(names(call.result()[0])) == 400
        return turns

    assert asyncio.run(rank()) > 50


@pytest.mark.slow
def test_a_whole_search_shows_more_kinds(trained, stocked) -> None:
    """Text embedder, retriever that hands embeddings over, ranker; over both backends, saved and loaded."""
    pipe = Pipeline()
    pipe.add_component("text", JinaClipTextEmbedder(**trained))
    filters = {"field": "meta.kind", "operator": "==", "value": "picture"}
    memory = InMemoryEmbeddingRetriever(stocked["memory"], top_k=20, filters=filters, return_embedding=True)
    pipe.add_component("hits", memory)
    pipe.add_component("ranker", JinaClipDiversityRanker(**trained, clusters=5))
    pipe.connect("text.embedding", "hits.query_embedding")
    pipe.connect("hits.documents", "ranker.documents")
    data = {"text": {"text": "a dress"}}
    results = pipe.run(data, include_outputs_from={"hits"})
    hits, shown = results["hits"]["documents"], results["ranker"]["documents"]
    assert {document.id for document in hits} == {document.id for document in shown}
    assert shown[0].id == hits[0].id
    rows = [np.array([document.embedding for document in few[:5]]) for few in (hits, shown)]
    spread = [1 - (row @ row.T)[~np.eye(5, dtype=bool)].mean() for row in rows]
    assert spread[1] > spread[0]
    assert [d.id for d in asyncio.run(pipe.run_async(data))["ranker"]["documents"]] == [d.id for d in shown]
    pipe.close()


def test_errors_of_the_ranker_keep_their_kind_in_a_pipeline(offline) -> None:
    pipe = Pipeline()
    pipe.add_component("ranker", JinaClipDiversityRanker(**offline))
    with pytest.raises(PipelineRuntimeError) as caught:
        pipe.run({"ranker": {"documents": two_kinds(), "top_k": 0}})
    assert isinstance(caught.value.__cause__, ConfigError)


def test_embedded_documents_stay_json(make, folder) -> None:
    """What the ranker passes on is what it got."""
    texts = make(JinaClipDocumentEmbedder).run([Document(content="a"), Document(content="b")])["documents"]
    got = make(JinaClipDiversityRanker, method="mmr").run(texts)["documents"]
    assert json.loads(json.dumps([document.to_dict() for document in got]))
