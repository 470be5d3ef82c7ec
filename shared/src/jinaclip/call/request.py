"""What a call asks for: texts, images and pairs, read at once where the caller holds them, as they come where not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import length_hint
from typing import Any, Literal

from jinaclip import images
from jinaclip.call.results import ItemFailure
from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.frames import without_frames
from jinaclip.inputs import (
    Image,
    Pair,
    Text,
    as_image,
    as_text,
    is_drawable,
    is_held,
    is_image_array,
    is_image_like,
    iterate,
)
from jinaclip.process import run_apart, run_in_thread

Task = Literal["document", "query"]
Entry = Text | Image | Pair | ItemFailure
"""An item as it was read: a pair of a Text and an Image, or why it cannot be embedded."""
Read = Callable[[Any], Text | Image | Pair]
"""Makes an input, or an InputError, of what the caller passed."""
Name = Callable[[int, Any], str]
"""What messages call an item, by its index and what the caller passed."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a call asks for.

    Attributes:
        items: what the caller passed, read.
        total: how many there are; None where only the end of an iterator will tell.
        kind: what messages call an item: "text", "image", "pair" or "item".
        task: whether texts are documents or queries. Images and pairs are the same for both.
        urgent: somebody waits for this: fewer retries, and a deadline of 30 s unless the caller set one.
        single: one item and not a list of one, so that errors name no index.
        quick: taking an item costs next to nothing: texts that the caller holds.
        hint: how many inputs there will be, as far as is known, for the bar alone.
        names: of items that have one of their own, by index; grows as items are read.
    """

    items: Iterable[Entry]
    total: int | None
    kind: str
    task: Task = "document"
    urgent: bool = False
    single: bool = False
    quick: bool = False
    hint: int | None = None
    names: Mapping[int, str] = field(default_factory=dict)

    def failures(self) -> dict[int, ItemFailure]:
        """The items that are known to be unusable before anything is sent."""
        if self.total is None:
            return {}
        return {i: item for i, item in enumerate(self.items) if isinstance(item, ItemFailure)}


@dataclass(frozen=True, slots=True)
class Unusable:
    """What could not be taken as it was when it was passed, and why."""

    value: Any
    error: InputError


class Held(list[Any]):
    """What a caller holds, as it was when it was passed."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A request in the making: what was passed, taken at once, and how it is to be read, which may look at files.

    Attributes:
        values: items that were taken, or an iterator, whose items are taken as it gives them.
        read: makes an input of one.
        kind, task, name, policy, urgent, single, converts: as for `Request` and `draft_many`.
    """

    values: Held | Iterator[Any]
    read: Read
    kind: str
    task: Task = "document"
    name: Name | None = None
    policy: ImagePolicy | None = None
    urgent: bool = False
    single: bool = False
    converts: bool = False

    @property
    def is_quick(self) -> bool:
        """Whether reading takes next to nothing: there are texts alone, or all is still to come."""
        if not isinstance(self.values, Held):
            return True
        texts = self.kind in ("text", "item") and all(isinstance(value, str | Text) for value in self.values)
        return texts and not self.converts

    def request(self) -> Request:
        """The request, read here."""
        names: dict[int, str] = {}
        if not isinstance(self.values, Held):
            hint = length_hint(self.values) * (2 if self.kind == "pair" else 1) or None
            entries = (self._entry(index, self._grab(value), names) for index, value in enumerate(self.values))
            return Request(entries, None, self.kind, self.task, urgent=self.urgent, hint=hint, names=names)
        items = [self._entry(index, value, names) for index, value in enumerate(self.values)]
        return Request(
            items,
            len(items),
            self._kind_of(self.values[0]) if self.single else self.kind,
            self.task,
            urgent=self.urgent,
            single=self.single,
            quick=all(isinstance(item, Text) for item in items),
            hint=sum(len(item.halves) if isinstance(item, Pair) else 1 for item in items),
            names=names,
        )

    def _grab(self, value: Any) -> Any:
        return value if self.kind == "text" else grab(value, self.policy)

    def _entry(self, index: int, value: Any, names: dict[int, str]) -> Entry:
        passed = value.value if isinstance(value, Unusable) else value
        if self.name is not None:
            names[index] = self.name(index, passed)
        try:
            if isinstance(value, Unusable):
                raise value.error
            return self.read(value)
        except InputError as error:
            return ItemFailure(error, None if self.single else index, names.get(index) or self._kind_of(passed))

    def _kind_of(self, value: Any) -> str:
        """What messages call an item; those of a mixed list by what they are."""
        if self.kind != "item":
            return self.kind
        if isinstance(value, str | Text):
            return "text"
        return "pair" if isinstance(value, Pair) else "image" if is_image_like(value) else "item"


def draft_one(
    value: Any,
    read: Read,
    kind: str,
    task: Task = "document",
    *,
    policy: ImagePolicy | None = None,
    urgent: bool = False,
    converts: bool = False,
) -> Draft:
    """A draft for a single item, which is taken as it is now. Arguments as of `draft_many`."""
    held = Held([value if kind == "text" else grab(value, policy)])
    return Draft(held, read, kind, task, policy=policy, urgent=urgent, single=True, converts=converts)


def draft_many(
    values: Iterable[Any],
    read: Read,
    kind: str,
    task: Task = "document",
    *,
    name: Name | None = None,
    policy: ImagePolicy | None = None,
    urgent: bool = False,
    converts: bool = False,
) -> Draft:
    """A draft for several items. Those of a list are taken as they are now, those of an iterator as it gives them.

    Args:
        values: the items; of a list all are read at once, of an iterator each when its turn comes.
        read: makes an input of one.
        kind: what an item is called: "text", "image", "pair" or "item".
        task: whether texts are documents or queries.
        name: what messages call an item, where it has a name of its own.
        policy: what images may be, which bounds what is read of open files; None is the default one.
        urgent: somebody waits for this.
        converts: reading an item takes a function of a host's, which may look at files.

    Raises:
        InputError: it is one item and not several.
    """
    iterator = iterate(values, f"{kind}s", f"[{kind}]")
    if not is_held(values):
        held: Held | Iterator[Any] = iterator
    else:
        held = Held(iterator if kind == "text" else (grab(value, policy) for value in iterator))
    return Draft(held, read, kind, task, name=name, policy=policy, urgent=urgent, converts=converts)


def grab(value: Any, policy: ImagePolicy | None = None) -> Any:
    """The value as it is now, or why it cannot be used."""
    try:
        return images.take(value, policy)
    except InputError as error:
        return Unusable(value, without_frames(error))


def read_now(draft: Draft) -> Request:
    """The request of a draft, while this thread waits: files are looked at in a thread of ours."""
    return draft.request() if draft.is_quick else run_apart(draft.request)


async def read_soon(draft: Draft) -> Request:
    """The request of a draft, without blocking the event loop."""
    return draft.request() if draft.is_quick else await run_in_thread(draft.request)


class Reader:
    """Reads what callers pass, under an image policy.

    Args:
        policy: what images may be.
        early: refuse now what could be found out later: that there is no such file, say.
    """

    def __init__(self, policy: ImagePolicy, *, early: bool = True) -> None:
        self._policy, self._early = policy, early

    def text(self, value: Any) -> Text:
        """A text. Raises InputError if it is none."""
        return as_text(value)

    def image(self, value: Any) -> Image:
        """An image that the policy allows, as far as that can be told without opening it. Raises InputError."""
        image = as_image(value, self._policy.max_bytes)
        if image.kind == "file":  # what was not taken at the call, as by those who only look at it
            image = Image("bytes", images.read_stream(image.source, self._policy))
        if self._early:
            images.check(image, self._policy)
        return image

    def pair(self, value: Any, weight: float = 0.5) -> Pair:
        """A pair of (text, image). Raises InputError if a half is unusable."""
        if isinstance(value, tuple | list) and len(value) == 2:
            value = Pair(value[0], value[1], weight)
        elif is_drawable(value) and callable(make := getattr(value, "pair", None)):
            value = make(weight)  # a page of a document, which has a text too
        if not isinstance(value, Pair):
            raise InputError(f"must be (text, image), not {type(value).__name__}; pass [(text, image)]")
        if not isinstance(value.text, str | Text):
            raise InputError(f"a pair is (text, image), and its text a str, not {type(value.text).__name__}")
        return Pair(self.text(value.text), self.image(value.image), value.weight)

    def item(self, value: Any) -> Text | Image | Pair:
        """A text if it is a str, a pair, or else an image. Raises InputError if it is unusable."""
        if isinstance(value, str | Text):
            return self.text(value)
        if isinstance(value, Pair):
            return self.pair(value)
        if not is_image_like(value) and not is_image_array(value) and not is_drawable(value):
            raise InputError(
                f"{type(value).__name__} is neither a text nor an image; pass a str, a Path, bytes, a binary file, "
                "a PIL image, a uint8 array, Image.from_url(...) or a Pair(text, image)"
            )
        return self.image(value)
