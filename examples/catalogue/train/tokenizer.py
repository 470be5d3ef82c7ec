"""Trains the catalogue's tokenizer: byte-level BPE (Sennrich et al. 2016), Han and kana one character at a time."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from examples.catalogue.products import products
from examples.catalogue.train.student import INSTRUCTION
from examples.catalogue.wording import LANGUAGES, paragraph, phrase

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
"""In the order of XLM-RoBERTa: padding has the id 1."""
VOCAB_SIZE = 3072
CHARACTERS = Regex(r"[\p{Han}\p{Hiragana}\p{Katakana}ー]")
"""Scripts without spaces; whole phrases would become tokens, and unseen combinations of words unknown ones."""


def train_tokenizer() -> Tokenizer:
    """The same tokenizer every time, from texts of products that training may see."""
    return Tokenizer.from_str(_trained())


@functools.cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(CHARACTERS, "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer.to_str()


def _texts() -> Iterator[str]:
    rng = random.Random("tokenizer")
    for product in products("train", 2000):
        for language in LANGUAGES:
            yield phrase(product.attributes, language, rng)
            yield paragraph(product.attributes, language, rng)
    yield from [INSTRUCTION] * 100
