"""Checkpoints of the published sizes with random weights, made once and kept outside the repository.

Names, shapes and types are those of the published files (tests/golden/*.tensors.json), so are the two config files as
far as they matter; vocabularies have the published number of entries and know the words of `inputs.py`. The weights
are small random numbers: vectors mean nothing, but cost what real ones cost.
"""

from __future__ import annotations

import json
import random
import shutil
import string
import sys
from pathlib import Path
from typing import Any

import torch
from inputs import VOCABULARIES, cache_folder
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.tiny import GOLDEN, make_checkpoint

MADE, EXPORTED = 1, 2
"""Raised when what is made changes, so that no older one is taken for it."""
SPREAD = 0.02
"""Standard deviation of weights, as such towers are initialised with."""
INSTRUCTION = "Represent the query for retrieving evidence documents: "
V1_TEXT = {
    "embed_dim": 768,
    "hf_model_config_kwargs": {"use_flash_attn": False},
    "hf_model_name_or_path": "jinaai/jina-bert-flash-implementation",
    "pooler_type": "mean_pooler",
    "proj_bias": False,
    "proj_type": None,
}
V2_TEXT = {
    **V1_TEXT,
    "default_instruction_task": None,
    "default_lora_task": "retrieval.query",
    "embed_dim": 1024,
    "hf_model_config_kwargs": {
        "load_trained_adapters": False,
        "lora_adaptations": ["retrieval.query"],
        "lora_alpha": 4,
        "lora_dropout_p": 0.0,
        "lora_main_params_trainable": False,
        "lora_rank": 4,
        "task_instructions": {"retrieval.query": INSTRUCTION},
        "use_flash_attn": True,
    },
    "hf_model_name_or_path": "jinaai/jina-embeddings-v3",
}
V1_VISION = {
    "embed_dim": 768,
    "head_width": 64,
    "image_size": 224,
    "intp_freq": False,
    "layers": 12,
    "ls_init_value": None,
    "mlp_ratio": 2.6667,
    "naive_swiglu": True,
    "patch_dropout": 0.1,
    "patch_size": 16,
    "post_norm": False,
    "proj_type": None,
    "pt_hw_seq_len": 14,
    "qkv_bias": True,
    "rope_embeddings": True,
    "subln": True,
    "width": 768,
}
V2_VISION = {
    **V1_VISION,
    "embed_dim": 1024,
    "image_size": 512,
    "intp_freq": True,
    "layers": 24,
    "patch_size": 14,
    "pt_hw_seq_len": 16,
    "width": 1024,
}
SECTIONS = {"v1": (V1_TEXT, V1_VISION), "v2": (V2_TEXT, V2_VISION)}
PREPROCESSING = {
    "fill_color": 0,
    "interpolation": "bicubic",
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "resize_mode": "shortest",
    "std": [0.26862954, 0.26130258, 0.27577711],
}
ENTRIES = {"v1": 30522, "v2": 250002}
DTYPES = {"F16": torch.float16, "F32": torch.float32}


def checkpoint(version: str, *, tiny: bool = False) -> Path:
    """The folder of a checkpoint, made where it is missing."""
    folder = cache_folder() / f"{version}-{'tiny' if tiny else 'full'}-{MADE}"
    if not folder.exists():
        print(f"making {folder}", file=sys.stderr)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        cache_folder().mkdir(parents=True, exist_ok=True)
        if tiny:
            make_checkpoint(partial, version)
        else:
            make_full(partial, version)
        partial.rename(folder)
    return folder


def exported(version: str, *, int8: bool, tiny: bool = False) -> Path:
    """The folder of a checkpoint's export, made where it is missing."""
    source = checkpoint(version, tiny=tiny)
    folder = source.with_name(f"{source.name}-{'int8' if int8 else 'onnx'}-{EXPORTED}")
    if not folder.exists():
        from jinaclip.backends.local.export.run import export

        print(f"making {folder}\n{export(str(source), folder, int8=int8)}", file=sys.stderr)
    return folder


def make_full(folder: Path, version: str) -> None:
    """All the files of a checkpoint of the published size."""
    folder.mkdir()
    text, vision = SECTIONS[version]
    config: dict[str, Any] = {
        "add_projections": False,
        "logit_scale_init_value": 2.6592,
        "model_type": "jina_clip",
        "projection_dim": vision["width"],
        "text_config": text,
        "vision_config": vision,
    }
    if version == "v2":
        config["matryoshka_dimensions"] = [32, 64, 128, 256, 512, 768, 1024]
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "preprocessor_config.json").write_text(json.dumps({**PREPROCESSING, "size": vision["image_size"]}))
    tokenizer(version).save(str(folder / "tokenizer.json"))
    manifest = json.loads((GOLDEN / f"jina-clip-{version}.tensors.json").read_text())
    manifest = {name: entry for name, entry in manifest.items() if ".rope." not in name}
    torch.manual_seed(17)
    save_file({name: tensor(name, entry) for name, entry in manifest.items()}, folder / "model.safetensors")


def tensor(name: str, entry: dict[str, Any]) -> torch.Tensor:
    """Random numbers about 0; about 1 for the weights of norms."""
    values = torch.empty(entry["shape"], dtype=torch.float32).normal_(0, SPREAD)
    if name.endswith("weight") and values.ndim == 1:
        values += 1
    return values.to(DTYPES[entry["dtype"]])


def tokenizer(version: str) -> Tokenizer:
    """WordPiece for v1, Unigram for v2: single characters, our words, and made-up words up to the published number."""
    draw = random.Random(17)
    words = [*INSTRUCTION.replace(":", "").split(), *(word for words in VOCABULARIES for word in words)]
    letters = sorted({*string.ascii_letters, *string.digits, *string.punctuation, *"".join(words)})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] if version == "v1" else ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = dict.fromkeys([*special, *(wordpieces if version == "v1" else unigrams)(words, letters)])
    while len(pieces) < ENTRIES[version]:
        made_up = "".join(draw.choices(string.ascii_lowercase, k=draw.randint(3, 9)))
        pieces.setdefault(made_up if version == "v1" else f"▁{made_up}")
    made = wordpiece(list(pieces)) if version == "v1" else unigram(list(pieces))
    start, end = ("[CLS]", "[SEP]") if version == "v1" else ("<s>", "</s>")
    made.add_special_tokens(special)
    made.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(name, made.token_to_id(name)) for name in (start, end)]
    )
    return made


def wordpieces(words: list[str], letters: list[str]) -> list[str]:
    """What the texts of a lower-casing WordPiece are made of."""
    normal = normalizers.BertNormalizer()
    small = [normal.normalize_str(letter) for letter in letters]
    return [*small, *(f"##{letter}" for letter in small), *map(normal.normalize_str, words)]


def unigrams(words: list[str], letters: list[str]) -> list[str]:
    """The same for Unigram, where a word begins with the mark of a space."""
    return ["▁", *letters, *(f"▁{word}" for word in words)]


def wordpiece(pieces: list[str]) -> Tokenizer:
    """The kind of v1."""
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


def unigram(pieces: list[str]) -> Tokenizer:
    """The kind of v2; longer pieces are the likelier ones."""
    scores = [(piece, -12.0 - 1e-6 * i if len(piece) > 1 else -14.0) for i, piece in enumerate(pieces)]
    made = Tokenizer(models.Unigram(scores, unk_id=pieces.index("<unk>"), byte_fallback=False))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made
