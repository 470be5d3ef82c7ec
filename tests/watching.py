"""Looks from outside: what the hub has in flight, what waits, what the process holds, which threads read a text."""

import asyncio
import gc
import threading
import time
from bisect import bisect_left
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path

from jinaclip import BudgetError
from jinaclip.backends.api import hub as hubs

POLL_SECONDS = 0.005


class Word(str):
    """A text that remembers which threads read it."""

    __slots__ = ("threads",)

    def __new__(cls, text):
        word = super().__new__(cls, text)
        word.threads = set()
        return word

    def strip(self, *chars):
        self.threads.add(threading.current_thread())
        return super().strip(*chars)


def until(condition, seconds=10.0):
    """Waits until a condition holds, and fails if it does not in so many seconds; gives what it was at last."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"still not so after {seconds} s"
        time.sleep(POLL_SECONDS)
    return found


async def auntil(condition, seconds=10.0):
    """The same, while the running loop goes on."""
    end = time.monotonic() + seconds
    while not (found := await asyncio.get_running_loop().run_in_executor(None, condition)):
        assert time.monotonic() < end, f"still not so after {seconds} s"
        await asyncio.sleep(POLL_SECONDS)
    return found


def budget_left(clip):
    """Tokens that are left of the budget of a JinaClip, as far as it lets others know."""

    def is_too_much(tokens):
        try:
            clip.check_budget(tokens)
        except BudgetError:
            return True
        return False

    return bisect_left(range(1, clip.config.token_budget + 1), True, key=is_too_much)


def on_hub(function):
    """What a function gives that is run on the hub's loop; None if there is no hub."""
    hub = hubs._hub
    if hub is None or not hub.is_alive:
        return None
    done = Future()

    def run():
        try:
            done.set_result(function(hub))
        except BaseException as error:
            done.set_exception(error)

    hub.submit(run)
    return done.result(10)


def numbers(one):
    """Requests in flight and items waiting under the key of a JinaClip."""

    def count(hub):
        destination = one._backend._destination  # None before its first call
        lane = hub._lanes.get(destination.limits) if destination is not None else None
        if lane is None:
            return 0, 0
        scheduler = lane.scheduler
        waiting = sum(queue.items for queue in scheduler._queues.values())
        return scheduler.in_flight, waiting + sum(len(departure.items) for departure in scheduler._retries)

    return on_hub(count) or (0, 0)


def calls():
    """Calls that the hub knows of."""
    return on_hub(lambda hub: len(hub._calls)) or 0


def tasks():
    """Tasks on the hub's loop."""
    return on_hub(lambda hub: len(asyncio.all_tasks(hub.loop))) or 0


def is_quiet(one):
    """Whether nothing is left of any call: no slot taken, nothing waiting, no task."""
    return (numbers(one), calls(), tasks()) == ((0, 0), 0, 0)


def reserved(one):
    """Tokens that a JinaClip has set aside for what is in flight."""
    return sum(reservation.tokens for reservation in one._meter._open_ones())


def threads(name="jinaclip"):
    """Names of the library's threads."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith(name))


def sockets():
    """Open sockets of this process."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the one of this listing
            count += str(link.readlink()).startswith("socket:")
    return count


def objects(*kinds):
    """Objects alive of each of these classes."""
    for _ in range(3):  # what ends a coroutine frees others
        gc.collect()
    found = gc.get_objects()
    return {kind.__name__: sum(type(one) is kind for one in found) for kind in kinds}


def received(server, requests=1):
    """Whether the service has seen so many requests, and has one in flight."""
    books = server.ledger()
    return books["requests"] >= requests and books["in_flight"] > 0


def is_left_alone(server):
    """Whether the service has nothing in flight: a request that hangs there ends with its connection."""
    return server.ledger()["in_flight"] == 0
