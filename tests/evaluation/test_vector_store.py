"""What was embedded is not embedded again: after an interruption, a failure, or for other options."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from examples.catalogue.table import write_lines
from jinaclip import ConfigError, InputError
from jinaclip.errors import ItemError, ServerError
from jinaclip.evaluation import evaluate
from jinaclip.evaluation.vector_store import VectorStore, image_key

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


def test_vectors_of_other_settings_are_not_taken(shelf, server, clip):
    with clip(dimensions=64) as narrow:
        run(narrow, shelf)
    server.reset()
    with clip(dimensions=128) as wide:
        assert run(wide, shelf).fingerprint == wide.fingerprint
    assert server.ledger()["tiles"] == len(COLOURS)


def test_a_query_and_a_description_of_the_same_words_are_two(shelf, clip):
    write_lines(shelf / "queries.jsonl", [{"text": "a red square", "categories": "red"}])
    with clip() as one:
        fresh, stored = run(one, shelf, cache=None), run(one, shelf)
    assert fresh.markdown() == stored.markdown()


def test_what_was_paid_for_before_a_failure_is_stored(shelf, server, clip):
    """Of the descriptions, which are two requests, and of the pictures before the one that fails."""
    server.configure(script=[None, None, None, *["status_500"] * 40])
    with clip(batch_size=3, max_concurrency=1, max_retries=0) as one, pytest.raises(ServerError):
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


def test_a_file_that_is_something_else_is_left_alone(shelf, clip):
    other = shelf / "notes.txt"
    other.write_text("not vectors, and not to be lost " * 100)
    with clip() as one, pytest.raises(ConfigError, match=r"notes\.txt cannot store vectors"):
        run(one, shelf, cache=other)
    assert other.read_text().startswith("not vectors")


def test_vectors_come_back_to_the_last_bit(tmp_path):
    rows = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    store = VectorStore(tmp_path / "vectors.sqlite")
    store.save([b"a", None, b"c"], dict(enumerate(rows)))
    found = VectorStore(tmp_path / "vectors.sqlite").load([b"c", b"b", b"a", None])
    assert sorted(found) == [0, 2]
    np.testing.assert_array_equal(found[0], rows[2])
    np.testing.assert_array_equal(found[2], rows[0])


def test_pictures_in_memory_and_what_cannot_be_read_have_no_key(clip, tmp_path):
    policy = clip().config.image_policy
    picture = Image.new("RGB", (8, 8))
    assert image_key("f", picture, policy) is None
    assert image_key("f", np.zeros((8, 8, 3), np.uint8), policy) is None
    assert image_key("f", tmp_path / "none.png", policy) is None
    assert image_key("f", b"one", policy) != image_key("f", b"two", policy)
    assert image_key("f", "https://example.com/a.png", policy) != image_key("g", "https://example.com/a.png", policy)


def test_a_string_cannot_make_the_cache_read_what_the_policy_forbids(clip, shelf):
    write_lines(shelf / "items.jsonl", [{"id": 1, "text": "a", "image": "/etc/hostname", "categories": "red"}])
    with clip() as one, pytest.raises(InputError, match="outside the current working directory"):
        run(one, shelf)
