"""How a group of inputs gets its vectors, with no I/O: retries, rate limits, division, deadlines.

Every function here is a generator that yields steps (send, sleep, wait for a place) and is sent what came of them;
`client.py` drives it from threads and from event loops alike.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jinaclip.backends.api.limits import Account, Permit
from jinaclip.backends.api.steps import Failure, Reply, Result, Send, Sleep, Step, Wait
from jinaclip.backends.api.verdicts import Case, Divide, Drop, Fatal, Limited, Retry, Verdict, judge, limit_pause
from jinaclip.backends.api.wires import jina as wire
from jinaclip.backends.api.wires.jina import Answer
from jinaclip.call.call import Job, Stopped
from jinaclip.call.usage import Meter
from jinaclip.config import EmbedderConfig
from jinaclip.errors import APIError, APITimeoutError, ItemError, JinaClipError, RateLimitError
from jinaclip.vectors import Vectors

Flow = Generator[Step, Result, None]
LONGEST_PAUSE = 120.0
"""Seconds of a Retry-After beyond which the caller is told instead of kept waiting."""
NORM_SLACK = 2e-5
"""How far a squared length may be from 1 before the row is normalised again; float32 rounds to a tenth of it."""
ASKS = 3
"""How often a row that comes back unusable is asked for in all."""
DEAD_LEVELS = 3
"""A group refused as a whole, in halves and in quarters, without one exception: no input is to blame."""


@dataclass(slots=True)
class Part:
    """One input of a request."""

    index: int
    input: dict[str, str]
    size: int
    tokens: int
    asked: int = 0


@dataclass(slots=True)
class Call:
    """What the flows of one call share."""

    job: Job
    config: EmbedderConfig
    account: Account
    meter: Meter
    body: dict[str, Any]
    dimensions: int
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)
    progressed: float = field(init=False)
    ceiling: int | None = None
    """Items per request, once the service said that there were too many."""

    def __post_init__(self) -> None:
        self.started = self.progressed = self.clock()

    @property
    def retries(self) -> int:
        """For each request; somebody waits for a query, so it gets at most two."""
        return min(2, self.config.max_retries) if self.job.plan.query else self.config.max_retries

    @property
    def gives_up_at(self) -> float:
        """A query by the clock, other calls when too long has passed since the last vector."""
        if self.job.plan.query:
            return self.started + self.config.timeout / 2
        return self.progressed + 5 * self.config.timeout

    def answer(self, parts: list[Part], rows: Vectors) -> None:
        """Keeps the vectors of these parts."""
        self.progressed = self.clock()
        self.job.answer([part.index for part in parts], rows)


def embed(call: Call, group: list[Part]) -> Flow:
    """Gives every part of a group a vector or an error of its own.

    Groups that are refused are divided until the inputs at fault are alone, level by level: about 2 log2(n) requests
    for each. A group whose halves and quarters all fail is refused for another reason, and the call ends.

    Raises:
        JinaClipError: what ends the whole call.
    """
    call.progressed = max(call.progressed, call.clock())  # the caller's iterator may have taken its time
    level, dead = [group], 0
    while level:
        halves: list[list[Part]] = []
        refused = 0
        for parts in level:
            verdict = yield from attempt(call, parts, isolated=len(parts) < len(group))
            if isinstance(verdict, Answer):
                halves += keep(call, parts, verdict)
                continue
            whole = verdict.systemic if isinstance(verdict, Divide) else None
            refused += whole is not None
            if whole and dead + 1 >= DEAD_LEVELS and refused == len(level):
                raise whole
            halves += divide(call, parts, verdict)
        dead = dead + 1 if refused == len(level) else 0
        level = halves


def keep(call: Call, parts: list[Part], answer: Answer) -> list[list[Part]]:
    """Stores the good rows of an answer; gives back the parts whose rows are to be asked for again."""
    bad = [parts[i] for i in answer.bad]
    good = [i for i in range(len(parts)) if i not in answer.bad] if bad else slice(None)
    rows, squares = answer.rows[good], answer.squares[good]
    off = np.abs(squares - 1) > NORM_SLACK
    if call.config.normalized and off.any():  # those rows alone: a vector must not depend on its batch
        rows = np.where(off[:, None], rows / np.sqrt(squares)[:, None], rows)
    if len(rows):
        call.answer([parts[i] for i in good] if isinstance(good, list) else parts, rows)
    for part in bad:
        part.asked += 1
        if part.asked >= ASKS:
            said = f"the service answered NaN, infinity or zeros {ASKS} times"
            refuse(call, part, APIError(said, status=200, attempts=ASKS))
    again = [part for part in bad if part.asked < ASKS]
    return [again] if again else []


def divide(call: Call, parts: list[Part], verdict: Divide | Drop) -> list[list[Part]]:
    """The groups to send instead of one that was refused; a part that is at fault gets its error here."""
    if isinstance(verdict, Drop) and verdict.place < len(parts):
        culprit = parts.pop(verdict.place)
        refuse(call, culprit, verdict.error)
        return [parts] if parts else []
    if len(parts) == 1:
        refuse(call, parts[0], verdict.error)
        return []
    middle = (len(parts) + 1) // 2
    if isinstance(verdict, Divide) and verdict.too_many:
        call.ceiling = min(call.ceiling or middle, middle)
    return [parts[:middle], parts[middle:]]


def refuse(call: Call, part: Part, error: APIError) -> None:
    """Gives a part the error that was found to be its own."""
    message = f"{call.job.name('item', part.index)}: {error}"
    own = ItemError(message, status=error.status, request_id=error.request_id, attempts=error.attempts)
    call.job.fail(part.index, own)


def attempt(
    call: Call, parts: list[Part], *, isolated: bool = False
) -> Generator[Step, Result, Answer | Divide | Drop]:
    """Sends a group until it is answered, or refused in a way that sending it again does not mend.

    An isolated group is what is left of a larger one, so a service that keeps failing on it has its reason in it.
    """
    failures = limits = attempts = 0
    while True:
        try:
            result, sent_at = yield from exchange(call, parts)
        except JinaClipError as error:
            raise with_attempts(error, attempts)  # noqa: B904  it is the same one
        attempts += 1
        verdict = judge(case_of(call, parts), result)
        note(call, verdict, parts, again=attempts > 1 or isolated)
        match verdict:
            case Answer():
                call.account.answered(sent_at)
                return verdict
            case Divide() | Drop():
                verdict.error.attempts = attempts
                return verdict
            case Fatal():
                raise with_attempts(verdict.error, attempts)
            case Limited():
                limits += 1
                yield from obey(call, verdict, limits, sent_at, tokens_of(parts), attempts)
            case Retry():
                failures += 1
                if isolated and verdict.divide_after and len(parts) == 1 and failures > call.retries:
                    return Divide(verdict.error)
                yield from back_off(call, verdict, failures, attempts)
                if verdict.divide_after and failures >= verdict.divide_after and len(parts) > 1:
                    return Divide(verdict.error, verdict.error)


def note(call: Call, verdict: Verdict, parts: list[Part], *, again: bool) -> None:
    """Counts a request and what it cost."""
    call.meter.sent(again=again)
    if isinstance(verdict, Answer):
        call.meter.answered(len(parts) - len(verdict.bad), verdict.tokens)
    elif isinstance(verdict, Retry | Divide) and verdict.maybe_billed:
        call.meter.doubt(tokens_of(parts))


def exchange(call: Call, parts: list[Part]) -> Generator[Step, Result, tuple[Reply | Failure, float]]:
    """One request: a place in flight, the pace of the account, the budget, the wire."""
    tokens = tokens_of(parts)
    body = wire.write_request(call.body, [part.input for part in parts])
    permit = call.account.enter(call.config.max_concurrency)
    try:
        yield from until_granted(call, permit)
        while (seconds := call.account.pause(tokens, call.config)) > 0:
            if call.clock() + seconds >= call.gives_up_at:
                raise RateLimitError(f"rate limit: the next request may go in {seconds:.0f} s", retry_after=seconds)
            yield Sleep(seconds)
            check_running(call)
            call.account.requeue(permit)
            yield from until_granted(call, permit)
        check_running(call)
        call.meter.reserve(tokens)
        try:
            sent_at = call.clock()
            until = min(sent_at + call.config.timeout, max(call.gives_up_at, sent_at + 1))
            result = yield Send(body, wire.most_bytes(len(parts), call.dimensions), until)
        finally:
            call.meter.release(tokens)
    finally:
        call.account.leave(permit)
    if result is None:
        raise Stopped
    return result, sent_at


def until_granted(call: Call, permit: Permit) -> Generator[Step, Result, None]:
    """Waits for a place in flight."""
    while not permit.granted and permit.future is not None:
        yield Wait(permit.future, call.gives_up_at)
        check_running(call)
        if not permit.granted and call.clock() >= call.gives_up_at:
            raise APITimeoutError("no place among the requests in flight came free in time; see max_concurrency")


def obey(
    call: Call, verdict: Limited, limits: int, sent_at: float, tokens: int, attempts: int
) -> Generator[Step, Result, None]:
    """Teaches the account a rate limit and waits, unless the wait is longer than the call may take."""
    known = limit_pause(verdict, limits)
    seconds = known if known is not None else backoff(limits)
    told = verdict.seconds is not None
    call.account.limited(verdict.scope, seconds, sent_at, tokens, told=told)
    verdict.error.retry_after = seconds
    if seconds > LONGEST_PAUSE or call.clock() + seconds > call.gives_up_at:
        raise with_attempts(verdict.error, attempts)
    if verdict.scope == "concurrency" and not told:
        yield Sleep(seconds * random.uniform(0.5, 1.5))  # noqa: S311


def back_off(call: Call, verdict: Retry, failures: int, attempts: int) -> Generator[Step, Result, None]:
    """Waits before a retry, if one is left in the request, the account and the time of the call."""
    seconds = max(verdict.after, backoff(failures - 1))
    late = call.clock() + seconds > call.gives_up_at
    if failures > call.retries or late or seconds > LONGEST_PAUSE or not call.account.may_retry():
        raise with_attempts(verdict.error, attempts)
    yield Sleep(seconds)


def backoff(failures: int) -> float:
    """Full jitter: uniform(0, min(20, 0.5 * 2^i)) seconds."""
    return random.uniform(0, min(20, 0.5 * 2**failures))  # noqa: S311


def check_running(call: Call) -> None:
    """Raises Stopped once the call was stopped elsewhere."""
    if call.job.stopped.done():
        raise Stopped


def case_of(call: Call, parts: list[Part]) -> Case:
    """The request as the judge sees it."""
    return Case(len(parts), call.dimensions, call.config.base_url, call.config.key)


def tokens_of(parts: list[Part]) -> int:
    """Tokens that a group is expected to be billed."""
    return sum(part.tokens for part in parts)


def with_attempts(error: JinaClipError, attempts: int) -> JinaClipError:
    """The error, saying how often the request was sent."""
    error.attempts = attempts
    return error
