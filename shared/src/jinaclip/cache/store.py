"""What keeps entries: a small protocol. Entries and keys are bytes; what they mean, `keys` and `entries` know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from jinaclip.errors import JinaClipError


class StoreError(JinaClipError):
    """A store could not do what it was asked; embedding goes on without it. The text says why, and names the store."""


@dataclass(frozen=True, slots=True)
class StoreSize:
    """How much a store holds."""

    entries: int
    size: int
    """Bytes, what its indexes take included, as far as the store tells."""


class Store(Protocol):
    """Keeps entries by key. All methods are called by one thread of ours at a time, and may raise `StoreError` alone.

    An entry may be gone at any time; one that comes back otherwise than it was put is noticed, and not used.
    """

    @property
    def name(self) -> str:
        """What messages call it."""

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The entries that there are of these keys."""

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        """Keeps entries, at once and all of them or none."""

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Drops entries, if there are such."""

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries, in any order; also from a thread of the caller's."""

    def size(self) -> StoreSize:
        """How much it holds."""

    def clear(self) -> None:
        """Drops all entries, and frees what they took."""

    def close(self) -> None:
        """Lets go of files and connections; the next method opens them again."""

    def forget(self) -> None:
        """Leaves files and connections untouched, as they are those of the process that this one was forked from."""
