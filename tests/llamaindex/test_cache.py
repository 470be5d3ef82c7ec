"""The option `cache`: nodes, queries, images and pairs are embedded once, beside what LlamaIndex keeps itself."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from llama_index.core import StorageContext
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.schema import ImageNode, TextNode
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

from jinaclip import Cache, ConfigError, JinaClip
from llamaindex_jinaclip import JinaClipEmbedding, label_images

TEXTS = ["a red dress", "a blue coat", "a hat"]
pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "vectors.sqlite"


@pytest.fixture
def cached(embed, path):
    """Makes embeddings with the cache of this test."""
    return lambda **options: embed(**{"cache": path, **options})


@pytest.fixture
def nodes(files):
    """Three texts, three images, and two of both."""
    both = [ImageNode(text=text, image_path=name) for text, name in zip(TEXTS, files[3:5], strict=False)]
    return label_images([*map(text_node, TEXTS), *[ImageNode(image_path=name) for name in files[:3]], *both])


def text_node(text):
    return TextNode(text=text)


def sent(server):
    """Texts and images that were embedded."""
    ledger = server.ledger()
    return ledger["texts"], ledger["images"]


def vectors(found):
    return [node.embedding for node in found]


async def test_a_pipeline_that_forgot_everything_pays_for_nothing(cached, nodes, server):
    """A new pipeline has no ingestion cache, as on another machine; `arun` finds what `run` stored."""
    first = IngestionPipeline(transformations=[cached()]).run(nodes=copy.deepcopy(nodes))
    before = sent(server)
    second = IngestionPipeline(transformations=[cached(timeout=9)]).run(nodes=copy.deepcopy(nodes))
    third = await IngestionPipeline(transformations=[cached()]).arun(nodes=copy.deepcopy(nodes))
    assert vectors(first) == vectors(second) == vectors(third)
    assert sent(server) == before == (3, 5), "the text of a node with both is that of a text"


def test_another_weight_of_fusion_costs_nothing(cached, nodes, server):
    """LlamaIndex's caches cannot tell: it is another transformation. Here the halves are kept."""
    cached()(copy.deepcopy(nodes))
    before = sent(server)
    one, other = cached(fusion_weight=0.2), cached(fusion_weight=0.8)
    assert vectors(one(copy.deepcopy(nodes)))[-1] != vectors(other(copy.deepcopy(nodes)))[-1]
    assert sent(server) == before


def test_a_multi_modal_index_is_built_again_for_nothing(cached, nodes, server):
    found = []
    for _ in range(2):
        client, made = QdrantClient(":memory:"), cached()
        stores = [QdrantVectorStore(name, client=client) for name in ("text", "image")]
        context = StorageContext.from_defaults(vector_store=stores[0], image_store=stores[1])
        index = MultiModalVectorStoreIndex(
            nodes=copy.deepcopy(nodes), storage_context=context, embed_model=made, image_embed_model=made
        )
        retriever = index.as_retriever(similarity_top_k=2, image_similarity_top_k=2)
        found.append([one.node.node_id for one in retriever.retrieve("a dress")])
        client.close()
        if len(found) == 1:
            before = sent(server)
    assert found[0] == found[1]
    assert sent(server) == before


async def test_every_method_finds_what_another_stored(cached, files, server):
    first, second = cached(), cached(embed_batch_size=2)
    expected = first.get_text_embedding_batch(TEXTS), first.get_query_embedding("red")
    images = first.get_image_embedding_batch(files)
    assert await second.aget_text_embedding_batch(TEXTS) == expected[0]
    assert second.get_text_embedding(TEXTS[1]) == expected[0][1]
    assert await second.aget_query_embedding("red") == expected[1]
    assert second.get_image_embedding(files[2]) == images[2]
    assert sent(server) == (len(TEXTS) + 1, len(files))
    assert (second.clip.usage.tokens, second.clip.usage.hits) == (0, len(TEXTS) + 3)


def test_llamaindex_s_own_cache_goes_first_and_works_as_before(cached, embed, server):
    """It has texts alone. What it lacks is looked up in ours; what ours lacks is embedded."""
    store = SimpleKVStore()
    cached(embeddings_cache=store).get_text_embedding_batch(TEXTS)
    assert embed(embeddings_cache=store).get_text_embedding_batch(TEXTS)
    assert cached().get_text_embedding_batch(TEXTS)
    both = cached(embeddings_cache=store)
    both.get_text_embedding_batch([*TEXTS, "new"])
    assert both.clip.usage.hits == 0, "theirs had them"
    assert sent(server) == (len(TEXTS) + 1, 0)


def test_the_core_finds_what_an_index_paid_for(cached, server, path):
    rows = cached().get_text_embedding_batch(TEXTS)
    clip = JinaClip(base_url=server.url, cache=path)  # without a key
    np.testing.assert_array_equal(clip.embed_documents(TEXTS), np.array(rows, np.float32))
    assert sent(server) == (len(TEXTS), 0)


# -- dumps, pickles, copies


@pytest.mark.parametrize("value", [None, True, False, "vectors.sqlite"])
def test_a_dump_has_the_option_as_it_was_given(value):
    made = JinaClipEmbedding(cache=value)
    for other in (JinaClipEmbedding.from_dict(made.to_dict()), JinaClipEmbedding.from_json(made.to_json())):
        assert other.cache == made.cache == value


def test_a_dump_of_a_path_or_a_cache_is_the_path(path):
    for value in (path, Cache(path, max_bytes=10**9)):
        made = JinaClipEmbedding(cache=value)
        assert made.cache is value
        assert made.to_dict()["cache"] == str(path)
        assert JinaClipEmbedding.from_json(made.to_json()).clip.cache.path == path


def test_it_is_no_part_of_what_an_ingestion_cache_goes_by(path, nodes):
    """Neither a cache nor another one changes a vector."""
    hashes = [get_transformation_hash(nodes, JinaClipEmbedding(cache=value)) for value in (None, path, True)]
    assert len(set(hashes)) == 1


@pytest.mark.parametrize("kind", ["path", "cache"])
def test_pickles_and_copies_carry_it(cached, server, path, kind):
    made = cached(cache=path if kind == "path" else Cache(path))
    made.get_text_embedding_batch(TEXTS)
    changed = made.model_copy(update={"timeout": 3.0})
    for other in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), copy.copy(made), changed):
        other.get_text_embedding_batch(TEXTS)
    assert sent(server) == (len(TEXTS), 0)
    assert changed.clip.cache is made.clip.cache


def test_it_can_be_set_and_unset(embed, server, path):
    made = embed()
    for value in (path, False, path):
        made.cache = value
        made.get_text_embedding_batch(TEXTS)
        assert (made.clip.cache is None) == (value is False)
    assert sent(server) == (2 * len(TEXTS), 0)


@pytest.mark.parametrize("value", [3, b"vectors.sqlite", ["vectors.sqlite"], Cache])
def test_what_is_no_cache_is_refused(value):
    with pytest.raises(ConfigError, match="cache"):
        JinaClipEmbedding(cache=value)


def test_the_schema_names_what_json_can_hold():
    schema = JinaClipEmbedding.model_json_schema()["properties"]["cache"]
    assert {kind["type"] for kind in schema["anyOf"]} == {"boolean", "string", "null"}
