"""Tables: which columns make rows, and what of a row that is wrong is told."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import pickle

import pytest

from jinaclip import ConfigError, ImagePolicy, InputError
from jinaclip.bulk.items import items_of
from jinaclip.sources import Columns, open_source
from tests.needs import skip_without
from tests.sources.conftest import png

HTTPS = "https://example.com/a.png"


def jsonl(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def csv_file(path, *lines):
    path.write_text("\r\n".join(lines), newline="")
    return path


def parquet(path, rows, **options):
    skip_without("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), path, **options)
    return path


@pytest.fixture(params=["jsonl", "csv", "parquet", "python"])
def table(request, tmp_path):
    """Writes rows of str as each kind of table."""

    def write(*rows):
        path = tmp_path / f"table.{request.param}"
        if request.param == "python":
            return [*rows]
        if request.param == "csv":
            return csv_file(path, ",".join(rows[0]), *[",".join(row.values()) for row in rows])
        return jsonl(path, *rows) if request.param == "jsonl" else parquet(path, [*rows])

    return write


def test_id_text_and_image_are_the_columns_of_these_names(table):
    rows = list(open_source(table({"id": "a", "text": "one", "image": HTTPS, "price": "3"})).rows())
    assert [(row.id, row.text, row.image, row.error) for row in rows] == [("a", "one", HTTPS, None)]


def test_columns_can_be_named(table):
    rows = table({"sku": "a", "title": "one", "text": "two", "url": HTTPS})
    [row] = open_source(rows, Columns("sku", "title", "url")).rows()
    assert (row.id, row.text, row.image) == ("a", "one", HTTPS)
    [row] = open_source(rows, Columns("sku")).rows()
    assert (row.text, row.image) == ("two", None)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (Columns(), r"and not 'id'; name the one that tells its rows apart: --id NAME"),
        (Columns("none"), r"no column 'none', which --id names: .* 'sku', 'title'"),
        (Columns("sku", "nope"), r"no column 'nope', which --text names: .* 'sku', 'title'"),
        (Columns("sku", "title", "photo"), r"no column 'photo', which --image names"),
        (Columns("sku"), r"neither 'text' nor 'image'; name what to embed: --text NAME or --image NAME"),
    ],
)
def test_a_column_that_is_not_there_is_told_with_those_that_are(table, columns, message):
    with pytest.raises(ConfigError, match=message):
        list(open_source(table({"sku": "a", "title": "one"}), columns).rows())


def test_what_a_table_holds_is_known_where_it_has_a_header(tmp_path):
    assert open_source(csv_file(tmp_path / "a.csv", "id,image")).kinds == {"image"}
    assert open_source(parquet(tmp_path / "a.parquet", [{"id": 1, "text": "a", "image": "b"}])).kinds == {
        "text",
        "image",
    }
    assert open_source(jsonl(tmp_path / "a.jsonl", {"id": 1, "text": "a"})).kinds is None
    assert open_source([{"id": 1, "text": "a"}]).kinds is None


def test_a_column_may_begin_late_in_json_lines(tmp_path):
    path = jsonl(
        tmp_path / "a.jsonl", {"id": 1, "text": "a"}, {"id": 2, "image": HTTPS}, {"id": 3, "text": "b", "more": 1}
    )
    assert [(row.text, row.image) for row in open_source(path).rows()] == [("a", None), (None, HTTPS), ("b", None)]


@pytest.mark.parametrize(
    ("found", "meant"),
    [
        (7, "7"),
        (0, "0"),
        (-1, "-1"),
        (1.5, "1.5"),
        (2**60, str(2**60)),
        ("  ", "  "),
        ("ü/#%", "ü/#%"),
        ("\ud800", "\\ud800"),
    ],
)
def test_a_number_is_the_id_that_it_is_written_as(tmp_path, found, meant):
    [row] = open_source(jsonl(tmp_path / "a.jsonl", {"id": found, "text": "a"})).rows()
    assert (row.id, row.error) == (meant, None)


@pytest.mark.parametrize("found", [None, "", [], {}, True, float("nan"), float("inf"), 2**70])
def test_what_is_no_id_is_an_error_under_the_place_of_the_row(tmp_path, found):
    rows = list(open_source(jsonl(tmp_path / "a.jsonl", {"id": 1, "text": "a"}, {"id": found, "text": "b"})).rows())
    assert [row.id for row in rows] == ["1", "line 2 of a.jsonl"]
    assert "id" in str(rows[1].error)


def test_a_row_that_is_wrong_is_an_error_and_not_the_end(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"id": 1, "text": "a"}\r\n\r\n{broken\n[1]\n"str"\n{"id": 2}\n'
        b'{"id": 3, "text": null}\n{"text": "\xff"}\n'
        b'{"id": 4, "text": NaN}\n{"id": 5, "text": ""}\n' + b"[" * 5000 + b'\n{"id": 6, "text": "z"}'
    )
    rows = list(open_source(path).rows())
    assert [(row.id, row.error is None) for row in rows] == [
        ("1", True), ("line 3 of a.jsonl", False), ("line 4 of a.jsonl", False), ("line 5 of a.jsonl", False),
        ("2", False), ("3", False), ("line 8 of a.jsonl", False), ("4", False), ("5", False),
        ("line 11 of a.jsonl", False), ("6", True),
    ]  # fmt: skip
    assert "line 3 of a.jsonl is no JSON in UTF-8" in str(rows[1].error)
    assert "line 6 of a.jsonl has neither a text nor an image" in str(rows[4].error)


def read_images(rows, policy=None):
    policy = policy or ImagePolicy()
    items = [item for row in rows for item in items_of(row, None, 0.5, policy)]
    return {item.id: item.content.source if item.error is None else str(item.error) for item in items}


def test_images_are_paths_addresses_base64_and_data_uris(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a b%20#.png").write_bytes(png(1))
    encoded = base64.b64encode(png(2)).decode()
    images = {
        "path": "sub/a b%20#.png",
        "base64": encoded,
        "url-safe": base64.urlsafe_b64encode(png(3)).decode().rstrip("="),
        "in lines": base64.encodebytes(png(4)).decode(),
        "data": f"data:image/png;base64,{encoded}",
        "url": HTTPS,
        "missing": "sub/none.png",
        "cut": encoded[:-9] + "!",
        "http": "http://example.com/a.png",
    }
    path = jsonl(tmp_path / "a.jsonl", *[{"id": name, "image": value} for name, value in images.items()])
    found = read_images(open_source(path).rows())
    assert [found[name] for name in ("path", "base64", "url-safe", "in lines", "data", "url")] == [
        png(1), png(2), png(3), png(4), png(2), HTTPS,
    ]  # fmt: skip
    assert "none.png' does not exist" in found["missing"]
    assert "base64" in found["cut"] or "cannot be read" in found["cut"] or "exist" in found["cut"]
    assert "not 'http'" in found["http"]


def test_base64_of_a_format_without_a_known_beginning_is_no_path(tmp_path):
    data = bytes(6000)
    path = jsonl(tmp_path / "a.jsonl", {"id": 1, "image": base64.b64encode(data).decode()})
    assert read_images(open_source(path).rows()) == {"1": data}
    assert "max_bytes" in read_images(open_source(path).rows(), ImagePolicy(max_bytes=100))["1"]


def test_a_table_leads_to_no_file_outside_its_folder_unless_the_policy_does(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "in.png").write_bytes(png(1))
    (tmp_path / "out.png").write_bytes(png(2))
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "out.png")
    names = [
        "in.png",
        "../out.png",
        "link.png",
        str(tmp_path / "out.png"),
        (tmp_path / "out.png").as_uri(),
        "/dev/zero",
    ]
    path = jsonl(tmp_path / "data" / "a.jsonl", *[{"id": i, "image": name} for i, name in enumerate(names)])
    monkeypatch.chdir("/")
    found = read_images(open_source(path).rows())
    assert found["0"] == png(1)
    assert all("allowed_roots" in found[str(i)] for i in range(1, 6))
    found = read_images(open_source(path).rows(), ImagePolicy(allowed_roots=tmp_path))
    assert [found[str(i)] for i in range(5)] == [png(1), png(2), png(2), png(2), png(2)]
    assert "device" in read_images(open_source(path).rows(), ImagePolicy(allowed_roots="any"))["5"]


def test_an_address_in_a_storage_is_refused_unless_the_policy_allows_anything(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"id": 1, "image": "s3://bucket/a.png"})
    assert "is in a storage, outside" in read_images(open_source(path).rows())["1"]


def test_files_of_a_folder_are_one_table(tmp_path):
    for name in ("b.jsonl", "a.jsonl", "sub/c.jsonl", "_d.jsonl", ".e.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        jsonl(tmp_path / name, {"id": name, "text": name})
    (tmp_path / "README.md").write_text("about it")
    rows = list(open_source(tmp_path).rows())
    assert [(row.id, row.where) for row in rows] == [
        ("a.jsonl", "line 1 of a.jsonl"), ("b.jsonl", "line 1 of b.jsonl"), ("sub/c.jsonl", "line 1 of sub/c.jsonl")
    ]  # fmt: skip
    assert [row.id for row in open_source(f"{tmp_path}/*.jsonl").rows()] == ["a.jsonl", "b.jsonl"]
    splits = pickle.loads(pickle.dumps(open_source(tmp_path).splits()))
    assert [row.id for split in splits for row in split.rows()] == [row.id for row in rows]


def test_a_table_that_is_a_link_out_of_the_folder_is_told(tmp_path):
    (tmp_path / "data").mkdir()
    target = jsonl(tmp_path / "other.jsonl", {"id": 1, "text": "a"})
    (tmp_path / "data" / "a.jsonl").symlink_to(target)
    with pytest.raises(InputError, match=r"'a\.jsonl' is a link out of"):
        open_source(tmp_path / "data")
    assert [row.id for row in open_source(tmp_path / "data" / "a.jsonl").rows()] == ["1"]


@pytest.mark.parametrize(("ending", "compress"), [("gz", gzip.compress), ("bz2", bz2.compress), ("zst", None)])
def test_text_may_be_compressed(tmp_path, ending, compress):
    skip_without("pyarrow")
    import pyarrow as pa

    compress = compress or (lambda data: pa.compress(data, "zstd", asbytes=True))
    for name, content in (("a.jsonl", b'{"id": 1, "text": "x"}\n'), ("b.csv", b"id,text\n1,x\n"), ("c.txt", b"x\n")):
        path = tmp_path / f"{name}.{ending}"
        path.write_bytes(compress(content))
        assert [(row.id, row.text) for row in open_source(path).rows()] == [("1", "x")]


@pytest.mark.parametrize("damage", [lambda data: data[:-2000], lambda data: data[:3000] + b"\0" * 99 + data[3099:]])
def test_a_damaged_stream_ends_the_run_and_not_only_the_file(tmp_path, damage):
    """What comes behind would be taken for deleted."""
    skip_without("pyarrow")
    import random

    numbers = random.Random(5)
    content = "".join(f"text {numbers.random()}\n" for _ in range(2000)).encode()
    path = tmp_path / "a.txt.gz"
    path.write_bytes(damage(gzip.compress(content)))
    with pytest.raises(InputError, match=r"a\.txt\.gz cannot be read to its end"):
        list(open_source(path).rows())


def test_several_members_of_gzip_are_one_file(tmp_path):
    skip_without("pyarrow")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))
    assert [row.text for row in open_source(tmp_path / "a.txt.gz").rows()] == ["one", "two"]


def test_columns_of_lines_are_not_named(tmp_path):
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(ConfigError, match="has lines and no columns"):
        open_source(tmp_path / "a.txt", Columns(text="title"))
