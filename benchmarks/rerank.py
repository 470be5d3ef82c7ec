"""What diversity costs beside the retrieval it follows: `python benchmarks/rerank.py`.

Retrieval is one query: embedding it, and an exact search over the vectors of the shop. Re-ranking is `diversify` on its
best 50. Vectors are drawn at random around as many centres as a shop has kinds of things.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from report import HEADER, Row, machine

from jinaclip import JinaClip
from jinaclip.retrieval import diversify

sys.path.insert(0, str(Path(__file__).parents[1]))
from examples.catalogue.scores import CHECKPOINT

POOL = 50
SHOWN = 10
WIDTHS = (128, 768, 1024)
KINDS = 40


def vectors(count: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """(count, width) float32 at length 1."""
    rows = rng.normal(size=(KINDS, width))[rng.integers(0, KINDS, count)] + rng.normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def best(scores: np.ndarray) -> np.ndarray:
    """Places of the highest scores, best first."""
    found = np.argpartition(-scores, POOL)[:POOL]
    return found[np.argsort(-scores[found])]


def median_ms(call: Callable[[int], object], rounds: int) -> float:
    """Of one call, warm."""
    call(0)
    laps = []
    for turn in range(rounds):
        start = time.perf_counter()
        call(turn)
        laps.append(time.perf_counter() - start)
    return 1000 * statistics.median(laps)


def rows(clip: JinaClip, items: int, rounds: int) -> Iterator[Row]:
    """A line for each width and strategy."""
    rng = np.random.default_rng(0)
    embedding = median_ms(lambda turn: clip.embed_query(f"a red summer dress {turn}"), rounds)
    print(f"embedding a query with the catalogue's small model: {embedding:.2f} ms", file=sys.stderr)
    for width in WIDTHS:
        documents, queries = vectors(items, width, rng), vectors(rounds, width, rng)
        found = [best(documents @ query) for query in queries]
        search = median_ms(lambda turn, d=documents, q=queries: best(d @ q[turn]), rounds)
        retrieval = embedding + search
        for method in ("kmeans", "mmr"):

            def rerank(turn: int, method: str = method, d=documents, q=queries, f=found) -> object:
                chosen = d[f[turn]]
                return diversify(chosen, SHOWN, relevance=chosen @ q[turn], method=method)

            spent = median_ms(rerank, rounds)
            what = f"{method} on {POOL} results, {width} wide, vs embedding a query + exact search of {items:,}"
            yield Row(what, f"{spent:.2f} ms", f"{retrieval:.2f} ms ({search:.2f} search)", spent / retrieval, None)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000, help="vectors searched (default: 100000)")
    parser.add_argument("--rounds", type=int, default=100, help="queries (default: 100)")
    parser.add_argument("--model", default=str(CHECKPOINT), help="folder of a checkpoint (default: the catalogue's)")
    given = parser.parse_args()
    print(machine("jinaclip", "numpy", "scikit-learn"), "\n")
    print(HEADER)
    with JinaClip(given.model, backend="local", device="cpu", cache=False) as clip:
        for row in rows(clip, given.items, given.rounds):
            print(row)


if __name__ == "__main__":
    main()
