"""`JinaClip.self_test`: one text and one image through the whole of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from jinaclip.call.results import Results
from jinaclip.errors import JinaClipError
from jinaclip.specs import ModelSpec
from jinaclip.vectors import Vectors

LENGTH_SLACK = 1e-3
SAME = 0.9999
"""Cosine above which a text and an image that have nothing in common got one vector."""
TEXT = "a check of the text side"


class Embedder(Protocol):
    """What is tested: a JinaClip."""

    @property
    def config(self) -> Any:
        """Its options."""

    @property
    def spec(self) -> ModelSpec:
        """Facts of its model."""

    @property
    def dimensions(self) -> int:
        """Width of its vectors."""

    def embed(self, items: list[Any], /) -> Results:
        """The vectors of some items."""


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """What `JinaClip.self_test` found. Latencies in seconds, None where nothing came back."""

    model: str
    backend: str
    dimensions: int
    text_norm: float | None
    image_norm: float | None
    text_latency: float | None
    image_latency: float | None
    tokens: int
    problems: tuple[str, ...]
    errors: tuple[JinaClipError, ...] = ()
    """What was raised instead of a vector; each is among the problems, too."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Probe:
    """One embedding, and how it went."""

    vector: Vectors | None
    norm: float | None
    seconds: float | None
    tokens: int
    problems: tuple[str, ...]
    errors: tuple[JinaClipError, ...] = ()


def self_test(clip: Embedder) -> SelfTestReport:
    """Embeds a text and an image and says whether the answers are sound."""
    text = probe("text", TEXT, clip)
    image = probe("image", checkerboard(), clip)
    problems = [*text.problems, *image.problems]
    if text.vector is not None and image.vector is not None and cosine(text.vector, image.vector) > SAME:
        problems.append("a text and an image got the same vector")
    return SelfTestReport(
        model=clip.spec.name,
        backend=clip.config.backend,
        dimensions=clip.dimensions,
        text_norm=text.norm,
        image_norm=image.norm,
        text_latency=text.seconds,
        image_latency=image.seconds,
        tokens=text.tokens + image.tokens,
        problems=tuple(problems),
        errors=text.errors + image.errors,
    )


def probe(name: str, item: Any, clip: Embedder) -> Probe:
    """One embedding, timed and looked at."""
    started = time.perf_counter()
    results = clip.embed([item])
    seconds = time.perf_counter() - started
    try:
        vector = results.unwrap()[0]
    except JinaClipError as error:
        return Probe(None, None, None, results.usage.tokens, (f"{name}: {type(error).__name__}: {error}",), (error,))
    norm = float(np.linalg.norm(vector))
    return Probe(vector, norm, seconds, results.usage.tokens, tuple(f"{name}: {p}" for p in problems(vector, clip)))


def problems(vector: Vectors, clip: Embedder) -> list[str]:
    """What is wrong with a vector."""
    found = []
    if vector.shape != (clip.dimensions,):
        found.append(f"shape {vector.shape}, not ({clip.dimensions},)")
    if not np.isfinite(vector).all():
        found.append("NaN or infinity in the vector")
    norm = float(np.linalg.norm(vector))
    if clip.config.normalized and abs(norm - 1) > LENGTH_SLACK:
        found.append(f"length {norm:.4f}, not 1")
    return found


def checkerboard() -> NDArray[np.uint8]:
    """A small image, uint8 of shape (64, 64, 3)."""
    squares = np.indices((64, 64)).sum(axis=0) // 16 % 2
    return (squares[..., None] * np.array([200, 120, 40])).astype(np.uint8)


def cosine(a: Vectors, b: Vectors) -> float:
    """Of the angle between two vectors."""
    return float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))
