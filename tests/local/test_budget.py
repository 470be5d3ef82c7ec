"""Token budgets of the local backend: spent for vectors alone, whichever way a call ends."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from jinaclip import BudgetError, JinaClip, JinaClipError
from jinaclip.backends.local.batcher import Item
from jinaclip.backends.local.device import Device
from jinaclip.backends.local.tokenizer import Tokenizer
from tests.watching import auntil, budget_left, until

BUDGET = 2_000_000
TEXTS = [f"some words of text {number}" for number in range(150)]
LONG = 60
"""Seconds after which a wait has failed."""


def is_whole(clip: JinaClip) -> bool:
    """Whether all of the budget that was not spent is left."""
    return budget_left(clip) == BUDGET - clip.usage.tokens


@pytest.mark.slow
async def test_calls_that_are_cancelled_at_random_moments_give_back_what_they_did_not_use(local) -> None:
    chance = random.Random(3)
    clip = local(token_budget=BUDGET)
    await clip.aembed_query("load")
    for _ in range(3):
        tasks = [asyncio.create_task(clip.aembed_documents(TEXTS)) for _ in range(16)]
        await asyncio.sleep(chance.random() / 100)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError | np.ndarray) for end in ends)
        assert any(isinstance(end, asyncio.CancelledError) for end in ends)
        await auntil(lambda: not feeding())
        assert is_whole(clip)
    vectors = await clip.aembed_documents(TEXTS)
    assert len(vectors) == len(TEXTS)


def feeding() -> bool:
    """Whether a thread still hands in items of some call."""
    return any(thread.name == "jinaclip-feed" for thread in threading.enumerate())


async def test_what_is_fed_after_a_call_was_cancelled_reserves_nothing(local, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = local(token_budget=BUDGET)
    await clip.aembed_query("load")
    spent, begun, cancelled = clip.usage.tokens, threading.Event(), threading.Event()
    encode = Tokenizer.encode

    def wait(self: Tokenizer, texts: list[str], *, truncate: bool) -> object:
        begun.set()
        assert cancelled.wait(LONG)
        return encode(self, texts, truncate=truncate)

    monkeypatch.setattr(Tokenizer, "encode", wait)
    task = asyncio.create_task(clip.aembed_documents(iter(TEXTS)))
    await auntil(begun.is_set)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    cancelled.set()
    await auntil(lambda: not feeding())
    assert (budget_left(clip), clip.usage.tokens) == (BUDGET - spent, spent)


class Interrupt(BaseException):
    """What a signal handler raises."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of Python's own list of threads
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs timers that signal")
def test_a_call_that_an_exception_of_a_signal_handler_ends_gives_back_what_it_did_not_use(local) -> None:
    clip = local(token_budget=BUDGET)
    clip.embed_query("load")

    def strike(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, strike)
    struck = 0
    try:
        for number in range(60):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 * (number + 1))
                clip.embed_documents(text for text in TEXTS)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                struck += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert struck
    until(lambda: is_whole(clip))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_generator_that_raises_gives_back_what_was_not_used(local, error: type[BaseException]) -> None:
    clip = local(token_budget=BUDGET)

    def source() -> Iterator[str]:
        yield from TEXTS
        raise error

    with pytest.raises(error):
        clip.embed_documents(source())
    assert is_whole(clip)


def test_a_pass_that_fails_spends_nothing(local, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = local(token_budget=BUDGET)
    monkeypatch.setattr(Device, "embed", lambda self, batch: (_ for _ in ()).throw(RuntimeError("bad kernel")))
    for _ in range(5):
        with pytest.raises(JinaClipError, match="bad kernel"):
            clip.embed_documents(TEXTS[:20])
    assert budget_left(clip) == BUDGET
    assert clip.usage.tokens == 0


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Passes of the model do not begin until this is set."""
    release = threading.Event()
    embed = Device.embed

    def wait(self: Device, batch: list[Item]) -> object:
        assert release.wait(LONG)
        return embed(self, batch)

    monkeypatch.setattr(Device, "embed", wait)
    yield release
    release.set()


def test_a_call_whose_deadline_passes_gives_back_what_it_did_not_use(local, held: threading.Event) -> None:
    clip = local(token_budget=BUDGET, deadline=0.2)
    results = clip.embed(TEXTS)
    assert results.stopped is not None
    until(lambda: not feeding())
    assert budget_left(clip) == BUDGET
    held.set()
    clip.close()
    assert len(local().embed_documents(TEXTS)) == len(TEXTS), "the late pass is over"
    assert budget_left(clip) == BUDGET
    assert clip.usage == results.usage


def test_closing_meanwhile_changes_nothing(local, held: threading.Event) -> None:
    clip = local(token_budget=BUDGET)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(clip.embed, TEXTS)
        until(lambda: budget_left(clip) < BUDGET)
        clip.close()
        held.set()
        assert call.result(LONG).usage == clip.usage
    assert is_whole(clip)


def test_eight_threads_spend_no_token_too_many(local) -> None:
    one = local()
    one.embed_query("word")
    cost = one.usage.tokens
    clip = local(token_budget=50 * cost)

    def spend(_: int) -> int:
        for count in itertools.count():
            try:
                clip.embed_query("word")
            except BudgetError:
                return count
        return 0

    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(spend, range(8))) == 50
        assert clip.usage.tokens == 50 * cost
        clip = local(token_budget=50 * cost)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_what_was_not_used(local, held: threading.Event) -> None:
    clip = local(token_budget=200)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(clip.embed_documents, ["text"])
        until(lambda: budget_left(clip) < 200)
        child = os.fork()
        if not child:
            os._exit(budget_left(clip))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 200
        held.set()
        call.result(LONG)
    with suppress(BudgetError):
        clip.embed_documents(iter(TEXTS))
    assert clip.usage.tokens <= 200
