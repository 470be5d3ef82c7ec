"""One call and the cache: what it finds there, what it puts there, and what other calls are having embedded."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from typing import Protocol, TypeVar

from jinaclip.cache import Cache, Keys, Leader
from jinaclip.call.estimate import text_tokens
from jinaclip.errors import DeadlineError
from jinaclip.inputs import Image, Text
from jinaclip.process import LOOK_SECONDS, Latch, check_not_ending
from jinaclip.vectors import Vectors

In = TypeVar("In", Text, Image)
Entry = tuple[int, In, tuple[bytes, ...]]
"""An input of a call: its number, itself, and the keys under which its vector may be found."""
TEXTS_AT_ONCE = 512
"""Looked up together: as many as a request holds, so that a block of a bulk run is looked up once."""


@dataclass(frozen=True, slots=True)
class Space:
    """How the vectors of a call are made, as far as it concerns the cache.

    Attributes:
        keys: of what is embedded.
        dimensions: the full width, in which vectors are kept.
        normalized, truncate, query: as the call has them.
        prefix: what is billed with each text.
        image_tokens: what an image is billed.
        fingerprint: gives what vectors are kept with; asked once there is something to embed.
    """

    keys: Keys
    dimensions: int
    normalized: bool
    truncate: bool
    query: bool
    prefix: str
    image_tokens: int
    fingerprint: Callable[[], str]

    def text_keys(self, text: Text) -> tuple[bytes, ...]:
        """The keys under which the vector of a text may be found; see `Keys.text`."""
        return self.keys.text(text.value, query=self.query, truncate=self.truncate)


class OpenCall(Protocol):
    """What is asked of the call."""

    stopped: Latch
    deadline: float
    ends_at: float

    def recall(self, numbers: Sequence[int], rows: Vectors, tokens: int) -> None:
        """Takes vectors that were stored."""

    def stop(self, cause: BaseException | None = None) -> None:
        """Ends the call."""


@dataclass(frozen=True, slots=True)
class Follower:
    """An input that another call is having embedded, and what is set once that is done with it."""

    number: int
    input: Text | Image
    done: Latch


class Memo:
    """What a call has to do with the cache. Its methods are called from any thread.

    Args:
        cache: the cache.
        space: how the vectors of the call are made.
    """

    def __init__(self, cache: Cache, space: Space) -> None:
        self._cache, self._space = cache, space
        self._leader = Leader(cache.flights)
        self._keys: dict[int, bytes] = {}  # of the inputs that this call is having embedded
        self._followers: list[Follower] = []
        self._fingerprint: str | None = None
        self._named: bytes | None = None  # digest of the space that a service said kept vectors are in

    @property
    def normalized(self) -> bool:
        """Whether the vectors of the call have length 1."""
        return self._space.normalized

    # -- what is there

    def find_texts(
        self, call: OpenCall, inputs: Iterable[tuple[int, Text]], at_once: int = TEXTS_AT_ONCE
    ) -> Iterator[tuple[int, Text]]:
        """Hands the call the vectors that are stored; yields the texts that are to be embedded.

        Those that another call is having embedded are in neither: `wait_for_others` gives them back.
        """
        rest = iter(inputs)
        while not call.stopped.done() and (some := list(islice(rest, at_once))):
            keys = [self._space.text_keys(text) for _, text in some]
            yield from self._find(call, some, keys, lambda text: text_tokens(self._space.prefix + text.value))

    def find_image(self, call: OpenCall, number: int, image: Image, key: bytes) -> bool:
        """Whether an image is not to be embedded now, as its vector is stored, or another call is making it."""
        return not self._find(call, [(number, image)], [(key,)], lambda _: self._space.image_tokens)

    def image_key(self, digest: bytes) -> bytes:
        """The key of an image, by the digest of what the model sees."""
        return self._space.keys.image(digest)

    def url_key(self, address: str) -> bytes:
        """The key of an image that the service fetches."""
        return self._space.keys.url(address)

    def find_digest(self, key: bytes) -> bytes | None:
        """The digest of what the model sees of a file, if it is known."""
        return self._cache.digest(key)

    def keep_digest(self, key: bytes, digest: bytes) -> None:
        """Keeps it."""
        self._cache.keep_digest(key, digest)

    def _find(
        self,
        call: OpenCall,
        inputs: list[tuple[int, In]],
        keys: list[tuple[bytes, ...]],
        tokens_of: Callable[[In], int],
    ) -> list[tuple[int, In]]:
        """Takes the lead for inputs, and hands the call the vectors that are stored. Gives what is to be embedded.

        In this order, as another call may store a vector, and give up its lead, at any moment.
        """
        led = self._lead([(number, value, own) for (number, value), own in zip(inputs, keys, strict=True)])
        misses = self._recall(call, led, tokens_of) if led else []
        self._keys |= {number: own[-1] for number, _, own in misses}
        if len(misses) < len(led):
            self._leader.leave(*(own[-1] for number, _, own in led if number not in self._keys))
        if misses and self._fingerprint is None:
            self._named = self._cache.digest(self._space.keys.space)
            self._fingerprint = self._space.fingerprint()
        self._cache.count(hits=0, misses=len(misses), tokens_saved=0)
        return [(number, value) for number, value, _ in misses]

    def _recall(self, call: OpenCall, entries: list[Entry[In]], tokens_of: Callable[[In], int]) -> list[Entry[In]]:
        """Hands the call the vectors that are stored, and gives the inputs that have none."""
        width, normalized = self._space.dimensions, self._space.normalized
        found = self._cache.vectors([key for _, _, own in entries for key in own], width, normalized=normalized)
        if not found.keys:
            return entries
        places = {key: place for place, key in enumerate(found.keys)}
        hits, rows, saved, absent = list[int](), list[int](), 0, list[Entry[In]]()
        for entry in entries:
            number, value, own = entry
            place = next((places[key] for key in own if key in places), None)
            if place is None:
                absent.append(entry)
            else:
                hits.append(number)
                rows.append(place)
                saved += tokens_of(value)
        if hits:
            is_whole = rows == list(range(len(found.rows)))  # picking rows copies them
            call.recall(hits, found.rows if is_whole else found.rows[rows], saved)
            self._cache.count(hits=len(hits), misses=0, tokens_saved=saved)
            self._leader.note_used(found.keys)
        return absent

    def _lead(self, entries: list[Entry[In]]) -> list[Entry[In]]:
        """Takes the lead for inputs, or follows the call that has it; gives those that are led."""
        led = []
        for entry in entries:
            number, value, own = entry
            done = self._leader.lead(own[-1])
            if done is None:
                led.append(entry)
            else:
                self._followers.append(Follower(number, value, done))
        return led

    # -- what came of the rest

    def keep(self, numbers: Sequence[int], rows: Vectors) -> None:
        """Keeps vectors of the full width, float32 of shape (n, d). Returns at once."""
        keys = [self._keys.pop(number, None) for number in numbers]
        own = [key for key in keys if key is not None]
        if len(own) < len(keys):
            rows = rows[[key is not None for key in keys]]
        self._cache.keep_vectors(own, rows, self._fingerprint or "")
        self._leader.note_used(own)
        self._leader.leave(*own)

    def holds_other_space(self, space: str) -> bool:
        """Whether the vectors that are kept are of another space than this, as the service names it."""
        return self._named is not None and self._named != digest_of_name(space)

    def note_space(self, space: str) -> None:
        """Remembers the space of what is kept, so that no later call mixes it with another. Returns at once."""
        if self._named is None:
            self._named = digest_of_name(space)
            self._cache.keep_digest(self._space.keys.space, self._named)

    def drop(self, number: int) -> None:
        """Notes that an input gets no vector; whoever waits for it tries it for itself."""
        key = self._keys.pop(number, None)
        if key is not None:
            self._leader.leave(key)

    def leave(self) -> None:
        """Lets others have what this call will not embed any more."""
        self._leader.leave_all()

    def wait_for_others(self, call: OpenCall) -> list[tuple[int, Text | Image]]:
        """Waits until other calls are done with what this one left to them; gives that, to be looked up again.

        None of it if the call is stopped meanwhile, as it is when its deadline passes.
        """
        followers, self._followers = self._followers, []
        for one in followers:
            while not one.done.wait(LOOK_SECONDS) and not call.stopped.done():
                check_not_ending()
                if time.monotonic() > call.ends_at:
                    call.stop(DeadlineError(f"not done within deadline={call.deadline:g} seconds"))
        return [] if call.stopped.done() else [(one.number, one.input) for one in followers]


def digest_of_name(name: str) -> bytes:
    """What is kept of a name, 32 bytes."""
    return sha256(name.encode()).digest()
