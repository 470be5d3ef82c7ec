"""What a server takes in before it grows: requests and bytes that are held, items that wait or run, each key's share.

Everything here belongs to the thread of the event loop; nothing waits, and whatever is too much is refused at once.

A request counts what has come of it, not what it announces: a client that announces 64 MiB and sends nothing takes
nothing from others. No key holds more than it leaves free, so whoever comes after a greedy one finds room.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jinaclip.backends.api.wires.jina import Code
from jinaclip.errors import ConfigError
from jinaclip.server.refusals import PAUSE, Refused
from jinaclip.server.requests import TOO_LARGE

if TYPE_CHECKING:
    from starlette.requests import Request

    from jinaclip.server.keys import Key
    from jinaclip.server.settings import Settings

WINDOW = 60.0
"""Seconds over which the requests of a key are counted."""
SPEED_OVER = 10.0
"""Seconds over which the speed of the server is measured."""
LONGEST_PAUSE = 30.0
"""Seconds that a client is asked to wait for room, at most."""
BYTES_PER_VALUE = 64
"""Of memory, for a value of JSON that is hardly written."""
VALUE_MARKS = (b",", b"[", b"{")
"""One of these stands before every value of JSON, and hardly before more of a text than that."""
SLOWEST = 64 * 1024
"""Bytes a second: whoever sends faster gets more time for a body than `body_timeout`."""


@dataclass(slots=True)
class Account:
    """What one key has under way."""

    requests: int = 0
    items: int = 0
    bytes: int = 0
    began: deque[float] = field(default_factory=deque)
    """When each of its requests of the last minute began."""


class Admission:
    """Lets requests in, as long as there is room.

    Args:
        settings: `max_body`, `max_inputs`, `max_queue` and `max_memory` are read.
        clock: seconds.

    Raises:
        ConfigError: `max_memory` is not twice `max_body`.

    Attributes:
        depth: items that wait or run.
        max_memory: most bytes of all requests under way.
        bytes: of all requests under way, and of answers that are not sent yet.
        requests: under way.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        if settings.max_memory < 2 * settings.max_body:
            requirement = f"at least twice max_body, which is {settings.max_body}, as no key may hold more than half"
            message = f"max_memory={settings.max_memory} must be {requirement}"
            raise ConfigError(message, option="max_memory", requirement=requirement)
        self.max_memory = settings.max_memory
        self._settings = settings
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._speed = Speed(clock)
        self.depth = self.bytes = self.requests = 0

    @contextmanager
    def enter(self, key: Key, size: int | None) -> Iterator[Admitted]:
        """Lets a request in, from before its body is read until its answer is on its way.

        Args:
            key: whose it is.
            size: bytes that it announces; None if it does not say.

        Raises:
            Refused: it is too large (413), the key has used up its slots or its minute, or there is no room (429).
        """
        account = self._accounts.setdefault(key.name, Account())
        self.check_size(size or 0)
        self._check_slots(key, account)
        self.check_bytes(account, size or 0)
        self._begin(key, account)
        admitted = Admitted(self, account)
        try:
            yield admitted
        finally:
            admitted.leave()

    def change(self, account: Account, *, requests: int = 0, items: int = 0, size: int = 0) -> None:
        """Counts what has come or gone."""
        account.requests += requests
        account.items += items
        account.bytes += size
        self.requests += requests
        self.depth += items
        self.bytes += size
        if items < 0:
            self._speed.note(-items)

    def check_size(self, size: int) -> None:
        """Refuses a body of more bytes than a request may have."""
        most = self._settings.max_body
        if size > most:
            raise Refused(413, TOO_LARGE, f"The body has {size} bytes or more; this server takes {most}.")

    def check_bytes(self, account: Account, size: int) -> None:
        """Refuses bytes for which there is no room now."""
        if account.bytes + size > self.max_memory - self.bytes - size and account.bytes:
            raise self._full("hold more bytes of requests")
        if self.bytes + size > self.max_memory:
            raise self._full("hold more bytes of requests")

    def check_items(self, account: Account, items: int) -> None:
        """Refuses items for which there is no room now."""
        if account.items + items > self._settings.max_queue - self.depth - items and account.items:
            raise self._full("queue more inputs")
        if self.depth + items > self._settings.max_queue and self.depth:
            raise self._full("queue more inputs")

    def _check_slots(self, key: Key, account: Account) -> None:
        if key.slots is not None and account.requests >= key.slots:
            message = f"This key may have {key.slots} requests in flight, and has."
            raise Refused(429, Code.RATE_CONCURRENCY, message, retry_after=PAUSE)

    def _begin(self, key: Key, account: Account) -> None:
        """Counts a request, unless the key has had all of its minute."""
        if key.requests_per_minute is not None:
            now = self._clock()
            while account.began and account.began[0] <= now - WINDOW:
                account.began.popleft()
            if len(account.began) >= key.requests_per_minute:
                message = f"This key may send {key.requests_per_minute} requests a minute, and has."
                wait = account.began[-key.requests_per_minute] + WINDOW - now
                raise Refused(429, Code.RATE_REQUESTS, message, retry_after=wait)
            account.began.append(now)
        self.change(account, requests=1)

    def _full(self, what: str) -> Refused:
        """The refusal for want of room, with the time in which half of what is under way should be done."""
        pause = min(LONGEST_PAUSE, max(PAUSE, self.depth / 2 / self._speed.items_a_second()))
        message = f"This server cannot {what} now."
        return Refused(429, Code.RATE_CONCURRENCY, message, retry_after=pause)


class Admitted:
    """A request that was let in. It gives back everything when it leaves."""

    def __init__(self, admission: Admission, account: Account) -> None:
        self._admission, self._account = admission, account
        self.items = self.bytes = self.body = 0

    def read(self, size: int) -> None:
        """Counts bytes of the body that have come.

        Raises:
            Refused: the body is too large (413), or there is no room (429).
        """
        self._admission.check_size(self.body + size)
        self._admission.check_bytes(self._account, size)
        self.body += size
        self.hold_bytes(size)

    def hold_values(self, raw: bytes) -> None:
        """Counts what a body takes once it is parsed: 64 MiB of `[],[],...` become more than a gigabyte.

        Raises:
            Refused: there is no room for it (429), or there never will be (413).
        """
        size = BYTES_PER_VALUE * sum(map(raw.count, VALUE_MARKS))
        if self.body + size > self._admission.max_memory // 2:
            message = "The body holds more values than this server has memory for; send several requests."
            raise Refused(413, TOO_LARGE, message)
        self._admission.check_bytes(self._account, size)
        self.hold_bytes(size)

    def hold(self, items: int) -> None:
        """Counts the items of the request.

        Raises:
            Refused: there is no room for them; a 429.
        """
        self._admission.check_items(self._account, items)
        self.items += items
        self._admission.change(self._account, items=items)

    def hold_bytes(self, size: int) -> None:
        """Counts bytes that are there whatever the limit says: an answer, until the client has read it."""
        self.bytes += size
        self._admission.change(self._account, size=size)

    def release_items(self) -> None:
        """The items are done; what is left is to send the answer."""
        items, self.items = self.items, 0
        self._admission.change(self._account, items=-items)

    def leave(self) -> None:
        """Gives back everything."""
        self.release_items()
        self._admission.change(self._account, requests=-1, size=-self.bytes)
        self.bytes = 0


class Speed:
    """How many items a second were done of late."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._done: deque[tuple[float, int]] = deque()
        self._sum = 0

    def note(self, items: int) -> None:
        """So many are done."""
        self._done.append((self._clock(), items))
        self._sum += items
        self._forget()

    def items_a_second(self) -> float:
        """At least one in ten seconds: of a server that was idle nobody knows."""
        self._forget()
        return max(self._sum, 1) / SPEED_OVER

    def _forget(self) -> None:
        while self._done and self._done[0][0] < self._clock() - SPEED_OVER:
            self._sum -= self._done.popleft()[1]


def announced_size(request: Request) -> int | None:
    """The bytes that a request says its body has, None if it does not say.

    Raises:
        Refused: the body is compressed; a 415.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Refused(415, "UNSUPPORTED_ENCODING", "Bodies must come uncompressed, without Content-Encoding.")
    size = request.headers.get("content-length", "")
    return int(size) if size.isdecimal() else None


async def read_body(request: Request, admitted: Admitted, seconds: float) -> bytes:
    """The body of a request, counted as it comes.

    Args:
        request: of Starlette.
        admitted: the request as it was let in.
        seconds: that a body may take; one that comes faster than 64 KiB a second gets more.

    Raises:
        Refused: it is too large (413), too slow (408), or there is no room (429).
        starlette.requests.ClientDisconnect: the client has gone.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(seconds) as limit:
            ends_at = limit.when() or math.inf
            async for part in request.stream():
                admitted.read(len(part))
                body += part
                limit.reschedule(ends_at + len(body) / SLOWEST)
    except TimeoutError:
        message = f"After {seconds:g} s the body has not come; {len(body)} bytes of it have."
        raise Refused(408, Code.TIMEOUT, message) from None
    return bytes(body)
