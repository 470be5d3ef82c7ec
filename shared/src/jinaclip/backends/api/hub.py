"""The hub: one thread with an event loop, which owns the connections, limits and retries of every key of the process.

Callers hand in items and wait for a latch; see `backend.py`. The thread starts with the first call and ends when it
has been idle for a while, or when the last object that used it is closed.
"""

from __future__ import annotations

import asyncio
import atexit
import math
import os
import socket
import threading
import weakref
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from jinaclip.backends.api.batcher import Bounds, Consumer, Item, by_consumer, consumers_of, tokens_of
from jinaclip.backends.api.exchange import Exchange, Upload
from jinaclip.backends.api.limits import RateLimits
from jinaclip.backends.api.policy import Sending, deadline_error, embed, embed_alone
from jinaclip.backends.api.route import Endpoint, Route
from jinaclip.backends.api.scheduler import Departure, Scheduler
from jinaclip.backends.api.steps import Branch, Failure, Flow, Outcome, Reply, Result, Send, Sleep, Step, Wait
from jinaclip.backends.api.verdicts import Retry
from jinaclip.call.call import Stopped
from jinaclip.errors import APITimeoutError, ClosedError, JinaClipError
from jinaclip.process import Latch, settle, start, start_thread

IDLE_SECONDS = 30.0
"""How long the thread, and its connections, outlive the last call."""
Errand = Callable[[], object]
"""Something to do on the hub's loop: a partial with the consumer that it is about, whose call ends if it fails."""
BEAT_SECONDS = 0.25
"""Between two looks at the callers' loops, and at the clock."""
STANDS_SECONDS = 1.0
"""A caller's loop that has not run for so long stands."""
FROZEN_SECONDS = 5.0
"""A beat that is so late shows that the whole process stood still."""
JOIN_SECONDS = 1.0
"""How long a close waits for the end of the thread."""


class HubLoop(asyncio.SelectorEventLoop):
    """The loop of the hub, whatever policy the program has set. It resolves names in a daemon thread of its own.

    asyncio would use the default executor, whose threads hold up the end of the program while a name server hangs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lookups: dict[Any, asyncio.Future[Any]] = {}

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> Any:
        """As the base class's; those who ask for the same at the same time share one lookup."""
        key = (host, port, *sorted(options.items()))
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = self.create_future()
            lookup.add_done_callback(lambda _: self._lookups.pop(key, None))
            try:
                start_thread("jinaclip-names", self._look_up, lookup, host, port, options)
            except JinaClipError as error:
                conclude(lookup, OSError(str(error)))
        return await asyncio.shield(lookup)

    def _look_up(self, lookup: asyncio.Future[Any], host: Any, port: Any, options: dict[str, int]) -> None:
        found: Any
        try:
            found = socket.getaddrinfo(host, port, **options)
        except BaseException as error:  # noqa: BLE001  it goes to those who wait
            found = error
        with suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(conclude, lookup, found)


def conclude(future: asyncio.Future[Any], outcome: Any) -> None:
    """Ends a future with a result or an exception, unless it has ended."""
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
        future.exception()  # whoever waited may have gone, and need not be told in the log
    else:
        future.set_result(outcome)


class Lane:
    """What goes out under one key: its scheduler, the flows under way, and what sends for each endpoint."""

    def __init__(self, hub: Hub, limits: RateLimits) -> None:
        self.hub, self.limits = hub, limits
        self.scheduler = Scheduler(limits, self._start, self._wake, hub.loop.time)
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
        flight.task = self.hub.run(flight.run())
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
        sending = Sending(route, self.limits, self.hub.loop.time)
        self.fly(sending, items, embed(sending, items), departure)

    def _wake(self, seconds: float) -> None:
        moment = self.hub.loop.time() + seconds
        if self._timer is not None and self.hub.loop.time() < self._timer.when() <= moment:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.hub.loop.call_at(moment, self.pump)


class Flight:
    """A flow under way: does what its steps ask for."""

    def __init__(self, lane: Lane, sending: Sending, flow: Flow, departure: Departure | None) -> None:
        self._lane, self._sending, self._flow = lane, sending, flow
        self._departure = departure
        self._step: Send | None = None
        self._upload: Upload | None = None
        self._parted: set[Consumer] = set()
        self._counted: set[object] = set()
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
        self._lane.pump()

    def leave(self, consumer: Consumer) -> None:
        """Notes that a call has gone; when there is nobody left, the flow is broken off."""
        self._count_as_lost(consumer)
        if self.task is not None and all(one.gone for one in self.consumers):
            self.task.cancel()

    def _count_as_lost(self, consumer: Consumer) -> list[Item]:
        """Counts a request in flight whose answer a call does not wait for; gives the items of the call in it."""
        items = self._step.items if self._step is not None else ()
        own = [item for item in items if item.consumer is consumer]
        if own and self._upload is not None and self._upload.sends and consumer not in self._parted:
            meter = consumer.call.meter
            meter.count_request(again=False, shared=meter.totals in self._counted)
            meter.count_doubt(tokens_of(own))
            self._counted.add(meter.totals)
        return own

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
        if isinstance(step, Sleep):
            if self._is_over:
                raise Stopped
            await asyncio.sleep(step.seconds)
            return None
        if isinstance(step, Branch):
            self._lane.fly(self._sending, list(step.items), step.flow)
            return None
        self._lane.assign(self, consumers_of([item for item in step.items if not item.consumer.ending]))
        if isinstance(step, Send):
            return await self._exchange(step)
        await self._wait_for_slot(step)
        return None

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
        sent_at = self._lane.hub.loop.time()
        self._step, self._upload = step, Upload(step.body)
        self._parted, self._counted = set(), set()
        note_sent(step.items)
        with self._timeouts(step):
            result = await exchange.send(step, self._upload, sent_at + step.seconds)
        self._step = None
        return self._outcome(step, result, sent_at)

    def _outcome(self, step: Send, result: Reply | Failure, sent_at: float) -> Outcome:
        loop, scheduler = self._lane.hub.loop, self._lane.scheduler
        if isinstance(result, Reply) and result.status == 200:
            scheduler.note_latency(self._sending.route, len(step.items), loop.time() - sent_at)
        sends = self._upload.sends if self._upload is not None else 0
        booked = self._departure.tokens if self._departure is not None else 0
        self._give_back()
        loop.call_soon(self._lane.pump)  # once the flow has learnt from the outcome
        thawed = self._lane.hub.froze_since(sent_at)
        return Outcome(
            result,
            sent_at,
            sends,
            scheduler.in_flight,
            wanted=scheduler.is_wanted,
            thawed=thawed,
            parted=self._parted,
            booked=booked,
            counted=self._counted,
        )

    def _give_back(self) -> None:
        """Gives the slot back, and the place in the pace of a request that never went out."""
        departure, self._departure = self._departure, None
        if departure is None:
            return
        if departure.has_slot and (self._upload is None or not self._upload.sends):
            self._lane.limits.take_back(departure.tokens, self._lane.hub.loop.time())
        self._lane.scheduler.release(departure)
        self._upload = None

    @contextmanager
    def _timeouts(self, step: Send) -> Generator[None]:
        """Meanwhile, tells those whose `timeout` is shorter than the longest when it is over; the request goes on."""
        timers = [
            self._lane.hub.loop.call_later(consumer.config.timeout, self._part, consumer)
            for consumer in consumers_of(step.items)
            if consumer.config.timeout < step.seconds
        ]
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()

    def _part(self, consumer: Consumer) -> None:
        seconds = consumer.config.timeout
        error = APITimeoutError(
            f"no answer in time from {self._sending.route.endpoint.url}: ReadTimeout (timeout={seconds:g})"
        )
        own = [item for item in self._count_as_lost(consumer) if not item.done]
        self._parted.add(consumer)
        self._lane.fly(self._sending, own, embed_alone(self._sending, own, Retry(error, maybe_billed=True)))
        self._lane.assign(self, [one for one in self.consumers if one is not consumer])


def closed_error() -> ClosedError:
    """What the calls under way of an object are told that is closed."""
    return ClosedError("the object was closed while the call was under way")


def fault_of_ours(error: BaseException) -> JinaClipError:
    """What a call is told that ends by a fault of the library."""
    return JinaClipError(f"an error in jinaclip itself: {type(error).__name__}: {str(error)[:300]}")


def settle_all(waiters: Sequence[asyncio.Future[None]]) -> None:
    """Ends futures, those that have not."""
    for waiter in waiters:
        settle(waiter)


def note_sent(items: Sequence[Item]) -> None:
    """Tells each call which of its inputs go out."""
    for own in by_consumer(items):
        own[0].consumer.call.note_sent([item.number for item in own])


@dataclass(slots=True, eq=False)
class User:
    """An object that makes calls, from one close to the next."""

    is_closed: bool = False


@dataclass(slots=True, eq=False)
class Guest:
    """A call at the hub.

    Attributes:
        lane: where it sends.
        user: the object that made it.
        loop: the event loop that waits for it; None for a thread.
        deadline: ends it.
        parked: what it had waiting when its loop was found standing.
    """

    lane: Lane
    user: User
    loop: asyncio.AbstractEventLoop | None
    deadline: asyncio.TimerHandle | None = None
    parked: list[tuple[Route, list[Item]]] = field(default_factory=list)


class Hub:
    """The thread and its loop. All but `submit`, `is_alive` and `wait_for_end` runs on the loop.

    Attributes:
        sessions: weak references to the calls that use it; while one lives it does not end. Changed under the lock of
            this module. No count: an exception of a signal handler may keep a call from giving its session back.
        leaving: whether it ends with the last session.
        has_ended: whether it came to its end in good order, with calls left only where the process ends.
        beats: grows while the thread runs and has calls.
        closings: what those wait for who close an object. Added to under the lock of this module.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = HubLoop()
        self.beats = 0
        self.sessions: set[weakref.ref[Any]] = set()
        self.leaving = self.has_ended = self._has_died = False  # `Thread.is_alive` errs once a signal interrupts it
        self.closings: set[Latch] = set()
        self._outboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Errand]] = WeakKeyDictionary()
        self._waiters: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        self._guests: dict[Consumer, Guest] = {}
        self._lanes: dict[RateLimits, Lane] = {}
        self._turned_at: dict[asyncio.AbstractEventLoop, float] = {}  # when each caller's loop was last seen to run
        self._touched: set[Lane] = set()  # where there is something new to send
        self._users: dict[tuple[Lane, Endpoint], set[object]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: set[asyncio.Task[Any]] = set()
        self._rest: asyncio.TimerHandle | None = None
        self._beating: asyncio.TimerHandle | None = None
        self._beat_at = self._thawed_at = -math.inf
        self.thread = threading.Thread(target=self._run, name="jinaclip-hub", daemon=True)

    def submit(self, *errands: Errand) -> None:
        """Runs functions on the loop, then sends what may go; nothing once it is closed. For any thread and finalizer.

        Nothing in a forked child either: the loop and its sockets are the parent's.
        """
        if self.pid == os.getpid():
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.do, errands)

    def submit_from(self, loop: asyncio.AbstractEventLoop, *errands: Errand) -> None:
        """The same from a coroutine. What comes up in one turn of its loop goes together, and shares requests."""
        outbox = self._outboxes.setdefault(loop, [])
        if not outbox:
            loop.call_soon(self._send_off, outbox)
        outbox.extend(errands)

    def _send_off(self, outbox: list[Errand]) -> None:
        errands = tuple(outbox)
        outbox.clear()
        self.submit(*errands)

    def wake(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
        """Wakes a coroutine of a caller's loop; those that are woken in one turn of the hub are woken together."""
        waiters = self._waiters.setdefault(loop, [])
        if not waiters:
            self.loop.call_soon(self._wake_all, loop)
        waiters.append(waiter)

    def _wake_all(self, loop: asyncio.AbstractEventLoop) -> None:
        waiters = self._waiters.pop(loop)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle_all, waiters)

    def do(self, errands: Sequence[Errand]) -> None:
        """Runs functions, then sends what may go."""
        for errand in errands:
            try:
                errand()
            except Exception as error:  # noqa: BLE001  a fault of ours must not cost the others their errands
                self._fail(errand, error)
        lanes, self._touched = self._touched, set()
        for lane in lanes:
            lane.pump()

    def _fail(self, errand: Errand, error: Exception) -> None:
        """Ends the call that an errand is about; nobody waits in vain."""
        arguments = errand.args if isinstance(errand, partial) else ()
        for consumer in (one for one in arguments if isinstance(one, Consumer)):
            consumer.stop(fault_of_ours(error))

    @property
    def is_alive(self) -> bool:
        """Whether the thread can still serve anybody."""
        return self.pid == os.getpid() and not (self.has_ended or self._has_died)

    @property
    def is_used(self) -> bool:
        """Whether a call uses it."""
        self.sessions = {session for session in self.sessions if session() is not None}
        return bool(self.sessions)

    def start(self) -> None:
        """Starts the thread, once. Raises JinaClipError if it cannot be started."""
        try:
            start(self.thread)
        except JinaClipError:
            self.give_up()
            self.loop.close()
            raise

    def give_up(self) -> None:
        """Leaves a thread that does not run to itself: the next call gets another hub."""
        self._has_died = True

    def _run(self) -> None:
        try:
            self.rest()
            self.loop.run_forever()
            self.loop.run_until_complete(self._close_all())
        finally:
            self._has_died = True
            self.loop.close()
            for done in list(self.closings):
                self._tell(done)

    def run(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a coroutine in a task that is kept until it ends."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- calls

    def join(
        self,
        consumer: Consumer,
        endpoint: Endpoint,
        limits: RateLimits,
        user: User,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        """Takes in a call, which ends at its deadline."""
        if user.is_closed:
            consumer.stop(closed_error())
        if consumer.gone:
            return
        lane = self._lanes.get(limits)
        if lane is None:
            lane = self._lanes[limits] = Lane(self, limits)
        self._users.setdefault((lane, endpoint), set()).add(user)
        self.leaving = False
        guest = self._guests[consumer] = Guest(lane, user, loop)
        if consumer.deadline_at < math.inf:
            guest.deadline = self.loop.call_at(consumer.deadline_at, self._expire, consumer)
        consumer.end = partial(self.loop.call_soon, self._retire, consumer)
        lane.join(consumer, user)
        self._wake_up()

    def hand_in(self, consumer: Consumer, batches: Sequence[tuple[Route, list[Item]]]) -> None:
        """Takes items of a call."""
        guest = self._guests.get(consumer)
        if guest is None or consumer.ending:
            return
        for route, items in batches:
            consumer.pending += len(items)
            consumer.to_come = max(0, consumer.to_come - len(items))
            guest.lane.scheduler.add(route, items)
        self._touched.add(guest.lane)

    def finish(self, consumer: Consumer) -> None:
        """Notes that all items of a call were handed in."""
        consumer.close()
        guest = self._guests.get(consumer)
        if guest is not None:
            self._touched.add(guest.lane)

    def end(self, consumer: Consumer) -> None:
        """Sends nothing more of a call that has failed, but lets come back what is in flight."""
        guest = self._guests.get(consumer)
        if guest is None:
            consumer.stop()
            return
        consumer.ending = True
        guest.parked.clear()
        guest.lane.end(consumer)

    def leave(self, consumer: Consumer) -> None:
        """Lets a call go, whatever it still waits for."""
        consumer.stop()
        self._retire(consumer)

    def _retire(self, consumer: Consumer) -> None:
        guest = self._guests.pop(consumer, None)
        if guest is None:
            return
        consumer.gone = True
        if guest.deadline is not None:
            guest.deadline.cancel()
        guest.lane.leave(consumer)
        if not self._guests:
            self.rest()

    def rest(self) -> None:
        """Ends the thread in a while, unless a call comes."""
        if self._rest is not None:
            self._rest.cancel()
        self._rest = self.loop.call_later(IDLE_SECONDS, end_if_idle, self)

    def _expire(self, consumer: Consumer) -> None:
        consumer.stop(deadline_error(consumer))

    # -- time

    def froze_since(self, moment: float) -> bool:
        """Whether the whole process stood still since then, as functions in the cloud and suspended machines do."""
        return self._thawed_at > moment or self.loop.time() - self._beat_at > FROZEN_SECONDS

    def _wake_up(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._beating is None:
            self._beat_at = self.loop.time()
            self._beating = self.loop.call_later(BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        now = self.loop.time()
        if now - self._beat_at > FROZEN_SECONDS:
            self._thawed_at = now
        self._beat_at = now
        self.beats += 1
        self._look_at_loops()
        self._beating = self.loop.call_later(BEAT_SECONDS, self._beat) if self._guests else None

    def _look_at_loops(self) -> None:
        """Lets go the calls of loops that are closed; sends nothing more for those that stand until they go on."""
        stands = {loop: self._stands(loop) for loop in {guest.loop for guest in self._guests.values()} if loop}
        self._turned_at = {loop: at for loop, at in self._turned_at.items() if loop in stands}
        for consumer, guest in list(self._guests.items()):
            if guest.loop is None:
                continue
            if guest.loop.is_closed():
                self.leave(consumer)
            elif stands[guest.loop]:
                guest.parked += guest.lane.scheduler.withdraw(consumer)
            elif guest.parked:
                parked, guest.parked = guest.parked, []
                for route, items in parked:
                    guest.lane.scheduler.add(route, items)
                guest.lane.pump()

    def _stands(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether a loop has not run for a while. One that is run in steps, by a window's own loop say, does not."""
        self._turned_at.setdefault(loop, self.loop.time())
        with suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(self._note_turn, loop)
        return not loop.is_running() and self.loop.time() - self._turned_at[loop] > STANDS_SECONDS

    def _note_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turned_at[loop] = self.loop.time()  # in the thread of that loop

    # -- the end

    def forget(self, user: object, done: Latch) -> None:
        """Ends the calls of an object, and closes the connections that nobody else uses; tells when that is done."""
        task = self.run(self._forget(user))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.add_done_callback(
            lambda _: None if self.has_ended else self._tell(done)
        )  # else the thread does, at its end

    async def _forget(self, user: object) -> None:
        own = [consumer for consumer, guest in self._guests.items() if guest.user is user]
        for consumer in own:
            consumer.stop(closed_error())
            self._retire(consumer)
        await asyncio.sleep(0)
        for (lane, endpoint), users in list(self._users.items()):
            if user not in users:
                continue
            users.discard(user)
            lane.forget(user)
            if not users:
                del self._users[lane, endpoint]  # before waiting: others may close meanwhile
                await lane.close(endpoint)
        used = {lane for lane, _ in self._users}
        self._lanes = {limits: lane for limits, lane in self._lanes.items() if lane in used}
        if not self._users:
            self.leaving = True
            end_if_idle(self)

    def wait_for_end(self) -> None:
        """Waits for the end of the thread, if it has nothing left to do."""
        if self.has_ended:
            self.thread.join(JOIN_SECONDS)

    def _tell(self, done: Latch) -> None:
        self.closings.discard(done)
        done.set()

    def stop(self) -> None:
        """Ends the loop, once."""
        if not self.has_ended:
            self.has_ended = True
            self.loop.stop()

    async def _close_all(self) -> None:
        for consumer in list(self._guests):
            self._retire(consumer)  # or what waits would go out in the slots of what is broken off
        for task in self._tasks - self._closing:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=JOIN_SECONDS)
        for lane, endpoint in list(self._users):
            await lane.close(endpoint)


_hub: Hub | None = None
_left_behind: list[Hub] = []
"""Hubs of a parent process: never touched, nor collected, which would close what the parent uses."""
_lock = threading.RLock()  # a session that is collected while this thread is inside leaves its hub


def enter(session: weakref.ref[Any]) -> Hub:
    """The hub of this process, for one session; give it back by `leave`, or let the session be collected.

    Raises:
        JinaClipError: its thread cannot be started.
    """
    global _hub
    with _lock:
        is_new = _hub is None or not _hub.is_alive
        hub = _hub = Hub() if is_new or _hub is None else _hub
        hub.leaving = False
        hub.sessions.add(session)
    if is_new:  # without the lock: the thread may collect, as it starts, what wants it, and this one waits for it
        hub.start()
    return hub


def leave(hub: Hub, session: weakref.ref[Any]) -> None:
    """Ends a session."""
    with _lock:
        hub.sessions.discard(session)
        leaving = hub.leaving and not hub.is_used
    if leaving:
        hub.submit(partial(end_if_idle, hub))


def end_if_idle(hub: Hub) -> None:
    """Ends a hub without sessions. Runs on its loop."""
    with _lock:
        if hub.is_used:
            hub.rest()
        else:
            end(hub)


def end(hub: Hub) -> None:
    """Ends a hub; the next session makes another. Runs on its loop."""
    global _hub
    with _lock:
        if _hub is hub:
            _hub = None
        hub.stop()


def forget(user: object) -> tuple[Hub, Latch] | None:
    """Ends the calls of an object.

    Returns:
        the hub, and what happens when the object's connections are closed; None if there is no hub.
    """
    with _lock:  # what is noted here before the hub ends is told then at the latest
        hub = _hub
        if hub is None or not hub.is_alive:
            return None
        done = Latch()
        hub.closings.add(done)
        hub.submit(partial(hub.forget, user, done))
        return hub, done


def _end_at_exit() -> None:
    hub = _hub
    if hub is not None and hub.is_alive:
        hub.submit(partial(end, hub))
        hub.thread.join(JOIN_SECONDS)


def _leave_behind() -> None:
    """In a forked child: the parent's hub is not touched, and the child makes its own."""
    global _hub, _lock
    _lock = threading.RLock()  # another thread of the parent may have held it at the fork
    if _hub is not None:
        _left_behind.append(_hub)
    _hub = None


atexit.register(_end_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_behind)
