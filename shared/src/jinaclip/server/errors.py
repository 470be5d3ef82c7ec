"""What the core's errors are for a client of the server: which status, whose fault, when to try again."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from jinaclip.backends.api.wires.base import Reason
from jinaclip.backends.api.wires.jina import Code
from jinaclip.errors import (
    APIConnectionError,
    APIError,
    BadResponseError,
    BudgetError,
    ClosedError,
    DeadlineError,
    ImageTooLargeError,
    InputError,
    ItemError,
    JinaClipError,
    QuotaError,
    RateLimitError,
    ServerError,
    TextTooLongError,
)
from jinaclip.server.refusals import PAUSE, Refused, unavailable
from jinaclip.server.requests import INVALID, TOO_LARGE

logger = logging.getLogger("jinaclip.server")
OUTAGE = (ServerError, APIConnectionError, BadResponseError, ClosedError)
USED_UP = (QuotaError, BudgetError)
TELL_EVERY = 60.0
"""Seconds between two lines about the same kind of error."""


def refusal_of(error: JinaClipError) -> Refused:
    """The refusal for what ended a call, or for its first item that failed."""
    if isinstance(error, InputError):
        return refusal_of_item(error)
    if isinstance(error, DeadlineError):
        return Refused(504, Code.TIMEOUT, "not embedded in time; send fewer items, or come back later")
    if isinstance(error, RateLimitError):
        message = "the service behind this server asks to wait"
        return Refused(429, Code.RATE_REQUESTS, message, retry_after=error.retry_after or PAUSE)
    if isinstance(error, USED_UP):
        return Refused(403, Code.BALANCE, "the balance or the token_budget of this server is used up")
    if isinstance(error, OUTAGE):
        return unavailable("the model cannot be reached now")
    if isinstance(error, APIError):  # it refuses the key of this server, or how this server asks
        return Refused(503, Code.UNAVAILABLE, "this server cannot use its model; its log says why")
    return Refused(500, Code.INTERNAL, "the model failed; the log of this server says why")


def refusal_of_item(error: InputError) -> Refused:
    """The refusal of a request with an item that cannot be embedded."""
    place = ("input",) if error.index is None else ("input", error.index)
    if isinstance(error, ItemError):  # what a service says of an item may repeat what was in it
        message = f"the service behind this server refuses it, with HTTP {error.status}"
        is_long, is_large = error.reason == Reason.TEXT_TOO_LONG.value, error.status == 413
    else:
        message = str(error)
        is_long, is_large = isinstance(error, TextTooLongError), isinstance(error, ImageTooLargeError)
    if is_long:
        return Refused(400, Code.TEXT_TOO_LONG, message, place=place)
    if is_large:
        return Refused(413, TOO_LARGE, message, place=place)
    return Refused(422, INVALID, message, place=place)


class Complaints:
    """Tells whoever runs the server what clients cannot mend: each kind of error once a minute.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def note(self, error: JinaClipError) -> None:
        """Logs an error, unless it is the client's own or was logged a moment ago."""
        kind, now = type(error).__name__, self._clock()
        if isinstance(error, InputError) or now - self._told.get(kind, -math.inf) < TELL_EVERY:
            return
        self._told[kind] = now
        # what a service says of a request may repeat what was in it
        words = f"HTTP {error.status}" if isinstance(error, APIError) else str(error)
        logger.error("requests cannot be answered: %s (%s)", kind, words)
