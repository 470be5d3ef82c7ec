"""A text tower that keeps its adapters apart and adds them to the weights in every pass, as the published v2 does."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from jinaclip.backends.local.checkpoint_config import read_json
from jinaclip.backends.local.towers.assembly import Assembly
from jinaclip.backends.local.towers.loader import Towers
from jinaclip.backends.local.weight_file import WeightFile


class Adapter(nn.Module):
    """original + scale * (left right), formed anew whenever the weight is used."""

    def __init__(self, left: Tensor, right: Tensor, scale: float) -> None:
        super().__init__()
        self.left, self.right, self.scale = left, right, scale

    def forward(self, original: Tensor) -> Tensor:
        """The weight."""
        return original + self.scale * (self.left @ self.right)


class Reforming:
    """The text tower of a checkpoint in plain kernels, its adapted weights formed in every pass.

    Float32 on a CPU, bfloat16 on CUDA, like the published one.
    """

    def __init__(self, folder: Path, towers: Towers) -> None:
        with torch.device("meta"):
            assembly = Assembly(read_json(folder / "config.json"))
        assembly.text.to_empty(device=towers.device)
        self.places = 0
        with WeightFile.find(folder).open() as file, torch.no_grad():
            for name, module, key, parameter in list(assembly.file_parameters()):
                if not name.startswith(assembly.prefix):
                    continue
                table, parts = isinstance(module, nn.Embedding), [name]
                adapted = assembly.has_adapter(name, module, key)
                if adapted:
                    shape = tuple(parameter.shape)
                    parts = list(assembly.lora.parts(name.removesuffix(".weight"), shape, table=table))
                held = [file.get_tensor(part).to(towers.device, towers.dtype) for part in parts]
                setattr(module, key, nn.Parameter(held[0], requires_grad=False))
                if adapted:
                    a, b = held[1][0], held[2][0]
                    adapter = Adapter(*((a, b) if table else (b, a)), assembly.lora.scale)
                    parametrize.register_parametrization(module, key, adapter, unsafe=True)
                    self.places += 1
        self.tower = assembly.text.eval()

    @torch.inference_mode()
    def text(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(B, T) -> (B, d)."""
        return self.tower(ids, mask)
