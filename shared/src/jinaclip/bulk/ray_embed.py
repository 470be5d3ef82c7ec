"""Ray embeds: each actor of a pool holds one JinaClip, and makes rows of the output from tables of items."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from jinaclip.bulk.block_embedder import BlockEmbedder
from jinaclip.bulk.blocks import request_texts
from jinaclip.bulk.collector import slow_collector
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.options import OnError
from jinaclip.bulk.pipeline import CACHE_SECONDS, describe
from jinaclip.bulk.ray_folders import LOOK_SECONDS, RunFolder
from jinaclip.bulk.ray_limits import ActorCache
from jinaclip.bulk.ray_rows import Outcome, encode_rows
from jinaclip.call.request import Request, Task
from jinaclip.call.results import Results
from jinaclip.clip import JinaClip
from jinaclip.errors import InputError, JinaClipError
from jinaclip.hosts import Latch, start_thread

if TYPE_CHECKING:
    import pyarrow as pa


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
        if isinstance(cache, ActorCache):
            options["cache"] = cache.open()
        return JinaClip(**options | {"show_progress": False})


class Embedder:
    """The class of the actors. Several of their threads call it at once, so that the service always has work.

    Once the run is to end, whoever says so, nothing more is sent, what is in flight is waited for, and tables of items
    that come after that give no rows: so Ray comes to its end, and writes all that was answered.
    """

    def __init__(self, options: ActorOptions) -> None:
        self._options = options
        self._over = Latch()
        self._calls: set[Latch] = set()
        """In flight, each with what stops it."""
        self._clip: JinaClip | None = None
        self._lock = threading.Lock()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Rows for the items of a table; not for those that are left, as the run is to end."""
        try:
            clip = self._open()
            if not self._over.done():
                return self._embed(clip, table)
        except JinaClipError as error:
            self._end(error)
        shape = self._options.shape
        return encode_rows(table.slice(0, 0), Outcome.nothing(shape.dimensions), shape)

    def _open(self) -> JinaClip:
        with self._lock:
            if self._clip is None:
                self._clip = self._options.open()
                self._check_space(self._clip)
                slow_collector()
                start_thread("jinaclip-bulk-end", self._watch)
            return self._clip

    @cached_property
    def _embedder(self) -> BlockEmbedder:
        """One for all calls: in an outage one at a time asks."""
        return BlockEmbedder(self._open(), self._options.task)

    def _check_space(self, clip: JinaClip) -> None:
        """Other weights on one machine would be silently another space."""
        if clip.space != self._options.shape.space:
            raise JinaClipError(
                f"an actor has the space {clip.space} and the run {self._options.shape.space}: are the weights the "
                "same on all machines?"
            )

    def _watch(self) -> None:
        """Looks whether the driver, a reader or another actor ends the run."""
        while not self._over.wait(LOOK_SECONDS):
            with suppress(OSError):  # perhaps it passes
                if self._options.folder.is_over():
                    self._stop_calls()

    def _end(self, error: JinaClipError) -> None:
        """Ends the run, if nothing has."""
        if self._stop_calls():
            self._options.folder.note_stop(error)

    def _stop_calls(self) -> bool:
        """Sends nothing more; gives whether this is the first time."""
        with self._lock:
            is_first, calls = not self._over.done(), [*self._calls]
            self._over.set()
        for call in calls:
            call.set()
        return is_first

    @contextmanager
    def _call(self) -> Iterator[Latch]:
        """What stops a call that lasts as long as the `with`."""
        stop = Latch()
        with self._lock:
            self._calls.add(stop)
            if self._over.done():
                stop.set()
        try:
            yield stop
        finally:
            with self._lock:
                self._calls.discard(stop)

    def _embed(self, clip: JinaClip, table: pa.Table) -> pa.Table:
        errors = {place: text for place, text in enumerate(table["error"].to_pylist()) if text is not None}
        places = np.array([place for place in range(len(table)) if place not in errors], np.int64)
        contents = [*_load(table["content"].take(places))]
        request = request_texts(contents, self._options.task)
        costs = clip.count_tokens(request or contents, task=self._options.task)
        results = self._run(clip, contents, request, costs)
        vectors = np.full((len(table), clip.dimensions), np.nan, np.float32)
        vectors[places[: len(results)]] = results.vectors
        tokens = np.zeros(len(table), np.int64)
        tokens[places] = costs
        left = {int(place) for i, place in enumerate(places) if i >= len(results) or _is_left(results, i)}
        own = {int(places[i]): describe(one.reason) for i, one in results.errors.items()}
        errors |= {place: text for place, text in own.items() if place not in left}
        if results.stopped is not None:
            self._end(results.stopped)
        left |= self._end_at(table, errors)
        usage = results.usage
        outcome = Outcome(vectors, errors, tokens, frozenset(left), usage.tokens, usage.hits)
        return encode_rows(table, outcome, self._options.shape)

    def _run(self, clip: JinaClip, contents: list[Any], request: Request | None, costs: list[int]) -> Results:
        """Embeds, and lets the cache write what has come, since a kill before the rows are written would cost that."""
        with self._call() as stop:
            results = self._embedder.embed(contents, request, costs, stop)
        if clip.cache is not None:
            clip.cache.flush(CACHE_SECONDS)
        return results

    def _end_at(self, table: pa.Table, errors: Mapping[int, str]) -> set[int]:
        """Ends the run with the first item that failed, if the user has chosen so; gives those to leave."""
        if not errors or self._options.on_error == "keep":
            return set()
        first = min(errors)
        self._end(InputError(f"{table['where'][first].as_py()}: {errors[first]}"))
        return {*errors}


def _is_left(results: Results, place: int) -> bool:
    return place in results.errors and results.errors[place].left


def _load(contents: Any) -> Iterator[Any]:
    for content in contents.to_pylist():
        yield pickle.loads(content)  # noqa: S301  a task of ours made it
