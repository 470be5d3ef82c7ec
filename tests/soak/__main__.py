"""Runs the soak and prints what became of every item: `python -m tests.soak`; see docs/reliability.md.

JINACLIP_TEST_SECONDS says for how long, 600 unless set. Ctrl-C ends it early, with its summary. The exit status is 1
if an item was lost, doubled or misplaced, if an error came out that is not ours, or if anything was leaked.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.soak.calls import Tally
from tests.soak.service import Remote, running
from tests.soak.workers import CHILD_CALLS, SLACK_SECONDS, WORKERS, Soak, interrupt_calls
from tests.watching import calls, numbers, reserved, sockets, tasks, threads

SECONDS = float(os.environ.get("JINACLIP_TEST_SECONDS", "600"))
RATE = 0.3
"""Share of the requests that go wrong, those with poisoned items apart."""
PROGRESS_SECONDS = 10
GROWTH = 100 * 2**20
"""Bytes that the process may grow by after a third of the time."""


def resident() -> int:
    """Bytes of this process in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Report:
    """Prints a line now and then, and notes the memory after a third of the time."""

    def __init__(self, soak: Soak, service: Remote) -> None:
        self.soak, self.service = soak, service
        self.start, self.early = time.monotonic(), 0

    def line(self) -> None:
        seconds, tally = time.monotonic() - self.start, self.soak.tally
        if not self.early and seconds >= SECONDS / 3:
            self.early = resident()
        print(
            f"{seconds:5.0f} s: {tally.reached:,} items reached in {tally.calls:,} calls, {tally.vectors:,} vectors, "
            f"{sum(tally.errors.values()):,} errors, {tally.lost} lost, {tally.doubled} doubled, "
            f"{tally.misplaced} misplaced; {self.service.books()['requests']:,} requests, {resident() >> 20} MiB",
            flush=True,
        )

    def watch(self) -> None:
        """The thread's work."""
        while not self.soak.stop.wait(min(PROGRESS_SECONDS, SECONDS / 3)):
            self.line()


def wait_for(condition, seconds: float = 30.0) -> bool:
    """Whether it holds within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def count_leaks(soak: Soak, workers: list[threading.Thread], sockets_before: int) -> dict[str, int]:
    """What is left of calls when they have all ended, and of objects when they are closed."""
    deadline = time.monotonic() + CHILD_CALLS * soak.deadline + 2 * SLACK_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
    leaks = {"callers that never ended": sum(worker.is_alive() for worker in workers), "children stuck": soak.stuck}
    gc.collect()
    wait_for(lambda: not (tasks() or calls() or any(numbers(one) != (0, 0) for one in soak.clips)))
    leaks["tasks"], leaks["calls"] = tasks(), calls()
    leaks["slots"] = sum(numbers(one)[0] for one in soak.clips)
    leaks["items waiting"] = sum(numbers(one)[1] for one in soak.clips)
    leaks["tokens reserved"] = sum(reserved(one) for one in soak.clips)
    for one in soak.clips:
        one.close()
    wait_for(lambda: not threads() and sockets() <= sockets_before)
    leaks["threads"], leaks["sockets"] = len(threads()), max(0, sockets() - sockets_before)
    return leaks


def ignore_interrupts(unraisable: Any) -> None:
    """An alarm may strike inside a callback of Python's own, which then prints it."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)


@contextmanager
def interruptible(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C ends the calls, and not the program."""
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    yield
    signal.signal(signal.SIGINT, before)


def print_summary(soak: Soak, service: Remote, leaks: dict[str, int], growth: int) -> bool:
    """The figures; gives whether all is well."""
    tally, books = soak.tally, service.books()
    faults = sum(books["faults"].values())
    print(f"\n{tally.reached:,} items reached in {tally.calls:,} calls, {soak.children:,} forked children among them")
    print(f"{tally.left:,} items more were of calls that were cancelled, interrupted or given up")
    print(f"{books['requests']:,} requests, {faults / max(1, books['requests']):.0%} faults: {books['faults']}")
    print(f"vectors: {tally.vectors:,}; errors: {dict(tally.errors)}")
    print(f"lost: {tally.lost}, doubled: {tally.doubled}, misplaced: {tally.misplaced}")
    twice = f"{sum(books['twice'].values()):,} of {books['answered']:,} that were answered"
    print(f"paid twice: {twice}; what was odd about the first answer: {books['twice'] or '-'}")
    print(f"leaked: {({name: count for name, count in leaks.items() if count}) or 0}")
    print(f"memory: {growth / 2**20:+.0f} MiB since a third of the time")
    for error, times in tally.foreign.items():
        print(f"not an error of ours, {times} times: {error}")
    return is_well(tally, leaks, growth)


def is_well(tally: Tally, leaks: dict[str, int], growth: int) -> bool:
    return not (tally.lost or tally.doubled or tally.misplaced or tally.foreign or any(leaks.values())) and (
        growth < GROWTH
    )


def main() -> int:
    faulthandler.register(signal.SIGUSR1)
    sys.unraisablehook = ignore_interrupts
    seed = int(time.time())
    print(f"seed {seed}, {SECONDS:.0f} s", flush=True)
    patience = min(5.0, SECONDS / 4)
    with running(RATE, slow=1.5 * patience, seed=seed) as service:
        before = sockets()
        soak = Soak(service.url, timeout=patience, deadline=min(20.0, SECONDS))
        draws = random.Random(seed)
        report = Report(soak, service)
        workers = [
            threading.Thread(target=work, args=(soak, random.Random(draws.random())), daemon=True) for work in WORKERS
        ]
        watcher = threading.Thread(target=report.watch, daemon=True)
        with interruptible(soak.stop):
            soak.warm_up()
            for thread in [watcher, *workers]:
                thread.start()
            interrupt_calls(soak, draws, time.monotonic() + SECONDS)
            soak.stop.set()
            watcher.join()
            leaks = count_leaks(soak, workers, before)
        growth = resident() - report.early if report.early else 0
        return 0 if print_summary(soak, service, leaks, growth) else 1


if __name__ == "__main__":
    sys.exit(main())
