"""Estimates what a call will be billed, before it is sent.

Prices: an image costs `tokens_per_tile` for every started tile at the size at which it is sent: 1,000 per 224 x 224
pixels (v1) or 4,000 per 512 x 512 (v2). So pixels beyond one tile are billed although the model never sees them.
Source: Jina's embeddings page, confirmed by recorded replies (a 333 x 333 image: 4,000 tokens on both models).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jinaclip.errors import InputError
from jinaclip.numeric import is_whole
from jinaclip.specs import find_spec

TOKENS_PER_WORD = 1.1
BYTES_PER_WORD = 6
"""A word and its space take about this many bytes; used for scripts that write no spaces."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """How many requests a call would send, how many tokens it would be billed, and what for.

    Attributes:
        requests, tokens: as `Usage` counts them.
        items: texts and images that are to be embedded, two for a pair.
    """

    requests: int
    tokens: int
    items: int = field(default=0, compare=False)


def image_tokens(width: int, height: int, model: str = "jina-clip-v2") -> int:
    """Tokens billed for an image of this size in pixels, if it is sent without resizing.

    Raises:
        InputError: a side is not a whole number from 1.
        ConfigError: the model is unknown.
    """
    for side in (width, height):
        if not is_whole(side):
            raise InputError(f"a side of an image is a whole number of pixels, not {side!r}")
    if width < 1 or height < 1:
        raise InputError(f"an image of {width} x {height} pixels has no area")
    spec = find_spec(model)
    columns, rows = (-(-side // spec.image_size) for side in (int(width), int(height)))
    return columns * rows * spec.tokens_per_tile


def text_bytes(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def text_tokens(text: str, size: int | None = None) -> int:
    """Tokens of a text, estimated without a tokenizer: 1.1 for each word, and two special tokens.

    Args:
        text: the text to embed.
        size: its `text_bytes`, if the caller has counted them.
    """
    size = text_bytes(text) if size is None else size
    words = max(text.count(" ") + 1, size // BYTES_PER_WORD)
    return int(TOKENS_PER_WORD * words) + 2
