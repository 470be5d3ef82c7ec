"""The goldens can tell: each known mistake, made on purpose, leaves their tolerance by far."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from jinaclip.backends.local.towers import layers, text_alibi, text_rope, vision
from jinaclip.backends.local.towers.assembly import Lora
from jinaclip.local import load_towers

from .goldens import MODELS, UNIT, error, expected, folder, ids, pixels, unit

CLEAR = 10 * UNIT


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Weights stay as they are, so that tests can change them."""
    for module in (layers, text_alibi):
        monkeypatch.setattr(module, "can_pack", lambda weight: False)
    monkeypatch.setattr("jinaclip.backends.local.towers.loader.can_pack", lambda weight: False)


@pytest.fixture(params=MODELS)
def model(request):
    return request.param


def text_change(loaded, model: str, which: str = "abcd") -> float:
    rows = {name: unit(loaded.text(ids(model, name)).numpy()) for name in which}
    return max(error(found, expected(model)[f"text_{name}_norm"]) for name, found in rows.items())


def image_change(loaded, model: str) -> float:
    return error(unit(loaded.vision(pixels(model)).numpy()), expected(model)["image_norm"])


def set_eps(tower: nn.Module, eps: float) -> None:
    for module in tower.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps


def test_without_a_mistake_nothing_changes(model):
    loaded = load_towers(folder(model))
    assert text_change(loaded, model) < UNIT
    assert image_change(loaded, model) < UNIT


def test_alibi_left_out():
    loaded = load_towers(folder("v1-tiny"))
    loaded.assembly.text.slopes.zero_()
    assert text_change(loaded, "v1-tiny") > 1e-2


def test_alibi_slopes_as_if_the_heads_were_a_power_of_two():
    loaded = load_towers(folder("v1-tiny"))
    loaded.assembly.text.slopes.copy_(torch.tensor([2 ** (-8 * (h + 1) / 6) for h in range(6)]))
    assert text_change(loaded, "v1-tiny") > 1e-2


def test_gated_halves_swapped(monkeypatch):
    def swapped(self, x):
        b, a = F.linear(x, self.weight).chunk(2, dim=-1)
        return F.gelu(a) * b

    monkeypatch.setattr(text_alibi.Gate, "forward", swapped)
    assert text_change(load_towers(folder("v1-tiny")), "v1-tiny") > 1e-1


@pytest.mark.parametrize(("model", "eps"), [("v1-tiny", 1e-5), ("v2-tiny", 1e-12)])
def test_another_eps_in_the_text_norms(model, eps):
    loaded = load_towers(folder(model))
    set_eps(loaded.assembly.text, eps)
    assert text_change(loaded, model) > 1e-4


def test_tanh_gelu(monkeypatch):
    def tanh(self, x):
        a, b = F.linear(x, self.weight).chunk(2, dim=-1)
        return F.gelu(a, approximate="tanh") * b

    monkeypatch.setattr(text_alibi.Gate, "forward", tanh)
    assert text_change(load_towers(folder("v1-tiny")), "v1-tiny") > CLEAR


def test_tanh_gelu_in_v2(monkeypatch):
    monkeypatch.setitem(layers._ACTS, "gelu", lambda x: F.gelu(x, approximate="tanh"))
    assert text_change(load_towers(folder("v2-tiny")), "v2-tiny") > CLEAR


def test_token_type_row_not_added(model):
    loaded = load_towers(folder(model))
    loaded.assembly.text.embeddings.token_type_embeddings.weight.zero_()
    assert text_change(loaded, model) > 1e-1


def test_mean_over_all_positions(model, monkeypatch):
    module = text_alibi if model == "v1-tiny" else text_rope
    monkeypatch.setattr(module, "mean_pool", lambda hidden, valid: hidden.mean(1))
    assert text_change(load_towers(folder(model)), model, "ab") > 1e-2


def test_pad_id_inside_the_text_not_masked(model, monkeypatch):
    module = text_alibi if model == "v1-tiny" else text_rope
    right = module.find_valid_tokens

    def ends_only(*arguments):
        valid = right(*arguments)
        return layers.ValidTokens(
            torch.ones_like(valid.mask), (valid.mask.shape[1],) * len(valid.mask), (False,) * len(valid.mask)
        )

    monkeypatch.setattr(module, "find_valid_tokens", ends_only)
    assert text_change(load_towers(folder(model)), model, "d") > 1e-2


def test_another_eps_in_the_vision_norms(model):
    loaded = load_towers(folder(model))
    set_eps(loaded.assembly.vision, 1e-5)
    assert image_change(loaded, model) > 1e-4


def test_vision_rotary_left_out(model):
    loaded = load_towers(folder(model))
    loaded.assembly.vision.turns.fill_(1)
    assert image_change(loaded, model) > 1e-2


def test_vision_half_rotation(model, monkeypatch):
    def halves(x, turns):
        return text_rope.rotate_halves(x, turns.real, turns.imag)

    monkeypatch.setattr(vision, "rotate_pairs", halves)
    assert image_change(load_towers(folder(model)), model) > 1e-2


def test_vision_rows_and_columns_swapped(model):
    loaded = load_towers(folder(model))
    tower = loaded.assembly.vision
    rows, columns = tower.turns.chunk(2, dim=-1)
    tower.turns = torch.cat([columns, rows], dim=-1)
    assert image_change(loaded, model) > 1e-2


def test_rotary_positions_not_rescaled():
    loaded = load_towers(folder("v2-tiny"))
    tower = loaded.assembly.vision
    tower.turns = vision.rotary_turns(replace(tower.config, intp_freq=False))
    assert image_change(loaded, "v2-tiny") > 1e-2


@pytest.mark.parametrize("place", ["attn.inner_attn_ln", "mlp.ffn_ln"])
def test_inner_norms_left_out(model, place):
    loaded = load_towers(folder(model))
    for block in loaded.assembly.vision.blocks:
        owner, name = place.split(".")
        setattr(getattr(block, owner), name, nn.Identity())
    assert image_change(loaded, model) > 1e-2


def test_q_bias_left_out(model):
    loaded = load_towers(folder(model))
    for block in loaded.assembly.vision.blocks:
        block.attn.q_bias.zero_()
    assert image_change(loaded, model) > 1e-2


def test_w1_and_w2_swapped(model):
    loaded = load_towers(folder(model))
    for block in loaded.assembly.vision.blocks:
        block.mlp.w1, block.mlp.w2 = block.mlp.w2, block.mlp.w1
    assert image_change(loaded, model) > 1e-2


def test_mlp_width_rounded_not_cut_off():
    config = load_towers(folder("v2-tiny")).assembly.vision.config
    assert (config.hidden, round(config.width * config.mlp_ratio)) == (170, 171)  # the shapes in the file tell


def test_rotary_base_of_the_class_default():
    loaded = load_towers(folder("v2-tiny"))
    loaded.assembly.text.config = replace(loaded.assembly.text.config, rotary_emb_base=10000.0)
    assert text_change(loaded, "v2-tiny") > 1e-2
    assert text_change(loaded, "v2-tiny", "c") > 1e-3


def test_adapter_not_applied():
    assert text_change(load_towers(folder("v2-tiny"), lora_task=None), "v2-tiny") > 1e-1


def test_adapter_scale_one(monkeypatch):
    monkeypatch.setattr(Lora, "scale", 1.0)
    assert text_change(load_towers(folder("v2-tiny")), "v2-tiny") > 1e-1


@pytest.mark.parametrize("table", ["word_embeddings", "token_type_embeddings"])
def test_adapter_of_a_table_left_out(table):
    loaded, bare = load_towers(folder("v2-tiny")), load_towers(folder("v2-tiny"), lora_task=None)
    setattr(loaded.assembly.text.embeddings, table, copy.deepcopy(getattr(bare.assembly.text.embeddings, table)))
    assert text_change(loaded, "v2-tiny") > 1e-2


def test_text_rotated_in_neighbouring_pairs(monkeypatch):
    def pairs(x, cos, sin):
        return vision.rotate_pairs(x.clone(), torch.complex(cos, sin).squeeze(1).unsqueeze(1))

    monkeypatch.setattr(text_rope, "rotate_halves", pairs)
    assert text_change(load_towers(folder("v2-tiny")), "v2-tiny") > 1e-2
