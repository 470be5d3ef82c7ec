"""Every error jinaclip raises, as one tree.

JinaClipError
├── ConfigError             an option, an environment variable or the endpoint is wrong
├── InputError              one of the caller's items is wrong; `.index` says which
│   └── ConversionError       a page of a PDF file cannot be rendered (a RuntimeError too)
├── MissingDependencyError  an extra is not installed; the message names it
├── CheckpointError         local weights are missing, damaged or not what they claim
├── BudgetError             `token_budget` would be exceeded; nothing was sent
└── APIError                the hosted API, or the way to it; `.status`, `.request_id`, `.retryable`
    ├── AuthenticationError   the key is missing, wrong or not allowed
    ├── QuotaError            the balance of the key is used up
    ├── RateLimitError        the service asks to wait longer than the call may; `.retry_after`
    ├── RequestRejectedError  the service refuses the request as a whole
    ├── ItemError             the service refuses, or cannot embed, one item (an InputError too)
    ├── ServerError           5xx and other passing refusals, after all retries
    ├── BadResponseError      an answer that does not hold: wrong count, index, dimension, JSON
    └── APIConnectionError    no connection, or one that broke
        └── APITimeoutError     a deadline passed

Nothing that httpx, PIL or torch raises gets past the package, and no message holds a key, image bytes or vectors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AuthenticationError",
    "BadResponseError",
    "BudgetError",
    "CheckpointError",
    "ConfigError",
    "ConversionError",
    "InputError",
    "ItemError",
    "JinaClipError",
    "MissingDependencyError",
    "Partial",
    "QuotaError",
    "RateLimitError",
    "RequestRejectedError",
    "ServerError",
]


@dataclass(frozen=True, slots=True)
class Partial:
    """What a failed call had already computed or paid for, by the caller's index."""

    vectors: Mapping[int, NDArray[Any]] = field(default_factory=dict)
    """Checked float32 vectors of shape (d,)."""
    errors: Mapping[int, JinaClipError] = field(default_factory=dict)
    """One error for each item that got no vector for a reason of its own."""

    def __repr__(self) -> str:
        return f"Partial({len(self.vectors)} vectors, {len(self.errors)} item errors)"


class JinaClipError(Exception):
    """Root of the tree.

    Attributes:
        index: the caller's index of the item at fault, or None.
        partial: vectors and item errors gathered before the failure.
        attempts: how often the request was sent; 0 if never.
        retryable: whether the same call may succeed later.
    """

    retryable = False

    def __init__(self, message: str, *, index: int | None = None, attempts: int = 0) -> None:
        super().__init__(message)
        self.index = index
        self.attempts = attempts
        self.partial = Partial()


class ConfigError(JinaClipError, ValueError):
    """An option, an environment variable or the endpoint is wrong."""


class InputError(JinaClipError, ValueError):
    """One of the caller's items is wrong; `.index` says which (None for a single item)."""


class ConversionError(InputError, RuntimeError):
    """A page of a PDF file cannot be rendered."""


class MissingDependencyError(JinaClipError, ImportError):
    """An extra is not installed; the message names it."""


class CheckpointError(JinaClipError):
    """Local weights are missing, damaged or not what they claim to be."""


class BudgetError(JinaClipError):
    """The call, or its next batch, would exceed `token_budget`; it was not sent."""


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
    """The service refuses, or cannot embed, the one item at `.index`; the others were embedded."""


class ServerError(APIError):
    """The service kept failing (5xx, 408, 409, 425) through all retries."""

    retryable = True


class BadResponseError(APIError):
    """An answer that does not hold: wrong count, index or dimension, or not JSON at all."""

    retryable = True


class APIConnectionError(APIError):
    """No connection, or one that broke, through all retries."""

    retryable = True


class APITimeoutError(APIConnectionError, TimeoutError):
    """An attempt or the whole call took longer than it may."""


def rename(error: JinaClipError, name: str) -> None:
    """Puts a name before the message, in place of a number that counts something else."""
    told = re.sub(r"^(image|text) \d+", r"the \1", str(error))
    error.args = (f"{name}: {told}",)
