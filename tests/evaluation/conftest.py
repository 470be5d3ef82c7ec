"""A catalogue of products nobody trained on, with the small model that was trained for it."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import pytest

from examples.catalogue.drawing import draw
from examples.catalogue.products import Product, products
from examples.catalogue.wording import description, phrase
from jinaclip import Evaluation, JinaClip, evaluate

collect_ignore = [] if find_spec("mteb") else ["test_mteb.py"]  # large, and not among what `make test` installs
CHECKPOINT = Path(__file__).parents[2] / "examples" / "catalogue" / "checkpoint"
COUNT = 300
POOL = 15
"""About as many as there are products of a garment: more could not all be right."""
VISUAL = ("colour", "pattern", "length", "sleeve", "neckline")


@pytest.fixture(scope="session")
def catalogue_checkpoint() -> str:
    if not (CHECKPOINT / "model.safetensors").exists():
        pytest.skip("the catalogue has no trained checkpoint here")
    return str(CHECKPOINT)


@pytest.fixture(scope="session")
def model(catalogue_checkpoint):
    with JinaClip(catalogue_checkpoint, backend="local", device="cpu") as clip:
        yield clip


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory) -> Path:
    """A folder with `items.jsonl`, `queries.jsonl` and `pictures/`."""
    folder = tmp_path_factory.mktemp("catalogue")
    (folder / "pictures").mkdir()
    chosen = products("test", COUNT)
    for product in chosen:
        draw(product, 64).save(folder / "pictures" / f"{product.id}.png")
    write(folder / "items.jsonl", map(row, chosen))
    write(folder / "queries.jsonl", questions(chosen))
    return folder


@pytest.fixture(scope="session")
def items(catalogue) -> list[dict]:
    return [json.loads(line) for line in (catalogue / "items.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def evaluation(model, catalogue) -> Evaluation:
    return evaluate(model, catalogue / "items.jsonl", catalogue / "queries.jsonl", pool=POOL, resamples=300)


def write(path: Path, rows) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))


def row(product: Product) -> dict:
    facts = asdict(product.attributes)
    return {
        "id": product.id,
        "text": description(product, "en"),
        "image": f"pictures/{product.id}.png",
        "categories": categories(product),
        "attributes": {name: facts[name] for name in VISUAL},
    }


def categories(product: Product) -> dict[str, str]:
    return {"broad": product.attributes.broad_category, "fine": product.attributes.fine_category}


def questions(chosen: list[Product]):
    """One query for each garment, and one for each fine category of which there are a few."""
    kinds: dict[str, list[Product]] = {}
    for product in chosen:
        kinds.setdefault(product.attributes.broad_category, [product])
        kinds.setdefault(product.attributes.fine_category, []).append(product)
    for name, found in kinds.items():
        broad = name == found[0].attributes.broad_category
        if broad or len(found) >= 4:
            words = phrase(found[0].attributes, "en", random.Random(name), () if broad else ("pattern", "length"))
            asked = categories(found[0])
            yield {"text": words, "categories": {"broad": asked["broad"]} if broad else asked}
