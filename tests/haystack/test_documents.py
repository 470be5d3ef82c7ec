"""What the three embedders of documents share, and the text of documents."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.dataclasses import ByteStream, SparseEmbedding
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy

from haystack_jinaclip import (
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
)
from jinaclip import AuthenticationError, BudgetError, ConfigError, InputError, fuse
from jinaclip.errors import CheckpointError, ItemError, QuotaError
from jinaclip.testing.vectors import expected_vector
from tests.haystack.conftest import DOCUMENTS, alike, picture, png
from tests.needs import skip_without


def same(vector, other) -> bool:
    return np.allclose(vector, other, atol=2e-6)


@pytest.fixture(params=DOCUMENTS)
def kind(request, folder, monkeypatch):
    """Each embedder of documents; the folder is the working directory."""
    monkeypatch.chdir(folder)
    return request.param


def texts(*contents) -> list[Document]:
    return [Document(content=content) for content in contents]


def quiet(options, **more) -> JinaClipDocumentEmbedder:
    return JinaClipDocumentEmbedder(**options, progress_bar=False, **more)


async def test_documents_come_back_in_order_with_plain_floats(make, kind, documents, run) -> None:
    """Exactly float; JSON and `to_dict` take the documents; ids, hashes of the content, are kept."""
    result = await run(make(kind), documents)
    assert result.keys() == {"documents", "failed_documents", "meta"}
    assert result["failed_documents"] == []
    assert [(d.id, d.content) for d in result["documents"]] == [(d.id, d.content) for d in documents]
    for document in result["documents"]:
        assert {type(number) for number in document.embedding} == {float}
        assert json.loads(json.dumps(document.to_dict()))["embedding"] == document.embedding


async def test_each_document_gets_its_own_vector(hosted, folder, documents, run, monkeypatch) -> None:
    """Text, picture, and the fusion of the two, as the server gives them for each."""
    monkeypatch.chdir(folder)
    quiet = {**hosted, "progress_bar": False, "image_resize": "none"}
    words = [expected_vector("text", document.content) for document in documents]
    images = [expected_vector("image", picture(i)) for i in range(3)]
    wanted = {
        JinaClipDocumentImageEmbedder(**quiet): images,
        JinaClipFusedDocumentEmbedder(**quiet): fuse(words, images),
        JinaClipFusedDocumentEmbedder(**quiet, weight=0.8): fuse(words, images, 0.8),
        JinaClipDocumentEmbedder(**hosted, progress_bar=False): words,
    }
    for made, vectors in wanted.items():
        got = (await run(made, documents))["documents"]
        assert all(same(document.embedding, vector) for document, vector in zip(got, vectors, strict=True))


async def test_meta_names_the_model_and_the_tokens(hosted, server, kind, documents, run) -> None:
    result = await run(kind(**hosted, progress_bar=False), documents)
    tokens = server.ledger()["tokens"]
    assert result["meta"] == {"model": "jina-clip-v2", "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


@pytest.mark.parametrize(
    "value",
    [None, "a text", 7, Document(content="a"), (Document(content="a"),), [Document(content="a"), "b"], [None], {}],
)
async def test_what_is_no_list_of_documents_is_refused(hosted, server, kind, run, value) -> None:
    """Every element is looked at, and the message names the components for queries."""
    with pytest.raises(TypeError, match=f"{kind.__name__} takes a list of Documents, .*JinaClipTextEmbedder"):
        await run(kind(**hosted, progress_bar=False), value)
    assert server.ledger()["requests"] == 0


async def test_no_documents_cost_nothing(kind, run, monkeypatch, capsys) -> None:
    """The right keys; no key is needed, no weights are loaded, no bar is drawn."""
    for name in ("JINA_API_KEY", "JINAAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for made in (kind(), kind(raise_on_failure=False), kind(model="nowhere/weights", backend="local")):
        assert await run(made, []) == {"documents": [], "failed_documents": [], "meta": {}}
    assert capsys.readouterr() == ("", "")


async def test_a_wrong_argument_is_told_before_a_missing_key(kind, run, monkeypatch) -> None:
    """Whoever mixes components up learns of that first."""
    for name in ("JINA_API_KEY", "JINAAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for made in (kind(), kind(raise_on_failure=False), kind(model="nowhere/weights", backend="local")):
        with pytest.raises(TypeError, match="JinaClipTextEmbedder or JinaClipImageEmbedder"):
            await run(made, "x")


async def test_documents_are_not_touched(make, kind, run) -> None:
    """The caller's stay as they were, the copies keep all the rest. Haystack warns of changes in place."""
    given = Document(
        id="own-id",
        content="a dress",
        blob=ByteStream(png(1), mime_type="image/png"),
        meta={"name": "x", "nested": {"a": [1]}},
        score=0.5,
        sparse_embedding=SparseEmbedding([1], [0.5]),
    )
    before = copy.deepcopy(given)
    (got,) = (await run(make(kind), [given]))["documents"]
    assert given == before and given.embedding is None
    assert got is not given and got.embedding is not None
    meta = {name: value for name, value in got.meta.items() if name != "embedding_source"}
    assert replace(got, embedding=None, meta=meta) == before


async def test_documents_with_one_id_keep_their_places(make, run) -> None:
    twins = [Document(id="same", content=content) for content in ("red", "green", "red", "blue")]
    got = (await run(make(JinaClipDocumentEmbedder), twins))["documents"]
    alone = [(await run(make(JinaClipDocumentEmbedder), [twin]))["documents"][0] for twin in twins]
    assert [document.content for document in got] == ["red", "green", "red", "blue"]
    assert all(same(a.embedding, b.embedding) for a, b in zip(got, alone, strict=True))


async def test_the_text_of_a_document(hosted, run) -> None:
    """Prefix and suffix around fields of meta and content, what is None or missing left out, numbers as text."""
    made = quiet(
        hosted, prefix="<", suffix=">", meta_fields_to_embed=["name", "price", "gone"], embedding_separator=" | "
    )
    given = [
        Document(content="a dress", meta={"name": "Red", "price": 9, "gone": None}),
        Document(content="a coat", meta={"other": "x"}),
        Document(content=None, meta={"name": "Blue"}),
        Document(content="", meta={"price": 0}),
    ]
    got = (await run(made, given))["documents"]
    wanted = ["<Red | 9 | a dress>", "<a coat>", "<Blue | >", "<0 | >"]
    for document, text in zip(got, wanted, strict=True):
        assert same(document.embedding, expected_vector("text", text)), text


@pytest.mark.parametrize("content", [None, "", "  \n"])
async def test_a_document_without_text_is_refused(hosted, server, run, content) -> None:
    """A prefix alone says nothing of it."""
    with pytest.raises(ValueError, match="no text to embed"):
        await run(quiet(hosted, prefix="passage: "), [*texts("fine"), Document(content=content, meta={"name": "x"})])
    assert server.ledger()["requests"] == 0


async def test_requests_hold_as_many_items_as_batch_size_says(hosted, server, run) -> None:
    await run(quiet(hosted, batch_size=4, max_concurrency=1), texts(*map(str, range(10))))
    ledger = server.ledger()
    assert (ledger["requests"], ledger["texts"], ledger["last"]["items"]) == (3, 10, 2)


async def test_the_bar_is_drawn_on_demand(hosted, run, capsys) -> None:
    """`progress_bar=False` is silent."""
    await run(JinaClipDocumentEmbedder(**hosted), texts("a", "b"))
    assert "2/2" in capsys.readouterr().err
    await run(quiet(hosted), texts("a", "b"))
    assert capsys.readouterr() == ("", "")


async def test_the_bar_of_a_lenient_embedder_has_a_total(hosted, run, capsys, caplog) -> None:
    """One that fails counts as done."""
    await run(JinaClipDocumentEmbedder(**hosted, raise_on_failure=False), texts("a", "", "c"))
    assert "3/3" in capsys.readouterr().err


@pytest.mark.slow
async def test_sync_and_async_agree(make, kind, documents) -> None:
    """Whole results, over several loops."""
    made = make(kind)
    wanted = made.run(documents)
    assert alike(await made.run_async(documents), wanted)
    loops = [lambda: asyncio.run(made.run_async(documents))] * 3
    assert all([alike(await asyncio.to_thread(loop), wanted) for loop in loops])


async def test_runs_at_the_same_time_do_not_mix(make) -> None:
    """One embedder, many lists at once."""
    made = make(JinaClipDocumentEmbedder)
    lists = [texts(*(f"{i}-{j}" for j in range(5))) for i in range(8)]
    results = await asyncio.gather(*map(made.run_async, lists))
    for given, result in zip(lists, results, strict=True):
        wanted = made.run(given)["documents"]
        assert [d.content for d in result["documents"]] == [d.content for d in given]
        assert all(same(a.embedding, b.embedding) for a, b in zip(result["documents"], wanted, strict=True))


async def test_a_list_that_is_cleared_meanwhile_loses_no_document(hosted, server) -> None:
    """What was given when the run began is embedded, whatever becomes of the list while it waits."""
    server.configure(base_ms=50)
    given = texts("one", "two", "three")
    run = asyncio.create_task(quiet(hosted).run_async(given))
    await asyncio.sleep(0)  # it begins
    given.clear()
    got = (await run)["documents"]
    assert [document.content for document in got] == ["one", "two", "three"]
    assert all(same(document.embedding, expected_vector("text", document.content)) for document in got)


async def test_a_failure_says_which_document(hosted, server, run) -> None:
    """`.index`, and its id and file in the message; `.partial` holds the others."""
    server.configure(poison={"BAD": "bad_item_400"})
    given = texts("one", "BAD", "three")
    given[1] = Document(content="BAD", meta={"file_path": "notes/bad.txt"})
    with pytest.raises(InputError) as caught:
        await run(quiet(hosted), given)
    assert caught.value.index == 1
    assert str(caught.value).startswith(f"Document with ID '{given[1].id}' (notes/bad.txt): ")
    assert caught.value.partial.ok.tolist() == [True, False, True]


# -- raise_on_failure=False


async def test_documents_that_fail_come_out_apart_with_the_reason(hosted, server, run, caplog) -> None:
    """As those of Haystack's extractors: no document without embedding goes on to a store. The log tells, too."""
    server.configure(poison={"BAD": "bad_item_400"})
    given = [*texts("one", "BAD", "", "four"), Document(content="BAD too", embedding=[1.0], meta={"a": 1})]
    before = copy.deepcopy(given)
    with caplog.at_level(logging.ERROR):
        result = await run(quiet(hosted, raise_on_failure=False), given)
    assert given == before
    done, failed = result["documents"], result["failed_documents"]
    assert [document.id for document in done] == [given[0].id, given[3].id]
    assert [document.id for document in failed] == [given[1].id, given[2].id, given[4].id]
    assert same(done[1].embedding, expected_vector("text", "four"))
    assert [document.embedding for document in failed] == [None] * 3
    assert failed[1].meta["embedding_error"] == "it has no text to embed"
    assert failed[2].meta.keys() == {"a", "embedding_error"}
    assert result["meta"]["usage"]["total_tokens"] == server.ledger()["tokens"] > 0
    for document in given:
        told = [message for message in caplog.messages if document.id in message]
        reasons = [one.meta["embedding_error"] for one in failed if one.id == document.id]
        assert len(told) == len(reasons) and all(reason in told[0] for reason in reasons)


async def test_failed_documents_are_given_again_and_pay_for_themselves_alone(hosted, server, run) -> None:
    """The next run takes the output as it is; what it says of the failure is gone once there is an embedding."""
    server.configure(poison={"BAD": "bad_item_400"})
    made = quiet(hosted, raise_on_failure=False)
    first = await run(made, texts("one", "BAD", "three"))
    server.configure(poison={})
    sent = server.ledger()["texts"]
    again = await run(made, first["failed_documents"])
    assert server.ledger()["texts"] == sent + 1
    assert [(document.content, document.meta) for document in again["documents"]] == [("BAD", {})]
    assert again["failed_documents"] == []


def test_only_what_was_embedded_reaches_a_store_and_the_rest_is_tried_again(hosted, server) -> None:
    """Documents without embedding in a store would never be found, and be skipped as duplicates by the next run."""
    server.configure(poison={"BAD": "bad_item_400"})
    store = InMemoryDocumentStore()
    pipe = Pipeline()
    pipe.add_component("embedder", quiet(hosted, raise_on_failure=False))
    pipe.add_component("writer", DocumentWriter(store, DuplicatePolicy.SKIP))
    pipe.connect("embedder.documents", "writer.documents")
    data = {"embedder": {"documents": texts("one", "BAD", "three")}}
    assert pipe.run(data)["embedder"]["failed_documents"][0].content == "BAD"
    assert sorted(document.content for document in store.filter_documents()) == ["one", "three"]
    server.configure(poison={})
    assert pipe.run(data)["embedder"]["failed_documents"] == []
    assert sorted(document.content for document in store.filter_documents()) == ["BAD", "one", "three"]
    assert all(document.embedding for document in store.filter_documents())
    pipe.close()


async def test_what_was_embedded_before_a_failure_is_kept_by_the_cache(hosted, server, run, tmp_path) -> None:
    """Strict or not: the next run pays for the others alone."""
    server.configure(poison={"BAD": "bad_item_400"})
    made = quiet(hosted, cache=str(tmp_path / "vectors.sqlite"))
    with pytest.raises(InputError):
        await run(made, texts("one", "BAD", "three"))
    server.configure(poison={})
    sent = server.ledger()["texts"]
    assert len((await run(made, texts("one", "BAD", "three")))["documents"]) == 3
    assert server.ledger()["texts"] == sent + 1


async def test_a_lenient_embedder_keeps_all_but_what_the_service_fails_on(hosted, server, run, caplog, hasty) -> None:
    server.configure(poison={"BAD": "status_503"})
    given = texts("one", "two", "BAD", "four")
    made = quiet(hosted, raise_on_failure=False, batch_size=2, max_concurrency=1, max_retries=1)
    with caplog.at_level(logging.ERROR):
        result = await run(made, given)
    assert [document.content for document in result["documents"]] == ["one", "two", "four"]
    assert [document.content for document in result["failed_documents"]] == ["BAD"]
    assert len(caplog.records) == 1
    with pytest.raises(ItemError, match="503"):
        await run(quiet(hosted, batch_size=2, max_concurrency=1, max_retries=1), given)


@pytest.mark.parametrize(
    ("fault", "error"),
    [("auth_401", AuthenticationError), ("balance_402", QuotaError), ("reject_all_422", ConfigError)],
)
async def test_a_lenient_embedder_hides_no_bad_key_and_no_empty_wallet(hosted, server, run, fault, error) -> None:
    server.configure(script=[fault] * 30)
    with pytest.raises(error):
        await run(quiet(hosted, raise_on_failure=False), texts("one", "two"))


async def test_a_lenient_embedder_hides_no_spent_budget(hosted, run) -> None:
    with pytest.raises(BudgetError):
        await run(quiet(hosted, raise_on_failure=False, token_budget=3), texts("one " * 30, "two"))


async def test_a_lenient_embedder_survives_an_outage_of_everything(hosted, run, caplog) -> None:
    """Nobody listens: all documents come back as failed, and each is logged."""
    nowhere = {**hosted, "base_url": "http://127.0.0.1:9"}
    result = await run(quiet(nowhere, raise_on_failure=False, max_retries=0), texts("one", "two"))
    assert [(d.content, d.embedding) for d in result["failed_documents"]] == [("one", None), ("two", None)]
    assert result["documents"] == [] and len(caplog.records) == 2


async def test_a_lenient_embedder_hides_no_missing_weights(tmp_path, run) -> None:
    skip_without("torch")
    made = JinaClipDocumentEmbedder(model=str(tmp_path), backend="local", raise_on_failure=False, progress_bar=False)
    with pytest.raises(CheckpointError):
        await run(made, texts("one"))


async def test_a_lenient_embedder_still_wants_documents(hosted, run) -> None:
    with pytest.raises(TypeError):
        await run(quiet(hosted, raise_on_failure=False), ["a text"])


async def test_a_lenient_embedder_may_fail_with_all(hosted, server, run) -> None:
    result = await run(quiet(hosted, raise_on_failure=False), texts("", None))
    assert (len(result["documents"]), len(result["failed_documents"])) == (0, 2)
    assert server.ledger()["requests"] == 0


@pytest.mark.slow
async def test_a_lenient_embedder_says_the_same_over_both_backends(make, kind, documents, run, caplog) -> None:
    """One document of three has neither text nor picture; the log says so in words that are no other layer's."""
    given = [documents[0], Document(content=None, meta={"file_path": "missing.png"}), documents[2]]
    result = await run(make(kind, raise_on_failure=False), given)
    strict = (await run(make(kind), [documents[0], documents[2]]))["documents"]
    (failed,) = result["failed_documents"]
    reason = failed.meta["embedding_error"]
    assert failed == replace(given[1], meta={**given[1].meta, "embedding_error": reason})
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == f"No embedding: Document with ID '{failed.id}' (missing.png): {reason}"
    assert "no text to embed" in reason or "missing.png' does not exist" in reason
    assert all(same(one.embedding, other.embedding) for one, other in zip(result["documents"], strict, strict=True))


# -- text and image together


def products(hosted, folder, **more) -> JinaClipFusedDocumentEmbedder:
    place = {"root_path": str(folder), "image_resize": "none", "progress_bar": False}
    return JinaClipFusedDocumentEmbedder(**hosted, **place, **more)


async def test_a_pair_fails_alone(hosted, server, folder, run) -> None:
    """A text that the service refuses, a damaged image, neither: each costs one product of five its embedding."""
    server.configure(poison={"BAD": "bad_item_400"})
    (folder / "damaged.png").write_bytes(png(1)[:-200])
    given = [
        Document(content="fine", meta={"file_path": "0.png"}),
        Document(content="BAD", meta={"file_path": "1.png"}),
        Document(content="damaged", meta={"file_path": "damaged.png"}),
        Document(content=" "),
        Document(content="fine too", meta={"file_path": "2.png"}),
    ]
    result = await run(products(hosted, folder, raise_on_failure=False), given)
    assert [document.id for document in result["documents"]] == [given[0].id, given[4].id]
    for document, text, seed in zip(result["documents"], ("fine", "fine too"), (0, 2), strict=True):
        wanted = fuse(expected_vector("text", text), expected_vector("image", picture(seed)))
        assert same(document.embedding, wanted)
        assert document.meta["embedding_source"]["type"] == "text+image"
    reasons = {document.id: document.meta["embedding_error"] for document in result["failed_documents"]}
    assert [*reasons] == [document.id for document in given[1:4]]
    assert "no text to embed, and it has no image: neither a blob nor" in reasons[given[3].id]
    assert result["meta"]["usage"]["total_tokens"] == server.ledger()["tokens"]
    for bad in given[1:4]:
        with pytest.raises(InputError, match=f"Document with ID '{bad.id}'") as caught:
            await run(products(hosted, folder), [given[0], bad])
        assert caught.value.index == 1


@pytest.mark.parametrize("weight", [0, 0.3, 1])
async def test_a_document_with_one_half_is_embedded_by_that(hosted, server, folder, run, weight) -> None:
    """Whatever the weight, and its label says which it was; a PDF file whose page is not told is no image."""
    given = [
        Document(content="text alone"),
        Document(meta={"file_path": "1.png"}),
        Document(content="a chunk", meta={"file_path": "pages.pdf", "embedding_source": {"type": "image"}}),
        Document(content="text alone", meta={"file_path": "notes.txt"}),
    ]
    got = (await run(products(hosted, folder, weight=weight), given))["documents"]
    wanted = [expected_vector("text", document.content) if document.content else None for document in given]
    wanted[1] = expected_vector("image", picture(1))
    assert all(same(document.embedding, vector) for document, vector in zip(got, wanted, strict=True))
    assert [document.meta.get("embedding_source", {}).get("type") for document in got] == [None, "image", None, None]
    assert (server.ledger()["texts"], server.ledger()["images"]) == (2, 1), "of two equal texts one is sent"


async def test_a_half_that_has_no_share_is_not_even_looked_at(hosted, server, folder, run) -> None:
    """A broken image does no harm where the text alone counts, nor a text that is too long the other way round."""
    (folder / "damaged.png").write_bytes(png(1)[:-200])
    damaged = Document(content="a text", meta={"file_path": "damaged.png"})
    (got,) = (await run(products(hosted, folder, weight=1), [damaged]))["documents"]
    assert same(got.embedding, expected_vector("text", "a text")) and "embedding_source" not in got.meta
    long = Document(content="word " * 20_000, meta={"file_path": "1.png"})
    (got,) = (await run(products(hosted, folder, weight=0), [long]))["documents"]
    assert same(got.embedding, expected_vector("image", picture(1)))
    assert got.meta["embedding_source"]["type"] == "image"


@pytest.mark.parametrize(("weight", "texts", "images"), [(0, 0, 3), (0.0, 0, 3), (1, 3, 0), (0.5, 3, 3)])
async def test_a_half_without_weight_is_not_paid_for(
    hosted, server, folder, documents, run, weight, texts, images
) -> None:
    made = JinaClipFusedDocumentEmbedder(**hosted, weight=weight, root_path=str(folder), progress_bar=False)
    got = (await run(made, documents))["documents"]
    ledger = server.ledger()
    assert (ledger["texts"], ledger["images"]) == (texts, images)
    if weight == 1:
        assert all(same(d.embedding, expected_vector("text", d.content)) for d in got)


async def test_what_was_not_sent_is_logged_with_the_cause(hosted, server, run, caplog, hasty) -> None:
    server.configure(script=["status_503"] * 40)
    given = texts("one", "two", "three")
    made = quiet(hosted, raise_on_failure=False, batch_size=1, max_concurrency=1, max_retries=0)
    await run(made, given)
    assert len(caplog.messages) == 3
    assert all("503" in message for message in caplog.messages)
