"""The readers of lines, JSON lines and CSV, held against the plainest ways to read the same files."""

from __future__ import annotations

import csv
import io
import json
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinaclip import ConfigError, InputError
from jinaclip.sources import Columns, csv_files, open_source, streams
from jinaclip.sources.csv_files import Records
from jinaclip.sources.jsonl import read_values
from jinaclip.sources.lines import read_texts
from jinaclip.sources.streams import read_lines

few = settings(max_examples=50, deadline=None)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
CELL = st.text(st.sampled_from(["a", '"', ",", "\n", "\r", "é", " ", "'", "\\"]), max_size=8)


def lines_of(content: bytes):
    return read_lines(io.BufferedReader(io.BytesIO(content)))


# -- lines


@given(st.lists(TEXT), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_lines_are_what_split_gives(texts, end, marked, ended):
    content = end.join(texts) + end * ended
    found = list(read_texts(lines_of((("\ufeff" if marked else "") + content).encode())))
    content = content if marked else content.removeprefix("\ufeff")
    assert found == [(n, line.strip()) for n, line in enumerate(content.split("\n"), 1) if line.strip()]


@given(st.lists(st.binary(max_size=9)))
def test_bytes_that_are_no_text_fail_their_own_line(pieces):
    found = dict(read_texts(lines_of(b"\n".join(pieces))))
    for number, line in enumerate(b"\n".join(pieces).removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            assert found.get(number, "") == line.decode().strip()
        except UnicodeDecodeError:
            assert isinstance(found[number], InputError)


def test_a_line_that_is_too_long_is_an_error_and_those_behind_it_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LONGEST_LINE", 100)
    (tmp_path / "a.txt").write_bytes(
        b"a\n" + b"x" * 5000 + b"\nb\n" + b"y" * 100 + b"\n" + b"z" * 99 + b"\n" + b"w" * 300
    )
    rows = list(open_source(tmp_path / "a.txt").rows())
    assert [(row.id, row.error is None) for row in rows] == [
        ("1", True), ("2", False), ("3", True), ("4", False), ("5", True), ("6", False)
    ]  # fmt: skip
    assert "line 2 of a.txt is longer than 100 bytes" in str(rows[1].error)


def test_lines_are_numbered_and_those_of_several_files_are_told_apart(tmp_path):
    (tmp_path / "a.txt").write_bytes("one\n\n \r\nzwei ü\u2028still\n".encode())
    (tmp_path / "b.txt").write_bytes(b"three")
    assert [(row.id, row.text) for row in open_source(tmp_path / "a.txt").rows()] == [
        ("1", "one"), ("4", "zwei ü\u2028still")
    ]  # fmt: skip
    source = open_source(tmp_path)
    assert [row.id for row in source.rows()] == ["a.txt#line=1", "a.txt#line=4", "b.txt#line=1"]
    assert [row for split in source.splits() for row in split.rows()] == list(source.rows())


def test_a_file_of_an_unknown_name_has_lines(tmp_path):
    for name in ("README", "a.log", "b.log"):
        (tmp_path / name).write_text(name)
    assert [row.text for row in open_source(tmp_path / "README").rows()] == ["README"]
    assert [row.text for row in open_source(f"{tmp_path}/*.log").rows()] == ["a.log", "b.log"]


# -- JSON lines

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON), st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"]))
def test_json_lines_are_what_json_loads_gives(values, ascii_only, end):
    content = end.join(json.dumps(value, ensure_ascii=ascii_only) for value in values)
    found = [value for _, value in read_values(lines_of(content.encode()))]
    assert found == [json.loads(line) for line in content.split("\n") if line.strip()]
    assert [*map(repr, found)] == [*map(repr, values)]


@given(st.lists(st.text(st.sampled_from('{}[]":,\\ud80e1.-+ NaInfty\t'), max_size=10)))
def test_what_is_json_and_what_is_not_is_for_json_loads_to_say(texts):
    found = dict(read_values(lines_of("\n".join(texts).encode())))
    for number, text in enumerate(texts, 1):
        try:
            expected = json.loads(text)
        except (ValueError, RecursionError):
            assert isinstance(found.get(number), InputError) or not text.strip()
        else:
            assert repr(found[number]) == repr(expected)


# -- CSV


def read_csv(path, columns):
    return [(row.id, row.text) for row in open_source(path, columns).rows()]


@few
@given(rows=st.lists(st.tuples(CELL, CELL)), end=st.sampled_from(["\n", "\r\n"]), marked=st.booleans())
def test_csv_is_what_dict_reader_gives(tmp_path_factory, rows, end, marked):
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL if end == "\n" else csv.QUOTE_MINIMAL)
    writer.writerows([("sku", "a text"), *((f"{number}{cell}", other) for number, (cell, other) in enumerate(rows))])
    path = tmp_path_factory.getbasetemp() / "read.csv"
    path.write_bytes(file.getvalue().encode("utf-8-sig" if marked else "utf-8"))
    expected = list(csv.DictReader(io.StringIO(file.getvalue(), newline="")))
    found = list(open_source(path, Columns("sku", "a text")).rows())
    assert [(row.id, row.text or "") for row in found] == [(row["sku"], row["a text"]) for row in expected]


@pytest.mark.slow
@few
@given(st.lists(st.lists(CELL, min_size=1, max_size=3), min_size=1, max_size=4))
def test_a_record_that_is_too_long_for_csv_is_split_as_csv_splits(records):
    """The limit of the module holds for the whole process, so it is not raised."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows([*row, "x" * 200_000 + row[0]] for row in records)
    found = list(Records(io.BufferedReader(io.BytesIO(file.getvalue().encode()))).read())
    assert [cells for _, cells in found] == [[*row, "x" * 200_000 + row[0]] for row in records]
    assert csv.field_size_limit() == 131_072


@given(st.text(st.sampled_from('a",\r\n'), max_size=24))
def test_our_own_splitting_agrees_with_csv_on_any_text(text):
    """It takes over in the middle of a file, so it is tried on whatever may stand there."""

    def read(own):
        records = Records(io.BufferedReader(io.BytesIO(text.encode())))
        if own:
            records._reader = iter(lambda: refuse(records), None)
        return [(number, cells if isinstance(cells, list) else "wrong") for number, cells in records.read()]

    def refuse(records):
        if next(records._lines).strip("\r\n"):
            raise csv.Error(csv_files.TOO_LONG)
        return []

    assert read(True) == read(False)


def test_cells_with_pictures_and_newlines(tmp_path):
    lines = "\r\n".join(["base64" * 12] * 4000)
    (tmp_path / "a.csv").write_text(f'id,text\r\n1,"{lines}"\r\n2,"he said ""no"", and left"\r\n\r\n3,b', newline="")
    assert read_csv(tmp_path / "a.csv", Columns()) == [("1", lines), ("2", 'he said "no", and left'), ("3", "b")]


def test_a_record_that_is_wrong_is_an_error_under_its_id_if_it_has_one(tmp_path):
    (tmp_path / "a.csv").write_bytes(
        b'id,text,image\n1,a,\n2,b, and a comma,x\n3,"c"d,\n4\n5,\xff,\n,e,\n7,"opened\n8,f,\n9,"g,\n10,h,\n'
    )
    rows = {row.id: row for row in open_source(tmp_path / "a.csv").rows()}
    assert {name: str(row.error) for name, row in rows.items() if row.error is not None} == {
        "2": "line 3 of a.csv has 4 cells, and the header 3: a cell with a comma in it needs quotes around it",
        "line 4 of a.csv": "line 4 of a.csv is no record of a CSV file, up to line 4: ',' expected after '\"'",
        "4": "line 5 of a.csv has neither a text nor an image",
        "5": "line 6 of a.csv is no text in UTF-8",
        "line 7 of a.csv": "line 7 of a.csv has no id; give each row a str or a number of its own",
        "line 8 of a.csv": "line 8 of a.csv is no record of a CSV file, up to line 10: ',' expected after '\"'",
    }
    assert [name for name, row in rows.items() if row.error is None] == ["1", "10"]


def test_a_quote_that_is_never_closed_swallows_no_row_unseen(tmp_path):
    (tmp_path / "a.csv").write_text('id,text\n1,a\n2,"b\n3,c\n')
    (tmp_path / "b.csv").write_text('id,text\n1,a\n2,"b\n' + "3,c\n" * 100_000)
    for name in ("a.csv", "b.csv"):
        first, second = open_source(tmp_path / name).rows()
        assert first.error is None
        assert f"line 3 of {name} is no record of a CSV file, up to line" in str(second.error)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.csv has no header"),
        (b"\n\n", "a.csv has no header"),
        (b'"id', "a.csv has no header"),
        (b"id,text,id\n", "column 'id' is there 2 times"),
        (b"\xff\xfei\0d\0", "has the columns"),
        (b"id;text\n1;a\n", "has the columns 'id;text', and not 'id'"),
    ],
)
def test_a_header_that_is_none_is_told(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        open_source(tmp_path / "a.csv")


def test_csv_files_of_a_folder_need_the_same_columns_in_any_order(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,a\n")
    (tmp_path / "b.csv").write_text("more,text,id\nx,b,2\n")
    assert read_csv(tmp_path, Columns()) == [("1", "a"), ("2", "b")]
    (tmp_path / "c.csv").write_text("id,title\n3,c\n")
    rows = open_source(tmp_path).rows()
    assert len(list(islice(rows, 2))) == 2
    with pytest.raises(InputError, match=r"c\.csv has no column 'text', which the first file has"):
        next(rows)
