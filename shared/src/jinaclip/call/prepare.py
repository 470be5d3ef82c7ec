"""Images are opened, fitted and told apart in the threads of the process: once, by one road, for both backends."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass
from functools import cache, partial
from hashlib import blake2b
from importlib.metadata import version
from itertools import chain, islice
from typing import Generic, TypeVar

from jinaclip import images, telemetry
from jinaclip.cache import file_key
from jinaclip.call.call import Call
from jinaclip.call.pool import DRAWINGS, FETCHES, CallQueue, preparation
from jinaclip.config import ImagePolicy, ImageResize
from jinaclip.errors import InputError, JinaClipError
from jinaclip.images import Fit, Reserve, Target, Tile, translate_errors
from jinaclip.inputs import Image, Text
from jinaclip.process import LOOK_SECONDS, Dropped, Task, check_not_ending

ROW_PIXELS = 2
"""What Pillow keeps for each row of an image takes as much memory as two pixels."""
AHEAD = 4
"""Images of one call that are ready or being prepared, for each thread of the pool."""
FILE_KINDS = ("path", "bytes")
"""Of images that can be told apart by their file, before it is decoded."""

R = TypeVar("R")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image as a backend embeds it.

    Attributes:
        digest: of what the model will see; equal for equal pixels, whatever file, array or backend they come to.
        tile: its pixels, its file as it is, or the address that the service is to fetch it from; None for one of which
            only the digest is known.
    """

    digest: bytes
    tile: Tile | str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an image before it is decoded.

    Attributes:
        image: itself, its file read if that was of use.
        key: of its file, for the cache.
        digest: of what the model sees of it, if it was met before.
    """

    image: Image
    key: bytes | None = None
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Recipe(Generic[R]):
    """What becomes of the images of a call.

    Attributes:
        policy: which images are accepted.
        fit: resizes the pixels of an image.
        side: of the square that the model sees.
        mode: `image_resize`, by which the pixels that `fit` needs are counted.
        fit_page: resizes those of a page, of which the model is to see all.
        finish: makes what the backend needs of a prepared image, given its number. Runs in a thread of the pool.
        target: the size to which `fit` scales, where `image_decode` is "fast".
        quality: `image_quality`; None keeps pixels as they are.
        keep_files: whether a file that every reader sees alike stays as it is.
        forward: whether URLs are handed on, and not fetched.
        preprocessing: what else decides the pixels, in words.
    """

    policy: ImagePolicy
    fit: Fit
    side: int
    mode: ImageResize
    fit_page: Fit
    finish: Callable[[int, Prepared], R]
    target: Target | None = None
    quality: int | None = None
    keep_files: bool = False
    forward: bool = False
    preprocessing: str = ""

    @property
    def settings(self) -> bytes:
        """All that decides what becomes of the bytes of a file: options, and who reads it."""
        is_fast = self.target is not None
        options = (
            self.side,
            self.mode,
            is_fast,
            self.quality,
            self.keep_files,
            self.preprocessing,
            astuple(self.policy),
        )
        return repr((*options, *readers_of_files())).encode()

    def prepare(self, image: Image, reserve: Callable[[int], None]) -> Prepared:
        """Opens and fits an image. Blocks.

        Args:
            image: of any kind.
            reserve: waits until so many pixels may be decoded.

        Raises:
            InputError: it cannot be opened, or the policy refuses it.
        """
        if self.forward and image.kind == "url":
            images.check(image, self.policy)
            return Prepared(digest_of(b"url", image.source.encode()), image.source)
        fit = self.fit_page if images.is_page(image) else self.fit
        reserve_all = self._reserve(image, reserve)
        tile = images.open_tile(image, self.policy, fit, reserve_all, target=self.target, keep_file=self.keep_files)
        return Prepared(self._digest(tile), tile)

    def _reserve(self, image: Image, reserve: Callable[[int], None]) -> Reserve:
        mode = "pad" if images.is_page(image) and self.mode == "model" else self.mode

        def reserve_all(width: int, height: int) -> None:
            reserve(height * (width + ROW_PIXELS) + images.count_fitted((width, height), mode, self.side))

        return reserve_all

    def _digest(self, tile: Tile) -> bytes:
        if isinstance(tile.content, bytes):
            return digest_of(b"file", tile.content)
        head = f"pixels {tile.width} {tile.height} {self.quality}"
        return digest_of(head.encode(), tile.content.tobytes())


@cache
def readers_of_files() -> tuple[str, str]:
    """The versions of what turns files into pixels."""
    return version("jinaclip"), version("pillow")


def digest_of(kind: bytes, content: bytes) -> bytes:
    """32 bytes that tell contents of one kind apart."""
    state = blake2b(digest_size=32)
    state.update(len(kind).to_bytes(8, "little") + kind)
    state.update(content)
    return state.digest()


def tell_prepared(pixels: int, seconds: float) -> None:
    """Tells those who watch that an image was prepared."""
    if telemetry.wants(telemetry.ImagesPrepared):
        telemetry.emit(telemetry.ImagesPrepared(images=1, pixels=pixels, seconds=seconds))


def prepare_inputs(
    call: Call, inputs: Iterable[tuple[int, Text | Image]], recipe: Recipe[R]
) -> Iterator[tuple[int, Text | R]]:
    """What is left to embed of inputs, with their numbers: texts as they are, images as the recipe makes them.

    An image that cannot be used fails its item; one that is a copy of another is left out, and so is what the cache
    has. Images are prepared in the pool of the process, a few ahead, by turns with those of other calls. What else is
    raised there is raised here. It ends at once when the call is stopped, and drops what it had waiting.
    """
    if call.request.quick:
        texts = ((number, item) for number, item in inputs if isinstance(item, Text))  # all of them are texts
        yield from texts if call.memo is None else call.memo.find_texts(call, texts)
        return
    with closing(Window(call, recipe)) as window:
        for number, item in inputs:
            if isinstance(item, Text) and window.is_empty:
                yield from find_text(call, number, item)
                continue
            window.add(number, item)
            while window.is_full and window.wait():
                yield from window.take()
        while window.wait():
            yield from window.take()


def find_text(call: Call, number: int, text: Text) -> Iterable[tuple[int, Text]]:
    """A text with its number, unless the cache has it."""
    return [(number, text)] if call.memo is None else call.memo.find_texts(call, [(number, text)])


class Inputs(Generic[T]):
    """What a backend is to embed in one go.

    Args:
        items: inputs as the backend takes them; each is made when it is asked for.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[T]:
        return self._items

    def begin(self) -> bool:
        """Makes the first one; gives whether there is one. Blocks. To be called before any is taken."""
        first = list(islice(self._items, 1))
        self._items = chain(first, self._items)
        return bool(first)


class Window(Generic[R]):
    """The items of a call from the one that is asked for next to the last that was handed in."""

    def __init__(self, call: Call, recipe: Recipe[R]) -> None:
        self._call, self._recipe = call, recipe
        self._preparation = preparation()
        self._queue, self._fetch_queue = CallQueue(), CallQueue(FETCHES)
        self._drawing_queue = CallQueue(min(DRAWINGS, self._preparation.images.size))
        self._items: deque[tuple[int, Text | Task[R | None]]] = deque()
        call.stopped.add_callback(self.close)

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits for its turn."""
        return not self._items

    @property
    def is_full(self) -> bool:
        """Whether its first item is to be taken before another is added. Texts wait for nothing but their turn."""
        if not self._items:
            return False
        return isinstance(self._items[0][1], Text) or len(self._items) > AHEAD * self._preparation.images.size

    def add(self, number: int, item: Text | Image) -> None:
        """Adds an item; an image is handed to the pool."""
        self._items.append((number, item if isinstance(item, Text) else self._start(number, item)))

    def wait(self) -> bool:
        """Waits for the first item; False if there is none, or the call was stopped first.

        Raises:
            JinaClipError: the process was forked in the middle of the call, or is ending.
        """
        while self._items and not self._call.stopped.done():
            item = self._items[0][1]
            if isinstance(item, Text) or item.done.wait(LOOK_SECONDS):
                return not self._call.stopped.done()
            self._look()
        return False

    def take(self) -> Iterator[tuple[int, Text | R]]:
        """Takes out the first item; nothing if it failed, or is a copy. Raises what its preparation raised."""
        number, item = self._items.popleft()
        if isinstance(item, Text):
            yield from find_text(self._call, number, item)
        elif (value := item.result()) is not None:
            yield number, value

    def close(self) -> None:
        """Drops what has not begun, and wakes who waits for it."""
        for queue in (self._queue, self._fetch_queue, self._drawing_queue):
            queue.close()
        for _, item in list(self._items):
            if isinstance(item, Task):
                item.done.set()

    def _look(self) -> None:
        check_not_ending()
        if self._preparation is not preparation():
            raise JinaClipError("the process was forked in the middle of a call; make calls before or after the fork")
        self._preparation.images.ensure()
        if self._drawing_queue.tasks:
            self._preparation.drawings.ensure()

    def _start(self, number: int, image: Image) -> Task[R | None]:
        if image.kind == "url" and not self._recipe.forward:
            fetch = Task(partial(images.download, image, self._recipe.policy))
            task = Task(partial(self._prepare, number, fetch.result))
            self._preparation.fetches.submit(self._fetch_queue, Task(partial(self._fetch, fetch, task)))
            return task
        task = Task(partial(self._prepare, number, lambda: image))
        if image.kind == "drawable" and images.draws_elsewhere(image.source):
            self._preparation.drawings.submit(self._drawing_queue, task)
        else:
            self._preparation.images.submit(self._queue, task)
        return task

    def _fetch(self, fetch: Task[Image], task: Task[R | None]) -> None:
        """Downloads a file, and holds its place among the downloads of this call for as long as the file is there."""
        fetch.run()
        self._preparation.images.submit(self._queue, task)
        while not task.done.wait(LOOK_SECONDS) and not self._queue.closed:
            pass

    def _prepare(self, number: int, get_image: Callable[[], Image]) -> R | None:
        """Runs in a thread of the pool. Whatever goes wrong is an error of this image, and of no other."""
        began_at = time.perf_counter()
        try:
            with (
                translate_errors("the image cannot be used"),
                self._preparation.reservation(self._queue) as reservation,
            ):
                image = get_image()
                known = self._recognize(image)
                if known.digest is not None and self._is_done(number, image, Prepared(known.digest)):
                    return None
                prepared = self._recipe.prepare(known.image, reservation.reserve)
                tell_prepared(reservation.pixels, time.perf_counter() - began_at)
                self._keep_digest(known, prepared)  # of copies too, and of what the cache has by another file
                if prepared.digest != known.digest and self._is_done(number, image, prepared):
                    return None
                return self._recipe.finish(number, prepared)
        except InputError as error:
            self._call.fail(number, error, "image")
        except Dropped:
            pass
        return None

    def _recognize(self, image: Image) -> Known:
        """What is known of an image by the bytes of its file, which spares decoding it; nothing without a cache."""
        memo = self._call.memo
        if memo is None or image.kind not in FILE_KINDS:
            return Known(image)
        file = images.download(image, self._recipe.policy)
        key = file_key(self._recipe.settings, file.source)
        return Known(file, key, memo.find_digest(key))

    def _keep_digest(self, known: Known, prepared: Prepared) -> None:
        if self._call.memo is not None and known.key is not None and prepared.digest != known.digest:
            self._call.memo.keep_digest(known.key, prepared.digest)

    def _is_done(self, number: int, image: Image, prepared: Prepared) -> bool:
        """Whether an image is not to be embedded: it is a copy, or the cache has it, or another call makes it."""
        if not self._call.is_new(number, prepared.digest):
            return True
        memo, address = self._call.memo, prepared.tile
        if memo is None:
            return False
        key = memo.url_key(address) if isinstance(address, str) else memo.image_key(prepared.digest)
        return memo.find_image(self._call, number, image, key)
