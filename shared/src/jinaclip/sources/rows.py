"""What every source gives: rows, each of which can fail by itself, and splits that other processes read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from jinaclip.errors import ConfigError, JinaClipError

P = TypeVar("P")
P_contra = TypeVar("P_contra", contravariant=True)
Kind = Literal["text", "image"]


@dataclass(slots=True, unsafe_hash=True)
class SourceRow:
    """One row of a source; never changed. It is not frozen, as making it would take twice as long.

    Attributes:
        id: unique within the source. A row without a usable id is called by its place, as in "line 7 of a.jsonl".
        text: what it says, as it was found; None if the row has no text.
        image: what `JinaClip.embed_images` takes, or a `StoredFile`; None if the row has no image.
        where: its place, for messages.
        error: why it cannot be embedded; None if nothing is known against it.
        is_named: whether its id could be read.
    """

    id: str
    text: str | None
    image: Any
    where: str
    error: JinaClipError | None = None
    is_named: bool = True


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns of a table. None is "id", "text" and "image", as far as the table has them; "" is none."""

    id: str | None = None
    text: str | None = None
    image: str | None = None


class Reader(Protocol[P_contra]):
    """Reads pieces of a source: files, or row groups of them. It can be pickled."""

    def read(self, piece: P_contra, /) -> Iterator[SourceRow]:
        """The rows of a piece, streamed."""


@dataclass(frozen=True)
class Split(Generic[P]):
    """A part of a source that another process can read: it can be pickled, and reads its files itself."""

    reader: Reader[P]
    pieces: Sequence[P]

    def rows(self) -> Iterator[SourceRow]:
        """Its rows, streamed: the same as `Source.rows` gives of them."""
        for piece in self.pieces:
            yield from self.reader.read(piece)


class Source(ABC):
    """Where the rows of a run come from.

    Attributes:
        name: what messages call it; holds no secret.
        kinds: what its rows hold, as far as that is known before they are read; None if it is not.
    """

    name: str
    kinds: frozenset[Kind] | None = None

    def count(self) -> int | None:
        """How many rows it has; None if only reading all of it would tell."""
        return None

    @abstractmethod
    def rows(self) -> Iterator[SourceRow]:
        """Its rows, in an order that stays the same, streamed.

        Raises:
            ConfigError: a column that was named is not there.
            InputError: the source cannot be read any further. What cannot be used of one row is that row's `error`.
        """

    def splits(self) -> list[Split[Any]]:
        """Parts of it that other processes can read, which together give all rows.

        Raises:
            ConfigError: it can only be read here, as stdin and rows from Python.
        """
        raise ConfigError(
            f"{self.name} can only be read by the process that was given it; write it to a file and name that"
        )


class StoredSource(Source, Generic[P]):
    """A source of files.

    Args:
        name: what messages call it.
        reader: reads its pieces.
        kinds: what its rows hold.
    """

    def __init__(self, name: str, reader: Reader[P], kinds: frozenset[Kind] | None) -> None:
        self.name = name
        self.kinds = kinds
        self.reader = reader

    @abstractmethod
    def pieces(self) -> Iterator[P]:
        """The pieces of all rows, in order."""

    def rows(self) -> Iterator[SourceRow]:
        """See `Source.rows`."""
        for piece in self.pieces():
            yield from self.reader.read(piece)

    def splits(self) -> list[Split[Any]]:
        """See `Source.splits`. One piece is one split."""
        return [Split(self.reader, (piece,)) for piece in self.pieces()]


class FileSource(StoredSource[str]):
    """Files that are read from their beginning to their end.

    Args:
        name: what messages call it.
        reader: reads a file by its path.
        kinds: what its rows hold.
        paths: of the files.
    """

    def __init__(self, name: str, reader: Reader[str], kinds: frozenset[Kind] | None, paths: Sequence[str]) -> None:
        super().__init__(name, reader, kinds)
        self._paths = paths

    def pieces(self) -> Iterator[str]:
        """Their paths."""
        yield from self._paths
