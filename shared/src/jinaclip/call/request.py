"""What a call asks for: texts, images and pairs, read at once where the caller holds them, as they come where not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import length_hint
from typing import Any, Literal

from jinaclip import images
from jinaclip.call.results import ItemFailure
from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.inputs import Image, Pair, Text, as_image, as_text, is_held, is_image_array, is_image_like, iterate

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


class Reader:
    """Reads what callers pass, under an image policy.

    Args:
        policy: what images may be.
        snapshot: copy what its owner could change while the call waits.
    """

    def __init__(self, policy: ImagePolicy, *, snapshot: bool = False) -> None:
        self._policy, self._snapshot = policy, snapshot

    def text(self, value: Any) -> Text:
        """A text. Raises InputError if it is none."""
        return as_text(value)

    def image(self, value: Any) -> Image:
        """An image that the policy allows, as far as that can be told without opening it. Raises InputError."""
        image = as_image(self._draw(value))
        images.check(image, self._policy)
        return image.snapshot() if self._snapshot else image

    def _draw(self, value: Any) -> Any:
        """What draws itself, drawn; anything else as it is."""
        try:
            render = getattr(value, "render", None)
            return render(self._policy.max_pixels) if callable(render) else value
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001  it is the caller's own code
            name = type(value).__name__
            raise InputError(f"{name} cannot be drawn ({type(error).__name__}: {str(error)[:200]})") from None

    def pair(self, value: Any, weight: float = 0.5) -> Pair:
        """A pair of (text, image). Raises InputError if a half is unusable."""
        if isinstance(value, tuple | list) and len(value) == 2:
            value = Pair(value[0], value[1], weight)
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
        if not is_image_like(value) and not is_image_array(value) and not callable(getattr(value, "render", None)):
            raise InputError(
                f"{type(value).__name__} is neither a text nor an image; pass a str, a Path, bytes, a PIL image, "
                "a uint8 array, Image.from_url(...) or a Pair(text, image)"
            )
        return self.image(value)


def read_one(value: Any, read: Read, kind: str, task: Task = "document", *, urgent: bool = False) -> Request:
    """A request for a single item."""
    kind = _kind_of(value) if kind == "item" else kind
    entry = _read(value, read, None, kind)
    return Request([entry], 1, kind, task, urgent=urgent, single=True, quick=isinstance(entry, Text))


def read_many(
    values: Iterable[Any],
    read: Read,
    kind: str,
    task: Task = "document",
    *,
    name: Name | None = None,
    urgent: bool = False,
) -> Request:
    """A request for several items.

    Args:
        values: the items; of a list all are read at once, of an iterator each when its turn comes.
        read: makes an input of one.
        kind: what an item is called: "text", "image", "pair" or "item".
        task: whether texts are documents or queries.
        name: what messages call an item, where it has a name of its own.
        urgent: somebody waits for this.

    Raises:
        InputError: it is one item and not several.
    """
    iterator = iterate(values, f"{kind}s", f"[{kind}]")
    names: dict[int, str] = {}

    def read_next(index: int, value: Any) -> Entry:
        if name is not None:
            names[index] = name(index, value)
        return _read(value, read, index, names.get(index) or (_kind_of(value) if kind == "item" else kind))

    entries = (read_next(index, value) for index, value in enumerate(iterator))
    if not is_held(values):
        hint = length_hint(iterator) * (2 if kind == "pair" else 1) or None
        return Request(entries, None, kind, task, urgent=urgent, hint=hint, names=names)
    items = list(entries)
    quick = all(isinstance(item, Text) for item in items)
    hint = sum(len(item.halves) if isinstance(item, Pair) else 1 for item in items)
    return Request(items, len(items), kind, task, urgent=urgent, quick=quick, hint=hint, names=names)


def _read(value: Any, read: Read, index: int | None, name: str) -> Entry:
    try:
        return read(value)
    except InputError as error:
        return ItemFailure(error, index, name)


def _kind_of(value: Any) -> str:
    """What messages call an item of a mixed list."""
    if isinstance(value, str | Text):
        return "text"
    return "pair" if isinstance(value, Pair) else "image" if is_image_like(value) else "item"
