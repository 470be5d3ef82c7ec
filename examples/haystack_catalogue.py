"""A catalogue searched through Haystack: no key, no GPU, no internet.

    python examples/haystack_catalogue.py

One pipeline indexes 60 products, image and English title fused into one vector each, in an embedded Qdrant. A second
one finds them by text in three languages and by image; a text and an image together make a third kind of query.
A third pipeline shows a different kind of coat second.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
sys.path.insert(0, str(Path(__file__).parents[1]))
from haystack import Document, Pipeline
from haystack.components.writers import DocumentWriter
from haystack_integrations.components.retrievers.qdrant import QdrantEmbeddingRetriever
from haystack_integrations.document_stores.qdrant import QdrantDocumentStore

from examples.catalogue.drawing import draw
from examples.catalogue.products import Attributes, Product, products
from examples.catalogue.wording import title
from haystack_jinaclip import (
    JinaClipDiversityRanker,
    JinaClipFusedDocumentEmbedder,
    JinaClipImageEmbedder,
    JinaClipQueryEmbedder,
    JinaClipRetriever,
    JinaClipTextEmbedder,
)

COUNT = 60
CHECKPOINT = Path(__file__).parent / "catalogue" / "checkpoint"
OPTIONS: dict[str, Any] = {"model": str(CHECKPOINT), "backend": "local", "device": "cpu"}
RED_DRESS = Product("red-dress", Attributes("dress", "red", "plain", "", "midi", "short", "round"), 5)
COAT = Product("green-coat", Attributes("coat", "green", "dotted", "orange", "maxi"), 9)
"""An image to search with; it is not in the catalogue, which has a shorter one."""
QUERIES = ("a red dress", "ein Kleid in Rot", "红色连衣裙")


def draw_products(folder: Path) -> list[Document]:
    """The products: an image on disk and a title each."""
    chosen = [RED_DRESS, *products("test", COUNT - 1)]
    for product in (*chosen, COAT):
        draw(product).save(folder / f"{product.id}.png")
    return [Document(content=title(product, "en"), meta={"file_path": f"{product.id}.png"}) for product in chosen]


def index_products(documents: list[Document], folder: Path, store: QdrantDocumentStore) -> int:
    """embedder -> writer."""
    pipe = Pipeline()
    pipe.add_component("embedder", JinaClipFusedDocumentEmbedder(**OPTIONS, root_path=str(folder), progress_bar=False))
    pipe.add_component("writer", DocumentWriter(store))
    pipe.connect("embedder.documents", "writer.documents")
    return int(pipe.run({"embedder": {"documents": documents}})["writer"]["documents_written"])


def search_pipeline(embedder: JinaClipTextEmbedder | JinaClipImageEmbedder, store: QdrantDocumentStore) -> Pipeline:
    """embedder -> retriever."""
    pipe = Pipeline()
    pipe.add_component("embedder", embedder)
    pipe.add_component("retriever", QdrantEmbeddingRetriever(store, top_k=2))
    pipe.connect("embedder.embedding", "retriever.query_embedding")
    return pipe


def diverse_pipeline(store: QdrantDocumentStore) -> Pipeline:
    """embedder -> retriever, with embeddings -> ranker."""
    pipe = Pipeline()
    pipe.add_component("embedder", JinaClipTextEmbedder(**OPTIONS))
    pipe.add_component("retriever", QdrantEmbeddingRetriever(store, top_k=15, return_embedding=True))
    pipe.add_component("ranker", JinaClipDiversityRanker(**OPTIONS, top_k=2, clusters=3))
    pipe.connect("embedder.embedding", "retriever.query_embedding")
    pipe.connect("retriever.documents", "ranker.documents")
    return pipe


def show(query: str, found: list[Document]) -> None:
    """What was asked, and what was found, best first."""
    print(f"\n{query}")
    for document in found:
        print(f"    {document.score:.2f}  {document.content}")


def main() -> None:
    """Draws, indexes, searches."""
    store = QdrantDocumentStore(":memory:", embedding_dim=128, progress_bar=False)
    with TemporaryDirectory() as place:
        count = index_products(draw_products(Path(place)), Path(place), store)
        print(f"{count} products in Qdrant, image and title in one vector")
        by_text = search_pipeline(JinaClipTextEmbedder(**OPTIONS), store)
        by_image = search_pipeline(JinaClipImageEmbedder(**OPTIONS), store)
        for text in QUERIES:
            show(text, by_text.run({"embedder": {"text": text}})["retriever"]["documents"])
        photo = {"image": Path(place) / f"{COAT.id}.png"}
        show("image: a long green coat with orange dots", by_image.run({"embedder": photo})["retriever"]["documents"])
        hits = QdrantEmbeddingRetriever(store, top_k=2)
        search = JinaClipRetriever(retriever=hits, embedder=JinaClipQueryEmbedder(**OPTIONS))
        show("that image, and 'a pink coat'", search.run("a pink coat", **photo)["documents"])
        found = diverse_pipeline(store).run({"embedder": {"text": "a coat"}}, include_outputs_from={"retriever"})
        show("a coat", found["retriever"]["documents"][:2])
        show("a coat, different kinds", found["ranker"]["documents"])


if __name__ == "__main__":
    main()
