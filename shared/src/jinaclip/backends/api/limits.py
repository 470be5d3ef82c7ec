"""What the service allows one key, learnt from its answers and refusals: slots, rates and retries.

Limits belong to the key, so all JinaClips of a process with the same key and base URL share one `RateLimits`. It is
arithmetic on the hub's thread: it waits for nothing and knows nothing of requests but their number, cost and times.
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
from typing import Literal

from jinaclip import telemetry
from jinaclip.backends.api.route import Endpoint

Scope = Literal["requests", "tokens", "concurrency", "unknown"]
WINDOW = 61.0
"""Seconds over which the service counts requests and tokens, with one to spare for clocks and latency."""
RETRY_TOKENS = 500
RETRY_COST = 5
"""A retry takes this from the key's reserve, an answer gives it back: half of all attempts may fail for ever, but
of an outage only the first hundred retries are spent."""
IDLE = 5.0
"""Seconds without anybody who wants to send, after which what was accepted before says nothing about a limit."""
FIRST_SLOTS, MOST_SLOTS = 8, 64
"""Requests in flight, where `max_concurrency` is left open: at first, and at most."""
FASTER = 1.05
"""Twice the slots must raise the throughput by this, or they stay as they are."""
LONGEST_PAUSE = 120.0
"""Seconds of a Retry-After beyond which the caller is told instead of kept waiting."""
LATEST = 1.1
"""A shared pause lasts up to so many times what was asked for: processes that were refused together part."""
HOLD, LONGEST_HOLD = 30.0, 240.0
"""Seconds before a limit of slots that was met twice is tried again; doubled each time that it is met."""
FIRST_ANSWERS, MOST_ANSWERS = 16, 512
"""Answers to requests of the most items, before twice as many are tried again: at first, and once that was in vain."""
GROWTH = 1.1
"""A learnt rate grows by this for every window without a refusal, in case it was learnt too low."""


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
        """Forgets a request that was refused, or never went out."""
        for number in range(len(self._log) - 1, -1, -1):
            at, spent = self._log[number]
            if at <= sent_at and spent == cost:
                del self._log[number]
                self._sum -= cost
                return

    def learn(self, now: float) -> None:
        """Takes what was accepted over the last minute for the limit; nothing if nothing was."""
        self._expire(now)
        if self._sum:
            self.learnt = max(1.0, min(self.learnt, self._sum))

    def _expire(self, now: float) -> None:
        while self._log and self._log[0][0] <= now - WINDOW:
            self._sum -= self._log.popleft()[1]


class Slots:
    """How many requests may be in flight, for all of the key.

    Attributes:
        limit: what the service's refusals leave; infinite until the first.
        growth: of the slots of those who leave `max_concurrency` open.
    """

    def __init__(self) -> None:
        self.limit = math.inf
        self.growth = Growth()
        self._cut_at = self._held_until = -math.inf
        self._hold = HOLD / 2
        self._held = math.inf  # what it may not exceed until then
        self._has_grown = False  # since the last refusal
        self._answers = 0  # since the last change

    def refuse(self, others: int, sent_at: float, now: float) -> None:
        """Learns from a refusal: as many as are still in flight are what the service takes.

        Each refusal takes one slot. One within the first round of answers after growth holds off the next growth; who
        is refused later shares the key with others, and may grow again to what it had.
        """
        before, grown = self.limit, self._has_grown and self._answers < self.limit
        least = others if before == math.inf else max(others, before - 1)
        self.limit = max(1, min(before, least))
        self._answers, self._has_grown = 0, False
        if sent_at >= self._cut_at:
            self._cut_at = now
            if grown:
                self._hold = min(LONGEST_HOLD, 2 * self._hold)
                self._held, self._held_until = self.limit, now + self._hold

    def answer(self, items: int, sent_at: float, now: float, *, wanted: bool) -> None:
        """Learns from an answer to a request of so many items; `wanted`: somebody waits for a slot."""
        self._answers += 1
        if self._answers >= self.limit and (self.limit < self._held or now >= self._held_until):
            self._raise()
        if wanted and self.limit >= self.growth.slots:
            self.growth.answer(items, sent_at, now)
        else:
            self.growth.restart()

    def _raise(self) -> None:
        self.limit, self._answers, self._has_grown = self.limit + 1, 0, True
        if self.limit > self._held + 1:  # one more than it was held at has proved well
            self._hold = HOLD / 2


class Growth:
    """Slots that are doubled, one more with each answer, and stay so if that raised the throughput.

    It goes in rounds of as many answers as there are slots: one in which they grow; one that settles, whose requests
    were sent while they grew; one that measures; and, where more slots gained nothing, those in which they hold.
    """

    def __init__(self) -> None:
        self.slots = self._size = FIRST_SLOTS
        self._stage: Literal["grow", "settle", "measure", "hold"] = "grow"
        self._held_until = -math.inf
        self._best = 0.0
        self._began_at: float | None = None
        self._answers = self._items = 0

    @property
    def is_new(self) -> bool:
        """Whether nothing is known yet of what the service takes."""
        return self._stage == "grow" and self.slots == FIRST_SLOTS and not self._answers

    def answer(self, items: int, sent_at: float, now: float) -> None:
        """Learns from an answer to a request of so many items, while somebody waits for a slot."""
        self._began_at = sent_at if self._began_at is None else self._began_at
        self._answers += 1
        self._items += items
        if self._stage == "grow":
            self.slots = min(MOST_SLOTS, self.slots + 1)
        if self._answers >= self._size and now > self._began_at:
            self._end_round(self._items / (now - self._began_at), now)
            self._begin(now)

    def restart(self) -> None:
        """Nobody waits: what was reached says nothing about the next job, whose requests may be others."""
        if self._answers and self._best:
            self._stage, self._best = "hold", 0.0
        self._begin(None)

    def _end_round(self, throughput: float, now: float) -> None:
        if self._stage == "grow":
            self._stage, self._best = "settle", self._best or throughput
        elif self._stage == "settle":
            self._stage = "measure"
        elif self._stage == "hold":
            if now >= self._held_until and self.slots < MOST_SLOTS:
                self._stage, self._best = "grow", throughput
        elif throughput > FASTER * self._best:
            self._stage, self._best = ("grow" if self.slots < MOST_SLOTS else "hold"), throughput
        else:
            self.slots = max(FIRST_SLOTS, self.slots // 2)
            self._stage, self._held_until = "hold", now + HOLD

    def _begin(self, moment: float | None) -> None:
        self._began_at, self._size = moment, self.slots
        self._answers = self._items = 0


class BatchCap:
    """The most items of a request, once the service found one too large; it grows again while it holds."""

    def __init__(self) -> None:
        self.items = math.inf
        self._answers = 0
        self._largest = 0  # that was answered, since the last doubt
        self._enough = FIRST_ANSWERS
        self._has_grown = False

    def doubt(self, items: int) -> None:
        """So many took too long: chance, if as many were answered since the last time, else too many."""
        if items > self._largest:
            self.refuse(items)
        self._largest = 0

    def refuse(self, items: int) -> None:
        """So many were too many. What it grew to in vain is tried half as often from then on."""
        if self._has_grown and items >= self.items:
            self._enough = min(MOST_ANSWERS, 2 * self._enough)
            self._has_grown = False
        self.items, self._answers = max(1, min(self.items, (items + 1) // 2)), 0

    def answer(self, items: int) -> None:
        """So many were answered."""
        self._largest = max(self._largest, items)
        if items >= self.items:
            self._answers += 1
            if self._has_grown:
                self._enough, self._has_grown = FIRST_ANSWERS, False
            if self._answers >= self._enough:
                self.items, self._answers, self._has_grown = 2 * self.items, 0, True


class Waits:
    """Tells of waits, once for each: whoever waits at the same time for the same reason shares one."""

    def __init__(self, host: str, clock: Callable[[], float]) -> None:
        self._host, self._clock = host, clock
        self._told: dict[telemetry.WaitReason, tuple[float, float]] = {}  # until when, and what is still the same wait

    def note(self, reason: telemetry.WaitReason, seconds: float) -> None:
        """Somebody waits from now on. A wait that becomes a little longer, as a shared pause does, stays the same."""
        now = self._clock()
        until, same_until = self._told.get(reason, (-math.inf, -math.inf))
        if now < until and now + seconds <= same_until:
            self._told[reason] = max(until, now + seconds), same_until
            return
        self._told[reason] = now + seconds, now + LATEST * seconds
        if telemetry.wants(telemetry.Waiting):
            telemetry.emit(telemetry.Waiting(self._host, reason, seconds, now + seconds))


class RateLimits:
    """Shared limits of one key at one base URL.

    Args:
        clock: seconds.
        host: of the service, for those who watch.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, host: str = "") -> None:
        self._clock = clock
        self.host, self.waits = host, Waits(host, clock)
        self.slots = Slots()
        self.batch = BatchCap()
        self._probe: float | None = None  # slots after a gate: one, then twice as many with each answer
        self._gate = -math.inf
        self._taught = -math.inf
        self._wanted = self._since = -math.inf  # until when, and since when, somebody has been wanting to send
        self._retries = RETRY_TOKENS
        self._requests, self._tokens = Window(), Window()

    @property
    def most_in_flight(self) -> float:
        """Requests that may be in flight now, whoever asks."""
        return self.slots.limit if self._probe is None else min(self._probe, self.slots.limit)

    def requests_are_few(self, per_minute: float) -> bool:
        """Whether a rate of requests binds, so that each of them should carry as much as it can."""
        return min(per_minute, self._requests.learnt) < math.inf

    def wait(self, tokens: int, per_minute: tuple[float, float] = (math.inf, math.inf)) -> float:
        """Seconds to wait before sending this much; 0 if it may go.

        Args:
            tokens: what the request is expected to be billed.
            per_minute: requests and tokens that the caller allows.
        """
        now = self._clock()
        if now > self._wanted + IDLE:
            self._since = now
        own = self._window_wait(tokens, per_minute, now)
        wait = max(0.0, self._gate - now, own, self._window_wait(tokens, self._learnt, now))
        self._wanted = max(self._wanted, now + wait)
        return wait

    def reason(self, tokens: int, per_minute: tuple[float, float]) -> telemetry.WaitReason:
        """Whose limit it is that `wait` waits for, of the same arguments: the caller's own, or the service's."""
        now = self._clock()
        own = self._window_wait(tokens, per_minute, now)
        if own < max(self._gate - now, self._window_wait(tokens, self._learnt, now)):
            return "rate limit of the service"
        return "requests_per_minute" if self._requests.wait(1, per_minute[0], now) >= own else "tokens_per_minute"

    @property
    def _learnt(self) -> tuple[float, float]:
        return self._requests.learnt, self._tokens.learnt

    def _window_wait(self, tokens: int, per_minute: tuple[float, float], now: float) -> float:
        return max(self._requests.wait(1, per_minute[0], now), self._tokens.wait(tokens, per_minute[1], now))

    def book(self, tokens: int) -> None:
        """Counts a request as sent now."""
        now = self._clock()
        self._requests.book(1, now)
        self._tokens.book(tokens, now)

    def take_back(self, tokens: int, sent_at: float) -> None:
        """Forgets a request that never went out, or was refused."""
        self._requests.take_back(1, sent_at)
        self._tokens.take_back(tokens, sent_at)

    def answered(self, items: int, sent_at: float, *, wanted: bool = False) -> None:
        """Notes an answer to a request of so many items; `wanted`: somebody waits for a slot."""
        now = self._clock()
        self._retries = min(RETRY_TOKENS, self._retries + RETRY_COST)
        self.batch.answer(items)
        if self._probe is None:
            self.slots.answer(items, sent_at, now, wanted=wanted)
        elif sent_at >= self._gate:
            self._probe *= 2
            if self._probe >= min(self.slots.limit, MOST_SLOTS):
                self._probe = None
        if now - self._taught > 2 * WINDOW and self._taught > -math.inf:
            self._grow(now)

    def limited(
        self, scope: Scope, seconds: float, sent_at: float, tokens: int, *, others: int = 0, named: bool = False
    ) -> None:
        """Learns from a 429: fewer slots, or one shared wait and then a pace.

        A pace is learnt once requests were sent, or waited for, over a whole window; before that others may have
        filled it.

        Args:
            scope: which limit it is.
            seconds: how long everybody waits.
            sent_at: when the request was sent.
            tokens: what it was expected to be billed.
            others: requests in flight beside it.
            named: the service itself named the seconds.
        """
        now = self._clock()
        self.take_back(tokens, sent_at)
        if scope == "concurrency":
            self.slots.refuse(others, sent_at, now)
            if not named:
                return
        if scope in ("requests", "tokens") and now - self._since >= WINDOW:
            (self._requests if scope == "requests" else self._tokens).learn(now)
        self._taught = now
        self._gate = max(self._gate, now + seconds * random.uniform(1, LATEST))  # noqa: S311
        self._probe = 1

    def may_retry(self) -> bool:
        """Whether the reserve of retries allows one more; takes it if so."""
        allowed = self._retries >= RETRY_COST
        self._retries -= RETRY_COST if allowed else 0
        return allowed

    def _grow(self, now: float) -> None:
        self._requests.learnt *= GROWTH
        self._tokens.learnt *= GROWTH
        self._taught = now - WINDOW


_shared: weakref.WeakValueDictionary[tuple[int, str, str], RateLimits] = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


def shared_limits(endpoint: Endpoint) -> RateLimits:
    """The limits of this process for the key and base URL; they live as long as somebody holds them.

    A forked child gets its own: it cannot know what its parent has in flight.
    """
    digest = hashlib.sha256(endpoint.authorization.reveal().encode()).hexdigest()
    name = os.getpid(), digest, endpoint.url
    with _shared_lock:
        limits = _shared.get(name)
        if limits is None:
            limits = _shared[name] = RateLimits(host=endpoint.host)
        return limits


def _renew_lock() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()  # another thread of the parent may have held it at the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)
