"""An output ends as its source is, pays for each content once, and refuses what would spoil it."""

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinaclip.bulk.index import ABSENT, COPY, DONE, FAILED, REPEATED
from jinaclip.bulk.items import key_of
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.output import Output
from jinaclip.errors import ClosedError, ConfigError
from tests.bulk.rows import SHAPE, add, assert_holds, item, items, manifest, parts, rows, run, step, vector

SOURCE = {f"id {i}": f"text {i}" for i in range(21)}


def test_a_run_writes_each_row_once_in_parts_of_the_size_asked_for(tmp_path):
    assert run(tmp_path, SOURCE) == list(SOURCE.values())
    assert_holds(tmp_path, SOURCE)
    assert [pq.read_metadata(part).num_rows for part in parts(tmp_path)] == [8, 8, 5]


def test_the_same_command_again_pays_nothing_and_changes_no_part(tmp_path):
    run(tmp_path, SOURCE)
    before = {part.name: part.stat().st_mtime_ns for part in parts(tmp_path)}
    assert run(tmp_path, SOURCE) == []
    assert {part.name: part.stat().st_mtime_ns for part in parts(tmp_path)} == before


def test_a_line_inserted_at_the_top_costs_one_text(tmp_path):
    """Ids are numbers of lines, so each text moves to the next id."""
    texts = [f"text {i}" for i in range(30)]
    run(tmp_path, {str(i): text for i, text in enumerate(texts)})
    moved = {str(i): text for i, text in enumerate(["new", *texts])}
    assert run(tmp_path, moved) == ["new"]
    assert_holds(tmp_path, moved)


def test_renamed_edited_deleted_and_swapped_items(tmp_path):
    run(tmp_path, SOURCE)
    now = dict(SOURCE)
    now["renamed"] = now.pop("id 3")
    now["id 4"] = "edited"
    del now["id 5"], now["id 6"]
    now["id 7"], now["id 8"] = now["id 8"], now["id 7"]
    assert run(tmp_path, now) == ["edited"]
    assert_holds(tmp_path, now)


def test_one_content_of_many_ids_is_paid_once_it_is_there(tmp_path):
    """Copies come from the buffer and from parts alike."""
    same = {str(i): "the same" for i in range(40)}
    paid = run(tmp_path, {"first": "the same", **same})
    assert paid == ["the same"] * 5  # the first block was under way when the next began
    assert_holds(tmp_path, {"first": "the same", **same})


def test_states_of_items(tmp_path):
    one, bad, other_kind = item("a", "text"), item("b", "bad"), item("a", "text", "image")
    with Output(tmp_path, SHAPE) as output:
        assert output.look_up([one, bad, one, other_kind]).tolist() == [ABSENT, ABSENT, REPEATED, ABSENT]
        add(output, [one, bad])
        assert output.look_up([one, bad, item("c", "text")]).tolist() == [REPEATED, REPEATED, COPY]
    with Output(tmp_path, SHAPE) as output:
        edited, moved = item("a", "other"), item("d", "text")
        assert output.look_up([moved, edited, bad, one]).tolist() == [COPY, ABSENT, FAILED, REPEATED]
    with Output(tmp_path, SHAPE) as output:
        assert output.look_up([one, one]).tolist() == [DONE, REPEATED]


def test_failed_items_are_rows_with_an_error_until_they_are_tried_again(tmp_path):
    source = {"a": "text", "b": "bad one"}
    assert run(tmp_path, source) == ["text", "bad one"]
    assert_holds(tmp_path, source)
    assert run(tmp_path, source) == []
    assert run(tmp_path, source, retry=True) == ["bad one"]
    assert_holds(tmp_path, source)


def test_a_failure_that_passes_gives_way_to_the_vector(tmp_path):
    one = item("a", "text")
    with Output(tmp_path, SHAPE) as output:
        output.look_up([one])
        output.add([one], np.full((1, 16), np.nan, np.float32), {0: "the service is down"})
        assert output.finish().rows == 1
    with Output(tmp_path, SHAPE) as output:
        assert output.look_up([one]).tolist() == [FAILED]
        add(output, [one])
        assert output.finish().dropped == 1
    assert [row["error"] for row in rows(tmp_path)] == [None]


def test_a_row_of_nan_without_an_error_is_no_vector(tmp_path):
    one = item("a", "text")
    with Output(tmp_path, SHAPE) as output:
        output.look_up([one])
        output.add([one], np.full((1, 16), np.nan, np.float32))
    (row,) = rows(tmp_path)
    assert (row["vector"], row["error"]) == (None, "no vector came back")


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([f"id {i}" for i in range(12)]),
            st.sampled_from(["bad", "bad too", *(f"text {i}" for i in range(8))]),
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 9),
)
def test_whatever_happens_to_the_source_the_output_is_as_its_last_state(tmp_path_factory, sources, part_rows):
    folder, known = tmp_path_factory.mktemp("output"), set()
    for source in sources:
        paid = run(folder, source, part_rows=part_rows)
        assert not known & set(paid)
        assert_holds(folder, source)
        known = {content for content in source.values() if not content.startswith("bad")}


def test_an_unfinished_run_keeps_stale_rows_and_a_finished_one_drops_them(tmp_path):
    run(tmp_path, SOURCE)
    changed = SOURCE | {"id 0": "edited"}
    with Output(tmp_path, SHAPE, part_rows=8) as output:
        step(output, items(changed)[:4], [])
    assert sorted(row["digest"] for row in rows(tmp_path) if row["id"] == "id 0") == sorted(
        item("id 0", text).digest.hex() for text in ("text 0", "edited")
    )
    assert manifest(tmp_path)["finished_at"] is None
    assert run(tmp_path, changed) == []
    assert_holds(tmp_path, changed)


def test_small_parts_are_merged_and_one_of_them_is_left_alone(tmp_path):
    for stop in range(1, 8):
        with Output(tmp_path, SHAPE, part_rows=8) as output:
            step(output, items(SOURCE)[stop - 1 : stop], [])
    assert len(parts(tmp_path)) == 7
    seven = dict(list(SOURCE.items())[:7])
    assert run(tmp_path, seven) == []
    assert len(parts(tmp_path)) == 1
    assert_holds(tmp_path, seven)


def test_a_part_is_written_when_its_first_row_is_a_minute_old(tmp_path):
    now = 0.0
    with Output(tmp_path, SHAPE, clock=lambda: now) as output:
        step(output, [item("a", "text a")], [])
        now = 59.0
        step(output, [item("b", "text b")], [])
        assert parts(tmp_path) == []
        now = 60.0
        output.look_up([])
        assert len(parts(tmp_path)) == 1
        now = 119.0
        step(output, [item("c", "text c")], [])
        assert len(parts(tmp_path)) == 1


def test_what_is_buffered_is_written_when_the_run_breaks_off(tmp_path):
    with pytest.raises(ZeroDivisionError), Output(tmp_path, SHAPE) as output:
        step(output, items(SOURCE), [])
        raise ZeroDivisionError
    assert len(rows(tmp_path)) == len(SOURCE)


def test_after_finish_an_output_must_be_opened_anew(tmp_path):
    """Rows have moved to other parts, of which it does not know."""
    with Output(tmp_path, SHAPE) as output:
        output.finish()
        for call in (lambda: output.look_up([]), output.finish):
            with pytest.raises(ClosedError, match="opened anew"):
                call()


def test_items_that_were_seen_and_never_came_are_missing(tmp_path):
    with Output(tmp_path, SHAPE) as output:
        output.look_up(items(SOURCE))
        add(output, items(SOURCE)[2:])
        assert {row.tobytes() for row in output.missing()} == {key_of(f"id {i}", "text") for i in range(2)}
        assert output.finish().missing == 2
        output.save_manifest({"done": 19}, finished=True)
    assert manifest(tmp_path)["finished_at"] is None


# -- what Ray wrote


def test_rows_that_others_wrote_are_taken_in_and_twofold_ones_end_as_one(tmp_path):
    """A task of Ray may run twice, and see its items twice."""
    with Output(tmp_path, SHAPE, part_rows=8) as output:
        step(output, items(SOURCE), [])
        output.flush()
        for part in parts(tmp_path)[:2]:
            (tmp_path / part.name.replace("part-", "part-9")).write_bytes(part.read_bytes())
        output.refresh()
    with Output(tmp_path, SHAPE, part_rows=8) as output:
        seen = [*items(SOURCE)[:20], item("lost", "text")]
        keys = np.frombuffer(b"".join(key_of(one.id, one.kind) for one in seen), np.uint8).reshape(-1, 16)
        digests = np.frombuffer(b"".join(one.digest for one in seen), np.uint8).reshape(-1, 16)
        assert output.adopt_seen(keys, digests).tolist() == [DONE] * 20 + [ABSENT]
        assert output.adopt_seen(keys, digests).tolist() == [REPEATED] * 21
        assert [row.tobytes() for row in output.missing()] == [key_of("lost", "text")]
        assert (report := output.finish()).missing == 1
        assert (report.rows, report.dropped) == (20, 17)
    assert sorted(row["id"] for row in rows(tmp_path)) == sorted(list(SOURCE)[:20])


def test_rows_that_others_write_after_their_items_were_seen_are_current(tmp_path):
    with Output(tmp_path / "a", SHAPE, part_rows=8) as output:
        step(output, items(SOURCE), [])
    with Output(tmp_path / "b", SHAPE, part_rows=8) as output:
        assert output.look_up(items(SOURCE)).tolist() == [ABSENT] * 21
        for part in parts(tmp_path / "a"):
            part.rename(tmp_path / "b" / part.name)
        output.refresh()
        assert len(output.missing()) == 0
        assert output.finish().rows == 21
    assert_holds(tmp_path / "b", SOURCE)


def test_known_rows_are_those_with_a_vector_and_perhaps_those_with_an_error(tmp_path):
    run(tmp_path, {"a": "text", "b": "bad"})
    with Output(tmp_path, SHAPE) as output:
        for failed, wanted in ((False, [item("a", "text")]), (True, items({"a": "text", "b": "bad"}))):
            keys, digests = output.known(failed=failed)
            assert {(k.tobytes(), d.tobytes()) for k, d in zip(keys, digests, strict=True)} == {
                (key_of(one.id, one.kind), one.digest) for one in wanted
            }


def test_parts_with_further_columns_are_written_anew(tmp_path):
    run(tmp_path, SOURCE)
    for part in parts(tmp_path):
        table = pq.read_table(part)
        pq.write_table(table.append_column("key", pa.array(range(len(table)))), part)
    assert run(tmp_path, SOURCE) == []
    assert {tuple(pq.read_schema(part).names) for part in parts(tmp_path)} == {
        ("id", "kind", "vector", "digest", "space", "tokens", "error")
    }
    assert_holds(tmp_path, SOURCE)


# -- what is refused


@pytest.mark.parametrize(
    ("other", "both"),
    [
        (replace(SHAPE, space="space_other"), "space='space_16'.*space='space_other'"),
        (replace(SHAPE, precision="int8"), "precision='float32'.*precision='int8'"),
        (replace(SHAPE, dimensions=8), "dimensions=16.*dimensions=8"),
        (replace(SHAPE, settings={"pair": None, "weight": 0.7}), "weight=0.5.*weight=0.7"),
        (replace(SHAPE, settings={"pair": None}), "weight=0.5.*weight=None"),
    ],
    ids=["space", "precision", "width", "weight", "setting"],
)
def test_a_resume_with_other_settings_is_refused_with_both_values(tmp_path, other, both):
    run(tmp_path, SOURCE)
    before = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    with pytest.raises(ConfigError, match=f"{both}.*another --out") as caught:
        Output(tmp_path, other)
    assert caught.value.option == "out"
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == before


@pytest.mark.parametrize(
    ("other", "both"),
    [
        (replace(SHAPE, space="space_other"), "space_16 .*space_other"),
        (replace(SHAPE, precision="float16"), "float.*halffloat"),
        (replace(SHAPE, dimensions=8), r"float.*\[16\].*float.*\[8\]"),
    ],
    ids=["space", "precision", "width"],
)
def test_without_the_manifest_the_parts_say_the_same(tmp_path, other, both):
    run(tmp_path, SOURCE)
    (tmp_path / "_manifest.json").unlink()
    with pytest.raises(ConfigError, match=both):
        Output(tmp_path, other)
    assert run(tmp_path, SOURCE) == []
    assert_holds(tmp_path, SOURCE)


def test_settings_may_change_as_long_as_there_are_no_rows(tmp_path):
    Output(tmp_path, SHAPE).__exit__(None, None, None)
    with Output(tmp_path, replace(SHAPE, precision="int8")):
        assert manifest(tmp_path)["precision"] == "int8"


def test_settings_are_compared_as_json_has_them(tmp_path):
    tuples = Shape(16, "float32", "space_16", {"background": (255, 255, 255)})
    run(tmp_path, SOURCE, shape=tuples)
    assert run(tmp_path, SOURCE, shape=tuples) == []


def test_a_folder_of_a_later_format_is_refused(tmp_path):
    run(tmp_path, SOURCE)
    (tmp_path / "_manifest.json").write_text(json.dumps(manifest(tmp_path) | {"format": 2, "jinaclip": "9.0"}))
    with pytest.raises(ConfigError, match=r"format 2 by jinaclip 9\.0.*format 1.*upgrade"):
        Output(tmp_path, SHAPE)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_spoilt_manifest_is_written_anew(tmp_path, text):
    run(tmp_path, SOURCE)
    (tmp_path / "_manifest.json").write_text(text)
    assert run(tmp_path, SOURCE) == []
    assert_holds(tmp_path, SOURCE)


@pytest.mark.parametrize("shard", [None, (1, 2), (2, 2)], ids=str)
@pytest.mark.parametrize("text", ["", None])
def test_parts_whose_manifest_is_lost_are_told_once(tmp_path, text, shard, caplog):
    """Parts say their space, width and precision, but not the task; those of another shard neither."""
    lost = tmp_path / ("_manifest-1of2.json" if shard else "_manifest.json")
    run(tmp_path, SOURCE, shard=shard and (1, 2))
    lost.unlink()
    if text is not None:
        lost.write_text(text)
    with caplog.at_level(logging.WARNING, "jinaclip.bulk"):
        for _ in range(2 if shard != (2, 2) else 1):
            run(tmp_path, SOURCE, shard=shard)
    (message,) = caplog.messages
    assert f"its {lost.name} is gone or cannot be read" in message
    assert "the task, pair and weight of this run" in message


def test_two_runs_into_one_folder_are_refused_and_two_shards_are_not(tmp_path):
    with Output(tmp_path / "a", SHAPE), pytest.raises(ConfigError, match=r"another run writes into .*a"):
        Output(tmp_path / "a", SHAPE)
    refused = pytest.raises(ConfigError, match="another run writes into shard 2/2 of")
    with Output(tmp_path / "b", SHAPE, shard=(1, 2)), Output(tmp_path / "b", SHAPE, shard=(2, 2)), refused:
        Output(tmp_path / "b", SHAPE, shard=(2, 2))
    with Output(tmp_path / "a", SHAPE):
        pass


def test_a_refused_output_leaves_the_lock_to_others(tmp_path):
    run(tmp_path, SOURCE)
    with pytest.raises(ConfigError):
        Output(tmp_path, replace(SHAPE, dimensions=8))
    assert run(tmp_path, SOURCE) == []


def test_someone_elses_parquet_file_is_refused_and_left_alone(tmp_path):
    table = pa.table({"name": ["x"]})
    for name in ("products.parquet", "part-00000-c000.parquet"):
        folder = tmp_path / name[:4]
        run(folder, SOURCE)
        pq.write_table(table, folder / name)
        with pytest.raises(ConfigError, match=f"{name}.*another --out, or move that file away"):
            Output(folder, SHAPE)
        assert pq.read_table(folder / name).equals(table)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="out cannot be written"):
        Output(tmp_path / "out", SHAPE)


# -- shards


def test_shards_write_beside_one_another_and_drop_only_their_own(tmp_path):
    halves = [dict(list(SOURCE.items())[some]) for some in (slice(11), slice(11, None))]
    for number, half in enumerate(halves, 1):
        run(tmp_path, half, shard=(number, 2))
    for number, half in enumerate(halves, 1):
        del half[next(iter(half))]
        assert run(tmp_path, half, shard=(number, 2)) == []
        assert manifest(tmp_path, f"_manifest-{number}of2.json")["shard"] == f"{number}/2"
    assert sorted(row["id"] for row in rows(tmp_path)) == sorted([*halves[0], *halves[1]])


@pytest.mark.parametrize(
    "other",
    [
        replace(SHAPE, space="space_other"),
        replace(SHAPE, precision="float16"),
        replace(SHAPE, dimensions=8),
        replace(SHAPE, settings={"pair": None, "weight": 0.7}),
    ],
    ids=["space", "precision", "width", "weight"],
)
def test_a_shard_with_other_settings_is_refused_by_the_manifest_of_another(tmp_path, other):
    run(tmp_path, SOURCE, shard=(1, 2))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match=r"was begun with \w+=.* \(_manifest-1of2\.json\).*another --out") as caught:
        Output(tmp_path, other, shard=(2, 2))
    assert caught.value.option == "out"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "_lock-2of2"} == before
    run(tmp_path, SOURCE, shard=(2, 2))


def test_of_shards_with_different_settings_that_begin_at_once_one_goes_on_at_most(tmp_path):
    """Neither has rows yet, and which of them saves its manifest first is open."""
    both = SHAPE, replace(SHAPE, settings={"pair": None, "weight": 0.7})
    for place in (tmp_path / str(number) for number in range(20)):
        start = threading.Barrier(2)

        def begin(number: int, place: Path = place, start: threading.Barrier = start) -> bool:
            start.wait()
            with suppress(ConfigError), Output(place, both[number - 1], shard=(number, 2)):
                return True
            return False

        with ThreadPoolExecutor(2) as threads:
            went_on = [*threads.map(begin, (1, 2))]
        assert sum(went_on) <= 1
        assert len([*place.glob("_manifest*")]) == sum(went_on)


@pytest.mark.parametrize(("first", "then"), [(None, (1, 2)), ((1, 2), None), ((1, 2), (1, 4))], ids=str)
def test_another_number_of_shards_is_refused(tmp_path, first, then):
    run(tmp_path, SOURCE, shard=first)
    with pytest.raises(ConfigError, match="same number of shards") as caught:
        Output(tmp_path, SHAPE, shard=then)
    assert caught.value.option == "shard"


# -- damage


def damage(part, how):
    data = bytearray(part.read_bytes())
    if how == "flipped":
        at = data.index(vector("text 3").tobytes()) if vector("text 3").tobytes() in data else len(data) // 2
        data[at] ^= 0xFF
    part.write_bytes({"flipped": data, "truncated": data[: len(data) // 2], "empty": b""}[how])


@pytest.mark.parametrize("how", ["truncated", "empty"])
def test_a_damaged_part_is_set_aside_and_its_rows_are_embedded_again(tmp_path, how, caplog):
    run(tmp_path, SOURCE)
    part = parts(tmp_path)[1]
    damage(part, how)
    with caplog.at_level(logging.WARNING, "jinaclip.bulk"):
        assert run(tmp_path, SOURCE) == [f"text {i}" for i in range(8, 16)]
    assert f"{part.name} in {tmp_path} is damaged" in caplog.text
    assert (tmp_path / f"_damaged-{part.name}.hidden").exists()
    assert_holds(tmp_path, SOURCE)


def test_a_flipped_bit_in_a_vector_is_found_when_the_vector_is_copied(tmp_path, caplog):
    run(tmp_path, SOURCE)
    damage(parts(tmp_path)[0], "flipped")
    renamed = SOURCE | {"renamed": "text 3"}
    del renamed["id 3"]
    assert run(tmp_path, renamed) == ["text 3"]
    assert "is damaged" in caplog.text
    assert run(tmp_path, renamed) == [f"text {i}" for i in range(8) if i != 3]
    assert_holds(tmp_path, renamed)


def test_a_flipped_bit_in_a_part_that_is_written_anew_is_found_then(tmp_path, caplog):
    run(tmp_path, SOURCE)
    damage(parts(tmp_path)[0], "flipped")
    fewer = {name: text for name, text in SOURCE.items() if name != "id 0"}
    with Output(tmp_path, SHAPE, part_rows=8) as output:
        output.look_up(items(fewer))
        report = output.finish()
    assert (report.missing, report.rows) == (7, 13)
    assert "7 rows are lost; run again" in caplog.text
    assert manifest(tmp_path)["finished_at"] is None
    assert run(tmp_path, fewer) == [f"text {i}" for i in range(1, 8)]
    assert_holds(tmp_path, fewer)


# -- read only


def test_a_read_only_output_answers_and_writes_nothing(tmp_path):
    run(tmp_path / "a", SOURCE)
    damage(parts(tmp_path / "a")[0], "truncated")
    (tmp_path / "a" / f"_tmp-{parts(tmp_path / 'a')[1].name}.hidden").write_bytes(b"")
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    with Output(tmp_path / "a", SHAPE), Output(tmp_path / "a", SHAPE, read_only=True) as output:
        assert output.look_up(items(SOURCE)[6:10]).tolist() == [ABSENT, ABSENT, DONE, DONE]
    with Output(tmp_path / "b", SHAPE, read_only=True) as output:
        assert output.look_up(items(SOURCE)[:1]).tolist() == [ABSENT]
    assert not (tmp_path / "b").exists()
    assert before.keys() - {path.name for path in (tmp_path / "a").iterdir()} == {
        name for name in before if name.startswith(("_tmp", "part-00000"))
    }
