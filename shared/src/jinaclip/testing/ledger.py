"""Counts what was received, answered and billed, so that lost and twice-paid items are measured, not assumed."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from jinaclip.testing.batch import Batch

MOST_LISTED = 20


@dataclass(slots=True)
class Totals:
    """Plain counters; an item counts as answered when it left in a valid answer that was sent to the end."""

    requests: int = 0
    ok: int = 0
    """Requests with an honest answer that was sent to the end."""
    unsent: int = 0
    """Replies that the client did not wait for."""
    texts: int = 0
    images: int = 0
    tiles: int = 0
    tokens: int = 0
    """Billed for answers that were sent."""
    tokens_lost: int = 0
    """Of answers that were spoilt or not waited for; a service might bill them."""
    in_flight: int = 0
    in_flight_max: int = 0
    connections: int = 0
    redirected: int = 0
    """Requests that followed a redirect."""
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass(slots=True)
class Ledger:
    """Since the last reset; inputs go by their digest."""

    totals: Totals = field(default_factory=Totals)
    faults: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    received: Counter[bytes] = field(default_factory=Counter)
    answered: Counter[bytes] = field(default_factory=Counter)
    last: dict[str, Any] = field(default_factory=dict)
    cpu_start: float = field(default_factory=time.process_time)

    def open(self, size: int, *, new_connection: bool) -> None:
        """A request came in."""
        self.totals.requests += 1
        self.totals.bytes_in += size
        self.totals.connections += new_connection

    @contextmanager
    def in_flight(self) -> Iterator[None]:
        """For as long as a request is worked on."""
        totals = self.totals  # of this request's ledger, whatever a reset brings
        totals.in_flight += 1
        totals.in_flight_max = max(totals.in_flight_max, totals.in_flight)
        try:
            yield
        finally:
            totals.in_flight -= 1

    def receive(self, batch: Batch, headers: Mapping[str, str]) -> None:
        """A valid request was read."""
        self.received.update(batch.digests)
        public = {name: value for name, value in headers.items() if name != "authorization"}
        self.last = {"headers": public, "body": batch.request.fields, "items": len(batch)}

    def close(self, batch: Batch, answered: Collection[int] | None, *, sent: bool) -> None:
        """A reply is out, which answers these inputs by index; None is all of them."""
        self.totals.unsent += not sent
        self.totals.ok += sent and answered is None
        names = batch.digests if answered is None else [batch.digests[index] for index in answered]
        if not sent or not names:
            self.totals.tokens_lost += batch.tokens
            return
        self.answered.update(names)
        self.totals.tokens += batch.tokens
        self.totals.tiles += batch.tiles
        self.totals.images += batch.images
        self.totals.texts += len(batch) - batch.images

    def history(self, name: bytes) -> dict[str, int]:
        """How often one input was received and answered."""
        return {"received": self.received[name], "answered": self.answered[name]}

    def summary(self) -> dict[str, Any]:
        """All but the single inputs, as JSON; `received` and `answered` are times -> distinct inputs."""
        repeated = (name.hex() for name, times in self.answered.items() if times > 1)
        return {
            **asdict(self.totals),
            "faults": dict(self.faults),
            "refused": dict(self.refused),
            "items": len(self.received),
            "answered_items": len(self.answered),
            "received": _histogram(self.received),
            "answered": _histogram(self.answered),
            "repeated": [name for name, _ in zip(repeated, range(MOST_LISTED), strict=False)],
            "last": self.last,
            "cpu_s": round(time.process_time() - self.cpu_start, 3),
        }


def _histogram(times: Counter[bytes]) -> dict[str, int]:
    return {str(count): items for count, items in sorted(Counter(times.values()).items())}
