"""Items become inputs of requests, and inputs become groups of the size of a request, lazily."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable, Iterable, Iterator
from functools import partial
from hashlib import blake2b

from jinaclip import images
from jinaclip.backends.api.policy import Call, Part
from jinaclip.backends.api.wires import jina as wire
from jinaclip.call.call import Job
from jinaclip.call.estimate import image_tokens, text_bytes, text_tokens
from jinaclip.call.prepare import prepared
from jinaclip.config import EmbedderConfig
from jinaclip.errors import InputError
from jinaclip.inputs import Image, Text
from jinaclip.specs import ModelSpec

GROUP_BYTES = 8 * 2**20
GROUP_TOKENS = 100_000
"""A free key's whole minute: a request that costs more could not be sent with one."""


class Shared:
    """The groups of a call, for many workers to take from until there are none or the call is stopped."""

    def __init__(self, job: Job, groups: Iterator[list[Part]], *, blocking: bool) -> None:
        self._job = job
        self._groups = groups
        self._blocking = blocking
        self._lock = threading.Lock()
        self._turn = asyncio.Lock()

    def take(self) -> list[Part] | None:
        """The next group."""
        with self._lock:
            if self._job.stopped.done():
                return None
            return next(self._groups, None)

    async def atake(self) -> list[Part] | None:
        """The next group; one that takes work, or a stranger's iterator, is fetched in a thread."""
        if not self._blocking:
            return self.take()
        async with self._turn:
            return await asyncio.to_thread(self.take)


def cut(call: Call, parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Groups of parts that go into one request: so many, so large, so costly. What exceeds a limit alone goes alone."""
    group: list[Part] = []
    size = tokens = 0
    most_tokens = min(GROUP_TOKENS, call.config.tokens_per_minute or GROUP_TOKENS)
    for part in parts:
        most = min(call.config.batch_size, call.ceiling or call.config.batch_size)
        if group and (len(group) >= most or size + part.size > GROUP_BYTES or tokens + part.tokens > most_tokens):
            yield group
            group, size, tokens = [], 0, 0
        group.append(part)
        size += part.size
        tokens += part.tokens
    if group:
        yield group


def parts(call: Call, spec: ModelSpec) -> Iterator[Part]:
    """The items of a call as inputs, in order. Pictures are made ready in threads, a few ahead."""
    for index, item in prepared(call.job.items(), partial(picture_part, call, spec), call.job.stopped):
        if isinstance(item, Text):
            yield text_part(index, item)
        elif item is not None:
            yield item


def picture_part(call: Call, spec: ModelSpec, index: int, image: Image) -> Part | None:
    """A picture as an input; None if it cannot be one, or is the same as an earlier one. Runs in a thread."""
    try:
        part, key = image_part(call.config, spec, index, image)
    except InputError as error:
        call.job.fail(index, InputError(f"{call.job.name('image', index)}: {error}"))
        return None
    return part if call.job.is_new(index, key) else None


def text_part(index: int, text: Text) -> Part:
    """A text as an input."""
    size = text_bytes(text.value)
    return Part(index, wire.text_input(text.value), size, text_tokens(text.value, size))


def image_part(config: EmbedderConfig, spec: ModelSpec, index: int, image: Image) -> tuple[Part, Hashable]:
    """A picture as an input, and what tells it from other pictures."""
    if image.kind == "url" and config.url_mode == "forward":
        return Part(index, wire.url_input(image.source), len(image.source), spec.tokens_per_tile), ("url", image.source)
    upload = images.upload(
        image,
        policy=config.image_policy,
        mode=config.image_resize,
        side=spec.image_size,
        quality=config.image_quality,
    )
    tokens = image_tokens(upload.width, upload.height, spec.name)
    part = Part(index, wire.image_input(upload.data), len(upload.data) * 4 // 3, tokens)
    return part, ("image", blake2b(upload.data, digest_size=32).digest())
