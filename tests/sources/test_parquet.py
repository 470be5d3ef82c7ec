"""Parquet files are read by row groups, a few rows at a time."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest

from jinaclip import ConfigError, ImagePolicy, InputError
from jinaclip.sources import Columns, open_source
from tests.needs import skip_without
from tests.sources.conftest import png


@pytest.fixture(autouse=True)
def with_pyarrow():
    skip_without("pyarrow")


def write(path, rows, **options):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_row_groups_of_a_folder_are_its_splits(tmp_path):
    for part in range(3):
        rows = [{"id": 100 * part + i, "text": f"text {i}", "other": [1, 2]} for i in range(25)]
        write(tmp_path / f"key={part}" / "part.parquet", rows, row_group_size=10)
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / "_metadata.parquet").write_text("no Parquet")
    source = open_source(tmp_path)
    assert (source.count(), source.kinds) == (75, {"text"})
    rows = list(source.rows())
    assert [row.id for row in rows] == [str(100 * part + i) for part in range(3) for i in range(25)]
    assert rows[37].where == "row 12 of key=1/part.parquet"
    splits = pickle.loads(pickle.dumps(source.splits()))
    assert [len(list(split.rows())) for split in splits] == [10, 10, 5] * 3
    assert [row for split in splits for row in split.rows()] == rows


def test_pictures_within_a_table_are_taken_few_at_a_time(tmp_path):
    """A batch of 1,024 of them would be half a gigabyte, and so would the bytes of a row group."""
    import pyarrow as pa

    rows = [{"id": i, "image": {"bytes": bytes([i]) * 2**19, "path": "x.png"}} for i in range(60)]
    # A page, which is read whole, is what was written at a time.
    path = write(tmp_path / "a.parquet", rows, compression="none", use_dictionary=False, write_batch_size=1)
    before, most = pa.total_allocated_bytes(), 0
    tracemalloc.start()
    try:
        for i, row in enumerate(open_source(path).rows()):
            assert row.image == bytes([i]) * 2**19
            most = max(most, pa.total_allocated_bytes() - before)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 20 * 2**20
    assert peak < 20 * 2**20, "in Python's own memory, where pyarrow keeps what it read of the file"


def test_pictures_may_lie_beside_the_table(tmp_path):
    rows = [{"id": 1, "image": {"bytes": None, "path": "x.png"}}, {"id": 2, "image": {"bytes": None, "path": None}}]
    path = write(tmp_path / "a.parquet", rows)
    (tmp_path / "x.png").write_bytes(png())
    first, second = open_source(path).rows()
    assert first.image.read(ImagePolicy()).source == png()
    assert "neither a text nor an image" in str(second.error)


def test_columns_of_other_types_and_names(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({
        "a.b": pa.array(["x", "y"]).dictionary_encode(),
        "te xt": pa.array(["one", None], pa.large_string()),
        "id": pa.array([1.0, None]),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = open_source(tmp_path / "a.parquet", Columns("a.b", "te xt")).rows()
    assert (first.id, first.text, second.id, second.text) == ("x", "one", "y", None)
    first, second = open_source(tmp_path / "a.parquet", Columns(None, "te xt")).rows()
    assert (first.id, second.id) == ("1.0", "row 1 of a.parquet")


def not_utf8(values):
    """An array of strings of these bytes, as a program writes them that takes Latin-1 for UTF-8."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())


@pytest.mark.parametrize(
    ("column", "kind", "name", "message"),
    [
        ("text", "bytes", "1500", "row 1500 of a.parquet cannot be read in its column 'text': 'utf-8' codec"),
        ("id", "bytes", "row 1500 of a.parquet", "cannot be read in its column 'id': 'utf-8' codec"),
        ("id", "day", "row 1500 of a.parquet", "cannot be read in its column 'id'"),
        ("image", "path", "1500", "cannot be read in its column 'image': 'utf-8' codec"),
    ],
)
def test_a_cell_that_python_cannot_hold_fails_its_row_alone(tmp_path, column, kind, name, message):
    import pyarrow as pa
    import pyarrow.parquet as pq

    count, bad = 2_000, 1_500
    values = [b"caf\xe9" if number == bad else str(number).encode() for number in range(count)]
    columns = {"id": pa.array(range(count)), "text": pa.array(map(str, range(count)))}
    columns[column] = {
        "bytes": lambda: not_utf8(values),
        "day": lambda: pa.array([10**15 if number == bad else number for number in range(count)], pa.timestamp("ms")),
        "path": lambda: pa.StructArray.from_arrays([not_utf8(values)], ["path"]),
    }[kind]()
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", store_schema=False)
    rows = list(open_source(tmp_path / "a.parquet").rows())
    assert len({row.id for row in rows}) == count
    [failed] = [row for row in rows if row.error is not None]
    assert (failed.id, failed.is_named) == (name, name == "1500")
    assert message in str(failed.error)


def test_what_cannot_be_read_is_told(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"a\.parquet cannot be read as Parquet"):
        open_source(tmp_path / "a.parquet")
    write(tmp_path / "b" / "1.parquet", [{"id": 1, "text": "a"}])
    write(tmp_path / "b" / "2.parquet", [{"id": 1, "title": "a"}])
    with pytest.raises(InputError, match=r"2\.parquet has no column 'text', which the first file has"):
        list(open_source(tmp_path / "b").rows())
    with pytest.raises(ConfigError, match="no column 'sku'"):
        open_source(tmp_path / "b", Columns("sku"))


def test_a_damaged_row_group_ends_the_run(tmp_path):
    """Its rows would be taken for deleted."""
    path = write(tmp_path / "a.parquet", [{"id": i, "text": f"{i}" * 50} for i in range(500)], row_group_size=250)
    data = bytearray(path.read_bytes())
    at = len(data) // 2 + 300
    data[at : at + 400] = bytes(400)
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.parquet cannot be read as Parquet"):
        list(open_source(path).rows())
