"""Our towers against the known answers: every array of both toy checkpoints."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from jinaclip.backends.local.preprocess import PreprocessConfig, resize_crop, to_rgb
from jinaclip.backends.local.towers import text_alibi
from jinaclip.backends.local.towers.layers import find_valid_tokens
from jinaclip.errors import InputError
from jinaclip.local import preprocess
from jinaclip.specs import SPECS

from .goldens import MODELS, RAW, UNIT, error, expected, folder, ids, inputs, pixels, preprocessor_config, towers, unit

TEXTS = [(model, task, which) for model in MODELS for task in ("default", None) for which in "abcd"]
TEXTS = [case for case in TEXTS if case[0] == "v2-tiny" or case[1]]
IMAGES = [(model, name) for model in MODELS for name in ("image", "image_noise")]


def check(found: torch.Tensor, model: str, name: str) -> None:
    answers, values = expected(model), found.numpy()
    assert values.dtype == np.float32
    assert error(values, answers[name]) < RAW
    assert error(unit(values), answers[f"{name}_norm"]) < UNIT
    for width in (16, 32):
        assert error(unit(values, width), answers[f"{name}_trunc{width}_norm"]) < UNIT


@pytest.mark.parametrize(("model", "task", "which"), TEXTS)
def test_texts(model, task, which):
    found = towers(model, lora_task=task).text(ids(model, which))
    check(found, model, f"text_{which}" if task else f"text_nolora_{which}")


@pytest.mark.parametrize(("model", "name"), IMAGES)
def test_images(model, name):
    check(towers(model).vision(pixels(model, name.replace("image", "pixel_values"))), model, name)


@pytest.mark.parametrize(("model", "task", "which"), TEXTS)
def test_texts_in_double_precision_agree_to_rounding(model, task, which):
    name = f"text_{which}_f64" if task else f"text_nolora_{which}_f64"
    assert error(towers(model, "float64", task).text(ids(model, which)), expected(model)[name]) < 1e-12


@pytest.mark.parametrize(("model", "name"), IMAGES)
def test_images_in_double_precision_agree_to_rounding(model, name):
    found = towers(model, "float64").vision(pixels(model, name.replace("image", "pixel_values")))
    assert error(found, expected(model)[f"{name}_f64"]) < 1e-12


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_close(model, dtype):
    loaded = towers(model, dtype)
    found = {f"text_{which}": loaded.text(ids(model, which)) for which in "abcd"}
    found["image"] = loaded.vision(pixels(model))
    for name, values in found.items():
        assert values.dtype == torch.float32
        cosine = (unit(values.numpy()) * expected(model)[f"{name}_norm"]).sum(1)
        assert cosine.min() > 0.999


@pytest.mark.parametrize("model", MODELS)
def test_logits(model):
    loaded = towers(model)
    text, image = unit(loaded.text(ids(model, "a")).numpy()), unit(loaded.vision(pixels(model)).numpy())
    logits = np.exp(np.float32(loaded.logit_scale)) * text @ image.T
    assert error(logits, expected(model)["logits_per_text"]) < RAW * np.exp(loaded.logit_scale)
    assert error(logits.T, expected(model)["logits_per_image"]) < RAW * np.exp(loaded.logit_scale)


@pytest.mark.parametrize("model", MODELS)
def test_every_step_of_the_text_tower(model):
    tower, tokens = towers(model).assembly.text, ids(model, "c")
    found = []
    parts = [tower.emb_ln, *tower.encoder.layers]
    handles = [part.register_forward_hook(lambda _, __, out: found.append(out)) for part in parts]
    with torch.inference_mode():
        tower.encode(tokens, find_valid_tokens(tokens, None, tower.config.pad_token_id, tower.config.vocab_size))
    for handle in handles:
        handle.remove()
    for name, value in zip(("emb_ln", "layer0", "layer1"), found, strict=True):
        assert error(value, expected(model)[f"dbg_text_c_{name}"]) < RAW, name


@pytest.mark.parametrize("model", MODELS)
def test_every_step_of_the_vision_tower(model):
    tower, answers, first = towers(model).assembly.vision, expected(model), pixels(model)[:1]
    with torch.inference_mode():
        assert error(tower.patch_embed(first), answers["dbg_vision_0_patch_embed"]) < RAW
        x = tower.embed(first)
        for number, block in enumerate(tower.blocks):
            short = block(x, tower.turns, wanted=1)
            x = block(x, tower.turns)
            assert error(x, answers[f"dbg_vision_0_block{number}"]) < RAW
            assert error(short, x[:, :1]) < RAW, "what the last block leaves out changes what it gives"
        assert error(tower.norm(x), answers["dbg_vision_0_norm"]) < RAW


@pytest.mark.parametrize("model", MODELS)
def test_pixels_to_the_last_bit(model):
    raw = sorted(name for name in inputs(model) if name.startswith("raw_0"))
    for row, name in enumerate(raw):
        found = preprocess(inputs(model)[name], preprocessor_config(model))
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        assert np.array_equal(found, inputs(model)["pixel_values"][row]), name
        assert np.array_equal(found, preprocess(Image.fromarray(inputs(model)[name]), preprocessor_config(model)))


@pytest.mark.parametrize("model", MODELS)
def test_a_real_picture_at_the_published_size(model):
    spec = SPECS[f"jina-clip-{model[:2]}"]
    picture = inputs(model)["raw_real_rgb"]
    crop = resize_crop(to_rgb(picture), spec.image_size)
    assert np.array_equal(np.asarray(crop), expected(model)["real_crop_u8"])
    values = preprocess(picture, spec).astype(np.float64)
    assert np.allclose([values.sum(), np.abs(values).sum()], expected(model)["real_pixel_sum"], rtol=1e-12)


def test_the_other_modes_of_the_processor():
    picture = Image.new("RGB", (41, 20), (10, 20, 30))
    config = {"size": 16, "resize_mode": "longest", "fill_color": 200}
    padded = preprocess(picture, config)[0]
    inside = [row for row in range(16) if padded[row, 0] == padded[8, 8]]
    assert inside == list(range(4, 12))  # round(20 / 2.5625) = 8 rows, four above
    assert padded[0, 0] == np.float32(
        (np.float32(200) / np.float32(255) - np.float32(0.48145466)) / np.float32(0.26862954)
    )
    assert preprocess(picture, {"size": 16, "resize_mode": "squash"}).shape == (3, 16, 16)
    assert PreprocessConfig.from_config({"size": {"height": 8, "width": 8}}).size == 8


@pytest.mark.parametrize(
    "bad", [np.zeros((3, 4, 5), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), "x"]
)
def test_what_is_no_picture_is_refused(bad):
    with pytest.raises(InputError):
        preprocess(bad, SPECS["jina-clip-v1"])


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("which", "abd")
def test_a_batch_gives_what_each_row_gives_alone(model, which):
    loaded, batch = towers(model), ids(model, which)
    together = unit(loaded.text(batch).numpy())
    for row, tokens in enumerate(batch):
        end = int((tokens != loaded.pad_id).nonzero().max()) + 1
        assert error(unit(loaded.text(tokens[None, :end]).numpy()), together[row]) < UNIT


@pytest.mark.parametrize("model", MODELS)
def test_many_pictures_give_what_each_gives_alone(model, monkeypatch):
    together = towers(model).vision(pixels(model))
    monkeypatch.setattr("jinaclip.backends.local.towers.vision.CPU_ACTIVATION", 1)
    assert error(towers(model).vision(pixels(model)), together) < RAW


@pytest.mark.parametrize("model", MODELS)
def test_a_mask_only_takes_tokens_away(model):
    loaded, tokens = towers(model), ids(model, "a")
    assert error(loaded.text(tokens, torch.ones_like(tokens)), expected(model)["text_a"]) < RAW
    mask = torch.ones_like(tokens)
    mask[0, 10:] = 0
    assert error(loaded.text(tokens, mask)[:1], loaded.text(tokens[:1, :10])) < RAW


@pytest.mark.parametrize("model", MODELS)
def test_wrong_ids_are_refused_with_their_row(model):
    loaded, tokens = towers(model), ids(model, "a").clone()
    tokens[2] = loaded.pad_id
    with pytest.raises(InputError, match=r"row 2.*padding") as caught:
        loaded.text(tokens)
    assert caught.value.index == 2
    for value in (-1, loaded.vocab_size):
        tokens[2] = value
        with pytest.raises(InputError, match=r"row 2.*outside"):
            loaded.text(tokens)
    for bad in (tokens[0], tokens.float(), tokens[:, :0]):
        with pytest.raises(InputError, match="input_ids"):
            loaded.text(bad)
    with pytest.raises(InputError, match="attention_mask"):
        loaded.text(ids(model, "a"), torch.ones(2, 2))


@pytest.mark.parametrize("model", MODELS)
def test_other_picture_sizes_are_refused(model):
    for bad in (pixels(model)[..., 1:], pixels(model)[0], pixels(model)[:0]):
        with pytest.raises(InputError, match="pixel_values"):
            towers(model).vision(bad)


@pytest.mark.slow
@pytest.mark.parametrize("which", "abcd")
@pytest.mark.parametrize("limit", [1, 700, 5000, 20_000])
def test_blocks_of_queries_give_what_one_pass_gives(which, limit, monkeypatch):
    monkeypatch.setattr(text_alibi, "MAX_BIAS", limit)
    found = towers("v1-tiny").text(ids("v1-tiny", which))
    assert error(found, expected("v1-tiny")[f"text_{which}"]) < RAW


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*flex_attention.*")
@pytest.mark.parametrize("which", "ad")
def test_the_score_function_of_flex_attention_says_the_same(which, monkeypatch):
    from torch.nn.attention.flex_attention import flex_attention

    def flexible(q, k, v, bias):
        return text_alibi.attend_flex(q, k, v, bias.slopes, bias.valid.mask, flex_attention)

    monkeypatch.setattr(text_alibi, "attend", flexible)
    found = towers("v1-tiny").text(ids("v1-tiny", which))
    assert error(found, expected("v1-tiny")[f"text_{which}"]) < RAW


@pytest.mark.parametrize("model", MODELS)
def test_packing_and_widening_change_no_value(model, monkeypatch):
    from jinaclip.backends.local.towers.vision import Mlp
    from jinaclip.local import load_towers

    monkeypatch.setattr("jinaclip.backends.local.towers.layers.can_pack", lambda weight: False)
    monkeypatch.setattr("jinaclip.backends.local.towers.loader.can_pack", lambda weight: False)
    monkeypatch.setattr("jinaclip.backends.local.towers.text_alibi.can_pack", lambda weight: False)
    plain = load_towers(folder(model))
    assert plain.assembly.vision.blocks[0].mlp.w1.packed is None
    check(plain.text(ids(model, "a")), model, "text_a")
    check(plain.vision(pixels(model)), model, "image")
    for module in plain.assembly.vision.modules():
        if isinstance(module, Mlp):
            module.widen(64)
    check(plain.vision(pixels(model)), model, "image")
