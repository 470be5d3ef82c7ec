"""`JinaClip.check`: one text and one picture through the whole of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jinaclip.errors import JinaClipError
from jinaclip.vectors import Vectors

if TYPE_CHECKING:
    from jinaclip.clip import JinaClip

LENGTH_SLACK = 1e-3
SAME = 0.9999
"""Cosine above which a text and a picture that have nothing in common got one vector."""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What `JinaClip.check` found. Latencies in seconds, None where nothing came back."""

    model: str
    backend: str
    dimensions: int
    text_norm: float | None
    image_norm: float | None
    text_latency: float | None
    image_latency: float | None
    tokens: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


@dataclass(slots=True)
class Probe:
    """One embedding, and how it went."""

    vector: Vectors | None = None
    norm: float | None = None
    seconds: float | None = None
    problems: list[str] = field(default_factory=list)


def check(clip: JinaClip) -> CheckReport:
    """Embeds a text and a picture and says whether the answers are sound."""
    before = clip.usage.tokens
    text = probe("text", lambda: clip.embed_documents(["a check of the text side"])[0], clip)
    image = probe("image", lambda: clip.embed_image(checkerboard()), clip)
    problems = text.problems + image.problems
    if text.vector is not None and image.vector is not None and cosine(text.vector, image.vector) > SAME:
        problems.append("a text and a picture got the same vector")
    return CheckReport(
        model=clip.spec.name,
        backend=clip.config.backend,
        dimensions=clip.dimensions,
        text_norm=text.norm,
        image_norm=image.norm,
        text_latency=text.seconds,
        image_latency=image.seconds,
        tokens=clip.usage.tokens - before,
        problems=tuple(problems),
    )


def probe(name: str, embed: Callable[[], Vectors], clip: JinaClip) -> Probe:
    """One embedding, timed and looked at."""
    started = time.perf_counter()
    try:
        vector = embed()
    except JinaClipError as error:
        return Probe(problems=[f"{name}: {type(error).__name__}: {error}"])
    length = float(np.linalg.norm(vector))
    result = Probe(vector, length, time.perf_counter() - started)
    if vector.shape != (clip.dimensions,):
        result.problems.append(f"{name}: shape {vector.shape}, not ({clip.dimensions},)")
    if not np.isfinite(vector).all():
        result.problems.append(f"{name}: NaN or infinity in the vector")
    if clip.config.normalized and abs(length - 1) > LENGTH_SLACK:
        result.problems.append(f"{name}: length {length:.4f}, not 1")
    return result


def checkerboard() -> NDArray[np.uint8]:
    """A small picture, uint8 of shape (64, 64, 3)."""
    squares = np.indices((64, 64)).sum(axis=0) // 16 % 2
    return (squares[..., None] * np.array([200, 120, 40])).astype(np.uint8)


def cosine(a: Vectors, b: Vectors) -> float:
    """Of the angle between two vectors."""
    return float(a @ b) / float(np.linalg.norm(a) * np.linalg.norm(b))
