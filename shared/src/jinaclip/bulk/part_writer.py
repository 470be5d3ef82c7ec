"""Writes one part while the next one fills: the disk takes a tenth of a second for it, for which nobody waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from jinaclip.errors import JinaClipError
from jinaclip.process import Task, start_thread

if TYPE_CHECKING:
    import pyarrow as pa

Save = Callable[[int, "pa.Table"], None]


class PartWriter:
    """Saves a part at a time in a thread of its own. For one thread at a time, but for its end.

    Args:
        save: writes the rows of the part with this number.
    """

    def __init__(self, save: Save) -> None:
        self._save = save
        self._lock = threading.RLock()  # an end that does not wait comes from another thread
        self._number = 0
        self._table: pa.Table | None = None
        self._task: Task[None] | None = None

    def __len__(self) -> int:
        """Rows that are not saved yet, as far as is known."""
        return 0 if self._table is None else len(self._table)

    def begin(self, number: int, table: pa.Table) -> None:
        """Begins to save a part, once the one before it is saved; nobody may change what the table holds.

        Raises:
            OSError: the one before it could not be saved, and this one was not begun.
        """
        with self._lock:
            self.finish()
            self._number, self._table = number, table
            task = Task(partial(self._save, number, table))
            with suppress(JinaClipError):  # there is no thread to be had; `finish` saves it
                start_thread("jinaclip-bulk-write", task.run)
                self._task = task

    def finish(self) -> None:
        """Waits until all is saved. What could not be saved is kept, and the next call tries it again.

        Raises:
            OSError: it could not be saved.
        """
        with self._lock:
            if self._table is None:
                return
            if self._task is None:
                self._save(self._number, self._table)
            else:
                self._task.done.wait()
                task, self._task = self._task, None
                task.result()
            self._table = None

    def table_of(self, number: int) -> pa.Table | None:
        """The rows of a part that is being saved; None if that is another one."""
        return self._table if number == self._number else None
