"""Files of a checkpoint folder, which anybody may have written: read only where regular, and of bounded size."""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinaclip.errors import CheckpointError

MAX_SHOWN = 80
"""Characters of a value or a name from a file that an error shows."""


def regular_size(path: Path) -> int:
    """Bytes of a regular file; a pipe or a device in its place could block for ever, or never end.

    Raises:
        CheckpointError: it is missing, cannot be read, or is no regular file.
    """
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({reason_of(error)}); fetch the checkpoint again") from error
    if not stat.S_ISREG(found.st_mode):
        raise CheckpointError(f"{path} is no regular file; fetch the checkpoint again")
    return found.st_size


def read_file(path: Path, most: int) -> bytes:
    """The whole of a regular file.

    Raises:
        CheckpointError: it is missing, cannot be read, is no regular file, or has more than `most` bytes.
    """
    size = regular_size(path)
    if size > most:
        raise CheckpointError(f"{path} has {size:,} bytes; the most that is read is {most:,}; fetch it again")
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({reason_of(error)}); fetch the checkpoint again") from error


def parse_json(raw: bytes, where: str) -> Any:
    """What JSON text holds. A key that stands twice is refused: two readers could take two different values.

    Raises:
        CheckpointError: it is no JSON.
    """
    try:
        return json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} holds no valid JSON ({str(error)[:MAX_SHOWN]}); fetch it again") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands in one object twice")
    return found


def show(value: Any) -> str:
    """A value from a file, for an error: cut where it is long."""
    text = repr(value[: 2 * MAX_SHOWN] if isinstance(value, str | list | tuple) else value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def reason_of(error: Exception) -> str:
    """What the operating system says, without the path."""
    return str(getattr(error, "strerror", None) or error)
