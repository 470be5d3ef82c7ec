"""What an ended call left undone is asked again beside a good item; nothing that is paid for on the way is lost."""

from __future__ import annotations

import numpy as np
import pytest

from jinaclip import JinaClip
from jinaclip.bulk.block_embedder import BlockEmbedder
from jinaclip.bulk.outage import BESIDE, OutageCheck
from jinaclip.call.results import ItemFailure, Results
from jinaclip.errors import BudgetError, ServerError, WrongWidthError
from jinaclip.hosts import Latch
from jinaclip.testing import expected_vector

DOWN = "status_500"


@pytest.fixture
def clip(server, jinaclip_api_key):
    options = {"max_retries": 0, "batch_size": 1, "max_concurrency": 1, "cache": False}
    with JinaClip(api_key=jinaclip_api_key, base_url=server.url, **options) as clip:
        yield clip


def ended(clip: JinaClip, items: int) -> Results:
    """What came of a call that an error of the service ended before anything was answered."""
    error = ServerError("the service failed")
    errors = {place: ItemFailure(error, place, "text", left=True) for place in range(items)}
    return Results(np.full((items, clip.dimensions), np.nan, np.float32), errors, stopped=error)


def texts(count: int) -> list[str]:
    return [f"text {number}" for number in range(count)]


def test_what_is_answered_beside_a_good_item_is_kept_though_the_outage_goes_on(server, clip) -> None:
    server.configure(script=[None, None, None, *[DOWN] * 100])
    found = OutageCheck(clip, "document").check(texts(7), ended(clip, 7))
    assert isinstance(found.stopped, ServerError)
    assert np.flatnonzero(found.ok).tolist() == [0, 1]
    np.testing.assert_allclose(found.vectors[1], expected_vector("text", "text 1"), atol=1e-6)
    assert all(found.errors[place].left for place in range(2, 7))
    assert found.usage.tokens == server.ledger()["tokens"]


def test_a_budget_that_is_spent_meanwhile_is_what_ended_the_run(server, clip) -> None:
    options = {**clip.config.options(), "token_budget": 60}
    with JinaClip(**options) as frugal:
        found = OutageCheck(frugal, "document").check(texts(40), ended(frugal, 40))
    assert isinstance(found.stopped, BudgetError)
    assert found.ok.sum() == server.ledger()["answered_items"] - 2 > 0


def test_what_is_asked_to_tell_refused_items_from_an_outage_is_counted(server, clip) -> None:
    """They have failed by themselves, and the good item beside them was billed."""
    server.configure(poison={"hopeless": "bad_item_unnamed_400"})
    contents, stop = [f"hopeless {number}" for number in range(3)], Latch()
    found = BlockEmbedder(clip, "document").embed(contents, None, [4] * 3, stop)
    assert (found.stopped, len(found.errors)) == (None, 3)
    assert found.usage.tokens == server.ledger()["tokens"] > 0


def test_once_a_few_are_answered_all_that_is_left_goes_together(server, clip) -> None:
    """Two calls, each with a good item, and not one for each seven."""
    found = OutageCheck(clip, "document").check(texts(100), ended(clip, 100))
    assert (found.stopped, found.ok.all()) == (None, True)
    assert server.ledger()["answered_items"] == 100 + 2


def test_those_that_fail_among_many_have_failed_by_themselves(server, clip) -> None:
    server.configure(poison={"hopeless": DOWN})
    bad = [*range(2 * BESIDE, 4 * BESIDE), 90]
    contents = [f"hopeless {place}" if place in bad else f"text {place}" for place in range(100)]
    found = OutageCheck(clip, "document").check(contents, ended(clip, 100))
    assert found.stopped is None
    assert np.flatnonzero(~found.ok).tolist() == [*found.errors] == bad
    assert not any(one.left for one in found.errors.values())


@pytest.mark.parametrize("count", [1, 3, 12])
def test_items_whose_vectors_have_another_width_have_failed_by_themselves(server, clip, count) -> None:
    server.configure(poison={"hopeless": "wrong_dimension_one"})
    bad = [f"hopeless {place}" for place in range(count)]
    results = clip.embed(bad)
    assert isinstance(results.stopped, WrongWidthError)
    found = OutageCheck(clip, "document").check(bad, results)
    assert (found.stopped, len(found.errors), found.ok.any()) == (None, count, False)
    assert not any(one.left for one in found.errors.values())


def test_items_that_the_call_had_not_read_yet_are_asked_for_too(clip) -> None:
    """A call with a budget reads them one by one."""
    found = OutageCheck(clip, "document").check(texts(20), ended(clip, 3))
    assert (len(found), found.stopped, found.ok.all()) == (20, None, True)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_where_the_good_item_is_not_answered_either_it_is_an_outage(server, clip, batch_size) -> None:
    """However the call with it ends: of so few items each may get an error of its own."""
    server.configure(script=[DOWN] * 100)
    with JinaClip(**{**clip.config.options(), "batch_size": batch_size, "max_concurrency": 8}) as quick:
        for _ in range(20):
            found = OutageCheck(quick, "document").check(texts(1), ended(quick, 1))
            assert isinstance(found.stopped, ServerError)
            assert found.errors[0].left
