"""Texts to token ids, by the `tokenizer.json` of the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tokenizers

from jinaclip.errors import CheckpointError, InputError


class Tokenizer:
    """A tokenizer without padding or truncation of its own, special tokens included in what it gives.

    Args:
        folder: of the checkpoint.
        vocab_size: rows of the word table; no id may lie beyond.
        max_tokens: most tokens of one text, special ones included.

    Raises:
        CheckpointError: the file is missing, damaged, or made for another vocabulary.
    """

    def __init__(self, folder: Path, *, vocab_size: int, max_tokens: int) -> None:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise CheckpointError(f"{folder} has no tokenizer.json; fetch the checkpoint again")
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
            self._tokenizer.encode("a b")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  the library raises bare Exception, and panics beside it
            raise CheckpointError(f"{path} is no tokenizer: {str(error)[:200]}; fetch it again") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_tokens = max_tokens
        self._path = path
        highest = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        if highest >= vocab_size:
            raise CheckpointError(
                f"{path} gives ids up to {highest}, the word table has {vocab_size} rows; "
                "the tokenizer belongs to another checkpoint"
            )

    def count(self, text: str) -> int:
        """Tokens of a text, special ones included."""
        return len(self._encode([text])[0].ids)

    def encode(self, texts: Sequence[str], *, truncate: bool) -> list[list[int] | InputError]:
        """Ids of each text, or why it cannot be embedded: it is too long and must not be cut."""
        return [self._fit(encoding.ids, truncate=truncate) for encoding in self._encode(list(texts))]

    def _encode(self, texts: list[str]) -> list[tokenizers.Encoding]:
        try:
            return self._tokenizer.encode_batch(texts)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # no token for what it does not know, say
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # of a signal handler, which has a frame of its own; the library has none in Python
            raise CheckpointError(f"{self._path} cannot tokenize a text: {str(error)[:200]}") from None

    def _fit(self, ids: list[int], *, truncate: bool) -> list[int] | InputError:
        if len(ids) <= self.max_tokens:
            return ids
        if truncate:
            return [*ids[: self.max_tokens - 1], ids[-1]]  # the last one is the token that ends a sentence
        return InputError(
            f"has {len(ids):,} tokens and the model takes {self.max_tokens:,}; split it, or truncate=True cuts it"
        )
