"""Opens files of text, compressed or not, and reads them line by line."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import BinaryIO, Protocol, TypeVar, cast

from jinaclip.errors import InputError, JinaClipError
from jinaclip.requirements import need
from jinaclip.sources.places import Folder

T = TypeVar("T")
BOM = "\ufeff".encode()
BUFFER = 4 * 2**20
"""Bytes that are asked for at a time; in a storage each time is a request."""
LONGEST_LINE = 256 * 2**20
"""Bytes. A longer line is no row, and is not kept in memory."""
PEEKED = 100
"""Records of a table without a header after which a column that did not come is taken for missing."""
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


class Lines(Protocol):
    """What has lines: a file that is open for reading bytes."""

    def readline(self, size: int, /) -> bytes:
        """The next line with its end, or its first bytes; none at the end."""


@contextmanager
def open_stream(folder: Folder, path: str) -> Iterator[BinaryIO]:
    """A file open for reading bytes, decompressed if its name says that it is compressed.

    Raises:
        InputError: it cannot be opened, or not read to its end: what comes behind would be lost unseen.
        MissingDependencyError: pyarrow is needed and not installed.
    """
    compression = next((word for end, word in COMPRESSIONS.items() if path.lower().endswith(end)), None)
    with folder.open(path) as raw:
        try:
            if compression is None:
                yield io.BufferedReader(cast(io.RawIOBase, raw), BUFFER)  # files of pyarrow have no lines
                return
            pyarrow = need("pyarrow", f"{path!r} is compressed, and that")
            with pyarrow.CompressedInputStream(raw, compression) as stream:
                yield io.BufferedReader(stream, BUFFER)
        except (OSError, EOFError) as error:
            if isinstance(error, JinaClipError):
                raise
            raise InputError(f"{folder.name}/{path} cannot be read to its end: {error}") from None


def read_lines(stream: Lines) -> Iterator[tuple[int, bytes | InputError]]:
    r"""The lines with their numbers from 1 and their ends; an error in place of one that is too long.

    Only "\n" ends a line: a text may hold other characters that end lines elsewhere.
    """
    number = 0
    while line := stream.readline(LONGEST_LINE + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(BOM)
        if len(line) <= LONGEST_LINE:
            yield number, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(BUFFER)
        yield number, InputError(f"is longer than {LONGEST_LINE} bytes")


def peek(values: Iterable[T], most: int) -> tuple[list[T], Iterator[T]]:
    """The first values, and an iterator over all of them."""
    rest = iter(values)
    first = list(islice(rest, most))
    return first, chain(first, rest)
