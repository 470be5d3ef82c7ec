"""The event loop of the hub's thread: what it runs, how it resolves names, whether it stood still."""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
from collections.abc import Coroutine
from typing import Any

from jinaclip.errors import JinaClipError
from jinaclip.process import call_in_loop, start_thread

FROZEN_SECONDS = 5.0
"""A beat that is so late shows that the whole process stood still."""


class HubLoop(asyncio.SelectorEventLoop):
    """The loop of the hub, whatever policy the program has set.

    Attributes:
        tasks: that it runs, kept until they end.
        beats: grows while somebody lets it beat.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        super().__init__(selector)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.beats = 0
        self._beat_at = self._thawed_at = -math.inf
        self._lookups: dict[Any, asyncio.Future[Any]] = {}

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Runs a coroutine in a task that is kept until it ends."""
        task = self.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    # -- whether it stood still

    def begin_beating(self) -> None:
        """Begins to watch the clock; `beat` is to follow now and then."""
        self._beat_at = self.time()

    def beat(self) -> None:
        """Looks at the clock."""
        now = self.time()
        if now - self._beat_at > FROZEN_SECONDS:
            self._thawed_at = now
        self._beat_at = now
        self.beats += 1

    def froze_since(self, moment: float) -> bool:
        """Whether the whole process stood still since then, as functions in the cloud and suspended machines do."""
        return self._thawed_at > moment or self.time() - self._beat_at > FROZEN_SECONDS

    # -- names

    async def getaddrinfo(self, host: Any, port: Any, **options: int) -> Any:
        """As the base class's, in a daemon thread; those who ask for the same at the same time share one lookup.

        asyncio would use the default executor, whose threads hold up the end of the program while a name server hangs.
        """
        key = (host, port, *sorted(options.items()))
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = self.create_future()
            lookup.add_done_callback(lambda _: self._lookups.pop(key, None))
            try:
                start_thread("jinaclip-names", self._look_up, lookup, host, port, options)
            except JinaClipError as error:
                conclude(lookup, OSError(str(error)))
        return await asyncio.shield(lookup)

    def _look_up(self, lookup: asyncio.Future[Any], host: Any, port: Any, options: dict[str, int]) -> None:
        found: Any
        try:
            found = socket.getaddrinfo(host, port, **options)
        except BaseException as error:  # noqa: BLE001  it goes to those who wait
            found = error
        call_in_loop(self, conclude, lookup, found)


def conclude(future: asyncio.Future[Any], outcome: Any) -> None:
    """Ends a future with a result or an exception, unless it has ended."""
    if future.done():
        return
    if isinstance(outcome, BaseException):
        future.set_exception(outcome)
        future.exception()  # whoever waited may have gone, and need not be told in the log
    else:
        future.set_result(outcome)
