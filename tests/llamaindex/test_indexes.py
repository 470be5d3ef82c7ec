"""Indexes over Qdrant: the multi-modal one, the one-store pattern, and what LlamaIndex loses without a word."""

from __future__ import annotations

import base64
import gc
import re
from io import BytesIO
from pathlib import Path

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.indices import MultiModalVectorStoreIndex
from llama_index.core.schema import Document, ImageDocument, ImageNode, MediaResource, QueryBundle, TextNode
from llama_index.core.vector_stores import VectorStoreQuery
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import AsyncQdrantClient, QdrantClient

from jinaclip import fuse
from llamaindex_jinaclip import label_images
from llamaindex_jinaclip.labels import LABEL

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant:UserWarning")


@pytest.fixture
def qdrant():
    client = QdrantClient(":memory:")
    yield client
    client.close()


def store(qdrant, name="all"):
    return QdrantVectorStore(name, client=qdrant)


def one_store(qdrant, embed, nodes=()):
    context = StorageContext.from_defaults(vector_store=store(qdrant))
    return VectorStoreIndex(nodes=list(nodes), storage_context=context, embed_model=embed)


def two_stores(qdrant, embed, nodes, **options):
    context = StorageContext.from_defaults(vector_store=store(qdrant, "text"), image_store=store(qdrant, "image"))
    return MultiModalVectorStoreIndex(
        nodes=nodes, storage_context=context, embed_model=embed, image_embed_model=embed, **options
    )


def named(found):
    return [one.node.metadata["id"] for one in found]


def picture_nodes(articles, **options):
    nodes = [ImageNode(image_path=str(a.picture), metadata={"id": a.id}, **options) for a in articles]
    return label_images(nodes)


def text_nodes(articles):
    return [TextNode(text=a.title, metadata={"id": a.id}, excluded_embed_metadata_keys=["id"]) for a in articles]


def reference(qdrant):
    """A vector as LlamaIndex keeps it in Qdrant, by node id."""
    points, _ = qdrant.scroll("all", limit=1000, with_vectors=True)
    return {point.id: point.vector for point in points}


# ---------------------------------------------------------------- the catalogue, both backends


@pytest.mark.slow
def test_one_store_is_searched_by_text_by_picture_and_by_both(shop, catalogue, qdrant):
    """60 pictures in a plain VectorStoreIndex."""
    retriever = one_store(qdrant, shop, shop(picture_nodes(catalogue))).as_retriever(similarity_top_k=5)
    for asked in ("a red dress", "ein Kleid in Rot", "红色连衣裙"):
        assert named(retriever.retrieve(asked))[0] == "red-dress"
    coat = next(a for a in catalogue if a.attributes.garment == "coat")
    looked = shop.get_image_embedding(str(coat.picture))
    assert named(retriever.retrieve(QueryBundle("", embedding=looked)))[0] == coat.id
    both = fuse(shop.get_query_embedding(f"{coat.attributes.colour} coat"), looked).tolist()
    found = retriever.retrieve(QueryBundle("", embedding=both))
    assert found[0].node.metadata["id"] == coat.id
    garments = {a.id: a.attributes.garment for a in catalogue}
    assert [garments[one] for one in named(found)].count("coat") >= 3


@pytest.mark.slow
async def test_titles_fused_with_pictures_are_found_by_either(shop, catalogue):
    """Through the asynchronous client, over documents with both."""
    client = AsyncQdrantClient(":memory:")
    documents = [
        Document(
            text=a.title,
            image_resource=MediaResource(path=a.picture),
            metadata={"id": a.id},
            excluded_embed_metadata_keys=["id"],
        )
        for a in catalogue
    ]
    vector_store = QdrantVectorStore("all", aclient=client)
    index = VectorStoreIndex.from_vector_store(vector_store, embed_model=shop)
    await index.ainsert_nodes(await shop.acall(label_images(documents)))
    retriever = index.as_retriever(similarity_top_k=3)
    ranks = 0
    for article in catalogue[::6]:
        ranks += named(await retriever.aretrieve(article.title))[0] == article.id
        looked = await shop.aget_image_embedding(article.picture)
        ranks += named(await retriever.aretrieve(QueryBundle("", embedding=looked)))[0] == article.id
    assert ranks >= 19
    await client.close()


@pytest.mark.slow
def test_the_multi_modal_index_finds_pictures_and_texts(shop, catalogue, qdrant):
    """Text to picture, picture to picture, text to both; picture paths and base64."""
    nodes = picture_nodes(catalogue[:30]) + [
        ImageNode(image=base64.b64encode(a.picture.read_bytes()).decode(), metadata={"id": a.id})
        for a in catalogue[30:]
    ]
    index = two_stores(qdrant, shop, nodes + text_nodes(catalogue))
    retriever = index.as_retriever(similarity_top_k=3, image_similarity_top_k=4)
    assert named(retriever.text_to_image_retrieve("a red dress"))[0] == "red-dress"
    for article in (catalogue[3], catalogue[40]):
        assert named(retriever.image_to_image_retrieve(str(article.picture)))[0] == article.id
        bundle = QueryBundle("", image_path=str(article.picture))
        assert named(retriever.image_to_image_retrieve(bundle))[0] == article.id
    both = retriever.retrieve("a red dress")
    assert [type(one.node) for one in both] == [TextNode] * 3 + [ImageNode] * 4
    assert named(both)[3] == "red-dress"
    assert {"red", "dress"} <= set(re.findall(r"\w+", both[0].node.text.lower()))


def test_a_picture_finds_its_title(shop, catalogue, qdrant):
    """Image to text goes through the text store with the vector of the picture."""
    index = two_stores(qdrant, shop, text_nodes(catalogue))
    article = catalogue[7]
    query = VectorStoreQuery(query_embedding=shop.get_image_embedding(article.picture), similarity_top_k=3)
    found = index.vector_store.query(query)
    assert article.id in [node.metadata["id"] for node in found.nodes]


async def test_the_multi_modal_index_works_async(shop, catalogue):
    """LlamaIndex wants asynchronous clients for it."""
    clients = [AsyncQdrantClient(":memory:") for _ in range(2)]
    texts, images = (QdrantVectorStore(name, aclient=c) for name, c in zip(("text", "image"), clients, strict=True))
    context = StorageContext.from_defaults(vector_store=texts, image_store=images)
    index = MultiModalVectorStoreIndex(
        nodes=[], storage_context=context, embed_model=shop, image_embed_model=shop, use_async=True
    )
    index._is_image_vector_store_empty = index._is_text_vector_store_empty = False
    await index.ainsert_nodes(picture_nodes(catalogue[:20]) + text_nodes(catalogue[:20]))
    retriever = index.as_retriever(similarity_top_k=1, image_similarity_top_k=1)
    assert named(await retriever.aretrieve("a red dress")) == ["red-dress", "red-dress"]
    assert named(await retriever.aimage_to_image_retrieve(str(catalogue[3].picture))) == [catalogue[3].id]
    for client in clients:
        await client.close()


LOOPS = (
    # LlamaIndex closes the loop of a build without shutting down its asynchronous generators, so the connections of
    # that loop are closed when they are collected, and say so
    "ignore:unclosed:ResourceWarning",
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning",
)


async def forget_loops(made):
    """A call in a new place makes the core let go of finished loops; they are collected while LOOPS holds."""
    await made.clip.aclose()
    await made.aget_query_embedding("after the builds")
    gc.collect()


@pytest.mark.slow
@pytest.mark.filterwarnings(*LOOPS)
async def test_builds_with_use_async_inside_a_running_loop(shop, catalogue):
    """Each build has an event loop of its own; three in a row, and the vectors are those of a plain call."""
    nodes = text_nodes(catalogue[:12])
    expected = shop.get_text_embedding_batch([a.title for a in catalogue[:12]])
    for _ in range(3):
        index = VectorStoreIndex(nodes=nodes, embed_model=shop, use_async=True)
        kept = [index.vector_store.get(node.node_id) for node in nodes]
        for got, wanted in zip(kept, expected, strict=True):
            assert got == pytest.approx(wanted, abs=1e-5)
        await shop.aget_query_embedding("between builds")
    await forget_loops(shop)


@pytest.mark.slow
@pytest.mark.filterwarnings(*LOOPS)
async def test_multi_modal_builds_with_use_async_inside_a_running_loop(embed, files):
    """With pictures; the vectors are those of the server's digests."""
    made = embed(embed_batch_size=3)
    for _ in range(3):
        nodes = [ImageNode(image_path=name, metadata={"id": name}) for name in files]
        nodes += [TextNode(text=name) for name in files]
        index = MultiModalVectorStoreIndex(nodes=nodes, embed_model=made, image_embed_model=made, use_async=True)
        for node in nodes[: len(files)]:
            assert index.image_vector_store.get(node.node_id) == made.get_image_embedding(node.image_path)
    await forget_loops(made)


# ---------------------------------------------------------------- silent losses of LlamaIndex


def test_a_plain_index_keeps_pictures_without_text_and_metadata(embed, files, qdrant):
    """Silent loss 1: an index build drops such nodes with a printed line, even with a vector. A label helps."""
    made = embed()
    nodes = [
        ImageNode(image_path=files[0]),
        ImageNode(image=base64.b64encode(Path(files[1]).read_bytes()).decode()),
        Document(image_resource=MediaResource(path=files[2])),
        Document(image_resource=MediaResource(path=files[3]), metadata={"hidden": 1}),
        ImageNode(image_path=files[4], metadata={"hidden": 1}, excluded_embed_metadata_keys=["hidden"]),
        ImageDocument(image_path=files[5]),
    ]
    one_store(qdrant, made, made(label_images(nodes)))
    assert reference(qdrant).keys() == {node.node_id for node in nodes}


def test_the_multi_modal_index_keeps_them_too(embed, files, qdrant):
    """Silent loss 1: `from_documents` and the constructor, once the nodes went through the embedding."""
    made = embed()
    index = two_stores(qdrant, made, made(label_images([ImageNode(image_path=name) for name in files])))
    found = index.as_retriever(image_similarity_top_k=20).image_to_image_retrieve(files[3])
    assert len(found) == len(files)
    assert found[0].node.image_path == files[3]
    assert found[0].score == pytest.approx(1, abs=1e-4)


def test_documents_with_pictures_go_into_a_plain_index(embed, files, qdrant):
    """Silent loss 1: `from_documents` with the embedding as the transformation."""
    made = embed()
    context = StorageContext.from_defaults(vector_store=store(qdrant))
    documents = label_images([Document(image_resource=MediaResource(path=name)) for name in files])
    index = VectorStoreIndex.from_documents(
        documents, transformations=[made], embed_model=made, storage_context=context
    )
    index.insert(Document(text="a text that comes later"))
    looked = QueryBundle("", embedding=made.get_image_embedding(files[2]))
    found = index.as_retriever(similarity_top_k=20).retrieve(looked)
    assert len(found) == len(files) + 1
    assert found[0].node.metadata[LABEL].startswith(files[2])


def test_batches_of_one_kind_leave_the_other_searchable_in_one_store(embed, files, qdrant):
    """Silent loss 2: a text-only insertion makes MultiModalVectorStoreIndex return no picture ever after."""
    made = embed()
    index = one_store(qdrant, made)
    index.insert_nodes(made(label_images([ImageNode(image_path=name) for name in files])))
    index.insert_nodes(made([TextNode(text="words")]))
    index.insert_nodes(made(label_images([ImageNode(image_path=files[0], text="both")])))
    everything = VectorStoreIndex.from_vector_store(index.vector_store, embed_model=made)
    retriever = everything.as_retriever(similarity_top_k=20)
    assert len(retriever.retrieve("anything")) == len(files) + 2
    looked = QueryBundle("", embedding=made.get_image_embedding(files[5]))
    assert retriever.retrieve(looked)[0].node.image_path == files[5]


def test_an_index_that_was_given_picture_nodes_returns_nothing_else(embed, files, qdrant):
    """Not ours to mend: it looks among its ImageNodes alone. `from_vector_store` over the same store, or pictures in
    Documents, see everything; the README says so. When this fails, LlamaIndex has changed and the README may too."""
    made = embed()
    index = one_store(qdrant, made, made(label_images([ImageNode(image_path=files[0]), TextNode(text="words")])))
    assert len(index.as_retriever(similarity_top_k=9).retrieve("words")) == 1
    everything = VectorStoreIndex.from_vector_store(index.vector_store, embed_model=made)
    assert len(everything.as_retriever(similarity_top_k=9).retrieve("words")) == 2
    index = one_store(QdrantClient(":memory:"), made)
    picture = Document(image_resource=MediaResource(path=files[0]))
    index.insert_nodes(made(label_images([picture, TextNode(text="words")])))
    assert len(index.as_retriever(similarity_top_k=9).retrieve("words")) == 2


def test_the_multi_modal_index_takes_it_for_both_roles(embed, files, qdrant):
    """Silent losses 3 and 4: no bare assert, no foreign CLIP; `is_image_to_text` swaps it for itself."""
    made = embed()
    nodes = [ImageNode(text=f"title {name}", image_path=name) for name in files]
    index = two_stores(qdrant, made, nodes, is_image_to_text=True)
    assert index.image_embed_model is made
    found = index.as_retriever(image_similarity_top_k=3).image_to_image_retrieve(files[0])
    assert len(found) == 3


def test_files_are_stored_by_path_and_not_by_content(embed, files, qdrant):
    """Silent loss 5: base64 goes into the payload as it is; a path keeps payloads small."""
    made = embed()
    one_store(qdrant, made, made(label_images([ImageNode(image_path=name) for name in files])))
    points, _ = qdrant.scroll("all", limit=100)
    assert max(len(str(point.payload)) for point in points) < 2000


def test_nodes_that_have_a_vector_are_not_embedded_again(embed, server, files, qdrant):
    """And their addresses are not resolved by the framework, which would fetch them without a policy."""
    made = embed()
    node = ImageNode(image_url="https://no-such-host.invalid/x.png", embedding=made.get_image_embedding(files[0]))
    node.metadata["id"] = 1
    server.reset()
    two_stores(qdrant, made, [node])
    assert server.ledger()["requests"] == 0


def test_the_index_itself_hands_over_streams_and_paths(embed, files, qdrant):
    """Base64 arrives as BytesIO, a path as str; both give the vector of the file."""
    made = embed()
    nodes = [
        ImageNode(image_path=files[0], metadata={"id": 0}),
        ImageNode(image=base64.b64encode(Path(files[0]).read_bytes()).decode(), metadata={"id": 1}),
    ]
    two_stores(qdrant, made, nodes)
    points, _ = qdrant.scroll("image", limit=10, with_vectors=True)
    vectors = [point.vector for point in points]
    assert len(vectors) == 2
    expected = made.get_image_embedding(BytesIO(Path(files[0]).read_bytes()))
    for vector in vectors:
        assert vector == pytest.approx(expected, abs=1e-5)
