"""JinaClip against the test server: what goes over the wire, what comes back, and what it costs."""

import numpy as np
import pytest
from PIL import Image as Pillow

from jinaclip import BudgetError, ConfigError, InputError, JinaClip
from jinaclip.errors import ItemError
from jinaclip.testing.vectors import expected_vector

TEXTS = [f"text {number}" for number in range(10)]
PIXELS = np.random.default_rng(2).integers(0, 255, (512, 512, 3), np.uint8)
PICTURE = Pillow.fromarray(PIXELS)


def expected(texts, **how):
    return np.stack([expected_vector("text", text, **how) for text in texts])


def last(server):
    return server.ledger()["last"]


# Over the wire


async def test_documents_queries_and_images_have_shapes_and_vectors_of_their_own(server, clip, run):
    one = clip()
    query = await run(one, "embed_query", "red")
    assert (query.shape, query.dtype, query.flags.writeable) == ((1024,), np.float32, True)
    np.testing.assert_allclose(query, expected_vector("text", "red", task="retrieval.query"), atol=1e-6)
    documents = await run(one, "embed_documents", TEXTS)
    assert (documents.shape, documents.dtype, documents.flags.c_contiguous) == ((10, 1024), np.float32, True)
    np.testing.assert_allclose(documents, expected(TEXTS), atol=1e-6)
    image = await run(one, "embed_image", PICTURE)
    np.testing.assert_allclose(image, expected_vector("image", PICTURE), atol=1e-6)


async def test_what_is_sent_for_each_kind(server, clip, run):
    common = {"model": "jina-clip-v2", "normalized": True, "embedding_type": "base64", "truncate": False}
    one = clip()
    await run(one, "embed_documents", ["a"])
    assert last(server)["body"] == common
    await run(one, "embed_query", "a")
    assert last(server)["body"] == {**common, "task": "retrieval.query"}
    await run(one, "embed_image", PICTURE)
    assert last(server)["body"] == common
    headers = last(server)["headers"]
    assert (headers["content-type"], headers["accept"]) == ("application/json", "application/json")


async def test_v1_gets_neither_dimensions_nor_task(server, clip, run):
    one = clip("jina-clip-v1", dimensions=768)
    query = await run(one, "embed_query", "red")
    assert set(last(server)["body"]) == {"model", "normalized", "embedding_type", "truncate"}
    assert query.shape == (768,)
    np.testing.assert_allclose(query, expected_vector("text", "red", "jina-clip-v1"), atol=1e-6)


@pytest.mark.parametrize("dimensions", [1, 64, 512, 1024])
@pytest.mark.filterwarnings("ignore:.*will cost quality")
async def test_dimensions(server, clip, run, dimensions):
    rows = await run(clip(dimensions=dimensions), "embed_documents", TEXTS)
    assert last(server)["body"]["dimensions"] == dimensions
    assert rows.shape == (10, dimensions)
    np.testing.assert_allclose(rows, expected(TEXTS, dimensions=dimensions), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


async def test_raw_lengths(server, clip, run):
    rows = await run(clip(normalized=False), "embed_documents", TEXTS)
    assert last(server)["body"]["normalized"] is False
    np.testing.assert_allclose(rows, expected(TEXTS, normalized=False), rtol=1e-5)
    assert np.linalg.norm(rows, axis=1).min() > 1.5


async def test_too_long_a_text_is_refused_or_cut(server, clip, run):
    texts = ["short", "long " * 9_000]
    with pytest.raises(ItemError, match="truncate=True") as caught:
        await run(clip(), "embed_documents", texts)
    assert caught.value.index == 1
    assert "text 1" in str(caught.value)
    np.testing.assert_allclose(caught.value.partial.vectors[0], expected(["short"])[0], atol=1e-6)
    np.testing.assert_allclose(await run(clip(truncate=True), "embed_documents", texts), expected(texts), atol=1e-6)
    assert last(server)["body"]["truncate"] is True


@pytest.mark.parametrize(
    "empty", [[], (), iter([]), {}.keys(), np.empty((0,), object)], ids=lambda empty: type(empty).__name__
)
@pytest.mark.parametrize("method", ["embed_documents", "embed_images", "embed_pairs"])
async def test_nothing_gives_nothing_and_asks_nothing(server, clip, run, method, empty):
    rows = await run(clip(dimensions=64), method, empty)
    assert (rows.shape, rows.dtype) == ((0, 64), np.float32)
    assert server.ledger()["requests"] == 0


async def test_batches_are_cut_by_items(server, clip, run):
    texts = [f"batch {number}" for number in range(25)]
    one = clip(batch_size=10)
    np.testing.assert_allclose(await run(one, "embed_documents", texts), expected(texts), atol=1e-6)
    assert server.ledger()["requests"] == one.usage.requests == one.estimate(texts).requests == 3


async def test_batches_are_cut_by_tokens_and_by_bytes(server, clip, run):
    texts = [f"{number} " + "word " * 4_000 for number in range(40)]
    await run(clip(), "embed_documents", texts)
    assert server.ledger()["requests"] == 2, "100,000 tokens, a free key's minute, are the most for one"
    server.reset()
    await run(clip(tokens_per_minute=50_000, api_key="jina_test_paced"), "embed_documents", texts[:5])
    assert server.ledger()["requests"] == 1
    server.reset()
    texts = [f"{number}" + "w" * 400_000 for number in range(40)]
    await run(clip(truncate=True, batch_size=512), "embed_documents", texts[:30])
    assert server.ledger()["requests"] >= 2


async def test_duplicates_are_sent_once(server, clip, run):
    texts = ["a", "b", "a", "c", "b", "a"]
    one = clip()
    np.testing.assert_allclose(await run(one, "embed_documents", texts), expected(texts), atol=1e-6)
    books = server.ledger()
    assert (books["last"]["items"], books["answered"], one.usage.items) == (3, {"1": 3}, 3)
    rows = await run(one, "embed_images", [PICTURE, PIXELS, PICTURE])
    np.testing.assert_allclose(rows, [expected_vector("image", PICTURE)] * 3, atol=1e-6)
    assert server.history("image", PICTURE) == {"received": 1, "answered": 1}


def test_a_bar_is_not_drawn_where_there_is_no_standard_error(clip, monkeypatch):
    """As in programs with windows."""
    monkeypatch.setattr("sys.stderr", None)
    assert len(clip(show_progress=True).embed_documents(TEXTS)) == len(TEXTS)


@pytest.mark.slow
def test_duplicates_far_apart_in_a_generator_get_the_vector_of_the_first(clip):
    """Their places lie beyond what was reserved for the rows."""
    texts = [f"far {number}" for number in range(300)]
    rows = clip().embed_documents(text for _ in range(40) for text in texts)
    np.testing.assert_allclose(rows, np.tile(expected(texts), (40, 1)), atol=1e-6)


async def test_duplicates_of_a_bad_item_are_bad_too(server, clip, run):
    server.configure(poison={"bad": "bad_item_400"})
    with pytest.raises(ItemError) as caught:
        await run(clip(), "embed_documents", ["a", "bad", "b", "bad", "a"])
    error = caught.value
    assert {index: item.index for index, item in error.partial.errors.items()} == {1: 1, 3: 3}
    assert error.partial.successes()[0].tolist() == [0, 2, 4]
    assert server.history("text", "bad")["received"] == 2, "with the others, and alone as the service named it"


async def test_one_tile_is_sent_and_billed_for_a_large_picture(server, clip, run):
    big = Pillow.effect_noise((1600, 1200), 80).convert("RGB")
    one = clip()
    estimate = one.estimate([big])
    await run(one, "embed_image", big)
    books = server.ledger()
    assert (books["tiles"], books["tokens"], one.usage.tokens, estimate.tokens) == (1, 4_000, 4_000, 4_000)
    whole = clip(image_resize="none", image_quality=90)
    await run(whole, "embed_image", big)
    assert server.ledger()["tiles"] - 1 == 12
    assert whole.usage.tokens == whole.estimate([big]).tokens == 48_000


# Usage, estimates, budgets


async def test_usage_adds_up(server, clip, run):
    one = clip(batch_size=5)
    assert one.usage == clip().usage
    await run(one, "embed_documents", TEXTS)
    await run(one, "embed_query", "a query")
    await run(one, "embed_image", PICTURE)
    books = server.ledger()
    assert (one.usage.requests, one.usage.items, one.usage.retries) == (4, 12, 0)
    assert one.usage.tokens == books["tokens"] == sum(one.estimate([text]).tokens for text in TEXTS) + 4_000 + 13


async def test_the_instruction_that_is_billed_with_each_query_is_reckoned(server, clip, run):
    one = clip()
    await run(one, "embed_queries", TEXTS)
    billed = server.ledger()["tokens"]
    assert billed == sum(one.count_tokens(TEXTS, task="query")) == one.estimate(TEXTS, task="query").tokens
    assert billed > sum(one.count_tokens(TEXTS))


async def test_a_budget_is_not_exceeded_by_queries(server, clip, run):
    one = clip(token_budget=500, batch_size=5, max_concurrency=1)
    with pytest.raises(BudgetError):
        await run(one, "embed_queries", (f"text {number}" for number in range(1_000)))
    assert 500 - 5 * 13 < one.usage.tokens == server.ledger()["tokens"] <= 500
    with pytest.raises(BudgetError):
        await run(clip(token_budget=12), "embed_query", "a query")


async def test_a_budget_refuses_before_sending(server, clip, run):
    one = clip(token_budget=4_050)
    with pytest.raises(BudgetError, match=r"token_budget=4,050"):
        await run(one, "embed_images", [PICTURE, PICTURE.rotate(90)])
    assert server.ledger()["requests"] == 0
    await run(one, "embed_image", PICTURE)
    await run(one, "embed_documents", TEXTS)
    with pytest.raises(BudgetError):
        await run(one, "embed_documents", [f"more {number}" for number in range(10)])
    assert one.usage.tokens == 4_040
    assert server.ledger()["requests"] == 2


async def test_a_budget_ends_a_generator_with_what_it_paid_for(server, clip, run):
    one = clip(token_budget=100, batch_size=5, max_concurrency=1)
    with pytest.raises(BudgetError) as caught:
        await run(one, "embed_documents", (f"text {number}" for number in range(1_000)))
    assert caught.value.partial.ok.sum() == one.usage.items
    assert 100 - 5 * 4 < one.usage.tokens <= 100, "another batch would not fit"


async def test_no_budget_at_all(server, clip, run):
    with pytest.raises(BudgetError):
        await run(clip(token_budget=0), "embed_query", "a")
    assert server.ledger()["requests"] == 0


# check


@pytest.mark.parametrize("model", ["jina-clip-v1", "jina-clip-v2"])
def test_check_when_all_is_well(server, clip, model):
    one = clip(model)
    report = one.self_test()
    assert report.ok
    assert report.problems == ()
    assert (report.model, report.backend, report.dimensions) == (model, "api", one.dimensions)
    assert report.text_norm == pytest.approx(1, abs=1e-5)
    assert report.image_norm == pytest.approx(1, abs=1e-5)
    assert min(report.text_latency, report.image_latency) > 0
    assert report.tokens == one.usage.tokens == server.ledger()["tokens"]
    assert report.tokens > one.spec.tokens_per_tile


@pytest.mark.parametrize("fault", ["auth_401", "wrong_dimension_all", "balance_403", "not_found_404"])
def test_check_tells_errors_instead_of_raising(server, clip, fault):
    server.configure(faults=[fault], fault_rate=1)
    report = clip().self_test()
    assert not report.ok
    assert len(report.problems) == 2
    assert report.text_norm is report.image_latency is None
    assert report.problems[0].startswith("text: ")
    assert report.problems[1].startswith("image: ")


def test_check_with_half_of_it_failing(server, clip):
    server.configure(script=["auth_401"])
    report = clip().self_test()
    assert (len(report.problems), report.text_norm, report.image_norm is None) == (1, None, False)


# What it says


def test_what_an_object_says_about_itself():
    one = JinaClip(dimensions=64)
    assert repr(one) == "JinaClip('jina-clip-v2', backend='api', dimensions=64)"
    assert (one.spec.name, one.dimensions) == ("jina-clip-v2", 64)


# Pairs


def fused(text, image, weight=0.5):
    mean = weight * expected_vector("text", text) + (1 - weight) * expected_vector("image", image)
    return mean / np.linalg.norm(mean)


TURNED = [PICTURE.rotate(90 * turn) for turn in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("weight", [0, 0.3, 0.5, 1])
async def test_pairs_are_fused(server, clip, run, weight):
    pairs = list(zip(TEXTS, TURNED, strict=False))
    rows = await run(clip(), "embed_pairs", pairs, weight=weight)
    assert (rows.shape, rows.dtype) == ((4, 1024), np.float32)
    for row, (text, image) in zip(rows, pairs, strict=True):
        np.testing.assert_allclose(row, fused(text, image, weight), atol=1e-6)
    assert server.ledger()["answered"] == {"1": 8 if 0 < weight < 1 else 4}, "a half without weight is not sent"


async def test_raw_lengths_do_not_weigh_in_pairs(clip, run):
    (row,) = await run(clip(normalized=False), "embed_pairs", [("a", PICTURE)])
    np.testing.assert_allclose(row, fused("a", PICTURE), atol=1e-5)


async def test_halves_of_pairs_are_sent_once(server, clip, run):
    await run(clip(), "embed_pairs", [("a", PICTURE), ("b", PICTURE), ("a", TURNED[1])])
    assert server.ledger()["answered"] == {"1": 4}


@pytest.mark.parametrize("weight", [-1, 2, None, "half", True])
async def test_a_weight_out_of_range_costs_nothing(server, clip, run, weight):
    with pytest.raises(ConfigError, match="weight"):
        await run(clip(), "embed_pairs", [("a", PICTURE)], weight=weight)
    assert server.ledger()["requests"] == 0


@pytest.mark.parametrize(
    "pair",
    [
        "ab",
        ("a",),
        ("a", PICTURE, 1),
        None,
        3,
        {"text": "a", "image": PICTURE},
        (PICTURE, "a"),
        ("", PICTURE),
        ("a", None),
    ],
)
async def test_what_is_no_pair(server, clip, run, pair):
    with pytest.raises(InputError) as caught:
        await run(clip(), "embed_pairs", [("a", PICTURE), pair])
    assert caught.value.index == 1
    assert server.ledger()["requests"] == 0


async def test_pairs_that_fail_leave_the_others_theirs(server, clip, run):
    server.configure(poison={"bad": "bad_item_400"})
    pairs = [("a", TURNED[0]), ("bad", TURNED[1]), ("b", b"no picture"), ("c", TURNED[2]), None, ("d", TURNED[3])]
    with pytest.raises(InputError) as caught:
        await run(clip(), "embed_pairs", iter(pairs))
    error = caught.value
    assert error.index == 1
    assert sorted(error.partial.errors) == [1, 2, 4]
    assert {index: item.index for index, item in error.partial.errors.items()} == {1: 1, 2: 2, 4: 4}
    assert error.partial.successes()[0].tolist() == [0, 3, 5]
    for index in (0, 3, 5):
        np.testing.assert_allclose(error.partial.vectors[index], fused(*pairs[index]), atol=1e-6)


async def test_pairs_answered_before_the_end_are_kept_whole(server, clip, run):
    server.configure(poison={TEXTS[2]: "auth_401"})
    with pytest.raises(Exception, match="key") as caught:
        await run(clip(batch_size=1, max_concurrency=1), "embed_pairs", list(zip(TEXTS, TURNED, strict=False)))
    assert caught.value.partial.successes()[0].tolist() == [0, 1]
    np.testing.assert_allclose(caught.value.partial.vectors[1], fused(TEXTS[1], TURNED[1]), atol=1e-6)
