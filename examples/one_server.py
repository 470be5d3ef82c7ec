"""One server for three frameworks, one cache, two sources compared, and an answer: no key, no GPU, no internet.

    python examples/one_server.py

Starts `jinaclip serve` with the small model of the catalogue, as a process of its own: LangChain, LlamaIndex and
Haystack ask it for the same pictures and find the same. Then they index these pictures over a stand-in of the hosted
API, which bills as that does, with a cache: the first pays and the others pay nothing; the second time that this
program runs nobody does. `compare` tells whether the server's vectors are those of the weights here, and an agent
answers a question about a photo.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
sys.path.insert(0, str(Path(__file__).parents[1]))
import httpx
from haystack import Document as HaystackDocument
from haystack.components.retrievers import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import ImageNode, QueryBundle
from prometheus_client.parser import text_string_to_metric_families

from examples.answers import langchain_answer as answers
from examples.answers.langchain_answer import COAT, QUESTION
from examples.catalogue.drawing import draw
from examples.catalogue.products import products
from examples.catalogue.scores import CHECKPOINT
from haystack_jinaclip import JinaClipDocumentImageEmbedder, JinaClipQueryEmbedder
from haystack_jinaclip import JinaClipRetriever as HaystackRetriever
from jinaclip import ImagePolicy, JinaClip
from jinaclip.compare import compare
from jinaclip.testing import Server
from langchain_jinaclip import JinaClipEmbeddings, JinaClipRetriever, add_documents
from llamaindex_jinaclip import JinaClipEmbedding, label_images
from llamaindex_jinaclip import JinaClipRetriever as LlamaIndexRetriever

FOLDER = Path(__file__).parents[1] / "demo" / "served"
COUNT = 120
MODEL = "jina-clip-v2"
"""What the server calls the small model: the frameworks know the published names alone."""
WIDTH = 128
PORT = 18431
"""Of the stand-in."""
TEXT = "a red coat"
ASKED = (f"the text {TEXT!r}", "a photo of a blue coat", "both")
Options = dict[str, Any]
Found = list[list[str]]
"""The best three of each query."""


def main(folder: Path = FOLDER) -> None:
    """Serves, asks from three frameworks, asks again with a cache, compares, answers."""
    pictures, photo = draw_shop(folder)
    with serve(CHECKPOINT) as url:
        options = {"model": MODEL, "base_url": url, "dimensions": WIDTH}
        print(f"one server at {url}, three frameworks, {len(pictures)} pictures each:")
        print(table(ask_all(options, pictures, photo, lambda: f"{embedded_by(url)} embedded by the server so far")))
        print("\nthe same over a stand-in of the hosted API, with a cache that they share:")
        pay_once(folder, pictures, photo)
        print(f"\nweights here and server, by jinaclip compare: {verdict(options)}")
        print(f"\nan agent is shown a photo of a blue coat, and asked: {QUESTION}\n  {answer(options, folder)}")


def draw_shop(folder: Path) -> tuple[list[Path], Path]:
    """Pictures of products that the model has not seen, and a photo to search with; drawn once."""
    folder.mkdir(parents=True, exist_ok=True)
    shop = {folder / f"{product.id}.png": product for product in products("test", COUNT)}
    photo = folder / "photo.png"
    for path, product in {**shop, photo: COAT}.items():
        if not path.exists():
            draw(product).save(path)
    return [*shop], photo


# -- the server


@contextmanager
def serve(checkpoint: Path) -> Iterator[str]:
    """The address of `jinaclip serve` with a model, until the end of the block."""
    command = [sys.executable, "-m", "jinaclip", "serve", "--port", "0", "--drain-delay", "0"]
    command += ["--model", str(checkpoint), "--served-name", MODEL]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().split()[-1]
            while httpx.get(f"{url}/ready").status_code != httpx.codes.OK:
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()


def embedded_by(url: str) -> int:
    """How many texts and images the server has embedded so far."""
    families = text_string_to_metric_families(httpx.get(f"{url}/metrics").text)
    samples = (sample for family in families for sample in family.samples)
    return int(sum(sample.value for sample in samples if sample.name == "jinaclip_items_total"))


# -- the same shop in three frameworks: what a text, a photo, and both find


def in_langchain(options: Options, pictures: list[Path], photo: Path) -> Found:
    """`JinaClipEmbeddings` into an InMemoryVectorStore, searched by `JinaClipRetriever`."""
    with JinaClipEmbeddings(**options, image_policy=ImagePolicy(allowed_roots=photo.parent)) as embeddings:
        store = InMemoryVectorStore(embeddings)
        add_documents(store, [Document("", metadata={"image": str(picture)}) for picture in pictures])
        search = JinaClipRetriever(vectorstore=store, k=3)
        asked: list[Any] = [TEXT, {"image": photo}, {"text": TEXT, "image": photo}]
        return [[Path(one.metadata["image"]).stem for one in search.invoke(query)] for query in asked]


def in_llamaindex(options: Options, pictures: list[Path], photo: Path) -> Found:
    """`JinaClipEmbedding` into a VectorStoreIndex, searched by `JinaClipRetriever`."""
    with JinaClipEmbedding(**options, image_policy=ImagePolicy(allowed_roots=photo.parent)) as embed:
        nodes = label_images([ImageNode(image_path=str(picture), id_=picture.stem) for picture in pictures])
        search = LlamaIndexRetriever(VectorStoreIndex(embed(nodes), embed_model=embed), embed, similarity_top_k=3)
        asked: list[Any] = [TEXT, photo, QueryBundle(TEXT, image_path=str(photo))]
        return [[one.node.node_id for one in search.retrieve(query)] for query in asked]


def in_haystack(options: Options, pictures: list[Path], photo: Path) -> Found:
    """`JinaClipDocumentImageEmbedder` into an InMemoryDocumentStore, searched by `JinaClipRetriever`."""
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    documents = [HaystackDocument(id=picture.stem, meta={"file_path": picture.name}) for picture in pictures]
    with JinaClipDocumentImageEmbedder(**options, root_path=str(photo.parent), progress_bar=False) as embedder:
        store.write_documents(embedder.run(documents)["documents"])
    hits = InMemoryEmbeddingRetriever(store, top_k=3)
    with HaystackRetriever(retriever=hits, embedder=JinaClipQueryEmbedder(**options)) as search:
        asked: list[dict[str, Any]] = [{"query": TEXT}, {"image": photo}, {"query": TEXT, "image": photo}]
        return [[one.id for one in search.run(**query)["documents"]] for query in asked]


FRAMEWORKS: dict[str, Callable[[Options, list[Path], Path], Found]] = {
    "LangChain": in_langchain,
    "LlamaIndex": in_llamaindex,
    "Haystack": in_haystack,
}


def ask_all(options: Options, pictures: list[Path], photo: Path, count: Callable[[], str]) -> dict[str, Found]:
    """What each framework finds; prints how long it took, and what `count` says then."""
    found = {}
    for name, search in FRAMEWORKS.items():
        started = time.perf_counter()
        found[name] = search(options, pictures, photo)
        print(f"  {name:<10} {time.perf_counter() - started:4.1f} s   {count()}")
    return found


def table(found: dict[str, Found]) -> str:
    """What was found for each query, or where the frameworks differ."""
    if any(one != found["LangChain"] for one in found.values()):
        return f"  THE THREE DIFFER: {found}"
    lines = [f"    {asked}: {', '.join(best)}" for asked, best in zip(ASKED, found["LangChain"], strict=True)]
    return "\n".join(["  all three found", *lines])


def pay_once(folder: Path, pictures: list[Path], photo: Path) -> None:
    """The same pictures and queries over a service that bills, with a cache in the folder.

    The port is always the same, as vectors of two services are never taken for each other's.
    """
    os.environ["JINA_API_KEY"] = "jina_test_demo"
    with Server(port=PORT) as service:
        options = {"model": MODEL, "base_url": service.url, "cache": str(folder / "vectors.sqlite")}
        ask_all(options, pictures, photo, lambda: f"{service.ledger()['tokens']:,} tokens billed so far")


# -- one space, and an answer


def verdict(options: Options) -> str:
    """Whether the server's vectors are those of the weights on this machine."""
    here, there = JinaClip(str(CHECKPOINT), backend="local"), JinaClip(**options)
    return compare(here, there, close=True).verdict


def answer(options: Options, folder: Path) -> str:
    """What an agent of LangChain answers about the photo, with its source."""
    plain = [product for product in products("test", answers.COUNT) if product.attributes.pattern == "plain"]
    agent = answers.build_agent(answers.VisionModel(), answers.index(options, plain, folder))
    said = answers.ask(agent, QUESTION, (folder / "photo.png").read_bytes())
    return f"{said.text}  Source: {', '.join(Path(source.metadata['image']).name for source in said.sources)}"


if __name__ == "__main__":
    main()
