"""What embeds: a model, on one device or on several that share its work, or the way to a hosted one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import product
from typing import Any

from jinaclip.call.call import find_deadline
from jinaclip.call.request import read_soon
from jinaclip.call.results import Results
from jinaclip.clip import JinaClip
from jinaclip.config import SPACE_LENGTH, EmbedderConfig
from jinaclip.errors import ConfigError, DeadlineError, JinaClipError
from jinaclip.server.refusals import Refused
from jinaclip.server.requests import INVALID, EmbeddingsRequest
from jinaclip.specs import ModelSpec

API = "api"
"""What the engine of a gateway is called, in place of a device."""
FEW_AT_ONCE, MANY_AT_ONCE = 16, 8
"""Requests with few and with many images that are prepared and embedded at a time on one device. An image as the model
takes it has 3 MB on v2, and a request some 40 of them; the others wait as they were sent, which is counted."""
DIGITS = 8
"""Hexadecimal digits of a digest that stands for the end of a name that is too long."""


@dataclass(eq=False)
class Engine:
    """The model of a server.

    Attributes:
        devices: where it computes, or `API`.
        clips: a JinaClip of full width for what a request may choose, by `normalized` and `truncate`. They share
            weights, connections and budget. So the items of all requests meet, whatever width they ask for.
        turns: of requests with images, those with few of them (True) and the others.
    """

    devices: Sequence[str]
    clips: Mapping[tuple[bool, bool], JinaClip]
    turns: Mapping[bool, asyncio.Semaphore] = field(init=False)

    def __post_init__(self) -> None:
        self.turns = make_turns(len(self.devices))

    @asynccontextmanager
    async def turn(self, request: EmbeddingsRequest, seconds: float) -> AsyncIterator[None]:
        """Waits until a request may have its images prepared; one of texts waits for nothing.

        Raises:
            DeadlineError: its turn did not come in so many seconds.
        """
        if request.kind == "text":
            yield
            return
        turns = self.turns[request.is_small]
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await turns.acquire()
        except TimeoutError:
            raise DeadlineError(f"its turn did not come within deadline={seconds:g} seconds") from None
        try:
            yield
        finally:
            turns.release()

    def warm(self) -> list[str]:
        """Loads the weights and embeds a text and an image; gives what is wrong with what came back.

        Raises:
            JinaClipError: the weights cannot be used, or the service behind a gateway does not answer.
        """
        for clip in self.clips.values():
            clip.load()
        if self.devices != [API]:
            self.devices = device_names(self.clips)
            self.turns = make_turns(len(self.devices))
        report = next(iter(self.clips.values())).self_test()
        for error in report.errors:
            raise error
        return list(report.problems)

    def close(self) -> None:
        """Lets go of weights and connections."""
        for clip in self.clips.values():
            clip.close()


class Engines:
    """The engine of a server and what requests get of it.

    Args:
        options: of JinaClip. `dimensions`, `normalized` and `truncate` are what requests get that do not say.

    Raises:
        ConfigError: an option is wrong, or does not fit the model.
        CheckpointError: the folder is not that of a model.
        MissingDependencyError: the backend needs an extra that is not installed.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        first = JinaClip(**options)
        self.config: EmbedderConfig = first.config
        self.spec: ModelSpec = first.spec
        self.dimensions = first.dimensions
        self.engine = make_engine(first)
        self._spaces: dict[tuple[int, bool], str] = {}

    async def embed(self, request: EmbeddingsRequest) -> Results:
        """The vectors of a request, at the full width of the model.

        Raises:
            Refused: they cannot be had.
            JinaClipError: the budget would be exceeded, or its turn did not come in time; nothing was sent.
        """
        clip = self.engine.clips.get((request.normalized, request.truncate))
        if clip is None:
            message = f"the service behind this server cannot give vectors with normalized={request.normalized}"
            raise Refused(422, INVALID, message, place=("normalized",))
        async with self.engine.turn(request, find_deadline(self.config.deadline, urgent=request.is_urgent)):
            return await clip.arun(await read_soon(request.draft()), strict=True)

    def space(self, dimensions: int, *, normalized: bool) -> str:
        """The name of the space of vectors of this width."""
        choice = dimensions, normalized
        if choice not in self._spaces:
            self._spaces[choice] = self._name_space(dimensions, normalized=normalized)
        return self._spaces[choice]

    def _name_space(self, dimensions: int, *, normalized: bool) -> str:
        name = self.config.space
        if name is None:
            return self.engine.clips[normalized, False].space_at(dimensions)
        if (dimensions, normalized) == (self.dimensions, self.config.normalized):
            return name
        return shorten(f"{name}_{dimensions}{'' if normalized else '_raw'}", SPACE_LENGTH)

    def warm(self) -> None:
        """Makes the engine ready.

        Raises:
            JinaClipError: it cannot embed.
        """
        problems = self.engine.warm()
        if problems:
            raise JinaClipError(f"{', '.join(self.engine.devices)}: {'; '.join(problems)}")
        self.space(self.dimensions, normalized=self.config.normalized)

    def __str__(self) -> str:
        space = self.space(self.dimensions, normalized=self.config.normalized)
        return f"{self.spec.name} on {', '.join(self.engine.devices)}, space {space}"

    def close(self) -> None:
        """Lets go of everything."""
        self.engine.close()


def make_engine(first: JinaClip) -> Engine:
    """The engine with the options of a JinaClip."""
    clips = dict[tuple[bool, bool], JinaClip]()
    for normalized, truncate in product((True, False), (False, True)):
        with suppress(ConfigError):  # what a service behind a gateway cannot give
            clips[normalized, truncate] = first.with_options(
                dimensions=None, space=None, normalized=normalized, truncate=truncate
            )
    return Engine([API] if first.config.backend == "api" else list(first.config.devices), clips)


def make_turns(devices: int) -> dict[bool, asyncio.Semaphore]:
    """How many requests with few (True) and with many images are prepared and embedded at a time on so many devices."""
    return {True: asyncio.Semaphore(FEW_AT_ONCE * devices), False: asyncio.Semaphore(MANY_AT_ONCE * devices)}


def device_names(clips: Mapping[Any, JinaClip]) -> list[str]:
    """Which devices these compute on: "auto" is the best there is, "cuda:all" every card."""
    from jinaclip.backends.local.engines import choose_engine
    from jinaclip.backends.local.source import Source

    config = next(iter(clips.values())).config
    return choose_engine(Source(config.model, config.revision), config).device_names


def shorten(name: str, most: int) -> str:
    """A name of at most so many characters; a digest stands for the end of a longer one."""
    if len(name) <= most:
        return name
    return f"{name[: most - DIGITS - 1]}_{sha256(name.encode()).hexdigest()[:DIGITS]}"
