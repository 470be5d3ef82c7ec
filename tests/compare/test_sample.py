"""What two sources are compared on comes from files of many kinds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from jinaclip import InputError
from jinaclip.compare import read_sample
from tests.needs import skip_without


@pytest.fixture
def folder(tmp_path):
    """Two images, one of them deeper, beside a file that is none."""
    (tmp_path / "photos" / "deep").mkdir(parents=True)
    for name in ("b.PNG", "deep/a.jpg"):
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.md").write_text("no image")
    return tmp_path


def test_a_folder_gives_the_images_under_it(folder):
    sample = read_sample([folder / "photos"])
    assert [path.name for path in sample.images.inputs] == ["b.PNG", "a.jpg"]
    assert sample.texts.inputs == []


def test_lines_are_texts_and_one_that_comes_twice_is_taken_once(tmp_path):
    (tmp_path / "wishes").write_bytes("\ufeffred dress\r\n\r\nblue dress\u2028still blue\nred dress\n".encode())
    sample = read_sample([str(tmp_path / "wishes")])
    assert sample.texts.inputs == ["red dress", "blue dress\u2028still blue"]
    assert sample.texts.names == ["line 1 of wishes", "line 3 of wishes"]


def test_rows_hold_a_text_an_image_or_both(folder):
    rows = [{"text": "one", "image": "photos/b.PNG"}, {"text": "two"}, {"image": "photos/deep/a.jpg", "text": None}]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sample = read_sample([folder / "items.jsonl"])
    assert sample.texts.inputs == ["one", "two"]
    assert [path.name for path in sample.images.inputs] == ["b.PNG", "a.jpg"]
    assert sample.images.names == ["row 0 of items.jsonl", "row 2 of items.jsonl"]


def test_parquet_is_read_as_jsonl_is(tmp_path):
    skip_without("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["one", "two"]}), tmp_path / "items.parquet")
    assert read_sample([tmp_path / "items.parquet"]).texts.inputs == ["one", "two"]


def test_of_many_some_are_taken_at_equal_distances_and_the_number_is_told(tmp_path):
    (tmp_path / "many.txt").write_text("\n".join(map(str, range(1001))))
    sample = read_sample([tmp_path / "many.txt"], limit=5)
    assert sample.texts.inputs == ["0", "250", "500", "750", "1000"]
    assert sample.texts.found == 1001


def test_the_sample_of_the_package_is_the_same_each_time_and_not_square():
    ours, again = read_sample(), read_sample([])
    assert ours.built_in
    assert len(set(ours.texts.inputs)) == len(ours.texts.inputs) == 24
    assert all(np.array_equal(a, b) for a, b in zip(ours.images.inputs, again.images.inputs, strict=True))
    assert {image.shape for image in ours.images.inputs} == {(120, 180, 3)}
    assert len({image.tobytes() for image in ours.images.inputs}) == 12


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "there is no file"),
        ("photo.bin", b"\xff\xd8\xff\xe0", "line 1 of .* is no text in UTF-8; images end in"),
        ("empty.txt", b"\n \n", "there is no text and no image in"),
        ("rows.jsonl", b'{"text": "a"}\n{"id": 3}', "row 1 of .* has no text and no image"),
        ("rows.jsonl", b'{"text": 5}', "text of row 0"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_sample([tmp_path / name])


def test_a_folder_without_images_is_told(tmp_path):
    with pytest.raises(InputError, match=r"no file under .* ends in one of \.jpg"):
        read_sample([tmp_path])
