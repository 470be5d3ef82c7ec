"""The hub: one thread with an event loop, which owns the connections, limits and retries of every key of the process.

Callers hand in items and wait for a latch; see `backend.py`. The thread starts with the first call and ends when it
has been idle for a while, or when the last object that used it is closed.
"""

from __future__ import annotations

import asyncio
import atexit
import math
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from jinaclip.backends.api.batcher import Consumer, Item
from jinaclip.backends.api.lane import Lane, fault_of_ours
from jinaclip.backends.api.limits import RateLimits
from jinaclip.backends.api.loop import HubLoop
from jinaclip.backends.api.policy import deadline_error
from jinaclip.backends.api.route import Endpoint, Route
from jinaclip.errors import ClosedError, JinaClipError
from jinaclip.process import Latch, call_in_loop, settle, start

IDLE_SECONDS = 30.0
"""How long the thread, and its connections, outlive the last call."""
Action = Callable[[], object]
"""Something to do on the hub's loop: a partial with the consumer that it is about, whose call ends if it fails."""
BEAT_SECONDS = 0.25
"""Between two looks at the callers' loops, and at the clock."""
STANDS_SECONDS = 1.0
"""A caller's loop that has not run for so long stands."""
JOIN_SECONDS = 1.0
"""How long a close waits for the end of the thread."""


def closed_error() -> ClosedError:
    """What the calls under way of an object are told that is closed."""
    return ClosedError("the object was closed while the call was under way")


def settle_all(waiters: Sequence[asyncio.Future[None]]) -> None:
    """Ends futures, those that have not."""
    for waiter in waiters:
        settle(waiter)


@dataclass(slots=True, eq=False)
class User:
    """An object that makes calls, from one close to the next."""

    is_closed: bool = False


@dataclass(slots=True, eq=False)
class ActiveCall:
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
        closings: what those wait for who close an object. Added to under the lock of this module.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.loop = HubLoop()
        self.sessions: set[weakref.ref[Any]] = set()
        self.leaving = self.has_ended = self._has_died = False  # `Thread.is_alive` errs once a signal interrupts it
        self.closings: set[Latch] = set()
        self._starting, self._has_started = threading.RLock(), False
        self._outboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, list[Action]] = WeakKeyDictionary()
        self._waiters: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        self._calls: dict[Consumer, ActiveCall] = {}
        self._lanes: dict[RateLimits, Lane] = {}
        self._turned_at: dict[asyncio.AbstractEventLoop, float] = {}  # when each caller's loop was last seen to run
        self._touched: set[Lane] = set()  # where there is something new to send
        self._users: dict[tuple[Lane, Endpoint], set[object]] = {}
        self._closing: set[asyncio.Task[Any]] = set()
        self._rest: asyncio.TimerHandle | None = None
        self._beating: asyncio.TimerHandle | None = None
        self.thread = threading.Thread(target=self._run, name="jinaclip-hub", daemon=True)

    def submit(self, *actions: Action) -> None:
        """Runs functions on the loop, then sends what may go; nothing once it is closed. For any thread and finalizer.

        Nothing in a forked child either: the loop and its sockets are the parent's.
        """
        if self.pid == os.getpid():
            call_in_loop(self.loop, self.do, actions)

    def submit_from(self, loop: asyncio.AbstractEventLoop, *actions: Action) -> None:
        """The same from a coroutine. What comes up in one turn of its loop goes together, and shares requests."""
        outbox = self._outboxes.setdefault(loop, [])
        if not outbox:
            loop.call_soon(self._send_off, outbox)
        outbox.extend(actions)

    def _send_off(self, outbox: list[Action]) -> None:
        actions = tuple(outbox)
        outbox.clear()
        self.submit(*actions)

    def wake(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
        """Wakes a coroutine of a caller's loop; those that are woken in one turn of the hub are woken together."""
        waiters = self._waiters.setdefault(loop, [])
        if not waiters:
            self.loop.call_soon(self._wake_all, loop)
        waiters.append(waiter)

    def _wake_all(self, loop: asyncio.AbstractEventLoop) -> None:
        call_in_loop(loop, settle_all, self._waiters.pop(loop))

    def do(self, actions: Sequence[Action]) -> None:
        """Runs functions, then sends what may go."""
        for action in actions:
            try:
                action()
            except Exception as error:  # noqa: BLE001  a fault of ours must not cost the others their actions
                self._fail(action, error)
        lanes, self._touched = self._touched, set()
        for lane in lanes:
            lane.pump()

    def _fail(self, action: Action, error: Exception) -> None:
        """Ends the call that an action is about; nobody waits in vain."""
        arguments = action.args if isinstance(action, partial) else ()
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
        """Starts the thread, if nobody did: a signal handler's exception may have kept the first caller from it.

        Raises:
            JinaClipError: it cannot be started.
        """
        with self._starting:
            if self._has_started or self._has_died:
                return
            try:
                start(self.thread)
            except JinaClipError:
                self.give_up()
                self.loop.close()
                raise
            except BaseException:  # of a signal handler: nobody knows whether the thread runs
                self.give_up()
                self.submit(self.rest)
                raise
            self._has_started = True

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
            lane = self._lanes[limits] = Lane(self.loop, limits)
        self._users.setdefault((lane, endpoint), set()).add(user)
        self.leaving = False
        active = self._calls[consumer] = ActiveCall(lane, user, loop)
        if consumer.deadline_at < math.inf:
            active.deadline = self.loop.call_at(consumer.deadline_at, self._expire, consumer)
        consumer.end = partial(self.loop.call_soon, self._retire, consumer)
        lane.join(consumer, user)
        self._wake_up()

    def hand_in(self, consumer: Consumer, batches: Sequence[tuple[Route, list[Item]]]) -> None:
        """Takes items of a call."""
        active = self._calls.get(consumer)
        if active is None or consumer.ending:
            return
        for route, items in batches:
            consumer.pending += len(items)
            consumer.health.sample.add(items)
            consumer.to_come = max(0, consumer.to_come - len(items))
            active.lane.scheduler.add(route, items)
        self._touched.add(active.lane)

    def finish(self, consumer: Consumer) -> None:
        """Notes that all items of a call were handed in."""
        consumer.close()
        active = self._calls.get(consumer)
        if active is not None:
            self._touched.add(active.lane)

    def end(self, consumer: Consumer) -> None:
        """Sends nothing more of a call that has failed, but lets come back what is in flight."""
        active = self._calls.get(consumer)
        if active is None:
            consumer.stop()
            return
        consumer.ending = True
        active.parked.clear()
        active.lane.end(consumer)

    def leave(self, consumer: Consumer) -> None:
        """Lets a call go, whatever it still waits for."""
        consumer.stop()
        self._retire(consumer)

    def _retire(self, consumer: Consumer) -> None:
        active = self._calls.pop(consumer, None)
        if active is None:
            return
        consumer.gone = True
        if active.deadline is not None:
            active.deadline.cancel()
        active.lane.leave(consumer)
        if not self._calls:
            self.rest()

    def rest(self) -> None:
        """Ends the thread in a while, unless a call comes; none comes to one that was given up."""
        if self._rest is not None:
            self._rest.cancel()
        seconds = BEAT_SECONDS if self._has_died else IDLE_SECONDS
        self._rest = self.loop.call_later(seconds, end_if_idle, self)

    def _expire(self, consumer: Consumer) -> None:
        consumer.stop(deadline_error(consumer))

    # -- time

    def _wake_up(self) -> None:
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        if self._beating is None:
            self.loop.begin_beating()
            self._beating = self.loop.call_later(BEAT_SECONDS, self._beat)

    def _beat(self) -> None:
        self.loop.beat()
        self._look_at_loops()
        self._beating = self.loop.call_later(BEAT_SECONDS, self._beat) if self._calls else None

    def _look_at_loops(self) -> None:
        """Lets go the calls of loops that are closed; sends nothing more for those that stand until they go on."""
        stands = {loop: self._stands(loop) for loop in {active.loop for active in self._calls.values()} if loop}
        self._turned_at = {loop: at for loop, at in self._turned_at.items() if loop in stands}
        for consumer, active in list(self._calls.items()):
            if active.loop is None:
                continue
            if active.loop.is_closed():
                self.leave(consumer)
            elif stands[active.loop]:
                active.parked += active.lane.scheduler.withdraw(consumer)
            elif active.parked:
                parked, active.parked = active.parked, []
                for route, items in parked:
                    active.lane.scheduler.add(route, items)
                active.lane.pump()

    def _stands(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether a loop has not run for a while. One that is run in steps, by a window's own loop say, does not."""
        self._turned_at.setdefault(loop, self.loop.time())
        call_in_loop(loop, self._note_turn, loop)
        return not loop.is_running() and self.loop.time() - self._turned_at[loop] > STANDS_SECONDS

    def _note_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turned_at[loop] = self.loop.time()  # in the thread of that loop

    # -- the end

    def forget(self, user: object, done: Latch) -> None:
        """Ends the calls of an object, and closes the connections that nobody else uses; tells when that is done."""
        task = self.loop.start(self._forget(user))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.add_done_callback(
            lambda _: None if self.has_ended else self._tell(done)
        )  # else the thread does, at its end

    async def _forget(self, user: object) -> None:
        own = [consumer for consumer, active in self._calls.items() if active.user is user]
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
        for consumer in list(self._calls):
            self._retire(consumer)  # or what waits would go out in the slots of what is broken off
        for task in self.loop.tasks - self._closing:
            task.cancel()
        if self.loop.tasks:
            await asyncio.wait(self.loop.tasks, timeout=JOIN_SECONDS)
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
    hub.start()  # without the lock: the thread may collect, as it starts, what wants it, and this one waits for it
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
