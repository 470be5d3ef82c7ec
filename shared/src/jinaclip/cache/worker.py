"""The thread that works on a store, so that no caller's thread or event loop waits for a disk of its own accord."""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, groupby
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from jinaclip.cache.store import Store, StoreError
from jinaclip.errors import JinaClipError
from jinaclip.process import LOOK_SECONDS, Task, check_not_ending, start_thread

R = TypeVar("R")
Entries = Mapping[bytes, bytes]
logger = logging.getLogger("jinaclip")
IDLE_SECONDS = 5.0
"""After which the file is closed and the thread ends."""
AT_ONCE = 256
"""Entries that are written in one transaction, unless more came together: 30 ms, for which those who read wait."""
MOST_PENDING = 16_384
"""Entries that wait to be written, 64 MB of vectors; what comes while there are more is not kept."""
PAUSE_SECONDS = 5.0
"""For which nothing is read, or nothing written, after that failed."""
FORK_SECONDS = 5.0
"""For which a fork waits until the store can be left alone; a child for which it could not goes without it."""
FLUSH_SECONDS = 10.0
"""At the end of the process, for what is not written yet."""


class Attempts:
    """What is tried on a store: not again for a while once it failed.

    Args:
        warn: tells people.
    """

    def __init__(self, warn: Callable[[str], None]) -> None:
        self._pause_until = 0.0
        self._warn = warn

    @property
    def pause(self) -> bool:
        """Whether it failed a moment ago."""
        return time.monotonic() < self._pause_until

    def go_on(self) -> None:
        """Ends the pause, unless it was for good."""
        if self._pause_until < math.inf:
            self._pause_until = 0.0

    def stop(self) -> None:
        """Tries nothing any more."""
        self._pause_until = math.inf

    def run(self, function: Callable[[], R]) -> R | None:
        """What a function gives; None if the store fails, or failed a moment ago."""
        if self.pause:
            return None
        try:
            return function()
        except StoreError as error:
            text = str(error)
        except Exception as error:  # a store may be anybody's
            logger.debug("the cache failed", exc_info=True)
            text = f"the cache fails with {type(error).__name__}"
        self._pause_until = time.monotonic() + PAUSE_SECONDS
        self._warn(text)
        return None


class Worker:
    """Reads and writes a store. What is to be written waits in memory, where it is found meanwhile.

    A store that fails costs nothing but its entries. Methods may be called from any thread.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._reading, self._writing = Attempts(self._warn), Attempts(self._warn)
        self._has_warned = False
        self._jobs: SimpleQueue[Task[Any]] = SimpleQueue()
        self._pending: dict[bytes, Entries] = {}  # by key; each step on it is a single one of the interpreter's
        self._will_write = False
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()  # held by threads of ours, while they work on the store; and by who forks
        self._is_held = True
        _workers[id(self)] = self

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The entries that there are of these keys, also those that are not written yet. Blocks; never raises."""
        found = {key: entries[key] for key in keys if (entries := self._pending.get(key)) is not None}
        rest = [key for key in keys if key not in found] if found else keys
        if rest and not self._reading.pause:
            found |= self._run(partial(self._read, rest)) or {}
        return found

    def put_many(self, entries: Entries) -> None:
        """Keeps entries, soon; nobody may change them. Returns at once; never raises."""
        if len(self._pending) > MOST_PENDING:
            self._warn(f"the cache {self.store.name} takes nothing in as fast as vectors come")
        else:
            self._pending.update(dict.fromkeys(entries, entries))
        with suppress(JinaClipError):
            self._write_soon()

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Drops entries, soon. Returns at once; never raises."""
        for key in keys:
            self._pending.pop(key, None)
        with suppress(JinaClipError):
            self._submit(Task(lambda: self._writing.run(lambda: self.store.delete_many(keys))))

    def ask(self, function: Callable[[], R]) -> R:
        """What a function of the store gives, after all that was put before is written.

        Raises:
            StoreError: the store fails.
            JinaClipError: the process is ending.
        """
        self.flush(FLUSH_SECONDS)
        task = Task(function)
        self._submit(task)
        self._wait(task)
        return task.result()

    def flush(self, seconds: float) -> bool:
        """Waits until all that was put is written, for so many seconds at most; gives whether it is."""
        ends_at = time.monotonic() + seconds
        with suppress(JinaClipError):
            while self._pending and not self._writing.pause and (left := ends_at - time.monotonic()) > 0:
                task = Task(self._write)
                self._submit(task)
                task.done.wait(left)
        return not self._pending

    def close(self) -> None:
        """Writes what there is, also if that failed a moment ago, and lets go of the store until it is needed again."""
        self._writing.go_on()
        self.flush(FLUSH_SECONDS)
        if self._thread is not None:
            self._run(self._close)

    def hold(self) -> None:
        """Before a fork, in the thread that forks: waits until nothing is done on the store.

        What a library such as SQLite has locked in the middle of something, it would have locked in the child for ever.
        """
        self._is_held = self._lock.acquire(timeout=FORK_SECONDS)

    def release(self) -> None:
        """After the fork."""
        with suppress(RuntimeError):  # it was not to be had
            self._lock.release()

    def renew(self) -> None:
        """In a forked child: what the parent has open or to write is the parent's."""
        self._jobs, self._thread, self._lock = SimpleQueue(), None, threading.RLock()
        self._pending, self._will_write = {}, False
        self.store.forget()
        if not self._is_held:
            self._reading.stop()
            self._writing.stop()

    # -- the thread

    def _run(self, function: Callable[[], R]) -> R | None:
        """What a function gives in the thread; None if the process is ending."""
        task = Task(function)
        try:
            self._submit(task)
            self._wait(task)
        except JinaClipError:
            return None
        return task.result()

    def _wait(self, task: Task[Any]) -> None:
        while not task.done.wait(LOOK_SECONDS):
            check_not_ending()
            self._ensure()

    def _submit(self, task: Task[Any]) -> None:
        self._jobs.put(task)
        self._ensure()

    def _ensure(self) -> None:
        thread = self._thread
        if thread is None or not thread.is_alive():
            self._thread = start_thread("jinaclip-cache", self._serve)  # two at a time do no harm: see the lock
            close_at_end_of_child()

    def _serve(self) -> None:
        while True:
            try:
                task = self._jobs.get(timeout=IDLE_SECONDS)
            except Empty:
                break
            with self._lock:
                task.run()
            del task
        with self._lock:
            self._close()
        self._thread = None
        if not self._jobs.empty():  # it came while this thread left
            self._ensure()

    def _write_soon(self) -> None:
        if not self._will_write or self._jobs.empty():  # an exception in this thread may have come between the two
            self._will_write = True
            self._jobs.put(Task(self._write_on))
        self._ensure()

    def _write_on(self) -> None:
        """Writes some of what waits, and comes again for the rest, after what is to be read by then."""
        self._will_write = False
        if self._write() and self._pending:
            self._write_soon()

    def _write(self) -> bool:
        """Writes some of what waits; gives whether it did."""
        some = self._first_pending()
        if some and not self._writing.run(partial(self._put, merge([self._current(entries) for entries in some]))):
            return False
        for entries in some:
            for key in entries:
                if self._pending.get(key) is entries:
                    self._pending.pop(key, None)
        return True

    def _current(self, entries: Entries) -> Entries:
        """Those of entries that were neither dropped nor put anew since."""
        if all(self._pending.get(key) is entries for key in entries):
            return entries
        return {key: entries[key] for key in entries if self._pending.get(key) is entries}

    def _first_pending(self) -> list[Entries]:
        """What has waited longest: entries that came together, and more as long as they are few."""
        some, count = list[Entries](), 0
        for _, same in groupby(self._pending.copy().values(), id):
            entries = next(same)
            count += len(entries)
            if some and count > AT_ONCE:
                break
            some.append(entries)
        return some

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        return self._reading.run(lambda: self.store.get_many(keys)) or {}

    def _close(self) -> None:
        """Also when the store failed a moment ago."""
        Attempts(self._warn).run(self.store.close)

    def _warn(self, text: str) -> None:
        """Says what failed, once."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning("%s; embedding goes on without it", text)

    def _put(self, entries: Entries) -> bool:
        self.store.put_many(entries)
        return True


def merge(some: Sequence[Entries]) -> Entries:
    """All entries of some; the later one of a key counts."""
    return some[0] if len(some) == 1 else dict(chain.from_iterable(entries.items() for entries in some))


_workers: weakref.WeakValueDictionary[int, Worker] = weakref.WeakValueDictionary()


def _living() -> list[Worker]:
    return [worker for reference in _workers.valuerefs() if (worker := reference()) is not None]


_forking = threading.RLock()


def _hold_all() -> None:
    _forking.acquire()
    for worker in _living():
        worker.hold()


def _release_all() -> None:
    for worker in _living():
        worker.release()
    _forking.release()


def _renew_all() -> None:
    global _forking
    _forking = threading.RLock()
    for worker in _living():
        worker.renew()


def close_at_end_of_child() -> None:
    """`multiprocessing` ends its children without atexit, before Python 3.14."""
    parent = getattr(sys.modules.get("multiprocessing"), "parent_process", None)
    if parent is not None and parent() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _close_all, exitpriority=1)


@atexit.register
def _close_all() -> None:
    for worker in _living():
        worker.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_all, after_in_parent=_release_all, after_in_child=_renew_all)
