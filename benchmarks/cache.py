"""Vectors from the cache, beside the stores of LangChain and LlamaIndex on the same work: `python benchmarks/cache.py`.

Texts: a warm run of `JinaClip.embed_documents` over a file of many vectors in the page cache, and storing as many. The
stores of the hosts are asked in batches of 500 and give their vectors as they keep them: LangChain's cache over files,
one each, and LlamaIndex's over a dictionary in memory. Images: a second run over photographs, which the cache knows by
their files, beside decoding and resizing them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from inputs import make_photos
from report import HEADER, Row, machine

from jinaclip import Cache, JinaClip
from jinaclip.cache import Keys

DIMENSIONS = 1024
AT_ONCE = 500
Rows = np.ndarray[tuple[int, int], np.dtype[np.float32]]


def make_rows(count: int) -> Rows:
    """(count, 1024) float32 at length 1."""
    rows = np.random.default_rng(0).normal(size=(count, DIMENSIONS)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def rate(count: int, work: Callable[[], object], rounds: int) -> float:
    """Items a second, the median of some rounds."""
    laps = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        laps.append(time.perf_counter() - start)
    return count / statistics.median(laps)


class Held:
    """A cache that holds vectors of texts.

    Args:
        folder: where it lies.
        count: how many.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.texts = [f"a product of the shop, number {number}, in a colour of the season" for number in range(count)]
        self.rows = make_rows(count)
        self.clip = JinaClip(api_key="jina_none", cache=Cache(folder / "vectors.sqlite", max_bytes=2**40))

    def store(self) -> None:
        """Puts all vectors in, and waits until they are written."""
        cache, weights = self.clip.cache, self.clip._backend.weights
        keys = Keys(weights, normalized=True, queries_differ=True, max_tokens=8192)
        for start in range(0, len(self.texts), AT_ONCE):
            own = [keys.text(text, query=False, truncate=False)[-1] for text in self.texts[start : start + AT_ONCE]]
            cache.keep_vectors(own, [*self.rows[start : start + AT_ONCE]], "benchmark")
            cache.flush(60)

    def load(self) -> None:
        """Embeds all texts, none of which is sent."""
        results = self.clip.embed(self.texts)
        if results.usage.hits != len(self.texts) or not np.array_equal(results.vectors[-1], self.rows[-1]):
            raise SystemExit("the cache did not have them all")


def langchain_store(folder: Path, texts: list[str], rows: Rows) -> tuple[Callable[[], object], Callable[[], object]]:
    """LangChain's cache over files, as its CacheBackedEmbeddings keeps vectors: JSON of a list of floats."""
    from langchain_classic.embeddings import CacheBackedEmbeddings
    from langchain_classic.storage import LocalFileStore
    from langchain_core.embeddings import Embeddings

    class Ready(Embeddings):
        def embed_documents(self, asked: list[str]) -> list[list[float]]:
            return [rows[places[text]].tolist() for text in asked]

        def embed_query(self, text: str) -> list[float]:
            return self.embed_documents([text])[0]

    places = {text: place for place, text in enumerate(texts)}
    store = LocalFileStore(folder / "langchain")
    cached = CacheBackedEmbeddings.from_bytes_store(Ready(), store, namespace="b", key_encoder="sha256")

    def embed() -> None:
        for start in range(0, len(texts), AT_ONCE):
            cached.embed_documents(texts[start : start + AT_ONCE])

    return embed, embed


def llamaindex_store(texts: list[str], rows: Rows) -> tuple[Callable[[], object], Callable[[], object]]:
    """LlamaIndex's dictionary in memory, as its `embeddings_cache` keeps vectors: lists of floats."""
    from llama_index.core.storage.kvstore import SimpleKVStore

    kept = SimpleKVStore()

    def store() -> None:
        for text, row in zip(texts, rows, strict=True):
            kept.put(text, {"1": row.tolist()}, collection="embeddings")

    def load() -> None:
        for text in texts:
            kept.get(text, collection="embeddings")

    return store, load


def text_lines(folder: Path, count: int, rounds: int) -> Iterator[Row]:
    """Storing, and finding again."""
    held = Held(folder, count)
    stored, found = rate(count, held.store, 1), rate(count, held.load, rounds)
    size = held.clip.cache.stats().size
    print(f"{count:,} vectors: {size / count:,.0f} bytes each in the file", file=sys.stderr)
    few = min(count, 20_000)
    theirs = {
        "LangChain, LocalFileStore": langchain_store(folder, held.texts[:few], held.rows[:few]),
        "LlamaIndex, SimpleKVStore": llamaindex_store(held.texts[:few], held.rows[:few]),
    }
    yield Row(f"hits a second, {count:,} texts", f"{found:,.0f}", "50,000", found / 50_000, 1, least=True)
    yield Row(f"stores a second, {count:,} texts", f"{stored:,.0f}", "10,000", stored / 10_000, 1, least=True)
    for name, (store, load) in theirs.items():
        own_stored, own_found = rate(few, store, 1), rate(few, load, rounds)
        yield Row(f"stores a second, beside {name}", f"{stored:,.0f}", f"{own_stored:,.0f}", stored / own_stored, None)
        yield Row(f"hits a second, beside {name}", f"{found:,.0f}", f"{own_found:,.0f}", found / own_found, None)


def image_lines(folder: Path, count: int, rounds: int) -> Iterator[Row]:
    """Photographs that the cache knows by their files."""
    from jinaclip.testing import Server

    photos = make_photos(min(count, 300))
    paths = []
    for number in range(count):  # the same photographs, each as a file of its own content
        path = folder / f"{number}.jpg"
        path.write_bytes(photos[number % len(photos)].read_bytes() + number.to_bytes(4, "little"))
        paths.append(path)
    with Server() as server:
        clip = JinaClip(base_url=server.url, api_key="jina_test", cache=folder / "images.sqlite")
        clip.embed_images(paths)
        paid = clip.usage.items
        plain = JinaClip(base_url=server.url, api_key="jina_test", cache=False)
        some = paths[: min(count, 100)]
        decoded = rate(len(some), lambda: plain.embed_images(some), rounds)
        warm = rate(count, lambda: clip.embed_images(paths), rounds)
        if clip.usage.items != paid:
            raise SystemExit("the cache did not have them all")
    yield Row(
        f"photographs a second, {count:,}, beside embedding",
        f"{warm:,.0f}",
        f"{decoded:,.0f}",
        warm / decoded,
        20,
        least=True,
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.environ.pop("JINACLIP_CACHE", None)
    print(machine("jinaclip", "numpy"), HEADER, sep="\n\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder, rounds = Path(name), options.rounds
        for line in chain(text_lines(folder, options.texts, rounds), image_lines(folder, options.images, rounds)):
            print(line, flush=True)


if __name__ == "__main__":
    main()
