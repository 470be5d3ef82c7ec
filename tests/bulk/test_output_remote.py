"""An output on S3 is what it is in a folder, on a real server of that kind; so it is on what only fsspec knows."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from jinaclip.bulk import read
from jinaclip.bulk.files import Folder
from jinaclip.bulk.output import Output
from jinaclip.errors import ConfigError
from tests.bulk.rows import SHAPE, items, run, step
from tests.sources.conftest import Bucket, s3_server  # noqa: F401

SOURCE = {f"id {i}": f"text {i}" for i in range(21)} | {"broken": "bad"}


@pytest.fixture(params=["s3", "memory"])
def place(request):
    """An address where nothing is."""
    if request.param == "s3":
        return Bucket(request.getfixturevalue("s3_server"), f"b{uuid4().hex}").at("a folder/out")
    return f"memory://{uuid4().hex}/out"


def rows(place):
    """All rows that a reader of the folder gets."""
    folder = Folder(place)
    return pq.read_table(folder.path, filesystem=folder.filesystem).to_pylist()


def parts(folder):
    return [name for name in folder.names() if name.endswith(".parquet")]


def test_a_run_its_resume_and_a_changed_source(place):
    assert len(run(place, SOURCE)) == len(SOURCE)
    assert run(place, SOURCE) == []
    changed = {name: text for name, text in SOURCE.items() if name != "id 3"} | {"renamed": "text 3", "id 5": "edited"}
    assert run(place, changed) == ["edited"]
    found = {row["id"]: row for row in rows(place)}
    assert len(found) == len(rows(place))
    assert sorted(found) == sorted(changed)
    assert sum(map(len, read(place))) == len(changed) - 1
    assert json.loads(Folder(place).read("_manifest.json"))["finished_at"]


def test_a_damaged_part_is_set_aside(place):
    run(place, SOURCE)
    folder = Folder(place)
    first = parts(folder)[0]
    folder.write(first, folder.read(first)[:100])
    assert run(place, SOURCE) == [f"text {i}" for i in range(8)]
    assert f"_damaged-{first}.hidden" in folder.names()
    assert len(rows(place)) == len(SOURCE)


def test_other_settings_are_refused(place):
    run(place, SOURCE)
    with pytest.raises(ConfigError, match=r"precision='float32'.*precision='int8'"):
        Output(place, replace(SHAPE, precision="int8"))


def test_an_upload_that_fails_leaves_no_part(place):
    folder = Folder(place)

    def write(file):
        file.write(b"PAR1 half")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        folder.write("part-00000-aa.parquet", write)
    assert folder.names() == []


def test_a_run_that_breaks_off_is_taken_up(place):
    with pytest.raises(ZeroDivisionError), Output(place, SHAPE, part_rows=8) as output:
        step(output, items(SOURCE)[:10], [])
        raise ZeroDivisionError
    assert len(run(place, SOURCE)) == len(SOURCE) - 10
    assert len(rows(place)) == len(SOURCE)


def test_keys_in_an_address_are_shown_nowhere(s3_server):  # noqa: F811
    folder = Folder(f"s3://my-key:my-secret@bucket/out?scheme=http&endpoint_override={s3_server}&region=us-east-1")
    assert str(folder) == "s3://bucket/out"


def test_a_place_that_nothing_reaches_is_refused():
    with pytest.raises(ConfigError, match="nowhere://"):
        Folder("nowhere://bucket/out")
