"""A loaded model, shared by everybody in the process who asks for the same one.

The engine's library is imported when a model is loaded, and not with this module.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from jinaclip.backends.local.checkpoint_config import read_preprocessing
from jinaclip.backends.local.engines import Engine, choose_engine
from jinaclip.backends.local.onnx_folder import read_manifest
from jinaclip.backends.local.preprocess import byte_values, to_floats
from jinaclip.backends.local.runner import Runner, find_text_fault, pixels_of
from jinaclip.backends.local.scheduler import TEXT_TOKENS, Scheduler
from jinaclip.backends.local.source import MANIFEST, FileState, Source
from jinaclip.backends.local.tokenizer import Tokenizer
from jinaclip.config import EmbedderConfig
from jinaclip.errors import CheckpointError, InputError
from jinaclip.process import run_apart
from jinaclip.specs import SPECS, ModelSpec

T = TypeVar("T")
BATCH_SIZE = 64
"""Items that one pass may hold at least."""

logger = logging.getLogger("jinaclip")


class Model:
    """What embeds: a runner with its scheduler, tokenizer and preprocessing.

    Args:
        source: where the files are.
        files: their state.
        engine: what computes.
        spec: facts of the model.

    Raises:
        CheckpointError: a file is missing, damaged, not what it claims to be, or changed while it was loaded.
    """

    def __init__(self, source: Source, files: tuple[FileState, ...], engine: Engine, spec: ModelSpec) -> None:
        folder = files[0].path.parent
        self.pid = os.getpid()
        self.files = files
        self.spec = spec
        self.preprocessing = read_preprocessing(source, spec)
        self.runners = engine.load(files, byte_values(self.preprocessing))
        self.runner = self.runners[0]
        self.tokenizer = Tokenizer(folder, vocab_size=self.runner.vocab_size, max_tokens=spec.max_tokens)
        if (spec.image_size, spec.dimensions) != (self.runner.image_size, self.runner.dimensions):
            raise CheckpointError(f"config.json of {folder} is not that of {spec.name}; fetch the checkpoint again")
        for runner in self.runners:
            engine.test(runner, self_test_ids(self.tokenizer, self.runner), folder)
        if any(file.is_past for file in files):
            raise CheckpointError(f"files of {folder} were changed while they were loaded; load them again")
        self.scheduler = Scheduler(self.runners)
        self._takes_bytes = pixels_of(self.runner)[1] is np.uint8
        self._turn = threading.Lock()
        published = find_published(files)
        if published is not None and not published.commercial:
            warn_about_licence(published)

    @property
    def batch_size(self) -> int:
        """Most items in one pass, unless an option says otherwise: of short texts a GPU takes many."""
        return max(BATCH_SIZE, self.runner.max_batch_tokens // TEXT_TOKENS)

    def pixels(self, square: NDArray[np.uint8]) -> NDArray[np.float32 | np.uint8]:
        """(S, S, 3) bytes of an image as the runners take them: (3, S, S) float32, or as they are."""
        return square if self._takes_bytes else to_floats(square, self.preprocessing)

    def take_turns(self, encode: Callable[[], T]) -> T:
        """What the function gives, while no other of them runs.

        For the tokenizer, which spreads many texts over the cores by itself: several at once only take more memory.
        Call it in a thread of ours.
        """
        with self._turn:
            return encode()


def self_test_ids(tokenizer: Tokenizer, runner: Runner) -> list[list[int]]:
    """Token ids of two different texts.

    Raises:
        CheckpointError: the tokenizer gives none that the model can embed.
    """
    found = []
    for ids in tokenizer.encode(["a", "two words, and more"], truncate=True):
        fault = str(ids) if isinstance(ids, InputError) else find_text_fault(ids, runner)
        if fault is not None or isinstance(ids, InputError):
            raise CheckpointError(f"tokenizer.json fails on a plain text: {fault}; fetch the checkpoint again")
        found.append(ids)
    return found


def find_published(files: tuple[FileState, ...]) -> ModelSpec | None:
    """The published model whose weights these files hold, by their size, or by what an export was made from."""
    if files[0].path.name == MANIFEST:
        sha256 = read_manifest(files[0].path.parent).source.facts.get("weights")
        return next((spec for spec in SPECS.values() if spec.sha256 == sha256), None)
    size = files[-1].path.stat().st_size
    return next((spec for spec in SPECS.values() if spec.weights_bytes == size), None)


@functools.cache
def warn_about_licence(spec: ModelSpec) -> None:
    """Says once what the weights may be used for."""
    logger.warning(
        "the weights of %s are licensed %s: commercial use of them needs a licence from Jina", spec.name, spec.licence
    )


_models: weakref.WeakValueDictionary[tuple[Any, ...], Model] = weakref.WeakValueDictionary()
_load_lock = threading.Lock()


def shared_model(source: Source, config: EmbedderConfig, spec: ModelSpec) -> Model:
    """The model of this process for these weights and this engine; loaded once, freed when nobody holds it.

    Raises:
        ConfigError: no such device or dtype, or the engine does not run this model.
        CheckpointError: a file is missing, damaged, or not what it claims to be.
        MissingDependencyError: the engine's library is not installed.
    """
    engine = choose_engine(source, config)
    files = source.files()
    states = tuple(file.facts for file in files)  # a link leads to the same files
    key = (os.getpid(), states, engine.key)
    with _load_lock:  # one load at a time: two at once would only compete for the disk
        model = _models.get(key)
        if model is None:
            # apart: OpenMP keeps a team of threads for each thread that computed, and a forked child that inherits the
            # one of the forking thread would wait for its members for ever
            model = _models[key] = run_apart(Model, source, files, engine, spec)
        return model


def _replace_lock() -> None:
    global _load_lock
    _load_lock = threading.Lock()  # another thread of the parent may have held it at the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_lock)
