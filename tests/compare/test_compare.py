"""Two sources of vectors are told to be one space, or two, and why."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from jinaclip import ConfigError, InputError, ItemFailure, JinaClip, Results
from jinaclip.compare import Verdict, compare, read_sample
from jinaclip.compare.measures import Agreement, Kept, keep
from jinaclip.compare.report import Identity
from jinaclip.compare.run import Side, conclude, make_columns
from jinaclip.compare.sample import Chosen, Sample
from jinaclip.compare.verdict import judge_one
from jinaclip.errors import AuthenticationError, BudgetError, CheckpointError
from tests.compare.conftest import Between, TurnOne, as_documents


def counts(comparison):
    return {kind: one.count for kind, one in comparison.agreements.items()}


def test_the_same_weights_at_home_and_served_are_the_same_vectors(home, served, sample):
    comparison = compare(home, served(), sample)
    assert comparison.verdict is Verdict.SAME, comparison
    assert {kind: one.count for kind, one in comparison.agreements.items()} == {
        "texts": 40,
        "queries": 40,
        "images": 22,
    }
    assert [kept for one in comparison.agreements.values() for kept in one.kept] == [1.0] * 6
    assert comparison.agreements["queries"].kept_images == (1.0, 1.0)
    assert comparison.reasons == []
    assert f"space={home.space} for B" in comparison.advice[0]  # nobody knows what a URL serves, so the names differ
    assert "40 of 40 texts" in str(comparison) and "verdict: the same vectors" in str(comparison)


def test_bfloat16_is_one_space_that_is_rounded_differently(home, catalogue_checkpoint, titles):
    comparison = compare(home, JinaClip(catalogue_checkpoint, backend="local", device="cpu", dtype="bfloat16"), titles)
    assert comparison.verdict is Verdict.ROUNDED, comparison
    assert comparison.verdict.one_space
    assert comparison.advice == []


def test_weights_of_another_seed_are_two_spaces(tiny, other):
    sides = [JinaClip(str(folder), backend="local", device="cpu") for folder in (tiny, other)]
    comparison = compare(*sides)
    assert comparison.verdict is Verdict.DIFFERENT
    assert {reason.split(":")[0] for reason in comparison.reasons} >= {"texts", "queries", "images"}
    assert compare(sides[0], JinaClip(str(tiny), backend="local", device="cpu")).verdict is Verdict.SAME


def test_a_service_that_embeds_queries_as_documents_is_named(home, served, titles):
    comparison = compare(home, served(transport=lambda: Between(ask=as_documents)), titles)
    assert comparison.verdict is Verdict.DIFFERENT
    assert all(reason.startswith("queries") for reason in comparison.reasons)
    assert comparison.advice[0].startswith("B embeds a query as it does a document")


def test_images_that_come_to_the_model_s_size_otherwise_are_found_by_the_few_of_the_package(catalogue_checkpoint):
    sides = [
        JinaClip(catalogue_checkpoint, backend="local", device="cpu", image_resize=how) for how in ("model", "squash")
    ]
    comparison = compare(*sides)
    assert comparison.verdict is Verdict.DIFFERENT
    assert all(reason.startswith("images") for reason in comparison.reasons)
    assert comparison.advice[0].startswith("only images differ: look at image_resize")
    assert "which is few" in str(comparison)


def test_one_row_that_is_turned_is_found_and_named(home, served, titles):
    turned = titles.texts.inputs[17]
    comparison = compare(home, served(transport=lambda: Between(answer=TurnOne(turned))), titles)
    assert comparison.verdict is Verdict.DIFFERENT
    assert comparison.reasons[0] == "texts: 1 of 40 have a cosine under 0.99"
    assert [name for name, _ in comparison.agreements["texts"].worst(0.99)] == [titles.texts.names[17]]
    assert f"- {titles.texts.names[17]}: " in str(comparison)


def test_one_name_for_two_spaces_is_told(tiny, other):
    sides = [JinaClip(str(folder), backend="local", device="cpu", space="mine") for folder in (tiny, other)]
    assert "the names of the spaces are the same though" in compare(*sides).advice[-1]


def test_other_lengths_are_two_spaces_although_the_directions_agree(tiny):
    sides = [JinaClip(str(tiny), backend="local", device="cpu", normalized=normalized) for normalized in (True, False)]
    comparison = compare(*sides)
    assert comparison.verdict is Verdict.DIFFERENT
    assert all("norms differ by up to" in reason for reason in comparison.reasons)


def test_vectors_of_other_widths_are_two_spaces_and_nothing_is_sent(clip, server):
    comparison = compare(clip(), clip(dimensions=64))
    assert comparison.verdict is Verdict.DIFFERENT
    assert "vectors of 1024 and 64 numbers" in comparison.reasons[0]
    assert server.ledger()["requests"] == 0
    assert "verdict: two spaces" in str(comparison)


def test_the_cache_is_neither_read_nor_written(clip, server, tmp_path):
    cached, place = clip(cache=tmp_path / "vectors.sqlite"), tmp_path / "vectors.sqlite"
    cached.embed_documents(read_sample().texts.inputs)
    before, sent = cached.cache.stats().entries, server.ledger()["texts"]
    assert compare(cached, clip(cache=place)).verdict is Verdict.SAME
    assert server.ledger()["texts"] == sent + 4 * 24
    assert cached.cache.stats().entries == before


def test_an_item_that_one_side_fails_on_is_named_and_left_out(clip, server, tmp_path, hasty):
    lines = [f"wish {number}" for number in range(30)]
    (tmp_path / "wishes.txt").write_text("\n".join([*lines, "a poisoned wish"]))
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    server.configure(poison={"poisoned": "bad_item_unnamed_400"})
    sample = read_sample([tmp_path / "wishes.txt", tmp_path / "red.png", tmp_path / "broken.png"])
    comparison = compare(clip(), clip(), sample)
    assert comparison.verdict is Verdict.SAME
    assert counts(comparison) == {"texts": 30, "queries": 30, "images": 1}
    text = str(comparison)
    assert "- A, texts: line 31 of wishes.txt: " in text
    assert f"- A, images: {tmp_path / 'broken.png'}: " in text
    assert "poisoned" not in text


def test_a_kind_of_which_nothing_was_embedded_leaves_it_unknown(clip, tmp_path):
    (tmp_path / "wishes.txt").write_text("one\ntwo")
    (tmp_path / "broken.png").write_bytes(b"no image")
    comparison = compare(clip(), clip(), read_sample([tmp_path / "wishes.txt", tmp_path / "broken.png"]))
    assert comparison.verdict is Verdict.UNKNOWN
    assert not comparison.verdict.one_space
    assert comparison.reasons == ["images: not one was embedded by both"]


def test_if_everything_fails_the_error_says_why(clip, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"nothing can be compared; A: .*broken\.png"):
        compare(clip(), clip(), read_sample([tmp_path / "broken.png"]))


def test_a_side_that_cannot_answer_at_all_is_named(clip):
    with pytest.raises(AuthenticationError, match=r"^B \(the new one\): "):
        compare(clip(), clip(api_key="sk_wrong"), descriptions=("the old one", "the new one"))


def test_what_costs_nothing_goes_first(clip, server, catalogue_checkpoint, tmp_path):
    """So that nothing is paid for when it fails."""
    broken = shutil.copytree(catalogue_checkpoint, tmp_path / "broken")
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match=r"^B \("):
        compare(clip(dimensions=128), JinaClip(str(broken), backend="local", device="cpu"))
    assert server.ledger()["requests"] == 0


def test_the_estimate_is_told_and_held_to_the_budget_before_anything_is_sent(clip, server, caplog):
    caplog.set_level("INFO", "jinaclip")
    with pytest.raises(BudgetError):
        compare(clip(), clip(token_budget=1000))
    assert server.ledger()["requests"] == 0
    assert "B (jina-clip-v2, backend api at http" in caplog.text
    assert "24 texts, 24 queries, 12 images, about 48," in caplog.text


def test_of_few_candidates_the_neighbours_are_not_told():
    vectors = np.eye(20, 32, dtype=np.float32)
    assert keep((vectors, vectors), (vectors, vectors)) == Kept(None, None)


def test_near_duplicates_may_change_places():
    draw = np.random.default_rng(0)
    kinds = draw.standard_normal((5, 64)).repeat(13, axis=0)
    ours, theirs = ((kinds + 0.01 * draw.standard_normal(kinds.shape)).astype(np.float32) for _ in range(2))
    assert not np.array_equal(*(np.argsort(-side @ side.T)[:, :10] for side in (ours, theirs)))
    assert keep((ours, theirs), (ours, theirs), np.arange(65)) == Kept(1.0, 1.0)


def test_unrelated_vectors_keep_few_neighbours():
    ours, theirs = np.random.default_rng(0).standard_normal((2, 200, 64)).astype(np.float32)
    kept = keep((ours, theirs), (ours, theirs), np.arange(200))
    assert max(kept.apart, kept.across) < 0.1


def test_no_input_is_its_own_neighbour():
    """Among vectors that have nothing in common each would find itself first, by A and by B."""
    inputs = [str(number) for number in range(200)]
    columns = make_columns(Sample(Chosen(inputs, inputs, 200), Chosen([], [], 0)))
    draw, failed = np.random.default_rng(0), np.arange(200) == 7
    sides = []
    for name in "AB":
        rows = {kind: draw.standard_normal((200, 64)).astype(np.float32) for kind in columns}
        rows["texts"][failed] = np.nan  # so that a query and its text have other places
        sides.append(Side(Identity(name, name, "one", "one", 64), {kind: results(one) for kind, one in rows.items()}))
    found = conclude(tuple(sides), columns, []).agreements
    assert {kind: one.count for kind, one in found.items()} == {"texts": 199, "queries": 200}
    assert max(found["texts"].kept) < 0.1


def results(rows):
    failed = np.flatnonzero(np.isnan(rows).any(axis=1))
    return Results(rows, {int(i): ItemFailure(InputError("no"), int(i), "text") for i in failed})


def test_turned_vectors_keep_their_neighbours_apart_but_not_across():
    draw = np.random.default_rng(0)
    ours = draw.standard_normal((200, 64)).astype(np.float32)
    theirs = (ours @ np.linalg.qr(draw.standard_normal((64, 64)))[0]).astype(np.float32)
    kept = keep((ours, theirs), (ours, theirs), np.arange(200))
    assert kept.apart == 1.0
    assert kept.across < 0.1


@pytest.mark.parametrize(
    ("least", "kept", "verdict"),
    [
        (1 - 2e-6, 1.0, Verdict.SAME),
        (0.9999, 1.0, Verdict.ROUNDED),
        (0.9901, 0.951, Verdict.ROUNDED),
        (0.9901, 0.949, Verdict.DIFFERENT),
        (0.9899, 1.0, Verdict.DIFFERENT),
    ],
)
def test_the_bounds_are_those_that_are_printed(least, kept, verdict):
    ones, none = np.ones(30), Kept(None, None)
    cosines = np.array([least, *ones[1:]])
    agreement = Agreement("texts", 30, cosines, ["x"] * 30, (ones, ones), Kept(1.0, kept), none)
    assert judge_one(agreement) is verdict


@pytest.mark.parametrize("limit", [0, 5001, True, 1.5, "ten"])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ConfigError, match="limit="):
        read_sample(limit=limit)
