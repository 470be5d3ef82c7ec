"""Checkpoint folders, sound and broken: what is loaded, and what is refused with which words."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from jinaclip.backends.local.towers import loader
from jinaclip.backends.local.towers.assembly import ROPE_TABLES, Assembly
from jinaclip.backends.local.towers.loader import resolve_dtype
from jinaclip.backends.local.towers.vision import VisionConfig
from jinaclip.errors import CheckpointError, ConfigError
from jinaclip.local import load_towers, resolve_device

from .goldens import GOLDEN, MODELS, RAW, error, expected, folder, ids, pixels

PUBLISHED = {
    "jina-clip-v1": {
        "text_config": {"embed_dim": 768, "hf_model_name_or_path": "jinaai/jina-bert-flash-implementation"},
        "vision_config": {"embed_dim": 768, "width": 768, "layers": 12, "head_width": 64, "image_size": 224}
        | {"patch_size": 16, "mlp_ratio": 2.6667, "intp_freq": False, "pt_hw_seq_len": 14},
    },
    "jina-clip-v2": {
        "text_config": {
            "embed_dim": 1024,
            "hf_model_name_or_path": "jinaai/jina-embeddings-v3",
            "default_lora_task": "retrieval.query",
            "hf_model_config_kwargs": {"lora_adaptations": ["retrieval.query"], "lora_alpha": 4, "lora_rank": 4},
        },
        "vision_config": {"embed_dim": 1024, "width": 1024, "layers": 24, "head_width": 64, "image_size": 512}
        | {"patch_size": 14, "mlp_ratio": 2.6667, "intp_freq": True, "pt_hw_seq_len": 16},
    },
}
PARAMETERS = {  # text, of which LoRA, vision
    "jina-clip-v1": (136_777_728, 0, 85_869_312),
    "jina-clip-v2": (560_895_564, 2_581_068, 304_382_912),
}


def built(config: dict) -> Assembly:
    with torch.device("meta"):
        return Assembly(config)


def count(shapes: dict, prefix: str = "") -> int:
    return sum(torch.Size(shape).numel() for name, shape in shapes.items() if name.startswith(prefix))


@pytest.mark.parametrize("model", PUBLISHED)
def test_every_name_and_shape_of_the_published_file(model):
    manifest = json.loads((GOLDEN / f"{model}.tensors.json").read_text())
    published = {name: tuple(entry["shape"]) for name, entry in manifest.items()}
    parts = built(PUBLISHED[model])
    if model == "jina-clip-v1":
        assert {name: published.pop(name) for name in ROPE_TABLES} == parts.optional_shapes()
    assert parts.required_shapes() == published


@pytest.mark.parametrize("model", PUBLISHED)
def test_parameter_totals(model):
    shapes = built(PUBLISHED[model]).required_shapes()
    text, lora, vision = PARAMETERS[model]
    assert count(shapes, "text_model.") == text
    assert count({name: shape for name, shape in shapes.items() if "lora_" in name}) == lora
    assert count(shapes, "vision_model.") == vision
    assert count(shapes) == text + vision + 1


@pytest.fixture(params=MODELS)
def copy(request, tmp_path):
    """A copy of a toy checkpoint that a test may break."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder(request.param) / name, tmp_path / name)
        (tmp_path / name).chmod(0o644)
    return tmp_path


@pytest.fixture
def v1(tmp_path):
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder("v1-tiny") / name, tmp_path / name)
        (tmp_path / name).chmod(0o644)
    return tmp_path


def change_weights(path, change) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path / "model.safetensors").items()}
    change(tensors)
    save_file(tensors, path / "model.safetensors")


def change_config(path, change) -> None:
    config = json.loads((path / "config.json").read_text())
    change(config)
    (path / "config.json").write_text(json.dumps(config))


def refused(path, *words: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_towers(path)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def test_all_that_does_not_fit_is_named_at_once(copy):
    def change(tensors):
        del tensors["vision_model.norm.bias"], tensors["logit_scale"]
        tensors["vision_model.norm.weight"] = torch.zeros(3)
        tensors["head.weight"] = torch.zeros(2)

    change_weights(copy, change)
    refused(copy, "2 missing: logit_scale, vision_model.norm.bias", "1 unexpected: head.weight", "[3] instead of [")


def test_long_lists_are_cut_and_counted(copy):
    change_weights(copy, lambda tensors: [tensors.pop(name) for name in list(tensors) if "blocks.0" in name])
    refused(copy, "21 missing", "and 13 more")


def test_missing_adapters_are_missing(tmp_path):
    shutil.copytree(folder("v2-tiny"), tmp_path / "x")
    (tmp_path / "x/model.safetensors").chmod(0o644)
    change_weights(tmp_path / "x", lambda tensors: [tensors.pop(name) for name in list(tensors) if "lora_A" in name])
    refused(tmp_path / "x", "10 missing")


def test_rotary_tables_may_stand_in_the_file_or_not(v1):
    change_weights(v1, lambda tensors: [tensors.pop(name) for name in ROPE_TABLES])
    assert error(load_towers(v1).vision(pixels("v1-tiny")), expected("v1-tiny")["image"]) < RAW


def test_rotary_tables_that_contradict_the_config_are_refused(v1):
    change_weights(v1, lambda tensors: tensors[ROPE_TABLES[0]].add_(0.1))
    refused(v1, "freqs_cos", "rotary positions")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_none_are_refused(copy, value):
    change_weights(copy, lambda tensors: tensors["vision_model.blocks.1.mlp.w2.weight"].view(-1)[7].fill_(value))
    refused(copy, "NaN or infinite", "vision_model.blocks.1.mlp.w2.weight", "fetch it again")


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_a_file_cut_short_is_refused(copy, keep):
    data = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(data[:keep])
    refused(copy, "model.safetensors", "cut short", "fetch it again")


def test_a_file_that_goes_on_is_refused(copy):
    with (copy / "model.safetensors").open("ab") as file:
        file.write(b"more")
    refused(copy, "damaged")


def test_a_huge_header_is_not_read(copy):
    with (copy / "model.safetensors").open("wb") as file:
        file.write((11 * 2**20).to_bytes(8, "little"))
        file.truncate(12 * 2**20)
    refused(copy, "header", "11534336")


@pytest.mark.parametrize("header", [b"[]", b"{", b"\xff", b'{"a": 1}', b'{"a": {"dtype": "F32"}}', b"[" * 100_000])
def test_a_header_that_is_none_is_refused(copy, header):
    (copy / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    refused(copy, "model.safetensors")


def test_other_number_types_are_refused(copy):
    change_weights(copy, lambda tensors: tensors.update(logit_scale=torch.tensor(1)))
    refused(copy, "logit_scale", "'I64'")


def test_pickles_are_never_opened(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    refused(copy, "pytorch_model.bin", "only safetensors are read", "Convert")


def test_a_missing_file_is_named(copy, tmp_path):
    refused(tmp_path / "nowhere", "config.json", "cannot be read")
    (copy / "model.safetensors").unlink()
    refused(copy, "no model.safetensors")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff", "[" * 100_000])
def test_a_config_that_is_none_is_refused(copy, text):
    (copy / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    refused(copy, "config.json")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (None, "text_config", None),
        (None, "vision_config", 3),
        ("text_config", "hf_model_name_or_path", "bert-base-uncased"),
        ("text_config", "hf_model_config_kwargs", 3),
        ("text_config", "pooler_type", "cls_pooler"),
        ("text_config", "proj_type", "mlp"),
        ("text_config", "embed_dim", 47),
        ("vision_config", "width", "48"),
        ("vision_config", "layers", -1),
        ("vision_config", "head_width", 7),
        ("vision_config", "patch_size", 0),
        ("vision_config", "mlp_ratio", float("nan")),
        ("vision_config", "post_norm", True),
        ("vision_config", "naive_swiglu", False),
        ("vision_config", "intp_freq", None),
        ("vision_config", "image_size", True),
    ],
)
def test_a_config_that_asks_for_something_else_is_refused(v1, section, key, value):
    change_config(v1, lambda config: (config[section] if section else config).update({key: value}))
    refused(v1, "config.json", key)


@pytest.mark.parametrize("variant", [{"hidden_act": "relu"}, {"num_attention_heads": 5}, {"use_qk_norm": True}])
def test_text_variants_that_are_not_built_here_are_refused(v1, variant):
    change_config(v1, lambda config: config["text_config"]["hf_model_config_kwargs"].update(variant))
    refused(v1, "config.json")


def test_unknown_keys_are_tolerated(copy):
    change_config(copy, lambda config: [part.update(novelty=[1]) for part in (config, config["vision_config"])])
    load_towers(copy)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32])
def test_files_of_any_float_type(model, kind, tmp_path):
    shutil.copytree(folder(model), tmp_path / "x")
    (tmp_path / "x/model.safetensors").chmod(0o644)
    change_weights(tmp_path / "x", lambda tensors: tensors.update({k: v.to(kind) for k, v in tensors.items()}))
    assert error(load_towers(tmp_path / "x").text(ids(model, "a")), expected(model)["text_a"]) < 0.2


def test_nothing_of_the_file_stays_mapped(v1):
    loaded = load_towers(v1)
    before = loaded.text(ids("v1-tiny", "a")), loaded.vision(pixels("v1-tiny"))
    size = (v1 / "model.safetensors").stat().st_size
    with (v1 / "model.safetensors").open("r+b") as file:
        file.write(bytes(size))
    after = loaded.text(ids("v1-tiny", "a")), loaded.vision(pixels("v1-tiny"))
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])


def test_projections(copy):
    def widths(config):
        config.update(add_projections=True, projection_dim=10)
        config["text_config"].update(proj_type="linear", proj_bias=True, embed_dim=20)
        config["vision_config"].update(proj_type="linear", embed_dim=30)

    change_config(copy, widths)
    model = "v1-tiny" if "bert" in (copy / "config.json").read_text() else "v2-tiny"
    width = expected(model)["image"].shape[1]
    torch.manual_seed(0)
    added = {
        "text_model.proj.weight": torch.randn(20, width),
        "text_model.proj.bias": torch.randn(20),
        "vision_model.head.weight": torch.randn(30, width),
        "vision_model.head.bias": torch.randn(30),
        "text_projection.weight": torch.randn(10, 20),
        "visual_projection.weight": torch.randn(10, 30),
    }
    refused(copy, "6 missing", *added)
    change_weights(copy, lambda tensors: tensors.update(added))
    loaded = load_towers(copy)
    assert loaded.dimensions == 10
    text, image = (torch.from_numpy(expected(model)[name]) for name in ("text_a", "image"))
    text = (text @ added["text_model.proj.weight"].T + added["text_model.proj.bias"]) @ added[
        "text_projection.weight"
    ].T
    image = image @ added["vision_model.head.weight"].T + added["vision_model.head.bias"]
    assert error(loaded.text(ids(model, "a")), text) < 100 * RAW
    assert error(loaded.vision(pixels(model)), (image @ added["visual_projection.weight"].T)) < 100 * RAW


def test_widths_that_differ_without_a_projection_are_refused(v1):
    change_config(v1, lambda config: config["vision_config"].update(proj_type="linear", embed_dim=30))
    refused(v1, "48 and 30")


def test_adapters_are_chosen_by_name():
    named = load_towers(folder("v2-tiny"), lora_task="retrieval.query").text(ids("v2-tiny", "a"))
    assert error(named, expected("v2-tiny")["text_a"]) < RAW
    with pytest.raises(ConfigError, match=r"lora_task='other'.*retrieval\.query"):
        load_towers(folder("v2-tiny"), lora_task="other")


def test_facts():
    loaded = load_towers(folder("v1-tiny"))
    facts = (loaded.dimensions, loaded.image_size, loaded.vocab_size, loaded.pad_id, str(loaded.device), loaded.dtype)
    assert facts == (48, 64, 220, 0, "cpu", torch.float32)
    assert loaded.config["model_type"] == "jina_clip"
    assert not loaded.vision(pixels("v1-tiny")).requires_grad


@pytest.mark.parametrize("device", ["", "tpu", "cpu:x", "meta", "cuda:99", 3.5])
def test_devices_that_are_not_there(device):
    with pytest.raises(ConfigError, match="device"):
        resolve_device(device)


def test_devices_and_dtypes(monkeypatch):
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    assert resolve_dtype(None, torch.device("cpu")) == torch.float32
    assert resolve_dtype(None, torch.device("cuda")) == torch.bfloat16
    assert resolve_dtype("torch.float16", torch.device("cpu")) == resolve_dtype(torch.float16, torch.device("cpu"))
    for bad in ("int8", "auto", torch.int8):
        with pytest.raises(ConfigError, match="dtype"):
            resolve_dtype(bad, torch.device("cpu"))
    monkeypatch.setattr(loader.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loader.torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto") == torch.device("cuda")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


def test_a_config_without_what_is_implied():
    vision = PUBLISHED["jina-clip-v1"]["vision_config"]
    bare = {key: value for key, value in vision.items() if key not in ("pt_hw_seq_len", "width")}
    assert VisionConfig.from_dict(bare | {"width": None}).width == 768
