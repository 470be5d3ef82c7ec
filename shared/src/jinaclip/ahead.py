"""Pictures are made ready in threads, a few ahead of whoever needs them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, TypeVar

from jinaclip.inputs import Image, Text

AHEAD = 4
"""Pictures ahead, per core."""

R = TypeVar("R")


def prepared(
    items: Iterator[tuple[int, Text | Image]], prepare: Callable[[int, Image], R]
) -> Iterator[tuple[int, Text | R]]:
    """The items in order, each picture replaced by what `prepare` makes of it; texts pass as they are.

    Memory holds a few pictures per core, however many there are. What `prepare` raises is raised here.
    """
    cores = 0
    waiting: deque[tuple[int, Text | Future[R]]] = deque()
    with ExitStack() as stack:
        pool: ThreadPoolExecutor | None = None
        for index, item in items:
            if isinstance(item, Text) and not waiting:
                yield index, item
                continue
            if isinstance(item, Text):
                waiting.append((index, item))
            else:
                if pool is None:
                    cores = os.cpu_count() or 1  # reads files, so not for texts
                    pool = ThreadPoolExecutor(cores, thread_name_prefix="jinaclip-images")
                    stack.callback(pool.shutdown, wait=False, cancel_futures=True)
                waiting.append((index, pool.submit(prepare, index, item)))
            while waiting and (len(waiting) > AHEAD * cores or isinstance(waiting[0][1], Text)):
                yield _ready(waiting.popleft())
        while waiting:
            yield _ready(waiting.popleft())


def _ready(waiting: tuple[int, Text | Future[R]]) -> tuple[int, Any]:
    index, item = waiting
    return index, (item.result() if isinstance(item, Future) else item)
