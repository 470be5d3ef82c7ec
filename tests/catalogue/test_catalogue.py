"""The catalogue: its products, pictures and words."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.catalogue.drawing import draw
from examples.catalogue.products import GARMENTS, NAMES, all_attributes, is_unseen, products, split_of
from examples.catalogue.train.batches import VALUES, Shelf, facts
from examples.catalogue.wording import LANGUAGES, description, paragraph, phrase, title, vocabulary

ROOT = Path(__file__).parents[2]
DIGEST = """
import hashlib
from examples.catalogue.drawing import draw
from examples.catalogue.products import products
print(hashlib.sha256(b"".join(draw(p, 96).tobytes() for p in products("test", 24))).hexdigest())
"""


def test_pictures_are_the_same_to_the_byte_in_another_process() -> None:
    here = hashlib.sha256(b"".join(draw(p, 96).tobytes() for p in products("test", 24))).hexdigest()
    found = subprocess.run([sys.executable, "-c", DIGEST], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == here


def test_products_and_texts_are_the_same_every_time() -> None:
    assert products("test", 50) == products("test", 600)[:50]
    product = products("test", 1)[0]
    assert {title(product, "en") for _ in range(5)} == {title(product, "en")}
    assert description(product, "ja") == description(product, "ja")


def test_another_seed_gives_another_picture_of_the_same_product() -> None:
    product = products("test", 1)[0]
    other = type(product)(product.id, product.attributes, product.seed + 1)
    assert np.abs(np.asarray(draw(product), float) - np.asarray(draw(other), float)).mean() > 1


@pytest.mark.slow
def test_training_never_sees_an_unseen_combination_nor_a_held_out_product() -> None:
    shelf = Shelf()
    seen = {a for group in shelf.by_pattern.values() for a in group} | {a for g in shelf.near.values() for a in g}
    assert len(seen) > 20_000
    assert not any(is_unseen(a) for a in seen)
    held_out = {p.attributes for split in ("validation", "test") for p in products(split, 600)}
    assert not seen & held_out
    combinations = {a.combination for a in seen}
    assert not combinations & {a.combination for a in held_out if is_unseen(a)}


def test_about_a_third_of_held_out_products_are_of_unseen_combinations_and_none_comes_twice() -> None:
    for split in ("validation", "test"):
        chosen = [p.attributes for p in products(split, 600)]
        assert len(set(chosen)) == 600
        assert {split_of(a) for a in chosen} == {split}
        assert 180 <= sum(map(is_unseen, chosen)) <= 220
        assert {a.garment for a in chosen} == set(GARMENTS)


def test_neighbours_differ_in_exactly_one_attribute() -> None:
    shelf, rng = Shelf(), random.Random(0)
    for _ in range(200):
        a = shelf.draw(rng)
        b = shelf.neighbour(a, rng)
        assert sum(getattr(a, name) != getattr(b, name) for name in NAMES) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_a_word_of_its_own_for_every_value(language: str) -> None:
    words = vocabulary(language)
    for name, values in VALUES.items():
        if name != "second_colour":
            assert set(words[name]) == set(values)
            assert len(set(words[name].values())) == len(values)


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_titles_and_descriptions_tell_all_products_apart(language: str) -> None:
    everything, rng = all_attributes(), random.Random(language)
    sample = rng.sample(everything, 400)
    for say in (phrase, paragraph):
        some = rng.sample(everything, 4000)
        assert len({say(a, language, random.Random(1)) for a in some}) == len(some)
        for a in sample:
            said = say(a, language, rng)
            assert not {"[", "]", "{", "}"} & set(said)
            assert "  " not in said


def test_queries_say_what_they_mention_and_nothing_else() -> None:
    a = next(a for a in all_attributes() if (a.garment, a.colour, a.pattern) == ("dress", "red", "striped"))
    said = {phrase(a, "en", random.Random(i), ("garment", "pattern")).lower() for i in range(20)}
    assert said == {"dress with stripes"}
    assert facts(a, ("garment", "pattern")) == (1, -1, 2, -1, -1, -1, -1)
