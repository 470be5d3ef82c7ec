"""The hub by a hand clock: its own lanes, flights and timers, against a service that is a function.

No real time passes: the loop's clock goes on when everybody waits for it.
"""

import asyncio
import selectors
import weakref
from collections import defaultdict
from functools import partial
from typing import ClassVar
from unittest import mock

import numpy as np
import orjson

from jinaclip.backends.api import hub as hubs
from jinaclip.backends.api.batcher import Consumer, Item
from jinaclip.backends.api.lane import Lane
from jinaclip.backends.api.limits import RateLimits
from jinaclip.backends.api.loop import HubLoop
from jinaclip.backends.api.route import Endpoint, Route
from jinaclip.backends.api.steps import Failure, Reply
from jinaclip.backends.api.wires import jina as wire
from jinaclip.call.call import Call
from jinaclip.call.request import draft_many, draft_one
from jinaclip.call.usage import CallMeter, Meter
from jinaclip.config import EmbedderConfig
from jinaclip.inputs import as_text
from jinaclip.process import settle
from jinaclip.specs import JINA_CLIP_V2
from jinaclip.testing.vectors import expected_vector

WIDTH = 16
START = 1000.0
FOREVER = 100_000.0
"""Seconds after which a call that has not ended hangs."""


class HandSelector(selectors.DefaultSelector):
    """Waits for nothing: the clock goes on instead."""

    def __init__(self):
        super().__init__()
        self.now = START

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "nothing is left to wait for"
            self.now += max(0.0, timeout)
            assert self.now < START + FOREVER, "it hangs"
        return ready


class HandLoop(HubLoop):
    """An event loop whose clock goes on only when everybody waits for it."""

    def __init__(self):
        self.selector = HandSelector()
        super().__init__(self.selector)

    def time(self):
        return self.selector.now


class Service:
    """What sends requests in the place of the network. `World.service` answers them when they arrive."""

    def __init__(self, world):
        self._world = world

    async def send(self, step, upload, until):
        world = self._world
        texts = [item["text"] for item in orjson.loads(step.body)["input"]]
        world.sent.append((world.now, texts))
        world.steps.append(step)
        world.in_flight += 1
        world.most_in_flight = max(world.most_in_flight, world.in_flight)
        reply = world.service(texts, world)
        if not (isinstance(reply, Failure) and reply.kind == "connect"):
            async for _ in upload:
                pass
        accepted = isinstance(reply, Reply) and reply.status == 200
        world.accepted += accepted
        try:
            latency = world.latency_of(texts, accepted=accepted)
            await asyncio.sleep(max(0.0, min(latency, until - world.now)))
            return reply if world.now < until or not latency else Failure("timeout", "ReadTimeout")
        finally:
            world.in_flight -= 1
            world.accepted -= accepted

    async def close(self):
        """Nothing to close."""


class Process:
    """One process of those that use the key: its limits, and what goes out under them."""

    def __init__(self, world):
        self.limits = RateLimits(clock=world.loop.time)
        self.lane = world.hub._lanes[self.limits] = Lane(world.loop, self.limits)
        self.service = Service(world)
        self.lane._exchanges[world.endpoint] = self.service


class World:
    """A clock, a service, one key, and the calls that meet there.

    Args:
        service: takes the texts of a request, and the world; gives the `Reply` or `Failure`.
        latency: seconds of every request, or a function of how many items it holds.
        refusing: seconds of one that is refused; None for as many as the others take.
        options: of the calls.
    """

    made: ClassVar = []

    def __init__(self, service=lambda texts, world: honest(texts), latency=0.0, *, refusing=None, **options):
        self.service, self.latency, self.refusing = service, latency, refusing
        self.config = EmbedderConfig(**{"api_key": "jina_test", "dimensions": WIDTH, **options})
        self.endpoint = Endpoint.of(self.config)
        with mock.patch.object(hubs, "HubLoop", HandLoop):
            self.hub = hubs.Hub()
        self.hub.sessions = {weakref.ref(self)}  # it does not end
        self.loop = self.hub.loop
        self.process = Process(self)
        self.limits, self.lane = self.process.limits, self.process.lane
        self.scheduler = self.lane.scheduler
        self.meter = Meter(self.config.token_budget)
        self.users = defaultdict(hubs.User)
        self.sent = []
        """(time, texts) of each request."""
        self.steps = []
        """What was asked for each request."""
        self.in_flight = self.most_in_flight = self.accepted = 0
        self.calls = []
        World.made.append(self)

    @property
    def now(self):
        return self.loop.time()

    @property
    def times(self):
        return [moment for moment, _ in self.sent]

    @property
    def sizes(self):
        return [len(texts) for _, texts in self.sent]

    def latency_of(self, texts, *, accepted):
        if not accepted and self.refusing is not None:
            return self.refusing
        return self.latency(len(texts)) if callable(self.latency) else self.latency

    def route(self, config, *, query):
        return Route.of(self.endpoint, config, JINA_CLIP_V2, query=query)

    def join(self, texts, *, query=False, urgent=False, user=None, meter=None, process=None, **options):
        """A call that has handed in nothing yet. `user` is the object that makes it, in `process` or the first one."""
        config = self.config.replace(**options)
        if query:
            request = draft_one(texts[0], as_text, "text", "query", urgent=True).request()
        else:
            request = draft_many(texts, as_text, "text", urgent=urgent).request()
        call = Call(request, WIDTH, CallMeter(meter or self.meter), deadline=config.deadline)
        consumer = Consumer(call, config, clock=self.loop.time)
        limits = (process or self.process).limits
        self.hub.join(consumer, self.endpoint, limits, self.users[user], None)
        call.stopped.add_callback(lambda: self.loop.call_soon(self._let_go, consumer))
        self.calls.append(consumer)
        return consumer

    def _let_go(self, consumer):
        """As `Session` does."""
        failed = isinstance(consumer.call.cause, Exception)
        (self.hub.end if failed else self.hub.leave)(consumer)

    def hand_in(self, consumer, *, tokens=1):
        """Hands in all items of a call."""
        query = consumer.call.request.task == "query"
        items = [item_of(consumer, number, text.value, tokens, query) for number, text in consumer.call.inputs()]
        self.hub.hand_in(consumer, [(self.route(consumer.config, query=query), items)])
        self.hub._calls[consumer].lane.pump()
        consumer.close()
        return items

    def start(self, texts, *, tokens=1, **how):
        """A new call, from now on."""
        consumer = self.join(texts, **how)
        self.hand_in(consumer, tokens=tokens)
        return consumer

    def embed(self, texts, **how):
        """The vectors of a call that runs to its end."""
        consumer = self.start(texts, **how)
        self.run()
        return results(consumer).unwrap()

    def run(self):
        """Goes on until all calls are over."""
        waiting = [self.loop.create_future() for _ in self.calls]
        for call, waiter in zip(self.calls, waiting, strict=True):
            call.over.add_callback(partial(settle, waiter))
        if waiting:
            self.loop.run_until_complete(asyncio.wait(waiting))
        self.wait(0)

    def wait(self, seconds):
        """Lets so much time pass."""

        async def sleep():
            await asyncio.sleep(seconds)
            for _ in range(10):  # those who were told at this moment take it in
                await asyncio.sleep(0)

        self.loop.run_until_complete(sleep())

    def freeze(self, seconds):
        """The clock jumps: the process stood still."""
        self.loop.selector.now += seconds

    def at(self, seconds, function, *args):
        """Calls a function in so many seconds."""
        self.loop.call_later(seconds, function, *args)

    def close(self):
        self.loop.run_until_complete(self.hub._close_all())
        self.loop.close()


def results(consumer):
    """What came of a call that is over."""
    assert consumer.over.done()
    return consumer.call.conclude()


def item_of(consumer, number, text, tokens=1, query=False):
    return Item(consumer, number, "text", wire.text_input(text), len(text), tokens, query)


def vector(text):
    return expected_vector("text", text, dimensions=WIDTH)


def honest(texts, tokens=None):
    rows = np.stack([vector(text) for text in texts])
    return Reply(200, {}, orjson.dumps(wire.write_answer("jina-clip-v2", rows, tokens or len(texts))))


_row = np.eye(1, WIDTH, dtype=np.float32)


def quick(texts):
    """An answer whose rows are all the same, for those who count requests."""
    return Reply(200, {}, orjson.dumps(wire.write_answer("jina-clip-v2", _row.repeat(len(texts), 0), len(texts))))


def refusal(status, code="", message="", field=None, **headers):
    body = {"detail": message, "code": code, "request_id": "0" * 32}
    if field:
        body["errors"] = [{"field": field, "message": message, "input": "echo"}]
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, orjson.dumps(body))


def limit(kind, **headers):
    return refusal(429, f"RATE_{kind}_LIMIT_EXCEEDED", **headers)


def named(place):
    """A refusal that names the input at fault."""
    return refusal(422, message="bad", field=f"body -> input -> {place}")


class Account:
    """A service that takes so many requests at once; keeps when it took and refused them."""

    def __init__(self, most):
        self.most = most
        self.refused = []
        self.taken = []

    def __call__(self, texts, world):
        if world.accepted >= self.most:
            self.refused.append(world.now)
            return limit("CONCURRENCY")
        self.taken.append(world.now)
        return quick(texts)

    def at_work(self, begin, end, seconds):
        """How many requests, of so many seconds each, were at work on average between two moments."""
        return sum(begin <= moment < end for moment in self.taken) * seconds / (end - begin)


def scripted(*replies):
    """Gives these replies in turn, then honest ones."""
    left = list(replies)
    return lambda texts, world: left.pop(0) if left else honest(texts)


def rejecting(bad, status=400):
    return lambda texts, world: refusal(status) if bad & set(texts) else honest(texts)


def names(count, name="text"):
    return [f"{name} {number}" for number in range(count)]


def check(vectors, texts):
    np.testing.assert_allclose(vectors, np.stack([vector(text) for text in texts]), atol=1e-6)
