"""The index answers as a plain dict would, takes little memory, and stays quick with a million rows."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jinaclip.bulk.index import ABSENT, COPY, CURRENT, DONE, ERROR, FAILED, NOWHERE, REPEATED, VECTOR, Index
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.output import Output
from tests.bulk.rows import item

NAMES = st.integers(0, 5)
PAIRS = st.lists(st.tuples(NAMES, NAMES), max_size=12)


def digests(numbers, salt=0):
    """Some that share their first half, so that the second has to tell them apart."""
    rows = np.zeros((len(numbers), 16), np.uint8)
    rows[:, 0], rows[:, 15], rows[:, 8] = np.array(numbers, np.uint8) // 3, numbers, salt
    return rows


def test_a_vector_is_kept_for_an_item_that_nobody_could_read_unless_it_was_seen() -> None:
    index = Index()
    keys, none = digests([1, 2, 3, 4]), np.zeros(4, np.int32)
    index.add(keys, digests([11, 12, 13, 14]), none, np.arange(4, dtype=np.int32), np.array([1, 1, ERROR, 1], np.uint8))
    index.mark(digests([2]), digests([22]))  # it was edited, so its vector is of no use
    assert index.keep(keys).tolist() == [True, False, False, True]
    assert index.mark(digests([1, 4]), digests([11, 44])).tolist() == [REPEATED, REPEATED]
    _, rows = index.current()
    assert rows.tolist() == [0, 3]


class PlainIndex:
    """The same by loops."""

    def __init__(self):
        self.rows, self.seen = {}, set()

    def add(self, pairs, flag):
        for pair in pairs:
            self.rows.setdefault(pair, set()).add(flag)

    def mark(self, pairs):
        return [self._mark(*pair) for pair in self._first(pairs)]

    def _first(self, pairs):
        """A block is judged as it was before it came."""
        self.before = {pair for pair, flags in self.rows.items() if VECTOR in flags}
        return pairs

    def _mark(self, key, digest):
        if key in self.seen:
            return REPEATED
        self.seen.add(key)
        flags = self.rows.get((key, digest), ())
        if VECTOR in flags:
            return DONE
        if ERROR in flags:
            return FAILED
        return COPY if digest in {content for _, content in self.before} else ABSENT


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(PAIRS, st.sampled_from([VECTOR, ERROR])), max_size=6), st.lists(PAIRS, max_size=4))
def test_it_answers_as_a_dict_would(parts, asked):
    index, plain, held = Index(), PlainIndex(), {}
    for number, (pairs, flag) in enumerate(parts):
        keys, contents = [key for key, _ in pairs], [content for _, content in pairs]
        row = np.arange(len(pairs), dtype=np.int32)
        index.add(
            digests(keys, 1), digests(contents), np.full(len(pairs), number), row, np.full(len(pairs), flag, np.uint8)
        )
        plain.add(pairs, flag)
        held |= {(number, i): pair for i, pair in enumerate(pairs)}
    marked = set()
    for pairs in asked:
        keys, contents = [key for key, _ in pairs], [content for _, content in pairs]
        states = index.mark(digests(keys, 1), digests(contents)).tolist()
        assert states == plain.mark(pairs)
        marked |= {pair for pair, state in zip(pairs, states, strict=True) if state in (DONE, FAILED)}
    current = [held[place] for place in zip(*(numbers.tolist() for numbers in index.current()), strict=True)]
    assert sorted(current) == sorted(marked)


def test_a_row_that_is_placed_is_found_and_one_that_is_lost_is_missing():
    index, keys, contents = Index(), digests([1, 2], 1), digests([7, 8])
    assert index.mark(keys, contents).tolist() == [ABSENT, ABSENT]
    assert index.locate(contents)[0].tolist() == [NOWHERE, NOWHERE]
    index.place(keys, contents, 4, np.array([10, 11], np.int32), np.array([VECTOR, ERROR], np.uint8))
    assert [numbers.tolist() for numbers in index.current()] == [[4, 4], [10, 11]]
    assert [numbers.tolist() for numbers in index.locate(contents)] == [[4, NOWHERE], [10, 0]]
    assert len(index.missing()) == 0
    index.forget(4)
    assert sorted(row.tobytes() for row in index.missing()) == sorted(row.tobytes() for row in keys)
    assert index.locate(contents)[0].tolist() == [NOWHERE, NOWHERE]


@pytest.mark.parametrize("count", [1 << 17, pytest.param(1 << 20, marks=pytest.mark.long)])
def test_a_row_takes_at_most_64_bytes_also_while_tables_are_merged(count):
    numbers = np.random.default_rng(0)
    block = 1 << 12
    tracemalloc.start()
    try:
        index = Index()
        for start in range(0, count, block):
            keys, contents = numbers.bytes(16 * block), numbers.bytes(16 * block)
            keys, contents = (np.frombuffer(some, np.uint8).reshape(-1, 16) for some in (keys, contents))
            assert not index.mark(keys, contents).any()
            rows = np.arange(block, dtype=np.int32)
            index.place(keys, contents, start // block, rows, np.full(block, VECTOR, np.uint8))
        index.locate(contents)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(index) == count
    assert held < 48 * count
    assert peak < 64 * count + 6e6


def test_flags_leave_room_for_all_that_is_known():
    assert len({VECTOR, ERROR, CURRENT}) == 3
    assert VECTOR | ERROR | CURRENT == 7


def fill(folder, count, dimensions):
    """A run over so many rows, a block of 2,048 at a time; gives its states and the CPU seconds of looking up."""
    rows = np.random.default_rng(0).normal(size=(2048, dimensions)).astype(np.float32)
    started, spent, states = time.process_time(), 0.0, np.zeros(5, int)
    with Output(folder, Shape(dimensions, "float32", "space")) as output:
        spent += time.process_time() - started
        for start in range(0, count, 2048):
            some = [item(f"item {i}", f"{i}") for i in range(start, min(count, start + 2048))]
            started = time.process_time()
            found = output.look_up(some)
            spent += time.process_time() - started
            states += np.bincount(found, minlength=5)
            if not found.any():
                output.add(some, rows[: len(some)])
        report = output.finish()
    assert (report.rows, report.dropped, report.missing) == (count, 0, 0)
    return states.tolist(), spent


@pytest.mark.long
def test_a_finished_million_is_looked_up_in_seconds(tmp_path):
    count = 1_000_000
    assert fill(tmp_path, count, 8)[0] == [count, 0, 0, 0, 0]
    states, spent = fill(tmp_path, count, 8)
    print(f"opening and looking up {count} rows: {spent:.1f} s of CPU")
    assert states == [0, count, 0, 0, 0]
    assert spent < 30  # 6 s here; a bound for a machine that is slower and busy
