"""Vectors that were paid for, kept for the next call, process, framework or backend that asks for the same."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jinaclip.cache.entries import Found, VectorEntries, pack_digest, read_digest, read_vectors
from jinaclip.cache.flights import Flights
from jinaclip.cache.place import ENVIRONMENT, default_path
from jinaclip.cache.sqlite_store import SqliteStore
from jinaclip.cache.store import Store
from jinaclip.cache.worker import FLUSH_SECONDS, Worker
from jinaclip.config import CacheOption, read_choice
from jinaclip.errors import ConfigError
from jinaclip.vectors import Vectors

logger = logging.getLogger("jinaclip")


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache holds, and what it was good for in this process.

    Attributes:
        entries: vectors, and digests of images by their files.
        size: bytes.
        hits, misses: vectors that were looked for by calls.
        tokens_saved: about what the hits would have been billed.
    """

    entries: int
    size: int
    hits: int
    misses: int
    tokens_saved: int


class Cache:
    """Vectors of texts and images by what they were made of, for all models, options and backends together.

    One object serves all threads; objects of the same file in a process share what is open and under way, and the
    last `max_bytes` that was given.

    Args:
        path: of a file on a disk of this machine; None for the user's own folder for caches.
        max_bytes: most bytes of the file; None for 10 GiB or a tenth of the free disk, whichever is less.
        store: keeps the entries instead of a file: see `jinaclip.cache.Store`.

    Raises:
        ConfigError: a path and a store are given, or `max_bytes` is no whole number from 1.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, max_bytes: int | None = None, store: Store | None = None
    ) -> None:
        if store is not None and (path is not None or max_bytes is not None):
            raise ConfigError("a Cache has either a path, with max_bytes, or a store", option="cache")
        if max_bytes is not None and (isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1):
            raise ConfigError(f"max_bytes={max_bytes!r} must be a whole number from 1, or None", option="cache")
        if path is not None and "\0" in os.fspath(path):
            raise ConfigError(f"cache={path!r} is no path of a file", option="cache")
        self.path = None if store is not None else Path(path or default_path()).absolute()
        self._max_bytes = max_bytes
        self._worker, self.flights = _open_file(self.path, max_bytes) if store is None else (Worker(store), Flights())
        self._counts = np.zeros(3, np.int64)  # adding to it is a single step of the interpreter's
        self._has_warned = False

    def __repr__(self) -> str:
        return f"Cache({self._worker.store.name!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Cache:
        return self  # whoever is copied with it goes on with the same vectors

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is None:
            return Cache._with_store, (self._worker.store,)
        return Cache._of_path, (str(self.path), self._max_bytes)

    @staticmethod
    def _with_store(store: Store) -> Cache:
        return Cache(store=store)

    @staticmethod
    def _of_path(path: str, max_bytes: int | None) -> Cache:
        return shared_cache(Path(path), max_bytes)

    # -- for calls

    def vectors(self, keys: Sequence[bytes], width: int, *, normalized: bool) -> Found:
        """The vectors that there are of these keys, in their order, each checked; a bad one is dropped.

        Blocks; never raises.
        """
        entries = self._worker.get_many(keys)
        in_order = {key: entries[key] for key in keys if key in entries} if entries else {}
        reading = read_vectors(in_order, width, normalized=normalized)
        if reading.unsound:
            self._drop(reading.unsound)
        return reading

    def keep_vectors(self, keys: Sequence[bytes], rows: Vectors | Sequence[Vectors], fingerprint: str) -> None:
        """Keeps vectors of float32, shape (n, d), of the full width. Returns at once."""
        self._worker.put_many(VectorEntries(keys, rows, fingerprint.encode("ascii", "replace")))

    def digest(self, key: bytes) -> bytes | None:
        """The digest that was kept under a key. Blocks; never raises."""
        entry = self._worker.get_many([key]).get(key)
        found = None if entry is None else read_digest(key, entry)
        if entry is not None and found is None:
            self._drop([key])
        return found

    def keep_digest(self, key: bytes, digest: bytes) -> None:
        """Keeps a digest. Returns at once."""
        self._worker.put_many({key: pack_digest(key, digest)})

    def count(self, *, hits: int, misses: int, tokens_saved: int) -> None:
        """Counts what a call found."""
        self._counts += (hits, misses, tokens_saved)

    def _drop(self, keys: list[bytes]) -> None:
        self._worker.delete_many(keys)
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "the cache %s held spoilt entries; they are dropped and embedded anew", self._worker.store.name
            )

    # -- for people

    def stats(self) -> CacheStats:
        """What it holds, and its hits in this process.

        Raises:
            JinaClipError: the store cannot be read.
        """
        size = self._worker.ask(self._worker.store.size)
        return CacheStats(size.entries, size.size, *self._counts.tolist())

    def clear(self) -> None:
        """Drops everything, for all that share the store.

        Raises:
            JinaClipError: the store cannot be written.
        """
        self._worker.ask(self._worker.store.clear)

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and entries, all that are written by now.

        Raises:
            JinaClipError: the store cannot be read.
        """
        self._worker.flush(FLUSH_SECONDS)
        return self._worker.store.scan()

    def add(self, entries: Mapping[bytes, bytes]) -> int:
        """Puts those entries whose keys are not there yet, and waits until they are written; gives how many.

        Raises:
            JinaClipError: the store cannot be written.
        """
        store = self._worker.store

        def put_new() -> int:
            there = store.get_many([*entries])
            new = {key: entry for key, entry in entries.items() if key not in there}
            store.put_many(new)
            return len(new)

        return self._worker.ask(put_new)

    def flush(self, seconds: float = FLUSH_SECONDS) -> bool:
        """Waits until all vectors are written, for so many seconds at most; gives whether they are."""
        return self._worker.flush(seconds)

    def close(self) -> None:
        """Writes what there is and closes the file. The object can be used again."""
        self._worker.close()


_files: dict[str, tuple[Worker, Flights]] = {}
"""What is under way in each file, by where it really lies."""


def _open_file(path: Path | None, max_bytes: int | None) -> tuple[Worker, Flights]:
    """What works on a file, one for all in the process: what waits to be written is found by whoever looks for it."""
    path = path or default_path()
    place = os.path.join(os.path.realpath(path.parent), path.name)  # noqa: PTH118  a loop of links is no error here
    if place not in _files:
        flights = Flights()
        _files.setdefault(place, (Worker(SqliteStore(path, find_needed=flights.find_needed)), flights))
    worker, flights = _files[place]
    if max_bytes is not None and isinstance(worker.store, SqliteStore):
        worker.store.max_bytes = max_bytes
    return worker, flights


_caches: weakref.WeakValueDictionary[Path, Cache] = weakref.WeakValueDictionary()


def shared_cache(path: Path | None = None, max_bytes: int | None = None) -> Cache:
    """The cache of a file, one for all in the process."""
    place = Path(path or default_path()).absolute()
    cache = _caches.get(place)
    if cache is None:
        cache = _caches.setdefault(place, Cache(place, max_bytes=max_bytes))
    return cache


def find_cache(option: CacheOption) -> Cache | None:
    """The cache that the option `cache` names; None for none.

    Raises:
        ConfigError: it is none of what it may be.
    """
    if isinstance(option, Cache):
        return option
    value = read_choice(os.environ.get(ENVIRONMENT, "")) if option is None else option
    if isinstance(value, bool):
        return shared_cache() if value else None
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"cache={value!r} must be True, False, None, a path or a jinaclip.Cache", option="cache")
    return shared_cache(Path(value).expanduser())
