"""A procedure that is written once and run by a sync and an async method alike.

It is a generator that yields a `Step` wherever something has to be waited for, and is sent what came of it; an error is
raised at that place. It does no input or output itself:

    def ask(clip, item) -> Steps[list[float]]:
        results = yield from wait_for(embed_query, aembed_query, clip, item)
        return results.unwrap()[0].tolist()

    run_steps(ask(clip, "a red dress"))
    await arun_steps(ask(clip, "a red dress"))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeAlias, TypeVar

from jinaclip.process import run_in_thread

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Step:
    """A call to wait for.

    Attributes:
        call: makes it in a sync method.
        acall: makes it in an async method.
    """

    call: Callable[[], Any]
    acall: Callable[[], Awaitable[Any]]


Steps: TypeAlias = Generator[Step, Any, T]
"""A procedure that gives a T."""


def wait_for(
    function: Callable[P, T], afunction: Callable[P, Awaitable[T]], /, *args: P.args, **options: P.kwargs
) -> Steps[T]:
    """Waits for a function, in an async method for its twin. Use it with `yield from`."""
    result: T = yield Step(partial(function, *args, **options), partial(afunction, *args, **options))
    return result


def wait_for_thread(function: Callable[P, T], /, *args: P.args, **options: P.kwargs) -> Steps[T]:
    """Waits for a function that blocks; in an async method it runs in a thread. Use it with `yield from`."""
    call = partial(function, *args, **options)
    result: T = yield Step(call, partial(run_in_thread, call))
    return result


def run_steps(steps: Steps[T]) -> T:
    """Takes the steps and blocks at each. What ends it, be it the exception of a signal handler, ends the steps too."""
    with closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    outcome = step.call()
                except BaseException as error:  # noqa: BLE001  raised again where the step was asked for
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result


async def arun_steps(steps: Steps[T]) -> T:
    """Takes the steps and awaits each. What ends it ends the steps too."""
    with closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    outcome = await step.acall()
                except BaseException as error:  # noqa: BLE001  raised again where the step was asked for
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result
