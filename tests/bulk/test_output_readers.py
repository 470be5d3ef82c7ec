"""What a run wrote is read by others as it was meant, and by `jinaclip.bulk.read` whatever the precision."""

from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from jinaclip.bulk import read
from jinaclip.bulk.output import Output
from jinaclip.bulk.precision import PRECISIONS
from jinaclip.errors import ConfigError, InputError
from tests.bulk.rows import SHAPE, D, add, assert_holds, item, items, parts, run, step, vector
from tests.needs import skip_without

SOURCE = {f"dir/é {i}.jpg": f"text {i}" for i in range(21)} | {"broken": "bad picture"}
SOUND = {name: content for name, content in SOURCE.items() if content != "bad picture"}
STORED = {"float32": ("float", D), "float16": ("halffloat", D), "int8": ("int8", D), "ubinary": ("uint8", D // 8)}
LEAST = {"float32": 1 - 1e-6, "float16": 0.9999, "int8": 0.999, "ubinary": 0.5}
"""Cosines between vectors and what is read back, of 16 numbers."""


@pytest.fixture(params=PRECISIONS)
def precision(request):
    return request.param


@pytest.fixture
def folder(tmp_path, precision):
    """An output of several parts, beside which lies what a damaged and an unfinished one leave."""
    run(tmp_path, SOURCE, shape=replace(SHAPE, precision=precision))
    for name in ("_damaged-part-00000-aa.parquet.hidden", "_tmp-part-00001-bb.parquet.hidden"):
        (tmp_path / name).write_bytes(b"PAR1")
    return tmp_path


def stored(precision, content):
    """A vector as it is stored, by the rules and not by the code."""
    row = vector(content)
    if precision == "ubinary":
        return np.packbits(row > 0)
    if precision == "int8":
        return np.rint(row / (np.abs(row).max() / np.float32(127))).astype(np.int8)
    return row.astype(precision)


def assert_rows(precision, ids, rows):
    assert sorted(ids) == sorted(SOUND)
    for name, row in zip(ids, rows, strict=True):
        np.testing.assert_array_equal(np.asarray(row), stored(precision, SOUND[name]))


def test_pyarrow(folder, precision):
    table = pq.read_table(folder)
    kind, width = STORED[precision]
    assert str(table.schema.field("vector").type) == f"fixed_size_list<element: {kind}>[{width}]"
    done = table.filter(pc.field("error").is_null())
    assert_rows(precision, done["id"].to_pylist(), done["vector"].to_pylist())
    (failed,) = table.filter(pc.field("error").is_valid()).to_pylist()
    assert (failed["id"], failed["vector"]) == ("broken", None)


def test_pandas(folder, precision):
    pandas = skip_or_import("pandas")
    frame = pandas.read_parquet(folder, filters=pc.field("error").is_null())
    assert_rows(precision, frame["id"], frame["vector"])
    assert frame["vector"].iloc[0].dtype == stored(precision, "text 0").dtype


def test_polars(folder, precision):
    polars = skip_or_import("polars")
    frame = polars.read_parquet(f"{folder}/*.parquet").filter(polars.col("error").is_null())
    assert frame.schema["vector"].shape == (STORED[precision][1],)
    assert_rows(precision, frame["id"], frame["vector"].to_list())


def test_duckdb(folder, precision):
    duckdb = skip_or_import("duckdb")
    rows = duckdb.sql(f"SELECT id, vector FROM '{folder}/*.parquet' WHERE error IS NULL").fetchall()
    assert_rows(precision, *zip(*rows, strict=True))
    assert duckdb.sql(f"SELECT id FROM '{folder}/*.parquet' WHERE vector IS NULL").fetchall() == [("broken",)]


@pytest.mark.slow
def test_lancedb_in_one_transaction(folder, precision, tmp_path):
    import pyarrow.dataset

    lancedb = skip_or_import("lancedb")
    done = pyarrow.dataset.dataset(folder).scanner(filter=pc.field("error").is_null())
    table = lancedb.connect(tmp_path / "_lance").create_table("rows", done.to_reader())
    assert len(table.list_versions()) == 1
    found = table.to_arrow()
    assert_rows(precision, found["id"].to_pylist(), found["vector"].to_pylist())


def skip_or_import(module):
    skip_without(module)
    return pytest.importorskip(module)


def test_bytes_and_bits_take_no_more_on_disk_than_they_are(tmp_path):
    """Parquet has no numbers of eight bits; stored as they come they would take 32."""
    sizes = {}
    shape = replace(SHAPE, dimensions=1024)
    for precision in PRECISIONS:
        with Output(tmp_path / precision, replace(shape, precision=precision)) as output:
            step(output, items({str(i): f"text {i}" for i in range(256)}), [])
        sizes[precision] = sum(part.stat().st_size for part in parts(tmp_path / precision)) / 256
    rest = 120
    for precision, size in {"float32": 4096, "float16": 2048, "int8": 1024, "ubinary": 128}.items():
        assert size <= sizes[precision] < size * 1.02 + rest, precision


# -- jinaclip.bulk.read


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_read_gives_what_has_a_vector_as_float32_in_batches(folder, precision, batch_size):
    batches = list(read(folder, batch_size=batch_size))
    sizes = [len(batch) for batch in batches]
    assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
    assert sum(sizes) == len(SOUND)
    assert sorted(name for batch in batches for name in batch.ids) == sorted(SOUND)
    for batch in batches:
        assert (batch.vectors.dtype, batch.vectors.shape) == (np.float32, (len(batch), D))
        assert batch.vectors.flags["C_CONTIGUOUS"]
        right = np.stack([vector(SOUND[name]) for name in batch.ids])
        cosines = (batch.vectors * right).sum(axis=1) / np.linalg.norm(batch.vectors, axis=1)
        assert cosines.min() >= LEAST[precision]


def test_read_gives_vectors_as_they_are_stored_if_asked(folder, precision):
    (batch,) = read(folder, dequantize=False)
    assert_rows(precision, batch.ids, batch.vectors)
    assert (batch.scales is None) == (precision != "int8")


def test_read_gives_one_kind_and_ids_of_its_own_for_each_row(tmp_path):
    with Output(tmp_path, SHAPE, part_rows=4) as output:
        both = [item(f"{i}", f"{kind} {i}", kind) for i in range(9) for kind in ("text", "image")]
        output.look_up(both)
        add(output, both)
        output.finish()
    (images,) = read(tmp_path, kind="image")
    assert images.ids == [f"{i}" for i in range(9)]
    assert images.kinds == ["image"] * 9
    (every,) = read(tmp_path)
    assert len({*every.uuids}) == 18
    assert {*images.uuids} < {*every.uuids}
    assert [UUID(name).version for name in images.uuids] == [5] * 9
    assert list(read(tmp_path, kind="pair")) == []


def test_read_refuses_what_is_not_finished_unless_told_otherwise(tmp_path):
    with Output(tmp_path, SHAPE) as output:
        step(output, items(SOURCE), [])
    with pytest.raises(ConfigError, match=r"is not finished; run the same command until it ends.*unfinished=True"):
        read(tmp_path)
    assert sum(map(len, read(tmp_path, unfinished=True))) == len(SOUND)
    run(tmp_path, SOURCE)
    assert_holds(tmp_path, SOURCE)
    assert sum(map(len, read(tmp_path))) == len(SOUND)


def test_read_wants_every_shard_finished(tmp_path):
    halves = [dict(list(SOURCE.items())[some]) for some in (slice(10), slice(10, None))]
    run(tmp_path, halves[0], shard=(1, 2))
    with pytest.raises(ConfigError, match="1 of 2 shards are"):
        read(tmp_path)
    run(tmp_path, halves[1], shard=(2, 2))
    assert sum(map(len, read(tmp_path))) == len(SOUND)


def test_read_refuses_shards_that_were_made_with_different_settings(tmp_path):
    """An earlier version let them into one folder, and whoever copies parts together still does."""
    for number, shape in enumerate((SHAPE, replace(SHAPE, precision="float16")), 1):
        run(tmp_path / str(number), SOURCE, shard=(number, 2), shape=shape)
    for path in (tmp_path / "2").glob("*2of2*"):
        path.rename(tmp_path / "1" / path.name)
    both = r"precision='float32' in _manifest-1of2\.json.*precision='float16' in _manifest-2of2\.json"
    for unfinished in (False, True):
        with pytest.raises(ConfigError, match=both):
            read(tmp_path / "1", unfinished=unfinished)


def test_read_refuses_a_folder_that_is_no_output(tmp_path):
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(ConfigError, match=r"no _manifest\.json"):
            read(place)


def test_read_names_a_damaged_part(tmp_path):
    run(tmp_path, SOURCE)
    part = parts(tmp_path)[1]
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(InputError, match=rf"{part.name} in {tmp_path} is damaged .*run the same command again"):
        list(read(tmp_path))


# -- Qdrant


@pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")
def test_qdrant_by_upserts_that_may_be_sent_twice(tmp_path):
    qdrant = skip_or_import("qdrant_client")
    models = qdrant.models
    run(tmp_path, SOURCE)
    client = qdrant.QdrantClient(":memory:")
    client.create_collection("texts", models.VectorParams(size=D, distance=models.Distance.COSINE))
    for _ in range(2):
        for batch in read(tmp_path, batch_size=5):
            payloads = [{"id": name} for name in batch.ids]
            client.upsert("texts", models.Batch(ids=batch.uuids, vectors=batch.vectors.tolist(), payloads=payloads))
    assert client.count("texts").count == len(SOUND)
    (best,) = client.query_points("texts", vector("text 3").tolist(), limit=1).points
    assert best.payload == {"id": "dir/é 3.jpg"}
    client.close()


def test_names_of_files_that_readers_skip_begin_with_an_underscore_and_do_not_end_with_parquet(tmp_path):
    """Folders are read without what begins with "_"; globs of "*.parquet" have no such rule."""
    run(tmp_path, SOURCE)
    part = parts(tmp_path)[0]
    part.write_bytes(b"")
    run(tmp_path, SOURCE)
    others = [path for path in Path(tmp_path).iterdir() if path not in parts(tmp_path)]
    assert len(others) == 3
    assert all(path.name.startswith("_") for path in others)
