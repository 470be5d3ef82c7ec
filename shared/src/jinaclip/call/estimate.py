"""What a call will be billed, before it is sent.

Prices: an image costs `tokens_per_tile` for every started tile of the picture as sent, 1,000 per 224 x 224 (v1) or
4,000 per 512 x 512 (v2), so pixels beyond one tile are paid for though the model never sees them.
Source: Jina's embeddings page, confirmed by recorded replies (a 333 x 333 picture: 4,000 tokens on both models).
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from jinaclip.errors import InputError
from jinaclip.specs import find_spec

TOKENS_PER_WORD = 1.1
BYTES_PER_WORD = 6
"""For scripts without spaces; about what a word and its space take in the others."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Requests and tokens that a call would take."""

    requests: int
    tokens: int


def image_tokens(width: int, height: int, model: str = "jina-clip-v2") -> int:
    """Tokens billed for a picture of this size in pixels, sent as it is.

    Raises:
        InputError: a side is not positive.
        ConfigError: the model is unknown.
    """
    for side in (width, height):
        if not isinstance(side, Integral) or isinstance(side, bool):
            raise InputError(f"a side of a picture is a whole number of pixels, not {side!r}")
    if width < 1 or height < 1:
        raise InputError(f"a picture of {width} x {height} pixels has no area")
    spec = find_spec(model)
    columns, rows = (-(-side // spec.image_size) for side in (width, height))
    return columns * rows * spec.tokens_per_tile


def text_bytes(text: str) -> int:
    """Size of a text as UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def text_tokens(text: str, size: int | None = None) -> int:
    """Tokens of a text, guessed without a tokenizer: 1.1 per word, two special ones on top.

    Args:
        text: what will be embedded.
        size: its `text_bytes`, where they are known already.
    """
    size = text_bytes(text) if size is None else size
    words = max(text.count(" ") + 1, size // BYTES_PER_WORD)
    return int(TOKENS_PER_WORD * words) + 2
