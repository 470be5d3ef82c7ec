"""Tampers with bytes and with JSON, by a generator of random numbers that can be seeded."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

ODD_BYTES = [b"\x00", b"\xff", b"\r\n", b"\n\n", b"\xff\xd8", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0"]
ODD_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2,
    3,
    0.5,
    -0.0,
    1e308,
    float("nan"),
    float("inf"),
    2**31,
    2**63,
    10**400,
    "",
    " ",
    "0",
    "\0",
    "é",
    "\ud800",
    "../../etc/passwd",
    "A" * 5000,
    [],
    [[]],
    [None],
    [0] * 500,
    {},
    {"": {}},
    {"type": "x"},
]


def mutate_bytes(data: bytes, draw: random.Random) -> bytes:
    """Up to eight changes: bits turned, odd bytes put in, parts dropped, doubled, moved, or all behind them cut."""
    changed = bytearray(data)
    for _ in range(draw.choice([0, 1, 1, 1, 2, 4, 8])):
        if changed:
            draw.choice(CHANGES)(changed, draw)
    return bytes(changed)


def _part(data: bytearray, draw: random.Random) -> slice:
    at = draw.randrange(len(data))
    return slice(at, min(len(data), at + draw.choice([1, 2, 4, 16, 200])))


def flip(data: bytearray, draw: random.Random) -> None:
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def overwrite(data: bytearray, draw: random.Random) -> None:
    data[draw.randrange(len(data))] = draw.choice([0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)])


def insert(data: bytearray, draw: random.Random) -> None:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.choice(ODD_BYTES)


def replace(data: bytearray, draw: random.Random) -> None:
    odd = draw.choice(ODD_BYTES)
    at = draw.randrange(len(data))
    data[at : at + len(odd)] = odd


def drop(data: bytearray, draw: random.Random) -> None:
    del data[_part(data, draw)]


def double(data: bytearray, draw: random.Random) -> None:
    part = _part(data, draw)
    data[part.stop : part.stop] = data[part]


def move(data: bytearray, draw: random.Random) -> None:
    part = _part(data, draw)
    piece = data[part]
    del data[part]
    at = draw.randrange(len(data) + 1)
    data[at:at] = piece


def cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


CHANGES: list[Callable[[bytearray, random.Random], None]] = [
    flip,
    flip,
    overwrite,
    overwrite,
    insert,
    replace,
    drop,
    double,
    move,
    cut,
]


def splice(first: bytes, second: bytes, draw: random.Random) -> bytes:
    """The beginning of one and the end of another."""
    return first[: draw.randrange(len(first) + 1)] + second[draw.randrange(len(second) + 1) :]


Place = tuple[Any, Any]
"""A container, and the key or index of a value in it."""


def places(value: Any) -> Iterator[Place]:
    """Every place of a JSON value, its own excluded."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(entries):
        yield value, key
        yield from places(inner)


def mutate_json(value: Any, draw: random.Random, odd: Sequence[Any] = ODD_VALUES) -> Any:
    """Up to four changes at any depth: a value odd, gone, doubled, negative or another's, or a name misspelt."""
    box = [copy.deepcopy(value)]
    for _ in range(draw.choice([0, 1, 1, 1, 2, 4])):
        every = list(places(box))
        if every:
            _change(*draw.choice(every), draw, odd, every)
    return box[0] if box else None


def _change(container: Any, key: Any, draw: random.Random, odd: Sequence[Any], every: list[Place]) -> None:
    kind = draw.randrange(6)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[str(key)[:-1]] = container.pop(key)
    elif kind == 2 and isinstance(container, list):
        container.insert(key, copy.deepcopy(container[key]))
    elif kind == 3 and type(container[key]) in (int, float):
        container[key] = draw.choice([-container[key], container[key] + 1, container[key] * 1000, str(container[key])])
    elif kind == 4:
        other, name = draw.choice(every)
        container[key] = copy.deepcopy(other[name])
    else:
        container[key] = copy.deepcopy(draw.choice(odd))


def dump(value: Any) -> bytes:
    """JSON, with what Python's adds to it."""
    return json.dumps(value, ensure_ascii=True).encode()
