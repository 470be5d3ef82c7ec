"""Images are prepared in threads, a few ahead of whoever needs them."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import closing
from queue import SimpleQueue
from typing import Any, TypeVar

from jinaclip.inputs import Image, Text
from jinaclip.process import Latch

LOOK_SECONDS = 0.05
"""Between two looks whether the call was stopped, while an image is prepared."""
AHEAD = 4
"""Images ahead, per core."""

R = TypeVar("R")
Work = tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]


def prepare_images(
    items: Iterator[tuple[int, Text | Image]], prepare: Callable[[int, Image], R], stopped: Latch
) -> Iterator[tuple[int, Text | R]]:
    """The items in order, each image replaced by what `prepare` makes of it; texts pass as they are.

    Memory holds a few images per core, however many there are. What `prepare` raises is raised here. It ends early,
    without waiting for the images that are being prepared, once `stopped` is done.
    """
    waiting: deque[tuple[int, Text | Future[R]]] = deque()
    with closing(Threads()) as threads:
        for index, item in items:
            if isinstance(item, Text) and not waiting:
                yield index, item
                continue
            waiting.append((index, item if isinstance(item, Text) else threads.submit(prepare, index, item)))
            while waiting and (len(waiting) > AHEAD * threads.cores or isinstance(waiting[0][1], Text)):
                if not _wait_for(waiting[0][1], stopped):
                    return
                yield _take(waiting.popleft())
        while waiting and _wait_for(waiting[0][1], stopped):
            yield _take(waiting.popleft())


def _wait_for(item: Text | Future[Any], stopped: Latch) -> bool:
    """Waits for an item; False if the call was stopped first."""
    if isinstance(item, Text):
        return True
    while not (item.done() or stopped.done()):
        wait([item], timeout=LOOK_SECONDS)
    return item.done()


def _take(waiting: tuple[int, Text | Future[R]]) -> tuple[int, Any]:
    index, item = waiting
    return index, (item.result() if isinstance(item, Future) else item)


class Threads:
    """A thread per core, from the first work on.

    Daemons, unlike those of concurrent.futures: an image whose server hangs must not hold up the end of the program.
    """

    def __init__(self) -> None:
        self.cores = 0
        self._work: SimpleQueue[Work | None] = SimpleQueue()

    def submit(self, function: Callable[..., R], *arguments: Any) -> Future[R]:
        """Runs a function in one of the threads."""
        if not self.cores:
            self.cores = os.cpu_count() or 1  # reads files, so not for texts
            for _ in range(self.cores):
                threading.Thread(target=self._serve, name="jinaclip-images", daemon=True).start()
        future: Future[R] = Future()
        self._work.put((future, function, arguments))
        return future

    def close(self) -> None:
        """Drops what has not begun; the threads end with what they are at."""
        while not self._work.empty():
            self._work.get()
        for _ in range(self.cores):
            self._work.put(None)

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            future, function, arguments = work
            try:
                future.set_result(function(*arguments))
            except BaseException as error:  # noqa: BLE001  for whoever waits
                future.set_exception(error)
            del work, future, arguments  # not to hold an image while waiting for the next
