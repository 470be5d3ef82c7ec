"""Which inputs are being embedded at the moment, so that two calls that miss the same one pay once."""

from __future__ import annotations

import os
import weakref
from array import array
from collections.abc import Iterable

from jinaclip.process import Latch

_PREFIX = 8
"""Bytes of a key that tell it from the others, for what only must not err on one side."""


class Leader:
    """A call, as the one that has some inputs embedded. What it embeds, others may wait for.

    Its steps are single ones of the interpreter's, without a lock, as an exception of a signal handler may strike the
    caller's thread between any two.

    Args:
        flights: those of the cache.
    """

    def __init__(self, flights: Flights) -> None:
        self._flights = flights
        self._waiting: dict[bytes, list[Latch]] = {}
        self._keys: set[bytes] = set()
        self._used = array("Q")  # the beginnings of keys: a call may have millions
        self._is_over = False
        flights.leaders[id(self)] = self

    @property
    def used(self) -> Iterable[int]:
        """What stands for the keys that it has read or written."""
        return self._used

    def note_used(self, keys: Iterable[bytes]) -> None:
        """Notes that it has read or written these keys."""
        self._used.frombytes(b"".join(key[:_PREFIX] for key in keys))

    def lead(self, key: bytes) -> Latch | None:
        """Takes the lead for a key; gives None, or if another call has it, what is set once that is done with it."""
        self._keys.add(key)
        leader = self._flights.by_key.setdefault(key, self)
        if leader is not self:
            self._keys.discard(key)
            latch = Latch()
            leader._watch(key, latch)
            return latch
        if self._is_over:  # a thread of ours was late
            self.leave(key)
        return None

    def _watch(self, key: bytes, latch: Latch) -> None:
        self._waiting.setdefault(key, []).append(latch)
        if self._flights.by_key.get(key) is not self:  # it was done with it before it knew of this one
            latch.set()

    def leave(self, *keys: bytes) -> None:
        """Gives the lead up, after vectors were kept or not: those who wait look for them."""
        by_key = self._flights.by_key
        for key in keys:
            if by_key.get(key) is self:
                by_key.pop(key, None)
            for latch in self._waiting.pop(key, ()):
                latch.set()
            self._keys.discard(key)

    def leave_all(self) -> None:
        """Gives up all that it has, and leads no more."""
        self._is_over = True
        self.leave(*list(self._keys))


class Flights:
    """The leaders of a cache, in this process.

    Attributes:
        by_key: the leader of each key that is being embedded.
        leaders: calls under way.
    """

    def __init__(self) -> None:
        self.by_key: dict[bytes, Leader] = {}
        self.leaders: weakref.WeakValueDictionary[int, Leader] = weakref.WeakValueDictionary()
        _all.add(self)

    def find_needed(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of these keys that calls under way have read or written."""
        used = array("Q")
        for reference in self.leaders.valuerefs():  # in one step, as calls begin meanwhile
            leader = reference()
            if leader is not None:
                used.extend(leader.used)
        known, own = set(used), list(keys)
        prefixes = array("Q", b"".join(key[:_PREFIX] for key in own))
        return {key for key, prefix in zip(own, prefixes, strict=True) if prefix in known}

    def renew(self) -> None:
        """In a forked child, where the parent's calls are not."""
        self.by_key, self.leaders = {}, weakref.WeakValueDictionary()


_all: weakref.WeakSet[Flights] = weakref.WeakSet()


def _renew_all() -> None:
    for flights in list(_all):
        flights.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
