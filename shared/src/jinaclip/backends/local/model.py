"""A loaded model, shared by everybody in the process who asks for the same one."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from jinaclip.backends.local.preprocess import PreprocessConfig
from jinaclip.backends.local.scheduler import Engine
from jinaclip.backends.local.source import FILES, Source, file_digest
from jinaclip.backends.local.tokenizer import Tokenizer
from jinaclip.backends.local.towers.checkpoint import Towers, load_towers, resolve_device, resolve_dtype
from jinaclip.backends.local.towers.layers import take
from jinaclip.backends.local.towers.weights import read_json
from jinaclip.config import EmbedderConfig
from jinaclip.errors import CheckpointError
from jinaclip.specs import JINA_CLIP_V1, JINA_CLIP_V2, SPECS, ModelSpec

logger = logging.getLogger("jinaclip")
T = TypeVar("T")

FAMILIES = {
    "jinaai/jina-bert-flash-implementation": JINA_CLIP_V1,
    "jinaai/jina-embeddings-v3": JINA_CLIP_V2,
}
"""The published model that a checkpoint is a variant of, by the base of its text tower."""


GLANCE = 17
"""Tokens of a picture that the self-test looks at."""


class Model:
    """Towers with their engine, tokenizer and preprocessing."""

    def __init__(self, source: Source, device: torch.device, dtype: torch.dtype, spec: ModelSpec) -> None:
        folder = source.fetch()
        self.pid = os.getpid()
        self.spec = spec
        self.towers = load_towers(folder, device=device, dtype=dtype)
        self.tokenizer = Tokenizer(folder, vocab_size=self.towers.vocab_size, max_tokens=spec.max_tokens)
        self.preprocessing = read_preprocessing(source, spec)
        self_test(self.towers, self.tokenizer, folder / "model.safetensors")
        self.engine = Engine(self.towers)
        published = next((s for s in SPECS.values() if s.weights_bytes == weights_bytes(folder)), None)
        if published is not None and not published.commercial:
            tell_licence(published)


def weights_bytes(folder: Path) -> int:
    """Size of the weights, by which the published files are known wherever they lie."""
    return (folder / "model.safetensors").stat().st_size


@functools.cache
def tell_licence(spec: ModelSpec) -> None:
    """Says once what the weights may be used for."""
    logger.warning(
        "the weights of %s are licensed %s: commercial use of them needs a licence from Jina", spec.name, spec.licence
    )


_models: weakref.WeakValueDictionary[tuple[Any, ...], Model] = weakref.WeakValueDictionary()
_loading = threading.Lock()


def shared_model(source: Source, config: EmbedderConfig, spec: ModelSpec) -> Model:
    """The model of this process for these weights, device and dtype; loaded once, freed when nobody holds it."""
    device = resolve_device(config.device)
    dtype = resolve_dtype(config.dtype, device)
    weights = source.fetch() / "model.safetensors"
    with _loading:  # one load at a time: two at once would only compete for the disk
        try:
            path, changed = os.path.realpath(weights), weights.stat().st_mtime_ns
        except OSError:
            path, changed = str(weights), 0  # the loader says what is wrong with it
        key = (os.getpid(), path, changed, str(device), dtype)
        model = _models.get(key)
        if model is None:
            model = _models[key] = in_fresh_thread(lambda: Model(source, device, dtype, spec))
        return model


def in_fresh_thread(build: Callable[[], T]) -> T:
    """Runs a function in a thread of its own and waits for it.

    OpenMP keeps a team of threads for each thread that computed. A forked child inherits the one of the forking thread
    without its members, and would wait for them for ever.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(build())
        except BaseException as error:  # noqa: BLE001  raised again below
            outcome.set_exception(error)

    thread = threading.Thread(target=run, name="jinaclip-load", daemon=True)
    thread.start()
    return outcome.result()


def _renew_lock() -> None:
    global _loading
    _loading = threading.Lock()  # another thread of the parent may have held it at the fork


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def read_spec(source: Source) -> ModelSpec:
    """Facts of a model: of a published one as published, of another from its config.json.

    Raises:
        CheckpointError: there is no config.json, or it is not of this architecture.
    """
    if source.folder is None and source.name in SPECS:
        return SPECS[source.name]
    config = read_json(source.file("config.json"))
    text, vision = take(config, "", "text_config", dict), take(config, "", "vision_config", dict)
    family = FAMILIES.get(text.get("hf_model_name_or_path", ""))
    if family is None:
        raise CheckpointError(
            f"config.json of {source.model} names no text tower of jina-clip; is it a checkpoint of that architecture?"
        )
    projected = bool(config.get("add_projections"))
    width = take(config, "", "projection_dim", int) if projected else take(text, "text_config", "embed_dim", int)
    trained = tuple(config.get("matryoshka_dimensions") or (width,))
    overrides = take(text, "text_config", "hf_model_config_kwargs", dict, {})
    instruction = take(overrides, "hf_model_config_kwargs", "task_instructions", dict, {}).get("retrieval.query", "")
    if not isinstance(instruction, str):
        raise CheckpointError(f"config.json of {source.model}: the instruction of retrieval.query is no text")
    return dataclasses.replace(
        family,
        name=source.name,
        hub_id="" if source.folder else source.hub_id,
        revision=source.revision or "",
        sha256="",
        weights_bytes=0,
        licence="see its model card",
        commercial=True,
        dimensions=width,
        min_dimensions=1 if len(trained) > 1 else width,
        useful_dimensions=min(trained),
        matryoshka=trained,
        image_size=take(vision, "vision_config", "image_size", int),
        query_instruction=instruction,
    )


def read_preprocessing(source: Source, spec: ModelSpec) -> PreprocessConfig:
    """The preprocessor_config.json, which must agree with the tower about the size of a picture."""
    preprocessing = PreprocessConfig.of(read_json(source.file("preprocessor_config.json")))
    if preprocessing.size != spec.image_size:
        raise CheckpointError(
            f"preprocessor_config.json of {source.model} makes pictures of {preprocessing.size} pixels, "
            f"the vision tower takes {spec.image_size}"
        )
    return preprocessing


def identity(source: Source, config: EmbedderConfig) -> dict[str, Any]:
    """What decides the vectors beside the options: weights, tokenizer, preprocessing, dtype."""
    folder = source.fetch()
    dtype = resolve_dtype(config.dtype, resolve_device(config.device))
    files = {name: file_digest(folder / name) for name in FILES}
    return {"files": files, "dtype": str(dtype), "revision": source.pinned_revision}


def self_test(towers: Towers, tokenizer: Tokenizer, weights: Path) -> None:
    """Two texts and two pictures must give different, finite vectors that are not zero.

    Raises:
        CheckpointError: they do not; the weights are not those of a trained model, or the dtype is too narrow.
    """
    texts = [ids for ids in tokenizer.encode(["a", "two words, and more"], truncate=True) if isinstance(ids, list)]
    size = towers.image_size
    stripes = np.broadcast_to(np.arange(size) % 7 / 7, (3, size, size))
    pictures = np.stack([np.zeros((3, size, size)), stripes]).astype(np.float32)
    vectors = {
        "texts": torch.cat([towers.text(torch.tensor([ids])) for ids in texts]),
        "pictures": towers.vision(torch.from_numpy(pictures), tokens=GLANCE),  # all of two would take v2 ten seconds
    }
    for kind, rows in vectors.items():
        lengths = rows.float().norm(dim=1)
        if not torch.isfinite(lengths).all() or not (lengths > 0).all() or torch.equal(rows[0], rows[1]):
            raise CheckpointError(
                f"{weights}: two different {kind} do not give two different, finite vectors; it is damaged, or "
                f"{towers.dtype} is too narrow for it"
            )
