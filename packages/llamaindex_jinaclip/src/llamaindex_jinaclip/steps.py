"""A procedure that is written once and run by sync and async methods alike.

It is a generator that yields a `Step` wherever something has to be waited for, and is sent what came of it; an error is
raised at that place. It does no input or output itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import closing
from functools import partial
from typing import Any, TypeAlias, TypeVar

from jinaclip.hosts import run_in_thread

T = TypeVar("T")


class Step:
    """A call to wait for.

    Args:
        function: makes it in a sync method.
        afunction: its twin for an async method.
        *arguments: of either.
        **options: of either.
    """

    def __init__(
        self, function: Callable[..., Any], afunction: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any
    ) -> None:
        self.call: Callable[[], Any] = partial(function, *arguments, **options)
        self.acall: Callable[[], Awaitable[Any]] = partial(afunction, *arguments, **options)


def blocking(function: Callable[..., Any], *arguments: Any) -> Step:
    """A call that blocks, made in a thread where that would hold up an event loop."""
    return Step(function, partial(run_in_thread, function), *arguments)


Steps: TypeAlias = Generator[Step, Any, T]
"""A procedure that gives a T."""


def run(steps: Steps[T]) -> T:
    """Takes the steps and blocks at each."""
    resume = partial(next, steps)
    with closing(steps):
        while True:
            try:
                step = resume()
            except StopIteration as end:
                return end.value
            try:
                resume = partial(steps.send, step.call())
            except Exception as error:  # noqa: BLE001  raised again where the step was asked for
                resume = partial(steps.throw, error)


async def arun(steps: Steps[T]) -> T:
    """Takes the steps and awaits each."""
    resume = partial(next, steps)
    with closing(steps):
        while True:
            try:
                step = resume()
            except StopIteration as end:
                return end.value
            try:
                resume = partial(steps.send, await step.acall())
            except Exception as error:  # noqa: BLE001  raised again where the step was asked for
                resume = partial(steps.throw, error)
