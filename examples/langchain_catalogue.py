"""A catalogue in a LangChain vector store, searched in three languages, by an image, and by both.

    python examples/langchain_catalogue.py

Draws products that the model has never seen, embeds their images with the small model in
`examples/catalogue/checkpoint`, and asks `JinaClipRetriever`. No key, no GPU, no internet.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore

sys.path.insert(0, str(Path(__file__).parents[1]))
from examples.catalogue.drawing import draw
from examples.catalogue.products import Attributes, Product, products
from examples.catalogue.scores import CHECKPOINT
from examples.catalogue.wording import title
from jinaclip import ImagePolicy
from langchain_jinaclip import JinaClipEmbeddings, JinaClipRetriever, add_documents

OPTIONS = {"model": str(CHECKPOINT), "backend": "local", "device": "cpu"}
COUNT = 120
TEXTS = {"en": "a red dress", "de": "ein Kleid in Rot", "zh": "红色连衣裙"}
"""The same wish three times."""
COAT = Product("", Attributes("coat", "green", "checked", "black", "maxi"), 41)
SHIRT = Product("", Attributes("t-shirt", "yellow", "striped", "black", "", "short", "round"), 7)
"""Their images are not in the catalogue."""


def main(options: dict[str, Any], chosen: Sequence[Product], folder: Path) -> None:
    """Indexes the products' images and prints what each kind of query finds.

    Args:
        options: for `JinaClipEmbeddings`.
        chosen: products to index.
        folder: gets their images.
    """
    embeddings = JinaClipEmbeddings(**options, image_policy=ImagePolicy(allowed_roots=(folder,)))
    retriever = JinaClipRetriever(vectorstore=index(embeddings, chosen, folder), k=3)
    print(f"{len(chosen)} images in an InMemoryVectorStore, {embeddings.clip.dimensions} numbers each\n")
    for language, text in TEXTS.items():
        show(f"text, {language}: {text}", retriever.invoke(text))
    show("image: a green checked coat", retriever.invoke({"image": draw(COAT)}))
    wish = {"text": "red T-shirt", "image": draw(SHIRT)}
    show("both: a yellow striped T-shirt, and 'red T-shirt'", retriever.invoke(wish))
    answer = retriever.as_tool().invoke({"text": TEXTS["en"]})
    print(f"as a tool, the first of these gives a model: {', '.join(block['type'] for block in answer)}")


def index(embeddings: JinaClipEmbeddings, chosen: Sequence[Product], folder: Path) -> InMemoryVectorStore:
    """A store with the vector of its image, the title and the path for each product."""
    documents = [
        Document(
            title(product, "en"),
            id=product.id,
            metadata={"image": str(save_image(product, folder)), "category": product.attributes.broad_category},
        )
        for product in chosen
    ]
    store = InMemoryVectorStore(embeddings)
    add_documents(store, documents)
    return store


def save_image(product: Product, folder: Path) -> Path:
    """The image of a product on disk."""
    image = folder / f"{product.id}.png"
    if not image.exists():
        draw(product).save(image)
    return image


def show(query: str, documents: Sequence[Document]) -> None:
    """A query and what it found, best first."""
    print(query)
    for document in documents:
        print(f"    {document.page_content:<74} {Path(document.metadata['image']).name}")
    print()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        main(OPTIONS, products("test", COUNT), Path(folder))
