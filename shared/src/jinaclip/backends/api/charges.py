"""What a request costs its callers: set aside before it goes out, and settled once for each, whatever comes of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from jinaclip.backends.api.batcher import Consumer, Item, by_consumer, tokens_of
from jinaclip.call.usage import Meter, Reservation, Usage
from jinaclip.errors import BudgetError

LARGEST_BILL = 10**9
"""Tokens; a service that bills more for a request has lost count, and its answer costs what was estimated."""


class Charges:
    """The reservations of one request. Lives on the hub's thread.

    Who leaves before the request has gone out is charged nothing if it never does; who leaves after that is charged
    the estimate at once, whatever the answer will say.

    Args:
        again: whether the request repeats an earlier one.
    """

    def __init__(self, *, again: bool = False) -> None:
        self._again = again
        self._open: dict[Consumer, Reservation] = {}
        self._estimates: dict[Consumer, int] = {}
        self._left: set[Consumer] = set()
        self._sends = 0
        self._doubted: set[Meter] = set()  # of these totals, that count the request once

    @property
    def payers(self) -> Collection[Consumer]:
        """Whose budget holds it."""
        return self._estimates.keys()

    @property
    def has_budget(self) -> bool:
        """Whether somebody's budget is charged."""
        return any(consumer.call.meter.totals.budget is not None for consumer in self._estimates)

    def reserve(self, items: Sequence[Item]) -> None:
        """Sets aside what the items of one caller are expected to cost, or ends its call if its budget is too small."""
        consumer, tokens = items[0].consumer, tokens_of(items)
        try:
            self._open[consumer] = consumer.call.meter.reserve(tokens)
        except BudgetError as error:
            consumer.fail_all(error)
            return
        self._estimates[consumer] = tokens
        consumer.at_end.add(self.leave)

    def note_sending(self) -> bool:
        """Notes that the request goes out; gives whether it may.

        A transport may send it again where its answer was lost. Both may be billed, so the budgets must hold it twice.
        """
        if self._sends and not self._reserve_again():
            return False
        self._sends += 1
        again, counted = self._again or self._sends > 1, set[Meter]()
        for consumer in self._open:
            meter = consumer.call.meter
            meter.count(Usage(requests=1, retries=int(again)), shared=meter.totals in counted)
            counted.add(meter.totals)
        for consumer in self._left & self._open.keys():
            self._doubt(consumer)
        return True

    def _reserve_again(self) -> bool:
        try:
            again = {one: one.call.meter.reserve(tokens) for one, tokens in self._estimates.items()}
        except BudgetError:
            return False
        for consumer in list(self._open):
            self._doubt(consumer)
        self._open, self._doubted = again, set()
        for consumer in again:
            consumer.at_end.add(self.leave)
        return True

    def settle(self, bill: int) -> None:
        """Charges those who wait for an answer that came: the shares of a bill add up to it.

        Args:
            bill: of the whole request. One that is not sound, 0 among them, is replaced by the estimate.
        """
        shares: Sequence[int | None] = split_bill(bill, [*self._estimates.values()])
        if not 0 < bill <= LARGEST_BILL:
            shares = [None] * len(self._estimates)
        for (consumer, tokens), share in zip(self._estimates.items(), shares, strict=True):
            if consumer in self._open:
                reservation = self._close(consumer)
                reservation.spend(tokens, share)
                reservation.release()

    def release(self) -> None:
        """Charges nothing: it never arrived, or was refused."""
        for consumer in list(self._open):
            self._close(consumer).release()

    def lose(self) -> None:
        """Charges the estimate, if the request has gone out: nobody knows, or will know, what came of it."""
        for consumer in list(self._open):
            self._doubt(consumer) if self._sends else self._close(consumer).release()

    def leave(self, consumer: Consumer) -> None:
        """Notes that a caller does not wait for the answer."""
        self._left.add(consumer)
        if self._sends and consumer in self._open:
            self._doubt(consumer)

    def _doubt(self, consumer: Consumer) -> None:
        totals = consumer.call.meter.totals
        self._close(consumer).doubt(shared=totals in self._doubted)
        self._doubted.add(totals)

    def _close(self, consumer: Consumer) -> Reservation:
        consumer.at_end.discard(self.leave)
        return self._open.pop(consumer)


def charge(items: Sequence[Item], *, again: bool) -> Charges:
    """Sets aside what a request is expected to cost. A caller that cannot pay is told, and is not among the payers."""
    charges = Charges(again=again)
    for own in by_consumer([item for item in items if item.is_wanted]):
        charges.reserve(own)
    return charges


def split_bill(bill: int, weights: Sequence[int]) -> list[int]:
    """A bill as whole shares that add up to it, by weight; what is left of rounding goes to the largest remainders."""
    total = sum(weights)
    if not total:
        weights, total = [1] * len(weights), len(weights)
    shares = [bill * weight // total for weight in weights]
    order = sorted(range(len(weights)), key=lambda i: -(bill * weights[i] % total))
    for place in order[: bill - sum(shares)]:
        shares[place] += 1
    return shares
