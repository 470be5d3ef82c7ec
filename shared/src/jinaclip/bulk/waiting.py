"""Items that wait for the vector of another one, whose content is the same and which is being embedded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from jinaclip.bulk.items import Item


class WaitingItems:
    """Lets one item of each content be embedded at a time. For one thread at a time."""

    def __init__(self) -> None:
        self._claimed: set[bytes] = set()
        self._waiting: dict[bytes, list[Item]] = {}  # of the few contents for which any wait

    def claim(self, items: Iterable[Item]) -> list[Item]:
        """Those to embed, the first of each content; the others wait until that is given to `release`.

        What waits keeps no content: a thousand copies of a photo take as much memory as one.
        """
        first = []
        for item in items:
            if item.digest in self._claimed:
                self._waiting.setdefault(item.digest, []).append(replace(item, content=None))
            else:
                self._claimed.add(item.digest)
                first.append(item)
        return first

    def release(self, items: Sequence[Item]) -> list[Item]:
        """Those that waited for these, of which is known now what came of them."""
        digests = [item.digest for item in items]
        self._claimed.difference_update(digests)
        return [waiting for digest in digests for waiting in self._waiting.pop(digest, ())]
