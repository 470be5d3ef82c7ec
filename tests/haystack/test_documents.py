"""What the three embedders of documents share, and the text of documents."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from haystack import Document
from haystack.dataclasses import ByteStream, SparseEmbedding

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
    assert result.keys() == {"documents", "meta"}
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
        assert await run(made, []) == {"documents": [], "meta": {}}
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
    """`.index`, and its id in the message; `.partial` holds the others."""
    server.configure(poison={"BAD": "bad_item_400"})
    given = texts("one", "BAD", "three")
    with pytest.raises(InputError) as caught:
        await run(quiet(hosted), given)
    assert caught.value.index == 1
    assert str(caught.value).startswith(f"Document with ID '{given[1].id}': ")
    assert caught.value.partial.ok.tolist() == [True, False, True]


# -- raise_on_failure=False


async def test_a_lenient_embedder_keeps_every_document(hosted, server, run, caplog) -> None:
    """Failed ones have no embedding, not even an old one, and the log says which and why; the rest is as ever."""
    server.configure(poison={"BAD": "bad_item_400"})
    given = [*texts("one", "BAD", "", "four"), Document(content="BAD too", embedding=[1.0], meta={"a": 1})]
    with caplog.at_level(logging.ERROR):
        result = await run(quiet(hosted, raise_on_failure=False), given)
    got = result["documents"]
    assert [document.id for document in got] == [document.id for document in given]
    assert [document.embedding is None for document in got] == [False, True, True, False, True]
    assert same(got[3].embedding, expected_vector("text", "four"))
    assert result["meta"]["usage"]["total_tokens"] > 0
    told = [[r.getMessage() for r in caplog.records if document.id in r.getMessage()] for document in given]
    assert [len(messages) for messages in told] == [0, 1, 1, 0, 1]
    assert "no text to embed" in told[2][0]
    assert all(messages[0].count(d.id) == 1 for d, messages in zip(given, told, strict=True) if messages)


async def test_a_lenient_embedder_keeps_all_but_what_the_service_fails_on(hosted, server, run, caplog, hasty) -> None:
    server.configure(poison={"BAD": "status_503"})
    given = texts("one", "two", "BAD", "four")
    made = quiet(hosted, raise_on_failure=False, batch_size=2, max_concurrency=1, max_retries=1)
    with caplog.at_level(logging.ERROR):
        got = (await run(made, given))["documents"]
    assert [document.embedding is None for document in got] == [False, False, True, False]
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
    """Nobody listens: all documents come back, without embedding, and each is logged."""
    nowhere = {**hosted, "base_url": "http://127.0.0.1:9"}
    got = (await run(quiet(nowhere, raise_on_failure=False, max_retries=0), texts("one", "two")))["documents"]
    assert [(d.content, d.embedding) for d in got] == [("one", None), ("two", None)]
    assert len(caplog.records) == 2


async def test_a_lenient_embedder_hides_no_missing_weights(tmp_path, run) -> None:
    skip_without("torch")
    made = JinaClipDocumentEmbedder(model=str(tmp_path), backend="local", raise_on_failure=False, progress_bar=False)
    with pytest.raises(CheckpointError):
        await run(made, texts("one"))


async def test_a_lenient_embedder_still_wants_documents(hosted, run) -> None:
    with pytest.raises(TypeError):
        await run(quiet(hosted, raise_on_failure=False), ["a text"])


async def test_a_lenient_embedder_may_fail_with_all(hosted, server, run) -> None:
    got = (await run(quiet(hosted, raise_on_failure=False), texts("", None)))["documents"]
    assert [document.embedding for document in got] == [None, None]
    assert server.ledger()["requests"] == 0


async def test_a_lenient_embedder_says_the_same_over_both_backends(make, kind, documents, run, caplog) -> None:
    """One document of three has neither text nor picture; the log says so in words that are no other layer's."""
    given = [documents[0], Document(content=None, meta={"file_path": "missing.png"}), documents[2]]
    got = (await run(make(kind, raise_on_failure=False), given))["documents"]
    strict = (await run(make(kind), [documents[0], documents[2]]))["documents"]
    assert got[1] == given[1]
    (told,) = [record.getMessage() for record in caplog.records]
    assert "no text to embed" in told or "missing.png' does not exist" in told
    assert same(got[0].embedding, strict[0].embedding) and same(got[2].embedding, strict[1].embedding)


# -- text and image together


async def test_a_pair_fails_alone(hosted, server, folder, run, caplog) -> None:
    """A text that the service refuses, a damaged image, no image: each costs one product of five its embedding."""
    server.configure(poison={"BAD": "bad_item_400"})
    (folder / "damaged.png").write_bytes(png(1)[:-200])
    given = [
        Document(content="fine", meta={"file_path": "0.png"}),
        Document(content="BAD", meta={"file_path": "1.png"}),
        Document(content="damaged", meta={"file_path": "damaged.png"}),
        Document(content="text alone"),
        Document(content="fine too", meta={"file_path": "2.png"}),
    ]
    options = {**hosted, "root_path": str(folder), "image_resize": "none", "progress_bar": False}
    with caplog.at_level(logging.ERROR):
        result = await run(JinaClipFusedDocumentEmbedder(**options, raise_on_failure=False), given)
    got = result["documents"]
    assert [document.embedding is None for document in got] == [False, True, True, True, False]
    for place, text, seed in ((0, "fine", 0), (4, "fine too", 2)):
        wanted = fuse(expected_vector("text", text), expected_vector("image", picture(seed)))
        assert same(got[place].embedding, wanted)
        assert got[place].meta["embedding_source"]["type"] == "text+image"
    assert got[1:4] == given[1:4]
    messages = {i: [m for m in caplog.messages if given[i].id in m] for i in range(5)}
    assert [len(messages[i]) for i in range(5)] == [0, 1, 1, 1, 0]
    assert "MIME type" in messages[3][0]
    assert result["meta"]["usage"]["total_tokens"] == server.ledger()["tokens"]
    with pytest.raises(InputError, match=f"Document with ID '{given[3].id}'"):
        await run(JinaClipFusedDocumentEmbedder(**options), given)
    with pytest.raises(InputError, match=f"Document with ID '{given[1].id}'") as caught:
        await run(JinaClipFusedDocumentEmbedder(**options), given[:2])
    assert caught.value.index == 1 and caught.value.partial.ok.tolist() == [True, False]


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
