"""One vector for a text and an image that belong together."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from jinaclip.errors import ConfigError, InputError
from jinaclip.vectors import Vectors, as_vectors, normalize, norms

OPPOSITE = 1e-6
"""Length of the mean under which two vectors cancel out and rounding would choose the direction."""


def check_weight(weight: float) -> float:
    """The weight of the text, from 0 (image alone) to 1 (text alone).

    Raises:
        ConfigError: it is no number in that range.
    """
    if isinstance(weight, bool) or not isinstance(weight, int | float | np.number) or not 0 <= weight <= 1:
        raise ConfigError(f"weight={weight!r} must be a number from 0 (image alone) to 1 (text alone)")
    return float(weight)


def fuse(text: ArrayLike, image: ArrayLike, weight: float = 0.5) -> Vectors:
    """normalise(weight * text + (1 - weight) * image), over unit vectors.

    Args:
        text: shape (d,) or (n, d); brought to length 1 first.
        image: of the same shape; brought to length 1 first.
        weight: share of the text, 0 to 1.

    Returns:
        float32 of the same shape, each vector at length 1.

    Raises:
        ConfigError: the weight is out of range.
        InputError: shapes differ, a vector is zero, or a text and its image are exactly opposite.
    """
    share = np.float32(check_weight(weight))
    texts, images = as_vectors(text, "text"), as_vectors(image, "image")
    if texts.shape != images.shape:
        raise InputError(f"text {texts.shape} and image {images.shape} must have the same shape")
    mean = share * normalize(texts) + (1 - share) * normalize(images)
    cancelled = np.flatnonzero(norms(mean).ravel() < OPPOSITE)
    if cancelled.size:
        index = int(cancelled[0]) if mean.ndim > 1 else None
        raise InputError("text and image point in opposite directions and cancel out; use another weight", index=index)
    return normalize(mean)
