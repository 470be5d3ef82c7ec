"""Vectors that were paid for, kept in a file: interrupted runs go on, and a second run embeds only what is new."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jinaclip.config import ImagePolicy
from jinaclip.errors import ConfigError, InputError, JinaClipError, rename
from jinaclip.images.opening import read
from jinaclip.inputs import Image, as_image
from jinaclip.vectors import Vectors

LAYOUT = "create table if not exists vectors (key blob primary key, row blob not null) without rowid"
Key = bytes | None
"""Digest of what a vector was made of; None where that cannot be told, and the vector is not kept."""


@dataclass(frozen=True, slots=True)
class Part:
    """Inputs of one kind, to be embedded together."""

    names: Sequence[str]
    """What messages call each."""
    keys: Sequence[Key]
    embed: Callable[[list[int]], Vectors]
    """Makes (m, d) of the inputs at these places."""


class Kept:
    """Vectors by what they were made of, float32, in a SQLite file.

    Args:
        path: the file, made where there is none; its folder too. None keeps nothing.

    Raises:
        ConfigError: the file is something else, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        self._path = None if path is None else Path(path)
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with closing(sqlite3.connect(self._path)) as file:
                    file.execute(LAYOUT)
            except (OSError, sqlite3.Error) as error:
                raise ConfigError(f"{self._path} cannot keep vectors ({error}); name another file") from None

    def missing(self, part: Part) -> list[int]:
        """Places of a part that have no vector yet."""
        known = self.found(part.keys)
        return [place for place in range(len(part.keys)) if place not in known]

    def found(self, keys: Sequence[Key]) -> dict[int, Vectors]:
        """The vectors that are there, by place among the keys."""
        if self._path is None:
            return {}
        with closing(sqlite3.connect(self._path)) as file:
            rows = ((i, file.execute("select row from vectors where key = ?", (key,)).fetchone())
                    for i, key in enumerate(keys) if key)  # fmt: skip
            return {i: np.frombuffer(row[0], "<f4").astype(np.float32) for i, row in rows if row}

    def put(self, keys: Sequence[Key], rows: Mapping[int, Vectors]) -> None:
        """Keeps vectors by place among the keys."""
        if self._path is not None:
            new = [(keys[place], row.astype("<f4").tobytes()) for place, row in rows.items() if keys[place]]
            with closing(sqlite3.connect(self._path)) as file, file:
                file.executemany("insert or replace into vectors values (?, ?)", new)

    def filled(self, part: Part) -> Vectors:
        """A vector for each input, (n, d): those that are there, and what the part makes of the others.

        Raises:
            JinaClipError: the backend failed; it names the input. What was embedded until then is kept, as it is
                when Ctrl-C ends the call.
        """
        rows = self.found(part.keys)
        places = [place for place in range(len(part.keys)) if place not in rows]
        try:
            made = dict(zip(places, part.embed(places) if places else (), strict=True))
        except BaseException as error:
            partial = getattr(error, "partial", None)
            self.put(part.keys, {places[i]: row for i, row in partial.vectors.items()} if partial else {})
            if isinstance(error, JinaClipError) and error.index is not None:
                error.index = places[error.index]
                rename(error, part.names[error.index])
            raise
        self.put(part.keys, made)
        rows.update(made)
        return np.stack([rows[place] for place in range(len(part.keys))])


def text_key(fingerprint: str, kind: str, text: str) -> Key:
    """The key of a text that is embedded as a document or as a query."""
    return digest(fingerprint, kind, text.encode())


def image_key(fingerprint: str, value: Any, policy: ImagePolicy) -> Key:
    """The key of an image: of its encoded content, or its address. Pictures in memory have none."""
    image: Image = as_image(value)
    if image.kind == "url":
        return digest(fingerprint, "url", image.source.encode())
    if image.kind not in ("path", "bytes"):
        return None
    try:
        return digest(fingerprint, "image", read(image, policy))
    except InputError:
        return None  # embedding it will say what is wrong


def digest(fingerprint: str, kind: str, content: bytes) -> bytes:
    """Of everything that decides a vector."""
    return hashlib.sha256(b"\0".join([fingerprint.encode(), kind.encode(), content])).digest()
