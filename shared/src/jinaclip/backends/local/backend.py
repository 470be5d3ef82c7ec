"""The local backend: items become token ids and pixels, the shared engine makes them vectors."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from hashlib import blake2b
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jinaclip import images
from jinaclip.backends.local.model import Model, identity, read_spec, shared_model
from jinaclip.backends.local.preprocess import preprocess
from jinaclip.backends.local.scheduler import Caller, Task
from jinaclip.backends.local.source import Source
from jinaclip.call.call import Job
from jinaclip.call.prepare import prepared
from jinaclip.call.usage import Meter, Usage
from jinaclip.config import EmbedderConfig
from jinaclip.errors import InputError
from jinaclip.inputs import Image, Text
from jinaclip.vectors import Vectors

TEXTS_AT_ONCE = 256
"""Handed to the tokenizer together; it spreads them over the cores."""
INLINE_CHARACTERS = 4096
"""So much text is tokenized on the event loop: it takes less than handing it to a thread and back."""


class LocalBackend:
    """Embeds with weights on this machine."""

    def __init__(self, config: EmbedderConfig) -> None:
        self._config = config
        self._source = Source(config.model, config.revision)
        self._meter = Meter(config.token_budget)
        self._model: Model | None = None
        self.spec = replace(read_spec(self._source), tokens_per_tile=0)  # nobody bills pictures on this machine

    @property
    def usage(self) -> Usage:
        """Running totals."""
        return self._meter.usage

    @property
    def identity(self) -> dict[str, Any]:
        """Weights, preprocessing and arithmetic."""
        return identity(self._source, self._config)

    @property
    def logit_scale(self) -> float:
        """As the checkpoint holds it; loads the weights."""
        return self._loaded().towers.logit_scale

    def check_budget(self, tokens: int) -> None:
        """Refuses a call that is expected to take more than the budget holds."""
        self._meter.check(tokens)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text, special ones included."""
        return self._loaded().tokenizer.count(text)

    def requests_for(self, items: int, tokens: int) -> int:
        """Nothing is sent."""
        return 0

    def embed(self, job: Job) -> None:
        """Answers the job, feeding the engine from this thread."""
        session = Session(job, self._loaded(), self._config, self._meter)
        with session:
            session.feed()
            wait([session.done, job.stopped], return_when=FIRST_COMPLETED)

    async def aembed(self, job: Job) -> None:
        """Answers the job; what takes long, loading and feeding, happens in threads."""
        model = self._model
        if model is None or model.pid != os.getpid():
            model = await asyncio.to_thread(self._loaded)
        session = Session(job, model, self._config, self._meter)
        with session:
            if is_small(job):
                session.feed(patient=False)
            else:
                # a daemon of its own: an iterator that never goes on must hold up neither others nor the end
                threading.Thread(target=session.feed, name="jinaclip-feed", daemon=True).start()
            await asyncio.wait(
                [asyncio.wrap_future(session.done), asyncio.wrap_future(job.stopped)],
                return_when=asyncio.FIRST_COMPLETED,
            )

    def close(self) -> None:
        """Lets go of the weights; they are freed when no other object holds them."""
        self._model = None

    async def aclose(self) -> None:
        """The same."""
        self.close()

    def _loaded(self) -> Model:
        model = self._model
        if model is None or model.pid != os.getpid():
            model = self._model = shared_model(self._source, self._config, self.spec)
        return model


class Session:
    """One job at the engine. As a context it withdraws what is left when the job ends early."""

    def __init__(self, job: Job, model: Model, config: EmbedderConfig, meter: Meter) -> None:
        self.done: Future[None] = Future()
        self._job, self._model, self._config, self._meter = job, model, config, meter
        self._caller = Caller(self._deliver, self._fail, config.batch_size)
        self._lock = threading.Lock()
        self._pending = 1  # one for the feeding itself
        self._reserved = 0
        self._width = config.dimensions or model.towers.dimensions

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._job.stop()
        if not self.done.done():
            self._model.engine.withdraw(self._caller)
        self._free(self._reserved)  # of what was not embedded after all

    def feed(self, *, patient: bool = True) -> None:
        """Turns the items into tasks until there are no more or the job is stopped."""
        with self._job.ending():
            items = prepared(self._job.items(), self._pixels, self._job.stopped)
            for is_text, group in groupby(items, key=lambda item: isinstance(item[1], Text)):
                while chunk := list(islice(group, TEXTS_AT_ONCE if is_text else 1)):
                    if self._job.stopped.done():
                        return
                    self._submit(self._texts(chunk) if is_text else self._pictures(chunk), patient=patient)
        self._advance(1)

    def _submit(self, tasks: list[Task], *, patient: bool) -> None:
        if tasks:
            with self._lock:
                self._pending += len(tasks)
            self._model.engine.submit(tasks, patient=patient)

    def _texts(self, chunk: list[tuple[int, Any]]) -> list[Task]:
        """Token ids; the instruction of the model goes before a query."""
        prefix = self._model.spec.query_instruction if self._job.plan.query else ""
        texts = [prefix + text.value for _, text in chunk]
        encoded = self._model.tokenizer.encode(texts, truncate=self._config.truncate)
        tasks = []
        for (index, _), ids in zip(chunk, encoded, strict=True):
            if isinstance(ids, InputError):
                self._job.fail(index, InputError(f"{self._job.name('text', index)} {ids}"))
            else:
                tasks.append(Task(self._caller, index, ids=ids))
        tokens = sum(task.length for task in tasks)
        self._meter.reserve(tokens)
        with self._lock:
            self._reserved += tokens
        return tasks

    def _pictures(self, chunk: list[tuple[int, Any]]) -> list[Task]:
        return [Task(self._caller, index, pixels=pixels) for index, pixels in chunk if pixels is not None]

    def _pixels(self, index: int, image: Image) -> NDArray[np.float32] | None:
        """Runs in a thread. None for a picture that was seen before or cannot be used."""
        config = self._config
        try:
            picture = images.open_image(image, config.image_policy)
            if config.image_resize in ("pad", "squash"):
                side = self._model.spec.image_size
                picture = images.fit(picture, config.image_resize, side, config.image_policy)
            pixels = preprocess(picture, self._model.preprocessing, max_pixels=config.image_policy.max_pixels)
        except InputError as error:
            self._job.fail(index, InputError(f"{self._job.name('image', index)}: {error}"))
            return None
        key = ("image", blake2b(pixels.tobytes(), digest_size=32).digest())
        return pixels if self._job.is_new(index, key) else None

    def _deliver(self, tasks: list[Task], rows: Vectors) -> None:
        """Cuts and normalises what the engine gives, and looks at it."""
        rows = rows[:, : self._width]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        sound = (np.isfinite(lengths) & (lengths > 0)).ravel()
        if self._config.normalized:
            rows = np.divide(rows, lengths, where=sound[:, None], out=np.zeros_like(rows))
        for task in (task for task, good in zip(tasks, sound, strict=True) if not good):
            self._job.fail(task.index, InputError(f"{self._job.name('item', task.index)}: {NO_VECTOR}"))
        if sound.any():
            self._job.answer([task.index for task, good in zip(tasks, sound, strict=True) if good], rows[sound])
        tokens = sum(task.length for task in tasks)
        self._free(tokens)
        self._meter.answered(int(sound.sum()), tokens)
        self._advance(len(tasks))

    def _free(self, tokens: int) -> None:
        """Ends a reservation, once: a late batch finds nothing left to free."""
        with self._lock:
            tokens = min(tokens, self._reserved)
            self._reserved -= tokens
        self._meter.release(tokens)

    def _fail(self, error: Exception) -> None:
        self._job.stop(error)

    def _advance(self, tasks: int) -> None:
        with self._lock:
            self._pending -= tasks
            if self._pending == 0 and not self.done.done():
                self.done.set_result(None)


NO_VECTOR = "the model gave no finite vector for it; float16 may be too narrow, use bfloat16 or float32"


def is_small(job: Job) -> bool:
    """Whether feeding a job takes no longer than handing it to a thread would."""
    plan = job.plan
    return plan.quick and sum(len(item.value) for item in plan.items if isinstance(item, Text)) <= INLINE_CHARACTERS
