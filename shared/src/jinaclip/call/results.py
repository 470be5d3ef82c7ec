"""What came of a call, as values: a row or an ItemFailure for each item. `unwrap` makes exceptions of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from jinaclip.call.usage import Usage
from jinaclip.errors import JinaClipError, NotSentError
from jinaclip.frames import without_frames
from jinaclip.vectors import Vectors

Places = NDArray[np.intp]
KINDS = frozenset({"text", "image", "pair", "item"})
"""Names that say what an item is but not which, so that its index goes with them."""


@dataclass(frozen=True, slots=True)
class ItemFailure:
    """Why an item has no vector. `str` of it is a sentence that says which item and why.

    Attributes:
        reason: the error as it was where it happened; its text does not say which item.
        index: the caller's index of the item; None where there was only one.
        name: "text", "image" or "pair", or the caller's own name of the item, such as "document 17 (dress.jpg)".
        left: whether the item has no vector because its call ended, and for no reason of its own.
    """

    reason: JinaClipError
    index: int | None
    name: str
    left: bool = False

    def __post_init__(self) -> None:
        without_frames(self.reason)

    def __str__(self) -> str:
        if self.name not in KINDS:
            return f"{self.name}: {self.reason}"
        return f"the {self.name}: {self.reason}" if self.index is None else f"{self.name} {self.index}: {self.reason}"

    def error(self) -> JinaClipError:
        """An exception of the reason's class and attributes, whose text and `.index` say which item it is about."""
        error = clone(self.reason)
        error.args, error.index = (str(self),), self.index
        return error


def clone(error: JinaClipError) -> JinaClipError:
    """Another exception of the same class, text and attributes; a subclass may have a constructor of its own."""
    other = type(error).__new__(type(error), *error.args)
    other.args = error.args  # which OSError, a base of time-outs, keeps to itself
    other.__dict__.update(error.__dict__)
    return other


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What came of the items of one call, in the caller's order.

    Attributes:
        vectors: float32 of shape (n, d); the row of an item that failed is NaN.
        errors: why items failed, by the caller's index.
        usage: of this call alone.
        stopped: what ended the whole call before all was done (no key, an empty balance, an outage), or None. Items
            that were not sent by then have a `NotSentError`, those that were sent and not answered this error.
        places: the caller's index of each row, int of shape (n,).
    """

    vectors: Vectors
    errors: Mapping[int, ItemFailure] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)
    stopped: JinaClipError | None = None
    places: Places = None  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        if self.places is None:
            object.__setattr__(self, "places", np.arange(len(self.vectors)))

    def __repr__(self) -> str:
        done = len(self) - len(self.errors)
        stopped = f", stopped by {type(self.stopped).__name__}" if self.stopped is not None else ""
        return f"Results({done} of {len(self)} vectors of {self.vectors.shape[1]} numbers{stopped})"

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """Which rows of `vectors` are vectors, bool of shape (n,)."""
        return ~np.isnan(self.vectors[:, 0])

    def successes(self) -> tuple[Places, Vectors]:
        """The caller's indices of the items that have a vector, shape (m,), and the vectors, shape (m, d)."""
        return self.places[self.ok], self.vectors[self.ok]

    def at(self, places: Sequence[int] | Places) -> Results:
        """The same outcomes, counted in another list: that in which item i of this one stands at `places[i]`.

        For whoever embeds part of a list, the items that a cache did not hold say. Can be applied again. Rows stay
        where they are; their indices, and those of errors, are the new ones.

        Raises:
            IndexError: there are fewer places than items, two items would stand at one place, or a place is no index.
        """
        moved = np.asarray(places)
        if moved.ndim != 1 or (moved.size and moved.dtype.kind not in "iu") or (moved < 0).any():
            raise IndexError("places must be whole numbers from 0, one for each item")
        moved = moved.astype(np.intp)
        if len(np.unique(moved[self.places])) < len(self):
            raise IndexError("two items cannot stand at one place")
        errors = {int(moved[i]): replace(one, index=int(moved[i])) for i, one in self.errors.items()}
        return replace(self, errors=errors, places=moved[self.places])

    def unwrap(self) -> Vectors:
        """The vectors, float32 of shape (n, d), if every item has one.

        Raises:
            JinaClipError: what stopped the call, or else the error of the first item that failed by itself; these
                results are its `.partial`.
        """
        error = self.find_error()
        if error is not None:
            error.partial = self
            raise error
        return self.vectors

    def find_error(self) -> JinaClipError | None:
        """What `unwrap` would raise: an exception of its own each time; None if every item has a vector."""
        if self.stopped is not None:
            return clone(self.stopped)
        own = [i for i, one in self.errors.items() if not isinstance(one.reason, NotSentError)]
        return self.errors[min(own or self.errors)].error() if self.errors else None
