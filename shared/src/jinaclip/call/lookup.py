"""What the cache has of some inputs, looked up without a call, and without decoding an image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from jinaclip import images
from jinaclip.cache import Cache, file_key
from jinaclip.call.memo import TEXTS_AT_ONCE, Space
from jinaclip.call.prepare import FILE_KINDS
from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.inputs import Image, Text


@dataclass(frozen=True, slots=True)
class Lookup:
    """Looks inputs up for those who want to know what there is to embed.

    Attributes:
        cache: where vectors are kept.
        space: how they are made.
        settings: what becomes of the file of an image: `Recipe.settings`.
        policy: which images may be opened.
    """

    cache: Cache
    space: Space
    settings: bytes
    policy: ImagePolicy

    def find(self, inputs: Iterable[Text | Image]) -> Iterator[bool]:
        """Whether the cache has each input. Blocks.

        An image is found by its file, or by the address that the service fetches it from. One in memory, and one that
        would have to be fetched, never is.
        """
        rest = iter(inputs)
        while some := list(islice(rest, TEXTS_AT_ONCE)):
            keys = [self._keys(value) for value in some]
            asked = [key for own in keys for key in own]
            found = self.cache.vectors(asked, self.space.dimensions, normalized=self.space.normalized).keys
            there = set(found)
            yield from (not there.isdisjoint(own) for own in keys)

    def _keys(self, value: Text | Image) -> tuple[bytes, ...]:
        if isinstance(value, Text):
            return self.space.text_keys(value)
        if value.kind == "url":
            return (self.space.keys.url(value.source),)
        digest = self._digest(value) if value.kind in FILE_KINDS else None
        return () if digest is None else (self.space.keys.image(digest),)

    def _digest(self, image: Image) -> bytes | None:
        try:
            file = images.download(image, self.policy)
        except InputError:
            return None  # embedding it will say what is wrong
        return self.cache.digest(file_key(self.settings, file.source))
