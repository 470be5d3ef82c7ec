"""How long answers take, and how many the service lets through."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from jinaclip.testing.refusals import RefusalError, flat, nested

if TYPE_CHECKING:
    from starlette.responses import Response

    from jinaclip.testing.ledger import Totals
    from jinaclip.testing.request import Batch
    from jinaclip.testing.settings import Settings


class Bucket:
    """A token bucket; without a rate it holds everything."""

    def __init__(self, per_minute: float, burst_s: float) -> None:
        self.rate = per_minute / 60
        self.size = max(1.0, self.rate * burst_s)
        self.level, self.at = self.size, time.monotonic()

    def wait(self, amount: float) -> float:
        """Seconds until so much, or a full bucket, could be taken."""
        if not self.rate:
            return 0.0
        now = time.monotonic()
        self.level = min(self.size, self.level + (now - self.at) * self.rate)
        self.at = now
        return max(0.0, (min(amount, self.size) - self.level) / self.rate)

    def take(self, amount: float) -> None:
        """Takes it; a request larger than the bucket leaves it in debt."""
        self.level -= amount


class Latency:
    """The service's speed and limits under some settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.slots = asyncio.Semaphore(settings.slots) if settings.slots else nullcontext()
        self.requests = Bucket(settings.rpm, settings.burst_s)
        self.tokens = Bucket(settings.tpm, settings.burst_s)

    def admit(self, batch: Batch, totals: Totals) -> None:
        """Takes the request from the quotas.

        Raises:
            RefusalError: a limit is reached.
        """
        most = self.settings.concurrency
        if most and totals.in_flight > most:
            code = "RATE_CONCURRENCY_LIMIT_EXCEEDED"
            raise RefusalError(flat(429, f"More than {most} concurrent requests.", code), code)
        if self.settings.balance and totals.tokens >= self.settings.balance:
            code = "AUTHZ_INSUFFICIENT_BALANCE"
            raise RefusalError(flat(403, "Insufficient balance.", code), code)
        waits = {"REQUEST": self.requests.wait(1), "TOKEN": self.tokens.wait(batch.tokens)}
        for kind, seconds in waits.items():
            if seconds > 0:
                raise RefusalError(
                    self._too_fast(f"RATE_{kind}_LIMIT_EXCEEDED", seconds), f"RATE_{kind}_LIMIT_EXCEEDED"
                )
        self.requests.take(1)
        self.tokens.take(batch.tokens)

    def _too_fast(self, code: str, seconds: float) -> Response:
        headers = {"Retry-After": str(math.ceil(seconds))} if self.settings.tell_wait else {}
        return nested(429, "Rate limit exceeded.", code, **headers)

    async def work(self, batch: Batch, *, new_connection: bool) -> None:
        """Takes as long as the service would."""
        settings = self.settings
        texts = len(batch.inputs) - batch.images
        delay = settings.base_ms + texts * settings.text_ms + batch.tiles * settings.tile_ms
        if new_connection and settings.connect_ms:
            await asyncio.sleep(settings.connect_ms / 1000)
        if delay:
            async with self.slots:
                await asyncio.sleep(delay / 1000)
