"""Folders of pictures, with whatever names and files people have in them."""

from __future__ import annotations

import os
import socket

import pytest

from jinaclip import ConfigError, ImagePolicy, InputError
from jinaclip.sources import open_source
from tests.sources.conftest import png

NAMES = [
    "plain.png",
    "with space.PNG",
    "new\nline.png",
    "#1 50%25.jpg",
    "a#page=3.png",
    "q?x=1&y.png",
    "über/straße.webp",
    "[brackets].gif",
    "-dash.png",
    "'quotes\".png",
    "back\\slash.png",
    "x" * 240 + ".png",
    "deep/" * 60 + "down.png",
]


def write(folder, *names):
    for shade, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(shade))


def read(source, policy=None, **options):
    """Id and content of each row, or its error."""
    policy = policy or ImagePolicy()
    found = {}
    for row in open_source(source, policy=policy, **options).rows():
        assert row.id not in found
        if row.error is not None:
            found[row.id] = row.error
            continue
        try:
            found[row.id] = row.image.read(policy).source
        except InputError as error:
            found[row.id] = error
    return found


def test_ids_are_paths_from_the_folder_whatever_the_names(tmp_path):
    write(tmp_path, *NAMES)
    assert read(tmp_path) == {name: png(shade) for shade, name in enumerate(NAMES)}
    assert open_source(tmp_path).count() == len(NAMES)
    assert open_source(str(tmp_path)).kinds == {"image"}


def test_a_name_that_is_no_utf8_is_an_id_that_is(tmp_path):
    name = b"caf\xe9.png"
    (tmp_path / os.fsdecode(name)).write_bytes(png())
    [(row_id, content)] = read(tmp_path).items()
    assert (row_id, content) == ("caf\\xe9.png", png())
    assert row_id.encode()


def test_hidden_files_and_files_of_other_kinds_are_left_out(tmp_path):
    write(tmp_path, "a.png", ".hidden.png", ".git/b.png", "sub/.c.png", "notes.md", "_d.png")
    assert set(read(tmp_path)) == {"a.png", "_d.png"}


def test_rows_come_in_the_same_order_each_time(tmp_path):
    write(tmp_path, "b.png", "a/2.png", "a/10.png", "c.png")
    source = open_source(tmp_path)
    assert [row.id for row in source.rows()] == [row.id for row in source.rows()]
    assert [row.id for row in source.rows()] == ["a/10.png", "a/2.png", "b.png", "c.png"]


@pytest.mark.slow
def test_splits_give_the_rows_of_the_whole(tmp_path):
    import pickle

    for i in range(600):
        (tmp_path / f"{i}.png").write_bytes(b"")
    source = open_source(tmp_path)
    splits = pickle.loads(pickle.dumps(source.splits()))
    assert len(splits) == 3
    assert [row for split in splits for row in split.rows()] == list(source.rows())


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", {"a.png"}),
        ("**/*.png", {"a.png", "x/b.png", "x/y/c.png"}),
        ("*/*.png", {"x/b.png"}),
        ("x/**/?.png", {"b.png", "y/c.png"}),
        ("x/**", {"b.png", "y/c.png", "d.jpg"}),
        ("x/[bd].*", {"b.png", "d.jpg"}),
    ],
)
def test_ids_of_a_glob_begin_where_its_wildcards_do(tmp_path, pattern, found):
    write(tmp_path, "a.png", "x/b.png", "x/y/c.png", "x/d.jpg")
    assert set(read(f"{tmp_path}/{pattern}")) == found


def test_a_name_with_wildcards_that_is_there_is_a_name(tmp_path):
    write(tmp_path, "a[1].png", "a1.png", "d[1]/e.png")
    assert set(read(tmp_path / "a[1].png")) == {"a[1].png"}
    assert set(read(tmp_path / "d[1]")) == {"e.png"}


def test_a_glob_lists_no_deeper_than_it_must(tmp_path):
    """Nobody can list the last folder, and nobody has to."""
    write(tmp_path, "a.png", "x/b.png")
    (tmp_path / "x" / ("y" * 255)).symlink_to(tmp_path / "none")
    assert set(read(f"{tmp_path}/*.png")) == {"a.png"}


def test_a_link_out_of_the_folder_is_a_row_with_an_error(tmp_path):
    write(tmp_path, "secret/s.png", "photos/a.png", "photos/in/b.png")
    photos = tmp_path / "photos"
    (photos / "out.png").symlink_to(tmp_path / "secret" / "s.png")
    (photos / "same.png").symlink_to(photos / "a.png")
    (photos / "folder").symlink_to(tmp_path / "secret")
    (photos / "again").symlink_to(photos / "in")
    (photos / "gone.png").symlink_to(photos / "nothing.png")
    (photos / "loop").symlink_to(photos)
    (photos / "self.png").symlink_to(photos / "self.png")
    found = read(photos)
    assert {name for name, content in found.items() if isinstance(content, bytes)} == {"a.png", "same.png", "in/b.png"}
    assert "lies outside" in str(found["out.png"])
    assert "is a link out of" in str(found["folder/"])
    assert "does not exist" in str(found["gone.png"])
    assert "self.png" in str(found["self.png"])
    assert len(found) == 7
    for more in ({}, {"allow_networks": ["10.0.0.0/8"]}):
        allowed = read(photos, ImagePolicy(allowed_roots=[tmp_path / "secret"], **more))
        assert isinstance(allowed["out.png"], bytes)


def test_a_file_that_was_named_may_be_a_link(tmp_path):
    write(tmp_path, "there/s.png", "here/a.png")
    (tmp_path / "here" / "link.png").symlink_to(tmp_path / "there" / "s.png")
    assert read(tmp_path / "here" / "link.png") == {"link.png": png(0)}


def test_pipes_sockets_and_folders_are_not_opened(tmp_path, monkeypatch):
    """Opening the pipe would wait for ever."""
    write(tmp_path, "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        listening.bind("socket.png")
    found = read(tmp_path)
    assert set(found) == {"a.png", "pipe.png", "socket.png"}
    assert "pipe or socket" in str(found["pipe.png"])
    assert "pipe or socket" in str(found["socket.png"])
    with pytest.raises(ConfigError, match="is a pipe or a device; give its content to stdin"):
        open_source(tmp_path / "pipe.png")


def test_a_folder_that_cannot_be_listed_ends_the_run(tmp_path):
    """Its pictures would be taken for deleted."""
    write(tmp_path, "a.png", "locked/b.png")
    rows = open_source(tmp_path).rows()
    assert next(rows).id == "a.png"
    (tmp_path / "locked" / "b.png").unlink()
    (tmp_path / "locked").rmdir()
    with pytest.raises(InputError, match=r"locked.* cannot be listed"):
        list(rows)


def test_a_picture_over_the_limit_is_a_row_with_an_error(tmp_path):
    write(tmp_path, "a.png")
    (tmp_path / "large.png").write_bytes(bytes(3000))
    (tmp_path / "empty.png").write_bytes(b"")
    found = read(tmp_path, ImagePolicy(max_bytes=2000))
    assert found["a.png"] == png()
    assert "max_bytes" in str(found["large.png"])
    assert "empty" in str(found["empty.png"])


@pytest.mark.parametrize(
    ("files", "source", "message"),
    [
        ([], "", "no file of"),
        (["notes.md"], "", r"no file of .* ends in one of \.jpg"),
        (["a.csv", "b.jsonl"], "", "tables of several kinds, 'a.csv', 'b.jsonl'"),
        ([], "missing", "there is no file or folder"),
        ([], "missing/*.png", "cannot be listed"),
        (["a.json"], "a.json", r"\.json, which is not read"),
        (["binary"], "binary", "is no text in UTF-8"),
        (["a.xlsx"], "a.xlsx", r"\.xlsx, which is not read"),
    ],
)
def test_what_is_no_source_is_told_at_once(tmp_path, files, source, message):
    for name in files:
        (tmp_path / name).write_bytes(b"\0\1" if name == "binary" else b"id,text\n")
    with pytest.raises((ConfigError, InputError), match=message):
        list(open_source(tmp_path / source).rows())


@pytest.mark.parametrize("source", ["", " ", "a\0b", b"a.png", {"id": 1}, 3, None])
def test_what_can_be_no_source_is_refused(source):
    with pytest.raises(ConfigError, match="a source is"):
        open_source(source)


def test_a_relative_path_stays_the_same_when_the_working_directory_changes(tmp_path, monkeypatch):
    write(tmp_path, "photos/a.png", ".dot/b.png")
    monkeypatch.chdir(tmp_path)
    source, hidden = open_source("photos"), open_source(".dot")
    monkeypatch.chdir("/")
    assert [row.image.read(ImagePolicy()).source for row in source.rows()] == [png(0)]
    assert [row.id for row in hidden.rows()] == ["b.png"]
    assert set(read((tmp_path / "photos").as_uri())) == {"a.png"}


@pytest.mark.slow
def test_ten_thousand_pictures_with_odd_names_are_each_read_once(tmp_path):
    letters = " #%?&\n'\"\\[]*~;$`|<>éß日\U0001f600\udcff-."
    names = [f"{letters[i % 25]}{i}{letters[i % 27 :][:5]}.{('png', 'JPG', 'webp')[i % 3]}" for i in range(10_000)]
    for i in range(20):
        (tmp_path / f"folder {i}").mkdir()
    for i, name in enumerate(names):
        (tmp_path / f"folder {i % 20}" / name).write_bytes(b"%d" % i)
    rows = list(open_source(tmp_path).rows())
    assert len({row.id for row in rows}) == len(rows) == 10_000
    policy = ImagePolicy()
    assert {int(row.image.read(policy).source) for row in rows} == set(range(10_000))
    plain = {f"folder {i % 20}/{name}" for i, name in enumerate(names) if "\udcff" not in name}
    assert plain < {row.id for row in rows}
