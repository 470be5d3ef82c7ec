"""What belongs to the process: threads of our own, beside those of the caller's event loop."""

from __future__ import annotations

import asyncio
import contextvars
import math
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import ParamSpec, TypeVar

from jinaclip.errors import JinaClipError

P = ParamSpec("P")
R = TypeVar("R")
ENDING = "the process is ending; nothing can be embedded any more"
DYING_SECONDS = 60.0
LOOK_SECONDS = 0.5
"""How often one who waits looks whether it still makes sense: a thread that is killed sets no future."""


class Latch:
    """Something that happens once, for threads of callers and of ours to wait for.

    A `concurrent.futures.Future` would do, were it not for exceptions of signal handlers, such as KeyboardInterrupt or
    the time limit of a task queue: its lock is taken by a function in Python, and an exception that strikes there
    leaves it taken for ever, so that whoever else needs it stands still. Here all locks are taken in C.
    """

    def __init__(self) -> None:
        self._closed = threading.Lock()  # until it happens
        self._closed.acquire()
        self._guard = threading.RLock()  # a finalizer may come here while this thread is inside
        self._callbacks: list[Callable[[], object]] | None = []

    def done(self) -> bool:
        """Whether it has happened."""
        return self._callbacks is None

    def set(self) -> None:
        """Lets it happen, if it has not."""
        with self._guard:
            callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            self._closed.release()
            for callback in callbacks:
                callback()

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Calls a function once it happens, in the thread of `set`; now, if it has happened."""
        with self._guard:
            if self._callbacks is not None:
                self._callbacks.append(callback)
                return
        callback()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until it has happened, for so many seconds at most; gives whether it has."""
        ends_at = math.inf if seconds is None else time.monotonic() + seconds
        while not self.done() and (left := ends_at - time.monotonic()) > 0:
            if self._closed.acquire(timeout=min(left, LOOK_SECONDS)):
                self._closed.release()
        return self.done()


def start_thread(name: str, function: Callable[P, object], *args: P.args, **options: P.kwargs) -> threading.Thread:
    """Runs a function in a daemon thread with the caller's context, so that nothing holds up the end of the program.

    Raises:
        JinaClipError: the process is ending, or may start no more threads.
    """
    context = contextvars.copy_context()

    def run() -> None:
        with suppress(asyncio.CancelledError):  # of the caller's own code; whoever waits is told, and no loop runs here
            context.run(function, *args, **options)

    thread = threading.Thread(target=run, name=name, daemon=True)
    start(thread)
    return thread


def start(thread: threading.Thread) -> None:
    """Starts a thread. Raises as `start_thread`."""
    check_not_ending()
    try:
        thread.start()
    except RuntimeError as error:
        if "shutdown" not in str(error):
            raise JinaClipError(f"no thread can be started: {error}") from None
        if threading.current_thread().daemon:
            time.sleep(DYING_SECONDS)  # it ends with the process, in a moment; an error would only be noise
        raise JinaClipError(ENDING) from None


def check_not_ending() -> None:
    """Whether the interpreter still works as a whole: at its end no thread runs and nothing can be imported.

    Raises:
        JinaClipError: it is ending.
    """
    if sys.is_finalizing():
        raise JinaClipError(ENDING)


async def run_in_thread(function: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
    """What the function gives, without blocking the event loop or taking a thread of its executor."""
    done, outcome = Latch(), Future[R]()

    def run() -> None:
        try:
            outcome.set_result(function(*args, **options))
        except BaseException as error:  # noqa: BLE001  it goes to whoever waits
            outcome.set_exception(error)
        done.set()

    start_thread("jinaclip-work", run)
    await wait_until_done(done)
    return outcome.result()


async def wait_until_done(latch: Latch) -> None:
    """Waits for what happens in another thread. It may be cancelled, and its loop closed meanwhile.

    Raises:
        JinaClipError: no asyncio event loop runs here.
    """
    loop = running_loop()
    waiter = loop.create_future()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, waiter)

    latch.add_callback(wake)
    await waiter


def settle(waiter: asyncio.Future[None]) -> None:
    """Ends a future, unless it has ended."""
    if not waiter.done():
        waiter.set_result(None)


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that runs here.

    Raises:
        JinaClipError: none does; trio's is none of asyncio's.
    """
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise JinaClipError(
            "the async methods need a running asyncio event loop; under trio call the sync ones in a thread "
            "(trio.to_thread.run_sync)"
        ) from None
