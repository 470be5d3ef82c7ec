"""The hosted API as a backend: callers hand their items to the hub, and wait."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from jinaclip.backends.api import hub as hubs
from jinaclip.backends.api.batcher import BATCH_TOKENS, Consumer, Feed, Item, recipe_of
from jinaclip.backends.api.expectation import expect
from jinaclip.backends.api.hub import Action, Hub, User
from jinaclip.backends.api.limits import RateLimits, shared_limits
from jinaclip.backends.api.route import Endpoint, Route, host_of, width_asked
from jinaclip.backends.api.wires import WIRES
from jinaclip.call.call import Call
from jinaclip.call.estimate import text_tokens
from jinaclip.call.watch import Service
from jinaclip.config import MAX_BATCH, EmbedderConfig
from jinaclip.errors import ConfigError, JinaClipError
from jinaclip.inputs import Image, Text
from jinaclip.process import (
    LOOK_SECONDS,
    Latch,
    check_not_ending,
    run_in_thread,
    running_loop,
    settle,
    start_thread,
    wait_until_done,
)
from jinaclip.space import Weights, served_weights
from jinaclip.specs import ModelSpec

GATHER_SECONDS = 0.002
"""How often the hub takes in what an iterator gives. After a pause an item goes at once."""
AT_ONCE = MAX_BATCH
"""Texts of a list that are handed in together."""
MOST_HELD, MOST_HELD_BYTES = 32_768, 64 * 2**20
"""Items of a call, and bytes of them, that may be at the hub: memory must not grow with the caller's input."""
SMALL, SMALL_CHARACTERS = 512, 65_536
"""So many texts, and characters, are handed in on the caller's event loop: it takes less than a thread would."""
SILENT_LOOKS = 20
"""So often one who waits finds that the hub's thread did not run, before it gives up."""


class ApiBackend:
    """Embeds over HTTP, by one of the wires.

    Args:
        config: the options.
        spec: of the model.
        whole: ask for vectors of the model's own width, whatever `dimensions` are.

    Raises:
        ConfigError: an option cannot be had on the wire.
        MissingDependencyError: the wire needs an extra that is not installed.
    """

    def __init__(self, config: EmbedderConfig, spec: ModelSpec, *, whole: bool = False) -> None:
        wire = WIRES[config.wire_name]
        if not (config.normalized or wire.traits.says_normalized):
            raise ConfigError(
                f"normalized=False cannot be asked for with wire={config.wire_name!r}: vectors have the length that "
                "the server gives them",
                option="normalized",
            )
        self.spec = spec
        self._config = config.replace(dimensions=None) if whole else config
        self._url = wire.url(config.base_url)
        self.service = service_at(self._url, wire.traits.provider)
        self._expected = expect(config, spec, width_asked(wire, self._config, spec))
        self._destination: Destination | None = None
        self._users = [User()]  # the present one, for the finalizer too
        weakref.finalize(self, forget_last, self._users).atexit = False

    @property
    def weights(self) -> Weights:
        """Those that answer at the endpoint."""
        return served_weights(self.spec, self._config.base_url)

    @property
    def rounding(self) -> dict[str, Any]:
        """The service keeps it to itself."""
        return {}

    @property
    def image_settings(self) -> bytes:
        """All that decides what becomes of the file of an image."""
        return recipe_of(self._config, self.spec, lambda _, prepared: prepared).settings

    @property
    def logit_scale(self) -> None:
        """The service keeps it to itself."""
        return

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, guessed: the service has the tokenizer."""
        return text_tokens(text)

    def requests_for(self, inputs: int, tokens: int) -> int:
        """Requests that so much takes."""
        return max(-(-inputs // (self._config.batch_size or MAX_BATCH)), -(-tokens // BATCH_TOKENS))

    def load(self) -> None:
        """Nothing: the weights are with the service."""

    def prepare(self, call: Call, inputs: Iterable[tuple[int, Text | Image]]) -> Feed:
        """Inputs as items of requests."""
        to_come = call.request.hint or 0 if call.request.quick else 0
        return Feed(Consumer(call, self._config, to_come=to_come, expected=self._expected), inputs, self.spec)

    def embed(self, call: Call, inputs: Feed) -> None:
        """Embeds the inputs."""
        with self._session(call, inputs, None) as session:
            session.feed()
            session.wait()

    async def aembed(self, call: Call, inputs: Feed) -> None:
        """Embeds the inputs. Cancelling it, or closing its coroutine, lets go of all that it has under way."""
        loop = running_loop()
        with self._session(call, inputs, loop) as session:
            if session.is_small:
                session.feed()
            else:  # a daemon of its own: an iterator that never goes on must hold up neither others nor the end
                start_thread("jinaclip-feed", session.feed)
            await session.wait_async(loop)

    def close(self) -> None:
        """Ends the calls under way with `ClosedError`, and closes connections that no other object uses."""
        if (left := self._forget()) is not None:
            hub, done = left
            if threading.get_ident() != hub.thread.ident:  # else a finalizer closes it there
                done.wait(hubs.JOIN_SECONDS)  # and no longer: a hub that hangs must not make closing hang
                hub.wait_for_end()

    async def aclose(self) -> None:
        """The same."""
        if (left := self._forget()) is not None:
            hub, done = left
            with suppress(TimeoutError):
                async with asyncio.timeout(hubs.JOIN_SECONDS):
                    await wait_until_done(done)
                    await run_in_thread(hub.wait_for_end)

    def _forget(self) -> tuple[Hub, Latch] | None:
        """Ends the calls made until now, also those that the hub does not know of yet."""
        user, self._users[:] = self._users[0], [User()]
        user.is_closed = True
        return hubs.forget(user)

    def _session(self, call: Call, inputs: Feed, loop: asyncio.AbstractEventLoop | None) -> Session:
        endpoint = Endpoint.of(self._config, self._url)
        if self._destination is None or self._destination.endpoint != endpoint or self._destination.pid != os.getpid():
            routes = {q: Route.of(endpoint, self._config, self.spec, query=q) for q in (False, True)}
            self._destination = Destination(endpoint, shared_limits(endpoint), routes, os.getpid())
        return Session(call, inputs, self._destination, self._users[0], loop)


@dataclass(frozen=True, slots=True)
class Destination:
    """How requests of an object go, as long as its key stays the same; what the key's limits are outlives the calls.

    Attributes:
        endpoint: where to.
        limits: of the key.
        routes: of documents and images, and of queries (True).
        pid: of the process; a forked child has limits of its own.
    """

    endpoint: Endpoint
    limits: RateLimits
    routes: dict[bool, Route]
    pid: int


class Session:
    """One call at the hub. As a context it lets go of what is left when the call ends early."""

    def __init__(
        self,
        call: Call,
        inputs: Feed,
        destination: Destination,
        user: User,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._call, self._inputs, self._routes, self._loop = call, inputs, destination.routes, loop
        self.consumer = inputs.consumer
        self.is_small = is_small(call)
        self._ticket = weakref.ref(self)
        self._hub: Hub = hubs.enter(self._ticket)
        self._inbox: deque[Item] = deque()
        self._announced, self._taken_at = False, -math.inf
        self._handed = self._handed_bytes = 0
        self._beats, self._silent = 0, 0
        self._timer: asyncio.TimerHandle | None = None
        join = partial(self._hub.join, self.consumer, destination.endpoint, destination.limits, user, loop)
        self._actions: list[Action] = [join]
        if not self.is_small:
            self._submit()
        call.stopped.add_callback(self._let_go)

    def _let_go(self) -> None:
        """Sends nothing more; of a call that failed, what is in flight and paid for may still come back."""
        failed = isinstance(self._call.cause, Exception)  # an interrupt is none
        self._hub.submit(partial(self._hub.end if failed else self._hub.leave, self.consumer))

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        if not self.consumer.over.done():
            self._call.stop()
            self._hub.submit(partial(self._hub.leave, self.consumer))
        hubs.leave(self._hub, self._ticket)

    def feed(self) -> None:
        """Hands in the items until there are no more, or the call is stopped."""
        with self._call.ending():
            if self._call.request.quick:
                self._feed_list(iter(self._inputs))
            else:
                self._feed_one_by_one(iter(self._inputs))
            self._actions.append(partial(self._hub.finish, self.consumer))
            self._submit()

    def _feed_list(self, items: Iterator[Item]) -> None:
        """Hands in texts that the caller holds, many at once."""
        while (group := list(islice(items, AT_ONCE))) and self._wait_for_room(group):
            self._actions.append(partial(self._hub.hand_in, self.consumer, self._by_route(group)))
            if not self.is_small:
                self._submit()
                time.sleep(0)  # lets the hub's thread run, which else waits for the interpreter until all is handed in

    def _feed_one_by_one(self, items: Iterator[Item]) -> None:
        """Hands in each item as it comes."""
        for item in items:
            if not self._wait_for_room([item]):
                return
            self._inbox.append(item)
            if not self._announced:
                self._announced = True
                self._hub.submit(partial(self._take_in_soon, self.consumer))
        self._actions.append(partial(self._take_in, self.consumer))

    def _take_in_soon(self, consumer: Consumer) -> None:
        """On the hub: takes in what came, at once after a pause; what comes in quick succession, some at a time."""
        seconds = self._taken_at + GATHER_SECONDS - self._hub.loop.time()
        if seconds <= 0:
            self._take_in(consumer)
        else:
            self._hub.loop.call_later(seconds, self._hub.do, [partial(self._take_in, consumer)])

    def _take_in(self, consumer: Consumer) -> None:
        self._announced = False
        items = [self._inbox.popleft() for _ in range(len(self._inbox))]
        self._taken_at = self._hub.loop.time()
        self._hub.hand_in(consumer, self._by_route(items))

    def _by_route(self, items: list[Item]) -> list[tuple[Route, list[Item]]]:
        groups = [(route, [item for item in items if item.query == query]) for query, route in self._routes.items()]
        return [(route, own) for route, own in groups if own]

    def _submit(self) -> None:
        """Hands what is to be done to the hub, all at once: waking it takes time."""
        actions, self._actions = self._actions, []
        if self.is_small and self._loop is not None:
            self._hub.submit_from(self._loop, *actions)
        else:
            self._hub.submit(*actions)

    def _wait_for_room(self, items: list[Item]) -> bool:
        """Waits until the hub holds little enough of this call for these too; False once the call is stopped."""
        size = sum(item.size for item in items)
        while not self._has_room(len(items), size) and not self._call.stopped.done():
            self.consumer.progress = progress = Latch()
            if not self._has_room(len(items), size) and not progress.wait(LOOK_SECONDS):
                self.look()
        self._handed += len(items)
        self._handed_bytes += size
        return not self._call.stopped.done()

    def _has_room(self, items: int, size: int) -> bool:
        """Whether the hub may take so many items of this call, of this size. What exceeds a limit alone goes alone."""
        held, held_bytes = self._handed - self.consumer.settled, self._handed_bytes - self.consumer.settled_bytes
        return not held or (held + items <= MOST_HELD and held_bytes + size <= MOST_HELD_BYTES)

    def wait(self) -> None:
        """Waits until there is nothing left to wait for."""
        while not self.consumer.over.wait(LOOK_SECONDS):
            self.look()

    async def wait_async(self, loop: asyncio.AbstractEventLoop) -> None:
        """The same in a coroutine of this loop."""
        waiter = loop.create_future()
        self.consumer.over.add_callback(partial(self._wake, loop, waiter))
        self._watch(loop, waiter)
        try:
            await waiter
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _wake(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
        if threading.get_ident() == self._hub.thread.ident:
            self._hub.wake(loop, waiter)
        else:  # it was over before anybody waited
            settle(waiter)

    def _watch(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
        """Looks now and then whether the hub still works."""
        if self._timer is not None and not waiter.done():
            try:
                self.look()
            except JinaClipError as error:
                waiter.set_exception(error)
                return
        self._timer = loop.call_later(LOOK_SECONDS, self._watch, loop, waiter)

    def look(self) -> None:
        """Looks whether the hub still works.

        Raises:
            JinaClipError: it does not.
        """
        check_not_ending()
        if self._hub.has_ended:
            return  # the program ends, and this thread, a daemon, with it: an error would only be noise
        if not self._hub.is_alive and not self.consumer.over.done():
            raise JinaClipError(
                "the thread that talks to the service has ended; was the process forked in the middle of a call?"
            )
        self._silent = self._silent + 1 if self._hub.loop.beats == self._beats else 0
        self._beats = self._hub.loop.beats
        if self._silent > SILENT_LOOKS:
            self._hub.give_up()
            raise JinaClipError(
                f"the thread that talks to the service has not run for {SILENT_LOOKS * LOOK_SECONDS:g} seconds: under "
                "gevent patch threads too (monkey.patch_all), under uWSGI set enable-threads, and let no extension "
                "hold the interpreter"
            )


def service_at(url: str, provider: str) -> Service:
    """Who answers at an address, for those who watch; nothing of it is secret."""
    parts = urlsplit(url)
    return Service(provider, host_of(url), parts.port or (80 if parts.scheme == "http" else 443))


def forget_last(users: list[User]) -> None:
    """Forgets an object that was collected."""
    hubs.forget(users[0])


def is_small(call: Call) -> bool:
    """Whether handing in a call takes no longer than starting a thread for it would."""
    request = call.request
    if not request.quick or (request.total or 0) > SMALL:
        return False
    return sum(len(one.value) for one in request.items if isinstance(one, Text)) <= SMALL_CHARACTERS
