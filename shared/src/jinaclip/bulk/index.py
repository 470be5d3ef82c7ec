"""Which rows the output has: 45 bytes each, sorted, looked up a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

ABSENT, DONE, FAILED, COPY, REPEATED = range(5)
"""What is known of an item. DONE: it has its vector. FAILED: it has an error. COPY: another id has the vector of the
same content. REPEATED: an item of its id and kind came before in this run."""
VECTOR, ERROR, CURRENT = 1, 2, 4
"""Flags of a row: it holds a vector; it holds an error; the run saw its item, with the same content."""
NOWHERE = -1
"""The part of a row that is not written yet, or lost."""
RATIO = 4
"""A table this many times as long as the next stays apart; shorter ones are merged with it."""
Digests = NDArray[np.uint8]
"""Shape (n, 16)."""
Numbers = NDArray[np.int32]
Halves = NDArray[np.uint64]
Places = NDArray[np.intp]


@dataclass(slots=True)
class Table:
    """Rows, sorted by the first half of their keys. Columns of (n,)."""

    key: Halves
    key_rest: Halves
    digest: Halves
    digest_rest: Halves
    part: Numbers
    row: Numbers
    flags: NDArray[np.uint8]
    by_digest: Numbers | None = None
    """The order of the digests, made when it is needed."""

    def __len__(self) -> int:
        return len(self.key)

    def rows_at(self, places: Places) -> Halves:
        """Keys and digests of some rows; (n, 4)."""
        return np.stack([column[places] for column in (self.key, self.key_rest, self.digest, self.digest_rest)], axis=1)

    def candidates(self, keys: Halves, rests: Halves) -> Iterator[tuple[Places, Places]]:
        """Pairs of arrays: places in the question, and in the table, where the keys are equal."""
        yield from _equal(keys, rests, self.key, self.key_rest, None)

    def of_digests(self, digests: Halves, rests: Halves) -> Iterator[tuple[Places, Places]]:
        """The same by digest."""
        if self.by_digest is None:
            self.by_digest = np.argsort(self.digest).astype(np.int32)
        yield from _equal(digests, rests, self.digest, self.digest_rest, self.by_digest)


def _equal(
    asked: Halves, asked_rests: Halves, have: Halves, have_rests: Halves, order: Numbers | None
) -> Iterator[tuple[Places, Places]]:
    """Where both halves are equal. Each step looks at one more of the rows whose first halves are."""
    ranks = np.searchsorted(have, asked, "left", sorter=order)
    questions = np.arange(len(asked))
    while True:
        questions = questions[ranks[questions] < len(have)]
        places = ranks[questions] if order is None else order[ranks[questions]]
        same = have[places] == asked[questions]
        questions, places = questions[same], places[same]
        if not questions.size:
            return
        right = have_rests[places] == asked_rests[questions]
        yield questions[right], places[right]
        ranks[questions] += 1


_EMPTY = {
    "key": np.zeros(0, np.uint64),
    "key_rest": np.zeros(0, np.uint64),
    "part": np.zeros(0, np.int32),
    "row": np.zeros(0, np.int32),
    "flags": np.zeros(0, np.uint8),
}


def merge(one: Table, other: Table) -> Table:
    """Both as one table; they are emptied on the way, so that memory holds a column twice at most."""
    order = np.argsort(np.concatenate([one.key, other.key]), kind="stable")  # quick where both are sorted
    columns = {}
    for field in fields(Table):
        if field.name != "by_digest":
            columns[field.name] = np.concatenate([getattr(one, field.name), getattr(other, field.name)])[order]
            setattr(one, field.name, None)
            setattr(other, field.name, None)
    return Table(**columns)


class Index:
    """All rows of the output, and the items that this run saw. For one thread at a time.

    Look-ups take keys and digests of a block of items, uint8 (n, 16) each. Rows are added to short tables, and short
    tables are merged into longer ones, so that adding stays cheap however many rows there are.
    """

    def __init__(self) -> None:
        self._tables: list[Table] = []

    def __len__(self) -> int:
        return sum(map(len, self._tables))

    def add(self, keys: Digests, digests: Digests, part: Numbers, row: Numbers, flags: NDArray[np.uint8]) -> None:
        """Takes in rows; `part` may be `NOWHERE`."""
        if not len(keys):
            return
        (key, key_rest), (digest, digest_rest) = _halves(keys), _halves(digests)
        order = np.argsort(key, kind="stable")
        columns = (key, key_rest, digest, digest_rest, part.astype(np.int32), row.astype(np.int32), flags)
        self._tables.append(Table(*(column[order] for column in columns)))  # type: ignore[arg-type]
        while len(self._tables) > 1 and len(self._tables[-2]) < RATIO * len(self._tables[-1]):
            self._tables.append(merge(self._tables.pop(-2), self._tables.pop()))

    def mark(self, keys: Digests, digests: Digests) -> NDArray[np.uint8]:
        """What is known of items that the run has now seen, in order; one state of `ABSENT` ... `REPEATED` each."""
        states = np.zeros(len(keys), np.uint8)
        first = _first_of_each(keys)
        states[~first] = REPEATED
        asked = np.flatnonzero(first)
        found = self._mark_found(keys[asked], digests[asked])
        new = asked[found == ABSENT]
        states[asked] = found
        states[new] = np.where(self._has_vector(digests[new]), COPY, ABSENT)
        nowhere = np.full(len(new), NOWHERE, np.int32)
        self.add(keys[new], digests[new], nowhere, nowhere, np.full(len(new), CURRENT, np.uint8))
        return states

    def keep(self, keys: Digests) -> NDArray[np.bool_]:
        """Marks a vector of each item as seen, whatever its content; gives where there was one that was not, bool (n,).

        Args:
            keys: of different items.
        """
        (key, rest), kept = _halves(keys), np.zeros(len(keys), bool)
        rows = [(table, *pair) for table in self._tables for pair in table.candidates(key, rest)]
        for table, questions, places in rows:
            kept[questions] |= table.flags[places] & CURRENT > 0
        was_seen = kept.copy()
        for table, questions, places in rows:
            new = (table.flags[places] & VECTOR > 0) & (table.part[places] != NOWHERE) & ~kept[questions]
            table.flags[places[new]] |= CURRENT
            kept[questions[new]] = True
        return kept & ~was_seen

    def _mark_found(self, keys: Digests, digests: Digests) -> NDArray[np.uint8]:
        states = np.zeros(len(keys), np.uint8)
        table_of, place_of = np.full(len(keys), -1, np.intp), np.zeros(len(keys), np.intp)
        (key, key_rest), (digest, digest_rest) = _halves(keys), _halves(digests)
        for number, table in enumerate(self._tables):
            for questions, places in table.candidates(key, key_rest):
                flags = table.flags[places]
                states[questions[flags & CURRENT > 0]] = REPEATED
                same = (table.digest[places] == digest[questions]) & (
                    table.digest_rest[places] == digest_rest[questions]
                )
                state = np.where(flags & VECTOR > 0, DONE, np.where(flags & ERROR > 0, FAILED, ABSENT))
                better = same & (state > 0) & ((states[questions] == ABSENT) | (state == DONE))
                better &= states[questions] != REPEATED
                states[questions[better]] = state[better]
                table_of[questions[better]], place_of[questions[better]] = number, places[better]
        for number, table in enumerate(self._tables):
            table.flags[place_of[(table_of == number) & (states != REPEATED)]] |= CURRENT
        return states

    def _has_vector(self, digests: Digests) -> NDArray[np.bool_]:
        return self.locate(digests)[0] != NOWHERE

    def locate(self, digests: Digests) -> tuple[Numbers, Numbers]:
        """The part and the row of a vector of each content; `NOWHERE` where there is none."""
        parts, rows = np.full(len(digests), NOWHERE, np.int32), np.zeros(len(digests), np.int32)
        halves = _halves(digests)
        for table in self._tables:
            for questions, places in table.of_digests(*halves):
                good = (table.flags[places] & VECTOR > 0) & (table.part[places] != NOWHERE)
                parts[questions[good]], rows[questions[good]] = table.part[places[good]], table.row[places[good]]
        return parts, rows

    def place(self, keys: Digests, digests: Digests, part: int, row: Numbers, flags: NDArray[np.uint8]) -> None:
        """Says where the rows of items are that `mark` saw before. Rows of the same items elsewhere are stale then."""
        unknown = np.ones(len(keys), bool)
        (key, key_rest), (digest, digest_rest) = _halves(keys), _halves(digests)
        for table in self._tables:
            for questions, places in table.candidates(key, key_rest):
                same = (table.digest[places] == digest[questions]) & (
                    table.digest_rest[places] == digest_rest[questions]
                )
                same &= table.flags[places] & CURRENT > 0
                asked, found = questions[same], places[same]
                table.part[found], table.row[found] = part, row[asked]
                table.flags[found] = flags[asked] | CURRENT
                unknown[asked] = False
        numbers = np.full(int(unknown.sum()), part, np.int32)
        self.add(keys[unknown], digests[unknown], numbers, row[unknown], flags[unknown] | np.uint8(CURRENT))

    def forget(self, part: int) -> None:
        """The rows of a part are lost."""
        for table in self._tables:
            lost = table.part == part
            table.part[lost] = NOWHERE
            table.flags[lost] &= CURRENT

    def settle(self) -> None:
        """Gives items that the run saw, and that have no row, one that was added or found since."""
        for table in self._tables:
            lost = np.flatnonzero((table.flags & CURRENT > 0) & (table.part == NOWHERE))
            if lost.size:
                table.flags[lost] = 0
                rows = table.rows_at(lost)
                found = self._mark_found(rows[:, :2].copy().view(np.uint8), rows[:, 2:].copy().view(np.uint8))
                table.flags[lost[found == ABSENT]] = CURRENT

    def current(self) -> tuple[Numbers, Numbers]:
        """Parts and rows of all items that the run saw, sorted."""
        part, row, flags = self._columns("part", "row", "flags")
        seen = (flags & CURRENT > 0) & (part != NOWHERE)
        return sort_places(part[seen], row[seen])

    def unseen(self) -> tuple[Numbers, Numbers]:
        """Parts and rows, sorted, of items that the run did not see with any content; one row of each."""
        key, rest, part, row, flags = self._columns("key", "key_rest", "part", "row", "flags")
        order = np.lexsort((row, part, flags & VECTOR, flags & CURRENT, rest, key))
        last = np.ones(len(order), bool)  # of each key: the one that was seen, else one with a vector, else the latest
        last[:-1] = (key[order[1:]] != key[order[:-1]]) | (rest[order[1:]] != rest[order[:-1]])
        chosen = np.zeros(len(order), bool)
        chosen[order[last]] = True
        chosen &= (flags & CURRENT == 0) & (part != NOWHERE)
        return sort_places(part[chosen], row[chosen])

    def _columns(self, *names: str) -> Iterator[NDArray[Any]]:
        """Columns of all tables, one behind the other."""
        for name in names:
            yield np.concatenate([_EMPTY[name], *(getattr(table, name) for table in self._tables)])

    def known(self, flags: int) -> tuple[Digests, Digests]:
        """Keys and digests of the rows that have one of these flags, uint8 (n, 16) each."""
        rows = [table.rows_at(np.flatnonzero(table.flags & flags)) for table in self._tables]
        found = np.concatenate([np.zeros((0, 4), np.uint64), *rows])
        return found[:, :2].copy().view(np.uint8), found[:, 2:].copy().view(np.uint8)

    def missing(self) -> Digests:
        """Keys of the items that the run saw and that have no row, uint8 (n, 16)."""
        lost = [np.flatnonzero((table.flags & CURRENT > 0) & (table.part == NOWHERE)) for table in self._tables]
        rows = [table.rows_at(places) for table, places in zip(self._tables, lost, strict=True)]
        return np.concatenate([np.zeros((0, 4), np.uint64), *rows])[:, :2].copy().view(np.uint8)


def sort_places(part: Numbers, row: Numbers) -> tuple[Numbers, Numbers]:
    """Parts and rows, by part, then by row."""
    order = np.lexsort((row, part))
    return part[order], row[order]


def _halves(digests: Digests) -> tuple[Halves, Halves]:
    both = np.ascontiguousarray(digests).view(np.uint64)
    return both[:, 0].copy(), both[:, 1].copy()


def _first_of_each(keys: Digests) -> NDArray[np.bool_]:
    """Where a key comes for the first time."""
    key, rest = _halves(keys)
    order = np.lexsort((rest, key))
    first = np.ones(len(keys), bool)
    first[order[1:]] = (key[order[1:]] != key[order[:-1]]) | (rest[order[1:]] != rest[order[:-1]])
    return first
