"""What a run cannot have, it says: odd cells fail alone, and rows that were lost on the way are no success."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jinaclip.bulk.output import Output
from jinaclip.testing import expected_vector
from tests.bulk.processes import manifest, numbered, picture, read, write_texts
from tests.bulk.rows import SHAPE, add, items


def test_a_cell_that_is_no_text_fails_alone(command, tmp_path) -> None:
    """Numbers, lists and objects where a text should be end no run."""
    odd = [5, ["x"], {"x": 1}, True, 1.5]
    lines = [json.dumps({"id": str(number), "text": cell}) for number, cell in enumerate([*odd, "a text"])]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    code, printed, _ = command(tmp_path / "t.jsonl", tmp_path / "out")
    assert code == 3, printed
    assert [name for (name, _), row in read(tmp_path / "out").items() if row["error"] is None] == [str(len(odd))]


@pytest.mark.slow
def test_a_part_that_turns_out_damaged_at_the_end_is_no_success(command, tmp_path) -> None:
    """Its rows are told as lost, the run does not end with 0, and the same command embeds them anew."""
    texts = numbered(1_500)
    source, out = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out"
    assert command(source, out)[0] == 0
    [part] = out.glob("part-*.parquet")
    group = pq.ParquetFile(part).metadata.row_group(1)
    vectors = next(group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema[:3] == "vec")
    data = bytearray(part.read_bytes())
    data[vectors.data_page_offset + 5_000] ^= 0xFF
    part.write_bytes(data)
    write_texts(source, texts | {"item-5": "edited"})
    code, printed, _ = command(source, out)
    assert code == 3, printed
    assert f"rows lost {len(texts) - len(read(out)):,}" in printed
    assert not manifest(out)["finished_at"]
    assert command(source, out)[0] == 0
    assert len(read(out)) == len(texts)


def test_a_part_that_somebody_removed_during_the_run_is_missing(tmp_path) -> None:
    """Though nothing had to read it."""
    some = items({f"id-{number}": f"text {number}" for number in range(10)})
    with Output(tmp_path, SHAPE, part_rows=5) as output:
        output.look_up(some)
        add(output, some)
        sorted(tmp_path.glob("part-*.parquet"))[0].unlink()
        report = output.finish()
    assert (report.rows, report.missing) == (5, 5)
    assert not manifest(tmp_path)["finished_at"]


def test_an_output_in_a_folder_of_tables_is_refused_before_anything_is_paid(command, server, tmp_path) -> None:
    """The next run would read it as one of the tables. Beside pictures it may lie."""
    write_texts(tmp_path / "t.jsonl", numbered(3))
    assert command(tmp_path, tmp_path / "out", "--dry-run")[0] == 2
    code, _, logged = command(tmp_path, tmp_path / "out")
    assert code == 2
    assert "choose another --out" in logged
    assert server.ledger()["requests"] == 0
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (8, 8)).save(pictures / "a.png")
    assert [command(pictures, pictures / "out")[0] for _ in range(2)] == [0, 0]


@pytest.mark.parametrize(
    ("pattern", "out", "is_refused"),
    [
        ("**/*.parquet", "vec", True),
        ("**/*.parquet", "sub/vec", True),
        ("*/*.parquet", "vec", True),
        ("*.parquet", ".", True),
        ("**", "vec", True),
        ("*.parquet", "vec", False),
        ("*/*.parquet", "sub/vec", False),
        ("**/*a.parquet", "vec", False),
        ("**/*.parquet", "_vec", False),
        ("**/*.parquet", "../vec", False),
    ],
)
def test_an_output_whose_parts_a_glob_matches_is_refused(command, server, tmp_path, pattern, out, is_refused) -> None:
    """Beside what the glob matches it may lie: the second run reads the same tables as the first."""
    tables = tmp_path / "tables"
    (tables / "sub").mkdir(parents=True)
    for name in ("a.parquet", "sub/a.parquet"):
        pq.write_table(pa.table({"id": [name], "text": ["one"]}), tables / name)
    runs = [command(tables / pattern, tables / out) for _ in range(2)]
    assert [code for code, _, _ in runs] == ([2, 2] if is_refused else [0, 0])
    assert all(("choose another --out" in logged) is is_refused for _, _, logged in runs)
    assert server.ledger()["requests"] == (0 if is_refused else 1)


@pytest.mark.parametrize("scheme", [("file://", ""), ("", "file://"), ("file://", "file://")], ids=str)
def test_an_address_of_this_machine_is_a_path(command, server, tmp_path, scheme) -> None:
    """For an output in a folder of tables, too."""
    write_texts(tmp_path / "t.jsonl", numbered(3))
    code, _, logged = command(f"{scheme[0]}{tmp_path}", f"{scheme[1]}{tmp_path}/out")
    assert (code, "choose another --out" in logged) == (2, True)
    assert server.ledger()["requests"] == 0


def test_pictures_that_are_away_for_a_run_keep_their_vectors(command, server, tmp_path) -> None:
    """They are told as failed, and cost nothing once they are back; one whose content is bad has no vector any more."""
    folder, away, out = tmp_path / "pictures", tmp_path / "away", tmp_path / "out"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.png").write_bytes(picture(number))
    source = tmp_path / "t.jsonl"
    source.write_text("\n".join(json.dumps({"id": number, "image": f"pictures/{number}.png"}) for number in range(4)))
    assert command(source, out)[0] == 0
    folder.rename(away)
    code, printed, _ = command(source, out)
    assert (code, "failed 4," in printed, "vectors kept 4," in printed) == (3, True, True), printed
    assert all(row["error"] is None for row in read(out).values())
    away.rename(folder)
    (folder / "3.png").write_bytes(b"no picture")
    code, printed, _ = command(source, out)
    assert (code, "skipped 3 " in printed, "failed 1," in printed) == (3, True, True), printed
    assert [row["error"] is None for _, row in sorted(read(out).items())] == [True, True, True, False]
    assert server.ledger()["answered"] == {"1": 4}


def test_a_dry_run_counts_a_content_once(command, server, tmp_path) -> None:
    """However many ids have it: the others get its vector."""
    source = write_texts(tmp_path / "t.jsonl", {str(number): f"text {number % 3}" for number in range(300)})
    code, printed, _ = command(source, tmp_path / "out", "--dry-run")
    assert code == 0
    assert "same content 297" in printed
    assert command(source, tmp_path / "out")[0] == 0
    assert f"to embed: 3 texts, 0 images (0 tiles), about {server.ledger()['tokens']} tokens" in printed


def test_a_damaged_line_drops_nothing(command, tmp_path) -> None:
    """Nobody knows whose line it was. Once it is mended, nothing is paid again, and what is gone is dropped."""
    texts = numbered(60)
    source, out = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out"
    assert command(source, out)[0] == 0
    whole = source.read_text()
    source.write_text(whole.replace('{"id"', '{"id', 1))
    code, printed, _ = command(source, out)
    assert (code, "rows kept 1 " in printed) == (3, True), printed
    assert len(read(out)) == len(texts) + 1  # and why the line could not be read
    source.write_text(whole)
    code, printed, _ = command(source, out)
    assert (code, "rows dropped 1 " in printed, "tokens 0" in printed) == (0, True, True), printed
    assert read(out).keys() == {(name, "text") for name in texts}


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--cache", "off")], ids=["own-cache", "off"])
def test_equal_contents_are_paid_for_once_however_close_they_come(command, server, tmp_path, options) -> None:
    """In one block and in many that are in flight together; those of a text that is refused fail with it."""
    server.configure(base_ms=50, poison={"refused": "bad_item_400"})
    texts = {str(number): f"text {number % 7}" for number in range(2_000)} | {"x": "refused", "y": "refused"}
    source, out = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out"
    code, printed, _ = command(source, out, *options)
    assert (code, printed[:18]) == (3, "done 7, failed 2, "), printed
    assert server.ledger()["answered"] == {"1": 7}
    rows = read(out)
    assert rows.keys() == {(name, "text") for name in texts}
    for name, text in texts.items():
        if text != "refused":
            np.testing.assert_allclose(rows[name, "text"]["vector"], expected_vector("text", text), atol=1e-6)
    assert rows["x", "text"]["error"] == rows["y", "text"]["error"] is not None


def test_what_waits_for_an_equal_content_is_left_with_it(command, server, tmp_path) -> None:
    """A service that refuses everything leaves both, and the next run embeds them."""
    server.configure(script=["status_500"] * 100)
    source, out = write_texts(tmp_path / "t.jsonl", {str(n): f"text {n % 30}" for n in range(60)}), tmp_path / "out"
    code, printed, _ = command(source, out, "--max-retries", "0")
    assert (code, "60 items that were read are left" in printed) == (1, True), printed
    server.configure()
    assert command(source, out)[0] == 0
    assert len(read(out)) == 60


def test_ids_that_come_twice_and_items_that_fail_are_named(command, tmp_path) -> None:
    """By their ids and their lines, the first of each; the dry run names the repeated ones, too."""
    rows = [{"id": f"sku-{n % 12}", "text": f"text {n}"} for n in range(18)] + [{"id": "blank", "text": " "}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for options in (("--dry-run",), ()):
        _, printed, _ = command(tmp_path / "t.jsonl", tmp_path / "out", *options)
        assert "repeated ids 6" in printed
        assert "repeated: id 'sku-0', line 13 of t.jsonl; the first" in printed
        assert "... and 1 more repeated ids" in printed
    assert "failed: id 'blank', text of line 19 of t.jsonl: " in printed
