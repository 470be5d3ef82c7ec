"""Texts to token ids, by the `tokenizer.json` of the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tokenizers

from jinaclip.backends.local.tokenizer_rules import MAX_SPECIAL_TOKENS, MAX_TOKEN, read_rules
from jinaclip.errors import CheckpointError, InputError, TextTooLongError


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
        raw = read_rules(path, vocab_size)
        try:
            self._tokenizer = tokenizers.Tokenizer.from_buffer(raw)
            self._tokenizer.no_padding()
            self._tokenizer.no_truncation()
            self._tokenizer.encode("a b")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001  the library raises bare Exception, and panics beside it
            raise CheckpointError(f"{path} is no tokenizer: {str(error)[:200]}; fetch it again") from None
        self.max_tokens = max_tokens
        self._path = path
        self._check_tokens(vocab_size)

    def _check_tokens(self, vocab_size: int) -> None:
        vocabulary = self._tokenizer.get_vocab(with_added_tokens=True)
        highest = max(vocabulary.values(), default=-1)
        if highest >= vocab_size:
            raise CheckpointError(
                f"{self._path} gives ids up to {highest}, the word table has {vocab_size} rows; "
                "the tokenizer belongs to another checkpoint"
            )
        if max(map(len, vocabulary), default=0) > MAX_TOKEN:
            raise CheckpointError(f"{self._path} has a token of more than {MAX_TOKEN} characters; fetch it again")
        if (added := self._tokenizer.num_special_tokens_to_add(is_pair=False)) > MAX_SPECIAL_TOKENS:
            raise CheckpointError(f"{self._path} puts {added} tokens around each text; most are {MAX_SPECIAL_TOKENS}")

    def count(self, text: str) -> int:
        """Tokens of a text, special ones included.

        Raises:
            InputError: the tokenizer fails on it.
        """
        ids = self._encode_apart(text)
        if isinstance(ids, InputError):
            raise ids
        return len(ids)

    def encode(self, texts: Sequence[str], *, truncate: bool) -> list[list[int] | InputError]:
        """Ids of each text, or why it cannot be embedded: the tokenizer fails on it, or it is too long.

        Where one text makes the library fail, each is tokenized by itself, so that the others go on.
        """
        encoded: Sequence[list[int] | InputError] | None = self._encode_together(list(texts))
        if encoded is None:
            encoded = [self._encode_apart(text) for text in texts]
        return [ids if isinstance(ids, InputError) else self._fit(ids, truncate=truncate) for ids in encoded]

    def _encode_together(self, texts: list[str]) -> list[list[int]] | None:
        """Ids of each text; None if the library fails."""
        try:
            return [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # no token for what it does not know, say
            if is_of_a_handler(error):
                raise
            return None

    def _encode_apart(self, text: str) -> list[int] | InputError:
        try:
            return self._tokenizer.encode(text).ids
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if is_of_a_handler(error):
                raise
            return InputError(f"{self._path} cannot tokenize it: {str(error)[:200]}")

    def _fit(self, ids: list[int], *, truncate: bool) -> list[int] | InputError:
        if len(ids) <= self.max_tokens:
            return ids
        if truncate:
            return [*ids[: self.max_tokens - 1], ids[-1]]  # the last one is the token that ends a sentence
        return TextTooLongError(
            f"has {len(ids):,} tokens and the model takes {self.max_tokens:,}; split it, or truncate=True cuts it"
        )


def is_of_a_handler(error: BaseException) -> bool:
    """Whether an error comes from a signal handler, which has a frame of its own; the library has none in Python."""
    return error.__traceback__ is not None and error.__traceback__.tb_next is not None
