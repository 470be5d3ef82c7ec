"""The text tower of jina-clip-v2: the shape of XLM-RoBERTa with rotary positions (Su et al. 2021), post-norm.

Letters: B texts, T tokens, W width, H heads, d = W / H. The task adapter (LoRA, Hu et al. 2021) is merged into plain
weights by the loader; the tower does not know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from jinaclip.backends.local.checkpoint_config import config_value, refuse_variants
from jinaclip.backends.local.towers.layers import Linear, Table, ValidTokens, find_valid_tokens, mean_pool
from jinaclip.errors import CheckpointError

_FIXED = {"hidden_act": "gelu", "position_embedding_type": "rotary", "use_qk_norm": False}


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Sizes of the tower; the defaults are those of jina-embeddings-v3, the base model that v2 names."""

    vocab_size: int = 250002
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    type_vocab_size: int = 1
    pad_token_id: int = 1
    layer_norm_eps: float = 1e-5
    rotary_emb_base: float = 20000.0

    @classmethod
    def from_overrides(cls, raw: Mapping[str, Any]) -> RopeConfig:
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
        if not fits or width % (2 * heads) or config.rotary_emb_base < 1:
            raise CheckpointError(f"config.json: {where} holds sizes that do not fit together: {config}")
        return config


def rotary_tables(length: int, config: RopeConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of positions 0 .. T-1, float32, each (T, 1, 1, d / 2)."""
    d = config.hidden_size // config.num_attention_heads
    frequencies = 1.0 / config.rotary_emb_base ** (torch.arange(0, d, 2, dtype=torch.float32, device=device) / d)
    angles = torch.outer(torch.arange(length, dtype=torch.float32, device=device), frequencies)[:, None, None]
    return angles.cos(), angles.sin()


def rotate_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """(..., d) -> same dtype: turns number j together with number j + d/2, in float32 or better."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


class Embeddings(nn.Module):
    """Word rows plus the one token type row."""

    def __init__(self, config: RopeConfig) -> None:
        super().__init__()
        self.word_embeddings = Table(config.vocab_size, config.hidden_size)
        self.token_type_embeddings = Table(config.type_vocab_size, config.hidden_size)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, W)."""
        return self.word_embeddings(ids).add_(self.token_type_embeddings.weight[0])


class Mixer(nn.Module):
    """Self-attention with half-rotated queries and keys."""

    def __init__(self, config: RopeConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.Wqkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.out_proj = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, tables: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """(B, T, W) -> (B, T, W) with the residual x added; mask (B, 1, 1, T) bool."""
        qkv = self.Wqkv(x).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, d)
        q, k = rotate_halves(qkv[:, :, :2], *tables).transpose(1, 3).unbind(2)  # each (B, H, T, d)
        v = qkv[:, :, 2].transpose(1, 2)  # (B, H, T, d)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(y.transpose(1, 2).flatten(2), plus=x)


class Mlp(nn.Module):
    """fc2(gelu(fc1 x)), erf GELU."""

    def __init__(self, config: RopeConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, W) -> (B, T, W) with the residual x added."""
        return self.fc2(self.fc1(x, "gelu"), plus=x)


class Block(nn.Module):
    """LN1(x + Attn(x)), then LN2(x + MLP(x))."""

    def __init__(self, config: RopeConfig) -> None:
        super().__init__()
        self.mixer = Mixer(config)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = Mlp(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor, tables: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """(B, T, W) -> (B, T, W)."""
        x = self.norm1(self.mixer(x, tables, mask))
        return self.norm2(self.mlp(x))


class Encoder(nn.Module):
    """The blocks, under the name the checkpoint gives them."""

    def __init__(self, config: RopeConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))


class TextRopeTower(nn.Module):
    """Token ids to embeddings.

    Parameter names are the published ones after `text_model.transformer.roberta.`, merged weights in place of parts.
    """

    def __init__(self, config: RopeConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.emb_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.encoder = Encoder(config)

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
        tables = rotary_tables(x.shape[1], self.config, x.device)
        mask = None if valid.full else valid.mask[:, None, None]  # (B, 1, 1, T)
        for block in self.encoder.layers:
            x = block(x, tables, mask)
        return x
