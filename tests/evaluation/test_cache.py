"""What was embedded is not embedded again: after an interruption, a failure, or for other options."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from examples.catalogue.table import write_lines
from jinaclip import Cache, ConfigError, InputError
from jinaclip.errors import ItemError, ServerError
from jinaclip.evaluation import evaluate

COLOURS = ("red", "green", "blue", "gold", "navy", "olive")


@pytest.fixture
def shelf(tmp_path):
    """A table of six squares beside their pictures, with three queries."""
    for colour in COLOURS:
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{colour}.png")
    rows = ({"id": c, "text": f"a {c} square", "image": f"{c}.png", "categories": c} for c in COLOURS)
    write_lines(tmp_path / "items.jsonl", rows)
    write_lines(tmp_path / "queries.jsonl", ({"text": colour, "categories": colour} for colour in COLOURS[:3]))
    return tmp_path


def run(clip, shelf, **options):
    given = {"resamples": 20, "cache": shelf / "new" / "vectors.sqlite", **options}
    return evaluate(clip, shelf / "items.jsonl", shelf / "queries.jsonl", **given)


@pytest.mark.slow
def test_a_second_run_asks_for_nothing_and_finds_the_same(shelf, server, clip):
    with clip() as first:
        found = run(first, shelf)
    before = server.ledger()["requests"]
    with clip() as second:
        assert run(second, shelf).markdown() == found.markdown()
        run(second, shelf, weight=0.8, pool=3)
    assert server.ledger()["requests"] == before
    with clip() as without:
        assert run(without, shelf, cache=None).markdown() == found.markdown()


def test_only_what_is_new_or_changed_is_embedded(shelf, server, clip, caplog):
    with clip() as one:
        run(one, shelf)
        server.reset()
        Image.new("RGB", (32, 32), "white").save(shelf / "red.png")
        with caplog.at_level(logging.INFO, "jinaclip"), (shelf / "items.jsonl").open("a") as file:
            file.write(json.dumps({"id": 7, "text": "a new square", "image": "blue.png", "categories": "red"}) + "\n")
            file.flush()
            run(one, shelf)
    assert "to embed: 1 texts, 1 images" in caplog.text
    assert server.ledger()["tiles"] == 1


@pytest.mark.slow
def test_pictures_of_other_settings_are_not_taken_and_texts_are(shelf, server, clip):
    with clip() as one:
        run(one, shelf)
    server.reset()
    with clip(image_quality=80) as other:
        assert run(other, shelf).fingerprint == other.fingerprint
    assert (server.ledger()["tiles"], server.ledger()["texts"]) == (len(COLOURS), 0)


def test_another_width_costs_nothing(shelf, server, clip, caplog):
    with clip(dimensions=64) as narrow:
        run(narrow, shelf)
    server.reset()
    with clip(dimensions=128) as wide, caplog.at_level(logging.INFO, "jinaclip"):
        assert run(wide, shelf).markdown() == run(wide, shelf, cache=False).markdown()
    assert "to embed: 0 texts, 0 images, about 0 tokens" in caplog.text
    assert server.ledger()["tiles"] == len(COLOURS), "of the run without a cache"


@pytest.mark.slow
def test_the_clip_s_own_cache_serves_if_no_other_is_named(shelf, server, clip):
    with clip(cache=shelf / "own.sqlite") as one:
        one.embed_images([shelf / f"{colour}.png" for colour in COLOURS])
        server.reset()
        run(one, shelf, cache=None)
        assert server.ledger()["tiles"] == 0
        run(one, shelf)
        assert server.ledger()["tiles"] == len(COLOURS), "another cache was named"
        assert one.cache.stats().misses < 20


def test_what_a_run_with_a_cache_spends_counts_for_the_clip(shelf, clip):
    with clip(token_budget=100_000) as one:
        run(one, shelf)
        spent = one.usage.tokens
        assert spent > 4000 * len(COLOURS)
        run(one, shelf)
        assert (one.usage.tokens, one.usage.hits) == (spent, 2 * len(COLOURS) + 3)


def test_a_query_and_a_description_of_the_same_words_are_two(shelf, clip):
    write_lines(shelf / "queries.jsonl", [{"text": "a red square", "categories": "red"}])
    with clip() as one:
        fresh, stored = run(one, shelf, cache=None), run(one, shelf)
    assert fresh.markdown() == stored.markdown()


def test_what_was_paid_for_before_a_failure_is_stored(shelf, server, clip):
    """Of the descriptions, which are two requests, and of the pictures before the one that fails."""
    server.configure(script=[None, None, None, *["status_500"] * 40])
    failure = (ServerError, ItemError)  # of a batch, or of the one picture that was ready by then
    with clip(batch_size=3, max_concurrency=1, max_retries=0) as one, pytest.raises(failure):
        run(one, shelf)
    assert 0 < server.ledger()["tiles"] < len(COLOURS)
    server.configure(script=[])
    with clip(batch_size=3, max_concurrency=1) as one:
        run(one, shelf)
    assert server.ledger()["tiles"] == len(COLOURS)
    for colour in COLOURS:
        assert server.history("text", f"a {colour} square")["answered"] == 1


def test_a_failing_query_is_named_and_the_others_are_stored(shelf, server, clip, hasty):
    """Those after it too: only the one that the service cannot answer fails."""
    server.configure(poison={"green": "status_500"})
    items = ({"id": c, "text": "a square", "image": "red.png", "categories": c} for c in COLOURS[:3])
    write_lines(shelf / "items.jsonl", items)
    with clip() as one, pytest.raises(ItemError, match="query '1'") as caught:
        run(one, shelf)
    assert (caught.value.index, caught.value.partial.ok.tolist()) == (1, [True, False, True])
    server.configure(poison={})
    with clip() as one:
        run(one, shelf)
    for colour in COLOURS[:3]:
        assert server.history("text", colour, task="retrieval.query")["answered"] == 1


def test_an_error_and_its_partial_count_alike_with_half_the_vectors_stored(shelf, clip):
    """Rows 1, 2 and 4 are stored and row 3 is damaged: of what is left to embed, it is number 1."""
    rows = [json.loads(line) for line in (shelf / "items.jsonl").read_text().splitlines()]
    write_lines(shelf / "items.jsonl", [rows[i] for i in (1, 2, 4)])
    with clip(dimensions=64) as one:
        run(one, shelf)
        write_lines(shelf / "items.jsonl", rows)
        (shelf / f"{COLOURS[3]}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        with pytest.raises(InputError, match=r"^image of row 3 \(id 'gold'\): ") as caught:
            run(one, shelf)
        partial = caught.value.partial
        assert caught.value.index == 3
        assert set(partial.errors) == {3}
        assert partial.errors[3].index == 3
        assert partial.ok.tolist() == [True, True, True, False, True, True]
        places, vectors = partial.successes()
        expected = one.embed_images([shelf / f"{COLOURS[place]}.png" for place in places])
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["a text", "a folder"])
def test_a_file_that_is_something_else_is_left_alone(shelf, server, clip, kind):
    """Nothing is paid for without it, as people count on going on from there."""
    other = shelf / "notes.txt"
    if kind == "a text":
        other.write_text("not vectors, and not to be lost " * 100)
    else:
        other.mkdir()
    with clip() as one, pytest.raises(ConfigError, match=r"notes\.txt cannot be used: .*; name another file"):
        run(one, shelf, cache=other)
    assert server.ledger()["requests"] == 0
    assert other.is_dir() or other.read_text().startswith("not vectors")


def test_all_that_was_paid_for_is_in_the_file_when_a_run_ends(shelf, clip):
    with clip() as one:
        run(one, shelf)
    assert [path.name for path in (shelf / "new").iterdir()] == ["vectors.sqlite"], "no log that is to be moved too"
    assert Cache(shelf / "new" / "vectors.sqlite").stats().entries >= 2 * len(COLOURS) + 3


def test_a_string_cannot_make_the_cache_read_what_the_policy_forbids(clip, shelf):
    write_lines(shelf / "items.jsonl", [{"id": 1, "text": "a", "image": "/etc/hostname", "categories": "red"}])
    with clip() as one, pytest.raises(InputError, match="outside the current working directory"):
        run(one, shelf)
