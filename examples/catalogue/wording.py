"""Titles, queries and descriptions of a product in eight languages, made from the word lists in `words/`.

A template names attributes in braces; what stands in brackets is dropped when its attribute is not mentioned.
"""

from __future__ import annotations

import functools
import random
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from examples.catalogue.products import NAMES, Attributes, Product

WORDS = Path(__file__).parent / "words"
LANGUAGES = ("en", "de", "fr", "es", "ru", "zh", "ja", "ar")
_OPTIONAL = re.compile(r"\[([^\[\]]*)\]")
_FIELD = re.compile(r"\{(\w+)\}")


@functools.cache
def vocabulary(language: str) -> Mapping[str, Any]:
    """The word list of a language."""
    return tomllib.loads((WORDS / f"{language}.toml").read_text("utf-8"))


def title(product: Product, language: str) -> str:
    """One line that names every attribute: "Red midi dress with white stripes, long sleeves, V-neck"."""
    return phrase(product.attributes, language, random.Random(f"{product.seed}/{language}/title"))


def phrase(attributes: Attributes, language: str, rng: random.Random, mentioned: tuple[str, ...] = NAMES) -> str:
    """One line that names some attributes, the garment always; what shoppers type into a search box."""
    words = vocabulary(language)
    return _capital(_filled(rng.choice(words["titles"]), _spoken(attributes, words, mentioned)))


def description(product: Product, language: str) -> str:
    """A paragraph that names every attribute among sentences on fit, care and occasion."""
    return paragraph(product.attributes, language, random.Random(f"{product.seed}/{language}/description"))


def paragraph(attributes: Attributes, language: str, rng: random.Random) -> str:
    """`description` with turns of phrase of the caller's choice."""
    words = vocabulary(language)
    spoken = _spoken(attributes, words, NAMES)
    facts = [rng.choice(words["facts"][name]) for name in words["facts"] if spoken[name]]
    rng.shuffle(facts)
    sentences = [rng.choice(words["openings"]), *facts, *rng.sample(words["closings"], 2)]
    return ("" if language in ("zh", "ja") else " ").join(_capital(_filled(s, spoken)) for s in sentences)


def _spoken(attributes: Attributes, words: Mapping[str, Any], mentioned: tuple[str, ...]) -> dict[str, str]:
    """The words for what is to be mentioned, an empty one for the rest."""
    values = {name: getattr(attributes, name) if name in mentioned else "" for name in NAMES}
    values["garment"] = attributes.garment
    said = {name: words[name].get(value, "") for name, value in values.items() if name != "second_colour"}
    said["garment"] = said["garment"] or words["anything"]
    said["second"] = words["colour"].get(values["second_colour"], "")
    return {**said, "pattern": _filled(said["pattern"], said)}


def _filled(template: str, spoken: Mapping[str, str]) -> str:
    def optional(match: re.Match[str]) -> str:
        names = _FIELD.findall(match[1])
        return match[1] if all(spoken[name] for name in names) else ""

    return _FIELD.sub(lambda match: spoken[match[1]], _OPTIONAL.sub(optional, template)).strip(" ,")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
