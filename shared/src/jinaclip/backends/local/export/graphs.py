"""The towers as graphs: what their own `forward` does, without the branches that look at data, which no graph has.

The layers, and so the weights, are those of the towers. Letters as there: B texts or images, T or N tokens, W width,
H heads, d = W / H.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jinaclip.backends.local.export.attention import OPSET, attend, attend_alibi, attend_to_all, translations, turn
from jinaclip.backends.local.onnx_folder import IMAGE_INPUT, OUTPUT, TEXT_INPUTS
from jinaclip.backends.local.towers.layers import Linear
from jinaclip.backends.local.towers.loader import Towers
from jinaclip.backends.local.towers.text_alibi import TextAlibiTower
from jinaclip.backends.local.towers.text_rope import TextRopeTower, rotary_tables

MAX_BATCH, MAX_TOKENS = 2**16, 2**13
"""Of a graph's inputs."""


class TextGraph(nn.Module):
    """(B, T) ids and mask -> (B, d)."""

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        assembly = towers.assembly
        self.tower, self.pad_id = assembly.text, towers.pad_id
        self.after = nn.Sequential(assembly.text_proj, assembly.text_projection)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Both int64; a token counts where its id is not that of padding and the mask is not zero."""
        valid = (ids != self.pad_id) & (mask != 0)
        x = self.tower.emb_ln(self.tower.embeddings(ids))  # (B, T, W)
        key_bias = torch.where(valid, 0.0, float("-inf"))[:, None, None]  # (B, 1, 1, T)
        x = rope(self.tower, x, key_bias) if isinstance(self.tower, TextRopeTower) else alibi(self.tower, x, key_bias)
        weights = valid.unsqueeze(-1).to(x.dtype)
        return self.after((x * weights).sum(1) / weights.sum(1))


def alibi(tower: TextAlibiTower, x: Tensor, key_bias: Tensor) -> Tensor:
    """The blocks of v1: (B, T, W) -> (B, T, W)."""
    slopes = tower.slopes[:, None, None]
    for block in parts_of(tower.encoder.layers):
        q, k, v = (split_heads(part, block.mixer.heads) for part in block.mixer.Wqkv(x).chunk(3, dim=-1))
        x = block.norm1(block.mixer.out_proj(join_heads(attend_alibi(q, k, v, key_bias, slopes)), plus=x))
        x = block.norm2(block.mlp(x))
    return x


def rope(tower: TextRopeTower, x: Tensor, key_bias: Tensor) -> Tensor:
    """The blocks of v2: (B, T, W) -> (B, T, W)."""
    cos, sin = (table[:, 0, 0] for table in rotary_tables(x.shape[1], tower.config, x.device))  # (T, d/2) each
    for block in parts_of(tower.encoder.layers):
        q, k, v = block.mixer.Wqkv(x).chunk(3, dim=-1)
        q, k = turn(q, cos, sin, 0), turn(k, cos, sin, 0)
        q, k, v = (split_heads(part, block.mixer.heads) for part in (q, k, v))
        x = block.norm1(block.mixer.out_proj(join_heads(attend(q, k, v, key_bias)), plus=x))
        x = block.norm2(block.mlp(x))
    return x


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, W) -> (B, H, T, d)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def join_heads(x: Tensor) -> Tensor:
    """(B, H, T, d) -> (B, T, W)."""
    return x.transpose(1, 2).flatten(2)


class VisionGraph(nn.Module):
    """(B, 3, S, S) -> (B, d)."""

    cos: Tensor
    sin: Tensor

    def __init__(self, towers: Towers) -> None:
        super().__init__()
        assembly = towers.assembly
        self.tower = assembly.vision
        self.after = nn.Sequential(assembly.vision_head, assembly.visual_projection)
        turns = self.tower.turns[:, 0]  # (N, d/2)
        self.register_buffer("cos", turns.real.clone())
        self.register_buffer("sin", turns.imag.clone())

    def forward(self, pixels: Tensor) -> Tensor:
        """float32 pixels as `preprocess` makes them."""
        tower = self.tower
        patches = tower.patch_embed(pixels)  # (B, g * g, W)
        x = torch.cat([tower.cls_token.expand(patches.shape[0], -1, -1), patches], dim=1) + tower.pos_embed
        *blocks, last = parts_of(tower.blocks)
        for block in blocks:
            x = self.run_block(block, x, tower.config.tokens)
        return self.after(tower.norm(self.run_block(last, x, 1)[:, 0]))

    def run_block(self, block: Any, x: Tensor, wanted: int) -> Tensor:
        """(B, N, W) -> (B, wanted, W)."""
        attn, normed = block.attn, block.norm1(x)
        q = turn(attn.q_proj(normed[:, :wanted], bias=attn.q_bias), self.cos, self.sin, 1)
        k, v = turn(attn.k_proj(normed), self.cos, self.sin, 1), attn.v_proj(normed, bias=attn.v_bias)
        y = attend_to_all(q, k, v, q.shape[-1] // attn.head_width)
        x = attn.proj(attn.inner_attn_ln(y), plus=x[:, :wanted])
        return block.mlp(block.norm2(x), x)


def parts_of(layers: nn.ModuleList) -> list[Any]:
    """The blocks, untyped as torch gives them."""
    return [*layers]


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporter and quantiser log and warn of their own insides."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def write_text(towers: Towers, path: Path) -> None:
    """Writes the graph of the text tower; its weights lie beside it."""
    ids = torch.full((2, 7), int(towers.pad_id == 0))
    write(TextGraph(towers), (ids, torch.ones_like(ids)), TEXT_INPUTS, path)


def write_vision(towers: Towers, path: Path) -> None:
    """Writes the graph of the vision tower; its weights lie beside it. The towers are of no use afterwards."""
    size = towers.image_size
    write(VisionGraph(towers), (torch.zeros(2, 3, size, size),), (IMAGE_INPUT,), path)


def write(graph: nn.Module, inputs: tuple[Tensor, ...], names: tuple[str, ...], path: Path) -> None:
    """Writes a graph whose batch, and for texts length, are free."""
    if any(isinstance(part, Linear) and part.packed is not None for part in graph.modules()):
        raise ValueError("packed weights cannot be exported; load the towers with pack=False")
    free = [torch.export.Dim("batch", min=1, max=MAX_BATCH), torch.export.Dim("tokens", min=1, max=MAX_TOKENS)]
    shapes = tuple(dict(enumerate(free[: len(names)])) for _ in inputs)
    with torch.no_grad(), quiet():
        program = torch.onnx.export(
            graph.eval(),
            inputs,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(names),
            output_names=[OUTPUT],
            dynamic_shapes=shapes,
            custom_translation_table=translations(),
            verbose=False,
        )
    if program is None:
        raise ValueError("torch.onnx.export gave no program")
    program.save(path, external_data=True)
