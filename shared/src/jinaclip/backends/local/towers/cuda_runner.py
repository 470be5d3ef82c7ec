"""The towers on a GPU: passes are queued there, while the next batch is gathered and sent."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jinaclip.backends.local.runner import Rows
from jinaclip.backends.local.towers.loader import Towers
from jinaclip.backends.local.towers.runner import TorchRunner, run


def make_runner(
    towers: Towers, values: NDArray[np.float32], threads: int | None = None, name: str | None = None
) -> TorchRunner:
    """The runner for loaded towers, as their device wants it.

    Args:
        towers: what computes.
        values: (3, 256), what each byte of each channel becomes.
        threads: of a CPU to compute with; None for as many as PyTorch takes by itself.
        name: of the device, for messages; None is its own.
    """
    is_cuda = towers.device.type == "cuda"
    return CudaRunner(towers, values, name) if is_cuda else TorchRunner(towers, threads, name)


class CudaRunner(TorchRunner):
    """An `AsyncRunner` over loaded towers.

    Inputs lie in pinned memory and go over a stream of their own, so that sending a batch of images takes no time from
    the pass before it. On a CPU, where tests run it, nothing is pinned and each pass ends as it begins.

    Args:
        towers: what computes.
        values: (3, 256), what each byte of each channel becomes.
        name: of the device, for messages; None is its own.
    """

    def __init__(self, towers: Towers, values: NDArray[np.float32], name: str | None = None) -> None:
        super().__init__(towers, name=name)
        self._is_cuda = towers.device.type == "cuda"
        self._values = torch.tensor(values, device=towers.device, dtype=towers.dtype)
        self._copies = make_stream(towers.device) if self._is_cuda else None

    def text(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Rows:
        """As `Runner.text`."""
        return self.begin_text(ids, mask)()

    def begin_text(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> Callable[[], Rows]:
        """As `AsyncRunner.begin_text`."""
        return run(lambda: self._begin(lambda: self.towers.text(self._pin(ids), self._pin(mask))))

    def begin_images(self, pixels: NDArray[np.uint8]) -> Callable[[], Rows]:
        """As `AsyncRunner.begin_images`."""
        return run(lambda: self._begin(lambda: self.towers.vision(self.normalise(self._send(pixels)))))

    def normalise(self, pixels: Tensor) -> Tensor:
        """(B, S, S, 3) bytes on the device -> (B, 3, S, S) in the towers' dtype, with the CPU's numbers to the bit."""
        channels = [self._values[channel][pixels[..., channel].int()] for channel in range(3)]
        return torch.stack(channels, dim=1)

    def _begin(self, forward: Callable[[], Tensor]) -> Callable[[], Rows]:
        with self._device(), torch.inference_mode():
            rows = forward().float()
            return self._fetch(rows) if self._is_cuda else rows.numpy

    def _device(self) -> AbstractContextManager[object]:
        """Makes this the current device of the thread, where streams and events belong to one."""
        return torch.cuda.device(self.towers.device) if self._is_cuda else nullcontext()

    def _pin(self, array: NDArray[np.int64] | NDArray[np.uint8]) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self._is_cuda else tensor

    def _send(self, pixels: NDArray[np.uint8]) -> Tensor:
        """The pixels on the device, once what is queued from here on runs."""
        pinned = self._pin(pixels)
        if self._copies is None:
            return pinned
        with torch.cuda.stream(self._copies):
            sent = pinned.to(self.towers.device, non_blocking=True)
        stream = torch.cuda.current_stream()
        stream.wait_stream(self._copies)
        sent.record_stream(stream)  # its memory is free again once that stream has read it
        return sent

    def _fetch(self, rows: Tensor) -> Callable[[], Rows]:
        """Queues the copy of vectors to this side; gives what waits for it."""
        host = torch.empty(rows.shape, dtype=rows.dtype, pin_memory=True)
        host.copy_(rows, non_blocking=True)
        done = make_event()
        done.record()

        def finish() -> Rows:
            done.synchronize()
            return host.numpy().copy()

        return lambda: run(finish)


def make_stream(device: torch.device) -> torch.cuda.Stream:
    """A queue of work on a device, beside the usual one."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def make_event() -> torch.cuda.Event:
    """A mark in a queue of work; who waits for it leaves the core to threads that decode."""
    return torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
