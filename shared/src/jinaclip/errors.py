"""Every error jinaclip raises, as one tree.

    JinaClipError
    ├── ConfigError             an option, an environment variable or the endpoint is wrong
    │   └── WrongWidthError       the service answers vectors of another width, whatever is sent
    ├── InputError              one of the caller's items is wrong; `.index` says which
    │   ├── TextTooLongError      a text has more tokens than the model takes
    │   ├── ImageTooLargeError    an image has more bytes or pixels than `image_policy` allows
    │   ├── UnreadableError       the file of an image is not there, or cannot be read
    │   └── ConversionError       a page of a PDF file cannot be rendered (a RuntimeError too)
    ├── MissingDependencyError  an extra is not installed; the message names it
    ├── CheckpointError         local weights are missing, damaged or not what they claim
    ├── BudgetError             `token_budget` would be exceeded; nothing was sent
    ├── NotSentError            the call ended before this item was embedded
    ├── ClosedError             the object was closed while the call was under way
    ├── DeadlineError           the whole call took longer than `deadline` (a TimeoutError too)
    └── APIError                the hosted API, or the way to it; `.status`, `.request_id`, `.retryable`
        ├── AuthenticationError   the key is missing, wrong or not allowed
        ├── QuotaError            the balance of the key is used up
        ├── RateLimitError        the service asks to wait longer than the call may; `.retry_after`
        ├── RequestRejectedError  the service refuses the request as a whole
        ├── ItemError             the service refuses, or cannot embed, one item (an InputError too)
        ├── ServerError           5xx and other passing refusals, after all retries
        ├── BadResponseError      an answer that does not hold: wrong count, index, dimension, JSON
        └── APIConnectionError    no connection, or one that broke
            └── APITimeoutError     an attempt or the whole call took too long (a DeadlineError too)

Nothing that httpx, PIL or torch raises gets past the package, and no message holds a key, image bytes or vectors.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AuthenticationError",
    "BadResponseError",
    "BudgetError",
    "CheckpointError",
    "ClosedError",
    "ConfigError",
    "ConversionError",
    "DeadlineError",
    "ImageTooLargeError",
    "InputError",
    "ItemError",
    "JinaClipError",
    "MissingDependencyError",
    "NotSentError",
    "QuotaError",
    "RateLimitError",
    "RequestRejectedError",
    "ServerError",
    "TextTooLongError",
    "UnreadableError",
    "WrongWidthError",
]


class JinaClipError(Exception):
    """Root of the tree.

    Attributes:
        index: the caller's index of the item at fault, or None.
        partial: a `jinaclip.Results` of what the call had computed or paid for before it failed; None where there was
            no such call.
        attempts: how often the request was sent; 0 if never.
        retryable: whether the same call may succeed later.
    """

    retryable = False

    def __init__(self, message: str, *, index: int | None = None, attempts: int = 0) -> None:
        super().__init__(message)
        self.index = index
        self.attempts = attempts
        self.partial: Any = None  # Results, which stands above this module

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # ImportError and OSError have texts of their own


class ConfigError(JinaClipError, ValueError):
    """An option, an environment variable or the endpoint is wrong.

    Attributes:
        option: name of the option whose value is wrong, or None.
        requirement: what that value must be.
    """

    def __init__(
        self, message: str, *, option: str | None = None, requirement: str | None = None, **details: Any
    ) -> None:
        super().__init__(message, **details)
        self.option = option
        self.requirement = requirement


class WrongWidthError(ConfigError):
    """The service answers vectors of another width than was asked for, whatever is sent."""


class InputError(JinaClipError, ValueError):
    """One of the caller's items is wrong; `.index` says which (None for a single item)."""


class TextTooLongError(InputError):
    """A text has more tokens than the model takes."""


class ImageTooLargeError(InputError):
    """An image has more bytes or pixels than `image_policy` allows."""


class UnreadableError(InputError):
    """The file of an item is not there, or cannot be read; perhaps it can be later."""


class ConversionError(InputError, RuntimeError):
    """A page of a PDF file cannot be rendered."""


class MissingDependencyError(JinaClipError, ImportError):
    """An extra is not installed; the message names it."""


class CheckpointError(JinaClipError):
    """Local weights are missing, damaged or not what they claim to be."""


class BudgetError(JinaClipError):
    """The call, or its next batch, would exceed `token_budget`; it was not sent."""


class NotSentError(JinaClipError):
    """The call ended, for a reason of its own, before this item was embedded."""

    retryable = True


class ClosedError(JinaClipError):
    """The object was closed while the call was under way; what was embedded by then is in `.partial`."""

    retryable = True


class DeadlineError(JinaClipError, TimeoutError):
    """The whole call, queue and pauses included, took longer than `deadline`."""

    retryable = True


class APIError(JinaClipError):
    """The hosted API, or the way to it, failed.

    Attributes:
        status: HTTP status, or None when no answer arrived.
        request_id: the service's own id of the request, for its support.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        request_id: str | None = None,
        index: int | None = None,
        attempts: int = 0,
    ) -> None:
        super().__init__(message, index=index, attempts=attempts)
        self.status = status
        self.request_id = request_id


class AuthenticationError(APIError):
    """The key is missing, wrong or not allowed to do this (401, 403)."""


class QuotaError(APIError):
    """The balance of the key is used up (402, 403)."""


class RateLimitError(APIError):
    """The service asks to wait longer than the call may (429); `.retry_after` is in seconds."""

    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after = retry_after


class RequestRejectedError(APIError):
    """The service refuses the request as a whole, whichever items it holds (400, 422)."""


class ItemError(APIError, InputError):
    """The service refuses, or cannot embed, the one item at `.index`; the others were embedded.

    Attributes:
        reason: why, where the service has a word of its own for it, such as "text too long"; else empty.
    """

    def __init__(self, message: str, *, reason: str = "", **details: Any) -> None:
        super().__init__(message, **details)
        self.reason = reason


class ServerError(APIError):
    """The service kept failing (5xx, 408, 409, 425) through all retries."""

    retryable = True


class BadResponseError(APIError):
    """An answer that does not hold: wrong count, index or dimension, or not JSON at all."""

    retryable = True


class APIConnectionError(APIError):
    """No connection, or one that broke, through all retries."""

    retryable = True


class APITimeoutError(APIConnectionError, DeadlineError):
    """An attempt or the whole call took longer than it may."""
