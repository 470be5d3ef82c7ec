"""The option `cache`: documents, queries, images and pairs are embedded once, also by pipelines that were saved."""

from __future__ import annotations

import copy
import pickle

import pytest
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret

from haystack_jinaclip import (
    JinaClipDiversityRanker,
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
    JinaClipImageEmbedder,
    JinaClipTextEmbedder,
)
from jinaclip import Cache, ConfigError, JinaClip
from tests.haystack.conftest import ALL, DOCUMENTS, new

KEY = Secret.from_env_var("MY_KEY", strict=False)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "vectors.sqlite"


@pytest.fixture
def cached(server, path, folder, monkeypatch):
    """Makes components with the cache of this test, whose keys are variables, so that they can be saved."""
    monkeypatch.setenv("MY_KEY", "jina_test_haystack_cache")
    made = []

    def make(kind, **more):
        quiet = {"progress_bar": False} if kind in DOCUMENTS else {}
        place = {"root_path": str(folder)} if "Image" in kind.__name__ or "Fused" in kind.__name__ else {}
        place = {} if kind is JinaClipImageEmbedder else place
        made.append(new(kind, KEY, base_url=server.url, **{"cache": str(path), **quiet, **place, **more}))
        return made[-1]

    yield make
    for one in made:
        one.close()


def sent(server):
    """Texts and images that were embedded."""
    ledger = server.ledger()
    return ledger["texts"], ledger["images"]


def indexing(cached, store):
    """An embedder and a writer for documents by their text, by their image, and by both."""
    pipe = Pipeline()
    for name, kind in (("text", DOCUMENTS[0]), ("image", DOCUMENTS[1]), ("both", DOCUMENTS[2])):
        pipe.add_component(name, cached(kind))
        pipe.add_component(f"{name}_writer", DocumentWriter(store))
        pipe.connect(f"{name}.documents", f"{name}_writer.documents")
    return pipe


def given(documents):
    """The documents for each embedder, with ids of their own."""
    return {
        name: {"documents": [Document(content=one.content, meta={**one.meta, "for": name}) for one in documents]}
        for name in ("text", "image", "both")
    }


def test_a_saved_pipeline_pays_for_nothing_when_it_is_loaded(cached, documents, server, path):
    """Into a store that is empty again, as in another container."""
    store = InMemoryDocumentStore()
    pipe = indexing(cached, store)
    assert pipe.run(given(documents))["both_writer"]["documents_written"] == len(documents)
    before = sent(server)
    assert before == (len(documents), len(documents)), "the halves of fused documents are those of the others"
    saved = pipe.dumps()
    assert saved.count(f"cache: {path}") == 3
    pipe.close()
    store.delete_documents([one.id for one in store.filter_documents()])
    again = Pipeline.loads(saved)
    assert again.run(given(documents))["image_writer"]["documents_written"] == len(documents)
    assert sent(server) == before
    assert again.dumps().count(f"cache: {path}") == 3
    again.close()


async def test_queries_and_rankers_find_what_others_stored(cached, documents, server, folder):
    pictures = cached(JinaClipDocumentImageEmbedder).run(documents)["documents"]
    image = cached(JinaClipImageEmbedder, image_policy={"allowed_roots": [str(folder)]})
    assert image.run(str(folder / "1.png"))["embedding"] == pictures[1].embedding
    found = await image.run_async(str(folder / "1.png"))
    assert (found["embedding"], found["meta"]["usage"]["total_tokens"]) == (pictures[1].embedding, 0)
    ranker = cached(JinaClipDiversityRanker, clusters=2, root_path=str(folder))
    assert len(ranker.run(documents)["documents"]) == len(documents)
    assert sent(server) == (0, len(documents))
    one, other = cached(JinaClipTextEmbedder), cached(JinaClipTextEmbedder, timeout=7.0)
    assert one.run("a dress")["embedding"] == (await other.run_async("a dress"))["embedding"]
    assert sent(server) == (1, len(documents))


def test_another_weight_of_fusion_costs_nothing(cached, documents, server):
    rows = [
        cached(JinaClipFusedDocumentEmbedder, weight=weight).run(documents)["documents"][0].embedding
        for weight in (0.2, 0.5, 0.8)
    ]
    assert rows[0] != rows[1] != rows[2]
    assert sent(server) == (len(documents), len(documents))


def test_the_core_finds_what_a_pipeline_paid_for(cached, documents, server, path):
    found = cached(JinaClipDocumentEmbedder).run(documents)["documents"]
    rows = JinaClip(base_url=server.url, cache=path).embed_documents([one.content for one in documents])
    assert rows.tolist() == [one.embedding for one in found]
    assert sent(server) == (len(documents), 0)


# -- saved, pickled, copied


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("value", [None, True, False, "vectors.sqlite"])
def test_it_is_saved_as_it_was_given(kind, value):
    made = new(kind, KEY, cache=value)
    saved = made.to_dict()
    assert saved["init_parameters"]["cache"] == value
    assert kind.from_dict(saved).options.cache == value


def test_a_path_and_a_cache_are_saved_as_the_path(path):
    for value in (path, Cache(path, max_bytes=10**9)):
        made = JinaClipTextEmbedder(KEY, cache=value)
        assert made.options.cache is value
        assert made.to_dict()["init_parameters"]["cache"] == str(path)


@pytest.mark.parametrize("kind", ["path", "cache"])
def test_pickles_and_copies_carry_it(cached, documents, server, path, kind):
    made = cached(JinaClipDocumentEmbedder, cache=path if kind == "path" else Cache(path))
    made.run(documents)
    for other in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        other.run(documents)
        other.close()
    assert sent(server) == (len(documents), 0)


@pytest.mark.parametrize("value", [3, b"vectors.sqlite", ["vectors.sqlite"], Cache])
def test_what_is_no_cache_is_refused(value):
    with pytest.raises(ConfigError, match="cache"):
        JinaClipTextEmbedder(cache=value)
