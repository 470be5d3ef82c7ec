"""A catalogue of products nobody trained on, with the small model that was trained for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples.catalogue.table import write_table
from jinaclip import JinaClip
from jinaclip.evaluation import Evaluation, evaluate

COUNT = 240
POOL = 12
"""About as many as there are products of a garment: more could not all be right."""


@pytest.fixture(scope="session")
def model(catalogue_checkpoint):
    with JinaClip(catalogue_checkpoint, backend="local", device="cpu") as clip:
        yield clip


@pytest.fixture(scope="session")
def table(tmp_path_factory) -> Path:
    """A folder with `items.jsonl`, `queries.jsonl` and `pictures/`."""
    folder = tmp_path_factory.mktemp("table")
    write_table(folder, count=COUNT, size=64)
    return folder


@pytest.fixture(scope="session")
def items(table) -> list[dict]:
    return [json.loads(line) for line in (table / "items.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def queries(table) -> list[dict]:
    return [json.loads(line) for line in (table / "queries.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def texts(model, items):
    """Vectors of the descriptions."""
    return model.embed_documents([item["text"] for item in items])


@pytest.fixture(scope="session")
def pictures(model, table, items):
    """Vectors of the pictures."""
    return model.embed_images([table / item["image"] for item in items])


@pytest.fixture(scope="session")
def evaluation(model, table) -> Evaluation:
    return evaluate(model, table / "items.jsonl", table / "queries.jsonl", pool=POOL, resamples=300)
