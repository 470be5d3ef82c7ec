"""One request, with no I/O: written in the slot that it waited for, charged to its callers, judged, and told of.

The functions are generators, as those of `policy.py`, which decides what becomes of it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from jinaclip import telemetry
from jinaclip.backends.api.batcher import Item, consumers_of, tokens_of
from jinaclip.backends.api.charges import Charges, charge
from jinaclip.backends.api.expectation import other_than_kept
from jinaclip.backends.api.limits import RateLimits
from jinaclip.backends.api.route import Route
from jinaclip.backends.api.steps import Flow, Outcome, Reply, Requeue, Result, Send, Step, Wait
from jinaclip.backends.api.verdicts import Case, Verdict, judge
from jinaclip.backends.api.wires.base import Answer, most_bytes
from jinaclip.call.call import Stopped
from jinaclip.errors import ConfigError

_numbers = itertools.count(1)  # of requests, for those who watch


@dataclass(slots=True)
class Sending:
    """Where a batch goes, and what is known of the way there."""

    route: Route
    limits: RateLimits
    clock: Callable[[], float] = time.monotonic

    def case_of(self, batch: Sequence[Item]) -> Case:
        """The request as the judge sees it."""
        return Case.of(self.route, len(batch))


def send(
    sending: Sending, items: list[Item], attempt: int, *, again: bool = False
) -> Generator[Step, Result, tuple[Outcome, Verdict]]:
    """One request, of what is still wanted of these items once there is a slot; the list keeps only that.

    It is paid for here, whatever comes of it: what sends for it learns the verdict when the budget has.

    Returns:
        what came of it, and what that means.

    Raises:
        Stopped: all who wait for it have gone, or cannot pay for it.
    """
    yield Wait(tuple(items))
    if attempt == 1:
        yield from requeue_surplus(sending, items)
    charges = charge(items, again=again)
    try:
        items[:] = [item for item in items if item.consumer in charges.payers and item.is_wanted]
        outcome, verdict = yield from exchange(sending, items, attempt, charges)
        settle(charges, outcome, verdict)
    finally:
        charges.lose()
    teach_sizes(sending, outcome, verdict, len(items))
    if isinstance(verdict, Answer) and len(verdict.bad) < len(items):
        for consumer in consumers_of(items):
            consumer.health.note_answer(outcome.sent_at)
    return outcome, verdict


def requeue_surplus(sending: Sending, items: list[Item]) -> Flow:
    """Lets wait again what exceeds the most items of a request: others may have learnt it while these waited."""
    most = int(min(len(items), sending.limits.batch.items))
    surplus = [item for item in items[most:] if item.is_wanted]
    del items[most:]
    if surplus:
        yield Requeue(surplus)


def exchange(
    sending: Sending, items: list[Item], attempt: int, charges: Charges
) -> Generator[Step, Result, tuple[Outcome, Verdict]]:
    """Writes a request, has it sent, and judges what came of it. Raises as `send`."""
    if not items:
        raise Stopped
    route = sending.route
    body = route.wire.write_request(dict(route.settings), [item.input for item in items])
    most = most_bytes(len(items), route.width)
    longest = max(consumer.config.timeout for consumer in consumers_of(items))
    seconds = min(longest, route.wire.traits.most_seconds)
    number = next(_numbers)
    tell_sent(sending, items, number, attempt)
    outcome = yield Send(tuple(items), body, most, tokens_of(items), seconds, charges)
    if outcome is None:
        raise Stopped
    verdict = judge(sending.case_of(items), outcome.result)
    if isinstance(verdict, Answer):
        refuse_other_space(sending, items, verdict)
    tell_answer(sending, items, number, outcome, verdict)
    return outcome, verdict


def refuse_other_space(sending: Sending, items: Sequence[Item], answer: Answer) -> None:
    """Ends those calls whose answers should be of another space; they keep nothing of this one."""
    if answer.space is None:
        return
    clean = sending.route.endpoint.clean
    for consumer in consumers_of(items):
        memo = consumer.call.memo
        if memo is not None and memo.holds_other_space(answer.space):
            problem: str | None = other_than_kept(clean(answer.space))
        else:
            problem = consumer.expected.find_problem(answer.space, clean)
        if problem is not None:
            consumer.is_misled = True
            consumer.fail_all(ConfigError(problem))
        elif memo is not None:
            memo.note_space(answer.space)


def settle(charges: Charges, outcome: Outcome, verdict: Verdict) -> None:
    """Charges the callers of a request what came of it has cost: the bill, the estimate or nothing."""
    if isinstance(verdict, Answer):
        charges.settle(verdict.tokens)
    elif outcome.is_doubtful:
        charges.lose()
    else:
        charges.release()


def teach_sizes(sending: Sending, outcome: Outcome, verdict: Verdict, items: int) -> None:
    """Tells the limits what an outcome says about sizes."""
    if isinstance(verdict, Answer):
        sending.limits.answered(items, outcome.sent_at, wanted=outcome.wanted)
    elif items > 1 and outcome.took_too_long:
        sending.limits.batch.doubt(items)


def tell_sent(sending: Sending, items: list[Item], number: int, attempt: int) -> None:
    """Tells those who watch that a request goes out."""
    if telemetry.wants(telemetry.RequestSent):
        event = telemetry.RequestSent(
            number=number,
            host=sending.route.endpoint.host,
            model=sending.route.model,
            items=len(items),
            callers=len(consumers_of(items)),
            tokens=tokens_of(items),
            attempt=attempt,
        )
        telemetry.emit(event)


def tell_answer(sending: Sending, items: list[Item], number: int, outcome: Outcome, verdict: Verdict) -> None:
    """Tells those who watch what came of a request."""
    if telemetry.wants(telemetry.RequestAnswered):
        event = telemetry.RequestAnswered(
            number=number,
            host=sending.route.endpoint.host,
            model=sending.route.model,
            items=len(items),
            status=outcome.result.status if isinstance(outcome.result, Reply) else None,
            tokens=verdict.tokens if isinstance(verdict, Answer) else 0,
            seconds=sending.clock() - outcome.sent_at,
            error=None if isinstance(verdict, Answer) else type(verdict.error).__name__,
        )
        telemetry.emit(event)
