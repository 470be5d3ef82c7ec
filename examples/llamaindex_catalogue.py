"""The catalogue in LlamaIndex: titles and images in one Qdrant store, searched by text, by image and by both.

    python examples/llamaindex_catalogue.py

No key, no GPU, no internet: the model lies in `examples/catalogue/checkpoint`.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

from llama_index.core import VectorStoreIndex
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import ImageNode, QueryBundle
from llama_index.vector_stores.qdrant import QdrantVectorStore
from qdrant_client import QdrantClient

sys.path.insert(0, str(Path(__file__).parents[1]))
from examples.catalogue.drawing import draw
from examples.catalogue.products import Attributes, Product, products
from examples.catalogue.wording import title
from jinaclip import ImagePolicy, fuse
from llamaindex_jinaclip import JinaClipEmbedding, label_images

CHECKPOINT = Path(__file__).parent / "catalogue" / "checkpoint"
COUNT = 300
TEXTS = ("a red dress", "ein gestreifter Rock in Blau", "黑色大衣")
COAT = Product("", Attributes("coat", "green", "checked", "black", "maxi"), 41)
"""Asked for by its image; it is not in the catalogue."""
SHIRT, BUT = Product("", Attributes("t-shirt", "yellow", "striped", "black", "", "short", "round"), 7), "red T-shirt"
"""Asked for by image and words: like this, but red."""


def main() -> None:
    """Draws, ingests, searches, and prints what was found."""
    warnings.filterwarnings("ignore", "Payload indexes have no effect in the local Qdrant")
    with tempfile.TemporaryDirectory() as folder:
        embed = open_model(Path(folder))
        search = ingest(embed, Path(folder))
        for text in TEXTS:
            print_best(text, search, QueryBundle(text))
        print_best("an image of a green checked coat", search, QueryBundle("", embedding=image_vector(embed, COAT)))
        both = fuse(embed.get_query_embedding(BUT), image_vector(embed, SHIRT), 0.5).tolist()
        print_best(f"an image of a yellow striped T-shirt + {BUT!r}", search, QueryBundle("", embedding=both))


def open_model(folder: Path) -> JinaClipEmbedding:
    """The catalogue's model, which may read images in this folder."""
    policy = ImagePolicy(allowed_roots=folder)
    return JinaClipEmbedding(model_name=str(CHECKPOINT), backend="local", device="cpu", image_policy=policy)


def ingest(embed: JinaClipEmbedding, folder: Path) -> BaseRetriever:
    """Every product as a node with its image and its title, of which the image counts three quarters."""
    embed.fusion_weight = 0.25
    store = QdrantVectorStore("catalogue", client=QdrantClient(":memory:"))
    done = IngestionPipeline(transformations=[embed], vector_store=store).run(nodes=label_images(nodes(folder)))
    print(f"{len(done)} products in one store, {len(done[0].embedding or [])} dimensions\n")
    return VectorStoreIndex.from_vector_store(store, embed_model=embed).as_retriever(similarity_top_k=3)


def nodes(folder: Path) -> list[ImageNode]:
    """Products that the model has not seen, drawn into the folder."""
    made = []
    for product in products("test", COUNT):
        path = folder / f"{product.id}.png"
        draw(product).save(path)
        made.append(ImageNode(text=title(product, "en"), image_path=str(path)))
    return made


def image_vector(embed: JinaClipEmbedding, product: Product) -> list[float]:
    """The vector of a product's image."""
    return embed.get_image_embedding(draw(product))


def print_best(asked: str, search: BaseRetriever, query: QueryBundle) -> None:
    """Prints the best three."""
    print(asked)
    for found in search.retrieve(query):
        print(f"  {found.score:.3f}  {found.node.get_content()}")
    print()


if __name__ == "__main__":
    main()
