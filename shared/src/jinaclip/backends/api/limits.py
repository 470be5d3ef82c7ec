"""What the service allows one key: slots and rates, learnt from its refusals. A slot is a place in flight.

Limits belong to the account, so all JinaClips of a process with the same key and base URL share one `RateLimits`.
All of it is arithmetic under a lock that is never held while anybody waits.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Literal

from jinaclip.config import EmbedderConfig

Scope = Literal["requests", "tokens", "concurrency", "unknown"]
WINDOW = 61.0
"""Seconds over which the service counts requests and tokens, with one to spare for clocks and latency."""
RETRY_TOKENS = 500
RETRY_COST = 5
"""A retry takes this from the account's reserve, an answer gives it back: half of all attempts may fail for ever, but
of an outage only the first hundred retries are spent."""
IDLE = 5.0
"""Seconds without anybody who wants to send, after which what was accepted before says nothing about a limit."""
MOST_SLOTS = 512
"""More than anybody may ask for."""
GROWTH = 1.1
"""A learnt rate grows by this for every window without a refusal, in case it was learnt too low."""


class Slot:
    """A place in flight, or one in the queue for it."""

    __slots__ = ("ceiling", "future", "granted")

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.granted = False
        self.future: Future[None] | None = None


class Window:
    """What was spent over the last minute."""

    def __init__(self) -> None:
        self.learnt = math.inf
        self._log: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def wait(self, cost: float, limit: float, now: float) -> float:
        """Seconds until this much fits; what exceeds the limit alone fits an empty window."""
        self._expire(now)
        excess = self._sum + cost - limit
        if excess <= 0 or not self._log:
            return 0.0
        for at, spent in self._log:
            excess -= spent
            if excess <= 0:
                return max(0.0, at + WINDOW - now)
        return max(0.0, self._log[-1][0] + WINDOW - now)

    def book(self, cost: float, now: float) -> None:
        """Counts a request as sent now."""
        self._log.append((now, cost))
        self._sum += cost

    def take_back(self, cost: float, sent_at: float) -> None:
        """Forgets a request that was refused."""
        for number in range(len(self._log) - 1, -1, -1):
            at, spent = self._log[number]
            if at <= sent_at and spent == cost:
                del self._log[number]
                self._sum -= cost
                return

    def learn(self, now: float) -> None:
        """Takes what was accepted over the last minute for the limit."""
        self._expire(now)
        self.learnt = max(1.0, min(self.learnt, self._sum))

    def _expire(self, now: float) -> None:
        while self._log and self._log[0][0] <= now - WINDOW:
            self._sum -= self._log.popleft()[1]


class RateLimits:
    """Shared limits of one key at one base URL."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.RLock()  # an abandoned flow may be collected, and leave, while this thread is inside
        self._queue: deque[Slot] = deque()
        self._in_flight = 0
        self._limit = math.inf
        self._cruise: float | None = None  # the limit to return to once a probe is answered
        self._gate = -math.inf
        self._taught = -math.inf
        self._wanted = self._since = -math.inf  # until when, and since when, somebody has been wanting to send
        self._cut = -math.inf
        self._answered = 0
        self._retries = RETRY_TOKENS
        self._requests, self._tokens = Window(), Window()

    def enter(self, ceiling: int) -> Slot:
        """A slot if there is one, else a place in the queue with a future to wait for."""
        slot = Slot(ceiling)
        with self._lock:
            if not self._queue and self._in_flight < min(self._limit, ceiling):
                self._grant(slot)
            else:
                slot.future = Future()
                self._queue.append(slot)
        return slot

    def leave(self, slot: Slot) -> None:
        """Gives the slot back, or the place in the queue."""
        with self._lock:
            if slot.granted:
                self._in_flight -= 1
            else:
                self._queue.remove(slot)
            self._admit()

    def requeue(self, slot: Slot) -> None:
        """Takes a slot back that was not used yet, if there are fewer now: after a gate one request probes."""
        with self._lock:
            if self._in_flight > self._limit:
                self._in_flight -= 1
                slot.granted, slot.future = False, Future()
                self._queue.append(slot)
                self._admit()

    def pause(self, tokens: int, config: EmbedderConfig) -> float:
        """Seconds to wait before sending this much; 0 books it as sent."""
        with self._lock:
            now = self._clock()
            if now > self._wanted + IDLE:
                self._since = now
            per_minute = config.requests_per_minute or math.inf, config.tokens_per_minute or math.inf
            wait = max(
                self._gate - now,
                self._requests.wait(1, min(per_minute[0], self._requests.learnt), now),
                self._tokens.wait(tokens, min(per_minute[1], self._tokens.learnt), now),
            )
            if wait <= 0:
                self._requests.book(1, now)
                self._tokens.book(tokens, now)
            self._wanted = max(self._wanted, now + wait)
            return max(0.0, wait)

    def answered(self, sent_at: float) -> None:
        """Notes an answer: a slot more after a round of them, twice as many after a probe."""
        with self._lock:
            now = self._clock()
            self._retries = min(RETRY_TOKENS, self._retries + RETRY_COST)
            self._answered += 1
            if self._cruise is not None and sent_at >= self._gate:
                self._recover()
            elif self._cruise is None and self._answered >= self._limit:
                self._limit, self._answered = self._limit + 1, 0
            if now - self._taught > 2 * WINDOW and self._taught > -math.inf:
                self._grow(now)
            self._admit()

    def limited(self, scope: Scope, seconds: float, sent_at: float, tokens: int, *, named: bool = False) -> None:
        """Learns from a 429: fewer slots, or one shared wait and then a pace.

        A pace is learnt once requests were sent, or waited for, over a whole window; before that others may have
        filled it. `named`: the service itself named the seconds.
        """
        with self._lock:
            now = self._clock()
            self._requests.take_back(1, sent_at)
            self._tokens.take_back(tokens, sent_at)
            if scope == "concurrency":
                self._halve(sent_at, now)
                if not named:
                    return
            if scope in ("requests", "tokens") and now - self._since >= WINDOW:
                (self._requests if scope == "requests" else self._tokens).learn(now)
            self._taught = now
            self._gate = max(self._gate, now + seconds * random.uniform(1, 1.1))  # noqa: S311
            self._cruise = self._limit if self._cruise is None else self._cruise
            self._limit = 1  # one probe first when the gate opens

    def may_retry(self) -> bool:
        """Whether the reserve of retries allows one more; takes it if so."""
        with self._lock:
            allowed = self._retries >= RETRY_COST
            self._retries -= RETRY_COST if allowed else 0
            return allowed

    def _grant(self, slot: Slot) -> None:
        slot.granted = True
        self._in_flight += 1
        if slot.future is not None:
            with suppress(InvalidStateError):  # cancelled by its owner, who will leave
                slot.future.set_result(None)

    def _admit(self) -> None:
        while self._queue and self._in_flight < min(self._limit, self._queue[0].ceiling):
            self._grant(self._queue.popleft())

    def _recover(self) -> None:
        """Twice as many slots after each answer behind a gate, until there are as many as before."""
        cruise = math.inf if self._cruise is None else self._cruise
        self._limit = min(cruise, 2 * self._limit)
        if self._limit >= min(cruise, MOST_SLOTS):
            self._limit, self._cruise = cruise, None

    def _halve(self, sent_at: float, now: float) -> None:
        if sent_at < self._cut:
            return  # sent before the last cut, so it says nothing about the new limit
        self._cut, self._answered = now, 0
        if self._cruise is None:
            self._limit = max(1, min(self._limit, self._in_flight) // 2)
        else:
            self._cruise = max(1, min(self._cruise, self._in_flight) // 2)

    def _grow(self, now: float) -> None:
        self._requests.learnt *= GROWTH
        self._tokens.learnt *= GROWTH
        self._taught = now - WINDOW


_shared: weakref.WeakValueDictionary[tuple[int, str, str], RateLimits] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_limits(config: EmbedderConfig) -> RateLimits:
    """The account of this process for the key and base URL; it lives as long as somebody holds it.

    A forked child gets its own: it cannot know what its parent has in flight.
    """
    digest = hashlib.sha256(config.key.reveal().encode()).hexdigest()
    name = os.getpid(), digest, config.base_url
    with _shared_lock:
        limits = _shared.get(name)
        if limits is None:
            limits = _shared[name] = RateLimits()
        return limits


def _renew_lock() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()  # another thread of the parent may have held it at the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
