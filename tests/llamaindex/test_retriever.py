"""JinaClipRetriever: one store searched by text, by picture and by both, alone, in query engines and as a tool."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.llms.types import ImageBlock
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    MediaResource,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.tools import RetrieverTool
from llama_index.core.vector_stores import MetadataFilter, MetadataFilters, SimpleVectorStore
from llama_index.vector_stores.qdrant import QdrantVectorStore
from PIL import Image as Pillow
from qdrant_client import AsyncQdrantClient, QdrantClient

from jinaclip import APIError, ConfigError, InputError, fuse
from llamaindex_jinaclip import JinaClipRetriever, label_images

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode is not recommended:UserWarning"),
]


@pytest.fixture(params=["sync", "async"])
def search(request):
    """Searches, either way."""

    async def call(retriever, query):
        return retriever.retrieve(query) if request.param == "sync" else await retriever.aretrieve(query)

    return call


def index_of(embed, files):
    """An index of a picture and a text for each file, in LlamaIndex's own store."""
    nodes = [Document(id_=name, image_resource=MediaResource(path=name), metadata={"kind": "image"}) for name in files]
    nodes += [
        TextNode(id_=f"text {name}", text=name, metadata={"kind": "text"}, excluded_embed_metadata_keys=["kind"])
        for name in files
    ]
    return VectorStoreIndex(nodes=embed(label_images(nodes)), embed_model=embed)


def content(name):
    return Path(name).read_bytes()


def encoded(name):
    return base64.b64encode(content(name)).decode()


def decoded(name):
    with Pillow.open(name) as image:
        return image.convert("RGB")


FORMS = {
    "bundle, path": lambda name: QueryBundle("", image_path=name),
    "bundle, data: URI": lambda name: QueryBundle("", image_path=f"data:image/png;base64,{encoded(name)}"),
    "bundle, file: URI": lambda name: QueryBundle("", image_path=Path(name).absolute().as_uri()),
    "block, path": lambda name: ImageBlock(path=name),
    "block, bytes": lambda name: ImageBlock(image=content(name)),
    "block, open file": lambda name: ImageBlock(image=BytesIO(content(name))),
    "block, data: URI": lambda name: ImageBlock(url=f"data:image/png;base64,{encoded(name)}"),
    "resource": lambda name: MediaResource(path=name),
    "resource, bytes": lambda name: MediaResource(data=content(name)),
    "image node": lambda name: ImageNode(image_path=name),
    "image node, base64": lambda name: ImageNode(image=encoded(name)),
    "image node, data: URI": lambda name: ImageNode(image_url=f"data:image/png;base64,{encoded(name)}"),
    "image document": lambda name: ImageDocument(image_path=name),
    "node": lambda name: Node(image_resource=MediaResource(data=content(name))),
    "path": Path,
    "bytes": content,
    "PIL image": lambda name: decoded(name),
    "array": lambda name: np.asarray(decoded(name)),
    "found node": lambda name: NodeWithScore(node=ImageNode(image_path=name), score=0.5),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
async def test_a_picture_in_any_form_finds_itself(embed, files, search, form):
    made = embed()
    retriever = JinaClipRetriever(index_of(made, files[:3]), made, similarity_top_k=1)
    [found] = await search(retriever, FORMS[form](files[1]))
    assert found.node.node_id == files[1]
    assert found.score == pytest.approx(1, abs=1e-4)


async def test_text_and_picture_are_fused_into_one_vector_in_one_call(embed, files, search, recorder, server):
    """As the README does by hand; the text with the model's instruction for queries."""
    made = embed()
    index = index_of(made, files[:3])
    by_hand = fuse(made.get_query_embedding("red"), made.get_image_embedding(files[1]), 0.3).tolist()
    expected = index.as_retriever(similarity_top_k=6).retrieve(QueryBundle("", embedding=by_hand))
    retriever = JinaClipRetriever(index, made, fusion_weight=0.3, similarity_top_k=6)
    recorder.events.clear()
    for query in (QueryBundle("red", image_path=files[1]), ImageNode(text="red", image_path=files[1])):
        found = await search(retriever, query)
        assert [one.node.node_id for one in found] == [one.node.node_id for one in expected]
        assert [one.score for one in found] == pytest.approx([one.score for one in expected], abs=1e-5)
    assert [end.chunks for end in recorder.named("EmbeddingEndEvent")] == [[f"red\n{files[1]}"]] * 2


async def test_texts_are_searched_as_llamaindex_searches_them(embed, files, search):
    """A str, a bundle, several texts of a transformation such as HyDE, a vector that is there, a node of text."""
    made = embed()
    index = index_of(made, files[:3])
    stock, ours = index.as_retriever(similarity_top_k=6), JinaClipRetriever(index, made, similarity_top_k=6)
    vector = made.get_image_embedding(files[2])
    for query in (
        "p1.png",
        QueryBundle("p1.png"),
        QueryBundle("p1.png", custom_embedding_strs=["p1.png", "p2.png"]),
        QueryBundle("", embedding=vector),
    ):
        expected = [(one.node.node_id, one.score) for one in stock.retrieve(query)]
        assert [(one.node.node_id, one.score) for one in await search(ours, query)] == expected
    expected = [one.node.node_id for one in stock.retrieve("p1.png")]
    assert [one.node.node_id for one in await search(ours, TextNode(text="p1.png"))] == expected


async def test_a_query_with_a_vector_sends_nothing(embed, files, search, server):
    made = embed()
    retriever = JinaClipRetriever(index_of(made, files[:2]), made)
    vector = made.get_image_embedding(files[0])
    server.reset()
    assert await search(retriever, QueryBundle("words", image_path=files[0], embedding=vector))
    assert server.ledger()["requests"] == 0


def test_a_query_is_not_written_to(embed, files):
    """LlamaIndex's own retriever puts the vector into a bundle, where another model's index finds it."""
    made, query = embed(), QueryBundle("red", image_path=files[0])
    JinaClipRetriever(index_of(made, files[:2]), made).retrieve(query)
    assert query == QueryBundle("red", image_path=files[0])


@pytest.mark.slow
async def test_a_catalogue_is_searched_by_text_by_picture_and_by_both(shop, catalogue, search):
    """Over the API and locally, in a vector store: titles, and a picture with words that say what is to differ."""
    clients = QdrantClient(":memory:"), AsyncQdrantClient(":memory:")
    store = QdrantVectorStore("all", client=clients[0], aclient=clients[1])
    nodes = shop(label_images([ImageNode(image_path=str(a.picture), metadata={"id": a.id}) for a in catalogue]))
    store.add(nodes)
    await store.async_add(nodes)
    retriever = JinaClipRetriever(store, shop, similarity_top_k=5)

    async def named(query):
        return [one.node.metadata["id"] for one in await search(retriever, query)]

    assert (await named("a red dress"))[0] == "red-dress"
    coat = next(a for a in catalogue if a.attributes.garment == "coat")
    assert (await named(ImageBlock(image=content(coat.picture))))[0] == coat.id
    both = await named(QueryBundle(f"{coat.attributes.colour} coat", image_path=str(coat.picture)))
    assert both[0] == coat.id
    garments = {a.id: a.attributes.garment for a in catalogue}
    assert [garments[one] for one in both].count("coat") >= 3
    clients[0].close()
    await clients[1].close()


def test_an_index_that_was_given_pictures_is_searched_whole(embed, files):
    """LlamaIndex's `as_retriever` looks among its ImageNodes alone."""
    made, client = embed(), QdrantClient(":memory:")
    context = StorageContext.from_defaults(vector_store=QdrantVectorStore("all", client=client))
    nodes = made(label_images([ImageNode(image_path=files[0]), TextNode(text="words")]))
    index = VectorStoreIndex(nodes=nodes, storage_context=context, embed_model=made)
    assert len(JinaClipRetriever(index, made, similarity_top_k=9).retrieve("words")) == 2
    client.close()


# ---------------------------------------------------------------- options


async def test_options_of_the_host_s_retriever_are_passed_on(embed, files, search):
    made = embed()
    filters = MetadataFilters(filters=[MetadataFilter(key="kind", value="text")])
    retriever = JinaClipRetriever(index_of(made, files), made, similarity_top_k=3, filters=filters)
    found = await search(retriever, QueryBundle("", image_path=files[0]))
    assert [one.node.metadata["kind"] for one in found] == ["text"] * 3


async def test_options_of_the_store_are_passed_on(embed, files, search):
    """The threshold of "mmr": all relevance gives the order of a plain search, all variety another."""
    made = embed()
    index = index_of(made, files)

    async def order(**options):
        retriever = JinaClipRetriever(index, made, similarity_top_k=4, **options)
        return [one.node.node_id for one in await search(retriever, QueryBundle("", image_path=files[0]))]

    plain = await order()
    relevant, various = [
        await order(vector_store_query_mode="mmr", vector_store_kwargs={"mmr_threshold": share}) for share in (1, 0.01)
    ]
    assert relevant == plain != various


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"similarity_topk": 3}, "did you mean 'similarity_top_k'"),
        ({"fusion_weight": 2}, "weight"),
        ({"embed_model": "jina-clip-v2"}, "JinaClipEmbedding"),
    ],
    ids=["a misspelt option", "a weight", "a model"],
)
def test_a_wrong_option_is_refused_when_it_is_made(embed, files, options, named):
    """LlamaIndex's own retriever swallows misspelt ones."""
    made = embed()
    with pytest.raises(ConfigError, match=named):
        JinaClipRetriever(index_of(made, files[:1]), **{"embed_model": made, **options})


def test_what_cannot_be_searched_whole_is_refused_when_it_is_made(embed, files):
    """Two stores, of which one would be searched; a store that gives ids; no index at all."""
    made = embed()
    two = MultiModalVectorStoreIndex(nodes=[], embed_model=made, image_embed_model=made)
    for index, why in ((two, "two stores"), (SimpleVectorStore(), "keeps vectors alone"), ("shop", "not str")):
        with pytest.raises(ConfigError, match=why):
            JinaClipRetriever(index, made)


async def test_known_queries_come_from_the_cache_and_others_take_a_permit(embed, files, search, turnstile, server):
    """The limiter lets a text with a picture in as one request."""
    made = embed(rate_limiter=turnstile, embeddings_cache=SimpleKVStore(), embed_batch_size=8)
    retriever = JinaClipRetriever(index_of(made, files[:2]), made)
    turnstile.sync = turnstile.asynchronous = 0
    for _ in range(2):
        await search(retriever, "red")
    assert turnstile.sync + turnstile.asynchronous == 1
    await search(retriever, QueryBundle("red", image_path=files[0]))
    assert turnstile.sync + turnstile.asynchronous == 2


# ---------------------------------------------------------------- what goes wrong


NOTHING = {
    "an empty text": "",
    "a blank text": " \n",
    "a bundle": QueryBundle(""),
    "a node of nothing": TextNode(text=""),
}


@pytest.mark.parametrize("query", NOTHING.values(), ids=NOTHING)
async def test_nothing_to_search_by_is_refused(embed, files, search, query):
    made = embed()
    with pytest.raises(InputError, match="nothing to search by"):
        await search(JinaClipRetriever(index_of(made, files[:1]), made), query)


@pytest.mark.parametrize("query", [None, 3, {"text": "red"}, ["red"]], ids=["None", "an int", "a dict", "a list"])
async def test_what_is_no_query_is_refused_with_what_is_one(embed, files, search, query):
    made = embed()
    with pytest.raises(InputError, match=rf"QueryBundle\(text, image_path=...\) for both, not {type(query).__name__}"):
        await search(JinaClipRetriever(index_of(made, files[:1]), made), query)


async def test_a_picture_that_cannot_be_opened_is_named_and_words_do_not_stand_in_for_it(embed, files, search):
    made = embed()
    retriever = JinaClipRetriever(index_of(made, files[:1]), made)
    with pytest.raises(InputError, match=r"^pair 0: .*missing\.png"):
        await search(retriever, QueryBundle("red", image_path="missing.png"))
    with pytest.raises(InputError, match="no image"):
        await search(retriever, MediaResource(text="words"))
    with pytest.raises(InputError, match="allowed_roots"):
        await search(retriever, QueryBundle("red", image_path="/etc/passwd"))


async def test_events_of_a_search_are_paired_when_it_fails(embed, files, search, server, recorder, hasty):
    """For the dispatcher, which LlamaIndex leaves with a start alone, and for the callback manager."""
    handler = LlamaDebugHandler(print_trace_on_end=False)
    made = embed(max_retries=0)
    index = index_of(made, files[:1])
    retriever = JinaClipRetriever(index, made, callback_manager=CallbackManager([handler]))
    recorder.events.clear()
    server.configure(script=["status_503"] * 9)
    with pytest.raises(APIError):
        await search(retriever, "red")
    for name in ("Retrieval", "Embedding"):
        assert [len(recorder.named(f"{name}{end}Event")) for end in ("Start", "End")] == [1, 1]
    assert len(handler.get_event_pairs(CBEventType.RETRIEVE)[0]) == 2


async def test_no_event_holds_the_content_of_a_picture_or_a_signature(embed, files, search, recorder, tmp_path):
    """Whatever form it came in, and stock handlers get texts."""
    counter, made = TokenCountingHandler(tokenizer=str.split), embed()
    index = index_of(made, files[:2])
    made.callback_manager = CallbackManager([counter])  # an index sets its own
    retriever = JinaClipRetriever(index, made, callback_manager=CallbackManager([counter]))
    recorder.events.clear()
    for form in FORMS.values():
        await search(retriever, form(files[1]))
    shown = str([event.model_dump() for event in recorder.events]) + repr(recorder.events)
    assert encoded(files[1])[100:140] not in shown
    assert repr(content(files[1])[100:140])[2:-1] not in shown
    prompts = {event.prompt for event in counter.embedding_token_counts}
    assert prompts == {files[1], "image", "str", "bytes", "Image", "ndarray", (tmp_path / files[1]).as_uri()}


async def test_an_address_keeps_its_signature_to_itself(embed, files, search, recorder):
    """In events and in the error; what else the bundle has stays."""
    made = embed()
    retriever = JinaClipRetriever(index_of(made, files[:2]), made)
    address = "https://127.0.0.1/x.png?sig=SECRET"
    with pytest.raises(InputError) as caught:
        await search(retriever, QueryBundle("red", image_path=address))
    vector = made.get_image_embedding(files[1])
    found = await search(retriever, QueryBundle("red", image_path=address, embedding=vector))
    assert found[0].node.node_id == files[1]
    assert "SECRET" not in repr(recorder.events) + str(caught.value)


def test_the_callback_manager_of_the_embedding_stays_its_own(embed):
    """An index that is made of a store would replace it."""
    client, counter = QdrantClient(":memory:"), TokenCountingHandler(tokenizer=str.split)
    made = embed(callback_manager=CallbackManager([counter]))
    store = QdrantVectorStore("all", client=client)
    store.add(made([TextNode(text="red")]))
    JinaClipRetriever(store, made).retrieve("red")
    assert [event.prompt for event in counter.embedding_token_counts] == ["red", "red"]
    client.close()


# ---------------------------------------------------------------- in LlamaIndex's own things


async def test_query_engines_tools_and_other_retrievers_take_it(embed, files, search, request):
    """A picture goes through an engine as a bundle; a tool, as agents call it, asks by text."""
    made = embed()
    retriever = JinaClipRetriever(index_of(made, files[:3]), made, similarity_top_k=1)
    engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
    query = QueryBundle("", image_path=files[1])
    for answer in (engine.query(query), await engine.aquery(query)):
        assert [one.node.node_id for one in answer.source_nodes] == [files[1]]
    tool = RetrieverTool.from_defaults(retriever, name="shop", description="Products of the shop.")
    for output in (tool.call("p1.png"), await tool.acall("p1.png")):
        assert output.content
        assert len(output.raw_output) == 1
    fusion = QueryFusionRetriever([retriever], num_queries=1, llm=MockLLM(), use_async=False, similarity_top_k=1)
    assert [one.node.node_id for one in await search(fusion, query)] == [files[1]]


async def test_it_closes_what_it_embeds_with(embed, files):
    made = embed()
    with JinaClipRetriever(index_of(made, files[:1]), made) as retriever:
        assert retriever.retrieve("red")
    async with retriever:
        assert await retriever.aretrieve("red"), "what is closed can be used again"
    retriever.close()
    await retriever.aclose()
