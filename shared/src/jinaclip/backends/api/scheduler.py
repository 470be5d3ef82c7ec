"""What is sent next for one key: slots, paces and turns. Arithmetic and queues; its owner sends and keeps time."""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from jinaclip import telemetry
from jinaclip.backends.api.batcher import STALLED, Bounds, Consumer, Item, Queue, by_consumer, consumers_of, tokens_of
from jinaclip.backends.api.limits import LATEST, LONGEST_PAUSE, RateLimits
from jinaclip.backends.api.route import Route
from jinaclip.errors import RateLimitError

DUE = 0.9
"""Of the time of the last request: one that has taken so long is about to be answered."""
WORTH_WAITING = 0.05
"""Seconds of a request below which it does not matter how the last items are spread."""
MOST_ROUTES = 64
"""Routes whose times are remembered."""


@dataclass(slots=True, eq=False)
class Departure:
    """A request that has a slot, or waits for one.

    Attributes:
        items: what is in it.
        tokens: what it is expected to be billed.
        go: called once it has a slot.
        bounds: of the objects whose items are in it, once it waits or has a slot.
        has_slot: whether it has one.
    """

    items: Sequence[Item]
    tokens: int
    go: Callable[[], None]
    bounds: list[Bounds] = field(default_factory=list)
    has_slot: bool = False

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for one of its items."""
        return any(item.is_wanted for item in self.items)


class RetryQueue:
    """Requests that wait to be sent again, by the objects whose bounds they need; objects take turns."""

    def __init__(self) -> None:
        self._lines: OrderedDict[tuple[Bounds, ...], OrderedDict[Departure, None]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def __iter__(self) -> Iterator[Departure]:
        return (departure for line in self._lines.values() for departure in line)

    def add(self, departure: Departure) -> None:
        """Lets a request wait behind those of the same objects."""
        self._lines.setdefault(tuple(departure.bounds), OrderedDict())[departure] = None

    def first(self, room: Callable[[Bounds], float]) -> Departure | None:
        """The next one all of whose objects have a slot. Those without are few: they have requests in flight.

        Args:
            room: slots that an object may still take.
        """
        lines = (line for key, line in self._lines.items() if all(room(bounds) >= 1 for bounds in key))
        return next((next(iter(line)) for line in lines), None)

    def remove(self, departure: Departure) -> None:
        """Takes a request out, if it is there; the next turn of its objects is after the others'."""
        key = tuple(departure.bounds)
        line = self._lines.get(key)
        if line is None or departure not in line:
            return
        del line[departure]
        self._lines.move_to_end(key)
        if not line:
            del self._lines[key]


class Scheduler:
    """Gives slots to requests of one key: those that are sent again first, then what waits, route by route.

    Args:
        limits: what the service allows.
        start: takes a route and a batch, which has a slot from now on, and its `Departure`.
        wake: asks for a call of `pump` in so many seconds.
        clock: seconds.
    """

    def __init__(
        self,
        limits: RateLimits,
        start: Callable[[Route, list[Item], Departure], None],
        wake: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.in_flight = 0
        self.open_bounds = Bounds()
        """Of all objects that leave `max_concurrency` open."""
        self._start, self._wake, self._clock = start, wake, clock
        self._queues: dict[Route, Queue] = {}
        self._turns: deque[Route] = deque()
        self._retries = RetryQueue()
        self._begun: dict[Departure, float] = {}  # when each request in flight went out
        self._lasted = math.inf  # seconds of the last request that was answered
        self._rates: Counter[tuple[float, float]] = Counter()  # of those who ask
        self._consumers: set[Consumer] = set()
        self._is_full = False  # whether items wait for a slot

    # -- who asks

    def join(self, consumer: Consumer) -> None:
        """Notes that a call may send."""
        self._consumers.add(consumer)
        self._rates[rates_of(consumer)] += 1

    def leave(self, consumer: Consumer) -> None:
        """Drops what a call has waiting, if it is still there."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)
            rates = rates_of(consumer)
            self._rates[rates] -= 1
            if not self._rates[rates]:
                del self._rates[rates]
        self.withdraw(consumer)
        self.pump()

    def withdraw(self, consumer: Consumer) -> list[tuple[Route, list[Item]]]:
        """Takes out what a call has waiting, and gives it back."""
        found = [(route, self._queues[route].remove(consumer)) for route in list(self._turns)]
        for route, _ in found:
            self._let_rest(route)
        return [(route, items) for route, items in found if items]

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in flight or waits."""
        return not (self.in_flight or self._consumers or self._retries)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a slot."""
        return bool(self._turns or self._retries)

    # -- what waits

    def add(self, route: Route, items: Sequence[Item]) -> None:
        """Lets items wait for a request; `pump` sends what may go."""
        queue = self._queues.get(route)
        if queue is None:
            queue = self._queues[route] = Queue(route.wire.traits)
        if not queue and items:
            self._turns.append(route)
        for own in by_consumer(items):
            queue.add(own)

    def send_again(self, departure: Departure) -> None:
        """Lets a request wait for a slot, before all that was not sent yet."""
        departure.bounds = bounds_of(departure.items)
        self._retries.add(departure)
        self.pump()

    def note_latency(self, route: Route, items: int, seconds: float) -> None:
        """Notes how long a request took that was answered."""
        self._lasted = seconds
        queue = self._queues.get(route)
        if queue is not None:
            queue.latency.add(items, seconds)

    # -- slots

    def pump(self) -> None:
        """Lets go whatever may go now; what only time holds up asks for the next pump, each time anew."""
        while self.is_wanted and self.in_flight < self.limits.most_in_flight:
            if not (self._send_one_again() or self._send_new()):
                break
        self._wait_for_slots_of_others()
        self._note_full()

    def release(self, departure: Departure) -> None:
        """Takes back a slot, or a place in the queue; call `pump` once what the request taught is known."""
        if not departure.has_slot:
            self._retries.remove(departure)  # unless it was told to go, and found nobody waiting
            return
        departure.has_slot = False
        del self._begun[departure]
        self.in_flight -= 1
        for bounds in departure.bounds:
            bounds.in_flight -= 1
        self.limits.slots.free(self._clock())

    def _wait_for_slots_of_others(self) -> None:
        """Asks for a pump when slots come back that are left to others; with a limit of 1 that is all there are."""
        seconds = self.limits.slots.return_in(self._clock())
        if seconds and self.is_wanted:
            self._wake(seconds)

    def _send_one_again(self) -> bool:
        departure = self._retries.first(self._room)
        if departure is None or (departure.is_wanted and not self._may_go_now(departure.items)):
            return False
        self._retries.remove(departure)
        if departure.is_wanted:
            self._occupy(departure)
        departure.go()  # without a slot it finds nobody waiting, and ends
        return True

    def _send_new(self) -> bool:
        for route in self._routes():
            queue = self._queues[route]
            full, due = self._requests_are_few(), self._due()
            new = self.limits.slots.growth.is_new and not due  # else the first answers are coming in
            batch = queue.select(self._room, self.limits.batch.items, due=due, full=full, new=new)
            if not batch:
                continue
            if not self._may_go_now(batch):
                return False
            queue.take(batch)
            self._turns.remove(route)
            self._turns.append(route)
            self._let_rest(route)
            departure = Departure(batch, tokens_of(batch), lambda: None)
            self._occupy(departure)
            self._start(route, batch, departure)
            return True
        return False

    def _note_full(self) -> None:
        """Tells, each time that it begins, that items wait because all slots are taken."""
        was_full, self._is_full = self._is_full, self.is_wanted and not self._has_room
        if self._is_full and not was_full and telemetry.wants(telemetry.Waiting):
            telemetry.emit(telemetry.Waiting(self.limits.host, "slots"))

    @property
    def _has_room(self) -> bool:
        """Whether there is a slot for somebody who waits for the first time."""
        if self.in_flight >= self.limits.most_in_flight:
            return False
        return any(True for route in self._turns for _ in self._queues[route].ready(self._room))

    def _due(self) -> int:
        """Requests in flight that should be answered about now: their slots are as good as free."""
        if self._lasted < WORTH_WAITING:
            return 0
        sent_by = self._clock() - DUE * self._lasted
        return sum(begun <= sent_by for begun in self._begun.values())

    def _routes(self) -> Iterator[Route]:
        """The routes in turn, those with somebody urgent first."""
        urgent = [route for route in self._turns if self._queues[route].is_urgent]
        yield from urgent
        yield from [route for route in self._turns if route not in urgent]

    def _room(self, bounds: Bounds) -> float:
        """Slots that an object may still take."""
        most = bounds.most if bounds.most is not None else self.limits.slots.growth.slots
        return min(most - bounds.in_flight, self.limits.most_in_flight - self.in_flight)

    def _occupy(self, departure: Departure) -> None:
        departure.bounds, departure.has_slot = bounds_of(departure.items), True
        self._begun[departure] = self._clock()
        self.in_flight += 1
        for bounds in departure.bounds:
            bounds.in_flight += 1
        self.limits.book(departure.tokens)

    def _may_go_now(self, items: Sequence[Item]) -> bool:
        """Whether the pace allows it; if not, somebody pumps when it does, and who cannot wait so long is told."""
        tokens, per_minute = tokens_of(items), self._per_minute()
        seconds = self.limits.wait(tokens, per_minute)
        if seconds > 0:
            self._wake(seconds)
            closed_since = self.limits.closed_since
            waiting = [consumer for consumer in consumers_of(items) if may_wait(consumer, seconds, closed_since)]
            if waiting:
                self.limits.waits.note(self.limits.reason(tokens, per_minute), seconds, self._calls)
        return seconds <= 0

    def _calls(self) -> Iterator[int]:
        """Numbers of the calls that have something waiting, for those who watch."""
        queued = (consumer for route in self._turns for consumer in self._queues[route].consumers())
        again = (item.consumer for departure in self._retries for item in departure.items)
        return (consumer.call.number for consumer in chain(queued, again))

    def _requests_are_few(self) -> bool:
        return self.limits.requests_are_few(self._per_minute()[0])

    def _per_minute(self) -> tuple[float, float]:
        """The lowest rates of requests and tokens among those who ask."""
        requests, tokens = zip((math.inf, math.inf), *self._rates, strict=True)
        return min(requests), min(tokens)

    def _let_rest(self, route: Route) -> None:
        """Takes a route without items off the turns; what is known of it is kept, for some routes."""
        if not self._queues[route]:
            self._turns.remove(route)
            if len(self._queues) > MOST_ROUTES:
                del self._queues[route]


def bounds_of(items: Sequence[Item]) -> list[Bounds]:
    """The bounds of the objects that these items are from, each of them once."""
    return list(dict.fromkeys(consumer.bounds for consumer in consumers_of(items)))


def may_wait(consumer: Consumer, seconds: float, closed_since: float = math.inf) -> bool:
    """Whether a call has the time to wait so long; if not, it ends.

    Args:
        consumer: the call.
        seconds: how long.
        closed_since: since when the service has been refusing; that it stands still so long counts.
    """
    stood = max(0.0, consumer.clock() - max(closed_since, consumer.progressed))
    if seconds <= min(LATEST * LONGEST_PAUSE, consumer.patience, STALLED * consumer.config.timeout - stood):
        return True
    error = f"rate limit: the next request may go in {seconds:.0f} s"
    consumer.fail_all(RateLimitError(error, retry_after=seconds))
    return False


def rates_of(consumer: Consumer) -> tuple[float, float]:
    """The requests and tokens a minute that a call allows."""
    config = consumer.config
    return config.requests_per_minute or math.inf, config.tokens_per_minute or math.inf
