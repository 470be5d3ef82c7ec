"""What a product is: its attributes, the categories they make, and which products training may see."""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Literal

Split = Literal["train", "validation", "test"]

COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown", "black", "white", "grey")
PATTERNS = ("plain", "striped", "dotted", "checked")
LENGTHS = ("mini", "midi", "maxi", "cropped", "full")
SLEEVES = ("sleeveless", "short", "long")
NECKLINES = ("round", "v", "square", "high")


@dataclass(frozen=True, slots=True)
class Cut:
    """The variations a garment comes in; an empty tuple where it has none, or always the same one."""

    lengths: tuple[str, ...] = ()
    sleeves: tuple[str, ...] = ()
    necklines: tuple[str, ...] = ()


GARMENTS = {
    "dress": Cut(("mini", "midi", "maxi"), SLEEVES, NECKLINES),
    "skirt": Cut(("mini", "midi", "maxi")),
    "t-shirt": Cut((), ("short", "long"), ("round", "v", "square")),
    "top": Cut(("cropped", "full"), (), NECKLINES),
    "shirt": Cut((), ("short", "long")),
    "jacket": Cut(("cropped", "full")),
    "coat": Cut(("midi", "maxi")),
    "trousers": Cut(("cropped", "full")),
    "shorts": Cut(("mini", "midi")),
    "sweater": Cut(("cropped", "full"), (), ("round", "v", "high")),
    "hoodie": Cut((), ("short", "long")),
    "jumpsuit": Cut(("cropped", "full"), SLEEVES, ("round", "v", "square")),
}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What texts can say and pictures show; an empty word where a garment has no such attribute."""

    garment: str
    colour: str
    pattern: str
    second_colour: str = ""
    length: str = ""
    sleeve: str = ""
    neckline: str = ""

    @property
    def broad_category(self) -> str:
        """Such as "dress"."""
        return self.garment

    @property
    def fine_category(self) -> str:
        """Such as "striped midi dress"."""
        return " ".join(word for word in (self.pattern, self.length, self.garment) if word)

    @property
    def combination(self) -> tuple[str, str, str]:
        """Garment, colour and pattern: some of these are never shown in training, whatever else the product is."""
        return self.garment, self.colour, self.pattern


NAMES = tuple(field.name for field in fields(Attributes))


@dataclass(frozen=True, slots=True)
class Product:
    """One article: its attributes, and a seed for everything about its picture and texts that is not one of them."""

    id: str
    attributes: Attributes
    seed: int


@functools.cache
def all_attributes() -> tuple[Attributes, ...]:
    """Every product that can be drawn, in a fixed order."""
    dyes = [(colour, "plain", "") for colour in COLOURS]
    dyes += [(a, pattern, b) for a, b in itertools.permutations(COLOURS, 2) for pattern in PATTERNS[1:]]
    return tuple(
        Attributes(garment, *dye, *cut)
        for garment, cuts in GARMENTS.items()
        for dye in dyes
        for cut in itertools.product(cuts.lengths or ("",), cuts.sleeves or ("",), cuts.necklines or ("",))
    )


def is_unseen(attributes: Attributes) -> bool:
    """Whether the combination of garment, colour and pattern is one of the tenth held out of training for good."""
    return _tenth("combination", *attributes.combination) == 0


@functools.cache
def split_of(attributes: Attributes) -> Split:
    """Which part of the work may see a product: a fifth of all is held out, and every unseen combination."""
    tenth = _tenth("product", *(getattr(attributes, name) for name in NAMES))
    if is_unseen(attributes):
        return "test" if tenth % 2 else "validation"
    return {0: "test", 1: "validation"}.get(tenth, "train")  # type: ignore[return-value]


def _tenth(*words: str) -> int:
    """0 to 9, the same on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(words).encode()).digest()[:8], "big") % 10


def products(split: Split, count: int, *, seed: int = 0) -> list[Product]:
    """Different products of one split, every garment about equally often; about a third of the held-out ones unseen.

    Args:
        split: "train", "validation" or "test".
        count: how many.
        seed: another one gives other products, and the same ones other pictures.
    """
    chosen = itertools.islice(_draws(split, random.Random(f"{split}/{seed}")), count)
    views = random.Random(f"{split}/{seed}/views")
    return [Product(f"{split}-{i:04d}", attributes, views.getrandbits(32)) for i, attributes in enumerate(chosen)]


def _draws(split: Split, rng: random.Random) -> Iterator[Attributes]:
    """Garment after garment, no product twice; every third one from an unseen combination, if the split has them."""
    pools = {unseen: _pools(split, unseen) for unseen in (False, True)}
    taken: set[Attributes] = set()
    for i in itertools.count():
        garment = list(GARMENTS)[i // 3 % len(GARMENTS)]
        pool = pools[split != "train" and i % 3 == 2][garment]
        attributes = rng.choice(rng.choice(pool))
        if attributes not in taken:
            taken.add(attributes)
            yield attributes


@functools.cache
def _pools(split: Split, unseen: bool) -> dict[str, list[list[Attributes]]]:
    """The products of each garment by pattern: plain ones get their share, although there are far fewer of them."""
    pools: dict[str, dict[str, list[Attributes]]] = {garment: {} for garment in GARMENTS}
    for a in all_attributes():
        if split_of(a) == split and is_unseen(a) == unseen:
            pools[a.garment].setdefault(a.pattern, []).append(a)
    return {garment: list(patterns.values()) for garment, patterns in pools.items()}
