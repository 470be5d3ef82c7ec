"""An entry that is not what was written, where it was written, is never returned."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinaclip import Cache, JinaClip
from jinaclip.cache.entries import pack_digest, pack_vector, read_digest, read_vector, read_vectors
from jinaclip.testing import Server

Make = Callable[..., JinaClip]
WIDTH = 24
KEY, OTHER = b"k" * 32, b"k" * 31 + b"l"
SAME = 2e-6
many, some = settings(max_examples=100, deadline=None), settings(max_examples=20, deadline=None)


def row(seed: int = 1, width: int = WIDTH) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal(width)
    return (found / np.linalg.norm(found)).astype(np.float32)


VECTOR, DIGEST = pack_vector(KEY, b"made by", row()), pack_digest(KEY, b"d" * 32)


def is_returned(key: bytes, entry: Any, *, width: int = WIDTH, normalized: bool = True) -> bool:
    found = read_vectors({key: entry}, width, normalized=normalized)
    assert [*found.keys, *found.unsound] == [key]
    assert found.rows.shape == (len(found.keys), width)
    return bool(found.keys)


def test_what_was_written_comes_back() -> None:
    found = read_vectors({KEY: VECTOR, OTHER: pack_vector(OTHER, b"", row(2))}, WIDTH, normalized=True)
    assert found.keys == [KEY, OTHER]
    assert found.unsound == []
    assert np.array_equal(found.rows, [row(1), row(2)])
    assert np.array_equal(read_vector(KEY, VECTOR), row())
    assert read_digest(KEY, DIGEST) == b"d" * 32


@pytest.mark.parametrize("bit", range(8))
def test_with_any_bit_flipped_it_is_not_returned(bit: int) -> None:
    for entry, read in ((VECTOR, read_vector), (DIGEST, read_digest)):
        for place in range(len(entry)):
            flipped = bytearray(entry)
            flipped[place] ^= 1 << bit
            assert read(KEY, bytes(flipped)) is None
            assert not is_returned(KEY, bytes(flipped))


def test_cut_anywhere_it_is_not_returned() -> None:
    for entry, read in ((VECTOR, read_vector), (DIGEST, read_digest)):
        for place in range(len(entry)):
            assert read(KEY, entry[:place]) is None
            assert read(KEY, entry[place:]) is None or place == 0
            assert not is_returned(KEY, entry[:place])


@many
@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32))
def test_other_bytes_are_not_returned(entry: bytes, key: bytes) -> None:
    assert not is_returned(key, entry)
    assert read_digest(key, entry) is None


@many
@given(st.data())
def test_bytes_that_were_overwritten_moved_or_repeated_are_not_returned(data: st.DataObject) -> None:
    start, end = sorted(data.draw(st.tuples(*[st.integers(0, len(VECTOR))] * 2)))
    part = data.draw(st.one_of(st.binary(max_size=40), st.just(b"\0" * (end - start)), st.just(VECTOR[start:end] * 2)))
    changed = VECTOR[:start] + part + VECTOR[end:]
    assert is_returned(KEY, changed) == (changed == VECTOR)


@many
@given(st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_under_another_key_it_is_not_returned(key: bytes, other: bytes) -> None:
    entry = pack_vector(key, b"", row())
    assert is_returned(other, entry) == (key == other)
    assert (read_digest(other, pack_digest(key, b"d" * 32)) is not None) == (key == other)


def test_a_digest_is_no_vector_nor_a_vector_a_digest() -> None:
    assert not is_returned(KEY, DIGEST)
    assert read_digest(KEY, VECTOR) is None
    assert read_vector(KEY, DIGEST) is None


@pytest.mark.parametrize("entry", [None, 3, 1.5, "V", "", b"", [], VECTOR.hex()], ids=repr)
def test_what_is_not_bytes_is_not_returned(entry: Any) -> None:
    assert not is_returned(KEY, entry)
    assert read_digest(KEY, entry) is None


WRONG = {
    "another width": row(1, WIDTH + 1),
    "no numbers": row(1)[:0],
    "zeros": np.zeros(WIDTH, np.float32),
    "not a number": np.where(np.arange(WIDTH) == 3, np.float32("nan"), row()),
    "infinite": np.where(np.arange(WIDTH) == 3, np.float32("inf"), row()),
    "huge": np.full(WIDTH, 3e38, np.float32),
    "tiny": np.full(WIDTH, 1e-40, np.float32),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("normalized", [True, False])
def test_what_is_no_vector_is_not_returned_though_it_was_written_so(wrong: str, normalized: bool) -> None:
    assert not is_returned(KEY, pack_vector(KEY, b"", WRONG[wrong]), normalized=normalized)


def test_a_vector_of_another_length_is_returned_where_none_is_promised() -> None:
    entry = pack_vector(KEY, b"", row() * 2)
    assert not is_returned(KEY, entry)
    assert is_returned(KEY, entry, normalized=False)


def test_a_long_fingerprint_is_cut() -> None:
    assert is_returned(KEY, pack_vector(KEY, b"f" * 1000, row()))


# -- in a file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vectors.sqlite"


def spoil(path: Path, statement: str, *values: Any) -> None:
    with sqlite3.connect(path) as file:
        file.execute("create temp table copy as select id, entry from entries")
        assert file.execute(statement, values).rowcount > 0
    file.close()


SPOILT = {
    "a bit": "update entries set entry = cast(substr(entry, 1, 900) || x'00ff' || substr(entry, 903) as blob)",
    "cut": "update entries set entry = substr(entry, 1, 2000)",
    "swapped": "update entries set entry = (select entry from copy where copy.id = 41 - entries.id)",
    "text": "update entries set entry = 'some text'",
    "no text": "update entries set entry = cast(x'ff' as text)",
    "a number": "update entries set entry = 3",
    "empty": "update entries set entry = x''",
    "used at no day": "update entries set day = 'never', entry = 1.5",
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_file_gives_nothing_wrong_and_what_was_spoilt_is_embedded_anew(
    clip: Make, server: Server, path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    texts = [f"text {number}" for number in range(40)]
    first = clip(cache=path).embed(texts).vectors
    Cache(path).close()
    spoil(path, SPOILT[how])
    again = clip(cache=path).embed(texts)
    assert np.abs(again.vectors - first).max() < SAME
    assert again.usage.hits == 0
    Cache(path).close()
    assert len(caplog.records) == 1
    third = clip(cache=path).embed(texts)
    assert np.abs(third.vectors - first).max() < SAME
    assert third.usage.hits == (0 if how == "no text" else 40)  # which SQLite does not read: not tried again so soon


@some
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=40))
def test_a_file_with_bytes_changed_anywhere_gives_nothing_wrong(tmp_path_factory: Any, changes: Any) -> None:
    path = tmp_path_factory.mktemp("changed") / "vectors.sqlite"
    rows = {number.to_bytes(32, "little"): row(number) for number in range(1, 25)}
    cache = Cache(path)
    cache.keep_vectors([*rows], [*rows.values()], "made by")
    cache.close()
    data = bytearray(path.read_bytes())
    for part, change in changes:
        data[int(part * len(data))] ^= change
    path.write_bytes(data)
    found = cache.vectors([*rows], WIDTH, normalized=True)
    for key, vector in zip(found.keys, found.rows, strict=True):
        assert np.array_equal(vector, rows[key])
    cache.close()
