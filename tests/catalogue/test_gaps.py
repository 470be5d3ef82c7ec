"""Descriptions that leave attributes out or get one wrong, and what that does to three searches."""

from __future__ import annotations

from dataclasses import astuple

import pytest

from examples.catalogue.finding import AVERAGE, DESCRIPTION, IMAGE, Rate, Result, measure_all, outcome_table, write
from examples.catalogue.gaps import count_gaps, describe, description_with_gaps, mistake, other_values
from examples.catalogue.products import NAMES, Product, all_attributes, products
from examples.catalogue.scores import CHECKPOINT
from examples.catalogue.wording import description
from jinaclip import JinaClip
from tests.needs import skip_without


@pytest.fixture(scope="module")
def shop() -> list[Product]:
    return products("test", 300, seed=3)


def test_without_gaps_it_is_the_description_of_the_catalogue(shop: list[Product]) -> None:
    for product in shop[:50]:
        assert description_with_gaps(product) == description(product, "en")


def test_what_is_left_out_stands_nowhere_in_the_text(shop: list[Product]) -> None:
    for product in shop:
        said = description_with_gaps(product, omitted=1).lower()
        assert "piece" in said
        words = set(said.replace(".", "").split())
        assert not words & {product.attributes.garment, product.attributes.colour, product.attributes.length} - {"full"}


@pytest.mark.parametrize("rate", [0.1, 0.4, 0.8])
def test_the_rates_come_out_as_asked_for(rate: float, shop: list[Product]) -> None:
    left_out, _ = count_gaps(shop, rate, 0)
    _, false = count_gaps(shop, 0, rate)
    assert left_out == pytest.approx(rate, abs=0.05)
    assert false == pytest.approx(rate, abs=0.08)


def test_a_higher_rate_leaves_out_the_same_and_more(shop: list[Product]) -> None:
    for product in shop:
        few, many = astuple(describe(product, 0.2, 0)), astuple(describe(product, 0.6, 0))
        assert all(more in ("", less) for less, more in zip(few, many, strict=True))


def test_a_mistake_is_one_other_value_that_the_garment_could_have(shop: list[Product]) -> None:
    import random

    rng, possible = random.Random(0), set(all_attributes())
    for product in shop:
        said = mistake(product.attributes, rng)
        (changed,) = [name for name in NAMES if getattr(said, name) != getattr(product.attributes, name)]
        assert getattr(said, changed) in other_values(product.attributes, changed)
        assert changed == "garment" or said in possible


@pytest.fixture(scope="module")
def results() -> list[Result]:
    skip_without("torch")
    skip_without("ir_measures")
    rates = [Rate(), Rate(omitted=0.9), Rate(wrong=0.5)]
    with JinaClip(str(CHECKPOINT), backend="local", cache=False, show_progress=False) as clip:
        return [*measure_all(clip, rates, [1], count=150)]


@pytest.mark.slow
def test_gaps_cost_the_description_most_and_the_image_nothing(results: list[Result]) -> None:
    whole, gaps, mistakes = ({name: one.score(name, "P@10 broad").mean for name in one.values} for one in results)
    assert whole[IMAGE] == gaps[IMAGE] == mistakes[IMAGE]
    assert gaps[DESCRIPTION] < mistakes[DESCRIPTION] < whole[DESCRIPTION]
    assert gaps[DESCRIPTION] < gaps[AVERAGE] < gaps[IMAGE]
    assert results[1].outcome("P@10 broad") == "behind the image"


@pytest.mark.slow
def test_the_report_has_every_measure_at_every_rate(results: list[Result], tmp_path) -> None:
    skip_without("matplotlib")
    write(results, tmp_path)
    assert len(outcome_table(results).splitlines()) == 2 + len(results)
    assert (tmp_path / "finding.md").read_text("utf-8").count("\n## ") == 2 * 8
    assert (tmp_path / "finding.png").stat().st_size > 10_000
