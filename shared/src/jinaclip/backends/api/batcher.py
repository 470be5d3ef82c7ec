"""Inputs become items of requests, and items become batches of the size of a request, lazily."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable, Iterable, Iterator
from functools import partial
from hashlib import blake2b

from jinaclip import images
from jinaclip.backends.api.policy import Item, Sending
from jinaclip.backends.api.wires import jina
from jinaclip.call.call import Call
from jinaclip.call.estimate import image_tokens, text_bytes, text_tokens
from jinaclip.call.prepare import prepare_images
from jinaclip.config import EmbedderConfig
from jinaclip.errors import InputError
from jinaclip.inputs import Image, Text
from jinaclip.specs import ModelSpec

BATCH_BYTES = 8 * 2**20
BATCH_TOKENS = 100_000
"""A free key's whole minute: a request that costs more could not be sent with one."""


class Batches:
    """The batches of a call, for many workers to take from until there are none or the call is stopped."""

    def __init__(self, call: Call, batches: Iterator[list[Item]], *, blocking: bool) -> None:
        self._call = call
        self._batches = batches
        self._blocking = blocking
        self._lock = threading.Lock()
        self._turn = asyncio.Lock()

    def take(self) -> list[Item] | None:
        """The next batch."""
        with self._lock:
            if self._call.stopped.done():
                return None
            return next(self._batches, None)

    async def atake(self) -> list[Item] | None:
        """The next batch; one that takes work, or the caller's iterator, is fetched in a thread."""
        if not self._blocking:
            return self.take()
        async with self._turn:
            return await asyncio.to_thread(self.take)


def make_batches(sending: Sending, items: Iterable[Item]) -> Iterator[list[Item]]:
    """Lists of items that go into one request, within the limits of number, bytes and tokens.

    What exceeds a limit alone goes alone. Queries never share a request with images, whose vectors would then depend on
    what they came with.
    """
    batches = {False: Batch(sending), True: Batch(sending)}
    for item in items:
        batch = batches[item.query]
        if batch.items and not batch.has_room(item):
            yield batch.items
            batch = batches[item.query] = Batch(sending)
        batch.add(item)
    yield from (batch.items for batch in batches.values() if batch.items)


class Batch:
    """Items for one request, and how large they are together."""

    def __init__(self, sending: Sending) -> None:
        self.items: list[Item] = []
        self._sending = sending
        self._bytes = self._tokens = 0

    def has_room(self, item: Item) -> bool:
        """Whether the item fits too."""
        config = self._sending.config
        most = min(config.batch_size, self._sending.ceiling or config.batch_size)
        most_tokens = min(BATCH_TOKENS, config.tokens_per_minute or BATCH_TOKENS)
        fits = self._bytes + item.size <= BATCH_BYTES and self._tokens + item.tokens <= most_tokens
        return fits and len(self.items) < most

    def add(self, item: Item) -> None:
        """Puts the item in."""
        self.items.append(item)
        self._bytes += item.size
        self._tokens += item.tokens


def make_items(sending: Sending, spec: ModelSpec) -> Iterator[Item]:
    """The inputs of a call as the wire has them, in order. Images are prepared in threads, a few ahead."""
    call = sending.call
    for number, item in prepare_images(call.inputs(), partial(new_image_item, sending, spec), call.stopped):
        if isinstance(item, Text):
            yield text_item(number, item, query=call.request.task == "query")
        elif item is not None:
            yield item


def new_image_item(sending: Sending, spec: ModelSpec, number: int, image: Image) -> Item | None:
    """An image as an item; None if it cannot be one, or is the same as an earlier one. Runs in a thread."""
    try:
        item, key = image_item(sending.config, spec, number, image)
    except InputError as error:
        sending.call.fail(number, error, "image")
        return None
    return item if sending.call.is_new(number, key) else None


def text_item(number: int, text: Text, *, query: bool) -> Item:
    """A text as an item."""
    size = text_bytes(text.value)
    return Item(number, "text", jina.text_input(text.value), size, text_tokens(text.value, size), query)


def image_item(config: EmbedderConfig, spec: ModelSpec, number: int, image: Image) -> tuple[Item, Hashable]:
    """An image as an item, and what tells it from other images."""
    if image.kind == "url" and config.url_mode == "forward":
        url = image.source
        return Item(number, "image", jina.url_input(url), len(url), spec.tokens_per_tile), ("url", url)
    upload = images.upload(
        image,
        policy=config.image_policy,
        mode=config.image_resize,
        side=spec.image_size,
        quality=config.image_quality,
    )
    tokens = image_tokens(upload.width, upload.height, spec.name)
    item = Item(number, "image", jina.image_input(upload.data), len(upload.data) * 4 // 3, tokens)
    return item, ("image", blake2b(upload.data, digest_size=32).digest())
