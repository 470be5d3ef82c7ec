"""What a key is allowed: requests in flight, requests and tokens per minute, a balance."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from jinaclip.backends.api.wires.jina import Code
from jinaclip.testing.responses import RefusalError, flat, nested

if TYPE_CHECKING:
    from jinaclip.testing.batch import Batch
    from jinaclip.testing.ledger import Totals
    from jinaclip.testing.settings import Settings


class Bucket:
    """A token bucket; without a rate it is never empty."""

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


class RateLimits:
    """The limits under some settings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.requests = Bucket(settings.requests_per_minute, settings.burst_s)
        self.tokens = Bucket(settings.tokens_per_minute, settings.burst_s)

    def admit(self, batch: Batch, totals: Totals) -> None:
        """Takes the request from the limits.

        Raises:
            RefusalError: it is beyond one.
        """
        most = self.settings.max_concurrency
        if most and totals.in_flight > most:
            response = flat(429, f"More than {most} concurrent requests.", Code.RATE_CONCURRENCY)
            raise RefusalError(response, Code.RATE_CONCURRENCY)
        if self.settings.balance and totals.tokens >= self.settings.balance:
            raise RefusalError(flat(403, "Insufficient balance.", Code.BALANCE), Code.BALANCE)
        self._check_rate(Code.RATE_REQUESTS, self.requests.wait(1))
        self._check_rate(Code.RATE_TOKENS, self.tokens.wait(batch.tokens))
        self.requests.take(1)
        self.tokens.take(batch.tokens)

    def _check_rate(self, code: Code, wait: float) -> None:
        if wait > 0:
            headers = {"Retry-After": str(math.ceil(wait))} if self.settings.send_retry_after else None
            raise RefusalError(nested(429, "Rate limit exceeded.", code, headers), code)
