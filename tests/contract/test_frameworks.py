"""LangChain, LlamaIndex and Haystack, at home and over the API: one catalogue, the same vectors, the same results."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from haystack import Document as HaystackDocument
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.dataclasses import ByteStream
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.utils import Secret
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import ImageNode, QueryBundle

from examples.catalogue.drawing import draw
from examples.catalogue.products import Product
from haystack_jinaclip import (
    JinaClipDocumentEmbedder,
    JinaClipDocumentImageEmbedder,
    JinaClipFusedDocumentEmbedder,
    JinaClipImageEmbedder,
    JinaClipTextEmbedder,
)
from jinaclip import JinaClip, fuse
from langchain_jinaclip import JinaClipEmbeddings, JinaClipRetriever
from llamaindex_jinaclip import JinaClipEmbedding, label_images
from tests.articles import Article
from tests.contract.conftest import KEY

ASKED = ["a red dress", "格纹衬衫", "платье в горошек", "تنورة باللون الأزرق"]
SAME = 1e-6
Vectors = dict[str, np.ndarray]


class Shop:
    """Titles and pictures of the catalogue, and other pictures of three of its products, to search with."""

    def __init__(self, catalogue: list[Article]) -> None:
        self.ids = [article.id for article in catalogue]
        self.titles = [article.title for article in catalogue]
        self.pictures = [article.picture.read_bytes() for article in catalogue]
        self.shown = [png(Product("", article.attributes, seed)) for seed, article in enumerate(catalogue[:3], 900)]


def png(product: Product) -> bytes:
    buffer = BytesIO()
    draw(product).save(buffer, "png")
    return buffer.getvalue()


@dataclass
class Answers:
    """What one host makes of the shop: vectors by what they are of, and for each query the ids of its best ten."""

    vectors: Vectors
    best: list[list[str]] = field(default_factory=list)


def core(shop: Shop, options: dict[str, Any]) -> Answers:
    with JinaClip(**options) as clip:
        vectors = {
            "queries": np.stack([clip.embed_query(text) for text in ASKED]),
            "shown": clip.embed_images(shop.shown),
            "titles": clip.embed_documents(shop.titles),
            "pictures": clip.embed_images(shop.pictures),
            "fused": clip.embed_pairs(zip(shop.titles, shop.pictures, strict=True)),
        }
        both = fuse(vectors["queries"][:3], vectors["shown"])
        rows = np.concatenate([vectors["queries"], vectors["shown"], both])
        order = np.argsort(-(rows @ vectors["pictures"].T), axis=1)[:, :10]
        return Answers(vectors, [[shop.ids[i] for i in best] for best in order])


def langchain(shop: Shop, options: dict[str, Any]) -> Answers:
    embeddings = JinaClipEmbeddings(**options)
    vectors: dict[str, Any] = {
        "queries": [embeddings.embed_query(text) for text in ASKED],
        "shown": [embeddings.embed_image(picture) for picture in shop.shown],
        "titles": embeddings.embed_documents(shop.titles),
        "pictures": embeddings.embed_images(shop.pictures),
        "fused": embeddings.embed_pairs(list(zip(shop.titles, shop.pictures, strict=True))),
    }
    store = InMemoryVectorStore(embeddings)
    for id_, vector in zip(shop.ids, vectors["pictures"], strict=True):
        store.store[id_] = {"id": id_, "vector": vector, "text": "", "metadata": {}}
    retriever = JinaClipRetriever(vectorstore=store, k=10)
    queries = [*ASKED, *({"image": picture} for picture in shop.shown)]
    queries += [{"text": text, "image": picture} for text, picture in zip(ASKED, shop.shown, strict=False)]
    best = [[str(found.id) for found in retriever.invoke(query)] for query in queries]
    return Answers({name: np.array(rows) for name, rows in vectors.items()}, best)


def llamaindex(shop: Shop, options: dict[str, Any]) -> Answers:
    embedding = JinaClipEmbedding(**options)
    encoded = [base64.b64encode(picture).decode() for picture in shop.pictures]
    nodes = label_images([ImageNode(id_=id_, image=image) for id_, image in zip(shop.ids, encoded, strict=True)])
    both = label_images([ImageNode(image=i, text=text) for text, i in zip(shop.titles, encoded, strict=True)])
    vectors: dict[str, Any] = {
        "queries": [embedding.get_query_embedding(text) for text in ASKED],
        "shown": [embedding.get_image_embedding(picture) for picture in shop.shown],
        "titles": embedding.get_text_embedding_batch(shop.titles),
        "pictures": [node.embedding for node in embedding(nodes)],
        "fused": [node.embedding for node in embedding(both)],
    }
    retriever = VectorStoreIndex(nodes, embed_model=embedding).as_retriever(similarity_top_k=10)
    asked = [*vectors["queries"], *vectors["shown"]]
    asked += fuse(vectors["queries"][:3], vectors["shown"]).tolist()
    bundles = [QueryBundle("", embedding=vector) for vector in asked]
    best = [[found.node.node_id for found in retriever.retrieve(bundle)] for bundle in bundles]
    return Answers({name: np.array(rows) for name, rows in vectors.items()}, best)


def haystack(shop: Shop, options: dict[str, Any]) -> Answers:
    given = {**options, "api_key": Secret.from_token(options.get("api_key", "unused"))}
    silent = {**given, "progress_bar": False}
    blobs = [ByteStream(picture, mime_type="image/png") for picture in shop.pictures]
    documents = [HaystackDocument(content=t, blob=b) for t, b in zip(shop.titles, blobs, strict=True)]
    shown = [ByteStream(picture, mime_type="image/png") for picture in shop.shown]
    texts = {name: value for name, value in given.items() if name != "image_resize"}
    words, looks = JinaClipTextEmbedder(**texts), JinaClipImageEmbedder(**given)
    texts["progress_bar"] = False
    filled = {
        "titles": JinaClipDocumentEmbedder(**texts).run(documents)["documents"],
        "pictures": JinaClipDocumentImageEmbedder(**silent).run(documents)["documents"],
        "fused": JinaClipFusedDocumentEmbedder(**silent).run(documents)["documents"],
    }
    vectors: dict[str, Any] = {name: [document.embedding for document in rows] for name, rows in filled.items()}
    vectors["queries"] = [words.run(text)["embedding"] for text in ASKED]
    vectors["shown"] = [looks.run(picture)["embedding"] for picture in shown]
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    store.write_documents(filled["pictures"])
    names = {document.id: id_ for document, id_ in zip(documents, shop.ids, strict=True)}
    retriever = InMemoryEmbeddingRetriever(store, top_k=10)
    asked = [*vectors["queries"], *vectors["shown"], *fuse(vectors["queries"][:3], vectors["shown"]).tolist()]
    best = [[names[found.id] for found in retriever.run(query_embedding=vector)["documents"]] for vector in asked]
    return Answers({name: np.array(rows) for name, rows in vectors.items()}, best)


HOSTS: dict[str, Callable[[Shop, dict[str, Any]], Answers]] = {
    "langchain": langchain,
    "llamaindex": llamaindex,
    "haystack": haystack,
}


@pytest.fixture(scope="module")
def backends(modelled, catalogue_checkpoint) -> Iterator[dict[str, dict[str, Any]]]:
    """Options that mean the same model; the API gets the pictures as they are."""
    yield {
        "local": {"model": catalogue_checkpoint, "backend": "local", "device": "cpu", "image_resize": "none"},
        "api": {
            "model": "jina-clip-v2",
            "api_key": KEY,
            "base_url": modelled.url,
            "dimensions": 128,
            "image_resize": "none",
        },
    }


@pytest.fixture(scope="module")
def shop(catalogue: list[Article]) -> Shop:
    return Shop(catalogue[:24])


@pytest.fixture(scope="module")
def expected(shop: Shop, backends: dict[str, dict[str, Any]]) -> Answers:
    return core(shop, backends["local"])


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "api"])
@pytest.mark.parametrize("host", HOSTS)
def test_every_host_over_every_backend_gives_the_same_vectors_and_the_same_ten(
    host: str, backend: str, shop: Shop, backends, expected: Answers
) -> None:
    found = HOSTS[host](shop, backends[backend])
    for name, rows in expected.vectors.items():
        assert np.abs(found.vectors[name] - rows).max() <= SAME, name
    assert found.best == expected.best
