"""One search of each kind in a store of your choice: `python -m examples.stores qdrant`."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from examples.catalogue.drawing import draw
from examples.catalogue.products import Attributes, products
from examples.catalogue.products import Product as Drawn
from examples.catalogue.wording import title
from examples.stores.base import Hit, Product, Store
from jinaclip import JinaClip

CHECKPOINT = Path(__file__).parents[1] / "catalogue" / "checkpoint"
FOLDER = Path(__file__).parents[2] / "demo" / "stores"
SIDE = 128
"""Pixels; the model sees 64."""
TEXT = "white maxi dress with blue dots"
LIKED = draw(Drawn("", Attributes("coat", "green", "checked", "black", "maxi"), 41), SIDE)
CHANGE = "red coat"


def catalogue(count: int) -> list[Product]:
    """Products that the model has never seen, drawn."""
    return [
        Product(one.id, title(one, "en"), draw(one, SIDE), one.attributes.broad_category)
        for one in products("test", count)
    ]


def chroma(clip: JinaClip, folder: Path) -> Store:
    import chromadb

    from examples.stores.chroma import ChromaStore

    settings = chromadb.Settings(anonymized_telemetry=False)
    return ChromaStore(clip, chromadb.PersistentClient(str(folder / "chroma"), settings))


def faiss(clip: JinaClip, folder: Path) -> Store:
    from examples.stores.faiss_files import FaissStore

    return FaissStore(clip, folder / "faiss")


def lance(clip: JinaClip, folder: Path) -> Store:
    import lancedb

    from examples.stores.lance import LanceStore

    return LanceStore(clip, lancedb.connect(folder / "lance"))


def pgvector(clip: JinaClip, folder: Path) -> Store:
    """In the database that DATABASE_URL names."""
    import psycopg

    from examples.stores.pgvector import PgvectorStore

    return PgvectorStore(clip, psycopg.connect(variable("DATABASE_URL"), autocommit=True))


def pinecone(clip: JinaClip, folder: Path) -> Store:
    """With the key in PINECONE_API_KEY."""
    from pinecone import Pinecone

    from examples.stores.pinecone_cloud import PineconeStore

    return PineconeStore(clip, Pinecone())


def qdrant(clip: JinaClip, folder: Path) -> Store:
    from qdrant_client import QdrantClient

    from examples.stores.qdrant import QdrantStore

    warnings.filterwarnings("ignore", "Payload indexes have no effect")  # nor need they, for so few
    return QdrantStore(clip, QdrantClient(path=str(folder / "qdrant")))


def weaviate(clip: JinaClip, folder: Path) -> Store:
    """In the cluster that WEAVIATE_URL and WEAVIATE_API_KEY name."""
    from weaviate import connect_to_weaviate_cloud

    from examples.stores.weaviate_cloud import WeaviateStore

    return WeaviateStore(clip, connect_to_weaviate_cloud(variable("WEAVIATE_URL"), variable("WEAVIATE_API_KEY")))


def variable(name: str) -> str:
    """What an environment variable holds."""
    return os.environ.get(name) or sys.exit(f"set {name}; see docs/stores.md")


OPENERS: dict[str, Callable[[JinaClip, Path], Store]] = {
    opener.__name__: opener for opener in (chroma, faiss, lance, pgvector, pinecone, qdrant, weaviate)
}


def open_store(name: str, clip: JinaClip, folder: Path) -> Store:
    """The store, if what it needs is installed."""
    try:
        return OPENERS[name](clip, folder)
    except ModuleNotFoundError as missing:
        sys.exit(f"{missing.name} is not installed; docs/stores.md says what each store needs")


def main() -> None:
    """Indexes the catalogue and searches it."""
    parser = argparse.ArgumentParser(prog="python -m examples.stores", description=__doc__)
    parser.add_argument("store", choices=OPENERS)
    parser.add_argument("--count", type=int, default=300, help="products (default: 300)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where stores that live in files go")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with JinaClip(str(CHECKPOINT), backend="local") as clip, open_store(given.store, clip, given.folder) as store:
        store.index(catalogue(given.count))
        show(f"text: {TEXT}", store.by_text(TEXT))
        show("picture of a green checked coat", store.by_picture(LIKED))
        show("jackets like it", store.by_picture(LIKED, category="jacket"))
        show(f"that picture, and: {CHANGE}", store.by_both(CHANGE, LIKED))


def show(asked: str, hits: list[Hit], count: int = 4) -> None:
    """The best few as lines."""
    print(asked, *(f"  {hit.score:.3f}  {hit.title}" for hit in hits[:count]), sep="\n")


if __name__ == "__main__":
    main()
