"""Those who call: threads, event loops, forked children, and those who are interrupted, cancelled and closed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from jinaclip import JinaClip
from tests.soak.calls import WIDTH, Call, Numbers, Tally, draw_call, draw_item

CHILD_CALLS = 3
SLACK_SECONDS = 30
"""Beyond the deadlines of its calls, after which a forked child is taken for stuck, and shows where."""
BUDGET = 10**12
"""Tokens, never reached; a budget so that there are reservations to leak."""


@dataclass
class Soak:
    """What all callers share.

    Attributes:
        deadline: seconds that a call may take.
        clips: objects that all use at once, some with the same key.
        stuck: children that did not end.
    """

    url: str
    timeout: float
    deadline: float
    tally: Tally = field(default_factory=Tally)
    numbers: Numbers = field(default_factory=Numbers)
    stop: threading.Event = field(default_factory=threading.Event)
    clips: list[JinaClip] = field(default_factory=list)
    stuck: int = 0
    children: int = 0

    def __post_init__(self) -> None:
        draw = random.Random(1)
        self.clips = [self.new_clip(f"shared_{number // 2}", draw) for number in range(6)]

    def new_clip(self, key: str, draw: random.Random) -> JinaClip:
        """An object with options of its own."""
        return JinaClip(
            api_key=f"jina_soak_{key}",
            base_url=self.url,
            dimensions=WIDTH,
            timeout=self.timeout,
            deadline=self.deadline,
            max_retries=draw.choice([2, 4, 8]),
            batch_size=draw.choice([None, None, 16]),
            max_concurrency=draw.choice([None, 4]),
            token_budget=BUDGET,
            cache=False,
        )

    def call(self, clip: JinaClip, draw: random.Random) -> None:
        """A call of this thread."""
        call = draw_call(draw, self.numbers)
        self.tally.judge(call, outcome_of(lambda: call.run(clip)))

    def warm_up(self) -> None:
        """A call of the main thread, with which modules are imported.

        A child that is forked while another thread imports a module waits for it for good: Python's own locks.
        """
        draw = random.Random(2)
        drawn = [draw_item(kind, draw, self.numbers) for kind in ("texts", "images", "pairs")]
        call = Call("embed", [item for item, _ in drawn], [row for _, row in drawn])
        self.tally.judge(call, outcome_of(lambda: call.run(self.clips[0])))


def outcome_of(run: Callable[[], Any]) -> Any:
    """What a function gives or raises."""
    try:
        return run()
    except BaseException as error:
        return error


def call_in_thread(soak: Soak, draw: random.Random) -> None:
    """Calls one after another."""
    while not soak.stop.is_set():
        soak.call(draw.choice(soak.clips), draw)


def call_in_loops(soak: Soak, draw: random.Random) -> None:
    """Event loops one after another, each with calls at once, of which some are cancelled or given up."""
    while not soak.stop.is_set():
        asyncio.run(call_at_once(soak, draw))


async def call_at_once(soak: Soak, draw: random.Random) -> None:
    tasks = [asyncio.create_task(acall(soak, draw, number)) for number in range(draw.choice([1, 4, 16]))]
    await asyncio.gather(*tasks)


async def acall(soak: Soak, draw: random.Random, number: int) -> None:
    call, clip, patience = draw_call(draw, soak.numbers), draw.choice(soak.clips), draw.uniform(0, 1)
    task = asyncio.ensure_future(call.arun(clip))
    try:
        if number % 4 == 1:
            outcome = await asyncio.wait_for(task, patience)
        elif number % 4 == 2:
            asyncio.get_running_loop().call_later(patience, task.cancel)
            outcome = await task
        else:
            outcome = await task
    except BaseException as error:
        outcome = error
    soak.tally.judge(call, outcome)


def close_amid_calls(soak: Soak, draw: random.Random) -> None:
    """Objects that are closed while they are at work."""
    while not soak.stop.is_set():
        clip = soak.new_clip(f"closed_{draw.randrange(4)}", draw)
        callers = [threading.Thread(target=soak.call, args=(clip, random.Random(draw.random()))) for _ in range(3)]
        for caller in callers:
            caller.start()
        soak.stop.wait(draw.uniform(0, 1))
        clip.close()
        for caller in callers:
            caller.join()
        clip.close()


def fork_amid_calls(soak: Soak, draw: random.Random) -> None:
    """Children that make calls with the objects of their parent, while it goes on."""
    while not soak.stop.wait(0.2):
        near, far = os.pipe()
        block, seed = soak.numbers.block(100_000), draw.random()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which is what is tried here
            child = os.fork()
        if child == 0:
            run_child(soak, random.Random(seed), block, far)
        os.close(far)
        soak.children += 1
        wait_for_child(soak, child, near)


def run_child(soak: Soak, draw: random.Random, numbers: Numbers, pipe: int) -> None:
    """A few calls, whose figures go through the pipe."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN) if threading.current_thread() is threading.main_thread() else None
        soak.tally, soak.numbers = Tally(), numbers
        for _ in range(CHILD_CALLS):
            soak.call(draw.choice(soak.clips), draw)
        os.write(pipe, json.dumps(soak.tally.figures()).encode())
    finally:
        os._exit(0)


def wait_for_child(soak: Soak, child: int, pipe: int) -> None:
    told = b""
    if select.select([pipe], [], [], CHILD_CALLS * soak.deadline + SLACK_SECONDS)[0]:
        told = os.read(pipe, 65536)
    os.close(pipe)
    if told:
        soak.tally.add(json.loads(told))
    else:
        soak.stuck += 1
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGUSR1)
            time.sleep(1)  # in which it prints its stacks
            os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


@contextmanager
def alarm() -> Iterator[None]:
    """SIGALRM is a Ctrl-C, in the main thread."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.signal(signal.SIGALRM, before)


def interrupt_calls(soak: Soak, draw: random.Random, end: float) -> None:
    """Calls of the main thread, of which most are interrupted at some moment; until `end` or `stop`."""
    with alarm():
        while time.monotonic() < end and not soak.stop.is_set():
            call, clip = draw_call(draw, soak.numbers), draw.choice(soak.clips)
            outcome = outcome_of(lambda: run_with_alarm(call.run, clip, draw.uniform(0.001, 0.4)))  # noqa: B023
            soak.tally.judge(call, outcome)


def run_with_alarm(run: Callable[[JinaClip], Any], clip: JinaClip, seconds: float) -> Any:
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        return run(clip)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


WORKERS = [call_in_thread, call_in_thread, call_in_loops, call_in_loops, close_amid_calls, fork_amid_calls]
