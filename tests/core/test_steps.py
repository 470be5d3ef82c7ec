"""Procedures that are written once and run by sync and async methods alike."""

from __future__ import annotations

import asyncio
import itertools
import linecache
import sys
import threading
import weakref

import pytest

from jinaclip.hosts import Steps, arun_steps, run_steps, wait_for, wait_for_thread


@pytest.fixture(params=["sync", "async"])
def take(request):
    """Runs a procedure as a sync or as an async method would."""
    return run_steps if request.param == "sync" else lambda steps: asyncio.run(arun_steps(steps))


def double(number: int) -> int:
    return 2 * number


async def double_async(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def fail(error: BaseException) -> None:
    raise error


async def fail_async(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


def test_a_procedure_gets_what_it_waits_for(take) -> None:
    def add() -> Steps[int]:
        first = yield from wait_for(double, double_async, 2)
        return first + (yield from wait_for_thread(double, number=3))

    assert take(add()) == 10


def test_a_procedure_without_steps_just_returns(take) -> None:
    def give() -> Steps[int]:
        return 7
        yield

    assert take(give()) == 7


def test_an_error_is_raised_where_it_was_waited_for(take) -> None:
    """So that a procedure can catch it there, and go on waiting."""

    def recover() -> Steps[int]:
        try:
            yield from wait_for(fail, fail_async, ValueError("no"))
        except ValueError:
            return (yield from wait_for(double, double_async, 4))
        return 0

    assert take(recover()) == 8


class Limit(BaseException):
    """As a host's time limit may raise it."""


@pytest.mark.parametrize("error", [Limit(), ValueError("no"), asyncio.CancelledError()])
def test_an_error_that_nobody_catches_comes_out_as_it_is(take, error) -> None:
    """The same object, after the procedure has cleaned up, even if it waits for that."""
    cleaned = []

    def clean_up() -> Steps[None]:
        try:
            yield from wait_for_thread(fail, error)
        finally:
            cleaned.append((yield from wait_for_thread(double, 1)))

    with pytest.raises(type(error)) as caught:
        take(clean_up())
    assert caught.value is error
    assert cleaned == [2]


def test_what_blocks_runs_in_a_thread_only_where_there_is_a_loop() -> None:
    def where() -> Steps[threading.Thread]:
        return (yield from wait_for_thread(threading.current_thread))

    assert run_steps(where()) is threading.current_thread()
    assert asyncio.run(arun_steps(where())) is not threading.current_thread()


def test_closing_a_coroutine_ends_the_procedure() -> None:
    ended = []

    def wait() -> Steps[None]:
        try:
            yield from wait_for(double, double_async, 2)
        except BaseException as error:
            ended.append(type(error))
            raise

    coroutine = arun_steps(wait())
    coroutine.send(None)
    coroutine.close()
    assert ended == [GeneratorExit]


def strike_at(number: int):
    """A tracer that raises a Limit at the line of that number that `run_steps` comes to, as a signal handler may.

    Not at a `try:`, which CPython puts under no handler, and where it runs no signal handler either.
    """
    numbers = itertools.count()

    def trace(frame, event, _):
        if frame.f_code is not run_steps.__code__:
            return None
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        if event == "line" and line != "try:" and next(numbers) == number:
            raise Limit
        return trace

    return trace


def take_struck(number: int, begun: list, ended: list) -> bool:
    """Takes steps, and is struck at a line; gives whether it came to that line."""

    def wait() -> Steps[None]:
        begun.append(number)
        try:
            for _ in range(2):
                yield from wait_for(double, double_async, 2)
        finally:
            ended.append(number)

    steps, tracer = wait(), sys.gettrace()
    sys.settrace(strike_at(number))
    try:
        run_steps(steps)
    except Limit as error:
        assert begun == ended, error  # while the traceback holds all frames
        return True
    finally:
        sys.settrace(tracer)
    return False


def test_an_exception_that_strikes_anywhere_ends_the_procedure() -> None:
    """Also between two steps, where no call of the procedure's is at fault."""
    begun: list[int] = []
    ended: list[int] = []
    lines = next(number for number in itertools.count() if not take_struck(number, begun, ended))
    assert lines > 8
    assert begun == ended
    assert len(begun) > lines / 2


def test_an_error_goes_when_nobody_holds_it_any_more() -> None:
    """At once, with all that its frames hold, and not when the garbage collector comes by."""

    def strike() -> None:
        raise Limit

    def wait() -> Steps[None]:
        yield from wait_for_thread(strike)

    try:
        run_steps(wait())
    except Limit as error:
        left = weakref.ref(error)
    assert left() is None
