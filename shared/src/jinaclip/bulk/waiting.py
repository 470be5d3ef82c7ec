"""Items that wait for the vector of another one, whose content is the same and which is being embedded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from jinaclip.bulk.items import Item


class WaitingItems:
    """Lets one item of each content be embedded at a time. For one thread at a time."""

    def __init__(self) -> None:
        self._by_digest: dict[bytes, list[Item]] = {}

    def claim(self, items: Iterable[Item]) -> list[Item]:
        """Those to embed, the first of each content; the others wait until that is given to `release`.

        What waits keeps no content: a thousand copies of a photo take as much memory as one.
        """
        first = []
        for item in items:
            if item.digest in self._by_digest:
                self._by_digest[item.digest].append(replace(item, content=None))
            else:
                self._by_digest[item.digest] = []
                first.append(item)
        return first

    def release(self, items: Sequence[Item]) -> list[Item]:
        """Those that waited for these, of which is known now what came of them."""
        return [waiting for item in items for waiting in self._by_digest.pop(item.digest, ())]
