"""Whatever a request dies of, its culprits are named and all else is answered; a service that is down is left soon."""

import asyncio
import math
import random
from itertools import product

import numpy as np
import orjson
import pytest

from jinaclip import JinaClip
from jinaclip.backends.api.health import PROBES
from jinaclip.backends.api.limits import FIRST_SLOTS
from jinaclip.errors import APIError, JinaClipError
from tests import raw
from tests.needs import long

pytestmark = pytest.mark.usefixtures("hasty")
COUNT = 10_000
FEW = 2_000
TEXTS = [f"text {number}" for number in range(COUNT)]
WIDTH = 64


def answer(asked, spoil):
    """A right answer but for the rows of these contents, which `spoil` changes."""
    body = orjson.loads(raw.answer_body(asked.contents, width=WIDTH))
    for content, row in zip(asked.contents, body["data"], strict=True):
        spoil(content, row)
    return raw.http(orjson.dumps(body))


def floats(numbers):
    return [None if not math.isfinite(number) else number for number in numbers]


def refuses(status, body=b'{"detail": "no"}'):
    return lambda asked, bad: raw.http(body, status)


def names_the_culprit(asked, bad):
    place = next(place for place, content in enumerate(asked.contents) if content in bad)
    return field_refusal(place)


def names_the_first(asked, bad):
    return field_refusal(0)


def field_refusal(place):
    error = {"field": f"body -> input -> {place}", "message": "bad", "type": "value_error", "input": "..."}
    return raw.http(orjson.dumps({"detail": "Validation error", "errors": [error]}), 422)


def kills(asked, bad):
    return raw.Sent([], close=True)


def kills_within_the_answer(asked, bad):
    return raw.Sent([raw.right(asked)[:200]], close=True)


def answers_another_width(asked, bad):
    def spoil(content, row):
        if content in bad:
            row["embedding"] = [0.1] * (WIDTH - 1)

    return answer(asked, spoil)


def answers_zeros(asked, bad):
    def spoil(content, row):
        if content in bad:
            row["embedding"] = [0.0] * WIDTH

    return answer(asked, spoil)


def answers_zeros_for_all(asked, bad):
    return answer(asked, lambda content, row: row.update(embedding=[0.0] * WIDTH))


def answers_too_few(asked, bad):
    return raw.http(raw.answer_body(asked.contents[1:], width=WIDTH))


DEATHS = {
    "400": refuses(400),
    "413": refuses(413),
    "too many inputs": refuses(422, b'{"detail": "List should have at most 3 items"}'),
    "418": refuses(418),
    "422": refuses(422),
    "422 with its place": names_the_culprit,
    "422 with a wrong place": names_the_first,
    "a 403 of a firewall": refuses(403, b"<html>no</html>"),
    "500": refuses(500),
    "502": refuses(502, b"<html>bad gateway</html>"),
    "503": refuses(503),
    "504": refuses(504),
    "520": refuses(520, b""),
    "killed": kills,
    "killed within the answer": kills_within_the_answer,
    "no JSON": refuses(200, b"<html>welcome</html>"),
    "two documents": refuses(200, b'{"data": []}{"data": []}'),
    "too few rows": answers_too_few,
    "another width": answers_another_width,
    "zeros": answers_zeros,
    "zeros for all": answers_zeros_for_all,
}
OF_ROWS = {"another width", "zeros"}
"""What hits the culprit's row alone: the others of its request are answered."""
PAID = {"no JSON", "two documents", "too few rows", "another width", "zeros", "zeros for all"}
PASSING = {"500", "502", "503", "504", "520", "killed", "killed within the answer"}
"""What a single input is sent again for, as it may pass."""


def service(death, bad):
    """Answers rightly unless one of these texts is in the request."""
    return lambda asked: death(asked, bad) if not bad.isdisjoint(asked.contents) else raw.right(asked)


def clip(server, **options):
    return JinaClip("jina-clip-v2", api_key="jina_isolation", base_url=server.url, dimensions=WIDTH, **options)


def check(texts, results, bad):
    """All but these texts have their vectors, and these have errors."""
    assert results.stopped is None, results.stopped
    assert {texts[index] for index in results.errors} == bad
    good = np.flatnonzero(results.ok)
    assert len(good) == len(texts) - len(bad)
    assert raw.are_vectors_of([texts[place] for place in good], results.vectors[good]).all()


def count_extra(server):
    """Requests beside those that the job takes by itself, which are those without a text that was sent before.

    A batch that was sent again as it was is a retry of the transport's.
    """
    seen, batches, extra = set(), set(), 0
    for contents in (tuple(asked.contents) for asked in server.asked):
        is_retry = len(contents) > 1 and contents in batches
        extra += not is_retry and not seen.isdisjoint(contents)
        seen.update(contents)
        batches.add(contents)
    return extra


@pytest.mark.slow
@pytest.mark.parametrize(("count", "retries"), [(FEW, 1), long(COUNT, 0), long(COUNT, 1)])
@pytest.mark.parametrize("death", DEATHS)
def test_one_culprit_among_thousands(death, count, retries):
    texts, bad = TEXTS[:count], {TEXTS[count // 2]}
    with raw.serving(service(DEATHS[death], bad)) as server, clip(server, max_retries=retries) as own:
        results = own.embed(texts)
        check(texts, results, bad)
        extra = count_extra(server)
        attempts = 1 + retries if death in PASSING else 1
        assert extra <= attempts * 2 * math.log2(count) + PROBES, extra


PLACES = ["anywhere", "in front", "behind"]
MANY_DEATHS = ["422", "422 with its place", "422 with a wrong place", "killed", "zeros for all"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("death", "where", "many"),
    [
        ("killed", "in front", 120),
        ("422", "behind", 120),
        *(long(*case, 300) for case in product(MANY_DEATHS, PLACES)),
    ],
)
def test_hundreds_of_culprits(death, where, many):
    numbers = {
        "anywhere": random.Random(4).sample(range(COUNT), many),
        "in front": range(many),
        "behind": range(COUNT - many, COUNT),
    }[where]
    bad = {TEXTS[number] for number in numbers}
    with raw.serving(service(DEATHS[death], bad)) as server, clip(server, max_retries=0) as own:
        check(TEXTS, own.embed(TEXTS), bad)
        assert len(server.asked) <= many * 2 * math.log2(COUNT)


@pytest.mark.parametrize("death", [death for death in DEATHS if death not in OF_ROWS])
def test_two_items_that_fail_only_together_both_come_back(death):
    pair = {"text 10", "text 9990"}

    def respond(asked):
        return DEATHS[death](asked, pair) if pair <= set(asked.contents) else raw.right(asked)

    texts = [TEXTS[number] for number in (*range(200), 9990)]
    with raw.serving(respond) as server, clip(server, max_retries=0, max_concurrency=1, batch_size=512) as own:
        check(texts, own.embed(texts), set())


@pytest.mark.slow
@pytest.mark.parametrize("size", [1_000, long(20_000)])
@pytest.mark.parametrize("death", DEATHS)
def test_a_service_that_refuses_everything_is_left(death, size):
    texts = [f"text {number}" for number in range(size)]
    respond = DEATHS[death]
    with raw.serving(lambda asked: respond(asked, set(asked.contents))) as server, clip(server) as own:
        assert isinstance(own.embed(texts).stopped, JinaClipError)
        sizes = [len(asked.contents) for asked in server.asked]
        assert len(sizes) <= FIRST_SLOTS + 40, sizes
        if death in PAID:
            assert sum(size for size in sizes if size > 1) <= (FIRST_SLOTS + 3) * max(sizes), sizes


@pytest.mark.slow
@pytest.mark.parametrize("death", ["422", "500", "zeros for all", "killed", "no JSON"])
def test_a_service_that_breaks_in_the_middle_is_left(death):
    """What was answered before is kept. A kept connection that breaks is replaced once, outside all counts."""

    in_flight = 8
    options = {"batch_size": 128, "max_concurrency": in_flight}

    def respond(asked):
        return raw.right(asked) if asked.number < 20 else DEATHS[death](asked, set(asked.contents))

    with raw.serving(respond) as server, clip(server, max_retries=1, **options) as own:
        results = own.embed(TEXTS)
        assert isinstance(results.stopped, APIError)
        good = np.flatnonzero(results.ok)
        assert len(good) >= 20 * 64
        assert raw.are_vectors_of([TEXTS[place] for place in good], results.vectors[good]).all()
        resent = in_flight if death == "killed" else 0
        assert len(server.asked) <= 20 + in_flight + resent + 40


async def test_the_culprit_of_one_call_costs_others_nothing():
    bad = {"text 5000"}
    with raw.serving(service(DEATHS["killed"], bad)) as server, clip(server, max_retries=1) as own:
        many, *few = await asyncio.gather(
            own.aembed(TEXTS[:6_000]), *(own.aembed([f"other {number}", f"more {number}"]) for number in range(50))
        )
        check(TEXTS[:6_000], many, bad)
        for number, results in enumerate(few):
            check([f"other {number}", f"more {number}"], results, set())
