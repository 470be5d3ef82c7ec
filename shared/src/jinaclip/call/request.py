"""What callers pass becomes the items of a job: looked through at once where it is held, lazily where it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from operator import length_hint
from typing import Any

from jinaclip import images
from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images.documents import Page
from jinaclip.inputs import Image, Text, as_image, as_text, is_held, many, named

Item = Text | Image | InputError
Read = Callable[[Any, int], tuple[Item, ...]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Items for a job. `stride` of them make one of the caller's."""

    items: Iterable[Item]
    total: int | None
    stride: int = 1
    query: bool = False
    single: bool = False
    """One item, not a list of one: errors name no index."""
    quick: bool = False
    """Taking an item costs next to nothing: texts that the caller holds."""
    hint: int | None = None
    """How many items an iterator says it has, for the bar alone; None where it does not know."""


def query(text: Any) -> Plan:
    """One query."""
    return Plan([as_text(text)], 1, query=True, single=True, quick=True)


def picture(value: Any, policy: ImagePolicy, *, snapshot: bool) -> Plan:
    """One image."""
    return Plan([usable_image(value, None, policy, snapshot=snapshot)], 1, single=True)


def documents(values: Iterable[Any]) -> Plan:
    """Several texts."""
    read = _read(values, "texts", lambda value, index: (as_text(value, index),))
    return replace(read, quick=read.total is not None)


def pictures(values: Iterable[Any], policy: ImagePolicy, *, snapshot: bool) -> Plan:
    """Several images; `snapshot` copies what its owner could change while the call waits."""
    return _read(values, "images", lambda value, index: (usable_image(value, index, policy, snapshot=snapshot),))


def pairs(values: Iterable[Any], policy: ImagePolicy, *, snapshot: bool) -> Plan:
    """Several (text, image): two items each."""

    def read(value: Any, index: int) -> tuple[Item, ...]:
        if isinstance(value, InputError):  # an adapter could not make it out
            raise InputError(f"pair {index}: {value}", index=index)
        if not isinstance(value, tuple | list) or len(value) != 2:
            raise InputError(f"pair {index} must be (text, image), not {type(value).__name__}", index=index)
        return as_text(value[0], index), usable_image(value[1], index, policy, snapshot=snapshot)

    return _read(values, "pairs", read, stride=2)


def usable_image(value: Any, index: int | None, policy: ImagePolicy, *, snapshot: bool = False) -> Image:
    """The value as an Image that the policy allows, as far as that can be told without opening it.

    Raises:
        InputError: it is none; `.index` says which.
    """
    if isinstance(value, Page):
        value = value.render(policy.max_pixels)
    image = as_image(value, index)
    try:
        images.check(image, policy)
        return image.snapshot() if snapshot else image
    except InputError as error:
        raise InputError(f"{named('image', index)}: {error}", index=index) from None


def several(values: Iterable[Any], what: str) -> Iterator[Any]:
    """The values, which must be several.

    Raises:
        InputError: they are one item.
    """
    return many(values, what, f"[{what.removesuffix('s')}]")


def _read(values: Iterable[Any], what: str, read: Read, stride: int = 1) -> Plan:
    iterator = several(values, what)
    if is_held(values):
        items = [item for index, value in enumerate(iterator) for item in read(value, index)]
        return Plan(items, len(items), stride, hint=len(items))
    hint = length_hint(iterator) * stride or None
    return Plan(_lazily(iterator, read, stride), None, stride, hint=hint)


def _lazily(values: Iterator[Any], read: Read, stride: int) -> Iterator[Item]:
    for index, value in enumerate(values):
        try:
            yield from read(value, index)
        except InputError as error:
            yield from [error] * stride
