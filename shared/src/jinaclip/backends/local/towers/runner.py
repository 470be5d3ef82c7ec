"""The towers in PyTorch behind the Runner protocol, and their test before anybody uses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jinaclip.backends.local.runner import Rows
from jinaclip.backends.local.towers.loader import Towers
from jinaclip.errors import CheckpointError
from jinaclip.requirements import missing_dependency

T = TypeVar("T")
BATCH_TOKENS = {"cpu": 2048}
"""Padded tokens in one batch: on a CPU enough to keep the matrix units busy, elsewhere far more."""
OTHER_BATCH_TOKENS = 65_536
PASS_TOKENS = {"cpu": 18}
"""What reading the weights takes, in tokens: on two cores 35 ms beside 1.9 ms for each token of jina-clip-v1. Elsewhere
tokens cost next to nothing while there are few."""
OTHER_PASS_TOKENS = 2048
BATCH_IMAGES = {"cpu": 4}
"""Images in one batch on a CPU; elsewhere as many as have the tokens of a batch of texts, and some at least."""
LEAST_BATCH_IMAGES = 32
OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "bad_alloc",
    "out of memory",  # MPS, oneDNN
    "Cannot allocate memory",
    "ALLOC_FAILED",  # cuBLAS, cuDNN
)
"""What the messages of a RuntimeError say where memory ends."""
SELF_TEST_TOKENS = 17
"""Tokens of an image that the self-test computes: a whole one would take the large model ten seconds on a CPU."""


class TorchRunner:
    """A `Runner` over loaded towers.

    Args:
        towers: what computes.
        threads: of a CPU to compute with; None for as many as PyTorch takes by itself.
        name: of the device, for messages; None is its own.

    Attributes:
        towers: what computes.
        dimensions, image_size, vocab_size, pad_id, logit_scale: facts of the model.
        device: name of the device.
        max_batch_tokens, max_batch_images: what one pass on this device should hold at most.
        pass_tokens: tokens that take as long there as a pass beside its tokens.
        limit: makes the context of a pass, in which the thread that runs it has so many threads.

    Raises:
        MissingDependencyError: threads are given, and threadpoolctl is not installed.
    """

    limit: Callable[[], AbstractContextManager[Any]]

    def __init__(self, towers: Towers, threads: int | None = None, name: str | None = None) -> None:
        self.towers = towers
        self.limit = nullcontext if threads is None else limit_threads(threads)
        self.dimensions, self.image_size = towers.dimensions, towers.image_size
        self.vocab_size, self.pad_id, self.logit_scale = towers.vocab_size, towers.pad_id, towers.logit_scale
        self.device = name or str(towers.device)
        self.max_batch_tokens = BATCH_TOKENS.get(towers.device.type, OTHER_BATCH_TOKENS)
        self.pass_tokens = PASS_TOKENS.get(towers.device.type, OTHER_PASS_TOKENS)
        images = max(LEAST_BATCH_IMAGES, OTHER_BATCH_TOKENS // towers.assembly.vision.config.tokens)
        self.max_batch_images = BATCH_IMAGES.get(towers.device.type, images)

    def text(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Rows:
        """(B, T) ids and mask -> (B, d).

        Raises:
            MemoryError: the device has no room for the batch.
        """
        with self.limit():
            return run(lambda: rows_of(self.towers.text(torch.from_numpy(ids), torch.from_numpy(mask))))

    def images(self, pixels: NDArray[np.float32]) -> Rows:
        """(B, 3, S, S) pixels -> (B, d).

        Raises:
            MemoryError: the device has no room for the batch.
        """
        with self.limit():
            return run(lambda: rows_of(self.towers.vision(torch.from_numpy(pixels))))


def limit_threads(threads: int) -> Callable[[], AbstractContextManager[Any]]:
    """Makes contexts in which what this thread computes has so many threads, and other threads as many as before.

    `torch.set_num_threads` would change the number for the whole process. OpenMP, which computes for PyTorch, keeps one
    for each thread.

    Raises:
        MissingDependencyError: threadpoolctl is not installed.
    """
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        raise missing_dependency("threads=...", "threadpoolctl", "local") from None
    libraries = ThreadpoolController()
    return lambda: libraries.limit(limits=threads, user_api="openmp")


def rows_of(vectors: Tensor) -> Rows:
    """(B, d) vectors of a pass as a float32 array; waits for them."""
    return vectors.float().cpu().numpy()


def run(compute: Callable[[], T]) -> T:
    """What a pass computes.

    Raises:
        MemoryError: the device has no room. It does not refer to torch's own error, whose traceback would keep the
            tensors of the failed pass alive while a smaller one is tried.
    """
    try:
        return compute()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        message = str(error)
    raise MemoryError(message)


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error of torch means that memory ended; only that of CUDA's allocator has a class of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY)


def self_test(towers: Towers, texts: Sequence[Sequence[int]], weights: Path) -> None:
    """Two texts and two images must give different, finite vectors that are not zero.

    Args:
        towers: to be tested.
        texts: token ids of two different texts.
        weights: file that the towers were loaded from, for the message.

    Raises:
        CheckpointError: they do not; the weights are not those of a trained model, or the dtype is too narrow.
    """
    size = towers.image_size
    pixels = np.zeros((2, 3, size, size), np.float32)
    pixels[1] = np.arange(size) % 7 / 7
    vectors = {
        "texts": torch.cat([towers.text(torch.tensor([list(ids)])) for ids in texts]),
        "images": towers.vision(torch.from_numpy(pixels), tokens=SELF_TEST_TOKENS),
    }
    for kind, rows in vectors.items():
        lengths = rows.float().norm(dim=1)
        if not torch.isfinite(lengths).all() or not (lengths > 0).all() or torch.equal(rows[0], rows[1]):
            raise CheckpointError(
                f"{weights}: two different {kind} do not give two different, finite vectors; it is damaged, or "
                f"{towers.dtype} is too narrow for it"
            )
