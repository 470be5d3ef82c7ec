"""Runs from end to end: what is embedded, skipped, copied, dropped, refused, and what is printed."""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq
import pytest

from jinaclip import ConfigError, Image, InputError, JinaClip, Pair
from jinaclip.bulk import Report, embed, plan
from jinaclip.testing import expected_vector
from tests.bulk.processes import manifest, numbered, picture, read, write_texts
from tests.needs import long, skip_without


def rows_of(out: Path, *columns: str) -> list[dict]:
    return sorted(pq.read_table(out, columns=list(columns)).to_pylist(), key=lambda row: row["id"])


@pytest.fixture
def run(clip, server, jinaclip_api_key, monkeypatch):
    """`embed` against the fault server."""
    monkeypatch.delenv("JINACLIP_CACHE", raising=False)
    return lambda source, out, **options: embed(
        source, out, api_key=jinaclip_api_key, base_url=server.url, show_progress=False, **options
    )


# -- what is embedded


def test_each_row_has_its_vector_kind_tokens_and_space(run, clip, tmp_path) -> None:
    """And the report and the manifest say how many there are."""
    texts = numbered(100)
    report = run(write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out")
    assert (report.done, report.items, report.complete, report.exit_code) == (100, 100, True, 0)
    rows = read(tmp_path / "out")
    one = rows["item-7", "text"]
    np.testing.assert_allclose(one["vector"], expected_vector("text", "text number 7"), atol=1e-6)
    assert one["space"] == clip().space
    assert one["tokens"] == clip().count_tokens(["text number 7"])[0] > 0
    assert sum(row["tokens"] for row in rows.values()) == report.tokens
    found = manifest(tmp_path / "out")
    assert found["counts"]["done"] == 100
    assert found["counts"]["tokens"] == report.tokens
    assert found["finished_at"]


@pytest.mark.parametrize("cache", [None, False], ids=["own cache", "no cache"])
def test_vectors_are_those_of_embed_to_the_bit(run, clip, tmp_path, cache) -> None:
    """Texts, images and pairs, whole and cut to fewer numbers."""
    records = [
        {"id": "text", "text": "a red dress"},
        {"id": "image", "image": picture(1)},
        {"id": "pair", "text": "a blue dress", "image": picture(2)},
    ]
    items = ["a red dress", Image.from_bytes(picture(1)), Pair("a blue dress", Image.from_bytes(picture(2)), 0.3)]
    for dimensions in (None, 256):
        out = tmp_path / f"out{dimensions}"
        run(records, out, pair="fuse", weight=0.3, cache=cache, dimensions=dimensions)
        found = {name: row["vector"] for (name, _), row in read(out).items()}
        wanted = clip(cache=None if cache is False else tmp_path / "c.sqlite", dimensions=dimensions).embed(items)
        for name, row in zip(("text", "image", "pair"), wanted.unwrap(), strict=True):
            assert np.float32(found[name]).tobytes() == row.tobytes()


def test_both_makes_two_rows_of_one(run, tmp_path) -> None:
    """And a row with a text alone has one."""
    records = [{"id": 1, "text": "a", "image": picture(1)}, {"id": 2, "text": "b"}]
    assert run(records, tmp_path / "out", pair="both").done == 3
    assert set(read(tmp_path / "out")) == {("1", "text"), ("1", "image"), ("2", "text")}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_text_and_image_without_pair_is_refused(run, server, tmp_path, suffix) -> None:
    """The message explains both ways out; nothing is sent."""
    source = tmp_path / f"t{suffix}"
    source.write_text(
        '{"id": 1, "text": "a", "image": "a.png"}\n' if suffix == ".jsonl" else "id,text,image\n1,a,a.png\n"
    )
    with pytest.raises(ConfigError, match=r"(?s)fuse.*both"):
        run(source, tmp_path / "out")
    assert server.ledger()["requests"] == 0


def test_the_local_backend(run, tmp_path) -> None:
    """With weights on this machine: the same vectors as its own `embed`, and its tokens."""
    skip_without("torch")
    from tests.tiny import make_checkpoint

    folder = str(make_checkpoint(tmp_path / "model", "v2"))
    texts = numbered(40)
    report = embed(write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out", model=folder, backend="local")
    assert report.complete
    with JinaClip(folder, backend="local", cache=False) as clip:
        wanted = clip.embed_documents([*texts.values()])
        tokens = clip.count_tokens([*texts.values()])
    rows = read(tmp_path / "out")
    for name, row, count in zip(texts, wanted, tokens, strict=True):
        np.testing.assert_allclose(rows[name, "text"]["vector"], row, atol=1e-5)
        assert rows[name, "text"]["tokens"] == count


def test_done_is_skipped_without_weights(tmp_path, monkeypatch) -> None:
    """The second run of a finished output loads no model."""
    skip_without("torch")
    from tests.tiny import make_checkpoint

    folder, source = str(make_checkpoint(tmp_path / "model", "v2")), write_texts(tmp_path / "t.jsonl", numbered(5))
    with JinaClip(folder, backend="local") as clip:
        assert embed(source, tmp_path / "out", clip=clip).done == 5
    with JinaClip(folder, backend="local") as clip:
        assert embed(source, tmp_path / "out", clip=clip).skipped == 5
        assert clip.usage.items == 0


# -- folders of pictures

ODD = ["a b.png", "ünï.png", "100%.png", "#3.png", "日本.png", "UPPER.PNG", "two\nlines.png", "quote'\".png", "-.png"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [300, long(10_000)])
def test_a_folder_of_pictures_with_odd_names_and_damaged_ones(run, server, tmp_path, count) -> None:
    """Ids are paths; of the damaged twentieth exactly those have failed, and are named, and cost nothing."""
    folder, draw = tmp_path / "pictures", random.Random(2)
    damaged, names = set(), []
    for number in range(count):
        name = ODD[number] if number < len(ODD) else f"{'abc'[number % 3]}/é{number}.png"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = picture(number)
        if draw.random() < 0.05:
            damaged.add(name)
            content = draw.choice([content[: len(content) // 2], b"", b"no picture"])
        path.write_bytes(content)
        names.append(name)
    report = run(folder, tmp_path / "out", image_resize="none")  # sent as they are
    rows = read(tmp_path / "out")
    by_name = {name: row for (name, _), row in rows.items()}
    assert {name for name, row in by_name.items() if row["error"]} == damaged
    assert len(by_name) == count
    assert (report.done, report.failed, report.exit_code) == (count - len(damaged), len(damaged), 3)
    assert all(any(repr(name)[1:-1] in text or name in text for name in damaged) for text in report.failures)
    for name in draw.sample(sorted(set(names) - damaged), 20):
        wanted = expected_vector("image", (folder / name).read_bytes())
        np.testing.assert_allclose(by_name[name]["vector"], wanted, atol=1e-6)
    assert server.ledger()["answered"] == {"1": count - len(damaged)}


# -- errors


def test_on_error_stop_ends_with_the_first_that_fails(run, tmp_path) -> None:
    """It is named, and not written as failed: mended, the same call goes on."""
    texts = {**numbered(20), "bad": "   "}
    source = write_texts(tmp_path / "t.jsonl", texts)
    report = run(source, tmp_path / "out", on_error="stop")
    assert report.exit_code == 1
    assert "line 21" in str(report.stopped)
    assert isinstance(report.stopped, InputError)
    assert ("bad", "text") not in read(tmp_path / "out")
    write_texts(source, {**texts, "bad": "good"})
    assert run(source, tmp_path / "out", on_error="stop").complete
    assert len(read(tmp_path / "out")) == 21


def test_what_failed_is_tried_again_if_asked(run, server, tmp_path) -> None:
    """Else it is counted and left alone. An item that the service refuses takes no other with it."""
    server.configure(poison={"poison": "bad_item_400"})
    source = write_texts(tmp_path / "t.jsonl", {**numbered(20), "bad": "a poison"})
    first = run(source, tmp_path / "out")
    assert (first.done, first.failed, first.exit_code) == (20, 1, 3)
    assert "line 21" in first.failures[0]
    assert read(tmp_path / "out")["bad", "text"]["error"]
    server.reset()
    again = run(source, tmp_path / "out")
    assert (again.skipped, again.failed, again.failed_before, again.exit_code) == (20, 1, 1, 3)
    assert "--retry-failed" in str(again)
    assert server.ledger()["requests"] == 0
    assert run(source, tmp_path / "out", retry_failed=True).complete
    assert read(tmp_path / "out")["bad", "text"]["error"] is None


def test_what_failed_is_not_paid_for_where_another_id_has_its_vector_by_now(run, server, tmp_path) -> None:
    """The vector is copied when it is tried again, as for an id that is new."""
    server.configure(poison={"same": "bad_item_400"})
    rows = [{"id": "failed", "text": "the same"}]
    assert run(rows, tmp_path / "out").failed == 1
    server.reset()
    rows.append({"id": "later", "text": "the same"})
    assert run(rows, tmp_path / "out").done == 1
    report = run(rows, tmp_path / "out", retry_failed=True)
    assert (report.copied, report.skipped, report.exit_code) == (1, 1, 0)
    assert server.ledger()["answered_items"] == 1
    assert read(tmp_path / "out")["failed", "text"]["error"] is None


def test_an_id_that_comes_twice_is_left_out_and_told(run, tmp_path) -> None:
    """The first one wins."""
    records = [{"id": 1, "text": "first"}, {"id": 2, "text": "other"}, {"id": 1, "text": "second"}]
    report = run(records, tmp_path / "out")
    assert (report.done, report.repeated, report.exit_code) == (2, 1, 3)
    wanted = expected_vector("text", "first")
    np.testing.assert_allclose(read(tmp_path / "out")["1", "text"]["vector"], wanted, atol=1e-6)


def test_the_same_content_is_paid_for_once(run, server, tmp_path) -> None:
    """Whether it comes twice in a run, or under another id in the next."""
    run([{"id": i, "text": "the same"} for i in range(50)], tmp_path / "out")
    report = run([{"id": i, "text": "the same"} for i in range(70)], tmp_path / "out")
    assert (report.skipped, report.copied) == (50, 20)
    assert len(read(tmp_path / "out")) == 70
    assert server.ledger()["answered"] == {"1": 1}


def test_a_source_that_breaks_off_keeps_what_was_read(run, tmp_path) -> None:
    """It ends with the error, and what came before it is written; nothing is dropped as deleted."""
    run([{"id": "old", "text": "old"}], tmp_path / "out")

    def rows():
        yield from ({"id": i, "text": f"text {i}"} for i in range(100))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        run(rows(), tmp_path / "out")
    assert isinstance(caught.value.partial, Report)
    assert ("old", "text") in read(tmp_path / "out")


# -- resuming


def test_another_space_or_another_pairing_is_refused(run, tmp_path) -> None:
    """Vectors of two spaces are not comparable; the message names both."""
    records = [{"id": 1, "text": "a"}]
    run(records, tmp_path / "out")
    for other in ({"model": "jina-clip-v1"}, {"dimensions": 256}, {"task": "query"}, {"precision": "int8"}):
        with pytest.raises(ConfigError, match="was begun with"):
            run(records, tmp_path / "out", **other)


def test_limit_looks_at_the_first_rows_and_drops_nothing(run, tmp_path) -> None:
    """And a limit that is never reached is a whole run."""
    source = write_texts(tmp_path / "t.jsonl", numbered(30))
    report = run(source, tmp_path / "out", limit=10)
    assert (report.done, report.exit_code) == (10, 3)
    assert {name for name, _ in read(tmp_path / "out")} == {f"item-{i}" for i in range(10)}
    assert run(source, tmp_path / "out").complete
    report = run(write_texts(tmp_path / "t.jsonl", numbered(5)), tmp_path / "out", limit=10)
    assert report.exit_code == 0
    assert len(read(tmp_path / "out")) == 30


def test_shards_together_are_the_whole(run, tmp_path) -> None:
    """Each row is of one shard, whatever the order of the source."""
    texts = numbered(100)
    source = write_texts(tmp_path / "t.jsonl", texts)
    reports = [run(source, tmp_path / "out", shard=f"{i}/3") for i in (1, 2, 3)]
    assert all(report.complete and 15 < report.done < 55 for report in reports)
    assert {name for name, _ in read(tmp_path / "out")} == texts.keys()
    shuffled = write_texts(tmp_path / "u.jsonl", dict(reversed(texts.items())))
    assert [run(shuffled, tmp_path / "out", shard=(i, 3)).skipped for i in (1, 2, 3)] == [r.done for r in reports]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_moving_inputs_end_as_a_fresh_run(run, tmp_path, seed) -> None:
    """Rows inserted, edited, moved and deleted between runs: after each the output is that of a first run."""
    draw, texts, fresh = random.Random(seed), numbered(60), 60
    for step in range(4):
        ids = [*texts]
        for name in draw.sample(ids, 10):
            del texts[name]
        for name in draw.sample([*texts], 10):
            texts[name] = draw.choice([f"edited {step} {name}", "the same for many"])
        for _ in range(draw.randrange(20)):
            texts[f"item-{fresh}"], fresh = f"text number {fresh}", fresh + 1
        texts = dict(draw.sample([*texts.items()], len(texts)))
        source = write_texts(tmp_path / "t.jsonl", texts)
        assert run(source, tmp_path / "out").complete
        assert run(source, tmp_path / f"fresh{step}").complete
        columns = ("id", "kind", "vector", "digest", "space", "tokens", "error")
        assert rows_of(tmp_path / "out", *columns) == rows_of(tmp_path / f"fresh{step}", *columns)


# -- before anything is sent


def test_a_dry_run_tells_what_a_run_does(run, server, tmp_path) -> None:
    """Items, tokens, images and money, of what is left alone; nothing is sent or written, and no key is needed."""
    records = [{"id": i, "text": f"text {i}"} for i in range(20)] + [{"id": "p", "image": picture(1)}]
    found = plan(records, tmp_path / "out", base_url=server.url, price=0.5)
    assert (found.items, found.texts, found.images, found.tiles, found.done) == (21, 20, 1, 1, 0)
    assert not (tmp_path / "out").exists()
    assert server.ledger()["requests"] == 0
    report = run(records, tmp_path / "out")
    assert found.tokens == report.tokens
    assert found.money == pytest.approx(report.tokens * 0.5e-6)
    more = [*records, {"id": "new", "text": "new"}, {"id": "again", "text": "text 3"}, {"id": 1, "text": "text 1"}]
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir())
    found = plan([*more, {"id": "bad", "text": " "}], tmp_path / "out", base_url=server.url)
    assert (found.done, found.texts, found.copied, found.repeated, found.unusable) == (21, 1, 1, 1, 1)
    assert found.money is None
    assert "none" not in str(found).lower()
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "out").iterdir()) == before


def test_queries_cost_what_a_dry_run_and_the_column_say_and_no_more_than_the_budget(run, server, tmp_path) -> None:
    """The instruction that the service puts before each is on the bill."""
    source = write_texts(tmp_path / "t.jsonl", numbered(100))
    found = plan(source, tmp_path / "out", base_url=server.url, task="query")
    report = run(source, tmp_path / "out", task="query", token_budget=found.tokens // 2)
    assert report.tokens == server.ledger()["tokens"] <= found.tokens // 2
    run(source, tmp_path / "out", task="query")
    rows = read(tmp_path / "out").values()
    assert found.tokens == server.ledger()["tokens"] == sum(row["tokens"] for row in rows)


def test_a_dry_run_of_pictures_reads_none_while_nothing_is_done(server, tmp_path) -> None:
    """A bucket of a million need not be downloaded to be counted."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(b"not read")
    found = plan(folder, tmp_path / "out", base_url=server.url)
    assert (found.images, found.tiles, found.tokens) == (5, 5, 20_000)


def test_a_dry_run_over_weights_on_this_machine(tmp_path) -> None:
    """Images cost no tokens there, and are no less usable."""
    skip_without("torch")
    from tests.tiny import make_checkpoint

    records = [{"id": "t", "text": "a text"}, {"id": "p", "image": picture(1)}]
    found = plan(records, tmp_path / "out", backend="local", model=str(make_checkpoint(tmp_path / "model", "v2")))
    assert (found.texts, found.images, found.tiles, found.unusable) == (1, 1, 1, 0)
    assert found.tokens > 0


def test_a_text_that_is_no_text_costs_its_own_row(run, tmp_path) -> None:
    source = tmp_path / "t.jsonl"
    source.write_text(
        '{"id": 1, "text": "one"}\n{"id": 2, "text": 5}\n{"id": 3, "text": ["a"]}\n{"id": 4, "text": "four"}\n'
    )
    report = run(source, tmp_path / "out")
    assert (report.done, report.failed) == (2, 2)
    assert "must be a str, not int" in report.failures[0]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_column_of_no_name_leaves_images_out(run, tmp_path, suffix) -> None:
    """A table with images can be embedded by its texts alone."""
    source = tmp_path / f"t{suffix}"
    table = pa.table({"id": ["a"], "text": ["one"], "image": ["missing.jpg"]})
    if suffix == ".parquet":
        pq.write_table(table, source)
    elif suffix == ".csv":
        csv.write_csv(table, source)
    else:
        source.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    report = run(source, tmp_path / "out", image="")
    assert (report.done, report.failed, list(read(tmp_path / "out"))) == (1, 0, [("a", "text")])


# -- the command


def test_the_command_prints_the_counts(command, tmp_path) -> None:
    """With options from a file and from the command line."""
    (tmp_path / "o.json").write_text(json.dumps({"dimensions": 256, "image_policy": {"max_pixels": 10_000}}))
    source = write_texts(tmp_path / "t.jsonl", numbered(10))
    code, printed, logged = command(source, tmp_path / "out", "--options", str(tmp_path / "o.json"), "--limit", "4")
    assert (code, printed.splitlines()[0][:18]) == (3, "done 4, failed 0, "), logged
    assert len(read(tmp_path / "out")["item-0", "text"]["vector"]) == 256
    code, printed, _ = command(source, tmp_path / "out", "--dimensions", "256", "--dry-run", "--price", "0.02")
    assert code == 0
    assert "to embed: 6 texts" in printed
    assert "0.02 for a million tokens" in printed


@pytest.mark.parametrize(
    "options",
    [("--shard", "3/2"), ("--price", "1"), ("--actors", "2"), ("--weight", "2"), ("--limit", "0"), ("--text", "none")],
    ids=lambda options: options[0],
)
def test_the_command_refuses_wrong_options(command, server, tmp_path, options) -> None:
    """With 2, before anything is sent or written."""
    source = write_texts(tmp_path / "t.jsonl", numbered(3))
    code, printed, logged = command(source, tmp_path / "out", *options)
    assert (code, printed) == (2, "")
    assert logged.startswith("error: ")
    assert not (tmp_path / "out").exists()
    assert server.ledger()["requests"] == 0


@pytest.mark.parametrize("out", ["", " "])
@pytest.mark.parametrize("source", [".", "t.jsonl"])
def test_an_output_of_no_name_is_refused(command, server, tmp_path, monkeypatch, source, out) -> None:
    """It is what a script writes whose variable is empty, and would be the working directory."""
    write_texts(tmp_path / "t.jsonl", numbered(3))
    monkeypatch.chdir(tmp_path)
    for options in (), ("--dry-run",):
        code, printed, logged = command(source, out, *options)
        assert (code, printed) == (2, "")
        assert f"not {out!r}" in logged
    assert [path.name for path in tmp_path.iterdir()] == ["t.jsonl"]
    assert server.ledger()["requests"] == 0


def test_a_line_is_logged_now_and_then_where_there_is_no_terminal(command, server, tmp_path, monkeypatch) -> None:
    """Items, speed, tokens, failures, and the time that is left."""
    monkeypatch.setattr("jinaclip.bulk.progress.LINE_SECONDS", 0.0)
    server.configure(base_ms=300)
    _, _, logged = command(write_texts(tmp_path / "t.jsonl", numbered(3)), tmp_path / "out")
    assert "items, " in logged
    assert "embedded a second" in logged


@pytest.mark.parametrize("show_progress", [None, True])
def test_a_program_without_standard_error_gets_its_vectors(
    server, jinaclip_api_key, tmp_path, monkeypatch, show_progress
) -> None:
    """As programs with windows have none; a bar that was asked for is not drawn."""
    monkeypatch.delenv("JINACLIP_CACHE", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    options = {"api_key": jinaclip_api_key, "base_url": server.url, "show_progress": show_progress}
    report = embed([{"id": 1, "text": "one"}], tmp_path / "out", **options)
    assert (report.done, report.failed) == (1, 0)


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_the_command_runs_without_standard_streams(server, jinaclip_api_key, tmp_path, closed) -> None:
    """As some daemons start it; its exit codes are the same, and what is written to them lands in no other file."""
    source, out = write_texts(tmp_path / "t.jsonl", numbered(3)), tmp_path / "out"
    command = [sys.executable, "-m", "jinaclip", "embed", str(source), "--out", str(out), "--base-url", server.url]
    environment = {**os.environ, "JINA_API_KEY": jinaclip_api_key}
    for options, code in ((), 0), (("--shard", "3/2"), 2):
        line = f"{shlex.join([*command, *options])} {closed}"
        ran = subprocess.run(["sh", "-c", line], check=False, stdout=subprocess.PIPE, env=environment, timeout=120)
        assert ran.returncode == code
        assert b"error" not in ran.stdout
    assert len(read(out)) == 3
