"""The border between what schedules and what computes: numpy in, numpy out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.float32]
"""(B, d) vectors."""
PixelForm: TypeAlias = "tuple[tuple[int, int, int], type[np.float32 | np.uint8]]"
"""Shape and type of the pixels of an image."""


class Runner(Protocol):
    """A loaded model on one device, whichever library computes. It is called by one thread at a time.

    Both methods give vectors as the model makes them: float32 of full width, not normalised.
    """

    @property
    def dimensions(self) -> int:
        """Width of the vectors."""

    @property
    def image_size(self) -> int:
        """Side S of the square image that the model takes, in pixels."""

    @property
    def vocab_size(self) -> int:
        """Token ids lie below this."""

    @property
    def pad_id(self) -> int:
        """The token id that fills up short texts."""

    @property
    def logit_scale(self) -> float:
        """As the checkpoint holds it; logits are exp(logit_scale) times the cosine."""

    @property
    def device(self) -> str:
        """Where it computes, for messages: "cpu", "cuda:0"."""

    @property
    def max_batch_tokens(self) -> int:
        """Most tokens in one batch of texts, padding included; a single text may have more."""

    @property
    def pass_tokens(self) -> int:
        """Tokens that take as long as what every pass takes beside them: so much padding is worth a pass less."""

    @property
    def max_batch_images(self) -> int:
        """Most images in one batch."""

    def text(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of texts.

        Args:
            ids: (B, T) token ids, short rows filled up with `pad_id`.
            mask: (B, T), 1 for a token and 0 for padding.

        Returns:
            (B, d), rows in the order of the input.

        Raises:
            MemoryError: the device has no room for the batch; a smaller one may fit.
        """

    def images(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors of images.

        Args:
            pixels: (B, 3, S, S), as `preprocess` makes them.

        Returns:
            (B, d), rows in the order of the input.

        Raises:
            MemoryError: the device has no room for the batch; a smaller one may fit.
        """


@runtime_checkable
class AsyncRunner(Runner, Protocol):
    """A runner on a device with memory and a queue of its own, such as a GPU.

    A pass is queued there, and the caller goes on and waits for the vectors later. Passes end in the order in which
    they began. Images go there as bytes, a quarter of what float32 takes.
    """

    def begin_text(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Callable[[], Rows]:
        """Queues the pass of `text`.

        Returns:
            A function that waits for the vectors and gives them. It may raise what `text` raises, and may run in
            another thread while the next pass is begun.

        Raises:
            MemoryError: the device has no room for the batch; a smaller one may fit.
        """

    def begin_images(self, pixels: NDArray[np.uint8]) -> Callable[[], Rows]:
        """Queues a pass over images.

        Args:
            pixels: (B, S, S, 3) bytes, RGB, resized as the checkpoint says. They are normalised on the device.

        Returns:
            A function that waits for the vectors and gives them. It may raise what `images` raises.

        Raises:
            MemoryError: the device has no room for the batch; a smaller one may fit.
        """


def find_text_fault(ids: Sequence[int], runner: Runner) -> str | None:
    """Why no runner can embed these token ids; None if it can."""
    if not ids:
        return "the tokenizer finds no token in it"
    if min(ids) < 0 or max(ids) >= runner.vocab_size:
        return f"it has a token id outside 0..{runner.vocab_size - 1}; the tokenizer belongs to another checkpoint"
    if {*ids} == {runner.pad_id}:
        return "it is nothing but padding to the tokenizer"
    return None


def find_image_fault(pixels: NDArray[np.float32 | np.uint8], wanted: PixelForm) -> str | None:
    """Why no runner can embed these pixels; None if it can."""
    shape, dtype = wanted
    if pixels.shape != shape or pixels.dtype != dtype:
        return f"its pixels are {pixels.dtype} {pixels.shape}, and the model takes {dtype.__name__} {shape}"
    if pixels.dtype != np.uint8 and not np.isfinite(pixels).all():
        return "its pixels are not all finite numbers"
    return None


def pixels_of(runner: Runner) -> PixelForm:
    """Shape and type in which an image goes to a runner: (S, S, 3) bytes, or (3, S, S) float32."""
    side = runner.image_size
    return ((side, side, 3), np.uint8) if isinstance(runner, AsyncRunner) else ((3, side, side), np.float32)
