"""What a model is worth on products it has never seen: `python -m examples.catalogue.scores`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.catalogue.drawing import draw
from examples.catalogue.products import Split, is_unseen, products
from examples.catalogue.wording import LANGUAGES, description, title
from jinaclip import JinaClip, truncate

CHECKPOINT = Path(__file__).parent / "checkpoint"
FRESH = 1
"""Seed of the test products that the model card scores; those of seed 0 were looked at while the recipe grew."""
Floats = NDArray[np.float32]


def score(clip: JinaClip, split: Split = "test", *, count: int = 600, seed: int = FRESH) -> dict[str, Any]:
    """Recall and precision over `count` products of a split, every query against all of them.

    Titles are the queries; pictures, and descriptions in the next language of the list, are what they should find.
    """
    chosen = products(split, count, seed=seed)
    pictures = clip.embed_images(draw(product) for product in chosen)
    queries = {
        lang: clip.embed([title(product, lang) for product in chosen], task="query").unwrap() for lang in LANGUAGES
    }
    descriptions = {
        lang: clip.embed_documents([description(product, lang) for product in chosen]) for lang in LANGUAGES
    }
    titles = {lang: clip.embed_documents([title(product, lang) for product in chosen]) for lang in LANGUAGES}
    half = clip.dimensions // 2
    unseen = np.array([is_unseen(product.attributes) for product in chosen])
    return {
        "text_to_image": {lang: recalls(queries[lang], pictures) for lang in LANGUAGES},
        "text_to_image_unseen": {lang: recalls(queries[lang], pictures, unseen) for lang in LANGUAGES},
        "text_to_image_half_width": {
            lang: recalls(truncate(queries[lang], half), truncate(pictures, half)) for lang in LANGUAGES
        },
        "image_to_text": {lang: recalls(pictures, titles[lang]) for lang in LANGUAGES},
        "text_to_text": {a: recalls(queries[a], titles[b]) for a, b in _next_languages()},
        "text_to_description": {a: recalls(queries[a], descriptions[b]) for a, b in _next_languages()},
        "image_to_image": {"precision@10": precision(pictures, [p.attributes.broad_category for p in chosen])},
    }


def _next_languages() -> list[tuple[str, str]]:
    return list(zip(LANGUAGES, LANGUAGES[1:] + LANGUAGES[:1], strict=True))


def recalls(queries: Floats, documents: Floats, among: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """Share of queries whose own document is first, or among the first five. Both (n, d), row i belongs to row i."""
    similarities = queries @ documents.T
    own = np.diag(similarities)[:, None]
    ranks = (similarities > own).sum(1)[slice(None) if among is None else among]
    return {f"recall@{k}": float((ranks < k).mean()) for k in (1, 5)}


def precision(embeddings: Floats, categories: list[str], k: int = 10) -> float:
    """Share of the k nearest others that have the query's category, averaged over (n, d) queries."""
    similarities = embeddings @ embeddings.T
    np.fill_diagonal(similarities, -np.inf)
    nearest = np.argsort(-similarities, axis=1)[:, :k]
    labels = np.array(categories)
    return float((labels[nearest] == labels[:, None]).mean())


def table(scores: dict[str, Any]) -> str:
    """The scores as lines to read."""
    lines = [f"{'':<26}{'R@1':>7}{'R@5':>7}   R@1 by language"]
    for name, values in scores.items():
        if name == "image_to_image":
            lines.append(f"{'image to image':<26}{values['precision@10']:>7.3f}         (precision@10, broad category)")
            continue
        mean = {key: np.mean([value[key] for value in values.values()]) for key in ("recall@1", "recall@5")}
        each = "  ".join(f"{lang} {value['recall@1']:.2f}" for lang, value in values.items())
        lines.append(f"{name.replace('_', ' '):<26}{mean['recall@1']:>7.3f}{mean['recall@5']:>7.3f}   {each}")
    return "\n".join(lines)


def main() -> None:
    """Prints the scores of a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", type=Path, default=CHECKPOINT)
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--count", type=int, default=600, help="products (default: 600)")
    parser.add_argument("--seed", type=int, default=FRESH, help=f"which products (default: {FRESH})")
    given = parser.parse_args()
    with JinaClip(str(given.checkpoint), backend="local", cache=False, show_progress=False) as clip:
        print(table(score(clip, given.split, count=given.count, seed=given.seed)))


if __name__ == "__main__":
    main()
