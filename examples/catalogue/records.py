"""Products as the tables that `jinaclip.evaluate` reads."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from examples.catalogue.products import Product
from examples.catalogue.wording import description, phrase

VISUAL = ("colour", "pattern", "length", "sleeve", "neckline")
ENOUGH = 4
"""Products that a fine category must have to be asked for."""


def item(product: Product, picture: Path) -> dict[str, Any]:
    """A product: description, picture, categories, and what can be seen of it."""
    facts = asdict(product.attributes)
    return {
        "id": product.id,
        "text": description(product, "en"),
        "image": picture,
        "categories": _categories(product),
        "attributes": {name: facts[name] for name in VISUAL},
    }


def questions(chosen: Sequence[Product]) -> Iterator[dict[str, Any]]:
    """One query for each garment, such as "Dress", and one for each fine category that a few products have."""
    broad: dict[str, list[Product]] = {}
    fine: dict[str, list[Product]] = {}
    for product in chosen:
        broad.setdefault(product.attributes.broad_category, []).append(product)
        fine.setdefault(product.attributes.fine_category, []).append(product)
    for name, found in broad.items():
        yield {"text": _wish(found[0], name), "categories": {"broad": name}}
    for name, found in fine.items():
        if len(found) >= ENOUGH:
            yield {"text": _wish(found[0], name, "pattern", "length"), "categories": _categories(found[0])}


def _categories(product: Product) -> dict[str, str]:
    return {"broad": product.attributes.broad_category, "fine": product.attributes.fine_category}


def _wish(product: Product, seed: str, *mentioned: str) -> str:
    return phrase(product.attributes, "en", random.Random(seed), mentioned)
