"""Errors without the frames behind them, which would hold the caller's images, and show the options that were given."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, ParamSpec, TypeVar, cast

from jinaclip.errors import JinaClipError

E = TypeVar("E", bound=BaseException)
P = ParamSpec("P")
R = TypeVar("R")
REFUSALS = (JinaClipError, TypeError, ValueError)
"""How constructors refuse options: ours, adapters' and Pydantic's, whose ValidationError is a ValueError."""


def without_frames(error: E) -> E:
    """The error itself, without the frames that would keep images alive for as long as anybody keeps it."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def without_options(function: Callable[P, R]) -> Callable[P, R]:
    """For a constructor, and what loads or copies: an error that refuses options has no frame that shows them.

    A key may be among them, or stand where another option belongs.
    """
    return without_arguments(function, REFUSALS)


def without_arguments(
    function: Callable[P, R], errors: tuple[type[Exception], ...] = (JinaClipError,)
) -> Callable[P, R]:
    """For a function, also an `async def`: errors of ours that leave it keep none of its arguments alive.

    They would be in the frames of the traceback, and nobody needs those: the message says what is wrong.

    Args:
        function: to wrap.
        errors: that this is done for. Others come through as they are. An `async def` knows errors of ours alone.
    """

    @wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> R:
        try:
            return function(*args, **options)
        except errors as error:
            problem = without_frames(error)
        del args, options
        try:
            raise problem
        finally:
            del problem  # the error holds this frame: a cycle

    @wraps(function)
    async def acall(*args: P.args, **options: P.kwargs) -> Any:
        waiting: Coroutine[Any, Any, Any] = await_without_arguments(cast("Any", function), *args, **options)
        del args, options
        return await waiting

    return acall if iscoroutinefunction(function) else call  # type: ignore[return-value]


async def await_without_arguments(
    function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **options: P.kwargs
) -> R:
    """What a coroutine function gives; as `without_arguments` for errors of ours.

    Its coroutine is made in here: of a task that is cancelled before it begins, nothing is left that was never awaited.
    """
    try:
        return await function(*args, **options)
    except JinaClipError as error:
        problem = without_frames(error)
    del function, args, options
    try:
        raise problem
    finally:
        del problem
