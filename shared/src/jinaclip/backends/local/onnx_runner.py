"""Exported graphs in ONNX Runtime behind the Runner protocol, and their test before anybody uses them."""

from __future__ import annotations

import functools
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from jinaclip.backends.local.onnx_folder import (
    IMAGE_INPUT,
    OUTPUT,
    TEXT_GRAPH,
    TEXT_INPUTS,
    VISION_GRAPH,
    Manifest,
    probe_pixels,
)
from jinaclip.backends.local.onnx_graph import check_locations
from jinaclip.errors import CheckpointError
from jinaclip.process import available_cpus

BATCH_TOKENS, BATCH_IMAGES, PASS_TOKENS = 2048, 4, 18
"""As on PyTorch's CPU: tokens and images of one pass, and the tokens that a pass costs beside its own."""
ALONE = 1
"""In int8 an item has a pass of its own: activations are rounded by the largest of the whole pass, so an item's vector
would depend on what it was embedded with."""
LARGE_TEXTS = 4096
"""Numbers (tokens of a batch) from which on the memory of a pass is given back after it."""
TOLERANCE = {"float32": 1e-4, "int8": 0.05}
"""How far a known answer, at length 1, may be from what it was where it was made."""
VNNI = {"avx512_vnni", "avx_vnni", "avxvnni", "asimddp", "i8mm"}
"""Flags of processors that multiply int8 four at a time: x86 and ARM."""
UNSIGNED_WEIGHTS = "session.x64quantprecision"
"""Makes signed weights unsigned on x86: without VNNI, products with signed ones are added in 16 bits and overflow. With
VNNI it takes twice as long, for the same numbers."""
SLOW_FUSIONS = ["SkipLayerNormFusion"]
"""Optimisations that cost time: a sum and a normalisation in one take several times as long as one after the other."""
OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "Failed to allocate memory", "out of memory")

logger = logging.getLogger("jinaclip")


class OnnxRunner:
    """A `Runner` over the two graphs of an exported folder, on the CPU.

    Args:
        folder: of the export.
        manifest: what is known of it.
        threads: to compute with; None for as many as the process may use.

    Attributes:
        dimensions, image_size, vocab_size, pad_id, logit_scale: facts of the model.
        device: name of the device.
        max_batch_tokens, max_batch_images, pass_tokens: what one pass should hold at most.

    Raises:
        CheckpointError: a graph is damaged, or not one of ours.
    """

    def __init__(self, folder: Path, manifest: Manifest, threads: int | None = None) -> None:
        self.dimensions, self.image_size = manifest.dimensions, manifest.image_size
        self.vocab_size, self.pad_id, self.logit_scale = manifest.vocab_size, manifest.pad_id, manifest.logit_scale
        self.device = "cpu"
        alone = manifest.precision == "int8"
        self.max_batch_tokens = ALONE if alone else BATCH_TOKENS
        self.max_batch_images = ALONE if alone else BATCH_IMAGES
        self.pass_tokens = PASS_TOKENS
        size = manifest.image_size
        self._text = open_graph(folder / TEXT_GRAPH, dict.fromkeys(TEXT_INPUTS, ("int64", (None, None))), threads)
        self._vision = open_graph(folder / VISION_GRAPH, {IMAGE_INPUT: ("float", (None, 3, size, size))}, threads)

    def text(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, T) ids and mask -> (B, d).

        Raises:
            MemoryError: there is no room for the batch.
        """
        return run(self._text, dict(zip(TEXT_INPUTS, (ids, mask), strict=True)), shrink=ids.size >= LARGE_TEXTS)

    def images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, 3, S, S) pixels -> (B, d).

        Raises:
            MemoryError: there is no room for the batch.
        """
        return run(self._vision, {IMAGE_INPUT: pixels})


def open_graph(
    path: Path, inputs: dict[str, tuple[str, tuple[int | None, ...]]], threads: int | None
) -> onnxruntime.InferenceSession:
    """A graph ready to run.

    Args:
        path: of its file.
        inputs: type and shape of each input that it must have, None where a side is free.
        threads: to compute with; None for as many as the process may use.

    Raises:
        CheckpointError: it cannot be loaded, or takes or gives something else.
    """
    check_locations(path)
    try:
        session = onnxruntime.InferenceSession(
            str(path), session_options(threads), ["CPUExecutionProvider"], disabled_optimizers=SLOW_FUSIONS
        )
    except Exception as error:  # noqa: BLE001  the library has a class for each of its codes, none for all
        raise CheckpointError(f"{path} cannot be run ({str(error)[:200]}); export the checkpoint again") from None
    found = {one.name: (one.type, tuple(one.shape)) for one in session.get_inputs()}
    fits = found.keys() == inputs.keys() and all(fits_input(found[name], wanted) for name, wanted in inputs.items())
    outputs = [one.name for one in session.get_outputs()]
    if not fits or outputs != [OUTPUT]:
        raise CheckpointError(
            f"{path} takes {', '.join(sorted(found)) or 'nothing'} and gives {', '.join(outputs)}, as no graph does "
            "that `jinaclip export` writes; export the checkpoint again"
        )
    return session


def session_options(threads: int | None) -> onnxruntime.SessionOptions:
    """How a graph is run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and told once
    if not processor_flags() & VNNI:
        options.add_session_config_entry(UNSIGNED_WEIGHTS, "1")
    return options


def fits_input(found: tuple[str, tuple[Any, ...]], wanted: tuple[str, tuple[int | None, ...]]) -> bool:
    """Whether an input has the type and the shape that is wanted; a free side of it has a name."""
    kind, shape = wanted
    sides = [None if isinstance(side, str) else side for side in found[1]]
    return found[0] == f"tensor({kind})" and sides == list(shape)


def run(session: onnxruntime.InferenceSession, inputs: dict[str, Any], *, shrink: bool = False) -> NDArray[np.float32]:
    """The vectors of a pass.

    Args:
        session: of the graph.
        inputs: by name.
        shrink: whether to give the memory of the pass back, which is kept for the next one otherwise.

    Raises:
        MemoryError: there is no room.
    """
    options = onnxruntime.RunOptions()
    if shrink:
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    try:
        return np.asarray(session.run([OUTPUT], inputs, options)[0], np.float32)
    except Exception as error:
        if not isinstance(error, MemoryError) and not any(words in str(error) for words in OUT_OF_MEMORY):
            raise
        message = str(error)[:300]
    raise MemoryError(message)


def self_test(runner: OnnxRunner, manifest: Manifest, folder: Path) -> None:
    """Two texts and two pictures must give what they gave when the folder was made, and different vectors.

    Raises:
        CheckpointError: they do not; the files, or this ONNX Runtime, are not what they were.
    """
    answers = manifest.answers
    texts, pictures = embed_probes(runner, answers.texts)
    known = {"texts": (texts, answers.text_vectors), "pictures": (pictures, answers.image_vectors)}
    for kind, (rows, wanted) in known.items():
        lengths = np.linalg.norm(rows, axis=1)
        if not np.isfinite(lengths).all() or not (lengths > 0).all() or np.array_equal(*rows):
            raise CheckpointError(
                f"{folder}: two different {kind} do not give two different, finite vectors; export the checkpoint again"
            )
        distance = unit_distance(rows, wanted)
        if not distance <= TOLERANCE[manifest.precision]:
            raise CheckpointError(
                f"{folder}: known {kind} give other vectors than when it was exported (at length 1 a number is off by "
                f"{distance:.1e}); this onnxruntime {onnxruntime.__version__} may compute the graphs wrongly: export "
                "the checkpoint again with it, or install another version"
            )
    if manifest.precision == "int8":
        warn_without_vnni()


def embed_probes(
    runner: OnnxRunner, texts: tuple[tuple[int, ...], ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(2, d) vectors of two texts, and of two pictures, each in a pass of its own."""
    ids = [np.array([text], np.int64) for text in texts]
    rows = [runner.text(one, np.ones_like(one)) for one in ids]
    pixels = probe_pixels(runner.image_size)
    return np.concatenate(rows), np.concatenate([runner.images(pixels[:1]), runner.images(pixels[1:])])


def unit_distance(rows: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """The largest difference of a number between vectors (n, d), after both are brought to length 1."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows, wanted))
    return float(np.abs(a - b).max())


@functools.cache
def warn_without_vnni() -> None:
    """Says once that int8 gains little on this processor."""
    flags = processor_flags()
    if flags and not flags & VNNI:
        logger.warning(
            "this processor has no VNNI (int8 products in one instruction): int8 gains less speed here than with it; "
            "it takes a quarter of the memory all the same"
        )


def processor_flags(path: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What the processor can do, by Linux; empty where that cannot be told."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return set()
    wanted = (line.partition(":") for line in lines if line.startswith(("flags", "Features")))
    return {flag for _, _, flags in wanted for flag in flags.split()}
