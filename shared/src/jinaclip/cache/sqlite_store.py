"""Entries in a SQLite file, shared by the processes of one user on one machine."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path

import numpy as np

from jinaclip.cache.place import Unsuitable, check_place, default_limit
from jinaclip.cache.store import StoreError, StoreSize
from jinaclip.process import keep_for_good

SCHEMA = 1
APPLICATION_ID = 0x4A436163
""" "JCac", by which a file of ours is known."""
LAYOUT = """
create table if not exists entries (
    id integer primary key, key blob not null, day integer not null, entry blob not null
);
create unique index if not exists entries_by_key on entries (key);
create index if not exists entries_by_day on entries (day);
"""
STATE = """
select (select count(*) from sqlite_master), user_version, application_id
from pragma_user_version, pragma_application_id
"""
BUSY_MS = 2000
"""Milliseconds that another process may hold the file before we go on without it."""
DAY = 24 * 3600
AT_ONCE = 512
"""Keys in one statement; SQLite takes at least 999."""
LOOKED_AT_ONCE = 10_000
"""Entries among which those that may be dropped are looked for."""
AROUND_ENTRY = 1024
"""About the most bytes that an entry takes beside its own: key, indexes, what it leaves free of a page."""
ROOM = 0.1
"""Part of the limit that is made free when entries have to be dropped, but no more than the next."""
MOST_ROOM = 16 * 2**20
MOST_USED = 10_000
"""Keys whose day is to be written; then it is written, however busy we are."""
RETRY_SECONDS = 0.02
FindNeeded = Callable[[Iterable[bytes]], set[bytes]]


class SqliteStore:
    """Entries in a file. Of those over the limit the ones go first that were not used for longest, by day.

    Args:
        path: of the file; it is made on first use, and its folder.
        max_bytes: most bytes of it; None for 10 GiB or a tenth of the free disk, whichever is less.
        find_needed: which of some keys must not be dropped now.
    """

    def __init__(self, path: Path, max_bytes: int | None = None, find_needed: FindNeeded = lambda _: set()) -> None:
        self.path = path
        self.max_bytes, self._find_needed = max_bytes, find_needed
        self._file: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._used: set[bytes] = set()  # keys whose day is not today's yet

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The entries of these keys; notes that they were used. In a spoilt file they may be of any type."""
        found: dict[bytes, bytes] = {}
        with self._opened() as file:
            today = self._today()
            for start in range(0, len(keys), AT_ONCE):
                some = keys[start : start + AT_ONCE]
                marks = ",".join("?" * len(some))
                sql = f"select key, entry, day < ? from entries where key in ({marks})"  # noqa: S608
                rows = file.execute(sql, (today, *some)).fetchall()
                found |= {key: entry for key, entry, _ in rows}
                self._used.update(key for key, _, is_old in rows if is_old)
            if len(self._used) > MOST_USED:
                with suppress(sqlite3.Error):  # what was read is not worse for that
                    self._write_used(file)
        return found

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        """Keeps entries, as many as there is room for."""
        today = self._today()
        rows = [(key, today, entry) for key, entry in entries.items()]
        with self._opened() as file:
            self._write_used(file)
            with transaction(file):
                count = self._make_room(file, [len(entry) for _, _, entry in rows])
                file.executemany("insert or replace into entries (key, day, entry) values (?, ?, ?)", rows[:count])

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Drops entries."""
        with self._opened() as file, transaction(file):
            file.executemany("delete from entries where key = ?", [(key,) for key in keys])

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, through a connection of its own, which sees the file as it is now."""
        with self._convert_errors(), closing(self._connect()) as file:
            yield from file.execute("select key, entry from entries order by id")

    def size(self) -> StoreSize:
        """Entries, and bytes of the pages in use."""
        with self._opened() as file:
            (count,) = file.execute("select count(*) from entries").fetchone()
            return StoreSize(count, _bytes_in_use(file))

    def clear(self) -> None:
        """Drops all, and makes the file small."""
        with self._opened() as file:
            with transaction(file):
                file.execute("delete from entries")
            file.execute("vacuum")
            file.execute("pragma wal_checkpoint(truncate)")
        self._used.clear()

    def close(self) -> None:
        """Writes down which entries were used, and closes the file."""
        try:
            if self._used and self._file is not None:
                with self._opened() as file:
                    self._write_used(file)
        finally:
            self._let_go()

    def forget(self) -> None:
        """Keeps the parent's connection as it is, and opens another when one is needed."""
        if self._file is not None:
            keep_for_good(self._file)  # sqlite.org/howtocorrupt.html, "Carrying an open database file across a fork"
        self._file = None

    # -- the file

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The file, opened if it is not, or if another one lies there now."""
        with self._convert_errors():
            if self._file is not None and _identity_of(self.path) != self._identity:
                self._let_go()  # it was deleted, or replaced; SQLite notices that, and leaves the log of the new one
            if self._file is None:
                self._file = self._connect()
                self._identity = _identity_of(self.path)
            yield self._file

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    @contextmanager
    def _convert_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error, Unsuitable) as error:
            raise StoreError(f"the cache {self.path} cannot be used: {error}") from None

    def _connect(self) -> sqlite3.Connection:
        check_place(self.path)
        file = sqlite3.connect(
            self.path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False, cached_statements=16
        )
        try:
            _retry(lambda: self._prepare(file))
        except BaseException:
            file.close()
            raise
        return file

    def _prepare(self, file: sqlite3.Connection) -> None:
        """Looks whether the file is ours, and makes an empty one ours."""
        _check_schema(file)
        file.execute("pragma trusted_schema = off")
        file.execute("pragma temp_store = memory")
        file.execute("pragma synchronous = normal")  # what a power failure may cost is entries, never the file
        if _number(file, "user_version") == SCHEMA:
            return
        file.execute("pragma journal_mode = wal")
        with transaction(file):
            if _number(file, "user_version") == 0:  # still, as another process may have been quicker
                for statement in LAYOUT.split(";"):
                    file.execute(statement)
                file.execute(f"pragma application_id = {APPLICATION_ID}")
                file.execute(f"pragma user_version = {SCHEMA}")

    # -- room

    def _make_room(self, file: sqlite3.Connection, lengths: Sequence[int]) -> int:
        """Drops old entries if new ones of these lengths are too many; gives how many of them fit then."""
        limit, in_use = self._limit(), _bytes_in_use(file)
        coming = sum(lengths) + AROUND_ENTRY * len(lengths)
        if in_use + coming > limit:
            self._drop_old(file, in_use + coming - limit + min(ROOM * limit, MOST_ROOM), in_use)
            in_use = _bytes_in_use(file)
        ends = np.cumsum(np.array(lengths) + AROUND_ENTRY)
        return int(np.searchsorted(ends, limit - in_use, "right"))

    def _drop_old(self, file: sqlite3.Connection, size: float, in_use: int) -> None:
        """Drops entries of about so many bytes."""
        (count,) = file.execute("select count(*) from entries").fetchone()
        dropped = islice(self._find_old(file), math.ceil(count * min(1, size / in_use)))
        file.executemany("delete from entries where id = ?", list(dropped))

    def _find_old(self, file: sqlite3.Connection) -> Iterator[tuple[int]]:
        """Numbers of entries that nobody needs now, those that were not used for longest first."""
        rows = file.execute("select id, key from entries order by day, id")
        while some := rows.fetchmany(LOOKED_AT_ONCE):
            needed = self._find_needed([key for _, key in some])
            yield from ((number,) for number, key in some if key not in needed)

    def _limit(self) -> int:
        if self.max_bytes is None:
            self.max_bytes = default_limit(self.path.parent)
        return self.max_bytes

    def _write_used(self, file: sqlite3.Connection) -> None:
        """Writes down which entries were used today, a few at a time, as others may want to write."""
        today = self._today()
        while some := list(islice(self._used, AT_ONCE)):
            self._used.difference_update(some)
            with transaction(file):
                rows = [(today, key, today) for key in some]
                file.executemany("update entries set day = ? where key = ? and day < ?", rows)

    def _today(self) -> int:
        """Days since 1970."""
        return int(time.time() // DAY)


@contextmanager
def transaction(file: sqlite3.Connection) -> Iterator[None]:
    """All that is written inside, or nothing; waits first until no other process writes."""
    file.execute("begin immediate")
    try:
        yield
        file.execute("commit")
    except BaseException:
        if file.in_transaction:
            file.execute("rollback")
        raise


def _retry(function: Callable[[], None]) -> None:
    """Tries again for a while what SQLite refuses at once: changing the mode of a file that several open first."""
    ends_at = time.monotonic() + BUSY_MS / 1000
    while True:
        try:
            return function()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > ends_at:
                raise
        time.sleep(RETRY_SECONDS)


def _check_schema(file: sqlite3.Connection) -> None:
    """Raises Unsuitable if the file is another program's, or a later version's."""
    tables, version, owner = file.execute(STATE).fetchone()  # at once: another process may be making it
    if owner != APPLICATION_ID and (tables or version or owner):
        raise Unsuitable("it is a database of another program")
    if version > SCHEMA:
        raise Unsuitable(f"a later version of jinaclip wrote it (schema {version}, this one knows {SCHEMA})")


def _number(file: sqlite3.Connection, pragma: str) -> int:
    (found,) = file.execute(f"pragma {pragma}").fetchone()
    return int(found)


def _bytes_in_use(file: sqlite3.Connection) -> int:
    pages = _number(file, "page_count") - _number(file, "freelist_count")
    return pages * _number(file, "page_size")


def _identity_of(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
