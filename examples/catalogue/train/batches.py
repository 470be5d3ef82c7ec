"""What each step of training sees: a pure function of the seed, the stage and the number of the step."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from examples.catalogue.drawing import draw
from examples.catalogue.products import (
    COLOURS,
    GARMENTS,
    LENGTHS,
    NAMES,
    NECKLINES,
    PATTERNS,
    SLEEVES,
    Attributes,
    Product,
    all_attributes,
    split_of,
)
from examples.catalogue.train.student import INSTRUCTION, PREPROCESSOR, SIDE
from examples.catalogue.wording import LANGUAGES, paragraph, phrase
from jinaclip.local import preprocess

PAD = 1
VALUES = dict(zip(NAMES, [tuple(GARMENTS), COLOURS, PATTERNS, COLOURS, LENGTHS, SLEEVES, NECKLINES], strict=True))


@dataclass(frozen=True, slots=True)
class Said:
    """A text and what it says: (7,) the number of each attribute's value, 0 where the garment has none, -1 unsaid."""

    text: str
    facts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pairs:
    """Queries and what may answer them. Texts are padded ids (B, T), pictures pixels (B, 3, S, S)."""

    queries: Tensor
    documents: Tensor
    wanted: Tensor
    """(queries, documents) bool."""
    facts: Tensor | None = None
    """(documents, attributes) numbers; of pictures alone."""
    wishes: Tensor | None = None
    """More queries, which mention some attributes only; of pictures alone."""
    granted: Tensor | None = None
    """(wishes, documents) bool."""


class Shelf:
    """The products training may see, and for each those that differ in one attribute."""

    def __init__(self) -> None:
        self.by_pattern: dict[tuple[str, str], list[Attributes]] = {}
        self.near: dict[tuple[str, ...], list[Attributes]] = {}
        for a in all_attributes():
            if split_of(a) == "train":
                self.by_pattern.setdefault((a.garment, a.pattern), []).append(a)
                for key in _keys(a):
                    self.near.setdefault(key, []).append(a)

    def draw(self, rng: random.Random) -> Attributes:
        """Any product; garments and patterns are equally likely."""
        return rng.choice(self.by_pattern[rng.choice(list(GARMENTS)), rng.choice(PATTERNS)])

    def neighbour(self, a: Attributes, rng: random.Random) -> Attributes:
        """One that differs from this one in a single attribute."""
        groups = [group for key in _keys(a) if len(group := self.near[key]) > 1]
        while (other := rng.choice(rng.choice(groups))) == a:
            pass
        return other

    def group(self, size: int, rng: random.Random, together: int = 3) -> list[Attributes]:
        """Different products in threes that are hard to tell apart."""
        found: dict[Attributes, None] = {}
        while len(found) < size:
            first = self.draw(rng)
            found.update(dict.fromkeys([first, *(self.neighbour(first, rng) for _ in range(together - 1))]))
        return list(found)[:size]


def _keys(a: Attributes) -> list[tuple[str, ...]]:
    """What all products share that differ from this one in a single attribute, for each attribute."""
    values = [getattr(a, name) for name in NAMES]
    return [(*values[:k], f"any {name}", *values[k + 1 :]) for k, name in enumerate(NAMES)]


def facts(a: Attributes, mentioned: tuple[str, ...] = NAMES) -> tuple[int, ...]:
    """The numbers of `Said`."""
    return tuple(_number(name, getattr(a, name)) if name in mentioned else -1 for name in NAMES)


def _number(name: str, value: str) -> int:
    return VALUES[name].index(value) + 1 if value else 0


def answers(queries: list[tuple[int, ...]], documents: list[tuple[int, ...]]) -> Tensor:
    """(n, m) bool: whether document m is what query n says, as far as it says anything."""
    q, d = torch.tensor(queries)[:, None], torch.tensor(documents)[None]
    return ((q == d) | (q == -1)).all(-1)


class Batches:
    """The batches of one stage; number them and they come, in any order."""

    def __init__(self, stage: int, size: int, seed: str, tokenizer: Tokenizer) -> None:
        self.stage, self.size, self.seed, self.tokenizer = stage, size, seed, tokenizer
        self.shelf = Shelf()
        self.tokenizer.enable_padding(pad_id=PAD, pad_token="<pad>")

    def __getitem__(self, step: int) -> dict[str, Pairs]:
        """The tasks of a step by name."""
        rng = random.Random(f"{self.seed}/{step}")
        return {name: task(self, rng) for name, task in TASKS[self.stage].items()}

    def captions(self, rng: random.Random) -> Pairs:
        """Titles and pictures."""
        return self._pictured(rng, lambda a: self._title(a, rng))

    def descriptions(self, rng: random.Random) -> Pairs:
        """Paragraphs and titles, half and half, and pictures."""
        return self._pictured(rng, lambda a: self._long(a, rng) if rng.random() < 0.5 else self._title(a, rng))

    def short_texts(self, rng: random.Random) -> Pairs:
        """What shoppers type, and titles, in languages of their own."""
        return self._worded(rng, lambda a: self._title(a, rng))

    def long_texts(self, rng: random.Random) -> Pairs:
        """What shoppers type, and paragraphs or titles."""
        return self._worded(rng, lambda a: self._long(a, rng) if rng.random() < 0.5 else self._title(a, rng))

    def triplets(self, rng: random.Random) -> Pairs:
        """What shoppers type; paragraphs that answer it; paragraphs of products that differ in one attribute."""
        shown = self.shelf.group(self.size // 2, rng)
        asked = [self._short(a, rng) for a in shown]
        told = [self._long(a, rng) for a in [*shown, *(self.shelf.neighbour(a, rng) for a in shown)]]
        return self._texts(asked, told)

    def _pictured(self, rng: random.Random, say: Callable[[Attributes], Said]) -> Pairs:
        shown = self.shelf.group(self.size, rng)
        said, wishes = [say(a) for a in shown], [self._wish(a, rng) for a in shown[: self.size // 2]]
        pictures = np.stack([photograph(Product("", a, rng.getrandbits(32))) for a in shown])
        seen = [facts(a) for a in shown]
        return Pairs(
            self._ids(said),
            torch.from_numpy(pictures),
            torch.eye(len(shown), dtype=torch.bool),
            torch.tensor(seen),
            self._ids(wishes),
            answers([wish.facts for wish in wishes], seen),
        )

    def _worded(self, rng: random.Random, say: Callable[[Attributes], Said]) -> Pairs:
        shown = self.shelf.group(self.size // 2, rng)
        return self._texts([self._short(a, rng) for a in shown], [say(a) for a in shown])

    def _texts(self, asked: list[Said], told: list[Said]) -> Pairs:
        return Pairs(self._ids(asked), self._ids(told), answers([s.facts for s in asked], [s.facts for s in told]))

    def _ids(self, said: list[Said]) -> Tensor:
        return torch.tensor([encoding.ids for encoding in self.tokenizer.encode_batch([s.text for s in said])])

    def _title(self, a: Attributes, rng: random.Random) -> Said:
        """All attributes in a line; half of the lines carry the query instruction."""
        return self._asked(a, NAMES, rng)

    def _long(self, a: Attributes, rng: random.Random) -> Said:
        return Said(paragraph(a, rng.choice(LANGUAGES), rng), facts(a))

    def _wish(self, a: Attributes, rng: random.Random) -> Said:
        """What a shopper types, who mentions some attributes or hardly any."""
        return self._asked(a, self._some(rng), rng)

    def _short(self, a: Attributes, rng: random.Random) -> Said:
        return self._title(a, rng) if rng.random() < 0.6 else self._wish(a, rng)

    def _asked(self, a: Attributes, mentioned: tuple[str, ...], rng: random.Random) -> Said:
        prefix = INSTRUCTION if rng.random() < 0.5 else ""
        return Said(prefix + phrase(a, rng.choice(LANGUAGES), rng, mentioned), facts(a, mentioned))

    def _some(self, rng: random.Random) -> tuple[str, ...]:
        kinds = [
            ("garment",),
            ("garment", "pattern", "length"),
            ("garment", "colour"),
            ("garment", "colour", "pattern"),
        ]
        free = ("garment", *(name for name in NAMES[1:] if name != "second_colour" and rng.random() < 0.5))
        return rng.choice([*kinds, free])


def photograph(product: Product) -> np.ndarray:
    """(3, S, S) float32: a product as the vision tower gets it, drawn small, as large pictures would be shrunk."""
    return preprocess(draw(product, SIDE), PREPROCESSOR)


TASKS: dict[int, dict[str, Callable[[Batches, random.Random], Pairs]]] = {
    1: {"captions": Batches.captions, "text pairs": Batches.short_texts},
    2: {"descriptions": Batches.descriptions, "text pairs": Batches.long_texts},
    3: {"descriptions": Batches.descriptions, "triplets": Batches.triplets},
}
"""What the three stages of the recipe train on."""
