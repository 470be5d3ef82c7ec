"""Descriptions as real shops have them: attributes are left out, and now and then one is wrong."""

from __future__ import annotations

import dataclasses
import random

from examples.catalogue.products import COLOURS, GARMENTS, NAMES, PATTERNS, Attributes, Product
from examples.catalogue.wording import paragraph

LANGUAGE = "en"
KEPT_TOGETHER = {"second_colour": "pattern"}
"""Whoever does not name the pattern does not name its colour."""


def description_with_gaps(product: Product, omitted: float = 0.0, wrong: float = 0.0) -> str:
    """The description of a product whose author was in a hurry; the same each time.

    A higher rate leaves out the same attributes and some more, so that two rates differ by the rate alone.

    Args:
        product: what is described.
        omitted: probability of each attribute, the garment too, to be left out; then it is a "piece".
        wrong: probability of the description to say something else than is true of one attribute.
    """
    said = describe(product, omitted, wrong)
    return paragraph(said, LANGUAGE, random.Random(f"{product.seed}/{LANGUAGE}/description"))


def describe(product: Product, omitted: float, wrong: float) -> Attributes:
    """What the description says: an empty word for what it leaves out."""
    rng = random.Random(f"{product.seed}/gaps")
    mistaken = mistake(product.attributes, rng) if rng.random() < wrong else product.attributes
    lots = {name: random.Random(f"{product.seed}/gaps/{name}").random() for name in NAMES}
    left_out = {name: "" for name in NAMES if lots[KEPT_TOGETHER.get(name, name)] < omitted}
    return dataclasses.replace(mistaken, **left_out)


def mistake(attributes: Attributes, rng: random.Random) -> Attributes:
    """The same but for one attribute, which has another value that there is."""
    choices = {name: others for name in NAMES if (others := other_values(attributes, name))}
    name = rng.choice([*choices])
    return dataclasses.replace(attributes, **{name: rng.choice(choices[name])})


def other_values(attributes: Attributes, name: str) -> list[str]:
    """What somebody could write instead of an attribute's value; nothing where the garment has no such attribute."""
    cut = GARMENTS[attributes.garment]
    values = {
        "garment": tuple(GARMENTS),
        "colour": COLOURS,
        "second_colour": COLOURS,
        "pattern": PATTERNS[1:],
        "length": cut.lengths,
        "sleeve": cut.sleeves,
        "neckline": cut.necklines,
    }[name]
    true = getattr(attributes, name)
    taken = {attributes.colour, attributes.second_colour} if "colour" in name else {true}
    return [value for value in values if value not in taken] if true and true != "plain" else []


def count_gaps(products: list[Product], omitted: float, wrong: float) -> tuple[float, float]:
    """What the rates came to: the shares of attributes left out, and of descriptions that say what is not so."""
    said = [(product.attributes, describe(product, omitted, wrong)) for product in products]
    pairs = [[(getattr(a, n), getattr(b, n)) for n in NAMES if getattr(a, n)] for a, b in said]
    left_out = [not stated for row in pairs for _, stated in row]
    false = [any(stated not in ("", true) for true, stated in row) for row in pairs]
    return sum(left_out) / len(left_out), sum(false) / len(false)
