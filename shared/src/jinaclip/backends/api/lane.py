"""What goes out under one key, and each request with what follows from it until its items have their outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from traceback import walk_tb

from jinaclip.backends.api.batcher import Bounds, Consumer, Item, by_consumer, consumers_of, tokens_of
from jinaclip.backends.api.exchange import Exchange, Upload
from jinaclip.backends.api.limits import RateLimits
from jinaclip.backends.api.loop import HubLoop
from jinaclip.backends.api.policy import embed, embed_alone
from jinaclip.backends.api.route import Endpoint, Route
from jinaclip.backends.api.scheduler import Departure, Scheduler
from jinaclip.backends.api.sending import Sending
from jinaclip.backends.api.steps import (
    Branch,
    Failure,
    Flow,
    Hold,
    Outcome,
    Reply,
    Requeue,
    Result,
    Send,
    Sleep,
    Step,
    Wait,
)
from jinaclip.backends.api.verdicts import Retry
from jinaclip.call.call import Stopped
from jinaclip.errors import APITimeoutError, JinaClipError
from jinaclip.process import settle

GRACE_SECONDS = 0.8
"""For the answer to a request whose callers have gone; they are promised that all is let go within a second."""


class Lane:
    """What goes out under one key: its scheduler, the flows under way, and what sends for each endpoint."""

    def __init__(self, loop: HubLoop, limits: RateLimits) -> None:
        self.loop, self.limits = loop, limits
        self.scheduler = Scheduler(limits, self._start, self._wake, loop.time)
        self._exchanges: dict[Endpoint, Exchange] = {}
        self._flights: dict[Consumer, set[Flight]] = {}
        self._bounds: dict[object, Bounds] = {}
        self._timer: asyncio.TimerHandle | None = None

    def join(self, consumer: Consumer, user: object) -> None:
        """Lets a call send, within the bounds of the object that made it."""
        most = consumer.config.max_concurrency
        consumer.bounds = self.scheduler.open_bounds if most is None else self._bounds.setdefault(user, Bounds(most))
        self._flights[consumer] = set()
        self.scheduler.join(consumer)

    def leave(self, consumer: Consumer) -> None:
        """Lets a call go: what it waits for is not sent, and what only it waits for is broken off."""
        for flight in self._flights.pop(consumer, ()):
            flight.leave(consumer)
        self.scheduler.leave(consumer)

    def end(self, consumer: Consumer) -> None:
        """Sends nothing more of a call, which is over once what is in flight has come back."""
        self.scheduler.withdraw(consumer)
        for flight in list(self._flights.get(consumer, ())):
            flight.end(consumer)
        self._end_unless_in_flight(consumer)
        self.pump()

    def pump(self) -> None:
        """Sends what may go. A fault of ours ends the calls of this key: nobody waits in vain, no other key is hit."""
        try:
            self.scheduler.pump()
        except Exception as error:  # noqa: BLE001
            for consumer in list(self._flights):
                consumer.stop(fault_of_ours(error))

    def _end_unless_in_flight(self, consumer: Consumer) -> None:
        if consumer.ending and not self._flights.get(consumer):
            consumer.stop()

    def fly(self, sending: Sending, items: list[Item], flow: Flow, departure: Departure | None = None) -> None:
        """Runs a flow in a task of its own."""
        flight = Flight(self, sending, flow, departure)
        self.assign(flight, consumers_of(items))
        flight.task = self.loop.start(flight.run())
        flight.task.add_done_callback(flight.land)

    def assign(self, flight: Flight, consumers: list[Consumer]) -> None:
        """Notes for whom a flight is under way."""
        before, flight.consumers = flight.consumers, consumers
        for consumer in before:
            self._flights.get(consumer, set()).discard(flight)
        for consumer in consumers:
            self._flights.get(consumer, set()).add(flight)
        for consumer in before:
            self._end_unless_in_flight(consumer)

    def exchange(self, endpoint: Endpoint) -> Exchange:
        """What sends to an endpoint. Raises as `Exchange`."""
        if endpoint not in self._exchanges:
            self._exchanges[endpoint] = Exchange(endpoint)
        return self._exchanges[endpoint]

    def forget(self, user: object) -> None:
        """Forgets an object."""
        self._bounds.pop(user, None)

    async def close(self, endpoint: Endpoint) -> None:
        """Closes the connections to an endpoint."""
        exchange = self._exchanges.pop(endpoint, None)
        if exchange is not None:
            await exchange.close()

    def _start(self, route: Route, items: list[Item], departure: Departure) -> None:
        sending = Sending(route, self.limits, self.loop.time)
        self.fly(sending, items, embed(sending, items), departure)

    def _wake(self, seconds: float) -> None:
        moment = self.loop.time() + seconds
        if self._timer is not None and self._timer.when() <= moment:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_at(moment, self._wake_up)

    def _wake_up(self) -> None:
        self._timer = None  # a loop may call a moment early: the next wait must not take it for one to come
        self.pump()


class Flight:
    """A flow under way: does what its steps ask for."""

    def __init__(self, lane: Lane, sending: Sending, flow: Flow, departure: Departure | None) -> None:
        self._lane, self._sending, self._flow = lane, sending, flow
        self._departure = departure
        self._step: Send | None = None
        self._upload: Upload | None = None
        self._parted: set[Consumer] = set()
        self.consumers: list[Consumer] = []
        self.task: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Takes the flow to its end."""
        try:
            step = next(self._flow)
            while True:
                step = self._flow.send(await self._perform(step))
        except (StopIteration, Stopped):
            return

    def land(self, task: asyncio.Task[None]) -> None:
        """Puts all in order once the task has ended, however it did, even before it began."""
        self._flow.close()
        self._give_back()
        error = asyncio.CancelledError("of its own") if task.cancelled() else task.exception()
        if error is not None:  # nobody waits in vain; who has left is not told
            for consumer in [one for one in self.consumers if not one.gone]:
                consumer.stop(fault_of_ours(error))
        self._lane.assign(self, [])
        self.task = None  # one that was cancelled holds frames, and these hold this object: a cycle
        self._lane.pump()

    def leave(self, consumer: Consumer) -> None:
        """Breaks the flow off if, with this call, nobody is left who waits for it.

        A request that is in flight gets a moment more where a cache keeps its answer: it may have been billed.
        """
        if self.task is None or not all(one.gone for one in reversed(self.consumers)):
            return
        if self._step is not None and any(one.call.memo is not None for one in self.consumers):
            self._lane.loop.call_later(GRACE_SECONDS, self.task.cancel)
        else:
            self.task.cancel()

    def end(self, consumer: Consumer) -> None:
        """Lets a call go that is ending, unless its request is in flight; without others the flow is broken off."""
        if self._step is None:
            self._lane.assign(self, [one for one in self.consumers if one is not consumer])
            if self.task is not None and self._is_over:
                self.task.cancel()

    @property
    def _is_over(self) -> bool:
        return all(one.ending for one in self.consumers)

    async def _perform(self, step: Step) -> Result:
        match step:
            case Sleep() if self._is_over:
                raise Stopped
            case Sleep():
                await asyncio.sleep(step.seconds)
            case Hold():
                self._give_back()
                await step.health.change()
            case Requeue():
                self._lane.scheduler.add(self._sending.route, step.items)
            case Branch():
                self._lane.fly(self._sending, list(step.items), step.flow)
            case Wait():
                self._note_consumers(step.items)
                await self._wait_for_slot(step)
            case Send():
                self._note_consumers(step.items)
                return await self._exchange(step)
        return None

    def _note_consumers(self, items: Sequence[Item]) -> None:
        self._lane.assign(self, consumers_of([item for item in items if not item.consumer.ending]))

    async def _wait_for_slot(self, step: Wait) -> None:
        if self._departure is None:
            ready = asyncio.get_running_loop().create_future()
            self._departure = Departure(step.items, tokens_of(step.items), lambda: settle(ready))
            self._lane.scheduler.send_again(self._departure)
            await ready
        if not (self._departure.has_slot and self._departure.is_wanted):
            raise Stopped

    async def _exchange(self, step: Send) -> Result:
        try:
            exchange = self._lane.exchange(self._sending.route.endpoint)
        except JinaClipError as error:
            for consumer in consumers_of(step.items):
                consumer.stop(error)
            return None
        sent_at = self._lane.loop.time()
        self._step, self._upload = step, Upload(step.body, step.charges.note_sending)
        self._parted = set()
        note_sent(step.items)
        with self._timeouts(step):
            result = await exchange.send(step, self._upload, sent_at + step.seconds)
        wanted = self._lane.scheduler.is_wanted
        if isinstance(result, Reply) and result.status == 200:
            await self._let_next_go(step, sent_at)
        self._step = None
        return self._outcome(result, sent_at, wanted=wanted)

    async def _let_next_go(self, step: Send, sent_at: float) -> None:
        """Sends what waits for the slot of a request that was answered; only then its answer, of megabytes, is read.

        But where a budget bounds what is sent, its bill is read first.
        """
        scheduler = self._lane.scheduler
        scheduler.note_latency(self._sending.route, len(step.items), self._lane.loop.time() - sent_at)
        if scheduler.is_wanted and self._departure is not None and self._is_expected(step):
            await asyncio.sleep(0)  # a refusal that came at the same time is heard first
            scheduler.release(self._departure)
            self._lane.pump()
            await asyncio.sleep(0)

    def _is_expected(self, step: Send) -> bool:
        """Whether the answer need not be read first: its bill may use up a budget, and bad ones may follow bad ones."""
        if step.charges.has_budget:
            return False
        return all(consumer.health.has_answered for consumer in consumers_of(step.items))

    def _outcome(self, result: Reply | Failure, sent_at: float, *, wanted: bool) -> Outcome:
        loop, scheduler = self._lane.loop, self._lane.scheduler
        sends = self._upload.sends if self._upload is not None else 0
        booked = self._departure.tokens if self._departure is not None else 0
        self._give_back()
        loop.call_soon(self._lane.pump)  # once the flow has learnt from the outcome
        thawed = self._lane.loop.froze_since(sent_at)
        return Outcome(
            result,
            sent_at,
            sends,
            scheduler.in_flight,
            wanted=wanted,
            thawed=thawed,
            parted=self._parted,
            booked=booked,
        )

    def _give_back(self) -> None:
        """Gives the slot back, and the place in the pace of a request that never went out."""
        departure, self._departure = self._departure, None
        if departure is None:
            return
        if departure.has_slot and (self._upload is None or not self._upload.sends):
            self._lane.limits.take_back(departure.tokens, self._lane.loop.time())
        self._lane.scheduler.release(departure)
        self._upload = None

    @contextmanager
    def _timeouts(self, step: Send) -> Generator[None]:
        """Meanwhile, tells those whose `timeout` is shorter than the longest when it is over; the request goes on."""
        timers = [
            self._lane.loop.call_later(consumer.config.timeout, self._part, consumer, step)
            for consumer in consumers_of(step.items)
            if consumer.config.timeout < step.seconds
        ]
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()

    def _part(self, consumer: Consumer, step: Send) -> None:
        seconds = consumer.config.timeout
        error = APITimeoutError(
            f"no answer in time from {self._sending.route.endpoint.url}: ReadTimeout (timeout={seconds:g})"
        )
        own = [item for item in step.items if item.consumer is consumer and not item.done]
        step.charges.leave(consumer)
        self._parted.add(consumer)
        self._lane.fly(self._sending, own, embed_alone(self._sending, own, Retry(error)))
        self._lane.assign(self, [one for one in self.consumers if one is not consumer])


def fault_of_ours(error: BaseException) -> JinaClipError:
    """What a call is told that ends by a fault of the library: where it is, as its text could hold anything."""
    *_, place = [
        "",
        *(f" in {frame.f_globals['__name__']}, line {line}" for frame, line in walk_tb(error.__traceback__)),
    ]
    return JinaClipError(f"an error in jinaclip itself: {type(error).__name__}{place}; please report it")


def note_sent(items: Sequence[Item]) -> None:
    """Tells each call which of its inputs go out."""
    for own in by_consumer(items):
        own[0].consumer.call.note_sent([item.number for item in own])
