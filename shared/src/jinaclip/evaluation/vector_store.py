"""Vectors that were paid for, in a file: an interrupted run goes on, and a second run embeds only what is new."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jinaclip.config import ImagePolicy
from jinaclip.errors import ConfigError, InputError
from jinaclip.images.opening import read
from jinaclip.inputs import as_image
from jinaclip.vectors import Vectors

LAYOUT = "create table if not exists vectors (key blob primary key, row blob not null) without rowid"
SELECT = "select row from vectors where key = ?"
INSERT = "insert or replace into vectors values (?, ?)"
Key = bytes | None
"""Digest of what a vector was made of; None where there is no telling, and the vector is not stored."""


class VectorStore:
    """Float32 vectors by what they were made of, in a SQLite file.

    Args:
        path: the file; it is made where there is none, and so is its folder. None stores nothing.

    Raises:
        ConfigError: the file is something else, or cannot be written. Every method raises it.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = None if path is None else Path(path)
        if self._path is None:
            return
        with self._open() as file:
            file.execute(LAYOUT)

    def load(self, keys: Sequence[Key]) -> dict[int, Vectors]:
        """The vectors that are in the file, by index among the keys."""
        if self._path is None:
            return {}
        with self._open() as file:
            rows = ((i, file.execute(SELECT, (key,)).fetchone()) for i, key in enumerate(keys) if key)
            return {i: np.frombuffer(row[0], "<f4").astype(np.float32) for i, row in rows if row}

    def save(self, keys: Sequence[Key], rows: Mapping[int, Vectors]) -> None:
        """Stores vectors by index among the keys."""
        if self._path is None:
            return
        entries = [(keys[index], row.astype("<f4").tobytes()) for index, row in rows.items() if keys[index]]
        with self._open() as file, file:
            file.executemany(INSERT, entries)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        assert self._path is not None  # noqa: S101  for mypy: callers have looked
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path)) as file:
                yield file
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(f"{self._path} cannot store vectors ({error}); name another file") from None


def text_key(fingerprint: str, kind: str, text: str) -> Key:
    """The key of a text that is embedded as a document or as a query."""
    return digest(fingerprint, kind, text.encode())


def image_key(fingerprint: str, value: Any, policy: ImagePolicy) -> Key:
    """The key of an image: of its encoded content, or its address. Images in memory have none."""
    try:
        image = as_image(value, policy.max_bytes)
        if image.kind == "url":
            return digest(fingerprint, "url", image.source.encode())
        return digest(fingerprint, "image", read(image, policy)) if image.kind in ("path", "bytes") else None
    except InputError:
        return None  # embedding it will say what is wrong


def digest(fingerprint: str, kind: str, content: bytes) -> bytes:
    """Of everything that decides a vector."""
    return hashlib.sha256(b"\0".join([fingerprint.encode(), kind.encode(), content])).digest()
