"""What the retry policy (`policy.py`) asks of its driver, and what it is sent back. This module does no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Send:
    """Send this body and return the answer, of at most `most_bytes`, by `until` (a moment of `time.monotonic`)."""

    body: bytes = field(repr=False)
    most_bytes: int
    until: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Pause for this long, or until the call is stopped."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for the future, at most until `until` (a moment of `time.monotonic`), or until the call is stopped."""

    future: Future[None]
    until: float


Step = Send | Sleep | Wait
FailureKind = Literal["connect", "broken", "timeout", "setup", "oversize"]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer of any status. Its body may repeat the key or an image, so no repr shows it."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why no answer arrived. It is text, as the frames of a transport's exception would hold the key.

    A `setup` failure stays after a retry: an unknown host, a bad certificate, a proxy that refuses.
    """

    kind: FailureKind
    detail: str


Result = Reply | Failure | None
