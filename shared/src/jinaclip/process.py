"""What belongs to the process: threads of our own beside those of the caller's event loop, and the CPUs it may use."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Generic, ParamSpec, TypeVar

from jinaclip.errors import JinaClipError

P = ParamSpec("P")
R = TypeVar("R")
ENDING = "the process is ending; nothing can be embedded any more"
DYING_SECONDS = 60.0
LOOK_SECONDS = 0.5
"""How often one who waits looks whether it still makes sense: a thread that is killed sets no future."""


class Dropped(BaseException):
    """Nobody waits for this any more. No Exception, which on its way would be taken for one of a decoder."""


_is_wanted: ContextVar[Callable[[], bool]] = ContextVar("jinaclip_is_wanted", default=lambda: True)


def is_wanted() -> bool:
    """Whether anybody still waits for what this thread does. Who works for long asks, and raises Dropped if not."""
    return _is_wanted.get()()


def run_while(wanted: Callable[[], bool], function: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
    """What the function gives; meanwhile `is_wanted` says what `wanted` does."""
    token = _is_wanted.set(wanted)
    try:
        return function(*args, **options)
    finally:
        _is_wanted.reset(token)


def keep_for_good(thing: object) -> None:
    """Keeps an object of the parent's in a forked child, even at the end of the process: to free it would change more.

    A connection to SQLite would give up the parent's locks, and so would a lock of a file.
    """
    import numpy as np

    holder = np.empty(2, object)
    holder[:] = thing, holder  # a circle that no collector sees


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

    def forget(self) -> None:
        """Drops the functions that it would call, where it will not happen any more: they hold what is over."""
        with self._guard:
            if self._callbacks is not None:
                self._callbacks = []

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until it has happened, for so many seconds at most; gives whether it has."""
        ends_at = math.inf if seconds is None else time.monotonic() + seconds
        while not self.done() and (left := ends_at - time.monotonic()) > 0:
            if self._closed.acquire(timeout=min(left, LOOK_SECONDS)):
                self._closed.release()
        return self.done()


class Task(Generic[R]):
    """A function that runs once, in a thread, and what came of it.

    Attributes:
        done: set once it has run.
    """

    def __init__(self, function: Callable[[], R]) -> None:
        self.done = Latch()
        self._function: Callable[[], R] | None = function
        self._outcome: list[R] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        """Runs it; whatever it raises goes to whoever asks for the result."""
        function, self._function = self._function, None  # what it holds is let go with it
        try:
            if function is not None:
                self._outcome.append(function())
        except BaseException as error:  # noqa: BLE001  it goes to whoever waits
            self._error = error
        del function
        self.done.set()

    def result(self) -> R:
        """What the function gave. Raises what it raised."""
        try:
            if self._error is not None:
                raise self._error
            return self._outcome[0]
        finally:
            del self  # the frame is part of the error's traceback: a cycle


class OwnThread(threading.Thread):
    """A thread of ours. Signal handlers, and what they raise, run in the main thread and so never in one of these."""


def runs_in_own_thread() -> bool:
    """Whether this thread is one of ours."""
    return isinstance(threading.current_thread(), OwnThread)


def start_thread(name: str, function: Callable[P, object], *args: P.args, **options: P.kwargs) -> threading.Thread:
    """Runs a function in a daemon thread with the caller's context, so that nothing holds up the end of the program.

    Raises:
        JinaClipError: the process is ending, or may start no more threads.
    """
    context = contextvars.copy_context()

    def run() -> None:
        with suppress(asyncio.CancelledError):  # of the caller's own code; whoever waits is told, and no loop runs here
            context.run(function, *args, **options)

    thread = OwnThread(target=run, name=name, daemon=True)
    start(thread)
    return thread


def start(thread: threading.Thread) -> None:
    """Starts a thread. Raises as `start_thread`."""
    check_not_ending()
    outer = sys.exception()
    try:
        thread.start()
    except (RuntimeError, KeyError) as error:
        if error.__context__ not in (None, outer):  # a signal handler's, at a moment at which Python's own lock could
            raise error.__context__ from None  # not be given back, or its own note of the thread was gone already
        if isinstance(error, KeyError) or not is_of_start(error):
            raise
        if "shutdown" not in str(error):
            raise JinaClipError(f"no thread can be started: {error}") from None
        if threading.current_thread().daemon:
            time.sleep(DYING_SECONDS)  # it ends with the process, in a moment; an error would only be noise
        raise JinaClipError(ENDING) from None


def is_of_start(error: RuntimeError) -> bool:
    """Whether `Thread.start` itself raised this: what a signal handler raises has the handler's frame below that."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code is threading.Thread.start.__code__


def check_not_ending() -> None:
    """Whether the interpreter still works as a whole: at its end no thread runs and nothing can be imported.

    Raises:
        JinaClipError: it is ending.
    """
    if sys.is_finalizing():
        raise JinaClipError(ENDING)


def mark_coroutine_function(function: Callable[P, R]) -> Callable[P, R]:
    """For a function that works at the call and gives a coroutine: inspect takes it for `async def`, from 3.12 on."""
    mark: Callable[[Callable[P, R]], Callable[P, R]] | None = getattr(inspect, "markcoroutinefunction", None)
    return function if mark is None else mark(function)


async def run_in_thread(function: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
    """What the function gives, without blocking the event loop or taking a thread of its executor."""
    left: list[bool] = []
    task = Task(partial(run_while, lambda: not left, function, *args, **options))
    start_thread("jinaclip-work", task.run)
    try:
        await wait_until_done(task.done)
    finally:
        left.append(True)
    return task.result()


def run_apart(function: Callable[P, R], *args: P.args, **options: P.kwargs) -> R:
    """What the function gives, run in a thread of ours while this one waits.

    For calls into libraries whose exceptions we convert. What a signal handler raises in the main thread, or a task
    queue puts into a thread (Ctrl-C, a time limit), strikes anywhere and may be of any class, so no `except` can tell
    it from the library's own. Here it ends the waiting alone and comes through as it is; the function runs to its end,
    or until it asks `is_wanted`.
    """
    if runs_in_own_thread():
        return function(*args, **options)
    left: list[bool] = []
    task = Task(partial(run_while, lambda: not left, function, *args, **options))
    start_thread("jinaclip-work", task.run)
    try:
        task.done.wait()
    finally:
        left.append(True)
    return task.result()


async def wait_until_done(latch: Latch) -> None:
    """Waits for what happens in another thread. It may be cancelled, and its loop closed meanwhile.

    Raises:
        JinaClipError: no asyncio event loop runs here.
    """
    loop = running_loop()
    waiter = loop.create_future()

    latch.add_callback(partial(call_in_loop, loop, settle, waiter))
    await waiter


def call_in_loop(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *args: Any) -> None:
    """Calls a function in an event loop, from any thread; nothing if the loop is closed, as nobody waits there.

    Whatever else is raised passes, also a RuntimeError: a host's time limit, raised by a signal handler, may be one.
    """
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


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


def available_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may use: those it may run on, and no more than its cgroups grant, rounded up.

    Args:
        root: where `/proc` and `/sys` are.
    """
    granted = min(_cgroup_quotas(root), default=math.inf)
    return int(max(1, min(_usable_cpus(), math.ceil(granted) if granted < math.inf else math.inf)))


def _usable_cpus() -> int:
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cgroup_quotas(root: Path) -> Iterator[float]:
    """CPUs that each group of this process grants, its own and those around it; version 1 and version 2."""
    for line in _read_text(root / "proc/self/cgroup").splitlines():
        number, controllers, group = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            yield from (_quota_v2(folder) for folder in _groups(root / "sys/fs/cgroup", group))
        elif "cpu" in controllers.split(","):
            for mount in {"cpu", controllers}:
                yield from (_quota_v1(folder) for folder in _groups(root / "sys/fs/cgroup" / mount, group))


def _groups(mount: Path, group: str) -> Iterator[Path]:
    """Folders of a group and of those around it. Inside a container the mount may itself be the group."""
    path = PurePosixPath("/", *(part for part in group.split("/") if part not in ("", "..")))
    for one in (path, *path.parents):
        yield mount / one.relative_to("/")


def _quota_v2(folder: Path) -> float:
    return _quota(*[*_read_text(folder / "cpu.max").split(), "", ""][:2])


def _quota_v1(folder: Path) -> float:
    return _quota(*(_read_text(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")))


def _quota(quota: str, period: str) -> float:
    """CPUs that so many microseconds of each period amount to; infinite where there is no limit."""
    if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
        return int(quota) / int(period)
    return math.inf


def _read_text(path: Path) -> str:
    """The content of a file of the kernel; empty if there is none."""
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
