"""Search among quantised embeddings finds what sorting everything finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinaclip import ConfigError, InputError
from jinaclip.retrieval import calibration_ranges, dequantize, quantize, search, semantic_search
from jinaclip.vectors import largest, normalize

PRECISIONS = ("int8", "uint8", "binary", "ubinary")
BITS = ("binary", "ubinary")


def unit(count, width, seed=0):
    return normalize(np.random.default_rng(seed).standard_normal((count, width)))


@pytest.fixture(scope="module")
def corpus():
    return unit(500, 64)


@pytest.fixture(scope="module")
def queries(corpus):
    return normalize(corpus[::50] + 0.8 * unit(10, 64, seed=1))


def order(scores, k):
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


# golden values, written out by hand


def test_hamming_distance_is_counted_and_equal_ones_keep_their_order():
    corpus = np.array([[0b00000000], [0b11110000], [0b11111111], [0b11110001], [0b00001111]], np.uint8)
    query = [1, 1, 1, 1, -1, -1, -1, -1]
    found = semantic_search(query, corpus, "ubinary", top_k=5, rescore=False)
    assert found.indices.tolist() == [1, 3, 0, 2, 4]
    assert found.scores.tolist() == [1, 0.75, 0, 0, -1]
    assert semantic_search(query, corpus, "ubinary", top_k=3, rescore=False).indices.tolist() == [1, 3, 0]


def test_rescored_bits_count_as_much_as_the_query_s_numbers():
    corpus = np.array([[0b11000000], [0b00110000]], np.uint8)
    query = np.array([0.9, 0.9, 1, 0.7, -1, -1, -1, -1]) / 8
    assert semantic_search(query, corpus, "ubinary", rescore=False).scores.tolist() == [0.5, 0.5]
    found = semantic_search(query, corpus, "ubinary", top_k=1)
    assert found.indices.tolist() == [0]
    np.testing.assert_allclose(found.scores, [(0.9 + 0.9 - 1 - 0.7 + 4) / 8 / np.sqrt(8)], rtol=1e-6)


def test_bytes_are_scored_by_what_they_stand_for():
    ranges = [[-1, 0], [1, 51]]
    corpus = np.array([[0, 255], [255, 0], [255, 1]], np.uint8)  # -1 and 51; 1 and 0; 1 and 0.2
    found = semantic_search([1, -0.1], corpus, "uint8", ranges=ranges)
    assert found.indices.tolist() == [1, 2, 0]
    np.testing.assert_allclose(found.scores, [1, 0.98, -6.1], rtol=1e-6)


# against sorting everything


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_finds_what_sorting_all_dequantised_embeddings_finds(corpus, queries, precision):
    ranges = calibration_ranges(corpus)
    codes = quantize(corpus, precision, ranges)
    found = semantic_search(queries, codes, precision, ranges=ranges, rescore_multiplier=1000)
    exact = queries @ dequantize(codes, precision, ranges).T
    np.testing.assert_allclose(found.scores, np.take_along_axis(exact, order(exact, 10), 1), atol=1e-6)
    np.testing.assert_allclose(found.scores, np.take_along_axis(exact, found.indices, 1), atol=1e-6)
    assert (found.indices.dtype, found.scores.dtype) == (np.intp, np.float32)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_with_candidates_enough_rescoring_by_full_embeddings_is_exact_search(corpus, queries, precision):
    ranges = calibration_ranges(corpus)
    found = semantic_search(
        queries, quantize(corpus, precision, ranges), precision, top_k=7, ranges=ranges,
        rescore_multiplier=500 // 7 + 1, rescore_embeddings=corpus,
    )  # fmt: skip
    exact = queries @ corpus.T
    assert (found.indices == order(exact, 7)).all()
    np.testing.assert_allclose(found.scores, np.take_along_axis(exact, found.indices, 1), atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), width=st.sampled_from([8, 16, 24, 32, 64, 72]), precision=st.sampled_from(BITS))
def test_whole_numbers_are_ordered_as_exact_search_orders_them_ties_too(data, width, precision):
    """Sums of whole numbers have no rounding, so that even the order of equal scores must agree."""
    seed, count = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(seed)
    corpus = rng.integers(-2, 3, (count, width)).astype(np.float32)
    queries = rng.integers(-2, 3, (3, width)).astype(np.float32)
    k = data.draw(st.integers(1, 50))
    codes = quantize(corpus, precision)
    found = semantic_search(queries, codes, precision, top_k=k, rescore_multiplier=40, rescore_embeddings=corpus)
    assert (found.indices == order(queries @ corpus.T, k)).all()
    distances = ((queries > 0)[:, None] != (corpus > 0)[None]).sum(axis=2)
    found = semantic_search(queries, codes, precision, top_k=k, rescore=False)
    assert (found.indices == order(-distances, k)).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_large_corpus_and_many_queries_are_compared_in_parts(corpus, queries, precision, monkeypatch):
    ranges = calibration_ranges(corpus)
    codes = quantize(corpus, precision, ranges)
    options = {"ranges": ranges, "rescore_multiplier": 5, "rescore_embeddings": corpus}
    whole = semantic_search(queries, codes, precision, **options)
    monkeypatch.setattr(search, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(search, "QUERIES_AT_ONCE", 3)
    parts = semantic_search(queries, codes, precision, **options)
    assert (parts.indices == whole.indices).all()
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-6)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=9), st.sampled_from(["u1", "u2", "u4", "u8"]))
def test_bits_are_counted_alike_by_table(numbers, word):
    words = np.array(numbers, np.uint64).astype(word)[None]
    assert search.count_bits_by_table(words).tolist() == [[int(value).bit_count() for value in words[0]]]
    assert (search.count_bits(words) == search.count_bits_by_table(words)).all()


def test_numpy_counts_bits_where_it_can():
    assert search.count_bits is getattr(np, "bitwise_count", search.count_bits_by_table)


@given(
    scores=st.lists(st.lists(st.integers(-2, 2), min_size=6, max_size=6), max_size=3),
    k=st.integers(0, 8),
)
def test_the_largest_are_as_sorting_has_them(scores, k):
    table = np.array(scores, np.float32).reshape(-1, 6)
    assert (largest(table, k) == order(table, k)).all()


# how much is lost


def test_more_exact_embeddings_find_more(corpus, queries):
    exact = order(queries @ corpus.T, 10)
    ranges = calibration_ranges(corpus)

    def recall(codes, precision, **options):
        found = semantic_search(queries, codes, precision, ranges=ranges, **options).indices
        return np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, exact, strict=True)])

    bits = quantize(corpus, "ubinary")
    alone = recall(bits, "ubinary", rescore=False)
    by_bits = recall(bits, "ubinary")
    by_full = recall(bits, "ubinary", rescore_embeddings=corpus)
    assert alone < by_bits < by_full
    assert recall(quantize(corpus, "int8", ranges), "int8") >= 0.97


def test_without_rescoring_full_embeddings_change_nothing(corpus, queries):
    bits = quantize(corpus, "ubinary")
    alone = semantic_search(queries, bits, "ubinary", rescore=False)
    given = semantic_search(queries, bits, "ubinary", rescore=False, rescore_embeddings=corpus)
    assert (alone.indices == given.indices).all()


# shapes, files


@pytest.mark.parametrize("precision", PRECISIONS)
def test_one_query_gives_one_row(corpus, queries, precision):
    ranges = calibration_ranges(corpus)
    codes = quantize(corpus, precision, ranges)
    one = semantic_search(queries[2], codes, precision, ranges=ranges)
    assert one.indices.shape == one.scores.shape == (10,)
    assert (one.indices == semantic_search(queries, codes, precision, ranges=ranges).indices[2]).all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_corpus_smaller_than_the_count_is_found_whole(corpus, queries, precision, count):
    ranges = calibration_ranges(corpus)
    codes = quantize(corpus[:count], precision, ranges)
    found = semantic_search(queries, codes, precision, ranges=ranges, rescore_embeddings=corpus[:count])
    assert found.indices.shape == (10, count)
    assert (np.sort(found.indices, axis=1) == np.arange(count)).all()
    assert semantic_search(queries[:0], codes, precision, ranges=ranges).indices.shape == (0, count)


def test_files_are_searched_where_they_lie(corpus, queries, tmp_path):
    codes = quantize(corpus, "binary")
    np.save(tmp_path / "codes.npy", codes)
    np.save(tmp_path / "full.npy", corpus)
    on_disk, full = (np.load(tmp_path / name, mmap_mode="r") for name in ("codes.npy", "full.npy"))
    found = semantic_search(queries, on_disk, "binary", rescore_embeddings=full)
    assert (found.indices == semantic_search(queries, codes, "binary", rescore_embeddings=corpus).indices).all()


def test_columns_of_a_larger_array_are_searched_as_they_are(corpus, queries):
    codes = quantize(corpus, "ubinary")
    wide = np.concatenate([codes, codes], axis=1)[:, 8:]
    assert not wide.flags.c_contiguous
    expected = semantic_search(queries, codes, "ubinary").indices
    assert (semantic_search(queries, wide, "ubinary").indices == expected).all()
    assert (semantic_search(queries, codes.tolist(), "ubinary").indices == expected).all()


# what is refused


@pytest.mark.parametrize(
    ("options", "named"),
    [({"top_k": 0}, "top_k=0"), ({"top_k": 2.5}, "top_k"), ({"rescore_multiplier": 0}, "rescore_multiplier=0"),
     ({"rescore_multiplier": True}, "rescore_multiplier"), ({"top_k": None}, "top_k")],
)  # fmt: skip
def test_options_out_of_range(corpus, queries, options, named):
    with pytest.raises(ConfigError, match=named):
        semantic_search(queries, quantize(corpus, "ubinary"), "ubinary", **options)


def test_a_failed_query_is_named(corpus, queries):
    broken = queries.copy()
    broken[4] = np.nan
    with pytest.raises(InputError, match="row 4 of query_embeddings") as caught:
        semantic_search(broken, quantize(corpus, "ubinary"), "ubinary")
    assert caught.value.index == 4


def test_a_failed_row_of_the_full_embeddings_is_named_by_its_place_in_the_corpus(corpus, queries):
    full = corpus.copy()
    full[321] = np.nan
    with pytest.raises(InputError, match="row 321 of rescore_embeddings") as caught:
        semantic_search(queries, quantize(corpus, "ubinary"), "ubinary", rescore_multiplier=50, rescore_embeddings=full)
    assert caught.value.index == 321


def test_what_does_not_fit_is_refused(corpus, queries):
    bits, ranges = quantize(corpus, "ubinary"), calibration_ranges(corpus)
    codes = quantize(corpus, "int8", ranges)
    for found, precision, options, error, named in (
        (bits, "int4", {}, ConfigError, "precision='int4'"),
        (bits, "binary", {}, InputError, "corpus_embeddings of uint8"),
        (bits[:, :4], "ubinary", {}, InputError, r"must be \(n, 8\)"),
        (bits[0], "ubinary", {}, InputError, r"shape \(8,\)"),
        (codes, "int8", {}, ConfigError, "needs the ranges"),
        (codes[:, :8], "int8", {"ranges": ranges[:, :8]}, InputError, r"must be \(n, 64\)"),
        (codes, "int8", {"ranges": ranges[:, :8]}, ConfigError, r"shape \(2, 8\)"),
        (bits, "ubinary", {"rescore_embeddings": corpus[:9]}, InputError, r"must have shape \(500, 64\)"),
    ):
        with pytest.raises(error, match=named):
            semantic_search(queries, found, precision, **options)
