"""One procedure for a sync method and its async twin.

The procedure is a coroutine function whose first argument is `call_sync` or `call_async`. Whatever there is twice, once
to block and once to be awaited, it calls as `await call(function, afunction, *arguments)`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from jinaclip.hosts import run_in_thread

T = TypeVar("T")
Call: TypeAlias = Callable[..., Awaitable[Any]]
"""`call_sync` or `call_async`."""


async def call_sync(function: Callable[..., T], _: object, *arguments: Any, **options: Any) -> T:
    """What the function gives; it blocks."""
    return function(*arguments, **options)


async def call_async(_: object, afunction: Callable[..., Awaitable[T]], *arguments: Any, **options: Any) -> T:
    """What the async function gives."""
    return await afunction(*arguments, **options)


async def work(call: Call, function: Callable[..., T], *arguments: Any) -> T:
    """What a function gives that takes a while; for an async method it runs in a thread."""

    async def in_thread() -> T:
        return await run_in_thread(function, *arguments)

    result: T = await call(lambda: function(*arguments), in_thread)
    return result


def run(procedure: Coroutine[Any, Any, T]) -> T:
    """Runs a procedure that was given `call_sync`, and so never has to wait for an event loop."""
    try:
        procedure.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    procedure.close()
    raise RuntimeError("a procedure for a sync method awaited something other than call_sync")
