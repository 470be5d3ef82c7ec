"""Where a graph says that its weights lie, read from its file without running anything.

A graph names the files of its weights by itself. Whoever made it could name any file of this machine, and so these
names are looked at before ONNX Runtime opens one. An ONNX file is a protocol buffer: fields with a number and a wire
type, of which only those are followed that lead to tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from jinaclip.backends.local.files import read_file, show
from jinaclip.errors import CheckpointError

MAX_GRAPH = 2**26
"""Bytes of a graph without its weights; ours have at most a few hundred thousand."""
MAX_DEPTH = 32
"""Graphs inside graphs, and what lies between them."""
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LEADS = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
"""Numbers of the fields that lead to a tensor's external data, by the message that has them (onnx.proto)."""
KEY, VALUE = 1, 2
"""Fields of an entry."""


def check_locations(path: Path) -> None:
    """Whether a graph takes weights from the one file beside it that has its name.

    Raises:
        CheckpointError: it names another, or is no graph.
    """
    try:
        found = set(find_locations(memoryview(read_file(path, MAX_GRAPH)), "model", 0))
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"{path} is no ONNX graph ({error}); export the checkpoint again") from None
    own = f"{path.name}.data"
    others = sorted(found - {own})
    if others:
        raise CheckpointError(
            f"{path} takes weights from {show(others[0])}, and only {own} beside it is read; export it again"
        )


def find_locations(raw: memoryview, kind: str, depth: int) -> Iterator[str]:
    """The files that a message and all within it name.

    Raises:
        ValueError, IndexError: it is no such message.
    """
    if depth > MAX_DEPTH:
        raise ValueError("graphs lie too deep in one another")
    if kind == "entry":
        fields = {number: bytes(value) for number, value in read_fields(raw)}
        if fields.get(KEY) == b"location":
            yield fields.get(VALUE, b"").decode()
        return
    for number, value in read_fields(raw):
        lead = LEADS[kind].get(number)
        if lead is not None:
            yield from find_locations(value, lead, depth + 1)


def read_fields(raw: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of every field of a message that holds bytes; the others are passed over.

    Raises:
        ValueError, IndexError: it is cut short, or no message.
    """
    place = 0
    while place < len(raw):
        tag, place = read_varint(raw, place)
        number, wire = tag >> 3, tag & 7
        if wire == VARINT:
            _, place = read_varint(raw, place)
            continue
        if wire == BYTES:
            size, place = read_varint(raw, place)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if size > len(raw) - place:
            raise ValueError("it is cut short")
        if wire == BYTES:
            yield number, raw[place : place + size]
        place += size


def read_varint(raw: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, and the place behind it.

    Raises:
        ValueError, IndexError: there is none.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = raw[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise ValueError("a number has more than ten bytes")
