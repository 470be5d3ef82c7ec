"""The router by labels, over both backends, in pipelines, with documents of texts, of images and of both."""

from __future__ import annotations

import asyncio
import copy
import pickle

import numpy as np
import pytest
from haystack import Document, Pipeline
from haystack.components.joiners import DocumentJoiner
from haystack.core.errors import PipelineConnectError
from haystack.dataclasses import ByteStream

from haystack_jinaclip import JinaClipZeroShotRouter
from jinaclip import ConfigError, InputError, Pair
from jinaclip.retrieval import classify
from tests.haystack.conftest import articles, png

LABELS = ["dress", "coat", "shirt"]


@pytest.fixture
def router(trained, catalogue):
    """Routes products of the catalogue by what they are."""
    place = str(catalogue[0].picture.parent)
    with JinaClipZeroShotRouter(
        **trained, labels=LABELS, root_path=place, image_resize="none", temperature=0.01
    ) as made:
        yield made


def routed(result) -> dict[str, str]:
    """The label of each document, by its id."""
    return {document.id: label for label in LABELS for document in result[label]}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["picture", "title", "product"])
async def test_documents_go_where_classify_says(router, catalogue, run, kind) -> None:
    """By image, by text, and by both; label, score and details stand in meta as Haystack's own classifier has them."""
    chosen = [item for item in catalogue if item.attributes.garment in LABELS][:9]
    given = articles(chosen, kind)
    if kind == "title":
        given = [Document(content=document.content) for document in given]
    before = copy.deepcopy(given)
    items = {
        "picture": [item.picture for item in chosen],
        "title": [item.title for item in chosen],
        "product": [Pair(item.title, item.picture) for item in chosen],
    }[kind]
    wanted = classify(router.handle.get(), items, LABELS, temperature=0.01)
    result = await run(router, given)
    assert routed(result) == dict(zip((document.id for document in given), wanted.best, strict=True))
    for label in LABELS:
        assert [d.id for d in result[label]] == [d.id for d in given if routed(result)[d.id] == label], "in order"
    for document, scores in zip(given, wanted.probabilities.tolist(), strict=True):
        (got,) = [one for one in result[routed(result)[document.id]] if one.id == document.id]
        found = got.meta.pop("classification")
        assert got == document, "and nothing else was changed"
        assert list(found["details"]) == LABELS and np.allclose(list(found["details"].values()), scores, atol=1e-4)
        assert found["score"] == found["details"][found["label"]] == max(found["details"].values())
    assert given == before and result["failed_documents"] == []


async def test_products_are_told_apart(router, catalogue, run) -> None:
    """Most of them, by their pictures."""
    chosen = [item for item in catalogue if item.attributes.garment in LABELS]
    result = await run(router, articles(chosen, "picture"))
    looks = {item.id: item.attributes.garment for item in chosen}
    right = [looks[document.meta["product"]] == label for label in LABELS for document in result[label]]
    assert len(right) == len(chosen) and np.mean(right) > 0.8


async def test_labels_are_embedded_once(hosted, server, run) -> None:
    """Each run pays for its own documents; the first for the labels, too."""
    made = JinaClipZeroShotRouter(**hosted, labels=LABELS)
    given = [Document(blob=ByteStream(png(seed))) for seed in range(2)]
    bills = [(await run(made, given))["meta"]["usage"]["total_tokens"] for _ in range(3)]
    ledger = server.ledger()
    assert (ledger["texts"], ledger["images"]) == (3, 6)
    assert sum(bills) == ledger["tokens"] and bills[0] > bills[1] == bills[2] == 8000
    assert [(await run(other, given))["meta"] for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made)))]
    assert server.ledger()["texts"] == 3


async def test_runs_at_once_pay_for_the_labels_once(hosted, server) -> None:
    """In tasks of one event loop, and in threads."""
    given = [[Document(content=f"product {number}")] for number in range(12)]
    with JinaClipZeroShotRouter(**hosted, labels=LABELS) as made:
        results = await asyncio.gather(
            *map(made.run_async, given[:6]), *(asyncio.to_thread(made.run, documents) for documents in given[6:])
        )
    ledger = server.ledger()
    assert ledger["texts"] == 12 + len(LABELS)
    assert sum(result["meta"]["usage"]["total_tokens"] for result in results) == ledger["tokens"]


async def test_the_template_says_what_is_embedded_for_a_label(hosted, server, run) -> None:
    given = [Document(content="a dress"), Document(content="a coat")]
    plain = JinaClipZeroShotRouter(**hosted, labels=["a dress", "a coat"], template="{}")
    result = await run(plain, given)
    assert [document.content for label in ("a dress", "a coat") for document in result[label]] == ["a dress", "a coat"]
    assert result["a dress"][0].meta["classification"]["score"] > 0.99


async def test_documents_that_cannot_be_embedded_have_an_output_of_their_own(hosted, run) -> None:
    given = [Document(content="fine"), Document(), Document(blob=ByteStream(b"no image"))]
    made = JinaClipZeroShotRouter(**hosted, labels=LABELS, raise_on_failure=False)
    result = await run(made, given)
    assert [document.id for document in result["failed_documents"]] == [given[1].id, given[2].id]
    assert all(document.meta["embedding_error"] for document in result["failed_documents"])
    assert [*routed(result)] == [given[0].id]
    with pytest.raises(InputError, match=given[1].id):
        await run(JinaClipZeroShotRouter(**hosted, labels=LABELS), given)
    only = await run(made, given[1:2])
    assert routed(only) == {} and len(only["failed_documents"]) == 1


async def test_no_documents_cost_nothing(run, monkeypatch) -> None:
    for name in ("JINA_API_KEY", "JINAAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    made = JinaClipZeroShotRouter(labels=LABELS)
    assert await run(made, []) == {**{label: [] for label in LABELS}, "failed_documents": [], "meta": {}}
    with pytest.raises(TypeError, match="JinaClipZeroShotRouter takes a list of Documents"):
        await run(made, "x")


def test_each_label_is_an_output_to_connect_also_once_it_was_saved_and_loaded() -> None:
    """Labels of several words too."""
    pipe = Pipeline()
    pipe.add_component("router", JinaClipZeroShotRouter(labels=["a red dress", "anything else"]))
    pipe.add_component("joiner", DocumentJoiner())
    pipe.connect("router.a red dress", "joiner.documents")
    pipe.connect("router.failed_documents", "joiner.documents")
    with pytest.raises(PipelineConnectError, match="blue"):
        pipe.connect("router.blue", "joiner.documents")
    assert Pipeline.loads(pipe.dumps()).dumps() == pipe.dumps()


@pytest.mark.parametrize(
    "labels",
    [["dress"], ["dress", "dress"], ["dress", " "], ["dress", "meta"], ["dress", "self"], ["instance", "dress"], []],
    ids=str,
)
def test_labels_that_cannot_be_told_apart_are_refused_when_it_is_made(labels) -> None:
    with pytest.raises(ValueError, match="label"):
        JinaClipZeroShotRouter(labels=labels)


def test_without_labels_it_says_what_is_missing() -> None:
    with pytest.raises(TypeError, match="JinaClipZeroShotRouter: missing a required argument: 'labels'"):
        JinaClipZeroShotRouter()
    with pytest.raises(ConfigError, match="template="):
        JinaClipZeroShotRouter(labels=LABELS, template="a photo")
