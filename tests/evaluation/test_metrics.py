"""The arithmetic of an evaluation."""

import numpy as np
import pytest

from jinaclip import MissingDependencyError
from jinaclip.evaluation.metrics import Bootstrap, matches, measure, nearest


def test_nearest_is_a_sort_by_cosine_and_leaves_itself_out():
    rng = np.random.default_rng(0)
    queries, documents = rng.normal(size=(1100, 8)).astype("f"), rng.normal(size=(40, 8)).astype("f")
    np.testing.assert_array_equal(nearest(queries, documents, 7), np.argsort(-(queries @ documents.T), 1)[:, :7])
    own = nearest(documents, documents, 99, skip_self=True)
    assert own.shape == (40, 39)
    assert not (own == np.arange(40)[:, None]).any()


def test_equal_documents_keep_the_order_of_the_table():
    rows = np.ones((12, 4), np.float32)
    assert nearest(rows[:1], rows, 12)[0].tolist() == list(range(12))
    found = measure(["P@10"], nearest(rows[:1], rows, 12), [{9, 10, 11}])
    assert found["P@10"][0] == pytest.approx(0.1)


def test_equals_on_both_sides_of_the_last_place_are_taken_in_the_order_of_the_table():
    rows = np.zeros((500, 4), np.float32)
    rows[:, 0] = 1
    rows[::7] = (0, 1, 0, 0)
    found = nearest(np.float32([[1, 0, 0, 0]]), rows, 10)[0].tolist()
    assert found == [i for i in range(500) if i % 7][:10]


def test_measures_are_those_of_the_books():
    ranking = np.array([[3, 1, 2], [0, 1, 2], [2, 1, 0]])
    found = measure(["P@2", "R@2"], ranking, [{1, 2, 9}, set(), {5}])
    np.testing.assert_allclose(found["P@2"], [0.5, np.nan, 0])
    np.testing.assert_allclose(found["R@2"], [1 / 3, np.nan, 0])


def test_the_interval_narrows_with_more_queries_and_is_the_same_for_the_same_seed():
    values = np.random.default_rng(0).random(4000)
    few, many = Bootstrap(400, 1).score(values[:40]), Bootstrap(400, 1).score(values)
    assert many.high - many.low < (few.high - few.low) / 5
    assert few == Bootstrap(400, 1).score(values[:40])
    # of 40 uniform numbers: 1.96 standard errors either way
    assert few.high - few.low == pytest.approx(2 * 1.96 * values[:40].std() / 40**0.5, rel=0.15)


def test_a_share_is_paired_query_by_query():
    whole = np.random.default_rng(0).random(200)
    share = Bootstrap(200, 0).share(whole * 0.9, whole)
    assert (share.mean, share.low, share.high) == pytest.approx((0.9, 0.9, 0.9))
    assert str(Bootstrap(10, 0).share(np.zeros(3), np.zeros(3))) == "-"


def test_matches_are_by_category():
    assert matches(["a", None, "x"], ["b", "a", None, "a"]) == [{1, 3}, frozenset(), frozenset()]


def test_without_ir_measures_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ir_measures", None)
    with pytest.raises(MissingDependencyError, match=r"jinaclip\[evaluate\]"):
        measure(["P@1"], np.zeros((1, 1), int), [{0}])
