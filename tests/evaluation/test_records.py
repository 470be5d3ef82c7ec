"""Tables and queries as people have them."""

import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jinaclip import ImagePolicy, InputError, MissingDependencyError
from jinaclip.evaluation.records import read_items, read_queries, read_rows
from jinaclip.images import check
from jinaclip.inputs import as_image

ROW = {"id": "a", "text": "a dress", "image": "a.png", "categories": {"broad": "dress"}}


def jsonl(path: Path, *rows) -> Path:
    path.write_text("\n\n".join(json.dumps(row) for row in rows))
    return path


def test_jsonl_and_parquet_and_python_give_the_same(tmp_path):
    rows = [
        {**ROW, "attributes": {"colour": None}},
        {**ROW, "id": "b", "categories": {"broad": "coat", "fine": "red coat"}, "attributes": {"colour": "red"}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    found = read_items(jsonl(tmp_path / "items.jsonl", *rows))
    assert found == read_items(tmp_path / "items.parquet") == read_items(str(tmp_path / "items.parquet"))
    assert [(item.id, item.text) for item in found] == [("a", "a dress"), ("b", "a dress")]
    assert dict(found[1].categories) == {"broad": "coat", "fine": "red coat"}
    assert dict(found[1].attributes) == {"colour": "red"}
    assert [item.id for item in read_items(rows)] == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("dress", {"broad": "dress"}),
        (["dress"], {"broad": "dress"}),
        (["dress", "red dress"], {"broad": "dress", "fine": "red dress"}),
        ([("broad", "dress"), ("own", "x")], {"broad": "dress", "own": "x"}),
        ({"own": "x", "none": None, "blank": "", "number": 3}, {"own": "x", "number": "3"}),
        ({"zero": 0, "no": False, "half": np.float32(0.5)}, {"zero": "0", "no": "False", "half": "0.5"}),
        ([], {}),
    ],
)
def test_categories_in_many_forms(given, meant):
    assert dict(read_items([{**ROW, "categories": given}])[0].categories) == meant


def test_file_names_count_from_the_folder_of_the_table(tmp_path):
    """What lies beside the table was meant by whoever named the table; all else has to pass the image policy."""
    names = [
        "a.png",
        "sub/b.png",
        "../outside.png",
        "/etc/c.png",
        "https://example.com/d.png",
        "data:image/png;base64,AA",
        "s3://bucket/e.png",
        "sku:1.png",
    ]
    rows = [{**ROW, "id": i, "image": name} for i, name in enumerate(names)]
    found = [item.image for item in read_items(jsonl(tmp_path / "items.jsonl", *rows))]
    assert found == [
        tmp_path / "a.png", tmp_path / "sub/b.png", str(tmp_path / "../outside.png"), "/etc/c.png", *names[4:7],
        tmp_path / "sku:1.png",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["a/" * 250_000, "nul\0.png"], ids=["long", "nul"])
def test_what_is_no_name_of_a_file_is_refused_when_it_is_opened(name, tmp_path):
    """It took a minute to look at, or was a bare ValueError."""
    began = time.process_time()
    [item] = read_items(jsonl(tmp_path / "items.jsonl", {**ROW, "image": name}))
    with pytest.raises(InputError, match="cannot be read"):
        check(as_image(item.image), ImagePolicy())
    assert time.process_time() - began < 5


def test_a_link_out_of_the_folder_is_not_beside_the_table(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.png").write_bytes(b"")
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "secret.png")
    found = read_items(jsonl(tmp_path / "data" / "items.jsonl", {**ROW, "image": "link.png"}))
    assert found[0].image == str(tmp_path / "data" / "link.png")


def test_pictures_inside_the_table(tmp_path):
    rows = [
        {**ROW, "image": {"bytes": b"PNG", "path": None}},
        {**ROW, "id": "b", "image": {"bytes": None, "path": "b.png"}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    assert [item.image for item in read_items(tmp_path / "items.parquet")] == [b"PNG", tmp_path / "b.png"]


def test_queries_need_no_id():
    found = read_queries([{"text": "a", "categories": "x"}, {"id": "q", "text": "b", "categories": "x"}])
    assert [query.id for query in found] == ["0", "q"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"id": None}, "no id"),
        ({"id": ""}, "no id"),
        ({"id": "a"}, "share the id 'a'"),
        ({"text": None}, "no text"),
        ({"text": " "}, "blank"),
        ({"text": 3}, "must be a str"),
        ({"image": None}, "no image"),
        ({"image": {"bytes": None}}, "no image"),
        ({"categories": 3}, "categories must be an object"),
        ({"categories": 0}, "categories must be an object"),
        ({"categories": float("nan")}, "categories must be an object"),
        ({"categories": {"fine": float("nan")}}, "row 1: categories, fine: nan must be"),
        ({"categories": {"fine": ["a", "b"]}}, r"fine: \['a', 'b'\] must be a str"),
        ({"attributes": {"colour": {}}}, "attributes, colour"),
        ({"categories": ["a", "b", "c"]}, "must be named"),
        ({"attributes": 1.5}, "attributes must be an object"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(change, named):
    with pytest.raises(InputError, match=named) as caught:
        read_items([ROW, {**ROW, "id": "b", **change}])
    assert caught.value.index == 1


def test_a_query_without_an_id_that_meets_its_number_as_an_id_is_told_why():
    named = {"id": 1, "text": "a", "categories": "x"}
    with pytest.raises(InputError, match="share the id '1'; row 1 has no id of its own and is called by its number"):
        read_queries([named, {"text": "b", "categories": "x"}])


def test_a_query_without_categories_is_named():
    with pytest.raises(InputError, match="query 1 names no categories"):
        read_queries([{"text": "a", "categories": "x"}, {"text": "b"}])


def test_files_that_cannot_be_read(tmp_path):
    for name, content, named in (
        ("items.jsonl", "{}\n{broken", "line 2"),
        ("deep.jsonl", "[" * 100_000, "line 1"),
        ("list.jsonl", "[1]", "row 0 must be an object"),
        ("empty.jsonl", "\n", "there are no items"),
        ("items.parquet", "no parquet", "cannot be read as Parquet"),
        ("items.csv", "id,text", "must end in"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=named):
            read_items(tmp_path / name)
    with pytest.raises(InputError, match="there is no file"):
        read_items(tmp_path / "none.jsonl")


def test_lines_are_those_of_the_file_and_not_of_the_texts(tmp_path):
    """Unicode knows other ends of lines, which JSON may hold; and some editors begin a file with a mark."""
    (tmp_path / "items.jsonl").write_text(
        "\ufeff" + json.dumps({**ROW, "text": "one\u2028two\x85three"}, ensure_ascii=False) + "\r\n", "utf-8"
    )
    assert [item.text for item in read_items(tmp_path / "items.jsonl")] == ["one\u2028two\x85three"]


def test_a_file_in_another_encoding_is_named_by_its_line(tmp_path):
    (tmp_path / "items.jsonl").write_bytes(b"{}\n" + '{"text": "\xe9"}'.encode("latin-1"))
    with pytest.raises(InputError, match=r"line 2 .*UTF-8"):
        read_rows(tmp_path / "items.jsonl")


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "items.parquet").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"jinaclip\[evaluate\]"):
        read_items(tmp_path / "items.parquet")
