"""Reads files that callers have open, no further than the image policy allows."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jinaclip.config import ImagePolicy
from jinaclip.errors import InputError
from jinaclip.images.files import check_size
from jinaclip.inputs import is_text_file
from jinaclip.process import run_apart

PIECE = 2**20
"""Bytes that are asked for at a time."""
AS_BINARY = 'was opened as text; open it in mode "rb"'


def read_stream(file: Any, policy: ImagePolicy) -> bytes:
    """What an open binary file holds; never more than one byte over `max_bytes` is read.

    A file that can seek is read from its beginning, wherever it stands, and stands there again afterwards; another one
    (a response, a pipe) from where it stands. A thread of ours reads it, while this one waits.

    Args:
        file: anything with a `read(size)` that gives bytes, or with such a `file`, as uploads of web frameworks have.
        policy: bounds it.

    Raises:
        InputError: it gives text, cannot be read, or the policy refuses what it holds.
    """
    return run_apart(_read_whole, file, policy)


def _read_whole(file: Any, policy: ImagePolicy) -> bytes:
    name = type(file).__name__
    try:
        stream = _find_stream(file)
        with _from_beginning(stream):
            data = _read(stream, policy.max_bytes + 1)
    except InputError as error:
        raise InputError(f"the open file ({name}) {error}") from None
    except Exception as error:  # noqa: BLE001  files of any library, and this a thread of ours
        raise InputError(
            f"the open file ({name}) cannot be read ({type(error).__name__}: {str(error)[:200]})"
        ) from None
    check_size(len(data), policy)
    return data


def _find_stream(file: Any) -> Any:
    """The file itself, or the one that an upload keeps, whose own `read` is a coroutine."""
    if is_text_file(file):
        raise InputError(AS_BINARY)
    if not inspect.iscoroutinefunction(file.read):
        return file
    inner: Any = getattr(file, "file", None)
    if not callable(getattr(inner, "read", None)) or inspect.iscoroutinefunction(inner.read):
        raise InputError("is read by coroutines; await its read() and pass the bytes")
    return inner


@contextmanager
def _from_beginning(stream: Any) -> Iterator[None]:
    """Goes to the beginning of a file, and back to where it stood; leaves one that cannot seek where it is."""
    seekable = getattr(stream, "seekable", None)
    if not (seekable() if callable(seekable) else hasattr(stream, "seek")):
        yield
        return
    place = stream.tell()
    stream.seek(0)
    try:
        yield
    finally:
        stream.seek(place)


def _read(stream: Any, most: int) -> bytes:
    """At most so many bytes; a raw file or a socket may give fewer at a time than it is asked for."""
    found = bytearray()
    while len(found) < most:
        piece = stream.read(min(PIECE, most - len(found)))
        if isinstance(piece, str):
            raise InputError(AS_BINARY)
        if not isinstance(piece, bytes | bytearray | memoryview):
            raise InputError(f"gave {'nothing' if piece is None else type(piece).__name__} when it was read, no bytes")
        if not len(piece):
            break
        found += piece
    return bytes(found[:most])
