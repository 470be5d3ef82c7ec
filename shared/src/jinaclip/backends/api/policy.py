"""How a batch gets its vectors, with no I/O: retries, rate limits, division, deadlines.

Every function here is a generator that yields steps (wait, send, sleep, branch) and is sent what came of them;
`lane.py` drives it. A batch may hold items of several callers. If anything but a rate limit befalls such a batch, its
items are sent again apart, by caller, so that nobody meets what another's item brought about.
"""

from __future__ import annotations

import math
import random
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np

from jinaclip import telemetry
from jinaclip.backends.api import verdicts
from jinaclip.backends.api.batcher import Consumer, Item, by_consumer, calls_of, consumers_of, is_of_one
from jinaclip.backends.api.health import DOUBT, ENOUGH, PROBES
from jinaclip.backends.api.sending import Sending, send
from jinaclip.backends.api.steps import Branch, Flow, Hold, Outcome, Result, Sleep, Step
from jinaclip.backends.api.verdicts import Divide, Fatal, Limited, Retry, Verdict
from jinaclip.backends.api.wires.base import Answer
from jinaclip.call.call import Stopped
from jinaclip.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadResponseError,
    ItemError,
    JinaClipError,
    QuotaError,
    RateLimitError,
)

NORM_SLACK = 2e-5
"""How far a squared length may be from 1 before the row is normalised again; float32 rounds to a tenth of it."""
ASKS = 3
"""How often a row that comes back unusable is asked for in all."""


def embed(sending: Sending, items: list[Item]) -> Flow:
    """Gives every item of a batch a vector, an error of its own, or that of its call, and raises none of them."""
    if len(consumers_of(items)) == 1:
        yield from embed_alone(sending, items)
    else:
        yield from embed_together(sending, items)


def embed_together(sending: Sending, items: list[Item]) -> Flow:
    """Sends items of several callers once; what is left of them then goes apart, by caller.

    A rate limit, and an item that the service names, do not part them.
    """
    attempts = names = 0
    if telemetry.wants(telemetry.BatchMerged):
        telemetry.emit(telemetry.BatchMerged(len(items), len(consumers_of(items))))
    while items:
        attempts += 1
        outcome, verdict = yield from send(sending, items, attempts)
        match verdict:
            case Answer():
                yield from branch(sending, without_parted(keep(sending, items, verdict), outcome), is_part=True)
                return
            case Limited():
                items = yield from obey(sending, verdict, without_parted(items, outcome), outcome)
            case Divide(place=int(place)) if place < len(items) and names < PROBES:
                names += 1
                yield from branch(sending, [items.pop(place)])
            case Fatal(error=AuthenticationError() | QuotaError()):
                stop(items, verdict.error)
                return
            case _:
                failed = verdict if isinstance(verdict, Retry) and not outcome.thawed else None
                if failed is not None:
                    failed = replace(failed, is_shared=not failed.is_unreachable)
                yield from branch(sending, without_parted(items, outcome), failed)
                return
        items = without_parted(items, outcome)


def without_parted(items: list[Item], outcome: Outcome) -> list[Item]:
    """The items but for those that are on their way again by themselves, as the `timeout` of their callers was over."""
    return [item for item in items if item.consumer not in outcome.parted]


def branch(sending: Sending, items: list[Item], failed: Retry | None = None, *, is_part: bool = False) -> Flow:
    """Sends the items of each caller by themselves."""
    for own in by_consumer([item for item in items if not item.consumer.ending]):
        yield Branch(own, embed_alone(sending, own, failed, is_part=is_part))


def embed_alone(sending: Sending, items: list[Item], failed: Retry | None = None, *, is_part: bool = False) -> Flow:
    """Gives every item of one caller a vector or an error, or ends the call.

    A batch that is refused, or fails for good, is divided until the items at fault are alone: about 2 log2(n) requests
    for each of them.

    Args:
        sending: where to.
        items: of one consumer.
        failed: what came of them when they were sent with others'.
        is_part: whether they are what is left of a larger batch, which failed.
    """
    consumer = items[0].consumer
    parts: list[list[Item]] = []
    try:
        verdict = yield from attempt(sending, items, is_part=is_part, failed=failed)
        if isinstance(verdict, Answer):
            again = keep(sending, items, verdict)
            parts = [again] if again else []
        else:
            parts = yield from isolate(sending, items, verdict)
    except JinaClipError as error:
        consumer.fail_all(error)
    finally:
        consumer.health.leave(items, goes_on=bool(parts))
    for part in parts:
        yield Branch(part, embed_alone(sending, part, is_part=True))


def isolate(sending: Sending, batch: list[Item], verdict: Divide) -> Generator[Step, Result, list[list[Item]]]:
    """The batches to send instead of one that failed; an item that is at fault by itself gets its error here.

    Raises:
        JinaClipError: the service refuses whatever this call sends.
    """
    items = list(batch)
    yield from check_service(sending, batch, verdict)
    if len(items) == 1:
        return [batch] if asks_again(batch[0], verdict) else []
    if verdict.too_many:
        sending.limits.batch.blame(len(items))
    named = items[verdict.place] if verdict.place is not None and verdict.place < len(items) else None
    if named in batch:
        batch.remove(named)
        if not (yield from is_answered(sending, named)):
            return [batch] if batch else []  # the service named the right one
    size = int(min((len(items) + 1) // 2, sending.limits.batch.items))
    return [batch[start : start + size] for start in range(0, len(batch), size)]


def is_answered(sending: Sending, item: Item) -> Generator[Step, Result, bool]:
    """Sends an item that the service blamed alone, and gives whether it was answered; if not, that is its error."""
    batch, health = [item], item.consumer.health
    try:
        verdict = yield from attempt(sending, batch, is_part=True)
        if isinstance(verdict, Answer):
            keep(sending, batch, verdict)
            return True
        refuse(item, verdict.error)
        return False
    finally:
        health.leave(batch, goes_on=True)


def check_service(sending: Sending, batch: list[Item], verdict: Divide) -> Flow:
    """Makes sure that the service answers something of the call, while that is in doubt.

    A few inputs are sent alone: one of the batch; if that is refused, more of it; and if those are, some of all that
    the call has handed in, which may be paid for twice. Those of the batch are taken out of it: they go their own way.

    Raises:
        JinaClipError: it refuses them all.
    """
    (consumer,) = consumers_of(batch)
    health = consumer.health
    yield from take_lead(batch)
    if not health.is_in_doubt or consumer.is_last(batch):
        return
    if health.answered_at > verdict.since:  # so it works, and what was sent meanwhile need not be paid for twice
        health.end_doubt()
        return
    doubt, refused = health.doubt, int(len(batch) == 1)
    own = random.sample(batch, min(PROBES, len(batch))) if len(batch) > 1 else []
    others = sorted((item for item in health.sample.items if item not in batch), key=lambda item: item.done)
    for group in (own[:1], own[1:], others[:1], others[1:]):
        if health.doubt != doubt:
            return
        batch[:] = [item for item in batch if item not in group]
        yield from send_probes(sending, group, is_own=group[0] in own if group else False)
        refused += len(group)
    least = verdict.least if consumer.closed else max(verdict.least, ENOUGH)  # the first of many may be the bad one
    if health.doubt == doubt and refused >= least:
        raise verdict.systemic
    if health.doubt == doubt:
        health.end_doubt()


def take_lead(batch: list[Item]) -> Flow:
    """Waits while the call is in doubt, unless its other batches wait for this one."""
    (consumer,) = consumers_of(batch)
    health = consumer.health
    while health.is_in_doubt and health.leader is not batch:
        if consumer.ending:
            raise Stopped
        if health.leader is None:
            health.leader = batch
        else:
            yield Hold(health)


def send_probes(sending: Sending, items: Sequence[Item], *, is_own: bool) -> Flow:
    """Sends inputs, each alone, and waits until one of them is answered, or all have come back."""
    out = list(items)
    doubt = out[0].consumer.health.doubt if out else 0
    for item in items:
        yield Branch([item], send_probe(sending, item, out, is_own=is_own))
    while out and out[0].consumer.health.doubt == doubt and not out[0].consumer.ending:
        yield Hold(out[0].consumer.health)


def send_probe(sending: Sending, item: Item, out: list[Item], *, is_own: bool) -> Flow:
    """Sends an input alone, once. Its vector is kept; if there is none, it is sent again as a part of its batch.

    Args:
        sending: where to.
        item: the input.
        out: those that have not come back; this one leaves them when it has.
        is_own: whether it belongs to the batch that is divided.
    """
    item.is_probe = True
    try:
        while isinstance(verdict := (yield from attempt_once(sending, item)), Limited):
            pass
        if isinstance(verdict, Answer) and not verdict.bad:
            keep(sending, [item], verdict)
    finally:
        item.is_probe = False
        out.remove(item)
        item.consumer.health.note_probe()
    if is_own and not item.done:
        yield Branch([item], embed_alone(sending, [item], is_part=True))


def attempt_once(sending: Sending, item: Item) -> Generator[Step, Result, Verdict]:
    """Sends an input alone, and waits if a rate limit is what comes of it."""
    outcome, verdict = yield from send(sending, [item], attempt=1, again=True)
    if isinstance(verdict, Limited):
        yield from obey(sending, verdict, [item], outcome)
    return verdict


def gives_up(batch: list[Item], verdict: Retry, failures: int, *, is_part: bool) -> bool:
    """Whether a batch that failed so often is not sent again as it is. An input is not to blame before it arrives."""
    if verdict.is_unreachable:
        return False
    retries = batch[0].consumer.retries
    if len(batch) > 1 and verdict.divide_after is not None and failures >= verdict.divide_after:
        return True
    return failures > (min(1, retries) if is_part and len(batch) > 1 else retries)


def give_up(sending: Sending, batch: list[Item], verdict: Retry, attempts: int) -> Divide:
    """What it means that a batch failed for good. An input alone may do so as the service is down."""
    if len(batch) == 1:
        batch[0].consumer.health.note_failure(sending.clock(), DOUBT)
    with_attempts(verdict.error, attempts)
    return Divide(verdict.error, verdict.error)


def weight_of(verdict: Divide, batch: list[Item], *, is_part: bool) -> int:
    """How much doubt the failure of a batch raises; that of a part little, as its whole failed before."""
    if len(batch) == 1 and verdict.least < ENOUGH:
        return DOUBT
    return 1 if is_part else verdict.doubt


def keep(sending: Sending, batch: list[Item], answer: Answer) -> list[Item]:
    """Stores the good rows of an answer; gives back those items whose rows are to be asked for again."""
    bad = set(answer.bad)
    rows = answer.rows
    off = np.abs(answer.squares - 1) > NORM_SLACK
    if sending.route.normalized and off.any():  # those rows alone: a vector must not depend on its batch
        with np.errstate(all="ignore"):  # bad rows among them are not used
            rows = np.where(off[:, None], rows / np.sqrt(answer.squares)[:, None], rows)
    if not bad and is_of_one(batch):
        batch[0].consumer.answer(batch, rows)
        return []
    places: dict[int, list[int]] = {}
    for place, item in enumerate(batch):
        if place not in bad:
            places.setdefault(id(item.consumer), []).append(place)
    for own in places.values():
        batch[own[0]].consumer.answer([batch[place] for place in own], rows[own])
    unusable = unusable_rows()
    return [item for place, item in enumerate(batch) if place in bad and asks_again(item, unusable)]


def asks_again(item: Item, verdict: Divide) -> bool:
    """Whether an item that failed alone is to be sent once more; if not, that is its error."""
    item.asked += verdict.again
    if verdict.again and item.asked < ASKS:
        return True
    refuse(item, verdict.error)
    return False


def unusable_rows() -> Divide:
    """What it means that all rows of a batch are NaN, infinite or zeros."""
    error = APIError(f"the service answered NaN, infinity or zeros {ASKS} times", status=200, attempts=ASKS)
    systemic = BadResponseError("the service answers NaN, infinity or zeros, whatever the inputs", status=200)
    return Divide(error, systemic, least=ENOUGH, again=True, doubt=DOUBT // 2)


def refuse(item: Item, error: APIError) -> None:
    """Gives an item the error that was found to be its own."""
    own = ItemError(
        str(error),
        reason=error.reason if isinstance(error, ItemError) else "",
        status=error.status,
        request_id=error.request_id,
        attempts=error.attempts,
    )
    item.consumer.fail(item, own)


def stop(items: Sequence[Item], error: JinaClipError) -> None:
    """Ends the calls of these items."""
    for consumer in consumers_of(items):
        consumer.fail_all(error)


def attempt(
    sending: Sending, batch: list[Item], *, is_part: bool = False, failed: Retry | None = None
) -> Generator[Step, Result, Answer | Divide]:
    """Sends a batch of one caller until it is answered, or fails in a way that sending it again does not mend."""
    (consumer,) = consumers_of(batch)
    consumer.progressed = max(consumer.progressed, sending.clock())  # waiting for a slot is not the service's slowness
    failures, attempts, since = 0, 0, math.inf
    if failed is not None:
        failures = attempts = 1
        if not (yield from back_off(sending, batch, failed, failures, attempts)):
            return give_up(sending, batch, failed, attempts)
    while True:
        yield from take_lead(batch)
        attempts += 1
        outcome, verdict = yield from send(sending, batch, attempts, again=attempts > 1 or is_part)
        since = min(since, outcome.sent_at)
        match verdict:
            case Answer():
                if len(verdict.bad) < len(batch):
                    return verdict
                unusable = replace(unusable_rows(), since=since)
                consumer.health.note_failure(sending.clock(), weight_of(unusable, batch, is_part=is_part))
                return unusable
            case Divide():
                consumer.health.note_failure(sending.clock(), weight_of(verdict, batch, is_part=is_part))
                verdict.error.attempts = verdict.systemic.attempts = attempts
                return replace(verdict, since=since)
            case Fatal():
                raise with_attempts(verdict.error, attempts)
            case Limited():
                verdict.error.attempts = attempts
                if not (yield from obey(sending, verdict, batch, outcome)):
                    raise Stopped
            case Retry() if outcome.thawed:
                tell_retry(sending, batch, "the process stood still", 0.0)
            case Retry():
                failures += 1
                consumer.health.note_failure(sending.clock(), verdict.doubt)
                if gives_up(batch, verdict, failures, is_part=is_part):
                    return replace(give_up(sending, batch, verdict, attempts), since=since)
                yield from take_lead(batch)
                if not (yield from back_off(sending, batch, verdict, failures, attempts)):
                    return replace(give_up(sending, batch, verdict, attempts), since=since)


def tell_retry(sending: Sending, batch: Sequence[Item], reason: str, seconds: float) -> None:
    """Tells those who watch that a request is sent again after a pause."""
    if telemetry.wants(telemetry.RequestRetried):
        calls = calls_of(batch)
        telemetry.emit(telemetry.RequestRetried(sending.route.endpoint.host, len(batch), reason, seconds, calls))


def reason_of(error: APIError) -> str:
    """Why a request is sent again, in words of ours: those of the service may repeat an input."""
    if isinstance(error, APITimeoutError):
        return "no answer in time"
    if isinstance(error, APIConnectionError):
        return "the connection failed"
    if isinstance(error, BadResponseError):
        return "the answer does not hold"
    return f"HTTP {error.status}"


def pause(
    sending: Sending, reason: telemetry.WaitReason, seconds: float, batch: Sequence[Item] = ()
) -> Generator[Step, Result, None]:
    """Waits, and tells those who watch; of whom it keeps waiting, unless a `RequestRetried` says so."""
    sending.limits.waits.note(reason, seconds, lambda: calls_of(batch))
    yield Sleep(seconds)


def obey(
    sending: Sending, verdict: Limited, batch: list[Item], outcome: Outcome
) -> Generator[Step, Result, list[Item]]:
    """Notes a rate limit of the key, and waits. Gives back the items of those who wait; the others get an error."""
    seconds = sending.limits.limited(
        verdict.scope, verdict.seconds, outcome.sent_at, outcome.booked, others=outcome.others
    )
    own_pause = 0.0 if seconds else verdicts.CONCURRENCY_PAUSE * random.uniform(0.5, 1.5)  # noqa: S311
    for own in by_consumer(batch):
        if sending.clock() + max(seconds, own_pause) > own[0].consumer.gives_up_at:
            own[0].consumer.fail_all(limit_error(verdict.error, max(seconds, own_pause, verdict.seconds or 0.0)))
    left = [item for item in batch if not item.consumer.ending]
    if left and own_pause:
        yield from pause(sending, "rate limit of the service", own_pause, left)
    return left


def limit_error(error: RateLimitError, seconds: float) -> RateLimitError:
    """The error for one of those who do not wait so long."""
    return RateLimitError(
        f"{error}; the next request may go in {seconds:.1f} s, which is later than this call may take",
        retry_after=seconds,
        status=error.status,
        request_id=error.request_id,
        attempts=error.attempts,
    )


def back_off(
    sending: Sending, batch: Sequence[Item], verdict: Retry, failures: int, attempts: int
) -> Generator[Step, Result, bool]:
    """Waits before a caller's items go again; False if the request, the key or the time since a vector leaves no retry.

    Raises:
        JinaClipError: nor is it of use to divide them, as the service cannot be reached, or no time is left.
    """
    (consumer,) = consumers_of(batch)
    seconds = max(verdict.after, backoff(failures - 1))
    consumer.last_error = verdict.error
    if sending.clock() >= consumer.deadline_at:
        raise deadline_error(consumer)
    until = sending.clock() + seconds
    may_go = verdict.is_shared or (failures <= consumer.retries and sending.limits.may_retry())
    if until > consumer.gives_up_at or not may_go:
        if verdict.is_unreachable or until > consumer.deadline_at:
            raise with_attempts(verdict.error, attempts)
        return False
    tell_retry(sending, batch, reason_of(verdict.error), seconds)
    yield from pause(sending, "retry", seconds)
    return True


def deadline_error(consumer: Consumer) -> APITimeoutError:
    """What a call is told whose deadline has passed; it names the last error, if there was one."""
    last = f"; the last attempt: {consumer.last_error}" if consumer.last_error is not None else ""
    return APITimeoutError(f"the call took longer than deadline={consumer.call.deadline:g} seconds{last}")


def backoff(failures: int) -> float:
    """Full jitter: uniform(0, min(20, 0.5 * 2^i)) seconds."""
    return random.uniform(0, min(20, 0.5 * 2**failures))  # noqa: S311


def with_attempts(error: JinaClipError, attempts: int) -> JinaClipError:
    """The error, saying how often the request was sent."""
    error.attempts = attempts
    return error
