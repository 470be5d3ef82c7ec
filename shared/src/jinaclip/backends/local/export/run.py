"""From a checkpoint to a folder for ONNX Runtime, compared with the towers before anybody can use it."""

from __future__ import annotations

import gc
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from jinaclip.backends.local.checkpoint_config import read_preprocessing, read_spec
from jinaclip.backends.local.export.graphs import write_text, write_vision
from jinaclip.backends.local.export.quantize import quantize
from jinaclip.backends.local.model import self_test_ids
from jinaclip.backends.local.onnx_folder import (
    TEXT_GRAPH,
    VISION_GRAPH,
    Answers,
    Manifest,
    Precision,
    probe_pixels,
)
from jinaclip.backends.local.onnx_runner import OnnxRunner, embed_probes, self_test, unit_distance
from jinaclip.backends.local.source import COPIED, EXPORT_FILES, MANIFEST, FileState, Source
from jinaclip.backends.local.tokenizer import Tokenizer
from jinaclip.backends.local.towers.loader import Towers, load_towers
from jinaclip.backends.local.towers.runner import TorchRunner
from jinaclip.backends.local.weights import find_weights
from jinaclip.errors import ConfigError, JinaClipError
from jinaclip.space import Weights

MOST_OFF = 1e-5
"""How far a number of a float32 graph may be from PyTorch's, in vectors of length 1."""
LEAST_COSINE = 0.9
"""Between an int8 graph and PyTorch: below that something is broken, and not only rounded."""
LENGTHS = (300, 5)
"""Tokens of two texts more, that are compared in one batch."""


@dataclass(frozen=True, slots=True)
class Probes:
    """What the towers are asked, and what they answered.

    Attributes:
        texts: token ids of two texts.
        ids, mask: (2, T), a batch of two texts of other lengths.
        text_vectors, image_vectors, batch_vectors: float32 (2, d).
    """

    texts: tuple[tuple[int, ...], ...]
    ids: NDArray[np.int64]
    mask: NDArray[np.int64]
    text_vectors: NDArray[np.float32]
    image_vectors: NDArray[np.float32]
    batch_vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Report:
    """What was exported.

    Attributes:
        folder: where it is.
        precision: of its weights.
        off: the largest difference of a number from PyTorch's, in vectors of length 1.
        cosine: the smallest between a vector and PyTorch's.
        bytes: of all files.
        seconds: that it took.
    """

    folder: Path
    precision: Precision
    off: float
    cosine: float
    bytes: int
    seconds: float

    def __str__(self) -> str:
        size = f"{self.bytes / 1e9:.2f} GB" if self.bytes >= 1e8 else f"{self.bytes / 1e6:.1f} MB"
        return (
            f"{self.folder}: {self.precision}, {size}, {self.seconds:.0f} s\n"
            f"beside PyTorch: at length 1 a number is off by {self.off:.1e} at most, the smallest cosine is "
            f"{self.cosine:.6f}"
        )


def export(model: str, out: str | os.PathLike[str], *, int8: bool = False, revision: str | None = None) -> Report:
    """Writes a folder that `JinaClip(out, backend="local")` runs without PyTorch.

    Args:
        model: a published model, a hub id or a folder, as `JinaClip` takes them.
        out: the folder to make; it must not exist, or be empty.
        int8: whether to round weights to eight bits, for less memory and more speed at some cost; another space.
        revision: of the model at the hub.

    Raises:
        ConfigError: `out` holds something, or `model` is an export itself.
        CheckpointError: the checkpoint is missing or damaged.
        JinaClipError: the graphs give other vectors than the towers; nothing is left in `out`.
    """
    begun = time.perf_counter()
    source, place = Source(model, revision), Path(out)
    check_places(source, place)
    with work_folder(place) as partial:
        probes, manifest = write_folder(source, partial, "int8" if int8 else "float32")
        runner = OnnxRunner(partial, manifest)
        off, cosine = compare(runner, probes, manifest.precision)
        self_test(runner, manifest, partial)
        del runner
    size = sum((place / name).stat().st_size for name in EXPORT_FILES)
    return Report(place, manifest.precision, off, cosine, size, time.perf_counter() - begun)


def check_places(source: Source, out: Path) -> None:
    """Raises ConfigError where nothing can be exported to, or from."""
    if source.is_export:
        raise ConfigError(f"{source.model} is an export already; name the checkpoint that it was made from")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} holds something already; name a new folder")


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when all went well, and is gone otherwise."""
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_folder(source: Source, folder: Path, precision: Precision) -> tuple[Probes, Manifest]:
    """Writes all files; gives what the towers answered, for comparison."""
    files = source.files()
    spec = read_spec(source)
    read_preprocessing(source, spec)
    weights = find_weights(source, files)
    for name in COPIED:
        shutil.copyfile(source.file(name), folder / name)
    towers = load_towers(files[0].path.parent, dtype="float32", pack=False)
    tokenizer = Tokenizer(folder, vocab_size=towers.vocab_size, max_tokens=spec.max_tokens)
    probes = ask_towers(towers, self_test_ids(tokenizer, TorchRunner(towers)))
    write_text(towers, folder / TEXT_GRAPH)
    write_vision(towers, folder / VISION_GRAPH)
    manifest = describe(towers, weights, probes, precision)
    del towers
    gc.collect()
    if precision == "int8":
        for name in (TEXT_GRAPH, VISION_GRAPH):
            quantize(folder / name)
            gc.collect()
    return probes, complete(manifest, folder)


def ask_towers(towers: Towers, texts: list[list[int]]) -> Probes:
    """What the towers say to two texts, a batch of two others, and two pictures."""
    usable = [i for i in range(min(towers.vocab_size, 1000)) if i != towers.pad_id]
    ids = np.full((len(LENGTHS), max(LENGTHS)), towers.pad_id, np.int64)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = [usable[(7 * place + row) % len(usable)] for place in range(length)]
    mask = (ids != towers.pad_id).astype(np.int64)
    runner = TorchRunner(towers)
    alone = [np.array([text], np.int64) for text in texts]
    return Probes(
        texts=tuple(map(tuple, texts)),
        ids=ids,
        mask=mask,
        text_vectors=np.concatenate([runner.text(one, np.ones_like(one)) for one in alone]),
        image_vectors=runner.images(probe_pixels(towers.image_size)),
        batch_vectors=runner.text(ids, mask),
    )


def describe(towers: Towers, weights: Weights, probes: Probes, precision: Precision) -> Manifest:
    """The manifest, without the files; its answers are those of the towers."""
    return Manifest(
        precision=precision,
        source=weights,
        dimensions=towers.dimensions,
        image_size=towers.image_size,
        vocab_size=towers.vocab_size,
        pad_id=towers.pad_id,
        logit_scale=towers.logit_scale,
        files={},
        answers=Answers(probes.texts, probes.text_vectors, probes.image_vectors),
    )


def complete(manifest: Manifest, folder: Path) -> Manifest:
    """The manifest with its files, written; answers of int8 graphs are their own, for nothing else is as near."""
    names = [name for name in EXPORT_FILES if name != MANIFEST]
    manifest = replace(manifest, files={name: FileState.now(folder / name).digest() for name in names})
    if manifest.precision == "int8":
        texts, pictures = embed_probes(OnnxRunner(folder, manifest), manifest.answers.texts)
        manifest = replace(manifest, answers=Answers(manifest.answers.texts, texts, pictures))
    manifest.write(folder)
    return manifest


def compare(runner: OnnxRunner, probes: Probes, precision: Precision) -> tuple[float, float]:
    """The largest difference of a number at length 1 between graphs and towers, and the smallest cosine.

    Raises:
        JinaClipError: they are too far apart.
    """
    texts, pictures = embed_probes(runner, probes.texts)
    found = np.concatenate([texts, pictures, runner.text(probes.ids, probes.mask)])
    wanted = np.concatenate([probes.text_vectors, probes.image_vectors, probes.batch_vectors])
    off, cosine = unit_distance(found, wanted), least_cosine(found, wanted)
    if not (off <= MOST_OFF if precision == "float32" else cosine >= LEAST_COSINE):
        raise JinaClipError(
            f"the exported graphs give other vectors than the towers (at length 1 a number is off by {off:.1e}, the "
            f"smallest cosine is {cosine:.4f}) with torch {torch.__version__}; nothing was written. Try another torch"
        )
    return off, cosine


def least_cosine(rows: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """The smallest cosine between rows of two arrays (n, d)."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, wanted))
    return float((a * b).sum(axis=1).min())
