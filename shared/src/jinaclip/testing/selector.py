"""Which request gets which fault."""

from __future__ import annotations

import random
from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING

from jinaclip.testing.faults import FAULTS, PASSING, Exchange

if TYPE_CHECKING:
    from jinaclip.testing.batch import Batch
    from jinaclip.testing.settings import Settings


class FaultSelector:
    """Selects a fault for each request: from the script, by draw, or because an input is poisoned.

    A draw depends on the seed, the request's body and how often that body came, so a run can be repeated.

    Raises:
        ValueError: the settings name a fault that does not exist.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.script = list(settings.script)
        self.faults = settings.faults or PASSING
        self.attempts: Counter[bytes] = Counter()
        self.in_row: Counter[bytes] = Counter()
        names = {name for name in (*self.script, *self.faults, *settings.poison.values()) if name is not None}
        if unknown := names - FAULTS.keys():
            raise ValueError(f"no such faults: {', '.join(sorted(unknown))}")

    def select(self, raw: bytes, batch: Batch) -> tuple[str | None, Exchange]:
        """The fault of this request, None for an honest answer."""
        content = blake2b(raw, digest_size=16).digest()
        draw = random.Random(f"{self.settings.seed}/{content.hex()}/{self.attempts[content]}")  # noqa: S311 - no secret
        self.attempts[content] += 1
        name = self._scripted_or_drawn(content, draw)
        targets = [draw.randrange(len(batch))]
        for marker, poison in self.settings.poison.items() if name is None else ():
            if hit := [index for index, text in enumerate(batch.texts) if marker in text]:
                name, targets = poison, hit
                break
        return name, Exchange(batch, self.settings, draw, targets)

    def _scripted_or_drawn(self, content: bytes, draw: random.Random) -> str | None:
        if self.script:
            return self.script.pop(0)
        enough = self.settings.faults_in_row
        if draw.random() >= self.settings.fault_rate or (enough and self.in_row[content] >= enough):
            self.in_row[content] = 0
            return None
        self.in_row[content] += 1
        return draw.choice(self.faults)
