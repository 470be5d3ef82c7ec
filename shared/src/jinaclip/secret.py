"""API keys, kept out of everything that people read."""

from __future__ import annotations

import re
from typing import Any

KEY_SHAPE = re.compile(r"(jina_|Bearer\s+)[A-Za-z0-9_\-]{4,}")
"""What a key looks like in other people's text."""


class Secret:
    """An API key that no repr, log, dump or pickle shows."""

    __slots__ = ("_value", "kind")

    def __init__(self, value: str | None, kind: str = "str") -> None:
        self._value = value
        self.kind = kind
        """Type of what was given, for the check that refuses anything but a str."""

    def reveal(self) -> str:
        """The key itself, for the request header alone."""
        return self._value or ""

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('***')" if self else "Secret(None)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[type[Secret], tuple[None]]:
        return Secret, (None,)  # keys do not travel: the other process reads its own environment

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
