"""One copy of the weights for the whole process, and one thread that runs them.

Callers hand in single texts and pictures; the thread merges what is waiting, whoever asked, into batches of like
length. So many small calls at once cost about one batch, no text pads another far beyond its length, and a query does
not stand behind a whole bulk job: callers take turns.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from jinaclip.backends.local.towers.checkpoint import Towers
from jinaclip.errors import ConfigError, JinaClipError

TOKENS = {"cpu": 2048}
"""Padded tokens in one pass: on a CPU enough to keep the matrix units busy, elsewhere (`MANY_TOKENS`) far more."""
MANY_TOKENS = 65_536
PICTURES = {"cpu": 4}
MANY_PICTURES = 64
SLACK = 16
"""Tokens by which the lengths of a batch may always differ."""
RATIO = 0.8
"""Beyond that, a text joins only a batch whose first text is at least this share of its length, or it of its."""
WAITING = {"text": 4096, "picture": 32}
"""Tasks a caller may have waiting, so that memory follows the batches and not the input."""
PATIENCE = 10.0
"""Seconds that the end of the process waits for a pass under way."""


@dataclass(slots=True, eq=False)
class Caller:
    """Who asked: where vectors and failures go, and how many of its items one pass may take."""

    deliver: Callable[[list[Task], NDArray[np.float32]], None]
    fail: Callable[[Exception], None]
    most: int
    waiting: deque[Task] = field(default_factory=deque)
    gone: bool = False


@dataclass(slots=True, eq=False)
class Task:
    """One text as token ids, or one picture as float32 of shape (3, S, S)."""

    caller: Caller
    index: int
    ids: Sequence[int] = ()
    pixels: NDArray[np.float32] | None = None

    @property
    def length(self) -> int:
        """Tokens; 0 for a picture."""
        return len(self.ids)


class Engine:
    """Runs the towers for all callers. The thread ends, and the weights go, when nobody holds the engine any more."""

    def __init__(self, towers: Towers) -> None:
        self.towers = towers
        self._desk = Desk(towers)
        self._desk.start()
        weakref.finalize(self, self._desk.close)

    def submit(self, tasks: list[Task], *, patient: bool = True) -> None:
        """Queues tasks of one caller; waits while too many of its own are waiting, unless it must not block."""
        self._desk.put(tasks, patient=patient)

    def withdraw(self, caller: Caller) -> None:
        """Forgets what a caller has waiting."""
        self._desk.withdraw(caller)


_desks: weakref.WeakSet[Desk] = weakref.WeakSet()
_threads: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


@atexit.register
def _end_all() -> None:
    """A thread that is still in torch, be it to free the weights, while the interpreter ends can abort the process."""
    for desk in list(_desks):
        desk.close()
    for thread in list(_threads):
        thread.join(PATIENCE)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_desks.clear)  # their threads are not there, their locks may be held


class Desk:
    """The queue and the thread behind it. It does not know the engine, so that the engine can be collected."""

    def __init__(self, towers: Towers) -> None:
        self._towers = towers
        self._device = towers.device.type
        self._callers: deque[Caller] = deque()
        self._changed = threading.Condition()
        self._open = True
        self._pid = os.getpid()

    def start(self) -> None:
        """Starts the thread."""
        thread = threading.Thread(target=self.serve, name="jinaclip-engine", daemon=True)
        _desks.add(self)
        _threads.add(thread)
        thread.start()

    def put(self, tasks: list[Task], *, patient: bool) -> None:
        """Queues tasks of one caller."""
        caller = tasks[0].caller
        most = WAITING["text" if tasks[0].pixels is None else "picture"]
        with self._changed:
            while patient and self._open and len(caller.waiting) >= most:
                self._changed.wait()
            if caller.gone:
                return
            if not self._open:
                caller.fail(JinaClipError("the process is ending; nothing can be embedded any more"))
                return
            if not caller.waiting:
                self._callers.append(caller)
            caller.waiting.extend(tasks)
            self._changed.notify_all()

    def withdraw(self, caller: Caller) -> None:
        """Forgets what a caller has waiting."""
        with self._changed:
            caller.gone = True
            caller.waiting.clear()
            if caller in self._callers:
                self._callers.remove(caller)
            self._changed.notify_all()

    def close(self) -> None:
        """Lets the thread end."""
        if self._pid != os.getpid():
            return  # a forked child: the lock may be held by a thread that is not there
        with self._changed:
            self._open = False
            left, self._callers = list(self._callers), deque()
            self._changed.notify_all()
        for caller in left:
            caller.fail(JinaClipError("the process is ending; nothing can be embedded any more"))

    def serve(self) -> None:
        """Runs batches until closed."""
        while (batch := self._next()) is not None:
            self._run(batch)
            del batch  # not to hold pictures while waiting for the next

    def _next(self) -> list[Task] | None:
        with self._changed:
            while self._open and not self._callers:
                self._changed.wait()
            if not self._open:
                return None
            batch = self._pick(self._callers[0])
            self._callers = deque(caller for caller in self._callers if caller.waiting)
            self._callers.rotate(-1)
            self._changed.notify_all()
            return batch

    def _pick(self, first: Caller) -> list[Task]:
        """The oldest task of the caller whose turn it is, and from all callers what fits beside it."""
        oldest = first.waiting[0]
        alike = [task for caller in self._callers for task in caller.waiting if fits(task, oldest)]
        alike.sort(key=lambda task: (task is not oldest, abs(task.length - oldest.length)))
        batch = alike[: self._room(alike, first.most)]
        chosen = set(map(id, batch))
        for caller in {id(task.caller): task.caller for task in batch}.values():
            caller.waiting = deque(task for task in caller.waiting if id(task) not in chosen)
        return batch

    def _room(self, tasks: list[Task], most: int) -> int:
        """How many of the tasks, in this order, fit one pass."""
        if tasks[0].pixels is not None:
            return min(most, PICTURES.get(self._device, MANY_PICTURES))
        longest, budget = 0, TOKENS.get(self._device, MANY_TOKENS)
        for count, task in enumerate(tasks[:most]):
            longest = max(longest, task.length)
            if count and longest * (count + 1) > budget:
                return count
        return min(most, len(tasks))

    def _run(self, batch: list[Task]) -> None:
        try:
            rows = self._embed(batch)
        except torch.OutOfMemoryError:
            self._run_halves(batch)
        except Exception as error:  # noqa: BLE001  whatever torch raises, the callers must hear of it
            fail(batch, JinaClipError(f"the model failed: {type(error).__name__}: {str(error)[:300]}"))
        else:
            deliver(batch, rows)

    def _run_halves(self, batch: list[Task]) -> None:
        if len(batch) == 1:
            fail(batch, ConfigError(f"out of memory on {self._device} with a single item; use a smaller dtype"))
            return
        middle = len(batch) // 2
        self._run(batch[:middle])
        self._run(batch[middle:])

    def _embed(self, batch: list[Task]) -> NDArray[np.float32]:
        if batch[0].pixels is not None:
            pixels = torch.from_numpy(np.stack([task.pixels for task in batch if task.pixels is not None]))
            return as_rows(self._towers.vision(pixels.to(self._towers.device, non_blocking=True)))
        ids = np.full((len(batch), max(task.length for task in batch)), self._towers.pad_id, np.int64)
        mask = np.zeros_like(ids)
        for row, task in enumerate(batch):
            ids[row, : task.length], mask[row, : task.length] = task.ids, 1
        device = self._towers.device
        return as_rows(self._towers.text(torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)))


def fits(task: Task, first: Task) -> bool:
    """Whether a task may share a pass with the first one: both pictures, or texts of like length."""
    if (task.pixels is None) != (first.pixels is None):
        return False
    short, long = sorted((task.length, first.length))
    return long - short <= SLACK or short >= RATIO * long


def as_rows(vectors: torch.Tensor) -> NDArray[np.float32]:
    """A tensor of the towers as a numpy matrix."""
    return vectors.float().cpu().numpy()


def deliver(batch: list[Task], rows: NDArray[np.float32]) -> None:
    """Gives each caller its rows."""
    for caller in {id(task.caller): task.caller for task in batch}.values():
        own = [row for row, task in enumerate(batch) if task.caller is caller]
        try:
            caller.deliver([batch[row] for row in own], rows[own])
        except Exception as error:  # noqa: BLE001  a progress bar, say: one caller's trouble must not end the thread
            caller.fail(error)


def fail(batch: list[Task], error: JinaClipError) -> None:
    """Tells each caller of a batch that it failed."""
    for caller in {id(task.caller): task.caller for task in batch}.values():
        caller.fail(error)
