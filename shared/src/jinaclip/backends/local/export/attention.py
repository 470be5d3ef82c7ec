"""Attention as an exported graph computes it: in pieces, so that no (B, H, T, T) array is ever held; and rotations.

Each operator stands twice here: in torch, for the trace, and in ONNX, for the graph. Letters: B texts or images,
H heads, T queries, K keys, d width of a head.
"""

# No `from __future__ import annotations`: onnxscript and torch read the annotations of these functions.

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from onnxscript import FLOAT, script
from onnxscript import opset18 as op
from onnxscript.values import Opset
from torch import Tensor

from jinaclip.backends.local.towers.text_rope import rotate_halves
from jinaclip.backends.local.towers.vision import rotate_pairs

OPSET = 18
microsoft = Opset("com.microsoft", 1)
"""What ONNX Runtime has beyond ONNX."""
BLOCK = 2**21
"""Scores in a block, at most (8 MiB): what is written and read several times stays in the processor's cache."""


@torch.library.custom_op("jinaclip::attend", mutates_args=())
def attend(q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d) + key_bias) v.

    Args:
        q: (B, H, T, d).
        k: (B, H, K, d).
        v: (B, H, K, d).
        key_bias: (B, 1, 1, K), minus infinity at masked keys.

    Returns:
        (B, H, T, d).
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=key_bias)


@torch.library.custom_op("jinaclip::attend_alibi", mutates_args=())
def attend_alibi(q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor, slopes: Tensor) -> Tensor:
    """`attend` with slope * |i - j| taken from the score of query i and key j; slopes (H, 1, 1)."""
    places = torch.arange(k.shape[2], device=k.device)
    distance = (places[: q.shape[2], None] - places).abs()
    return F.scaled_dot_product_attention(q, k, v, attn_mask=key_bias - slopes * distance)


@torch.library.custom_op("jinaclip::attend_to_all", mutates_args=())
def attend_to_all(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """`attend` without masked keys, for heads that lie side by side.

    Args:
        q: (B, T, H d).
        k: (B, K, H d).
        v: (B, K, H d).
        heads: H.

    Returns:
        (B, T, H d).
    """
    q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@torch.library.custom_op("jinaclip::turn", mutates_args=())
def turn(x: Tensor, cos: Tensor, sin: Tensor, pairs: int) -> Tensor:
    """Turns every head by the place of its token.

    Args:
        x: (B, T, H d).
        cos: (T or more, d / 2), by place.
        sin: likewise.
        pairs: 1 where neighbouring numbers turn together, 0 where number j and j + d / 2 do.

    Returns:
        (B, T, H d).
    """
    heads = x.reshape(*x.shape[:2], -1, 2 * cos.shape[1])
    cos, sin = cos[: x.shape[1], None], sin[: x.shape[1], None]  # (T, 1, d / 2)
    heads = rotate_pairs(heads, torch.stack([cos, sin], dim=-1)) if pairs else rotate_halves(heads, cos, sin)
    return heads.flatten(2)


@attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor) -> Tensor:
    return torch.empty_like(q)


@attend_alibi.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor, slopes: Tensor) -> Tensor:
    return torch.empty_like(q)


@attend_to_all.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    return torch.empty_like(q)


@turn.register_fake
def _(x: Tensor, cos: Tensor, sin: Tensor, pairs: int) -> Tensor:
    return torch.empty_like(x)


@script()
def turn_in_one(x: FLOAT, cos: FLOAT, sin: FLOAT, pairs: int) -> FLOAT:
    """`turn` as ONNX Runtime's own operation; the first token has place 0."""
    return microsoft.RotaryEmbedding(x, op.Constant(value_ints=[0]), cos, sin, interleaved=pairs)


@script()
def attend_to_all_in_one(q: FLOAT, k: FLOAT, v: FLOAT, heads: int) -> FLOAT:
    """`attend_to_all` as ONNX Runtime's own operation, faster than a loop; with a mask it would hold all scores."""
    return microsoft.MultiHeadAttention(q, k, v, num_heads=heads)


@script()
def attend_in_blocks(q: FLOAT, k: FLOAT, v: FLOAT, key_bias: FLOAT) -> FLOAT:
    """`attend` as ONNX."""
    rows = op.Slice(op.Shape(q), [0], [2], [0])
    length = op.Slice(op.Shape(q), [2], [3], [0])
    keys = op.Slice(op.Shape(k), [2], [3], [0])
    width = op.Slice(op.Shape(q), [3], [4], [0])
    step = op.Max(op.Div(op.Constant(value_ints=[BLOCK]), op.Mul(op.ReduceProd(rows), keys)), [1])
    blocks = op.Squeeze(op.Div(op.Sub(op.Add(length, step), [1]), step))
    scaled = op.Mul(op.Transpose(k, perm=[0, 1, 3, 2]), op.Reciprocal(op.Sqrt(op.Cast(width, to=1))))
    out = op.Slice(q, [0], [0], [2])
    for i in range(blocks):
        start = op.Mul(op.Reshape(i, [1]), step)
        some = op.Slice(q, start, op.Min(op.Add(start, step), length), [2])
        weights = op.Softmax(op.Add(op.MatMul(some, scaled), key_bias), axis=-1)
        out = op.Concat(out, op.MatMul(weights, v), axis=2)
    return out


@script()
def attend_alibi_in_blocks(q: FLOAT, k: FLOAT, v: FLOAT, key_bias: FLOAT, slopes: FLOAT) -> FLOAT:
    """`attend_alibi` as ONNX."""
    rows = op.Slice(op.Shape(q), [0], [2], [0])
    length = op.Slice(op.Shape(q), [2], [3], [0])
    keys = op.Slice(op.Shape(k), [2], [3], [0])
    width = op.Slice(op.Shape(q), [3], [4], [0])
    step = op.Max(op.Div(op.Constant(value_ints=[BLOCK]), op.Mul(op.ReduceProd(rows), keys)), [1])
    blocks = op.Squeeze(op.Div(op.Sub(op.Add(length, step), [1]), step))
    scaled = op.Mul(op.Transpose(k, perm=[0, 1, 3, 2]), op.Reciprocal(op.Sqrt(op.Cast(width, to=1))))
    places = op.Cast(op.Range(0, op.Squeeze(keys), 1), to=1)
    out = op.Slice(q, [0], [0], [2])
    for i in range(blocks):
        start = op.Mul(op.Reshape(i, [1]), step)
        end = op.Min(op.Add(start, step), length)
        some = op.Slice(q, start, end, [2])
        own = op.Unsqueeze(op.Slice(places, start, end, [0]), [1])
        fall = op.Mul(op.Abs(op.Sub(own, op.Unsqueeze(places, [0]))), slopes)
        scores = op.Sub(op.MatMul(some, scaled), fall)
        weights = op.Softmax(op.Add(scores, key_bias), axis=-1)
        out = op.Concat(out, op.MatMul(weights, v), axis=2)
    return out


def translations() -> dict[Any, Any]:
    """What the exporter writes for each operator."""
    return {
        torch.ops.jinaclip.attend.default: attend_in_blocks,
        torch.ops.jinaclip.attend_alibi.default: attend_alibi_in_blocks,
        torch.ops.jinaclip.attend_to_all.default: attend_to_all_in_one,
        torch.ops.jinaclip.turn.default: turn_in_one,
    }
