"""Names of vector spaces: vectors of one space can be compared, and lie in one collection."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinaclip.config import API_URL, EmbedderConfig
from jinaclip.specs import ModelSpec

# What is left out of a digest. These values stay as they are for ever, also when a default changes: the vectors of
# today's defaults keep their name, and those of new defaults get another.
OPTIONS = {
    "normalized": True,
    "image_resize": "model",
    "image_quality": None,
    "image_decode": "exact",
    "url_mode": "fetch",
}
"""Options that change vectors, beside the model and the width."""
POLICY_OPTIONS = {"orient": True, "background": (255, 255, 255), "frame": 0}
"""Fields of `ImagePolicy` that change pixels; the others say which images are accepted."""
NAME_LENGTH = 16
"""Most characters of a model's name in the name of a space: some stores take 45 in all, with a word of the user's."""
DIGITS = 12
"""Hexadecimal digits of the digest: 48 bits tell apart what one user has."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Which weights embed.

    Attributes:
        name: for people.
        facts: JSON values that tell them from all others, the same in every process and on every machine.
    """

    name: str
    facts: Mapping[str, Any]


def published_weights(spec: ModelSpec) -> Weights:
    """The weights of a published model, wherever they run: at Jina's, or here."""
    return Weights(spec.name, {"weights": spec.sha256})


def served_weights(spec: ModelSpec, base_url: str) -> Weights:
    """What answers at an endpoint: at Jina's the published weights; elsewhere nobody knows, so its URL counts too.

    How it is spoken to does not: neither the wire nor, of addresses that have it, what stands behind a question mark.
    """
    base_url = base_url.partition("?")[0]
    weights = published_weights(spec)
    return weights if base_url == API_URL else Weights(weights.name, {**weights.facts, "endpoint": base_url})


def name_weights(weights: Weights, named: str | None) -> Weights:
    """The weights as what was kept of them is told apart: where nobody knows which they are, by what the caller says.

    So an endpoint that serves others now, and is given the name of their space, is not answered from what was kept of
    those before.
    """
    if named is None or "endpoint" not in weights.facts:
        return weights
    return Weights(weights.name, {**weights.facts, "space": named})


def name_space(weights: Weights, dimensions: int, config: EmbedderConfig) -> str:
    """The name of a space, such as "jina_clip_v2_1024_0123456789ab": letters, digits and underscores, for any store."""
    facts = space_facts(weights, dimensions, config)
    return f"{_slug(weights.name)}_{dimensions}_{_digest(facts)}"


def name_fingerprint(weights: Weights, dimensions: int, config: EmbedderConfig, rounding: Mapping[str, Any]) -> str:
    """The name of what gives the same vectors to the last bits; `rounding` tells apart what only rounds differently."""
    facts = {**space_facts(weights, dimensions, config), "backend": config.backend, **rounding}
    return f"{_slug(weights.name)}_{dimensions}_{config.backend}_{_digest(facts)}"


def space_facts(weights: Weights, dimensions: int, config: EmbedderConfig) -> dict[str, Any]:
    """What decides the vectors, as JSON values.

    An option at its default is left out. An option that a later version adds therefore renames no space.
    """
    options = changed_options(config, OPTIONS) | changed_options(config.image_policy, POLICY_OPTIONS)
    return {**weights.facts, "dimensions": dimensions, **options}


def names_pictures(config: EmbedderConfig) -> bool:
    """Whether the name of a space tells how images are prepared, as that is not the usual way."""
    pictures = {name: usual for name, usual in OPTIONS.items() if name != "normalized"}
    return bool(changed_options(config, pictures) or changed_options(config.image_policy, POLICY_OPTIONS))


def changed_options(options: object, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that are not as `defaults` have them."""
    values = {name: getattr(options, name) for name in defaults}
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return {name: value for name, value in values.items() if value != defaults[name]}


def _slug(name: str) -> str:
    """A name in lower case, as some stores do not tell cases apart. It starts with a letter, and looks like no key."""
    word = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    word = re.sub(r"jina_(?!clip_)", "jina", word)
    word = word if word[:1].isalpha() else f"model_{word}"
    return word[:NAME_LENGTH].strip("_")


def _digest(facts: Mapping[str, Any]) -> str:
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]
