"""What ended a whole call although only some of its inputs were at fault."""

import asyncio
import time

import pytest

from tests import raw
from tests.api.test_isolation import DEATHS, TEXTS, check, clip, service
from tests.needs import long

pytestmark = pytest.mark.usefixtures("hasty")


@pytest.mark.slow
@pytest.mark.parametrize("death", ["killed", "500", "another width", "no JSON", "418"])
def test_the_first_input_of_a_slow_generator_may_be_bad(death):
    bad, texts = {"text 0"}, TEXTS[:10]

    def slowly():
        for text in texts:
            yield text
            time.sleep(0.05)

    with raw.serving(service(DEATHS[death], bad)) as server, clip(server, max_retries=0) as own:
        check(texts, own.embed(slowly()), bad)


@pytest.mark.slow
@pytest.mark.parametrize("retries", [long(0), 4])
async def test_one_query_of_many_that_kills_its_request_costs_no_other(retries):
    """However many callers shared the request: the reserve of the key holds a hundred retries."""

    def respond(asked):
        time.sleep(0.05)
        return service(DEATHS["killed"], {"text 7"})(asked)

    with raw.serving(respond) as server, clip(server, max_retries=retries) as own:
        results = await asyncio.gather(*(own.aembed([text]) for text in TEXTS[:2000]))
        assert max(len(asked.contents) for asked in server.asked) > 100
        assert [place for place, one in enumerate(results) if not one.ok.all()] == [7]


@pytest.mark.slow
@pytest.mark.parametrize("death", ["killed", long("502")])
def test_three_hundred_in_a_row_use_up_the_reserve_of_retries(death):
    bad = set(TEXTS[3000:3300])
    with raw.serving(service(DEATHS[death], bad)) as server, clip(server, max_retries=1) as own:
        check(TEXTS[:4_000], own.embed(TEXTS[:4_000]), bad)


@pytest.mark.slow
def test_a_culprit_that_hangs_to_the_end_is_named():
    """Its retries take longer than a call waits for a vector."""
    bad = {"text 50", "text 51"}

    def respond(asked):
        if bad.isdisjoint(asked.contents):
            return raw.right(asked)
        time.sleep(1)
        return raw.Sent([], close=True)

    with raw.serving(respond) as server, clip(server, max_retries=8, timeout=0.3) as own:
        check(TEXTS[:100], own.embed(TEXTS[:100]), bad)
