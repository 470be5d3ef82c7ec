"""Items that a host embeds in batches of its own: what became of each, and errors, by the caller's index."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from jinaclip.call.call import bar
from jinaclip.errors import JinaClipError, Partial

if TYPE_CHECKING:
    from jinaclip.clip import JinaClip


class Batches:
    """The items of a call that are embedded in several, the vectors of those that are done, and what went wrong.

    All are looked through before any is sent, for what `JinaClip.look_through` refuses; after an error no further batch
    is sent. One object serves one call.

    Args:
        clip: what will embed them.
        kind: "texts" or "images".
        values: all of them.
        places: the caller's index of each; None where they are the caller's list.

    Attributes:
        items: by the caller's index.
        vectors: what has been made, by the caller's index.
        errors: of items, by the caller's index.
        error: the first that ended a batch, or None.

    Raises:
        InputError: it is one item and not several, or `.index` says which of them cannot be embedded.
    """

    def __init__(
        self,
        clip: JinaClip,
        kind: Literal["texts", "images"],
        values: Iterable[Any],
        places: Sequence[int] | None = None,
    ) -> None:
        is_stream = isinstance(values, Iterator) and not hasattr(values, "read")
        listed: Any = list(values) if is_stream else values
        try:
            clip.look_through(**{kind: listed})
        except JinaClipError as error:
            relocate(error, places)
            raise
        self._config = clip.config
        self.items: dict[int, Any] = dict(zip(places or range(len(listed)), listed, strict=True))
        self.vectors: dict[int, Any] = {}
        self.errors: dict[int, JinaClipError] = {}
        self.error: BaseException | None = None

    def run(self, embed: Callable[[list[Any]], Iterable[Any]], show_progress: bool = False) -> Self:
        """Embeds `batch_size` items after the other, until something has failed: see `result`."""
        for places, items in self._cut(show_progress):
            with self._counting(places, items):
                self.vectors |= zip(places, embed(items), strict=True)
        return self

    async def arun(
        self,
        embed: Callable[[list[Any]], Awaitable[Iterable[Any]]],
        workers: int | None = None,
        show_progress: bool = False,
    ) -> Self:
        """`run` for coroutines, `workers` or `max_concurrency` batches at once; those under way end before it does.

        Args:
            embed: makes vectors of a batch.
            workers: below 1 counts as 1, except that 0, like None, takes `max_concurrency`.
            show_progress: with a bar.
        """

        async def work() -> None:
            for places, items in batches:
                with self._counting(places, items):
                    self.vectors |= zip(places, await embed(items), strict=True)

        batches = self._cut(show_progress)
        await asyncio.gather(*(work() for _ in range(max(1, workers or self._config.max_concurrency))))
        return self

    def _cut(self, show_progress: bool) -> Iterator[tuple[list[int], list[Any]]]:
        places, size = [*self.items], self._config.batch_size
        shown = bar(len(places)) if show_progress else None
        for start in range(0, len(places), size):
            if self.error is not None:
                break
            batch = places[start : start + size]
            yield batch, [self.items[place] for place in batch]
            if shown is not None:
                shown.update(len(batch))
        if shown is not None:
            shown.close()

    @contextmanager
    def _counting(self, places: Sequence[int], items: Sequence[Any]) -> Iterator[None]:
        try:
            yield
        except JinaClipError as error:
            left = zip(places, items, strict=True)
            sent = vars(error).pop("sent", items)
            relocate(error, [next(place for place, item in left if item is one) for one in sent])
            self.vectors |= {place: vector.tolist() for place, vector in error.partial.vectors.items()}
            self.errors |= error.partial.errors
            self.error = self.error or error
        except BaseException as error:  # a stranger's, or the end: no other batch may start
            self.error = error
            raise

    @staticmethod
    @contextmanager
    def sending(items: Sequence[Any]) -> Iterator[None]:
        """Inside `embed`, around a call with only some objects of the batch, in its order, such as those not cached."""
        try:
            yield
        except JinaClipError as error:
            vars(error)["sent"] = items
            raise

    def result(self) -> list[Any]:
        """The vectors in the order of the items.

        Raises:
            JinaClipError: a batch failed; `.partial` holds what all of them have become.
        """
        if self.error is not None:
            raise self.holding(self.error, self.vectors, self.errors)
        return [self.vectors[place] for place in self.items]

    @staticmethod
    def holding(error: Any, vectors: Mapping[int, Any], errors: Mapping[int, JinaClipError]) -> Any:
        """The error with these in `.partial`."""
        rows = {place: np.array(vectors[place], np.float32) for place in sorted(vectors)}
        error.partial = Partial(rows, {place: errors[place] for place in sorted(errors)})
        return error


def relocate(error: JinaClipError, places: Sequence[int] | None) -> None:
    """Makes an error, and what it holds, count in the list where its items have these places; None changes nothing."""
    if places is None:
        return
    partial = error.partial
    for one in {error, *partial.errors.values()}:
        if one.index is not None:
            text = re.sub(rf"\b(text|image|item) {one.index}\b", rf"\1 {places[one.index]}", str(one), count=1)
            one.args, one.index = (text,), places[one.index]
    vectors = {places[index]: vector for index, vector in partial.vectors.items()}
    error.partial = Partial(vectors, {places[index]: one for index, one in partial.errors.items()})
