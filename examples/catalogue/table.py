"""The catalogue as a table for `jinaclip evaluate`: `python -m examples.catalogue.table FOLDER`."""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from examples.catalogue.drawing import draw
from examples.catalogue.products import Product, products
from examples.catalogue.scores import FRESH
from examples.catalogue.wording import description, phrase

VISUAL = ("colour", "pattern", "length", "sleeve", "neckline")
"""Attributes that a picture shows."""
ENOUGH = 4
"""Products that a fine category must have to be asked for."""


def write_table(folder: Path, *, count: int = 600, seed: int = FRESH, size: int = 256) -> None:
    """Writes `items.jsonl`, `queries.jsonl` and `pictures/` of test products, which no training saw."""
    chosen = products("test", count, seed=seed)
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for product in chosen:
        draw(product, size).save(folder / "pictures" / f"{product.id}.png")
    write_lines(folder / "items.jsonl", map(item, chosen))
    write_lines(folder / "queries.jsonl", queries(chosen))


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a line of JSON for each row."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def item(product: Product) -> dict[str, Any]:
    """A product as a row of the table."""
    facts = asdict(product.attributes)
    return {
        "id": product.id,
        "text": description(product, "en"),
        "image": f"pictures/{product.id}.png",
        "categories": categories(product),
        "attributes": {name: facts[name] for name in VISUAL},
    }


def categories(product: Product) -> dict[str, str]:
    """The garment, and the garment with pattern and length."""
    return {"broad": product.attributes.broad_category, "fine": product.attributes.fine_category}


def queries(chosen: Iterable[Product]) -> Iterator[dict[str, Any]]:
    """One query for each garment, and one for each fine category of which there are a few."""
    garments: dict[str, Product] = {}
    kinds: dict[str, list[Product]] = {}
    for product in chosen:
        garments.setdefault(product.attributes.broad_category, product)
        kinds.setdefault(product.attributes.fine_category, []).append(product)
    for product in garments.values():
        yield {"text": ask_for(product), "categories": {"broad": product.attributes.broad_category}}
    for name, found in kinds.items():
        if len(found) >= ENOUGH and name not in garments:
            yield {"text": ask_for(found[0], "pattern", "length"), "categories": categories(found[0])}


def ask_for(product: Product, *attributes: str) -> str:
    """The garment and these attributes as somebody would ask for them."""
    return phrase(product.attributes, "en", random.Random(product.id), attributes)


def main() -> None:
    """Writes the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--count", type=int, default=600, help="products (default: 600)")
    given = arguments.parse_args()
    write_table(given.folder, count=given.count)


if __name__ == "__main__":
    main()
