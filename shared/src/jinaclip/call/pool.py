"""The threads of the process that work for all callers in turn, and the pixels that they may hold at a time.

Callers may be in the main thread, where the exceptions of signal handlers strike anywhere. So what they do here is
single steps that are done or not done, without a lock; whatever needs a lock is done by the threads.
"""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from jinaclip.errors import ConfigError, JinaClipError
from jinaclip.numeric import is_whole
from jinaclip.process import Dropped, Latch, OwnThread, Task, available_cpus, run_while, start

R = TypeVar("R")
PIXEL_BUDGET = 120_000_000
SPARE_THREADS = 1
"""For images, beside one for each CPU: it works while another waits for the cache, a file or the interpreter."""
IDLE_SECONDS = 2.0
"""After which a thread without work ends."""
CHECK_SECONDS = 0.05
"""How often one who waits for pixels looks whether anybody still wants them."""
FETCH_THREADS = 64
"""Downloads of the process at a time: they wait for others' servers, not for a CPU."""
FETCHES = 16
"""Downloads of one call at a time, so that servers that hang hold up nobody else's."""
DRAW_THREADS = 32
"""Pages of the process at a time that are drawn by processes of their own, which may take long."""
DRAWINGS = 8
"""Pages of one call at a time, and no more than there are threads for images."""


class CallQueue:
    """What one call has waiting at a pool. Its turn comes after those of the others.

    Args:
        limit: most of its tasks that run at a time.

    Attributes:
        closed: whether nobody wants the rest any more.
    """

    def __init__(self, limit: float = math.inf) -> None:
        self.limit, self.closed = limit, False
        self.tasks: deque[Task[Any]] = deque()
        self.running = 0
        self.in_turn = False  # these two belong to the threads of the pool, under its lock

    @property
    def ready(self) -> bool:
        """Whether a task of it may run now."""
        return bool(self.tasks) and not self.closed and self.running < self.limit

    def is_open(self) -> bool:
        """Whether anybody waits for what has begun, or is to."""
        return not self.closed

    def close(self) -> None:
        """Drops what has not begun."""
        self.closed = True
        self.tasks.clear()


class Pool:
    """Daemon threads that run tasks: one of each queue in turn. They start when there is work and end when idle.

    Args:
        name: of the threads.
        size: most threads; None until it is asked for the first time means one more than the CPUs it may use.
    """

    def __init__(self, name: str, size: int | None = None) -> None:
        self._name, self._size = name, size
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._first: threading.Thread | None = None  # started by a caller, not among the threads yet
        self._idle = 0
        self._tokens: SimpleQueue[None] = SimpleQueue()  # one for each time that somebody should look for work
        self._arrivals: deque[CallQueue] = deque()  # queues that got work
        self._turns: deque[CallQueue] = deque()

    @property
    def size(self) -> int:
        """Most threads."""
        if self._size is None:
            self._size = available_cpus() + SPARE_THREADS  # reads files, so not before it is needed
        return self._size

    def resize(self, size: int) -> None:
        """Allows so many threads from now on; surplus ones end after their work."""
        self._size = size
        for _ in range(max(size, len(self._threads))):
            self._tokens.put(None)

    def submit(self, queue: CallQueue, task: Task[Any]) -> None:
        """Lets a task wait for the turn of its queue.

        Raises:
            JinaClipError: the process is ending, or may start no threads.
        """
        queue.tasks.append(task)
        self._arrivals.append(queue)
        self._tokens.put(None)
        self.ensure()

    def ensure(self) -> None:
        """Starts a thread if none is idle and there may be more."""
        if self._idle or len(self._threads) >= self.size:
            return
        first = self._first
        if first is None or not first.is_alive():
            self._first = thread = self._new_thread()
            start(thread)

    def _new_thread(self) -> threading.Thread:
        return OwnThread(target=self._serve, name=self._name, daemon=True)

    def _serve(self) -> None:
        own = threading.current_thread()
        with self._lock:
            self._threads.add(own)
            self._first = None
        while self._await_token() and not self._is_surplus():
            queue, task = self._take()
            if queue is not None and task is not None:
                self._grow()
                run_while(queue.is_open, task.run)
                self._note_end(queue)
            del queue, task  # not to hold an image while waiting for the next
        with self._lock:
            self._threads.discard(own)
        if not self._tokens.empty():  # it came while this thread left, and whoever put it there saw this thread
            with suppress(JinaClipError):
                self.ensure()

    def _await_token(self) -> bool:
        """Waits until there may be work; False if none came for long."""
        with self._lock:
            self._idle += 1
        try:
            self._tokens.get(timeout=IDLE_SECONDS)
        except Empty:
            return False
        finally:
            with self._lock:
                self._idle -= 1
        return True

    def _is_surplus(self) -> bool:
        """Whether there are more threads than allowed; if so, the token is another one's."""
        if len(self._threads) <= self.size:
            return False
        self._tokens.put(None)
        return True

    def _take(self) -> tuple[CallQueue, Task[Any]] | tuple[None, None]:
        """The next task of the queue whose turn it is; not one if somebody dropped it."""
        with self._lock:
            while self._arrivals:
                self._enlist(self._arrivals.popleft())
            while self._turns:
                queue = self._turns.popleft()
                queue.in_turn = False
                if queue.ready:
                    with suppress(IndexError):  # closed at this moment
                        task = queue.tasks.popleft()
                        queue.running += 1
                        self._enlist(queue)
                        return queue, task
        return None, None

    def _enlist(self, queue: CallQueue) -> None:
        if queue.ready and not queue.in_turn:
            queue.in_turn = True
            self._turns.append(queue)

    def _note_end(self, queue: CallQueue) -> None:
        with self._lock:
            queue.running -= 1
            self._enlist(queue)
        if queue.ready:
            self._tokens.put(None)  # that of its next task may have been spent while it was at its limit

    def _grow(self) -> None:
        """Starts another thread if there is more to do and none is idle."""
        thread = self._new_thread()
        with self._lock:
            if self._tokens.empty() or self._idle or len(self._threads) >= self.size:
                return
            self._threads.add(thread)
        try:
            start(thread)
        except JinaClipError:  # no more threads may be started: those that run do it all
            with self._lock:
                self._threads.discard(thread)


class PixelClaim:
    """One image that waits for pixels, or holds them."""

    def __init__(self, pixels: int) -> None:
        self.pixels, self.granted = pixels, Latch()


class Budget:
    """Pixels that may be decoded at a time; who asks first gets first. Used by the threads of pools alone."""

    def __init__(self, size: int = PIXEL_BUDGET) -> None:
        self._size, self._taken = size, 0
        self._lock = threading.Lock()
        self._claims: deque[PixelClaim] = deque()

    def resize(self, size: int) -> None:
        """Allows so many pixels from now on; who waits sees it at the next look."""
        self._size = size

    def reserve(self, pixels: int, queue: CallQueue) -> PixelClaim:
        """Waits for so many pixels. More than the whole budget are granted once nobody else has any.

        Raises:
            Dropped: the queue was closed meanwhile.
        """
        claim = PixelClaim(pixels)
        with self._lock:
            self._claims.append(claim)
            self._admit()
        while not claim.granted.wait(CHECK_SECONDS):
            if queue.closed:
                self.release(claim)
                raise Dropped
            with self._lock:
                self._admit()
        return claim

    def release(self, claim: PixelClaim) -> None:
        """Gives back what a claim holds, or the claim itself if it still waits."""
        with self._lock:
            if claim.granted.done():
                self._taken -= claim.pixels
            else:
                self._claims.remove(claim)
            self._admit()

    def _admit(self) -> None:
        while self._claims and (not self._taken or self._taken + self._claims[0].pixels <= self._size):
            claim = self._claims.popleft()
            self._taken += claim.pixels
            claim.granted.set()


class Reservation:
    """The pixels of one image, reserved once their number is known and given back at the end."""

    def __init__(self, budget: Budget, queue: CallQueue) -> None:
        self._budget, self._queue = budget, queue
        self._claim: PixelClaim | None = None

    @property
    def pixels(self) -> int:
        """That it holds."""
        return self._claim.pixels if self._claim is not None else 0

    def reserve(self, pixels: int) -> None:
        """Waits for so many pixels. Raises Dropped if nobody wants the image any more."""
        if self._claim is None:
            self._claim = self._budget.reserve(pixels, self._queue)

    def release(self) -> None:
        """Gives them back."""
        if self._claim is not None:
            self._budget.release(self._claim)
            self._claim = None


class Preparation:
    """The pools and the budget of the process."""

    def __init__(self, threads: int | None = None, pixels: int = PIXEL_BUDGET) -> None:
        self.pid = os.getpid()
        self.images, self.fetches = Pool("jinaclip-images", threads), Pool("jinaclip-fetch", FETCH_THREADS)
        self.drawings = Pool("jinaclip-draw", DRAW_THREADS)
        self.budget = Budget(pixels)

    @contextmanager
    def reservation(self, queue: CallQueue) -> Iterator[Reservation]:
        """A reservation that ends with the context."""
        reservation = Reservation(self.budget, queue)
        try:
            yield reservation
        finally:
            reservation.release()


class Settings:
    """What `configure` was told, and the threads that work by it."""

    def __init__(self) -> None:
        self.threads: int | None = None
        self.pixels = PIXEL_BUDGET
        self.preparation = Preparation()

    def renew(self) -> None:
        """Starts afresh in a forked child, where the parent's threads are not, and its locks may be held."""
        self.preparation = Preparation(self.threads, self.pixels)


_settings = Settings()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_settings.renew)


def preparation() -> Preparation:
    """The pools and the budget of this process."""
    return _settings.preparation


def configure(*, prepare_threads: int | None = None, pixel_budget: int | None = None) -> None:
    """Sets what preparing images may take, for the whole process and from now on, also while calls run.

    Memory that preparing takes is bounded, whatever the number of callers, by the sum of
    - 24 bytes * `pixel_budget`, or * the pixels of the largest image, if that is more; or, as glibc keeps for each
      thread what it has freed (not with MALLOC_MMAP_THRESHOLD_=1000000 in the environment of the process),
      * `prepare_threads` * the pixels of the largest image, if that is more still,
    - 2 * `prepare_threads` * `image_policy.max_bytes`,
    - for each page of a PDF file that is drawn, in a process of its own, that process: 50 MB, twice its file and about
      8 bytes for each pixel of the page, where the system can limit that never over 2 GiB and four times its file; of a
      call at most 8 at a time and no more than `prepare_threads`, of all 32,
    - for each call under way what it has ready: 4 * `prepare_threads` images as they are sent, or of 12 bytes a pixel
      of the model's square on the local backend, and the files of up to 16 URLs,
    where an image of W x H counts as (W + 2) * H pixels, and at most 4 * S * S for scaling it to the S x S of the
    model. `image_policy.max_pixels` so bounds the largest one, but for a column of few pixels' width, whose rows weigh
    more than its pixels. With the defaults, and every image of 120 megapixels, it is 2.9 GB, under glibc a thread.

    Args:
        prepare_threads: most threads that open, resize and encode images; None leaves it. Of each call as many more, 8
            at most, wait for pages that other processes draw. At first one more than the CPUs that the process may use:
            its CPU affinity and the quota of its cgroups count, not the CPUs of the machine.
        pixel_budget: most pixels that are decoded at a time, all callers together; None leaves it. At first
            120 million. An image waits until its pixels fit in; one that is larger than all of it goes alone.

    Raises:
        ConfigError: a value is no whole number from 1.
    """
    _check("prepare_threads", prepare_threads)
    _check("pixel_budget", pixel_budget)
    if prepare_threads is not None:
        _settings.threads = int(prepare_threads)
        _settings.preparation.images.resize(_settings.threads)
    if pixel_budget is not None:
        _settings.pixels = int(pixel_budget)
        _settings.preparation.budget.resize(_settings.pixels)


def _check(name: str, value: Any) -> None:
    if value is not None and (not is_whole(value) or value < 1):
        raise ConfigError(f"{name}={value!r} must be a whole number from 1", option=name)
