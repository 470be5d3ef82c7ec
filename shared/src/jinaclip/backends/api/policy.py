"""How a batch gets its vectors, with no I/O: retries, rate limits, division, deadlines.

Every function here is a generator that yields steps (send, sleep, wait for a slot) and is sent what came of them;
`client.py` drives it from threads and from event loops alike.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jinaclip.backends.api.limits import RateLimits, Slot
from jinaclip.backends.api.steps import Failure, Reply, Result, Send, Sleep, Step, Wait
from jinaclip.backends.api.verdicts import Case, Divide, Drop, Fatal, Limited, Retry, Verdict, judge, limit_pause
from jinaclip.backends.api.wires import jina
from jinaclip.backends.api.wires.jina import Answer
from jinaclip.call.call import Call, Stopped
from jinaclip.config import EmbedderConfig
from jinaclip.errors import APIError, APITimeoutError, ItemError, JinaClipError, RateLimitError
from jinaclip.vectors import Vectors

Flow = Generator[Step, Result, None]
LONGEST_PAUSE = 120.0
"""Seconds of a Retry-After beyond which the caller is told instead of kept waiting."""
NORM_SLACK = 2e-5
"""How far a squared length may be from 1 before the row is normalised again; float32 rounds to a tenth of it."""
STALLED = 5
"""A call ends when no vector has come for so many times `timeout`."""
ASKS = 3
"""How often a row that comes back unusable is asked for in all."""
DEAD_LEVELS = 3
"""A batch refused as a whole, in halves and in quarters, without one exception: no input is to blame."""


@dataclass(slots=True)
class Item:
    """One input on its way: a text or an image as the wire has it."""

    number: int
    name: str
    """"text" or "image"."""
    input: dict[str, str]
    size: int
    tokens: int
    query: bool = False
    """Whether it is a text that is to be embedded as a query."""
    asked: int = 0


@dataclass(slots=True)
class Sending:
    """What the batches of one call share."""

    call: Call
    config: EmbedderConfig
    limits: RateLimits
    bodies: dict[bool, dict[str, Any]]
    """All of a request but its inputs: for queries (True), and for documents and images."""
    dimensions: int
    clock: Callable[[], float] = time.monotonic
    progressed: float = field(init=False)
    deadline_at: float = field(init=False)
    ceiling: int | None = None
    """Items per request, once the service said that there were too many."""

    def __post_init__(self) -> None:
        self.progressed = self.clock()
        self.deadline_at = self.progressed + self.call.deadline

    @property
    def retries(self) -> int:
        """For each request; where somebody waits, at most two."""
        return min(2, self.config.max_retries) if self.call.request.urgent else self.config.max_retries

    @property
    def gives_up_at(self) -> float:
        """At the deadline of the call, or when too long has passed since the last vector."""
        return min(self.deadline_at, self.progressed + STALLED * self.config.timeout)

    def answer(self, batch: list[Item], rows: Vectors) -> None:
        """Keeps the vectors of these items."""
        self.progressed = self.clock()
        self.call.answer([item.number for item in batch], rows)


def embed(sending: Sending, items: list[Item]) -> Flow:
    """Gives every item of a batch a vector or an error of its own.

    Batches that are refused are divided until the items at fault are alone, level by level: about 2 log2(n) requests
    for each. A batch whose halves and quarters all fail is refused for another reason, and the call ends.

    Raises:
        JinaClipError: what ends the whole call.
    """
    sending.progressed = max(sending.progressed, sending.clock())  # the caller's iterator may have taken its time
    level, dead = [items], 0
    while level:
        halves: list[list[Item]] = []
        refused = 0
        for batch in level:
            verdict = yield from attempt(sending, batch, isolated=len(batch) < len(items))
            if isinstance(verdict, Answer):
                halves += keep(sending, batch, verdict)
                continue
            whole = verdict.systemic if isinstance(verdict, Divide) else None
            refused += whole is not None
            if whole and dead + 1 >= DEAD_LEVELS and refused == len(level):
                raise whole
            halves += divide(sending, batch, verdict)
        dead = dead + 1 if refused == len(level) else 0
        level = halves


def keep(sending: Sending, batch: list[Item], answer: Answer) -> list[list[Item]]:
    """Stores the good rows of an answer; gives back those items whose rows are to be asked for again."""
    bad = [batch[i] for i in answer.bad]
    good = [i for i in range(len(batch)) if i not in answer.bad] if bad else slice(None)
    rows, squares = answer.rows[good], answer.squares[good]
    off = np.abs(squares - 1) > NORM_SLACK
    if sending.config.normalized and off.any():  # those rows alone: a vector must not depend on its batch
        rows = np.where(off[:, None], rows / np.sqrt(squares)[:, None], rows)
    if len(rows):
        sending.answer([batch[i] for i in good] if isinstance(good, list) else batch, rows)
    for item in bad:
        item.asked += 1
        if item.asked >= ASKS:
            said = f"the service answered NaN, infinity or zeros {ASKS} times"
            refuse(sending, item, APIError(said, status=200, attempts=ASKS))
    again = [item for item in bad if item.asked < ASKS]
    return [again] if again else []


def divide(sending: Sending, batch: list[Item], verdict: Divide | Drop) -> list[list[Item]]:
    """The batches to send instead of one that was refused; an item that is at fault gets its error here."""
    if isinstance(verdict, Drop) and verdict.place < len(batch):
        culprit = batch.pop(verdict.place)
        refuse(sending, culprit, verdict.error)
        return [batch] if batch else []
    if len(batch) == 1:
        refuse(sending, batch[0], verdict.error)
        return []
    middle = (len(batch) + 1) // 2
    if isinstance(verdict, Divide) and verdict.too_many:
        sending.ceiling = min(sending.ceiling or middle, middle)
    return [batch[:middle], batch[middle:]]


def refuse(sending: Sending, item: Item, error: APIError) -> None:
    """Gives an item the error that was found to be its own."""
    own = ItemError(str(error), status=error.status, request_id=error.request_id, attempts=error.attempts)
    sending.call.fail(item.number, own, item.name)


def attempt(
    sending: Sending, batch: list[Item], *, isolated: bool = False
) -> Generator[Step, Result, Answer | Divide | Drop]:
    """Sends a batch until it is answered, or refused in a way that sending it again does not mend.

    An isolated batch is what is left of a larger one, so a service that keeps failing on it has its reason in it.
    """
    failures = limits = attempts = 0
    while True:
        try:
            result, sent_at = yield from exchange(sending, batch)
        except JinaClipError as error:
            raise with_attempts(error, attempts)  # noqa: B904  it is the same one
        attempts += 1
        verdict = judge(case_of(sending, batch), result)
        note(sending, verdict, batch, again=attempts > 1 or isolated)
        match verdict:
            case Answer():
                sending.limits.answered(sent_at)
                return verdict
            case Divide() | Drop():
                verdict.error.attempts = attempts
                return verdict
            case Fatal():
                raise with_attempts(verdict.error, attempts)
            case Limited():
                limits += 1
                yield from obey(sending, verdict, limits, sent_at, tokens_of(batch), attempts)
            case Retry():
                failures += 1
                if isolated and verdict.divide_after and len(batch) == 1 and failures > sending.retries:
                    return Divide(verdict.error)
                yield from back_off(sending, verdict, failures, attempts)
                if verdict.divide_after and failures >= verdict.divide_after and len(batch) > 1:
                    return Divide(verdict.error, verdict.error)


def note(sending: Sending, verdict: Verdict, batch: list[Item], *, again: bool) -> None:
    """Counts a request and what it cost."""
    sending.call.meter.count_request(again=again)
    if isinstance(verdict, Answer):
        sending.call.meter.count_answer(len(batch) - len(verdict.bad), verdict.tokens)
    elif isinstance(verdict, Retry | Divide) and verdict.maybe_billed:
        sending.call.meter.count_doubt(tokens_of(batch))


def exchange(sending: Sending, batch: list[Item]) -> Generator[Step, Result, tuple[Reply | Failure, float]]:
    """One request: a place in flight, the pace of the account, the budget, the wire."""
    tokens = tokens_of(batch)
    body = jina.write_request(sending.bodies[batch[0].query], [item.input for item in batch])
    slot = sending.limits.enter(sending.config.max_concurrency)
    try:
        yield from until_granted(sending, slot)
        while (seconds := sending.limits.pause(tokens, sending.config)) > 0:
            if sending.clock() + seconds >= sending.gives_up_at:
                raise RateLimitError(f"rate limit: the next request may go in {seconds:.0f} s", retry_after=seconds)
            yield Sleep(seconds)
            check_running(sending)
            sending.limits.requeue(slot)
            yield from until_granted(sending, slot)
        check_running(sending)
        check_deadline(sending)
        sending.call.meter.reserve(tokens)
        try:
            sent_at = sending.clock()
            sending.call.note_sent([item.number for item in batch])
            patience = max(sending.gives_up_at, sent_at + 1)  # a last second, if it is not the deadline that is near
            until = min(sent_at + sending.config.timeout, patience, sending.deadline_at)
            result = yield Send(body, jina.most_bytes(len(batch), sending.dimensions), until)
        finally:
            sending.call.meter.release(tokens)
    finally:
        sending.limits.leave(slot)
    if result is None:
        raise Stopped
    return result, sent_at


def check_deadline(sending: Sending, error: APIError | None = None) -> None:
    """Looks whether the call may go on.

    Raises:
        APITimeoutError: its deadline has passed; the text names the last error, if there was one.
    """
    if sending.clock() >= sending.deadline_at:
        last = f"; the last attempt: {error}" if error is not None else ""
        raise APITimeoutError(f"the call took longer than deadline={sending.call.deadline:g} seconds{last}")


def until_granted(sending: Sending, slot: Slot) -> Generator[Step, Result, None]:
    """Waits for a place in flight."""
    while not slot.granted and slot.future is not None:
        yield Wait(slot.future, sending.gives_up_at)
        check_running(sending)
        if not slot.granted and sending.clock() >= sending.gives_up_at:
            raise APITimeoutError("no slot among the requests in flight came free in time; see max_concurrency")


def obey(
    sending: Sending, verdict: Limited, limits: int, sent_at: float, tokens: int, attempts: int
) -> Generator[Step, Result, None]:
    """Teaches the account a rate limit and waits, unless the wait is longer than the call may take."""
    known = limit_pause(verdict, limits)
    seconds = known if known is not None else backoff(limits)
    named = verdict.seconds is not None
    sending.limits.limited(verdict.scope, seconds, sent_at, tokens, named=named)
    verdict.error.retry_after = seconds
    if seconds > LONGEST_PAUSE or sending.clock() + seconds > sending.gives_up_at:
        raise with_attempts(verdict.error, attempts)
    if verdict.scope == "concurrency" and not named:
        yield Sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311


def back_off(sending: Sending, verdict: Retry, failures: int, attempts: int) -> Generator[Step, Result, None]:
    """Waits before a retry, if one is left in the request, the account and the time of the call."""
    seconds = max(verdict.after, backoff(failures - 1))
    late = sending.clock() + seconds > sending.gives_up_at
    check_deadline(sending, verdict.error)
    if failures > sending.retries or late or seconds > LONGEST_PAUSE or not sending.limits.may_retry():
        raise with_attempts(verdict.error, attempts)
    yield Sleep(seconds)


def backoff(failures: int) -> float:
    """Full jitter: uniform(0, min(20, 0.5 * 2^i)) seconds."""
    return random.uniform(0, min(20, 0.5 * 2**failures))  # noqa: S311


def check_running(sending: Sending) -> None:
    """Raises Stopped once the call was stopped elsewhere."""
    if sending.call.stopped.done():
        raise Stopped


def case_of(sending: Sending, batch: list[Item]) -> Case:
    """The request as the judge sees it."""
    return Case(len(batch), sending.dimensions, sending.config.base_url, sending.config.key)


def tokens_of(batch: list[Item]) -> int:
    """Tokens that a batch is expected to be billed."""
    return sum(item.tokens for item in batch)


def with_attempts(error: JinaClipError, attempts: int) -> JinaClipError:
    """The error, saying how often the request was sent."""
    error.attempts = attempts
    return error
