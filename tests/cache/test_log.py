"""Entries that are appended to logs: found again after a kill and by others, torn ends cut off, never too many."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinaclip.bulk.lock import try_lock
from jinaclip.cache import Cache, LogStore, StoreError
from jinaclip.cache.entries import VectorEntries
from jinaclip.cache.log_file import HEAD, READ_AT_ONCE, LogFile

ROOMY = 2**20
LOOK = LogFile.follow
FIRST = "0-000000000.log"
"""The first file of the first log in a folder."""


class Locks:
    """Locks of files in this process, in place of those between processes."""

    def __init__(self) -> None:
        self._held: set[Path] = set()

    def take(self, path: Path) -> Lock | None:
        if path in self._held:
            return None
        self._held.add(path)
        return Lock(partial(self._held.discard, path))


@dataclass
class Lock:
    release: Callable[[], None]


def open_store(folder: Path, max_bytes: int = ROOMY) -> LogStore:
    """A store that is alone."""
    return LogStore(folder, max_bytes, Locks().take)


def open_two(folder: Path, max_bytes: int = ROOMY) -> tuple[LogStore, LogStore]:
    """Two that are in use, as two processes have them."""
    locks = Locks()
    stores = LogStore(folder, max_bytes, locks.take), LogStore(folder, max_bytes, locks.take)
    for store in stores:
        assert not store.get_many([b"k"])
    return stores


def entries(first: int, last: int, size: int = 10) -> dict[bytes, bytes]:
    return {number.to_bytes(32, "big"): number.to_bytes(4, "big") * size for number in range(first, last)}


def test_what_was_put_is_found_in_another_process_s_file(tmp_path) -> None:
    """The process that wrote it was killed without closing anything."""
    folder = tmp_path / "folder" / "logs"
    program = (
        "import os, signal, sys; from pathlib import Path; from tests.cache.test_log import open_store\n"
        "open_store(Path(sys.argv[1])).put_many({b'k' * 32: b'entry'}); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=False)
    store = open_store(folder)
    assert store.get_many([b"k" * 32, b"j" * 32]) == {b"k" * 32: b"entry"}
    store.close()


@settings(deadline=None)
@given(cut=st.integers(0, 200), junk=st.binary(max_size=60))
def test_whatever_a_crash_left_at_the_end_costs_that_alone(tmp_path_factory, cut, junk) -> None:
    """Whole records before it are found, and what is put afterwards is found, too."""
    folder, put = tmp_path_factory.mktemp("log"), entries(0, 3)
    store, path = open_store(folder), folder / FIRST
    store.put_many(put)
    store.close()
    record = path.stat().st_size // 3
    left = max(0, path.stat().st_size - cut)
    path.write_bytes(path.read_bytes()[:left] + junk)
    whole = dict(list(put.items())[: left // record])
    found = store.get_many([*put])
    assert found.items() >= whole.items()
    store.put_many(entries(7, 9))
    store.close()
    assert dict(store.scan()).items() >= (whole | entries(7, 9)).items()


@settings(deadline=None)
@given(data=st.data())
def test_what_is_spoilt_in_the_middle_costs_the_records_that_it_strikes(tmp_path_factory, data) -> None:
    """Whether it is a length, a key, a mark or an entry; a spoilt entry is found, and known by its own checksum."""
    folder, put = tmp_path_factory.mktemp("log"), entries(0, 9)
    store, path = open_store(folder), folder / FIRST
    store.put_many(put)
    store.close()
    content = bytearray(path.read_bytes())
    record = len(content) // 9
    first = data.draw(st.integers(0, len(content) - 1))
    junk = data.draw(st.binary(min_size=1, max_size=min(3 * record, len(content) - first)))
    content[first : first + len(junk)] = junk
    path.write_bytes(content)
    struck = range(first // record, (first + len(junk) - 1) // record + 1)
    others = {key: entry for place, (key, entry) in enumerate(put.items()) if place not in struck}
    assert store.get_many([*put]).items() >= others.items()
    store.put_many(entries(20, 22))
    store.close()
    assert dict(store.scan()).items() >= entries(20, 22).items()


def test_a_spoilt_length_in_the_middle_is_told_and_the_file_keeps_what_is_behind(tmp_path, caplog) -> None:
    """Though a length twice as long, or a billion, would lead past the records behind it."""
    path, put = tmp_path / FIRST, entries(0, 5)
    for length in (92, 10**9):
        store = open_store(tmp_path)
        store.put_many(put)
        store.close()
        content = bytearray(path.read_bytes())
        record = len(content) // 5
        content[2 * record + 8 : 2 * record + 12] = length.to_bytes(4, "little")
        path.write_bytes(content)
        keys = [*put]
        assert store.get_many(keys) == {key: put[key] for key in (*keys[:2], *keys[3:])}
        assert f"{record} bytes of it cannot be read" in caplog.text
        assert path.read_bytes() == content
        store.clear()
        caplog.clear()


def test_marks_are_found_wherever_blocks_of_a_long_spoilt_piece_end(tmp_path) -> None:
    store, path = open_store(tmp_path), tmp_path / FIRST
    put = entries(0, 3)
    for size in range(READ_AT_ONCE - 5, READ_AT_ONCE + 6):
        store.put_many(put)
        store.close()
        record = path.stat().st_size // 3
        content = path.read_bytes()
        path.write_bytes(content[:record] + bytes(size) + content[record:])
        assert store.get_many([*put]) == put
        store.clear()


def test_zeros_at_the_end_are_no_entries(tmp_path) -> None:
    """As a file system leaves them after a power cut."""
    store, path = open_store(tmp_path), tmp_path / FIRST
    store.put_many(entries(0, 2))
    store.close()
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(500))
    assert store.size().entries == 2
    assert path.stat().st_size == size
    store.close()


def test_the_latest_entries_are_always_there(tmp_path) -> None:
    """The files stay below their bound, and what was put last, half of it, is never dropped."""
    store = open_store(tmp_path, 20_000)
    for number in range(0, 2_000, 10):
        store.put_many(entries(number, number + 10))
        sizes = [file.stat().st_size for file in tmp_path.iterdir()]
        assert sum(sizes) <= 20_000 + 2 * 10 * (HEAD.size + 32 + 40)
        latest = entries(max(0, number - 100), number + 10)
        assert store.get_many([*latest]) == latest
    assert not store.get_many([*entries(0, 100)])
    store.clear()
    assert not [*tmp_path.iterdir()]


def test_a_later_entry_of_a_key_stands_for_the_earlier(tmp_path) -> None:
    """Also where the earlier one is in the older file, and after the files were opened anew."""
    store, key = open_store(tmp_path, 2_000), b"k" * 32
    for turn in range(100):
        entry = turn.to_bytes(2, "big") * 20
        store.put_many({key: entry})
        assert store.get_many([key]) == {key: entry}
        store.close()
        assert store.get_many([key]) == {key: entry}
    assert [*store.scan()][-1] == (key, entry)
    store.delete_many([key])
    assert store.get_many([key]) == {}
    store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="it has no bounds on the size of files")
def test_a_full_disk_leaves_no_half_entry(tmp_path) -> None:
    """The write that strikes the bound is undone, and once there is room it succeeds."""
    import resource

    store = open_store(tmp_path)
    store.put_many(entries(0, 2, 10_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / FIRST).stat().st_size + 50_000, hard))
    try:
        with pytest.raises(StoreError, match="cannot be used"):
            store.put_many(entries(2, 4, 10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    store.close()
    assert dict(store.scan()) == entries(0, 2, 10_000)
    store.put_many(entries(2, 4, 10_000))
    assert store.get_many([*entries(0, 4)]) == entries(0, 4, 10_000)
    store.close()


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="this system cannot refuse links")
def test_a_link_in_its_place_is_not_written_through(tmp_path) -> None:
    (tmp_path / FIRST).symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(tmp_path).put_many(entries(0, 1))
    assert not (tmp_path / "other").exists()


def vectors(first: int, last: int, width: int = 10) -> VectorEntries:
    """As the cache hands them over."""
    keys = [number.to_bytes(32, "big") for number in range(first, last)]
    rows = np.arange(first * width, last * width, dtype=np.float32).reshape(len(keys), width)
    return VectorEntries(keys, rows, b"made by")


def test_vectors_come_back_packed_as_they_would_have_been_to_begin_with(tmp_path) -> None:
    put, later = vectors(0, 5), vectors(5, 7)
    store = open_store(tmp_path)
    store.put_many(put)
    store.put_many(entries(20, 22))
    store.put_many(later)
    expected = {**put, **entries(20, 22), **later}
    assert store.get_many([*expected]) == expected
    store.close()
    again = open_store(tmp_path)
    assert again.get_many([*expected]) == expected == dict(again.scan())
    assert again.size().entries == 9
    again.close()


@settings(deadline=None)
@given(data=st.data())
def test_a_byte_of_vectors_that_is_spoilt_costs_those_that_came_with_it(tmp_path_factory, data) -> None:
    """Wherever it lies: nothing is returned that was not put, and the others are all there."""
    folder, lots = tmp_path_factory.mktemp("log"), [vectors(10 * lot, 10 * lot + 3) for lot in range(4)]
    store, path = open_store(folder), folder / FIRST
    ends = []
    for lot in lots:
        store.put_many(lot)
        ends.append(path.stat().st_size)
    store.close()
    content, at = bytearray(path.read_bytes()), data.draw(st.integers(0, ends[-1] - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    store = open_store(folder)
    struck = sum(at >= end for end in ends)
    rest = {key: entry for number, lot in enumerate(lots) if number != struck for key, entry in lot.items()}
    assert store.get_many([key for lot in lots for key in lot]) == rest
    store.put_many(lots[struck])
    assert store.get_many([*lots[struck]]) == dict(lots[struck])
    store.close()


@pytest.mark.parametrize("cut", [1, 100, 200])
def test_vectors_that_another_process_is_writing_are_no_damage(tmp_path, caplog, cut) -> None:
    one, other = open_two(tmp_path)
    one.put_many(vectors(0, 3))
    path = tmp_path / FIRST
    whole = path.read_bytes()
    os.truncate(path, len(whole) - cut)
    assert not other.get_many([*vectors(0, 3)])
    path.write_bytes(whole)
    assert other.get_many([*vectors(0, 3)]) == dict(vectors(0, 3))
    assert "spoilt" not in caplog.text
    for store in (one, other):
        store.close()


def test_a_cache_over_it_gives_vectors_back_and_drops_spoilt_ones(tmp_path, caplog) -> None:
    rows = np.eye(8, dtype=np.float32)
    keys = [bytes([number]) * 32 for number in range(8)]
    cache = Cache(store=open_store(tmp_path))
    for some in (slice(0, 6), slice(6, 8)):
        cache.keep_vectors(keys[some], rows[some], "made by")
        assert cache.flush()
    cache.close()
    data = bytearray((tmp_path / FIRST).read_bytes())
    data[-1] ^= 0xFF
    (tmp_path / FIRST).write_bytes(data)
    found = cache.vectors(keys, 8, normalized=True)
    assert found.keys == keys[:6]
    np.testing.assert_array_equal(found.rows, rows[:6])
    assert cache.vectors(keys[6:], 8, normalized=True).keys == []
    assert caplog.text.count("spoilt") == 1
    cache.close()


def test_two_processes_find_what_the_other_appends_and_keep_their_bounds(tmp_path) -> None:
    """Also after the other has gone on in another file, and removed one."""
    one, other = open_two(tmp_path, 20_000)
    for number in range(0, 1_000, 20):
        one.put_many(entries(number, number + 10))
        other.put_many(entries(number + 10, number + 20))
        both = entries(number, number + 20)
        assert one.get_many([*both]) == other.get_many([*both]) == both
    for store in (one, other):
        assert not store.get_many([*entries(0, 20)])
        assert store.size().size == sum(file.stat().st_size for file in tmp_path.iterdir()) <= 2 * 22_000
        store.close()


def test_of_another_s_log_only_what_is_new_is_read(tmp_path) -> None:
    """What was read before is spoilt here, which whoever read it again would notice."""
    one, other = open_two(tmp_path)
    first, second = entries(0, 10), entries(10, 20)
    one.put_many(first)
    assert other.get_many([*first]) == first
    with (tmp_path / FIRST).open("r+b") as file:
        file.write(bytes(HEAD.size))
    one.put_many(second)
    assert other.get_many([*first, *second]) == first | second
    one.close()
    other.close()


@pytest.mark.parametrize("cut", [1, HEAD.size - 1, HEAD.size, HEAD.size + 5, HEAD.size + 32, HEAD.size + 40])
def test_a_record_that_another_process_is_writing_is_no_damage(tmp_path, caplog, cut) -> None:
    """It is left alone, and found once it is whole."""
    one, other = open_two(tmp_path)
    one.put_many(entries(0, 3))
    path, key = tmp_path / FIRST, b"k" * 32
    size, whole = path.stat().st_size, written(tmp_path / "apart", {key: b"entry" * 8})
    with path.open("ab", buffering=0) as file:
        file.write(whole[:cut])
        assert other.get_many([key, *entries(0, 3)]) == entries(0, 3)
        assert path.stat().st_size == size + cut
        file.write(whole[cut:])
    assert other.get_many([key]) == {key: b"entry" * 8}
    assert not caplog.text
    one.close()
    other.close()


def written(folder: Path, put: dict[bytes, bytes]) -> bytes:
    """What a log of these entries holds."""
    store = open_store(folder)
    store.put_many(put)
    store.close()
    return (folder / FIRST).read_bytes()


def test_the_log_of_a_process_that_ended_is_read_as_far_as_it_goes_and_taken_over_by_the_next(tmp_path) -> None:
    """Who comes to write it cuts off its torn end, and nobody else does; so there are no more logs than processes."""
    locks = Locks()
    killed, living = (LogStore(tmp_path, ROOMY, locks.take) for _ in range(2))
    killed.put_many(entries(0, 3))
    living.put_many(entries(3, 4))
    killed.close()
    torn = (tmp_path / FIRST).read_bytes()[:-10]
    (tmp_path / FIRST).write_bytes(torn)
    assert living.get_many([*entries(0, 4)]) == entries(0, 2) | entries(3, 4)
    assert (tmp_path / FIRST).read_bytes() == torn
    following = LogStore(tmp_path, ROOMY, locks.take)
    following.put_many(entries(7, 9))
    both = entries(0, 2) | entries(3, 4) | entries(7, 9)
    assert living.get_many([*entries(0, 9)]) == following.get_many([*entries(0, 9)]) == both
    assert len([*tmp_path.iterdir()]) == 2
    living.close()
    following.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_child_that_was_forked_writes_a_log_of_its_own_and_leaves_the_parent_its_lock(tmp_path) -> None:
    """With the locks of files that a run has, and also once the child has ended."""
    parent = LogStore(tmp_path, ROOMY, try_lock)
    parent.put_many(entries(0, 2))
    before = (tmp_path / FIRST).read_bytes()
    child = os.fork()
    if not child:  # what goes wrong here is seen by what is missing
        parent.forget()
        parent.put_many(entries(2, 3))
        parent.close()
        del parent
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (tmp_path / FIRST).read_bytes() == before
    assert try_lock(tmp_path / "0.lock") is None
    assert parent.get_many([*entries(0, 9)]) == entries(0, 3)
    assert {path.name[:2] for path in tmp_path.glob("*.log")} == {"0-", "1-"}
    parent.close()


def test_another_s_file_that_cannot_be_read_costs_what_is_in_it_alone(tmp_path, caplog) -> None:
    store = open_store(tmp_path)
    store.put_many(entries(0, 2))
    (tmp_path / "9-000000000.log").symlink_to(tmp_path / "nowhere")
    for _ in range(2):
        assert store.get_many([*entries(0, 9)]) == entries(0, 2)
    assert caplog.text.count("is read without") == 1
    store.close()


def test_a_log_that_could_not_be_opened_is_opened_anew_and_its_lock_is_free_meanwhile(tmp_path, monkeypatch) -> None:
    first = open_store(tmp_path)
    first.put_many(entries(0, 30))
    first.close()
    breaks = [True]

    def follow(file: LogFile) -> None:
        if breaks:
            breaks.pop()
            raise OSError("input/output error")
        LOOK(file)

    monkeypatch.setattr(LogFile, "follow", follow)
    locks = Locks()
    store = LogStore(tmp_path, ROOMY, locks.take)
    with pytest.raises(StoreError, match="input/output"):
        store.put_many(entries(30, 31))
    assert locks.take(tmp_path / "0.lock") is not None, "its lock is held"
    locks = Locks()
    store = LogStore(tmp_path, ROOMY, locks.take)
    store.put_many(entries(30, 31))
    assert store.get_many([*entries(0, 99)]) == entries(0, 31)
    store.close()


def test_a_log_that_comes_long_after_the_folder_was_listed_is_found(tmp_path) -> None:
    locks = Locks()
    one, other = (LogStore(tmp_path, ROOMY, locks.take) for _ in range(2))
    one.put_many(entries(0, 1))
    os.utime(tmp_path, (0, 0))
    for _ in range(2):  # the second look lists nothing, as nothing has changed
        assert one.get_many([*entries(0, 9)]) == entries(0, 1)
    other.put_many(entries(1, 2))
    assert one.get_many([*entries(0, 9)]) == entries(0, 2)
    for store in (one, other):
        store.close()


def test_a_file_that_is_full_is_not_read_again(tmp_path) -> None:
    """Which would take as long as writing it: where its entries lie is known."""
    store = open_store(tmp_path, 20_000)
    put: dict[bytes, bytes] = {}
    while len([*tmp_path.iterdir()]) < 2:
        put |= (some := entries(len(put), len(put) + 10))
        store.put_many(some)
    with (tmp_path / FIRST).open("r+b") as file:
        file.write(bytes(HEAD.size))  # whoever read it would take it for torn from its beginning
    latest = dict([*put.items()][-20:])
    assert store.get_many([*latest]) == latest
    store.close()
