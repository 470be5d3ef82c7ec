"""The vision tower of both models: EVA-02 (Fang et al. 2023), written down once and read top to bottom.

A ViT with pre-norm blocks, two-axis rotary positions beside learned ones, SwiGLU, and a LayerNorm inside attention
and inside the MLP ("sub-LN", Wang et al. 2022). Letters: B images, S side of an image, P of a patch, g = S // P,
N = g * g + 1 tokens, W width, H heads, d = W / H, I hidden width of the MLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from jinaclip.backends.local.checkpoint_config import config_value, refuse_variants
from jinaclip.backends.local.towers.layers import Linear
from jinaclip.errors import CheckpointError, InputError

NORM_EPS = 1e-6
ROTARY_BASE = 10000.0
MAX_TOKENS = 2**14
"""Of one image; v2 has 1297, and attention costs their square."""
CPU_ACTIVATION = 2**23
"""Numbers in the largest activation on a CPU (32 MiB): larger ones come from the system anew and fault in page by page.
Two images of v2, twenty of v1; more at a time are taken in turns."""
MLP_ALIGNMENT = 64
"""Off the CPU the hidden width is filled up to a multiple of this: rows of 2730 bf16 numbers miss the matrix units."""
_FIXED = {
    "naive_swiglu": True,
    "subln": True,
    "qkv_bias": True,
    "rope_embeddings": True,
    "post_norm": False,
    "ls_init_value": None,
}


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """Sizes of the tower; the names are those of the checkpoint's `vision_config`."""

    width: int
    layers: int
    head_width: int
    image_size: int
    patch_size: int
    mlp_ratio: float
    intp_freq: bool
    """Whether rotary positions are rescaled to the grid the tower was first trained on."""
    pt_hw_seq_len: int
    """Side of that grid; of no effect without `intp_freq`."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> VisionConfig:
        """The config from a checkpoint's `vision_config`; keys that change no value are ignored.

        Raises:
            CheckpointError: a size is missing or impossible, or a variant is asked for that is not built here.
        """
        where = "vision_config"
        refuse_variants(raw, where, _FIXED)
        sizes = {
            key: config_value(raw, where, key, int) for key in ("layers", "head_width", "image_size", "patch_size")
        }
        config = cls(
            width=config_value(raw, where, "width", int, raw.get("embed_dim")),
            mlp_ratio=config_value(raw, where, "mlp_ratio", float),
            intp_freq=config_value(raw, where, "intp_freq", bool),
            pt_hw_seq_len=config_value(raw, where, "pt_hw_seq_len", int, 16),
            **sizes,
        )
        fits = config.head_width and config.patch_size and config.pt_hw_seq_len and config.hidden
        fits = fits and config.width and config.layers and config.grid and config.tokens <= MAX_TOKENS
        if not fits or config.head_width % 4 or config.width % config.head_width:
            raise CheckpointError(f"config.json: vision_config holds sizes that do not fit together: {config}")
        return config

    @property
    def grid(self) -> int:
        """Patches along one side; what is left of the image at the right and bottom is never seen."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Patches and the CLS token."""
        return self.grid**2 + 1

    @property
    def hidden(self) -> int:
        """Width inside the MLP, cut off, not rounded."""
        return int(self.width * self.mlp_ratio)


def rotary_angles(config: VisionConfig) -> Tensor:
    """(g * g, d / 2) float32 angles: for the patch in row r and column c, d/4 of the row, then d/4 of the column.

    Two-axis form of RoFormer (Su et al. 2021) as in EVA-02.
    """
    each = config.head_width // 2  # numbers per axis
    places = torch.arange(config.grid, dtype=torch.float32, device="cpu")
    if config.intp_freq:
        places = places / config.grid * config.pt_hw_seq_len
    steps = torch.arange(0, each, 2, dtype=torch.float32, device="cpu") / each
    angles = torch.outer(places, 1.0 / ROTARY_BASE**steps)  # (g, d/4)
    rows = angles[:, None].expand(-1, config.grid, -1)
    columns = angles[None].expand(config.grid, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def rotary_turns(config: VisionConfig) -> Tensor:
    """(N, 1, d / 2) complex64: cos + i sin of every pair's angle, 1 for the CLS token, which is not turned."""
    angles = rotary_angles(config)
    turns = torch.complex(angles.cos(), angles.sin())
    return torch.cat([torch.ones(1, turns.shape[1], dtype=turns.dtype, device="cpu"), turns]).unsqueeze(1)


def rotate_pairs(x: Tensor, turns: Tensor) -> Tensor:
    """(B, N, H, d) -> same: turns neighbouring numbers (2i, 2i + 1) as one complex number, in float32 or better.

    Works in place where x already has that precision. `turns` may be real, (N, 1, d / 2, 2): compilers fuse that, and
    do not know complex numbers.
    """
    if not turns.is_complex():
        a, b = x.view(*x.shape[:-1], -1, 2).unbind(-1)
        cos, sin = turns.unbind(-1)
        return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2).to(x.dtype)
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    pairs = torch.view_as_complex(wide.view(*wide.shape[:-1], -1, 2))  # (B, N, H, d/2)
    return torch.view_as_real(pairs.mul_(turns)).flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """Self-attention; q and v have a bias, k has none; a LayerNorm stands between the heads and the projection."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.width
        self.head_width = config.head_width
        self.q_proj = Linear(width, width, bias=False)
        self.k_proj = Linear(width, width, bias=False)
        self.v_proj = Linear(width, width, bias=False)
        self.q_bias = nn.Parameter(torch.empty(width))
        self.v_bias = nn.Parameter(torch.empty(width))
        self.inner_attn_ln = nn.LayerNorm(width, eps=NORM_EPS)
        self.proj = Linear(width, width)

    def forward(self, x: Tensor, turns: Tensor, residual: Tensor) -> Tensor:
        """(B, N, W) -> (B, n, W), added to the residual (B, n, W); only its n first tokens ask."""
        n = residual.shape[1]
        q = self.q_proj(x[:, :n], bias=self.q_bias).unflatten(-1, (-1, self.head_width))  # (B, n, H, d)
        k = self.k_proj(x).unflatten(-1, (-1, self.head_width))  # (B, N, H, d)
        v = self.v_proj(x, bias=self.v_bias).unflatten(-1, (-1, self.head_width))  # (B, N, H, d)
        q, k = rotate_pairs(q, turns[:n]), rotate_pairs(k, turns)
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))  # (B, H, n, d)
        y = self.inner_attn_ln(y.transpose(1, 2).flatten(2))  # (B, n, W)
        return self.proj(y, plus=residual)


class Mlp(nn.Module):
    """w3(LN(silu(w1 x) * w2 x)), the SwiGLU of Shazeer 2020 with a LayerNorm inside."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.w1 = Linear(config.width, config.hidden)
        self.w2 = Linear(config.width, config.hidden)
        self.ffn_ln = nn.LayerNorm(config.hidden, eps=NORM_EPS)
        self.w3 = Linear(config.hidden, config.width)
        self.hidden, self.spare = config.hidden, 0

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """(B, n, W) -> (B, n, W), added to the residual of that shape."""
        y = self.w2(x, times=self.w1(x, "silu"))  # (B, n, I)
        y = self.ffn_ln(y[..., : self.hidden])
        return self.w3(F.pad(y, (0, self.spare)) if self.spare else y, plus=residual)

    def widen(self, multiple: int) -> None:
        """Fills the hidden width up with zeros, which changes no value."""
        self.spare = -self.hidden % multiple
        for layer in (self.w1, self.w2):
            layer.weight = nn.Parameter(F.pad(layer.weight, (0, 0, 0, self.spare)), requires_grad=False)
            layer.bias = nn.Parameter(F.pad(layer.bias, (0, self.spare)), requires_grad=False)
        self.w3.weight = nn.Parameter(F.pad(self.w3.weight, (0, self.spare)), requires_grad=False)


class Block(nn.Module):
    """x + Attn(LN1(x)), then x + MLP(LN2(x))."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.attn = Attention(config)
        self.norm2 = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, turns: Tensor, wanted: int | None = None) -> Tensor:
        """(B, N, W) -> (B, N, W), or (B, wanted, W): what the first tokens become, which is all the last block owes."""
        x = self.attn(self.norm1(x), turns, x[:, :wanted])
        return self.mlp(self.norm2(x), x)


class PatchEmbed(nn.Module):
    """A convolution whose stride is its kernel."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, g * g, W), row by row."""
        return self.proj(pixels).flatten(2).transpose(1, 2) if pixels.is_cpu else self.multiply(pixels)

    def multiply(self, pixels: Tensor) -> Tensor:
        """The same as one matrix product: cuDNN would compute it in TF32, unless a flag of the process forbids it."""
        side = self.proj.kernel_size[0]
        grid = pixels.shape[-1] // side
        cut = pixels[..., : grid * side, : grid * side].reshape(-1, 3, grid, side, grid, side)
        patches = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # (B, g * g, 3 * P * P)
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class VisionTower(nn.Module):
    """Images to embeddings. Parameter names are the published ones after `vision_model.`.

    Weights come from the loader, which then calls `prepare`. Never move it with `to(dtype)`: it would spoil the tables.
    """

    turns: Tensor

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.empty(1, config.tokens, config.width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        self.register_buffer("turns", None, persistent=False)

    def forward(self, pixel_values: Tensor, tokens: int | None = None) -> Tensor:
        """(B, 3, S, S) normalised pixels -> (B, W) embeddings in the tower's dtype, not normalised.

        With `tokens` only the first tokens of each image count, CLS included: every weight takes part, at little cost.

        Raises:
            InputError: another shape, or not one image.
        """
        some = max(1, CPU_ACTIVATION // (self.config.tokens * self.config.hidden)) if pixel_values.is_cpu else None
        if some is None or len(pixel_values) <= some:
            return self.run(pixel_values, tokens)
        return torch.cat([self.run(pixels, tokens) for pixels in torch.split(pixel_values, some)])

    def run(self, pixel_values: Tensor, tokens: int | None = None) -> Tensor:
        """`forward` of a batch that fits."""
        x, turns = self.embed(pixel_values)[:, :tokens], self.turns[:tokens]  # (B, N, W), (N, d)
        for block in self.blocks[:-1]:
            x = block(x, turns)
        x = self.blocks[-1](x, turns, wanted=1)  # (B, 1, W)
        return self.norm(x[:, 0])

    def embed(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, N, W): CLS and patches with their learned positions."""
        side = self.config.image_size
        if pixel_values.ndim != 4 or tuple(pixel_values.shape[1:]) != (3, side, side) or not len(pixel_values):
            raise InputError(f"pixel_values must be (B, 3, {side}, {side}), not {tuple(pixel_values.shape)}")
        patches = self.patch_embed(pixel_values.to(self.cls_token.dtype))  # (B, g * g, W)
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)  # (B, N, W)
        return x.add_(self.pos_embed)

    def build_tables(self) -> None:
        """Makes the rotary table. What a config.json says of sizes is worth nothing until the weight file fits it."""
        self.turns = rotary_turns(self.config).to(self.cls_token.device)

    def prepare(self) -> None:
        """Makes the tables, and loaded weights fit the matrix units of their device."""
        self.build_tables()
        if self.cls_token.device.type != "cpu":
            for module in self.modules():
                if isinstance(module, Mlp):
                    module.widen(MLP_ALIGNMENT)
