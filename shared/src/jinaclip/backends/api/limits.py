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
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
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
"""Seconds of a Retry-After beyond which it is not believed: the service is asked again as if it had named none."""
FIRST_PAUSE, LAST_PAUSE = 1.0, 20.0
"""Seconds before a service that refuses is asked again: at first, and at most, as each refusal doubles them. The first
is the least of a Retry-After too: however short that is, one refused request a second is enough."""
LATEST = 1.1
"""A shared pause lasts up to so many times what was asked for: processes that were refused together part."""
HOLD = 30.0
"""Seconds before more slots are tried, or more throughput is looked for, once that was in vain."""
FIRST_ANSWERS, MOST_ANSWERS = 16, 512
"""Answers to requests of the most items, before twice as many are tried again: at first, and once that was in vain."""
RATE_HOLD = 30.0
"""Seconds, from the first answer after a refusal, for which a learnt rate holds. Then it is forgotten, in case it was
learnt in a bad minute: if it was right, the next refusal teaches it again."""
SHARED, SHARED_HOLD = 120.0, 5.0
"""Seconds for which a key counts as shared, after refusals that somebody else must have caused; and seconds, more or
less, before more slots are tried meanwhile."""
YIELD, YIELD_EVERY = 1.5, 45.0
"""Seconds for which a slot is left unused where the service limits slots, for each so many seconds of its use: another
process, which asks again every second, can take it. That is 3 % of what a process alone sends."""
SPREAD = 0.7
"""Of a minute, over which what was learnt is spent evenly: another process with the key finds some of it left."""


class Window:
    """What was spent over the last minute, and how much of it the service allows, as far as that was learnt."""

    def __init__(self) -> None:
        self.learnt, self.learnt_at, self._learnt_until = math.inf, -math.inf, math.inf
        self._log: deque[tuple[float, float]] = deque()
        self._sum = self._doubtful = 0.0

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

    def learnt_wait(self, cost: float, now: float) -> float:
        """Seconds until this much fits what was learnt, evenly over the minute."""
        if self.learnt == math.inf:
            return 0.0
        at, spent = self._log[-1] if self._log else (-math.inf, 0.0)
        evenly = at + SPREAD * WINDOW * min(1.0, spent / self.learnt) - now
        return max(self.wait(cost, self.learnt, now), evenly)

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
        """Takes what was spent over the last minute, without what was refused, for the limit."""
        self._expire(now)
        if self.learnt == math.inf:
            self._learnt_until = math.inf
        self.learnt, self.learnt_at = max(1.0, min(self.learnt, self._sum)), now

    def suspect(self, now: float) -> None:
        """Remembers what was spent, in case that was the limit of a minute and no refusal in passing."""
        self._expire(now)
        self._doubtful = self._sum

    def accept(self, now: float, seconds: float) -> None:
        """Notes that the service accepts again, after so long: from now on, what was learnt has its time."""
        if self._doubtful and self.learnt == math.inf and seconds >= WINDOW / 2:
            self.learnt, self.learnt_at, self._learnt_until = self._doubtful, now, now + RATE_HOLD / 2
        self._doubtful = 0.0
        if self._learnt_until == math.inf:
            self._learnt_until = now + RATE_HOLD

    def forget(self, now: float) -> bool:
        """Forgets a limit that was learnt long enough ago, and says whether there was one."""
        if self.learnt == math.inf or now < self._learnt_until:
            return False
        self.learnt = math.inf
        return True

    def _expire(self, now: float) -> None:
        while self._log and self._log[0][0] <= now - WINDOW:
            self._sum -= self._log.popleft()[1]


class Gate:
    """The pause that all of a key share while the service refuses.

    It ends with a probe: one request, then twice as many with each answer.

    Attributes:
        opens_at: when the probe may go.
        slots: how many requests may be in flight after it; infinite once all is well.
        closed_since: the first refusal since which the service has accepted nothing; infinite if it accepts.
    """

    def __init__(self) -> None:
        self.opens_at = -math.inf
        self.slots, self.closed_since = math.inf, math.inf
        self._pause = FIRST_PAUSE

    def is_probe(self, sent_at: float) -> bool:
        """Whether a request was the probe after a refusal, as long as that has no answer."""
        return self.closed_since < math.inf and self.slots == 1 and sent_at >= self.opens_at

    def pause(self, named: float | None, sent_at: float) -> float:
        """Seconds to wait after a refusal: as the service named them, else twice as many for each probe in vain."""
        if self.is_probe(sent_at):
            self._pause = min(LAST_PAUSE, 2 * self._pause)
        elif self.closed_since == math.inf:
            self._pause = FIRST_PAUSE
        return self._pause if named is None or named > LONGEST_PAUSE else max(FIRST_PAUSE, named)

    def close(self, seconds: float, now: float) -> None:
        """Lets nothing go for about so long."""
        self.opens_at = max(self.opens_at, now + seconds * random.uniform(1, LATEST))  # noqa: S311
        self.slots, self.closed_since = 1, min(self.closed_since, now)

    def narrow(self, now: float) -> None:
        """Lets one request go at first, to see whether more than before is allowed."""
        self.opens_at, self.slots = max(self.opens_at, now), 1

    def answer(self, sent_at: float, most: float) -> None:
        """Notes an answer; `most`: slots beyond which it is not needed."""
        if sent_at >= self.opens_at:
            self.slots, self.closed_since = 2 * self.slots, math.inf
            if self.slots >= most:
                self.slots = math.inf


class Slots:
    """How many requests may be in flight, for all of the key.

    Attributes:
        limit: what the service's refusals leave; infinite until the first.
        growth: of the slots of those who leave `max_concurrency` open.
    """

    def __init__(self) -> None:
        self.limit = math.inf
        self.growth = Growth()
        self._yield = Yield()
        self._cut_at = self._held_until = self._shared_until = -math.inf
        self._cut_from = math.inf  # what it was before the refusals of late
        self._held = math.inf  # what it may not exceed until then
        self._has_grown = False  # since the last refusal
        self._answers = 0  # since the last change
        self._half = 0  # of what was in flight when it was cut after an answer: up to it, it grows with each

    def usable(self, now: float) -> float:
        """Slots that may be used now: the limit, less what is left to others."""
        return self.limit - self._yield.slots(now)

    def free(self, now: float) -> None:
        """Notes that a slot is free: it may be time to leave it to others."""
        if not self._is_trying and self._yield.is_due(now):
            self._yield.begin(now)
            self._plan_yield(now)

    def return_in(self, now: float) -> float:
        """Seconds after which slots may be used again that are left to others now; 0 if none are."""
        return self._yield.ends_in(now)

    def refuse(self, others: int, sent_at: float, now: float) -> None:
        """Learns from a refusal: as many as are still in flight are what the service takes.

        Each refusal takes one slot. One within the first round of answers after growth holds off the next growth; who
        is refused later shares the key with others, and may grow again to what it had.
        """
        before, tried = self.limit, self._is_trying
        least = others if before == math.inf else max(others, before - 1)
        self.limit = max(1, min(before, least))
        if sent_at >= self._cut_at:
            self._cut_from = before if now - self._cut_at >= FIRST_PAUSE else self._cut_from
            self._cut_at = now
            self._half = (others + 1) // 2 if self._answers or tried else self._half
            if tried:
                self._held, self._held_until = self.limit, now + self._hold(now)
            else:
                self._shared_until = now + SHARED
        if self.limit < self._cut_from / 2:  # nobody takes so many at once: the limit is a new one
            self._shared_until = -math.inf
            self._plan_yield(now)
        self._answers, self._has_grown = 0, False

    def answer(self, items: int, sent_at: float, now: float, *, wanted: bool) -> None:
        """Learns from an answer to a request of so many items; `wanted`: somebody waits for a slot."""
        if not self._yield.slots(now):  # while some are unused, an answer does not say that the limit is right
            self._grow(now)
        if wanted and self.limit >= self.growth.slots:
            self.growth.answer(items, sent_at, now)
        else:
            self.growth.restart()

    def _grow(self, now: float) -> None:
        """Tries one more after a round of answers, or sooner where that is likely to succeed, or others try too."""
        self._answers += 1
        enough = 1 if self.limit < self._half else self.limit / (4 if self._is_shared(now) else 1)
        if self._answers >= enough and (self.limit < self._held or now >= self._held_until):
            self.limit, self._answers, self._has_grown = self.limit + 1, 0, True

    @property
    def _is_trying(self) -> bool:
        """Whether it has grown, and it is not known yet whether the service takes so many."""
        return self._has_grown and self._answers < self.limit

    def _is_shared(self, now: float) -> bool:
        return now < self._shared_until

    def _hold(self, now: float) -> float:
        return random.uniform(0.5, 1.5) * SHARED_HOLD if self._is_shared(now) else HOLD  # noqa: S311

    def _plan_yield(self, now: float) -> None:
        self._yield.plan(self.limit, YIELD_EVERY / 2 if self._is_shared(now) else YIELD_EVERY, now)


class Yield:
    """Slots that are left unused for a moment now and then: one, or a sixteenth where there are many.

    Whoever has more slots leaves more, and all try for more equally often: so shares become equal.
    """

    def __init__(self) -> None:
        self._slots = self._size = 0
        self._planned_at, self._until = math.inf, -math.inf

    def plan(self, limit: float, every: float, now: float) -> None:
        """Plans the next time, such that each of so many slots is left once in so many seconds, on average."""
        self._size = math.ceil(limit / 16)
        self._planned_at = now + random.uniform(0.5, 1.5) * every * self._size / limit  # noqa: S311

    def is_due(self, now: float) -> bool:
        """Whether it is time."""
        return now >= self._planned_at

    def begin(self, now: float) -> None:
        """Leaves what was planned, for so long."""
        self._slots, self._until = self._size, now + YIELD

    def slots(self, now: float) -> int:
        """How many are left unused now."""
        return self._slots if now < self._until else 0

    def ends_in(self, now: float) -> float:
        """Seconds until all may be used; 0 if they may be now."""
        return max(0.0, self._until - now)


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
        self._is_answered = True  # since a doubt lowered it
        self._enough = FIRST_ANSWERS
        self._has_grown = False

    def doubt(self, items: int) -> None:
        """So many took too long: chance, if as many were answered since the last time, else too many.

        Where nothing at all is answered, it is not the size: that lowers it once and no further.
        """
        if items > self._largest and self._is_answered:
            self.refuse(items)
            self._is_answered = False
        self._largest = 0

    def blame(self, items: int) -> None:
        """The service says that so many are too many, or too large: one of them may be, if as many were answered."""
        if items > self._largest:
            self.refuse(items)
        else:
            self._largest = items // 2

    def refuse(self, items: int) -> None:
        """So many were too many. What it grew to in vain is tried half as often from then on."""
        if self._has_grown and items >= self.items:
            self._enough = min(MOST_ANSWERS, 2 * self._enough)
            self._has_grown = False
        self.items, self._answers = max(1, min(self.items, (items + 1) // 2)), 0

    def answer(self, items: int) -> None:
        """So many were answered."""
        self._largest, self._is_answered = max(self._largest, items), True
        self.items = max(self.items, items)
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
        self._noted: dict[telemetry.WaitReason, Pause] = {}

    def note(self, reason: telemetry.WaitReason, seconds: float, calls: Callable[[], Iterable[int]] = tuple) -> None:
        """Somebody waits from now on. A wait that becomes a little longer, as a shared pause does, stays the same.

        Args:
            reason: whose limit it is.
            seconds: how long.
            calls: gives the numbers of the calls that wait; asked only where somebody listens.
        """
        now = self._clock()
        pause = self._noted.get(reason)
        is_joined = pause is not None and now < pause.until and now + seconds <= pause.same_until
        if pause is None or not is_joined:
            pause = self._noted[reason] = Pause(now + seconds, now + LATEST * seconds)
        pause.until = max(pause.until, now + seconds)
        if telemetry.wants(telemetry.Waiting):
            new = tuple(dict.fromkeys(call for call in calls() if call not in pause.calls))
            pause.calls.update(new)
            if new or not is_joined:
                telemetry.emit(telemetry.Waiting(self._host, reason, seconds, now + seconds, new, is_joined))


@dataclass(slots=True)
class Pause:
    """A wait under way.

    Attributes:
        until: when it ends.
        same_until: to what it may become longer and stay the same.
        calls: those that were told of.
    """

    until: float
    same_until: float
    calls: set[int] = field(default_factory=set)


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
        self._gate = Gate()
        self._accepted = -math.inf  # when the service last accepted a request
        self._wanted = self._since = -math.inf  # until when, and since when, somebody has been wanting to send
        self._retries, self._failed = RETRY_TOKENS, -math.inf
        self._requests, self._tokens = Window(), Window()

    @property
    def most_in_flight(self) -> float:
        """Requests that may be in flight now, whoever asks."""
        return min(self._gate.slots, self.slots.usable(self._clock()))

    @property
    def closed_since(self) -> float:
        """The first refusal since which the service has accepted nothing; infinite if it accepts."""
        return self._gate.closed_since

    def requests_are_few(self, per_minute: float) -> bool:
        """Whether a rate of requests binds, or did of late, so that each of them should carry as much as it can."""
        return per_minute < math.inf or self._clock() - self._requests.learnt_at < 2 * WINDOW

    def wait(self, tokens: int, per_minute: tuple[float, float] = (math.inf, math.inf)) -> float:
        """Seconds to wait before sending this much; 0 if it may go.

        Args:
            tokens: what the request is expected to be billed.
            per_minute: requests and tokens that the caller allows. What is allowed is not learnt.
        """
        now = self._clock()
        if now > self._wanted + IDLE:
            self._since = now
        forgotten = [window.forget(now) for window in (self._requests, self._tokens)]
        if any(forgotten):
            self._gate.narrow(now)
        wait = max(0.0, *self._waits(tokens, per_minute, now))
        self._wanted = max(self._wanted, now + wait)
        return wait

    def reason(self, tokens: int, per_minute: tuple[float, float]) -> telemetry.WaitReason:
        """Whose limit it is that `wait` waits for, of the same arguments: the caller's own, or the service's."""
        service, requests, used = self._waits(tokens, per_minute, self._clock())
        if max(requests, used) < service:
            return "rate limit of the service"
        return "requests_per_minute" if requests >= used else "tokens_per_minute"

    def _waits(self, tokens: int, per_minute: tuple[float, float], now: float) -> tuple[float, float, float]:
        """Seconds to wait for the service, and for the requests and the tokens that the caller allows."""
        service, own = self._gate.opens_at - now, [0.0, 0.0]
        for place, (window, cost) in enumerate([(self._requests, 1), (self._tokens, tokens)]):
            if per_minute[place] < math.inf:
                own[place] = window.wait(cost, per_minute[place], now)
            else:
                service = max(service, window.learnt_wait(cost, now))
        return service, own[0], own[1]

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
        self._accepted = now = self._clock()
        self._retries = min(RETRY_TOKENS, self._retries + RETRY_COST)
        self.batch.answer(items)
        if self._gate.slots == math.inf:
            self.slots.answer(items, sent_at, now, wanted=wanted)
        if sent_at >= self._gate.opens_at:
            for window in (self._requests, self._tokens):
                window.accept(now, now - self._gate.closed_since)
        self._gate.answer(sent_at, min(self.slots.limit, MOST_SLOTS))

    def limited(self, scope: Scope, named: float | None, sent_at: float, tokens: int, *, others: int = 0) -> float:
        """Learns from a 429: fewer slots, or one shared wait and then a pace.

        A pace is learnt once requests were sent, or waited for, over a whole window; before that others may have
        filled it, and it is learnt only if the service goes on refusing for half of a window. A probe that is refused,
        and a window in which nothing was accepted, teach none: then it is no limit that was met.

        Args:
            scope: which limit it is.
            named: for how many seconds the service asks, if it does.
            sent_at: when the request was sent.
            tokens: what it was expected to be billed.
            others: requests in flight beside it.

        Returns:
            seconds for which everybody waits, at least; 0 if the others go on.
        """
        now = self._clock()
        self.take_back(tokens, sent_at)
        if scope == "concurrency":
            self.slots.refuse(others, sent_at, now)
            if named is None and others:
                return 0.0
        accepts = not self._gate.is_probe(sent_at) and now - self._accepted < WINDOW
        if scope in ("requests", "tokens") and accepts:
            window = self._requests if scope == "requests" else self._tokens
            (window.learn if now - self._since >= WINDOW else window.suspect)(now)
        seconds = self._gate.pause(named, sent_at)
        if scope == "concurrency" and named is None:  # it has no window, and is free again in a moment
            seconds = FIRST_PAUSE
        self._gate.close(seconds, now)
        self.slots.growth.restart()  # a pause is no throughput
        return seconds

    def may_retry(self) -> bool:
        """Whether the reserve of retries allows one more; takes it if so. A minute without a failure fills it."""
        now = self._clock()
        if now - self._failed >= WINDOW:
            self._retries = RETRY_TOKENS
        self._failed = now
        allowed = self._retries >= RETRY_COST
        self._retries -= RETRY_COST if allowed else 0
        return allowed


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
