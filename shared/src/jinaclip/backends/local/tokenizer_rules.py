"""Whether a `tokenizer.json` holds only rules whose work and whose output are bounded by the text.

Anybody may have written the file: a rule that replaces one character by a million, a regular expression that never
ends, or a template that repeats the text would let every call with a short text run out of time and memory.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinaclip.backends.local.files import parse_json, read_file, show
from jinaclip.errors import CheckpointError

MAX_BYTES = 32 * 2**20
"""Of the file; that of v2 has 17 MB."""
BYTES = (4 * 2**20, 256)
"""Of the file at most: so many, and so many more for each row of the word table."""
MARKS = {b",": (2**16, 4), b"[": (2**14, 2), b"{": (2**14, 0)}
"""How often these may stand in the file, so that what is parsed of it stays small: so often, and so often more for each
row. Unigram has a list and two commas for a token."""
MAX_RULES, MAX_ADDED_TOKENS, MAX_SPECIAL_TOKENS = 16, 4096, 8
"""In one section; in the vocabulary beside the model's own; around each text."""
MAX_PADDING = 2**16
"""Tokens."""
MAX_PIECE = 128
"""Bytes that a normalizer may put in the place of one character; the longest of Unicode have about 33."""
MAX_WORD = 1000
"""Characters of a word that WordPiece looks at; it tries all of its parts."""
MAX_TOKEN = 1024
"""Characters of a token; looking for the longest one that fits costs as much at each character."""
MAX_REGEX = 100
"""Characters of a regular expression."""
REGEX = re.compile(
    r"""
    (?: [^\\\[\](){}.*+?|^$]                                      # one character,
      | \\[sSdDwW] | \\[pP]\{\^?\w+\}                              # or one of a kind,
      | \[\^? (?: [^\[\]\\&] | \\[sSdDwWnrt\-] | \\[pP]\{\^?\w+\} )+ \]  # or one of a list
    )
    (?: \+ | \{[1-9][0-9]?,?[0-9]{0,3}\} )?                        # once or more often
    """,
    re.VERBOSE,
)
"""Regular expressions that may be searched for. They have a single part, so that nothing is ever looked at twice."""

NORMALIZERS = (
    "BertNormalizer",
    "ByteLevel",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Nmt",
    "Precompiled",
    "Prepend",
    "Replace",
    "Strip",
    "StripAccents",
)
PRE_TOKENIZERS = (
    "BertPreTokenizer",
    "ByteLevel",
    "CharDelimiterSplit",
    "Digits",
    "Metaspace",
    "Punctuation",
    "Split",
    "UnicodeScripts",
    "Whitespace",
    "WhitespaceSplit",
)
POST_PROCESSORS = ("BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing")
SECTIONS = {
    "normalizer": ("normalizers", NORMALIZERS),
    "pre_tokenizer": ("pretokenizers", PRE_TOKENIZERS),
    "post_processor": ("processors", POST_PROCESSORS),
}
"""For each section: where a Sequence keeps its rules, and the rules that are known."""
REPEATABLE = ("Replace", "Split", "Strip", "CharDelimiterSplit")
"""Rules that may stand in a section more than once; of others two could each make the text longer."""


def read_rules(path: Path, vocab_size: int) -> bytes:
    """The content of a `tokenizer.json` that may be used.

    Args:
        path: of the file.
        vocab_size: rows of the word table.

    Raises:
        CheckpointError: it cannot be read, is no JSON object, or asks for what no text would bound.
    """
    base, each = BYTES
    raw = read_file(path, min(MAX_BYTES, base + each * vocab_size))
    for mark, (base, each) in MARKS.items():
        if raw.count(mark) > base + each * vocab_size:
            raise CheckpointError(f"{path} is far too large for a word table of {vocab_size} rows; fetch it again")
    config = parse_json(raw, str(path))
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} must hold a JSON object; fetch it again")
    try:
        _check_model(config.get("model"), vocab_size)
        _check_padding(config.get("padding"))
        _check_added_tokens(config.get("added_tokens"))
        for section in SECTIONS:
            _check_section(section, config.get(section))
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be used: {error}") from None
    return raw


def _check_model(model: Any, vocab_size: int) -> None:
    if not isinstance(model, dict):
        raise ValueError("it describes no model")  # noqa: TRY004  the file is wrong, not the program
    if len(model.get("vocab") or ()) > vocab_size:
        raise ValueError(f"it has more tokens than the word table has rows, {vocab_size}")
    if model.get("dropout"):
        raise ValueError("model.dropout would make vectors depend on chance")
    longest = model.get("max_input_chars_per_word") or 0
    if type(longest) is not int or not 0 <= longest <= MAX_WORD:
        raise ValueError(f"model.max_input_chars_per_word = {show(longest)}; the most is {MAX_WORD}")


def _check_padding(padding: Any) -> None:
    """Padding is never done here; a length that no model takes still shows that the file is no honest one."""
    strategy = padding.get("strategy") if isinstance(padding, dict) else None
    length = strategy.get("Fixed", 0) if isinstance(strategy, dict) else 0
    if type(length) is not int or length > MAX_PADDING:
        raise ValueError(f"padding to {show(length)} tokens; the most is {MAX_PADDING}")


def _check_added_tokens(tokens: Any) -> None:
    if not isinstance(tokens, list | None) or len(tokens or ()) > MAX_ADDED_TOKENS:
        raise ValueError(f"added_tokens must be a list of at most {MAX_ADDED_TOKENS}")


def _check_section(section: str, given: Any) -> None:
    nested, known = SECTIONS[section]
    rules = [rule for _, rule in zip(range(MAX_RULES + 1), _flatten(given, nested), strict=False)]
    kinds = [rule.get("type") for rule in rules]
    if len(rules) > MAX_RULES:
        raise ValueError(f"{section} has more than {MAX_RULES} rules")
    for kind, rule in zip(kinds, rules, strict=True):
        if kind not in known:
            raise ValueError(f"{section} has a rule of the type {show(kind)}; known are {', '.join(known)}")
        if kind not in REPEATABLE and kinds.count(kind) > 1:
            raise ValueError(f"{section} has {kind} more than once")
        check = _CHECKS.get(str(kind))
        if check is not None:
            check(rule)


def _flatten(rule: Any, nested: str) -> Iterator[Mapping[str, Any]]:
    """The rules of a section, those of its sequences one by one."""
    if rule is None:
        return
    if not isinstance(rule, dict):
        raise ValueError(f"{show(rule)} is no rule")  # noqa: TRY004
    if rule.get("type") != "Sequence":
        yield rule
        return
    for inner in rule.get(nested) or ():
        yield from _flatten(inner, nested)


def _check_pattern(rule: Mapping[str, Any]) -> int:
    """The fewest characters that a pattern finds."""
    pattern = rule.get("pattern")
    kind, text = next(iter(pattern.items())) if isinstance(pattern, dict) and len(pattern) == 1 else ("", "")
    if kind == "Regex" and isinstance(text, str) and len(text) <= MAX_REGEX and REGEX.fullmatch(text):
        return 1
    if kind == "String" and isinstance(text, str) and text:
        return len(text)
    raise ValueError(
        f"{rule['type']} searches for {show(pattern)}; only plain text, and expressions of one character or class, are "
        "searched for"
    )


def _check_replace(rule: Mapping[str, Any]) -> None:
    content = rule.get("content")
    if not isinstance(content, str) or len(content) > _check_pattern(rule):
        raise ValueError(f"Replace puts {show(content)} in the place of less text")


def _check_prepend(rule: Mapping[str, Any]) -> None:
    if len(str(rule.get("prepend"))) > MAX_PIECE:
        raise ValueError("Prepend puts a long text before each word")


def _check_precompiled(rule: Mapping[str, Any]) -> None:
    """The map: four bytes with the length of a search tree, the tree, and the replacements, each ended by a NUL."""
    try:
        blob = base64.b64decode(rule.get("precompiled_charsmap") or "", validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise ValueError("precompiled_charsmap is no base64") from None
    pieces = blob[4 + int.from_bytes(blob[:4], "little") :].split(b"\0")
    if len(blob) < 4 or max(map(len, pieces)) > MAX_PIECE:
        raise ValueError("precompiled_charsmap holds no map of characters to short texts")


def _check_template(rule: Mapping[str, Any]) -> None:
    single, special = rule.get("single"), rule.get("special_tokens")
    if not isinstance(single, list) or sum("Sequence" in piece for piece in single if isinstance(piece, dict)) > 1:
        raise ValueError("the template repeats the text")
    tokens = [*special.values()] if isinstance(special, dict) else []
    lists = [token.get("ids") for token in tokens if isinstance(token, dict)]
    if len(single) > MAX_RULES or any(isinstance(ids, list) and len(ids) > MAX_SPECIAL_TOKENS for ids in lists):
        raise ValueError(f"the template puts more than {MAX_SPECIAL_TOKENS} tokens around each text")


_CHECKS: dict[str, Callable[[Mapping[str, Any]], object]] = {
    "Replace": _check_replace,
    "Split": _check_pattern,
    "Prepend": _check_prepend,
    "Precompiled": _check_precompiled,
    "TemplateProcessing": _check_template,
}
