"""Memory for pixels is asked for before an image is decoded."""

from __future__ import annotations

from collections.abc import Callable

Reserve = Callable[[int, int], None]
"""Is told the width and height of an image before it is decoded; may wait until there is room for it."""


def reserve_nothing(width: int, height: int) -> None:
    """For whoever opens one image at a time."""
