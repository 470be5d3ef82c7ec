"""The local backend: items become token ids and pixels, the shared scheduler makes them vectors."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import groupby, islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jinaclip import images
from jinaclip.backends.local.batcher import Consumer, Item
from jinaclip.backends.local.checkpoint_config import read_preprocessing, read_spec
from jinaclip.backends.local.device import NO_VECTOR, kind_of
from jinaclip.backends.local.engines import check_engine, choose_engine, choose_source, name_engine
from jinaclip.backends.local.model import Model, shared_model
from jinaclip.backends.local.preprocess import MODES, PreprocessConfig, resize
from jinaclip.backends.local.source import Source
from jinaclip.backends.local.weights import find_weights
from jinaclip.call.call import Call
from jinaclip.call.prepare import Inputs, Prepared, Recipe, prepare_inputs
from jinaclip.call.watch import HERE, Service
from jinaclip.config import EmbedderConfig
from jinaclip.errors import DeadlineError, InputError, JinaClipError
from jinaclip.inputs import Image, Text
from jinaclip.process import Latch, run_apart, run_in_thread, start_thread, wait_until_done
from jinaclip.space import Weights
from jinaclip.vectors import Vectors

if TYPE_CHECKING:
    import PIL.Image

TEXTS_AT_ONCE = 256
"""Handed to the tokenizer together; it spreads them over the cores."""
CHARACTERS_AT_ONCE = 2**18
"""Characters from which on no more texts go with them: a tokenizer takes some 150 bytes for each."""
INLINE_CHARACTERS = 4096
"""So much text is tokenized on the event loop: it takes less than handing it to a thread and back."""


class LocalBackend:
    """Embeds with weights on this machine.

    Raises:
        ConfigError: the engine does not run this model.
        CheckpointError: the folder has no sound config.json.
        MissingDependencyError: the engine's library is not installed.
    """

    def __init__(self, config: EmbedderConfig) -> None:
        self._config = config
        self._source = run_apart(choose_source, Source(config.model, config.revision), config)
        check_engine(name_engine(self._source, config))  # now, and not when the first item waits
        self._model: Model | None = None
        self.spec = replace(
            run_apart(read_spec, self._source), tokens_per_tile=0
        )  # nobody bills images on this machine

    @property
    def weights(self) -> Weights:
        """Those that are loaded; else those that would be, as the files are now."""
        model = self._model
        is_loaded = model is not None and model.pid == os.getpid()
        return run_apart(find_weights, self._source, model.files if model is not None and is_loaded else ())

    @property
    def service(self) -> Service:
        """This machine."""
        return HERE

    @property
    def rounding(self) -> dict[str, Any]:
        """Engine and type of numbers."""
        return choose_engine(self._source, self._config).rounding

    @property
    def image_settings(self) -> bytes:
        """All that decides what becomes of the file of an image."""
        return self._recipe().settings

    @property
    def logit_scale(self) -> float:
        """As the checkpoint holds it; loads the weights."""
        return self._loaded().runner.logit_scale

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, special ones included."""
        return run_apart(self._loaded().tokenizer.count, text)

    def requests_for(self, inputs: int, tokens: int) -> int:
        """Nothing is sent."""
        return 0

    def load(self) -> None:
        """Loads the weights."""
        self._loaded()

    def prepare(self, call: Call, inputs: Iterable[tuple[int, Text | Image]]) -> Inputs[Any]:
        """Inputs with their numbers: texts, and images as pixels."""
        return Inputs(self._prepare(call, inputs))

    def _prepare(self, call: Call, inputs: Iterable[tuple[int, Text | Image]]) -> Iterator[tuple[int, Any]]:
        yield from prepare_inputs(call, inputs, self._recipe())

    def _recipe(self) -> Recipe[NDArray[np.uint8]]:
        """How images become pixels: resized as the options say, then as the checkpoint does."""
        config, settings = self._config, self._preprocessing()
        policy, mode, side = config.image_policy, config.image_resize, self.spec.image_size

        def fit(pixels: PIL.Image.Image) -> PIL.Image.Image:
            if mode in ("pad", "squash"):
                pixels = images.fit(pixels, mode, side)
            return resize(pixels, settings)

        def fit_page(pixels: PIL.Image.Image) -> PIL.Image.Image:
            return resize(images.fit_page(pixels, mode, side), settings)

        own = mode if mode in ("pad", "squash") else MODES[settings.resize_mode]
        return Recipe(
            policy=policy,
            fit=fit,
            side=side,
            mode=own,
            fit_page=fit_page,
            finish=bytes_of,
            target=partial(images.scaled_size, mode=own, side=side) if config.image_decode == "fast" else None,
            preprocessing=repr(settings),
        )

    def _preprocessing(self) -> PreprocessConfig:
        """Of the weights that are loaded, or of the folder: what the cache has needs none."""
        model = self._model
        return run_apart(read_preprocessing, self._source, self.spec) if model is None else model.preprocessing

    def embed(self, call: Call, inputs: Inputs[Any]) -> None:
        """Embeds the inputs. Only an iterator, which is the caller's own code, runs in this thread."""
        session = Session(call, inputs, self._loaded(), self._config)
        with session:
            if call.request.total is None:
                session.feed()
            else:
                start_thread("jinaclip-feed", session.feed)
            session.over.wait(session.seconds_left)
            session.check_deadline()

    async def aembed(self, call: Call, inputs: Inputs[Any]) -> None:
        """Embeds the inputs; what takes long, loading and feeding, happens in threads."""
        model = self._model
        if model is None or model.pid != os.getpid():
            model = await run_in_thread(self._loaded)
        session = Session(call, inputs, model, self._config)
        with session:
            if is_small(call):
                session.feed(patient=False)
            else:
                # a daemon of its own: an iterator that never goes on must hold up neither others nor the end
                start_thread("jinaclip-feed", session.feed)
            with suppress(TimeoutError):
                async with asyncio.timeout(session.seconds_left):
                    await wait_until_done(session.over)
            session.check_deadline()

    def close(self) -> None:
        """Lets go of the weights; they are freed when no other object holds them."""
        self._model = None

    async def aclose(self) -> None:
        """The same."""
        self.close()

    def _loaded(self) -> Model:
        model = self._model
        if model is None or model.pid != os.getpid():
            model = self._model = run_apart(shared_model, self._source, self._config, self.spec)
        return model


class Receiver:
    """Takes what the scheduler gives for one call. It holds neither the session nor its consumer, which hold it.

    Args:
        call: gets vectors and errors.
        config: options of the vectors.
        width: numbers of each.

    Attributes:
        done: set once nothing is left to come.
    """

    def __init__(self, call: Call, config: EmbedderConfig, width: int) -> None:
        self.done = Latch()
        self._call, self._normalized, self._width = call, config.normalized, width
        self._lock = threading.Lock()
        self._pending = 1  # one for the feeding itself
        self._reservation = call.meter.reserve()

    def expect(self, items: Sequence[Item]) -> None:
        """Notes that these items are about to be handed in."""
        with self._lock:
            self._pending += len(items)

    def reserve(self, items: Sequence[Item]) -> None:
        """Notes what texts will be charged."""
        self._reservation.add(sum(item.length for item in items))

    def release(self) -> None:
        """Gives back what was reserved and not embedded; what comes after this is spent on nobody."""
        self._reservation.release()

    def deliver(self, items: list[Item], rows: Vectors) -> None:
        """Cuts and normalises what the scheduler gives, and looks at it."""
        self._reservation.spend(sum(item.length for item in items))
        rows = rows[:, : self._width]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        sound = (np.isfinite(lengths) & (lengths > 0)).ravel()
        if self._normalized:
            rows = np.divide(rows, lengths, where=sound[:, None], out=np.zeros_like(rows))
        for item in (item for item, good in zip(items, sound, strict=True) if not good):
            self._call.fail(item.index, InputError(NO_VECTOR), kind_of([item]))
        if sound.any():
            self._call.answer([item.index for item, good in zip(items, sound, strict=True) if good], rows[sound])
        self.advance(len(items))

    def refuse(self, item: Item, error: JinaClipError) -> None:
        """Notes why an item gets no vector."""
        self._call.fail(item.index, error, kind_of([item]))
        self.advance(1)

    def fail(self, error: Exception) -> None:
        """Ends the call."""
        self._call.stop(error)

    def advance(self, items: int) -> None:
        """Notes that so many items are over, or the feeding is."""
        with self._lock:
            self._pending -= items
            finished = self._pending == 0
        if finished:
            self.done.set()


class Session:
    """One call at the scheduler. As a context it withdraws what is left when the call ends early."""

    def __init__(self, call: Call, inputs: Inputs[Any], model: Model, config: EmbedderConfig) -> None:
        self._inputs, self._call, self._model, self._config = inputs, call, model, config
        self._receiver = receiver = Receiver(call, config, config.dimensions or model.runner.dimensions)
        self.over = Latch()
        for latch in (receiver.done, call.stopped):
            latch.add_callback(self.over.set)
        self._deadline_at = time.monotonic() + call.deadline
        most, urgent = config.batch_size or model.batch_size, call.request.urgent
        self._consumer = Consumer(receiver.deliver, receiver.refuse, receiver.fail, most, urgent=urgent)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._call.stop()
        if not self._receiver.done.done():
            self._model.scheduler.withdraw(self._consumer)
        self._receiver.release()

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline of the call; None without one."""
        return None if self._deadline_at == math.inf else max(0.0, self._deadline_at - time.monotonic())

    def check_deadline(self) -> None:
        """Stops the call if its deadline has passed before it was done."""
        if not self._receiver.done.done() and self.seconds_left == 0:
            self._call.stop(DeadlineError(f"not done within deadline={self._call.deadline:g} seconds"))

    def feed(self, *, patient: bool = True) -> None:
        """Hands in the items until there are no more or the call is stopped."""
        with self._call.ending():
            for is_text, run in groupby(self._inputs, key=lambda item: isinstance(item[1], Text)):
                while inputs := take_texts(run) if is_text else list(islice(run, 1)):
                    self.check_deadline()
                    if self._call.stopped.done():
                        return
                    own = self._texts(inputs, apart=patient) if is_text else self._images(inputs)
                    self._submit(own, patient=patient)
        self._receiver.advance(1)

    def _submit(self, items: list[Item], *, patient: bool) -> None:
        if items:
            self._receiver.expect(items)
            self._model.scheduler.submit(items, block=patient)

    def _texts(self, inputs: list[tuple[int, Any]], *, apart: bool) -> list[Item]:
        """Token ids; the instruction of the model goes before a query. A few are made here: a thread takes longer."""
        prefix = self._model.spec.prefix(self._call.request.task)
        texts = [prefix + text.value for _, text in inputs]
        encode = partial(self._model.tokenizer.encode, texts, truncate=self._config.truncate)
        encoded = run_apart(self._model.take_turns, encode) if apart else encode()
        items = []
        for (index, _), ids in zip(inputs, encoded, strict=True):
            if isinstance(ids, InputError):
                self._call.fail(index, ids, "text")
            else:
                items.append(Item(self._consumer, index, ids=ids))
        self._receiver.reserve(items)
        return items

    def _images(self, inputs: list[tuple[int, Any]]) -> list[Item]:
        fit = self._model.pixels
        return [Item(self._consumer, index, pixels=fit(pixels)) for index, pixels in inputs]


def take_texts(inputs: Iterator[tuple[int, Any]]) -> list[tuple[int, Any]]:
    """The next texts, as many as the tokenizer takes together; empty if there are no more."""
    taken, characters = list[tuple[int, Any]](), 0
    for one in inputs:
        taken.append(one)
        characters += len(one[1].value)
        if len(taken) == TEXTS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            break
    return taken


def bytes_of(_number: int, image: Prepared) -> NDArray[np.uint8]:
    """(S, S, 3) bytes of a prepared image, which on this backend is pixels always."""
    if image.tile is None or isinstance(image.tile, str) or isinstance(image.tile.content, bytes):
        raise TypeError("the local backend needs pixels")
    return np.asarray(image.tile.content)


def is_small(call: Call) -> bool:
    """Whether feeding a call takes no longer than handing it to a thread would."""
    request = call.request
    return request.quick and sum(len(x.value) for x in request.items if isinstance(x, Text)) <= INLINE_CHARACTERS
