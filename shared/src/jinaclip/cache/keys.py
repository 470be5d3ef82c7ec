"""What a stored vector is known by: a digest of everything that decides it, and of nothing else.

Not of the backend, the width, a timeout or a key of the API: they change no vector, so they invalidate nothing.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime

from jinaclip.space import Weights

VERSION = b"jinaclip 1"
"""Of these keys; another one, should they ever change, finds nothing of before."""
MOST_TOKENS_PER_CHARACTER = 18
"""Normalising makes at most 18 characters of one (NFKC, U+FDFA), and a token is of one or more."""
SMALL = 2**14
"""Bytes of a field that is copied, as that takes less time than another call."""
INSTRUCTION_TOKENS = 100
"""At most, before a query, with the special ones around it."""


class Keys:
    """Keys of what one model embeds.

    Args:
        weights: which weights embed.
        normalized: whether vectors have length 1.
        queries_differ: whether the model embeds a query and a document of the same text differently.
        max_tokens: of a text, above which it may be cut.

    Attributes:
        surely_whole: most characters of a text that nobody would cut.
        space: the key of the space that a service says its vectors are in.
    """

    def __init__(self, weights: Weights, *, normalized: bool, queries_differ: bool, max_tokens: int) -> None:
        facts = json.dumps(weights.facts, sort_keys=True, separators=(",", ":")).encode()
        base = _digest_of(hashlib.sha256(), VERSION, facts, b"normalized" if normalized else b"as it is")
        self._image, self._url = (_digest_of(base, kind) for kind in (b"image", b"url"))
        self._texts = {
            (kind, task): _digest_of(base, kind, task)  # once, as there are many texts
            for kind in (b"text", b"text cut")
            for task in (b"query", b"document")
        }
        self.space = _digest_of(base, b"space").digest()
        self._queries_differ = queries_differ
        self.surely_whole = (max_tokens - INSTRUCTION_TOKENS) // MOST_TOKENS_PER_CHARACTER

    def text(self, text: str, *, query: bool, truncate: bool) -> tuple[bytes, ...]:
        """The keys under which the vector of a text may be found, 32 bytes each; it is stored under the last.

        A text that was embedded whole has the same vector where texts may be cut; the other way round nobody knows.
        """
        task = b"query" if query and self._queries_differ else b"document"
        content = text.encode()
        whole = _digest_of(self._texts[b"text", task], content).digest()
        if not truncate or len(text) <= self.surely_whole:
            return (whole,)
        return whole, _digest_of(self._texts[b"text cut", task], content).digest()

    def image(self, digest: bytes) -> bytes:
        """The key of an image, by the digest of what the model sees of it."""
        return _digest_of(self._image, digest).digest()

    def url(self, address: str) -> bytes:
        """The key of an image that the service fetches itself: by its address, and only for a day."""
        return _digest_of(self._url, address.encode(), datetime.now(UTC).date().isoformat().encode()).digest()


def file_key(settings: bytes, data: bytes) -> bytes:
    """The key under which the digest of an image is stored, by the content of its file and the settings of images."""
    return _digest_of(hashlib.sha256(), VERSION, b"file", settings, data).digest()


def _digest_of(start: hashlib._Hash, *fields: bytes) -> hashlib._Hash:
    """A digest that goes on from another with these fields.

    Each has its length before it, so that no two lists of fields give the same bytes.
    """
    state = start.copy()
    for field in fields:
        length = len(field).to_bytes(8, "little")
        if len(field) > SMALL:
            state.update(length)
            state.update(field)
        else:
            state.update(length + field)  # one call, as there are millions
    return state
