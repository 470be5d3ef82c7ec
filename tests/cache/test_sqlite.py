"""The file: where it may lie, what becomes of it in bad hands, and that embedding goes on whatever happens to it."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jinaclip import Cache, JinaClip, JinaClipError
from jinaclip.cache.place import network_type
from jinaclip.cache.sqlite_store import APPLICATION_ID, SCHEMA, SqliteStore
from jinaclip.testing import Server
from tests.cache.soundness import check_sound
from tests.needs import long

Make = Callable[..., JinaClip]
SAME = 2e-6
TEXTS = [f"text {number}" for number in range(30)]
posix = pytest.mark.skipif(os.name != "posix", reason="rights of users are POSIX's")
linux = pytest.mark.skipif(sys.platform != "linux", reason="its table of mounts, its signals")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vectors.sqlite"


@pytest.fixture
def make(clip: Make, path: Path) -> Make:
    return lambda **options: clip(**{"cache": path, **options})


@pytest.fixture
def wanted(clip: Make) -> np.ndarray:
    return clip(cache=False).embed_documents(TEXTS)


def entries(*numbers: int, size: int = 4000) -> dict[bytes, bytes]:
    return {number.to_bytes(32, "little"): bytes([number % 256]) * size for number in numbers}


def write(path: Path, statement: str) -> None:
    file = sqlite3.connect(path)
    file.execute(statement)
    file.commit()
    file.close()


def rights(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- a good place


def test_the_file_is_a_database_in_wal_mode_of_this_user_alone(make: Make, path: Path) -> None:
    before = os.umask(0)
    try:
        one = make()
        one.embed_documents(TEXTS)
        assert one.cache.flush()
        found = {file.name: rights(file) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    if os.name == "posix":
        assert found == dict.fromkeys(["vectors.sqlite", "vectors.sqlite-wal", "vectors.sqlite-shm"], 0o600)
        assert rights(path.parent) == 0o700
    file = sqlite3.connect(path)
    pragmas = {"journal_mode": "wal", "user_version": SCHEMA, "application_id": APPLICATION_ID}
    assert {name: file.execute(f"pragma {name}").fetchone()[0] for name in pragmas} == pragmas
    file.close()
    one.cache.close()
    assert [file.name for file in path.parent.iterdir()] == ["vectors.sqlite"]
    assert check_sound(path) == len(TEXTS)


@posix
def test_a_file_that_others_may_read_is_closed_to_them(make: Make, path: Path) -> None:
    make().embed_documents(TEXTS)
    Cache(path).close()
    path.chmod(0o644)
    assert make().embed(TEXTS).usage.hits == len(TEXTS)
    assert rights(path) == 0o600


def test_an_empty_file_becomes_ours(make: Make, path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.touch()
    make().embed_documents(TEXTS)
    Cache(path).close()
    assert check_sound(path) == len(TEXTS)


# -- a bad place: one warning, and no cache


def other_database(path: Path) -> None:
    write(path, "create table entries (key blob, day integer, entry blob)")


def later_schema(path: Path) -> None:
    Cache(path).stats()
    Cache(path).close()
    write(path, f"pragma user_version = {SCHEMA + 1}")


def open_to_others(path: Path) -> None:
    path.parent.chmod(0o777)


def open_to_a_group(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path.parent, -1, 12345)
    path.parent.chmod(0o770)


def link(path: Path) -> None:
    other = path.parent.parent / "elsewhere.sqlite"
    other.touch()
    path.symlink_to(other)


def dangling_link(path: Path) -> None:
    path.symlink_to(path.parent.parent / "nowhere.sqlite")


def hard_link(path: Path) -> None:
    other = path.parent.parent / "elsewhere.sqlite"
    write(other, "pragma user_version = 0")
    other.touch()
    path.hardlink_to(other)


def folder(path: Path) -> None:
    path.mkdir()


def pipe(path: Path) -> None:
    os.mkfifo(path)


def garbage(path: Path) -> None:
    path.write_bytes(b"no database at all, " * 1000)


def text(path: Path) -> None:
    path.write_text("x")


BAD = {
    "a later version": later_schema,
    "another program": other_database,
    "cannot be used": folder,
    "link": link,
    "a link": dangling_link,
    "link to": hard_link,
    "not a database": garbage,
    "it is no database": text,
}
BAD_ON_POSIX = {"other users can write": open_to_others, "no regular file": pipe}


@pytest.mark.parametrize(
    ("why", "spoil"), [*BAD.items(), *(pytest.param(*one, marks=posix) for one in BAD_ON_POSIX.items())]
)
def test_a_bad_place_is_left_alone_with_one_warning(
    make: Make, path: Path, wanted: np.ndarray, why: str, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir(mode=0o700)
    spoil(path)
    before = {file: (file.lstat(), file.is_file() and file.read_bytes()) for file in path.parent.parent.rglob("*")}
    one = make()
    for _ in range(3):
        found = one.embed(TEXTS)
        assert np.abs(found.vectors - wanted).max() < SAME
    with pytest.raises(JinaClipError, match=why):
        one.cache.stats()
    one.cache.close()
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert why in warning.getMessage()
    assert str(path) in warning.getMessage()
    after = {file: (file.lstat(), file.is_file() and file.read_bytes()) for file in path.parent.parent.rglob("*")}
    assert {file: content for file, (_, content) in after.items()} == {f: content for f, (_, content) in before.items()}
    assert {file: found.st_ino for file, (found, _) in after.items()} == {
        f: old.st_ino for f, (old, _) in before.items()
    }


@posix
def test_a_folder_of_a_group_with_others_in_it_is_a_bad_place(make: Make, path: Path, caplog: Any) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may give a folder to another group")
    path.parent.mkdir(mode=0o700)
    open_to_a_group(path)
    make().embed_documents(TEXTS)
    assert "other users can write" in caplog.text


LINE = "36 25 {device} / {folder} rw,relatime shared:1 - {kind} server:/export rw,vers=4.2\n"


@linux
@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "fuse.s3fs", "ceph", "lustre"])
def test_a_network_file_system_is_a_bad_place(
    make: Make, path: Path, wanted: np.ndarray, kind: str, caplog: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("jinaclip.cache.place.MOUNTS", mounts(tmp_path, kind))
    one = make()
    for _ in range(2):
        assert np.abs(one.embed(TEXTS).vectors - wanted).max() < SAME
    (warning,) = caplog.records
    assert kind in warning.getMessage()
    assert "cache=" in warning.getMessage()
    assert not path.exists()


@linux
@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuseblk", "fuse.ntfs-3g"])
def test_a_disk_of_this_machine_is_a_good_place(kind: str, tmp_path: Path) -> None:
    assert network_type(tmp_path, mounts(tmp_path, kind)) is None
    assert network_type(tmp_path) is None


def mounts(folder: Path, kind: str) -> Path:
    """A table of mounts in which the folder is on a file system of this kind."""
    device = folder.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    table = folder / "mountinfo"
    table.write_text(
        LINE.format(device="0:1", folder="/", kind="ext4") + LINE.format(device=number, folder=folder, kind=kind)
    )
    return table


# -- mishaps while it is in use


def remove(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def remove_alone(path: Path) -> None:
    path.unlink()


def remove_folder(path: Path) -> None:
    remove(path)
    path.parent.rmdir()


def replace(path: Path) -> None:
    other = path.with_name("other.sqlite")
    Cache(other).stats()
    Cache(other).close()
    other.replace(path)


def replace_by_garbage(path: Path) -> None:
    other = path.with_name("other.sqlite")
    other.write_bytes(b"garbage" * 1000)
    other.replace(path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def truncate(path: Path) -> None:
    os.truncate(path, 4096)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"garbage " * 4000)


def remove_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


def spoil_log(path: Path) -> None:
    with path.with_name(f"{path.name}-wal").open("r+b") as file:
        file.seek(40)
        file.write(os.urandom(20_000))


def drop_table(path: Path) -> None:
    write(path, "drop table entries")


MISHAPS = [remove, remove_alone, remove_folder, replace, replace_by_garbage, replace_by_folder, truncate, empty]
MISHAPS += [overwrite, remove_log, spoil_log, drop_table]
HEALED = [remove, remove_alone, remove_folder, replace, remove_log]


@posix
@pytest.mark.parametrize("mishap", MISHAPS)
def test_whatever_happens_to_the_file_embedding_goes_on(
    make: Make, server: Server, path: Path, wanted: np.ndarray, mishap: Any
) -> None:
    one = make()
    one.embed_documents(TEXTS[:20])
    assert one.cache.flush()
    mishap(path)
    for _ in range(2):
        assert np.abs(one.embed(TEXTS).vectors - wanted).max() < SAME
    one.cache.close()
    again = make().embed(TEXTS)
    assert np.abs(again.vectors - wanted).max() < SAME
    if mishap in HEALED:
        one.cache.close()
        assert check_sound(path) > 0


PROGRAM = """
import sys
import numpy as np
from jinaclip import JinaClip
url, path, *texts = sys.argv[1:]
clip = JinaClip(api_key="jina_test_mishap", base_url=url, cache=path)
clip.embed_documents(texts)
clip.cache.flush()
print("ready", flush=True)
for line in sys.stdin:
    found = clip.embed(texts)
    assert found.ok.all()
    clip.cache.flush()
    print(found.usage.hits, flush=True)
"""


@pytest.mark.slow
@posix
@pytest.mark.parametrize("mishap", [remove, remove_alone])
def test_processes_that_have_it_open_go_on_with_the_new_one_when_it_was_removed(
    server: Server, path: Path, mishap: Any
) -> None:
    """Whoever lets the removed one go last must not take away the log of the new one, which others write to."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", PROGRAM, server.url, str(path)]
    texts = [[f"{name} {number}" for number in range(20)] for name in "abcd"]
    processes = [subprocess.Popen([*command, *some], **pipes) for some in texts]

    def go_on(process: Any) -> str:
        process.stdin.write("go on\n")
        process.stdin.flush()
        return str(process.stdout.readline().strip())

    try:
        assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
        mishap(path)
        assert [go_on(process) for process in processes] == ["0"] * 4
        assert [go_on(process) for process in processes] == ["20"] * 4
        assert processes[0].communicate(timeout=60)[0] == ""
        assert [go_on(process) for process in processes[1:]] == ["20"] * 3
        for process in processes[1:]:
            process.communicate(timeout=60)
        assert [process.returncode for process in processes] == [0] * 4
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert check_sound(path) == 80


LEFT_OPEN = """
import sqlite3, sys
from pathlib import Path
from jinaclip.process import keep_for_good
path = Path(sys.argv[1])
file = sqlite3.connect(path)
file.execute("pragma journal_mode = wal")
file.execute("create table t (x)")
(file.close if len(sys.argv) > 2 else lambda: keep_for_good(file))()
"""


@pytest.mark.slow
@posix
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_connection_that_is_left_open_is_not_closed_at_the_end_either(tmp_path: Path, is_closed: bool) -> None:
    """A child must not close its parent's; what is closed last takes the log away."""
    path = tmp_path / "v.sqlite"
    command = [sys.executable, "-W", "error", "-c", LEFT_OPEN, str(path), *["close"] * is_closed]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.with_name("v.sqlite-wal").exists() == (not is_closed)


@pytest.mark.slow
@pytest.mark.parametrize(
    "how",
    ["immediate", *(pytest.param(how, marks=pytest.mark.long) for how in ("exclusive", "with the file to itself"))],
)
def test_locked_for_long_by_another_process(
    make: Make,
    path: Path,
    wanted: np.ndarray,
    how: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jinaclip.cache.sqlite_store.BUSY_MS", 300)
    one = make()
    one.embed_documents(TEXTS[:10])
    one.cache.close()
    code = "import sqlite3, sys; f = sqlite3.connect(sys.argv[1], isolation_level=None);"
    if how == "with the file to itself":
        code, how = f"{code} f.execute('pragma locking_mode = exclusive');", "exclusive"
    code += (
        f"f.execute('begin {how}'); f.execute('update entries set day = day + 1'); print('locked', flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, str(path)], **pipes) as locker:
        assert locker.stdout.readline() == "locked\n"
        for _ in range(2):
            assert np.abs(one.embed(TEXTS).vectors - wanted).max() < SAME
        assert not one.cache.flush(5)
        assert len(caplog.records) == 1
        with pytest.raises(JinaClipError, match="cannot be used"):
            one.cache.clear()
        locker.communicate("\n", timeout=60)
    one.cache.close()
    assert check_sound(path) == len(TEXTS)


def test_locked_at_its_very_beginning(
    make: Make, path: Path, wanted: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jinaclip.cache.sqlite_store.BUSY_MS", 300)
    path.parent.mkdir(mode=0o700)
    file = sqlite3.connect(path, isolation_level=None)
    file.execute("begin exclusive")
    one = make()
    assert np.abs(one.embed(TEXTS).vectors - wanted).max() < SAME
    file.execute("rollback")
    file.close()
    one.cache.close()
    assert check_sound(path) == len(TEXTS)


FULL = """
import sys, resource, signal
import numpy as np
from pathlib import Path
from jinaclip import Cache, JinaClip
url, path, most = sys.argv[1:]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it
options = {"api_key": "jina_test_full", "base_url": url}
clip, plain = JinaClip(cache=Cache(path, max_bytes=10**8), **options), JinaClip(cache=False, **options)
texts = [f"text {number}" for number in range(600)]
wanted = plain.embed_documents(texts)
clip.embed_documents(texts[:5])
clip.cache.flush()
if most != "none":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(most), int(most)))
else:
    Path(path).with_name("filler").write_bytes(b"0" * 400_000)
for _ in range(2):
    assert np.abs(clip.embed_documents(texts) - wanted).max() < 2e-6
print("done", flush=True)
"""


@pytest.mark.slow
@linux
@pytest.mark.parametrize("most", [20_000, long(500_000), long(1_500_000)])
def test_a_disk_that_is_full(server: Server, path: Path, most: int) -> None:
    run_full(server, path, str(most))


@pytest.mark.slow
@linux
def test_a_disk_that_is_really_full(server: Server, tmp_path: Path) -> None:
    place = tmp_path / "disk"
    place.mkdir()
    options = "size=900k,mode=700"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        run_full(server, place / "vectors.sqlite", "none")
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def run_full(server: Server, path: Path, most: str) -> None:
    command = [sys.executable, "-c", FULL, server.url, str(path), most]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
    assert done.stderr.count("embedding goes on without it") == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert check_sound(path) >= 0


READ_ONLY = """
import grp, os, pwd, sys  # now, as another user may not read where they lie
import platformdirs
import numpy as np
from pathlib import Path
from jinaclip import JinaClip
url, path, what = sys.argv[1:]
path = Path(path)
if os.geteuid() == 0:  # who is not held up by rights
    for place in (path.parent.parent, path.parent, *path.parent.iterdir()):
        os.chown(place, 65534, 65534)
texts = [f"text {number}" for number in range(30)]
plain = JinaClip(api_key="jina_test_read_only", base_url=url, cache=False)
wanted = plain.embed_documents(texts)
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
if not os.access(path, os.R_OK):
    sys.exit("another user does not come there")
if what == "file":
    path.chmod(0o400)
if what == "folder":
    path.parent.chmod(0o500)
if what == "nothing there":
    path.unlink()
    path.parent.chmod(0o500)
clip = JinaClip(api_key="jina_test_read_only", base_url=url, cache=path)
for _ in range(2):
    assert np.abs(clip.embed_documents(texts) - wanted).max() < 2e-6
print(clip.usage.hits, flush=True)
clip.cache.close()
path.parent.chmod(0o700)
"""


@pytest.mark.slow
@posix
@pytest.mark.parametrize(
    ("what", "hits"), [("file", {20, 50}), ("folder", {0, 20, 30, 50}), ("nothing there", {0, 30})]
)
def test_a_file_or_folder_that_can_only_be_read(make: Make, server: Server, what: str, hits: set[int]) -> None:
    with tempfile.TemporaryDirectory() as place:  # where another user comes, unlike pytest's own
        run_read_only(make, server, Path(place) / "cache" / "vectors.sqlite", what, hits)


def run_read_only(make: Make, server: Server, path: Path, what: str, hits: set[int]) -> None:
    make(cache=path).embed_documents(TEXTS[:20])
    Cache(path).close()
    command = [sys.executable, "-c", READ_ONLY, server.url, str(path), what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) in hits
    assert done.stderr.count("embedding goes on without it") <= 1, done.stderr
    if path.exists():
        assert check_sound(path) >= 20


# -- room


def test_what_was_not_used_for_longest_goes_first(path: Path) -> None:
    store = Days(path, max_bytes=400_000)
    for day in range(1, 5):
        store.day = day
        store.put_many(entries(*range(10 * day, 10 * day + 10)))
    store.day = 5
    assert set(store.get_many([*entries(*range(10, 20))])) == set(entries(*range(10, 20)))  # the oldest, used again
    store.put_many(entries(*range(50, 100)))
    assert store.size().size <= 400_000
    assert set(store.get_many([*entries(*range(10, 20))])) == set(entries(*range(10, 20)))
    assert set(store.get_many([*entries(*range(50, 100))])) == set(entries(*range(50, 100)))
    assert set(store.get_many([*entries(*range(20, 30))])) == set()
    store.close()


class Days(SqliteStore):
    """A store that lives on a day of the test's."""

    day = 0

    def _today(self) -> int:
        return self.day


def test_it_never_grows_over_its_limit(path: Path) -> None:
    store = SqliteStore(path, max_bytes=1_000_000)
    for start in range(0, 3000, 100):
        store.put_many(entries(*range(start, start + 100)))
        assert store.size().size <= 1_000_000
    assert store.size().entries > 100
    store.close()
    assert path.stat().st_size <= 1_000_000
    assert check_sound(path) > 100


def test_what_comes_in_one_go_and_is_larger_than_the_limit_fills_it(path: Path) -> None:
    store = SqliteStore(path, max_bytes=300_000)
    store.put_many(entries(*range(1000)))
    assert 30 < store.size().entries < 75
    assert store.size().size <= 300_000
    store.close()


def test_nothing_is_dropped_that_a_call_under_way_has_read_or_written(path: Path) -> None:
    needed = set(entries(*range(40)))
    store = SqliteStore(path, 300_000, lambda keys: needed & set(keys))
    store.put_many(entries(*range(40)))
    for start in range(40, 400, 40):
        store.put_many(entries(*range(start, start + 40)))
        assert set(store.get_many([*needed])) == needed
        assert store.size().size <= 300_000
    store.close()


def test_a_call_over_more_than_the_cache_holds_keeps_what_fits(make: Make, path: Path, server: Server) -> None:
    texts = [f"text {number}" for number in range(400)]
    one = make(cache=Cache(path, max_bytes=500_000))
    first = one.embed_documents(texts)
    assert one.cache.flush()
    stats = one.cache.stats()
    assert stats.size <= 500_000
    assert stats.entries > 60
    assert np.abs(one.embed_documents(texts) - first).max() < SAME
    one.cache.close()
    assert path.stat().st_size <= 500_000


def test_the_day_of_use_is_written_later_and_once_a_day(path: Path) -> None:
    store = Days(path)
    store.day = 1
    store.put_many(entries(*range(50)))
    store.day = 2
    store.get_many([*entries(*range(20))])
    assert days_in(path) == {1: 50}
    store.close()
    assert days_in(path) == {1: 30, 2: 20}
    store.get_many([*entries(*range(20))])
    store.close()
    assert days_in(path) == {1: 30, 2: 20}


def test_the_uses_of_a_long_run_do_not_pile_up_in_memory(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jinaclip.cache.sqlite_store.MOST_USED", 100)
    store = Days(path)
    store.put_many(entries(*range(300), size=10))
    store.day = 1
    for start in range(0, 300, 60):
        store.get_many([*entries(*range(start, start + 60))])
    assert days_in(path)[1] >= 200
    store.close()


def days_in(path: Path) -> dict[int, int]:
    file = sqlite3.connect(path)
    try:
        return dict(file.execute("select day, count(*) from entries group by day").fetchall())
    finally:
        file.close()


def test_clearing_makes_the_file_small(path: Path) -> None:
    cache = Cache(path)
    cache.add(entries(*range(500)))
    cache.close()
    assert path.stat().st_size > 2_000_000
    cache.clear()
    cache.close()
    assert path.stat().st_size < 100_000
    assert cache.stats().entries == 0


def test_many_threads_read_write_and_clear(path: Path) -> None:
    cache, failures = Cache(path, max_bytes=3_000_000), []

    def work(name: int) -> None:
        rng = np.random.default_rng(name)
        rows = {bytes([name, number]) * 16: unit(rng) for number in range(60)}
        try:
            for turn in range(20):
                keys = [*rows]
                cache.keep_vectors(keys, [*rows.values()], "")
                found = cache.vectors(keys, 1024, normalized=True)
                assert all(np.array_equal(rows[key], row) for key, row in zip(found.keys, found.rows, strict=True))
                assert not found.unsound
                if turn % 7 == name % 7:
                    cache.clear()
                if turn % 5 == 0:
                    cache.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    assert failures == []
    cache.close()
    assert check_sound(path) >= 0


def unit(rng: Any) -> np.ndarray:
    row = rng.standard_normal(1024)
    return (row / np.linalg.norm(row)).astype(np.float32)
