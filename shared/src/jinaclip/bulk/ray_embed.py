"""Ray embeds: each actor of a pool holds one JinaClip, and makes rows of the output from tables of items."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.options import OnError
from jinaclip.bulk.outage import OutageCheck
from jinaclip.bulk.pipeline import describe
from jinaclip.bulk.ray_folders import RunFolder
from jinaclip.bulk.ray_limits import BoundedCache
from jinaclip.bulk.ray_rows import Outcome, encode_rows
from jinaclip.call.request import Task
from jinaclip.call.results import Results
from jinaclip.clip import JinaClip
from jinaclip.errors import InputError, JinaClipError

if TYPE_CHECKING:
    import pyarrow as pa

GRACE_SECONDS = 5.0
"""An actor that stopped gives no rows for so long, in which Ray writes what it has; then it ends the run."""


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """What actors need to know.

    Attributes:
        clip: options of JinaClip.
        shape: of the output.
        task: "document" or "query".
        on_error: whether the first item that fails ends the run.
        folder: where they leave why they stopped.
    """

    clip: Mapping[str, Any]
    shape: Shape
    task: Task
    on_error: OnError
    folder: RunFolder

    def open(self) -> JinaClip:
        """A JinaClip."""
        options = dict(self.clip)
        cache = options.get("cache")
        if isinstance(cache, BoundedCache):
            options["cache"] = cache.open()
        return JinaClip(**options | {"show_progress": False})


class Embedder:
    """The class of the actors. Several of their threads call it at once, so that the service always has work."""

    def __init__(self, options: ActorOptions) -> None:
        self._options = options
        self._stopped: JinaClipError | None = None
        self._stopped_at = 0.0
        self._clip: JinaClip | None = None
        self._lock = threading.Lock()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows for the items of a table; not for those that are left, as the run is to end.

        Raises:
            JinaClipError: the run is to end, and what was embedded until then has been handed on.
        """
        if self._stopped is not None:
            if time.monotonic() - self._stopped_at > GRACE_SECONDS:
                raise self._stopped
            shape = self._options.shape
            return encode_rows(table.slice(0, 0), Outcome.nothing(shape.dimensions), shape)
        try:
            return self._embed(table)
        except JinaClipError as error:
            self._stop(error)
            raise

    def _open(self) -> JinaClip:
        with self._lock:
            if self._clip is None:
                self._clip = self._options.open()
                self._check_space(self._clip)
            return self._clip

    def _check_space(self, clip: JinaClip) -> None:
        """Other weights on one machine would be silently another space."""
        if clip.space != self._options.shape.space:
            raise JinaClipError(
                f"an actor has the space {clip.space} and the run {self._options.shape.space}: are the weights the "
                "same on all machines?"
            )

    def _stop(self, error: JinaClipError) -> None:
        with self._lock:
            is_first, self._stopped = self._stopped is None, self._stopped or error
            self._stopped_at = time.monotonic() if is_first else self._stopped_at
        if is_first:
            self._options.folder.note_stop(error)

    def _embed(self, table: pa.Table) -> pa.Table:
        clip = self._open()
        errors = {place: text for place, text in enumerate(table["error"].to_pylist()) if text is not None}
        places = np.array([place for place in range(len(table)) if place not in errors], np.int64)
        contents = table["content"].take(places)
        results = clip.embed(_load(contents), task=self._options.task)
        if results.stopped is not None:
            results = OutageCheck(clip, self._options.task).check([*_load(contents)], results)
        vectors = np.full((len(table), clip.dimensions), np.nan, np.float32)
        vectors[places[: len(results)]] = results.vectors
        tokens = np.zeros(len(table), np.int64)
        tokens[places] = clip.count_tokens(_load(contents))
        left = {int(place) for i, place in enumerate(places) if i >= len(results) or _is_left(results, i)}
        own = {int(places[i]): describe(one.reason) for i, one in results.errors.items()}
        errors |= {place: text for place, text in own.items() if place not in left}
        if results.stopped is not None:
            self._stop(results.stopped)
        left |= self._stop_at(table, errors)
        usage = results.usage
        outcome = Outcome(vectors, errors, tokens, frozenset(left), usage.tokens, usage.hits)
        return encode_rows(table, outcome, self._options.shape)

    def _stop_at(self, table: pa.Table, errors: Mapping[int, str]) -> set[int]:
        """Ends the run with the first item that failed, if the user has chosen so; gives those to leave."""
        if not errors or self._options.on_error == "keep":
            return set()
        first = min(errors)
        self._stop(InputError(f"{table['where'][first].as_py()}: {errors[first]}"))
        return {*errors}


def _is_left(results: Results, place: int) -> bool:
    return place in results.errors and results.errors[place].left


def _load(contents: Any) -> Iterator[Any]:
    for content in contents.to_pylist():
        yield pickle.loads(content)  # noqa: S301  a task of ours made it
