"""The text tower of jina-clip-v1: JinaBERT (Guenther et al. 2023), a post-norm BERT with ALiBi and a gated MLP.

ALiBi (Press et al. 2022), here in both directions: the score of a query i and a key j falls by slope_h * |i - j|.
Letters: B texts, T tokens, W width, H heads, d = W / H, I inner width of the MLP.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from jinaclip.backends.local.checkpoint_config import config_value, refuse_variants
from jinaclip.backends.local.towers.layers import (
    Linear,
    Table,
    ValidTokens,
    can_pack,
    find_valid_tokens,
    mean_pool,
)
from jinaclip.errors import CheckpointError

MAX_BIAS = 2**24
"""Numbers in a bias table, at most (64 MiB): longer texts are attended to in blocks of queries."""
CUDA_MAX_BIAS = 2**28
"""The same on CUDA (512 MiB in bfloat16), where many texts of 64 tokens would be attended to one by one otherwise."""
_FIXED = {
    "hidden_act": "gelu",
    "mlp_type": "glu",
    "position_embedding_type": "alibi",
    "use_qk_norm": False,
    "window_size": [-1, -1],
}


@dataclass(frozen=True, slots=True)
class AlibiConfig:
    """Sizes of the tower; the defaults are those of jina-bert-flash-implementation, the base model that v1 names."""

    vocab_size: int = 30528
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    type_vocab_size: int = 2
    pad_token_id: int = 0
    layer_norm_eps: float = 1e-12

    @classmethod
    def from_overrides(cls, raw: Mapping[str, Any]) -> AlibiConfig:
        """The base model's sizes with a checkpoint's `hf_model_config_kwargs` on top.

        Raises:
            CheckpointError: a size is impossible, or a variant is asked for that is not built here.
        """
        where = "text_config.hf_model_config_kwargs"
        refuse_variants(raw, where, _FIXED)
        sizes = asdict(cls())
        config = cls(**{key: config_value(raw, where, key, type(size), size) for key, size in sizes.items()})
        heads, width = config.num_attention_heads, config.hidden_size
        fits = heads and width and config.type_vocab_size and config.pad_token_id < config.vocab_size
        if not fits or width % heads:
            raise CheckpointError(f"config.json: {where} holds sizes that do not fit together: {config}")
        return config


def alibi_slopes(heads: int) -> list[float]:
    """2^(-8 (h + 1) / H); where H is no power of two, those of the power below, then every second one of twice that."""
    power = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-8 * (h + 1) / (2 * power)) for h in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]


@dataclass(frozen=True, slots=True)
class Bias:
    """What is added to the scores, made once per batch for all blocks.

    `table[h, r, c]` is -slope_h * |r - c + shift|, so the bias of queries s .. s+Q-1 is the view that starts at column
    shift - s: one table of Q rows serves every block of queries, and no (B, H, T, T) array is ever needed.
    """

    slopes: Tensor
    """(H,) float32."""
    valid: ValidTokens
    table: Tensor
    """(H, Q, shift + T)."""
    shift: int
    whole: Tensor | None
    """(1 or B, H, T, T) with the mask in it, where that is small."""

    @classmethod
    def build(cls, slopes: Tensor, valid: ValidTokens, dtype: torch.dtype) -> Bias:
        """The bias of a batch; float32 on a CPU, where attention takes it so, else in the dtype of the scores."""
        rows, length = valid.mask.shape
        heads = len(slopes)
        dtype = torch.promote_types(dtype, torch.float32) if slopes.device.type == "cpu" else dtype
        most = CUDA_MAX_BIAS if slopes.is_cuda else MAX_BIAS
        step = length if heads * length**2 <= most else max(1, MAX_BIAS // (2 * heads * length))
        shift = (length - 1) // step * step
        queries = torch.arange(shift, shift + step, device=slopes.device)  # r + shift
        keys = torch.arange(shift + length, device=slopes.device)
        table = (-slopes.to(dtype)[:, None, None] * (queries[:, None] - keys).abs()).to(dtype)
        small = not shift and (valid.full or rows * heads * length**2 <= most)
        return cls(slopes, valid, table, shift, mask_bias(table[None], valid) if small else None)

    def block(self, start: int, length: int) -> Tensor:
        """(1, H, Q, length): queries from `start`, the first `length` keys; a view."""
        rows = min(self.table.shape[1], length - start)
        first = self.shift - start
        return self.table[None, :, :rows, first : first + length]


def mask_bias(bias: Tensor, valid: ValidTokens) -> Tensor:
    """(1, H, T, T) -> (B, H, T, T) with minus infinity at masked keys, or as it is where there are none."""
    return bias if valid.full else bias.masked_fill(~valid.mask[:, None, None], float("-inf"))


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Bias) -> Tensor:
    """(B, H, T, d) three times -> (B, H, T, d): softmax(q k^T / sqrt(d) - slope |i - j|) v over valid keys.

    Small batches get one bias; long ones run fused on CUDA, with the bias computed inside the kernel, and elsewhere
    row by row and block by block. What padded queries get is finite and of no meaning.
    """
    if bias.whole is not None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.whole)
    flex = _compiled_flex() if q.is_cuda else None
    if flex is not None:
        return attend_flex(q, k, v, bias.slopes, bias.valid.mask, flex)
    return attend_blocks(q, k, v, bias)


def attend_blocks(q: Tensor, k: Tensor, v: Tensor, bias: Bias) -> Tensor:
    """`attend` for long texts: each row cut to its own length, queries in blocks."""
    out = torch.zeros_like(q)
    step = bias.table.shape[1]
    for row, (length, hole) in enumerate(zip(bias.valid.lengths, bias.valid.holes, strict=True)):
        one = slice(row, row + 1)
        keys, values = k[one, :, :length], v[one, :, :length]
        for start in range(0, length, step):
            some = slice(start, min(start + step, length))
            added = bias.block(start, length)
            if hole:
                added = added.masked_fill(~bias.valid.mask[one, None, None, :length], float("-inf"))
            out[one, :, some] = F.scaled_dot_product_attention(q[one, :, some], keys, values, attn_mask=added)
    return out


def attend_flex(q: Tensor, k: Tensor, v: Tensor, slopes: Tensor, mask: Tensor, flex: Callable[..., Any]) -> Tensor:
    """`attend` through torch's flex attention: the bias is a function of the indices and never stored."""

    def score(value: Tensor, row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        value = value - slopes[head] * (query - key).abs()
        return torch.where(mask[row, key], value, float("-inf"))

    return flex(q, k, v, score_mod=score)


@functools.cache
def _compiled_flex() -> Callable[..., Any] | None:
    """Flex attention compiled, or None where this machine cannot compile it."""
    try:
        from torch.nn.attention.flex_attention import flex_attention

        flex = torch.compile(flex_attention, dynamic=True)
        x = torch.zeros(1, 1, 160, 64, device="cuda", dtype=torch.bfloat16)
        attend_flex(x, x, x, torch.ones(1, device="cuda"), torch.ones(1, 160, device="cuda").bool(), flex)
    except Exception:  # noqa: BLE001 - no compiler, no Triton, an old card: all mean the other path
        return None
    return flex


class Embeddings(nn.Module):
    """Word rows plus the first token type row."""

    def __init__(self, config: AlibiConfig) -> None:
        super().__init__()
        self.word_embeddings = Table(config.vocab_size, config.hidden_size)
        self.token_type_embeddings = Table(config.type_vocab_size, config.hidden_size)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, W)."""
        return self.word_embeddings(ids).add_(self.token_type_embeddings.weight[0])


class Mixer(nn.Module):
    """Self-attention."""

    def __init__(self, config: AlibiConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.Wqkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.out_proj = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, bias: Bias) -> Tensor:
        """(B, T, W) -> (B, T, W) with the residual x added."""
        qkv = self.Wqkv(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, d)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each (B, H, T, d)
        return self.out_proj(attend(q, k, v, bias).transpose(1, 2).flatten(2), plus=x)


class Gate(Linear):
    """gelu(a) * b, where a and b are the two halves of x W^T; erf GELU."""

    halves: tuple[Linear, Linear] | None = None

    def pack(self) -> None:
        """As for any linear layer, each half on its own."""
        if can_pack(self.weight):
            self.halves = (_half(self.weight, 0), _half(self.weight, 1))
            self.register_parameter("weight", None)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """(B, T, W) -> (B, T, I)."""
        if self.halves is not None:
            return self.halves[1](x, times=self.halves[0](x, "gelu"))
        a, b = F.linear(x, self.weight).chunk(2, dim=-1)
        return F.gelu(a) * b


def _half(weight: Tensor, which: int) -> Linear:
    half = Linear(1, 1, bias=False, device="meta")
    half.weight = nn.Parameter(weight.detach().chunk(2)[which], requires_grad=False)
    half.pack()
    return half


class Mlp(nn.Module):
    """wo(gelu(a) * b): the GEGLU of Shazeer 2020."""

    def __init__(self, config: AlibiConfig) -> None:
        super().__init__()
        self.gated_layers = Gate(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.wo = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, W) with the residual x added."""
        return self.wo(self.gated_layers(x), plus=x)


class Block(nn.Module):
    """LN1(x + Attn(x)), then LN2(x + MLP(x))."""

    def __init__(self, config: AlibiConfig) -> None:
        super().__init__()
        self.mixer = Mixer(config)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = Mlp(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, bias: Bias) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        x = self.norm1(self.mixer(x, bias))
        return self.norm2(self.mlp(x))


class Encoder(nn.Module):
    """The blocks, under the name the checkpoint gives them."""

    def __init__(self, config: AlibiConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))


class TextAlibiTower(nn.Module):
    """Token ids to embeddings. Parameter names are the published ones after `text_model.transformer.`."""

    slopes: Tensor

    def __init__(self, config: AlibiConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.emb_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = Encoder(config)
        slopes = torch.tensor(alibi_slopes(config.num_attention_heads), dtype=torch.float32, device="cpu")
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(B, T) ids -> (B, W) means over valid tokens, float32 or better, not normalised.

        Args:
            input_ids: integers, on any device; pad ids are masked wherever they stand.
            attention_mask: (B, T), zero where a token is to be masked too; None goes by the ids alone.

        Raises:
            InputError: wrong shapes, an id outside the vocabulary, or a row of nothing but padding.
        """
        valid = find_valid_tokens(input_ids, attention_mask, self.config.pad_token_id, self.config.vocab_size)
        place = self.emb_ln.weight.device
        valid = valid.move(place)
        return mean_pool(self.encode(input_ids.to(place, non_blocking=True), valid), valid)

    def encode(self, input_ids: Tensor, valid: ValidTokens) -> Tensor:
        """(B, T) -> (B, T, W): the last hidden states."""
        x = self.emb_ln(self.embeddings(input_ids))
        bias = Bias.build(self.slopes, valid, x.dtype)
        for block in self.encoder.layers:
            x = block(x, bias)
        return x
