"""What the retry policy (`policy.py`) asks of its driver, and what it is sent back. This module does no I/O."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from jinaclip.backends.api.batcher import Consumer, Item
from jinaclip.backends.api.charges import Charges
from jinaclip.backends.api.health import Health


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait for a slot for these items. Until then nothing of them is written or reserved: their callers may leave."""

    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Send:
    """Send this body in the slot that was waited for; return what came of it, an `Outcome`, or None if nothing can.

    Attributes:
        items: what is in it.
        body: of the request.
        most_bytes: of an honest answer.
        tokens: what it is expected to be billed.
        seconds: how long the attempt may take, from sending.
        charges: hears of it whenever the request goes out, and may refuse to let it go out again.
    """

    items: Sequence[Item]
    body: bytes = field(repr=False)
    most_bytes: int
    tokens: int
    seconds: float
    charges: Charges = field(default_factory=Charges, repr=False)


@dataclass(frozen=True, slots=True)
class Sleep:
    """Pause for this long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Hold:
    """Wait, without a slot, until something changes about the health of a call."""

    health: Health[Item]


@dataclass(frozen=True, slots=True)
class Requeue:
    """Let these items wait for a request as if they had never had a slot."""

    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class Branch:
    """Run another flow beside this one, for these items, which the flow that asks lets go of."""

    items: Sequence[Item]
    flow: Generator[Step, Result, None] = field(repr=False)


FailureKind = Literal["connect", "broken", "timeout", "setup", "oversize", "unsigned"]


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer of any status. Its body may repeat the key or an image, so no repr shows it."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why no answer arrived. It is text, as the frames of a transport's exception would hold the key; not yet clean.

    A `setup` failure stays after a retry: an unknown host, a bad certificate, a proxy that refuses. So does an
    `unsigned` one: there are no credentials to sign with.
    """

    kind: FailureKind
    detail: str


FAILED = frozenset({500, 501, 503, 529})
"""Statuses by which the service itself says that it has failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a `Send`.

    Attributes:
        result: an answer, or why there is none.
        sent_at: when it was sent, a moment of the clock.
        sends: how often it was sent: never without a connection, twice over one that died at once.
        others: requests of the same key in flight beside it when it ended.
        wanted: whether somebody waits for a slot.
        thawed: whether the process stood still meanwhile, so that a failure says nothing about the service.
        parted: the callers whose `timeout` was over before it ended.
        booked: tokens that the pace counts for it.
    """

    result: Reply | Failure
    sent_at: float
    sends: int = 1
    others: int = 0
    wanted: bool = False
    thawed: bool = False
    parted: Collection[Consumer] = ()
    booked: int = 0

    @property
    def took_too_long(self) -> bool:
        """Whether the service, or the gateway before it, ran out of time."""
        if isinstance(self.result, Failure):
            return self.result.kind == "timeout" and not self.thawed
        return self.result.status == 504

    @property
    def is_doubtful(self) -> bool:
        """Whether it may have been billed, although it gave no answer that can be used.

        Jina bills no request that it refuses or fails. But a gateway does not know what the service behind it has done.
        """
        if isinstance(self.result, Failure):
            return self.sends > 0 and self.result.kind != "connect"
        status = self.result.status
        return status < 300 or (status >= 500 and status not in FAILED)


Step = Wait | Send | Sleep | Hold | Requeue | Branch
Result = Outcome | None
Flow = Generator[Step, Result, None]
