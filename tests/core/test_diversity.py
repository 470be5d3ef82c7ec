"""Results re-ordered so that the first ones look different from one another."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinaclip import ConfigError, InputError
from jinaclip.retrieval import diversify

RNG = np.random.default_rng(0)


def kinds(*sizes, noise=0.05, dimensions=16):
    """Vectors of several kinds, a kind after the other, and which kind each is of."""
    centres = np.linalg.qr(np.random.default_rng(1).normal(size=(dimensions, dimensions)))[0]
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return centres[labels] + noise * np.random.default_rng(2).normal(size=(len(labels), dimensions)), labels


def mmr(rows, scores, k, share):
    """Maximal marginal relevance, word by word."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    left, shown = list(range(len(rows))), []
    while left and len(shown) < k:

        def gain(i):
            nearest = max((float(unit[i] @ unit[j]) for j in shown), default=0.0)
            return share * scores[i] - (1 - share) * nearest if shown else scores[i]

        best = max(left, key=gain)
        left.remove(best)
        shown.append(best)
    return shown


@pytest.mark.slow
def test_the_first_results_are_the_best_of_each_cluster_the_most_relevant_in_front():
    rows, labels = kinds(20, 10, 10, 5, 5)
    found = diversify(rows, 50)
    firsts = [int(np.flatnonzero(labels == kind)[0]) for kind in range(5)]
    assert found[:5] == firsts


@pytest.mark.slow
def test_the_rest_keeps_its_order():
    rows, _ = kinds(20, 10, 10, 5, 5)
    found = diversify(rows, 50)
    assert found[5:] == sorted(found[5:])
    assert sorted(found) == list(range(50))


def test_fewer_are_the_start_of_all():
    rows, _ = kinds(20, 10, 10, 5, 5)
    for method in ("kmeans", "mmr"):
        whole = diversify(rows, 50, method=method)
        assert [diversify(rows, k, method=method) for k in (1, 3, 7)] == [whole[:1], whole[:3], whole[:7]]


def test_relevance_decides_and_not_the_order_of_the_rows():
    rows, _ = kinds(8, 8, 8)
    relevance = np.linspace(0, 1, 24)  # best last
    found = diversify(rows, 24, clusters=3, relevance=relevance)
    assert found[:3] == [23, 15, 7]
    assert found[3:] == sorted(found[3:], reverse=True)


def test_rows_in_another_order_give_the_same_results():
    rows, _ = kinds(9, 7, 5, 4, noise=0.6)
    relevance = RNG.permutation(25) / 25
    order = RNG.permutation(25)
    shuffled = diversify(rows[order], 25, relevance=relevance[order])
    assert order[shuffled].tolist() == diversify(rows, 25, relevance=relevance)


def test_without_relevance_the_first_row_is_the_best():
    rows, _ = kinds(5, 5, 5)
    places = diversify(rows, 15, clusters=3)
    assert places == diversify(rows, 15, clusters=3, relevance=-np.arange(15.0))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 30), st.integers(1, 40), st.integers(1, 8), st.sampled_from(["kmeans", "mmr"]), st.integers(0, 9))
def test_each_result_stands_once_and_the_best_is_first(count, k, clusters, method, seed):
    rng = np.random.default_rng(seed)
    rows, relevance = rng.normal(size=(count, 6)), rng.random(count)
    found = diversify(rows, k, clusters=clusters, relevance=relevance, method=method, seed=seed)
    assert len(found) == len(set(found)) == min(k, count)
    assert set(found) <= set(range(count))
    assert found[0] == int(relevance.argmax())
    assert all(type(index) is int for index in found)


@pytest.mark.parametrize("method", ["kmeans", "mmr"])
def test_a_result_without_a_picture_keeps_the_place_of_its_relevance(method):
    rows, _ = kinds(4, 4, 4)
    without = {0, 3, 8, 11}
    left = [i for i in range(12) if i not in without]
    expected = [left[i] for i in diversify(rows[left], 8, clusters=3, method=method)]
    found = diversify([None if i in without else row for i, row in enumerate(rows)], 12, clusters=3, method=method)
    assert {place for place, index in enumerate(found) if index in without} == without
    assert [index for index in found if index not in without] == expected
    relevance = RNG.permutation(12) / 12
    order = np.argsort(-relevance)
    ranked = diversify([None, *rows[1:]], 12, clusters=3, relevance=relevance, method=method)
    assert ranked.index(0) == order.tolist().index(0)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(1, 40), st.sampled_from(["kmeans", "mmr"]))
def test_no_result_is_lost_or_doubled_whatever_has_a_picture(pictured, k, method):
    rows = [np.random.default_rng(i).normal(size=4) if has else None for i, has in enumerate(pictured)]
    found = diversify(rows, k, method=method)
    assert len(found) == len(set(found)) == min(k, len(rows))
    whole = diversify(rows, len(rows), method=method)
    assert found == whole[:k]


def test_results_without_any_picture_stay_as_they_are():
    assert diversify([None] * 4, 3) == diversify([None] * 4, 3, method="mmr") == [0, 1, 2]


def test_as_many_clusters_as_results_change_nothing_nor_does_one():
    rows, _ = kinds(5, 5)
    for clusters in (1, 10, 99):
        assert diversify(rows, 10, clusters=clusters) == list(range(10))


def test_equal_pictures_are_one_kind_and_no_reason_for_a_warning():
    rows, _ = kinds(1, 1, 1, noise=0)
    found = diversify(np.repeat(rows, 10, axis=0), 30)
    assert found[:3] == [0, 10, 20]
    assert found[3:] == sorted(found[3:])
    assert diversify(np.ones((50, 8)), 50) == list(range(50))


def test_lengths_of_vectors_do_not_matter():
    rows, _ = kinds(6, 6, 6, noise=0.3)
    scaled = rows * RNG.uniform(0.1, 10, (18, 1))
    for method in ("kmeans", "mmr"):
        assert diversify(rows, 18, method=method) == diversify(scaled, 18, method=method)


@pytest.mark.slow
def test_every_process_and_number_of_threads_gives_the_same_order():
    code = (
        "import json, numpy as np; from jinaclip.retrieval import diversify;"
        "rows = np.random.default_rng(5).normal(size=(50, 64)); print(json.dumps(diversify(rows, 50, seed=3)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == diversify(np.random.default_rng(5).normal(size=(50, 64)), 50, seed=3)


def test_many_threads_at_once_get_the_same_order():
    rows = np.random.default_rng(5).normal(size=(50, 64))
    expected, found = diversify(rows, 50), []
    threads = [threading.Thread(target=lambda: found.append(diversify(rows, 50))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8


def test_the_threads_of_the_process_are_left_as_they_were():
    from threadpoolctl import threadpool_info

    diversify(RNG.normal(size=(10, 4)), 10)
    before = threadpool_info()
    diversify(RNG.normal(size=(50, 16)), 50)
    assert threadpool_info() == before


def test_another_seed_may_choose_others_the_same_does_not():
    rows = np.random.default_rng(9).normal(size=(60, 8))
    orders = {seed: diversify(rows, 5, seed=seed) for seed in range(6)}
    assert len({tuple(order) for order in orders.values()}) > 1
    assert orders[2] == diversify(rows, 5, seed=2)


# mmr


@pytest.mark.parametrize("share", [0, 0.3, 0.5, 0.8, 1])
def test_mmr_is_the_formula(share):
    rng = np.random.default_rng(11)
    rows, relevance = rng.normal(size=(30, 12)), rng.random(30)
    found = diversify(rows, 12, relevance=relevance, method="mmr", lambda_mult=share)
    assert found == mmr(rows, relevance, 12, share)


def test_relevance_alone_is_the_order_of_relevance():
    rows, relevance = RNG.normal(size=(20, 5)), RNG.permutation(20) / 20
    found = diversify(rows, 20, relevance=relevance, method="mmr", lambda_mult=1)
    assert found == np.argsort(-relevance).tolist()


def test_mmr_shows_other_kinds_before_more_of_one():
    rows, labels = kinds(10, 10, 10)
    found = diversify(rows, 3, method="mmr", lambda_mult=0.3)
    assert sorted(labels[found]) == [0, 1, 2]


def test_mmr_needs_no_scikit_learn_and_kmeans_names_the_extra():
    code = """
import sys
sys.modules["sklearn"] = None
import numpy as np
from jinaclip import MissingDependencyError
from jinaclip.retrieval import diversify
assert len(diversify(np.eye(4), 4, method="mmr")) == 4
try:
    diversify(np.eye(4), 4, clusters=2)
except MissingDependencyError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "jinaclip[rerank]" in done.stdout


@pytest.mark.parametrize("name", ["retrieval", "evaluation"])
def test_importing_the_package_loads_next_to_nothing(name):
    code = f"import sys, jinaclip.{name}; print([m for m in ('numpy', 'sklearn', 'jinaclip.clip') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# what is refused


def test_no_results_are_no_results():
    for empty in ([], np.empty((0, 8)), np.empty((0, 0))):
        assert diversify(empty, 5) == diversify(empty, 5, method="mmr") == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"k": 0}, "k=0"),
        ({"k": 2.0}, "k=2.0"),
        ({"k": True}, "k=True"),
        ({"clusters": 0}, "clusters=0"),
        ({"clusters": "5"}, "clusters='5'"),
        ({"method": "dbscan"}, "method='dbscan'"),
        ({"lambda_mult": 1.5}, "lambda_mult=1.5"),
        ({"lambda_mult": None}, "lambda_mult=None"),
    ],
)
def test_options_out_of_range(options, named):
    with pytest.raises(ConfigError, match=named):
        diversify(np.eye(3), **{"k": 3, **options})
    with pytest.raises(ConfigError, match=named):
        diversify([], **{"k": 3, **options})


@pytest.mark.parametrize("rows", [np.ones(4), np.ones((2, 2, 2)), [[1, 2], [3]], "text", [[np.nan, 1], [1, 1]]])
def test_what_is_no_table_of_vectors(rows):
    with pytest.raises(InputError):
        diversify(rows, 2)


def test_a_vector_of_zeros_is_named():
    with pytest.raises(InputError, match="zeros") as caught:
        diversify([[1, 0], [0, 0]], 2)
    assert caught.value.index == 1
    with pytest.raises(InputError, match="zeros") as caught:
        diversify([None, [1, 0], None, [0, 0]], 2)
    assert caught.value.index == 3


@pytest.mark.parametrize("place", [0, 2])
def test_a_row_of_a_failed_item_is_named_by_its_result(place):
    """Results leaves a row of NaN where an item failed; counted among all results, those without an image too."""
    rows = [[1.0, 0.0], None, [0.0, 1.0]]
    rows[place] = [np.nan, np.nan]
    with pytest.raises(InputError, match=f"row {place} .*NaN") as caught:
        diversify(rows, 2)
    assert caught.value.index == place


@pytest.mark.parametrize("relevance", [[1, 2], [[1], [2], [3]], ["a", "b", "c"], [1, np.nan, 2], 1.0])
def test_relevance_that_does_not_fit(relevance):
    with pytest.raises(InputError, match="relevance"):
        diversify(np.eye(3), 3, relevance=relevance)
