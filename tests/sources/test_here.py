"""What only this process can read: stdin, and rows from Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jinaclip import ConfigError, ImagePolicy, InputError
from jinaclip.bulk.items import items_of
from jinaclip.sources import Columns, open_source
from tests.sources.conftest import png

READ = """
from jinaclip.sources import open_source
print([(row.id, row.text, row.where, row.error is None) for row in open_source("-").rows()])
"""


def read_stdin(content: bytes) -> list:
    done = subprocess.run([sys.executable, "-c", READ], input=content, capture_output=True, check=True)
    return eval(done.stdout)


def test_stdin_is_json_lines_if_it_begins_like_them():
    content = b'\xef\xbb\xbf\n \n {"id": 1, "text": "a"}\n{broken\n'
    assert read_stdin(content) == [
        ("1", "a", "line 3 of stdin", True),
        ("line 4 of stdin", None, "line 4 of stdin", False),
    ]


@pytest.mark.slow
def test_stdin_is_lines_else():
    assert read_stdin("\n\nübel\n{b}\n".encode()) == [
        ("3", "übel", "line 3 of stdin", True),
        ("4", "{b}", "line 4 of stdin", True),
    ]
    assert read_stdin(b"") == read_stdin(b"\n \n") == []


def test_what_is_here_is_read_once_and_by_nobody_else():
    with pytest.raises(ConfigError, match="stdin can only be read by the process"):
        open_source("-").splits()
    source = open_source(row for row in [{"id": 1, "text": "a"}])
    with pytest.raises(ConfigError, match="the rows given can only be read by the process"):
        source.splits()
    assert len(list(source.rows())) == 1
    with pytest.raises(ConfigError, match="read already"):
        list(source.rows())


def test_a_list_of_rows_is_counted_and_read_again():
    source = open_source([{"id": i, "text": "a"} for i in range(3)])
    assert source.count() == 3
    assert len(list(source.rows())) == len(list(source.rows())) == 3
    assert open_source(iter([])).count() is None


def test_rows_are_not_read_far_ahead():
    taken = []
    rows = ({"id": taken.append(i) or i, "text": "a"} for i in range(10_000))
    found = open_source(rows).rows()
    assert taken == []
    assert next(found).id == "0"
    assert len(taken) == 100


def test_images_of_rows_have_any_form(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png(7))
    monkeypatch.chdir(tmp_path)
    picture = Image.open(tmp_path / "a.png")
    images = {
        "bytes": png(7),
        "path": tmp_path / "a.png",
        "str": "a.png",
        "file": (tmp_path / "a.png").open("rb"),
        "pil": picture,
        "array": np.asarray(picture.convert("RGB")),
        "struct": {"bytes": png(7)},
        "number": np.int64(5),
        "missing": Path("none.png"),
    }
    rows = open_source(
        [{"sku": np.int64(i), "image": one} for i, one in enumerate(images.values())], Columns("sku")
    ).rows()
    items = dict(zip(images, (item for row in rows for item in items_of(row, None, 0.5, ImagePolicy())), strict=True))
    assert {items[name].digest for name in ("bytes", "path", "str", "file", "struct")} == {items["bytes"].digest}
    assert items["pil"].digest == items["array"].digest != items["bytes"].digest
    assert isinstance(items["number"].error, InputError)
    assert "does not exist" in str(items["missing"].error)
    assert items["array"].id == "5"
    images["file"].close()


def test_a_row_that_is_no_mapping_is_an_error_of_its_own():
    rows = list(open_source([{"id": 1, "text": "a"}, ("b",), None, {"id": 2, "text": 5}]).rows())
    assert [row.id for row in rows] == ["1", "row 1", "row 2", "2"]
    assert "is tuple, and must be an object" in str(rows[1].error)
    [item] = items_of(rows[3], None, 0.5, ImagePolicy())
    assert "text of row 3: must be a str, not int" in str(item.error)


@pytest.mark.slow
def test_two_hundred_thousand_rows_take_no_more_memory_than_a_few(tmp_path):
    """In a process of its own, which imports no more on the way."""
    code = """
import resource, sys
from jinaclip.sources import open_source
most = []
for name in sys.argv[1:]:
    for number, _ in enumerate(open_source(name).rows()):
        if number in (20_000, 49_999, 199_999):
            most.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(most)
"""
    names = [str(tmp_path / f"a.{ending}") for ending in ("jsonl", "csv", "txt")]
    rows = [f"text {i} of a table of many rows" for i in range(200_000)]
    (tmp_path / "a.jsonl").write_text(
        "".join(f'{{"id": {i}, "text": {json.dumps(text)}}}\n' for i, text in enumerate(rows))
    )
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(f"{i},{text}\n" for i, text in enumerate(rows[:50_000])))
    (tmp_path / "a.txt").write_text("\n".join(rows[:50_000]))
    done = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    most = json.loads(done.stdout)
    assert len(most) == 3 + 2 + 2
    assert max(most) - most[0] < 4 * 1024  # kilobytes
