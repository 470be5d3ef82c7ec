"""What a tower has to do, counted by torch on tensors without storage, and what the machine can do at most."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from jinaclip.backends.local.towers.assembly import Assembly
from jinaclip.backends.local.towers.layers import ValidTokens

Shapes = Counter[tuple[int, int, int]]
"""(rows, in, out) of the linear layers a pass goes through, and how often."""


class Bill:
    """FLOPs of passes through the towers of a checkpoint, and the shapes of their matrix products."""

    def __init__(self, folder: Path) -> None:
        with torch.device("meta"):
            self.assembly = Assembly(json.loads((folder / "config.json").read_text())).eval().to("meta")
            self.assembly.vision.build_tables()

    def pictures(self, count: int) -> tuple[int, Shapes]:
        """One pass over so many pictures."""
        side = self.assembly.vision.config.image_size
        return self._count(lambda: self.assembly.vision.run(torch.empty(count, 3, side, side, device="meta")))

    def texts(self, count: int, tokens: int) -> tuple[int, Shapes]:
        """One pass over so many texts of so many tokens each."""
        ids = torch.zeros(count, tokens, dtype=torch.long, device="meta")
        valid = ValidTokens(ids == 0, (tokens,) * count, (False,) * count)
        return self._count(lambda: self.assembly.text.encode(ids, valid))

    def _count(self, run: Callable[[], object]) -> tuple[int, Shapes]:
        shapes: Shapes = Counter()

        def note(layer: nn.Module, inputs: tuple[torch.Tensor, ...], _out: object) -> None:
            shapes[inputs[0].numel() // layer.in_features, layer.in_features, layer.out_features] += 1

        layers = [layer for layer in self.assembly.modules() if isinstance(layer, nn.Linear)]
        hooks = [layer.register_forward_hook(note) for layer in layers]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            run()
        for hook in hooks:
            hook.remove()
        return counter.get_total_flops(), shapes


def peak(shapes: Shapes, device: str, *, tries: int = 8) -> float:
    """FLOP/s of the machine at these matrix products, each in the fastest way and the best of several tries.

    On a CPU in float32, on CUDA in bfloat16. The ways: F.linear, torch.mm, and on a CPU oneDNN with packed weights.
    """
    with torch.inference_mode():
        seconds = sum(count * fastest(shape, device, tries) for shape, count in shapes.items())
    return sum(count * 2 * rows * width * out for (rows, width, out), count in shapes.items()) / seconds


def fastest(shape: tuple[int, int, int], device: str, tries: int) -> float:
    """Seconds of one product."""
    rows, width, out = shape
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    x = torch.randn(rows, width, device=device, dtype=dtype)
    weight = torch.randn(out, width, device=device, dtype=dtype)
    turned = weight.t().contiguous()
    ways: list[Callable[[], object]] = [lambda: F.linear(x, weight), lambda: torch.mm(x, turned)]
    if device == "cpu" and torch.backends.mkldnn.is_available():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], ""))
    repeat = 20 if device == "cuda" else 1
    return min(seconds(way, device, repeat) for way in ways for _ in range(tries))


def seconds(run: Callable[[], object], device: str, repeat: int = 1) -> float:
    """Seconds of one run."""
    wait(device)
    start = time.perf_counter()
    for _ in range(repeat):
        run()
    wait(device)
    return (time.perf_counter() - start) / repeat


def wait(device: str) -> None:
    """Until the device has done all it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
