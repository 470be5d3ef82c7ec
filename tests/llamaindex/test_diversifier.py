"""JinaClipDiversifier: in a query over the catalogue, with LlamaIndex's events, sync and async."""

from __future__ import annotations

import asyncio
import base64
import copy
import pickle
from pathlib import Path

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import Document, ImageNode, MediaResource, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient, QdrantClient

from jinaclip import ConfigError
from jinaclip.retrieval import diversify
from llamaindex_jinaclip import JinaClipDiversifier, label_images

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


@pytest.fixture(params=["sync", "async"])
def post(request):
    """Calls a postprocessor, either way."""

    async def call(diversifier, nodes, **query):
        if request.param == "sync":
            return diversifier.postprocess_nodes(nodes, **query)
        return await diversifier.apostprocess_nodes(nodes, **query)

    return call


def pictures(files):
    """Results in order, best first, without vectors."""
    return [NodeWithScore(node=ImageNode(image_path=n), score=1 - i / 10) for i, n in enumerate(files)]


def places(found, given):
    return [given.index(one) for one in found]


@pytest.mark.slow
async def test_results_of_a_query_over_the_catalogue_look_different_first(shop, catalogue):
    """A retriever and a query engine over Qdrant, sync and async; the first three are of three kinds."""
    client, aclient = QdrantClient(":memory:"), AsyncQdrantClient(":memory:")
    nodes = shop(label_images([ImageNode(image_path=str(a.picture), metadata={"id": a.id}) for a in catalogue]))
    store = QdrantVectorStore("all", client=client, aclient=aclient)
    store.add(nodes)
    await store.async_add(nodes)
    diversifier = JinaClipDiversifier(embed_model=shop, top_n=3, clusters=3)
    retriever = VectorStoreIndex.from_vector_store(store, embed_model=shop).as_retriever(similarity_top_k=20)
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=[diversifier])
    found = retriever.retrieve("a red dress")
    by_hand = shop.clip.embed_images([one.node.image_path for one in found])
    expected = diversify(by_hand, 3, clusters=3, relevance=[one.score for one in found])
    wanted = [(found[i].node.node_id, found[i].score) for i in expected]
    assert wanted[0][0] == found[0].node.node_id
    answers = engine.query("a red dress"), await engine.aquery("a red dress")
    for answer in answers:
        assert [one.node.node_id for one in answer.source_nodes] == [node_id for node_id, _ in wanted]
        assert [one.score for one in answer.source_nodes] == pytest.approx([score for _, score in wanted])
    client.close()
    await aclient.close()


async def test_pictures_are_embedded_where_the_store_gave_no_vector(embed, server, files, post):
    """Of every kind of node, each once; text nodes and what cannot be opened keep their place."""
    made = embed()
    data = Path(files[3]).read_bytes()  # noqa: ASYNC240
    nodes = [
        TextNode(text="first"),
        ImageNode(image_path=files[0]),
        ImageNode(image_path=files[0]),
        ImageNode(image_path="missing.png"),
        Document(image_resource=MediaResource(path=files[1])),
        ImageNode(image=base64.b64encode(data).decode()),
        ImageNode(image="not base64!"),
        ImageNode(image_path=files[2], embedding=made.get_image_embedding(files[2])),
    ]
    server.reset()
    given = [NodeWithScore(node=node) for node in nodes]
    found = await post(JinaClipDiversifier(embed_model=made, clusters=4), given)
    order = places(found, given)
    assert sorted(order) == list(range(8))
    assert (order[0], order[3], order[6]) == (0, 3, 6)
    assert order.index(2) == 7  # the picture that is there twice comes last
    assert (server.ledger()["images"], server.ledger()["texts"]) == (3, 0)


def kept(made, files, store):
    """Nodes of the files in a store, and results of them without vectors."""
    nodes = made(label_images([ImageNode(image_path=name) for name in files]))
    store.add(nodes)
    for node in nodes:
        node.embedding = None
    return [NodeWithScore(node=node, score=1 - i / 10) for i, node in enumerate(nodes)]


def stores():
    """What LlamaIndex's stores are like: with vectors by id, with nodes by id, and in asynchronous clients alone."""
    return {"simple": SimpleVectorStore(), "qdrant": QdrantVectorStore("all", client=QdrantClient(":memory:"))}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simple", "qdrant"])
def test_vectors_are_taken_from_the_store(embed, server, files, name, caplog):
    """The order is that of the vectors by hand, nothing is sent, and nobody is warned."""
    made, store = embed(), stores()[name]
    given = kept(made, files, store)
    by_hand = diversify(made.get_image_embedding_batch(files), 8, clusters=3, relevance=[one.score for one in given])
    server.reset()
    found = JinaClipDiversifier(embed_model=made, vector_store=store, clusters=3).postprocess_nodes(given)
    assert places(found, given) == by_hand
    assert server.ledger()["requests"] == 0
    assert "embeds the images" not in caplog.text


@pytest.mark.slow
async def test_vectors_are_taken_from_a_store_without_blocking(embed, server, files):
    made, client = embed(), AsyncQdrantClient(":memory:")
    store = QdrantVectorStore("all", aclient=client)
    nodes = made(label_images([ImageNode(image_path=name) for name in files]))
    await store.async_add(nodes)
    server.reset()
    given = [NodeWithScore(node=ImageNode(id_=node.node_id, image_path=node.image_path)) for node in nodes]
    assert await JinaClipDiversifier(embed_model=made, vector_store=store).apostprocess_nodes(given)
    assert server.ledger()["requests"] == 0
    await client.close()


def test_vectors_of_texts_in_the_store_count_for_mmr(embed, server, files):
    made, store = embed(), SimpleVectorStore()
    nodes = made([TextNode(text="red"), TextNode(text="red", id_="again"), TextNode(text="blue")])
    store.add(nodes)
    given = [NodeWithScore(node=TextNode(id_=node.node_id, text=node.text), score=0.5) for node in nodes]
    server.reset()
    diversifier = JinaClipDiversifier(embed_model=made, vector_store=store, method="mmr", lambda_mult=0.3)
    assert [one.node.text for one in diversifier.postprocess_nodes(given)] == ["red", "blue", "red"]
    assert server.ledger()["requests"] == 0


@pytest.mark.slow
async def test_what_it_costs_to_embed_images_again_is_said_once(embed, files, post, caplog):
    """Nobody asked for it: how many, how many tokens, and what spares them."""
    diversifier = JinaClipDiversifier(embed_model=embed(), vector_store=SimpleVectorStore())
    for _ in range(2):
        await post(diversifier, pictures(files))
    said = [record.message for record in caplog.records if "embeds the images" in record.message]
    assert len(said) == 1
    assert "8 results" in said[0]
    assert f"{8 * 4000} tokens" in said[0]
    assert "vector_store" in said[0]


async def test_a_store_that_fails_costs_no_result(embed, files, post, caplog):
    """The log names the kind of error, not its text, which may hold a secret."""

    class Broken(SimpleVectorStore):
        def get_nodes(self, *_, **__):
            raise OSError("password=secret")

    diversifier = JinaClipDiversifier(embed_model=embed(), vector_store=Broken())
    assert len(await post(diversifier, pictures(files))) == 8
    assert "Broken gives no vectors: OSError" in caplog.text
    assert "secret" not in caplog.text


async def test_only_what_was_embedded_as_a_picture_counts_as_one(embed, server, files, post):
    """A plain index embeds a node with a text as text, picture or not; so does a weight of 1 for the text."""
    titled = [NodeWithScore(node=ImageNode(text="red", image_path=name), score=0.5) for name in files[:4]]
    assert await post(JinaClipDiversifier(embed_model=embed()), titled) == titled
    labelled = [NodeWithScore(node=label_images([ImageNode(text="red", image_path=name)])[0]) for name in files[:4]]
    assert await post(JinaClipDiversifier(embed_model=embed(fusion_weight=1)), labelled) == labelled
    assert server.ledger()["requests"] == 0
    await post(JinaClipDiversifier(embed_model=embed()), labelled)
    assert server.ledger()["images"] == 4


def test_pictures_of_documents_count_although_their_store_drops_them(embed, files):
    """A `Document` comes back as a text node; its label says that it was embedded as a picture."""
    made, client = embed(), QdrantClient(":memory:")
    store = QdrantVectorStore("all", client=client)
    store.add(made(label_images([Document(image_resource=MediaResource(path=name)) for name in files])))
    found = VectorStoreIndex.from_vector_store(store, embed_model=made).as_retriever(similarity_top_k=8).retrieve("red")
    assert {type(one.node) for one in found} == {TextNode}
    vectors = {node.node_id: node.embedding for node in store.get_nodes([one.node.node_id for one in found])}
    by_hand = diversify(
        [vectors[one.node.node_id] for one in found], 8, clusters=3, relevance=[one.score for one in found]
    )
    diverse = JinaClipDiversifier(embed_model=made, vector_store=store, clusters=3).postprocess_nodes(found)
    assert places(diverse, found) == by_hand
    client.close()


def test_copies_share_the_store_and_pickles_and_dumps_have_none(embed):
    """A store holds connections."""
    made = JinaClipDiversifier(embed_model=embed(), vector_store=stores()["qdrant"])
    assert copy.deepcopy(made).vector_store is made.vector_store
    assert "vector_store" not in made.to_dict()
    assert pickle.loads(pickle.dumps(made)).vector_store is None


async def test_it_takes_a_permit_for_every_batch_of_pictures(embed, files, turnstile, post):
    """Eight pictures, three to a batch; those with a vector are not embedded and take none."""
    made = embed(embed_batch_size=3, rate_limiter=turnstile)
    await post(JinaClipDiversifier(embed_model=made), pictures(files))
    assert turnstile.sync + turnstile.asynchronous == 3
    given = pictures(files)
    for one in given:
        one.node.embedding = [1.0, 0.0]
    await post(JinaClipDiversifier(embed_model=made), given)
    assert turnstile.sync + turnstile.asynchronous == 3


async def test_nodes_and_scores_stay_as_they_are(embed, files, post):
    """The same objects in a new list, nothing written to them."""
    given = pictures(files)
    before, nodes = copy.deepcopy(given), list(given)
    found = await post(JinaClipDiversifier(embed_model=embed(), top_n=3), given)
    assert given == before
    assert all(any(one is other for other in nodes) for one in found)
    assert len(found) == 3
    assert found[0] is given[0]
    assert all(one.node.embedding is None for one in given)


async def test_no_results_are_none_and_ask_nobody(embed, server, monkeypatch, recorder, post):
    """No key, no request, and the events all the same."""
    monkeypatch.delenv("JINA_API_KEY", raising=False)
    assert await post(JinaClipDiversifier(embed_model=embed(api_key=None)), []) == []
    assert server.ledger()["requests"] == 0
    assert [len(recorder.named(name)) for name in ("ReRankStartEvent", "ReRankEndEvent")] == [1, 1]


async def test_events_tell_of_it(embed, files, recorder, post):
    """What came in, for which query, and what went out."""
    given = pictures(files)
    found = await post(JinaClipDiversifier(embed_model=embed(), top_n=2), given, query_bundle=QueryBundle("red"))
    [start], [end] = recorder.named("ReRankStartEvent"), recorder.named("ReRankEndEvent")
    assert (start.query, start.nodes, start.top_n) == (QueryBundle("red"), given, 2)
    assert start.model_name == "jina-clip-v2"
    assert end.nodes == found


async def test_vectors_of_texts_count_for_mmr_alone(embed, server, files, post):
    """K-means compares pictures; mmr whatever has a vector."""
    made = embed()
    vector = made.get_text_embedding("red")
    other = made.get_text_embedding("blue")
    server.reset()
    given = [NodeWithScore(node=TextNode(text="t", embedding=v), score=0.5) for v in (vector, vector, other)]
    kept = await post(JinaClipDiversifier(embed_model=made), given)
    assert kept == given
    mixed = await post(JinaClipDiversifier(embed_model=made, method="mmr", lambda_mult=0.3), given)
    assert [one.node.embedding for one in mixed] == [vector, other, vector]
    assert server.ledger()["requests"] == 0


async def test_scores_count_if_they_fall_else_the_order(embed, files, post):
    """Distances rise, and lists that were put together start again; then what stands first is the most relevant."""
    for scores in ([0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.95, 0.7], [None, None, None, None]):
        given = [NodeWithScore(node=ImageNode(image_path=n), score=s) for n, s in zip(files[:4], scores, strict=True)]
        found = await post(JinaClipDiversifier(embed_model=embed(), method="mmr", lambda_mult=1.0), given)
        assert found == given


@pytest.mark.parametrize(
    "options",
    [{"top_n": 0}, {"clusters": 0}, {"method": "best"}, {"lambda_mult": 2.0}, {"topn": 3}, {"embed_model": "x"}],
    ids=str,
)
def test_a_wrong_option_is_refused_when_it_is_made(embed, options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        JinaClipDiversifier(**{"embed_model": embed(), **options})


def test_a_misspelt_option_is_refused_with_the_one_that_is_meant(embed):
    with pytest.raises(ConfigError, match="no option 'topn'; did you mean 'top_n'"):
        JinaClipDiversifier(embed_model=embed(), topn=3)


async def test_the_loop_goes_on(embed, files):
    """Other tasks run while results are embedded and clustered."""
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(tick())
    await JinaClipDiversifier(embed_model=embed()).apostprocess_nodes(pictures(files))
    task.cancel()
    assert ticks > 3


def test_dumps_hold_no_key_and_dumps_pickles_and_copies_give_the_same(embed):
    """A pickle holds the key, for worker processes."""
    made = JinaClipDiversifier(embed_model=embed(api_key="jina_test_secret", dimensions=64), clusters=3, top_n=2)
    dump = made.to_dict()
    assert dump["class_name"] == "JinaClipDiversifier"
    assert "jina_test_secret" not in made.to_json() + repr(made)
    for again in (JinaClipDiversifier.from_dict(dump), pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert again.to_dict() == dump
        assert again.embed_model.clip.fingerprint == made.embed_model.clip.fingerprint
    assert pickle.loads(pickle.dumps(made)).embed_model.clip.config.key.reveal() == "jina_test_secret"
