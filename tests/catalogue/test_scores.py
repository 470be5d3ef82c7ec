"""The shipped model, on the test products that nothing was ever chosen by."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from examples.catalogue.scores import CHECKPOINT, precision, recalls, score, table
from jinaclip import JinaClip


@pytest.fixture(scope="module")
def scores() -> dict:
    """All of the model card, which takes long; tests/contract/test_meaning.py tries some of it every time."""
    with JinaClip(str(CHECKPOINT), backend="local", device="cpu") as clip:
        return score(clip, "test")


def means(values: dict[str, dict[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([value[key] for value in values.values()])) for key in ("recall@1", "recall@5")}


@pytest.mark.long
def test_titles_find_pictures_in_every_language(scores: dict) -> None:
    mean = means(scores["text_to_image"])
    assert mean["recall@1"] >= 0.90
    assert mean["recall@5"] >= 0.98
    assert min(value["recall@1"] for value in scores["text_to_image"].values()) >= 0.85


@pytest.mark.long
def test_unseen_combinations_are_found_as_well(scores: dict) -> None:
    mean = means(scores["text_to_image_unseen"])
    assert mean["recall@1"] >= 0.85
    assert mean["recall@5"] >= 0.98


@pytest.mark.long
def test_pictures_find_pictures_of_their_category(scores: dict) -> None:
    assert scores["image_to_image"]["precision@10"] >= 0.98


@pytest.mark.long
def test_texts_find_their_translations(scores: dict) -> None:
    assert means(scores["text_to_text"])["recall@1"] >= 0.95


@pytest.mark.long
def test_half_the_width_keeps_nearly_everything(scores: dict) -> None:
    whole, half = (means(scores[name])["recall@5"] for name in ("text_to_image", "text_to_image_half_width"))
    assert half >= 0.98 * whole


@pytest.mark.long
def test_the_model_card_states_these_scores(scores: dict) -> None:
    assert table(scores) in (CHECKPOINT / "README.md").read_text()


def test_the_checkpoint_is_small_complete_and_in_float16() -> None:
    files = {file.name: file.stat().st_size for file in CHECKPOINT.iterdir()}
    assert set(files) == {
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
    }
    assert sum(files.values()) < 8 * 2**20
    header = (CHECKPOINT / "model.safetensors").read_bytes()
    entries = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
    assert {entry["dtype"] for name, entry in entries.items() if name != "__metadata__"} == {"F16"}


def test_names_are_those_of_the_published_file() -> None:
    names = set(json.loads((Path(__file__).parents[1] / "golden" / "jina-clip-v2.tensors.json").read_text()))
    header = (CHECKPOINT / "model.safetensors").read_bytes()
    ours = set(json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])) - {"__metadata__"}
    assert ours <= names


def test_recall_and_precision_are_what_a_hand_counts() -> None:
    documents = np.eye(4, dtype=np.float32)
    queries = np.array([[1, 0, 0, 0], [0.9, 0.8, 0, 0], [0, 0, 1, 0], [0.1, 0.2, 0.3, 0]], np.float32)
    assert recalls(queries, documents) == {"recall@1": 0.5, "recall@5": 1.0}
    assert recalls(queries, documents, np.array([True, False, True, False]))["recall@1"] == 1.0
    near = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9]], np.float32)
    assert precision(near, ["a", "a", "b", "b"], k=1) == 1.0
    assert precision(near, ["a", "b", "b", "b"], k=1) == 0.5
