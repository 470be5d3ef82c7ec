"""API keys and the values of HTTP headers, kept out of everything that people read."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jinaclip.errors import ConfigError

KEY_SHAPE = re.compile(r"(jina_(?!clip_)|Bearer\s+)[A-Za-z0-9_\-]{4,}")
"""What a key looks like in other people's text. The names of spaces, "jina_clip_v2_1024_...", are none."""
PIECE = 8
"""Characters of a secret that give it away, wherever they are; fewer can be part of any word."""
SHORTEST = 4
"""Secrets of fewer characters are not looked for: they are in half of all texts."""
LONGEST_TEXT = 16_384
"""Characters of a text that are looked at, which bounds the time that takes. What follows is dropped."""
LONGEST_SHOWN = 500
"""Characters of a text that are shown."""
ESCAPED = {
    "URL": r"%(?:25)*(?P<percent>[0-9a-f]{2})",
    "JSON": r"(?<!\\)\\++(?:u(?P<json>[0-9a-f]{4})|x(?P<python>[0-9a-f]{2})|(?P<quote>[\"'/]))?",
    "HTML": r"&(?:amp;)*(?:\#x(?P<hex>[0-9a-f]{1,5})|\#(?P<decimal>[0-9]{1,6})|(?P<name>amp|lt|gt|quot|apos));",
}
"""One character as it is escaped once or several times over; Python does so as JSON does."""
MIXED = re.compile("|".join(ESCAPED.values()), re.IGNORECASE)
ESCAPES = (*(re.compile(pattern, re.IGNORECASE) for pattern in ESCAPED.values()), MIXED)
SCHEME = re.compile(r"(?:Bearer|Basic|Digest|Token|Key|ApiKey) \S+", re.IGNORECASE)
"""The value of a header whose second word is the secret: "Bearer <key>"."""
NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
FOLDED = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_", "abcdefghijklmnopqrstuvwxyz+/")
"""Capitals as small letters, the base64 of URLs as the usual one."""
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")
OWN_HEADERS = ("Host", "Content-Length", "Transfer-Encoding", "Connection", "Content-Type", "Accept-Encoding")
"""Headers that follow from the request itself."""


class Secret:
    """An API key, or the value of a header, that no repr, log or dump shows. A pickle holds what was given by a caller.

    Args:
        value: the text; None for none.
        kind: type of what was given, for the check that refuses anything but a str.
        travels: whether a pickle holds the value; False for what every process finds in its own environment.
    """

    __slots__ = ("_value", "kind", "travels")

    def __init__(self, value: str | None, kind: str = "str", *, travels: bool = True) -> None:
        self._value = value
        self.kind = kind
        self.travels = travels

    def reveal(self) -> str:
        """The text itself, for the request header alone."""
        return self._value or ""

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')" if self else "Secret(None)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[type[Secret], tuple[str | None, str]]:
        return Secret, (self._value if self.travels else None, self.kind)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    @classmethod
    def wrap(cls, value: Any) -> Secret:
        """The key as a Secret: a str, an object with `get_secret_value` (pydantic), None or a Secret.

        Never raises: a traceback would show its argument.
        """
        if isinstance(value, Secret):
            return value
        if hasattr(value, "get_secret_value"):
            value = value.get_secret_value()
        if value is not None and not isinstance(value, str):
            return cls(None, type(value).__name__)
        return cls(value.strip() or None if value else None)

    @classmethod
    def from_environment(cls, *names: str) -> Secret:
        """The first of these variables that is not blank; a Secret of none if all are. It does not travel."""
        values = (os.environ.get(name, "").strip() for name in names)
        return cls(next(filter(None, values), None), travels=False)


class Headers(Mapping[str, Secret]):
    """HTTP headers by name, in whatever case. Names are shown; values are Secrets, which a pickle holds if they travel.

    A Secret without a value is one that has to be resolved yet, or that stayed in another process; `reveal` says so.
    """

    __slots__ = ("_hash", "_headers", "problem")

    def __init__(self, headers: Any = ()) -> None:
        """Never raises: a traceback would show its argument.

        Args:
            headers: a mapping of names to str, or to what else `Secret.wrap` takes.
        """
        self.problem = _find_problem(headers)
        """What the headers should be, in words, or None if they are fine. Wrong ones are not kept."""
        kept = {} if self.problem else {**headers}
        self._headers = {name.lower(): (name, Secret.wrap(value)) for name, value in kept.items()}
        self._hash = hash(frozenset(self._values().items()))

    @classmethod
    def wrap(cls, headers: Any) -> Headers | None:
        """Headers, or None for None. Never raises; see `problem`."""
        return headers if headers is None or isinstance(headers, Headers) else cls(headers)

    def reveal(self) -> dict[str, str]:
        """Names and values, for the request alone.

        Raises:
            ConfigError: a value is not there.
        """
        for name, value in self._headers.values():
            if not value:
                raise ConfigError(f"the header {name!r} has no value in this process; set headers again")
        return {name: value.reveal() for name, value in self._headers.values()}

    def __getitem__(self, name: str) -> Secret:
        return self._headers[name.lower()][1]

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._headers.values())

    def __len__(self) -> int:
        return len(self._headers)

    def __repr__(self) -> str:
        return f"Headers({', '.join(map(repr, self))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and other._values() == self._values()

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Headers], tuple[dict[str, Secret]]]:
        return Headers, (dict(self),)

    def __copy__(self) -> Headers:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Headers:
        return self

    def _values(self) -> dict[str, Secret]:
        return {name: value for name, (_, value) in self._headers.items()}


def _find_problem(headers: Any) -> str | None:
    """What these headers should be, in words that hold no value, or None if they are fine."""
    if not isinstance(headers, Mapping):
        return f"a mapping of names to str, not {type(headers).__name__}"
    seen: set[str] = set()
    for name, value in headers.items():
        problem = _find_problem_of(name, value)
        if problem is None and name.lower() in seen:
            problem = f"a mapping that has each header once, and {name!r} is there twice"
        if problem is not None:
            return problem
        seen.add(name.lower())
    return None


def _find_problem_of(name: Any, value: Any) -> str | None:
    """The same for one header."""
    if not isinstance(name, str):
        return f"a mapping of names to str, and a name is of type {type(name).__name__}"
    if KEY_SHAPE.match(name):
        return "a mapping of names to str, and an API key stands for a name"
    if not HEADER_NAME.fullmatch(name):
        start = HEADER_NAME.match(name)  # what follows can be the value
        return "a mapping of names to str, and a name" + (f", {start[0]!r}...," if start else "") + " is no HTTP token"
    if name.lower() in map(str.lower, OWN_HEADERS):
        return f"a mapping without {', '.join(OWN_HEADERS)}, which jinaclip sets, and {name!r} is there"
    if isinstance(value, Secret) and value.kind == "str":
        text = value.reveal() or "not there yet"
    else:
        text = value.get_secret_value() if hasattr(value, "get_secret_value") else value
    if not isinstance(text, str):
        return f"a mapping of names to str, and the value of {name!r} is of type {type(text).__name__}"
    if not text.strip() or not HEADER_VALUE.fullmatch(text):
        return f"a mapping of names to one line of Latin-1 each, and the value of {name!r} is none"
    return None


class Redactor:
    """Replaces secrets in text that others wrote, in whatever way it repeats them.

    Pieces of 8 characters or more are found: in capitals or small letters, escaped for a URL, JSON, HTML or Python, in
    base64 or hex, by themselves or inside something longer. A secret of 4 to 7 characters is found where it stands as
    a word, one of fewer is not looked for. What only looks like a key is replaced too.

    Args:
        values: secrets, or values of headers that end in one, such as "Bearer <key>".
    """

    __slots__ = ("_pieces", "_words")

    def __init__(self, values: Iterable[str]) -> None:
        self._pieces: set[str] = set()
        words: set[str] = set()
        for value in values:
            secret = value.rpartition(" ")[2] if SCHEME.fullmatch(value) else value
            if len(secret) >= PIECE:
                forms = _fold(_forms(secret))
                self._pieces |= {form[i : i + PIECE] for form in forms for i in range(len(form) - PIECE + 1)}
                words |= {form for form in forms if SHORTEST <= len(form) < PIECE}  # longer with its escapes
            else:
                words |= _words(secret) | (_words(value) if value != secret else set())
        pattern = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        self._words = re.compile(rf"(?<![0-9a-z])(?:{pattern})(?![0-9a-z])") if words else None

    def clean(self, text: str) -> str:
        """The text without secrets, and only then cut."""
        text = text[:LONGEST_TEXT]
        shown, at = "", 0
        readings = [_as_written(text), *(_unescape(text, escape) for escape in ESCAPES if escape.search(text))]
        for start, end in _merge(span for reading in readings for span in self._find(*reading)):
            shown += text[at:start] + "***"
            at = end
        return KEY_SHAPE.sub("***", shown + text[at:]).strip()[:LONGEST_SHOWN]

    def _find(self, folded: str, places: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Where in the text there are secrets; they may overlap."""
        for i in range(len(folded) - PIECE + 1):
            if folded[i : i + PIECE] in self._pieces:
                yield places[i], places[i + PIECE]
        for match in self._words.finditer(folded) if self._words else ():
            yield places[match.start()], places[match.end()]


def _merge(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same stretches of a text, in order, those that touch as one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _as_written(text: str) -> tuple[str, Sequence[int]]:
    """A text in small letters, and the place of each in the text, and the text's end."""
    return text.translate(FOLDED), range(len(text) + 1)


def _unescape(text: str, escape: re.Pattern[str]) -> tuple[str, Sequence[int]]:
    """The same without escapes of a kind."""
    parts: list[str] = []
    places: list[int] = []
    at = 0
    for match in escape.finditer(text):
        parts += [text[at : match.start()], _character(match)]
        places += range(at, match.start() + 1)
        at = match.end()
    return "".join([*parts, text[at:]]).translate(FOLDED), [*places, *range(at, len(text) + 1)]


def _character(escape: re.Match[str]) -> str:
    """The character that an escape stands for."""
    kind = escape.lastgroup
    value = escape[kind] if kind else "\\"
    if kind == "name":
        return NAMED[value.lower()]
    return value if kind in (None, "quote") else chr(int(value, 10 if kind == "decimal" else 16))


def _fold(forms: Iterable[str]) -> set[str]:
    """Forms of a secret in small letters, as written and without escapes."""
    return {folded for form in forms for folded in (_as_written(form)[0], _unescape(form, MIXED)[0])}


def _forms(secret: str) -> Iterator[str]:
    """A secret as it may be written: as it is, in hex, and in base64, alone or as part of something longer."""
    for data in {secret.encode("latin-1", "replace"), secret.encode("utf-8", "surrogateescape")}:
        yield data.decode("latin-1")
        yield data.hex()
        for before, first in ((0, 0), (1, 2), (2, 3)):  # bytes before it, and the first letter that is all its own
            yield b64encode(bytes(before) + data).decode()[first : (before + len(data)) * 8 // 6]


def _words(secret: str) -> set[str]:
    """A short secret as the words that it may be written as."""
    data = secret.encode("utf-8", "surrogateescape")
    forms = (secret, data.hex(), b64encode(data).decode().rstrip("="))
    return {word for word in _fold(forms if len(secret) >= SHORTEST else ()) if len(word) >= SHORTEST}
