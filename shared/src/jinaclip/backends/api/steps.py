"""What a flow asks of its driver, and what it gets back. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Send:
    """Send this body, and be back by `until` (time.monotonic) with at most `most_bytes` of an answer."""

    body: bytes = field(repr=False)
    most_bytes: int
    until: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait, or less if the call stops."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for the future until `until`, or less if the call stops."""

    future: Future[None]
    until: float


Step = Send | Sleep | Wait
FailureKind = Literal["connect", "broken", "timeout", "setup", "oversize"]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, whatever its status. Its body may echo the key or a picture, so no repr shows it."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why no answer arrived. Plain words: an exception of the transport would carry the key in its frames.

    `setup` is what a retry cannot mend: an unknown host, a bad certificate, a proxy that refuses.
    """

    kind: FailureKind
    detail: str


Result = Reply | Failure | None
