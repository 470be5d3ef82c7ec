"""A loaded model, shared by everybody in the process who asks for the same one.

PyTorch is imported when a model is loaded, and not with this module.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jinaclip.backends.local.checkpoint_config import read_preprocessing
from jinaclip.backends.local.runner import Runner, find_text_fault
from jinaclip.backends.local.scheduler import Scheduler
from jinaclip.backends.local.source import FileState, Source
from jinaclip.backends.local.tokenizer import Tokenizer
from jinaclip.config import EmbedderConfig
from jinaclip.errors import CheckpointError, InputError
from jinaclip.process import run_apart
from jinaclip.specs import SPECS, ModelSpec

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

if importlib.util.find_spec("torch") is None:
    raise ModuleNotFoundError("PyTorch is not installed", name="torch")  # now, and not when the first item waits

logger = logging.getLogger("jinaclip")


class Model:
    """What embeds: a runner with its scheduler, tokenizer and preprocessing.

    Args:
        source: where the files are.
        files: their state.
        device, dtype: where and in what to compute.
        spec: facts of the model.

    Raises:
        CheckpointError: a file is missing, damaged, not what it claims to be, or changed while it was loaded.
    """

    def __init__(
        self,
        source: Source,
        files: tuple[FileState, ...],
        device: torch.device,
        dtype: torch.dtype,
        spec: ModelSpec,
    ) -> None:
        from jinaclip.backends.local.towers.loader import load_towers
        from jinaclip.backends.local.towers.runner import TorchRunner, self_test

        folder = files[0].path.parent
        self.pid = os.getpid()
        self.files = files
        self.spec = spec
        self.preprocessing = read_preprocessing(source, spec)
        self.runner = TorchRunner(load_towers(folder, device=device, dtype=dtype))
        self.tokenizer = Tokenizer(folder, vocab_size=self.runner.vocab_size, max_tokens=spec.max_tokens)
        if (spec.image_size, spec.dimensions) != (self.runner.image_size, self.runner.dimensions):
            raise CheckpointError(f"config.json of {folder} is not that of {spec.name}; fetch the checkpoint again")
        self_test(self.runner.towers, self_test_ids(self.tokenizer, self.runner), folder / "model.safetensors")
        if any(file.is_past for file in files):
            raise CheckpointError(f"files of {folder} were changed while they were loaded; load them again")
        self.scheduler = Scheduler(self.runner)
        self._turn = threading.Lock()
        published = next((s for s in SPECS.values() if s.weights_bytes == weights_bytes(folder)), None)
        if published is not None and not published.commercial:
            warn_about_licence(published)

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


def weights_bytes(folder: Path) -> int:
    """Size of the weights, by which the published files are known wherever they lie."""
    return (folder / "model.safetensors").stat().st_size


@functools.cache
def warn_about_licence(spec: ModelSpec) -> None:
    """Says once what the weights may be used for."""
    logger.warning(
        "the weights of %s are licensed %s: commercial use of them needs a licence from Jina", spec.name, spec.licence
    )


_models: weakref.WeakValueDictionary[tuple[Any, ...], Model] = weakref.WeakValueDictionary()
_load_lock = threading.Lock()


def shared_model(source: Source, config: EmbedderConfig, spec: ModelSpec) -> Model:
    """The model of this process for these weights, device and dtype; loaded once, freed when nobody holds it.

    Raises:
        ConfigError: no such device or dtype.
        CheckpointError: a file is missing, damaged, or not what it claims to be.
    """
    from jinaclip.backends.local.towers.loader import resolve_device, resolve_dtype

    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    files = source.files()
    states = tuple(file.facts for file in files)  # a link leads to the same files
    key = (os.getpid(), states, str(device), dtype)
    with _load_lock:  # one load at a time: two at once would only compete for the disk
        model = _models.get(key)
        if model is None:
            # apart: OpenMP keeps a team of threads for each thread that computed, and a forked child that inherits the
            # one of the forking thread would wait for its members for ever
            model = _models[key] = run_apart(Model, source, files, device, dtype, spec)
        return model


def _replace_lock() -> None:
    global _load_lock
    _load_lock = threading.Lock()  # another thread of the parent may have held it at the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_replace_lock)
