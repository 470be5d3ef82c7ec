"""What a call of the local engine holds goes when it is over, and does not wait for the collector of garbage."""

from __future__ import annotations

import pytest

from tests.api.test_garbage import CALLS, LAST, SOME_CALLS, count_calls, no_collector  # noqa: F401


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", CALLS)
async def test_a_call_that_is_over_is_gone(local, run, kind) -> None:
    method, make = CALLS[kind]
    made, before = local(), count_calls()
    for _ in range(SOME_CALLS):
        await run(made, method, make())
    assert count_calls() <= before + LAST
