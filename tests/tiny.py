"""Tiny checkpoints that load like published ones: the goldens, with a tokenizer made here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tests.needs import skip_without

if TYPE_CHECKING:
    from tokenizers import Tokenizer

GOLDEN = Path(__file__).parent / "golden"
SPECIAL = {"v1": ("[CLS]", "[SEP]", "[PAD]"), "v2": ("<s>", "</s>", "<pad>")}


def byte_tokenizer(version: str, size: int) -> Tokenizer:
    """A token for each byte behind the special ones, as many as fit; the rest is unknown to it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    start, end, pad = SPECIAL[version]
    order = [pad, start, end] if version == "v1" else [start, pad, end]
    tokens = [*order, "[UNK]", *sorted(pre_tokenizers.ByteLevel.alphabet())][:size]
    vocab = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([start, end, pad])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, vocab[start]), (end, vocab[end])]
    )
    return tokenizer


def make_checkpoint(folder: Path, version: str) -> Path:
    """A folder with all the files of a checkpoint, for tests that load it: without torch they are skipped."""
    skip_without("torch")
    shutil.copytree(GOLDEN / f"{version}-tiny", folder, ignore=shutil.ignore_patterns("*.npz", "*.md"))
    config = json.loads((folder / "config.json").read_text())
    rows = config["text_config"]["hf_model_config_kwargs"]["vocab_size"]
    byte_tokenizer(version, rows).save(str(folder / "tokenizer.json"))
    return folder
