"""Clients that mean no good, in one process beside the good ones: each kind goes on until it is cancelled."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from crowd import PATH, Connection, head, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SLOW = 40
"""Sockets of each kind that trickles."""
GAP_S = 0.2
"""Between two bytes of those that trickle, and between two blows of the others."""
MANY = 100_000
"""Inputs of a request."""
SIDE = 30_000
"""Pixels of a picture in each direction."""
Kind = Callable[[str, str], Coroutine[Any, Any, None]]


async def trickle_headers(url: str, _model: str) -> None:
    """A header that never ends."""
    await trickle(url, f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ".encode(), b"a")


async def trickle_body(url: str, _model: str) -> None:
    """A body without length that never ends."""
    lines = [f"POST {PATH} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", "Transfer-Encoding: chunked"]
    await trickle(url, "\r\n".join([*lines, "", ""]).encode(), b"1\r\n \r\n")


async def trickle(url: str, start: bytes, more: bytes) -> None:
    """Says a little again and again, until the server has had enough; then anew."""
    connection = Connection(url)
    _, writer = await connection.open()
    try:
        writer.write(start)
        while not writer.is_closing():
            writer.write(more)
            await writer.drain()
            await asyncio.sleep(GAP_S)
    finally:
        connection.close()


async def ask_for_too_many(url: str, model: str) -> None:
    """A hundred thousand inputs in one request."""
    await blow(url, request(model, ["a"] * MANY))


async def send_bomb(url: str, model: str) -> None:
    """A picture of a few hundred bytes that would be 2.7 GB of pixels."""
    await blow(url, request(model, [{"image": base64.b64encode(bomb()).decode()}]))


async def send_nonsense(url: str, _model: str) -> None:
    """JSON that is none, nested deep."""
    await blow(url, b"[" * 50_000)


async def blow(url: str, body: bytes) -> None:
    """Sends one request, and reads what is said to it."""
    connection = Connection(url)
    try:
        await connection.post(body)
    finally:
        connection.close()


async def smuggle(url: str, model: str) -> None:
    """Two lengths that contradict each other, with a second request in what is left over."""
    inner = request(model, ["smuggled"])
    hidden = head("POST", PATH, inner) + inner
    lengths = f"Content-Length: {len(hidden) + 5}\r\nTransfer-Encoding: chunked"
    start = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\n{lengths}\r\n\r\n"
    connection = Connection(url)
    try:
        await connection.exchange(start.encode() + b"0\r\n\r\n" + hidden)
    finally:
        connection.close()


async def vanish(url: str, model: str) -> None:
    """Asks for eight texts and is gone."""
    connection = Connection(url)
    body = request(model, [f"of a client that goes away, {number}" for number in range(8)])
    _, writer = await connection.open()
    try:
        writer.write(head("POST", PATH, body) + body)
        await writer.drain()
        await asyncio.sleep(GAP_S / 10)
    finally:
        connection.close()


KINDS: dict[Kind, int] = {
    trickle_headers: SLOW,
    trickle_body: SLOW,
    ask_for_too_many: 1,
    send_bomb: 1,
    send_nonsense: 1,
    smuggle: 1,
    vanish: 1,
}
"""How many of each at the same time."""


def bomb() -> bytes:
    """A PNG whose header promises far more than its data hold."""
    size = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = (b"IHDR", size), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in parts)


def chunk(name: bytes, data: bytes) -> bytes:
    """A part of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


async def again_and_again(kind: Kind, url: str, model: str) -> None:
    """One hostile client, whatever the server does to it."""
    while True:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, KeyError, json.JSONDecodeError):
            await kind(url, model)
        await asyncio.sleep(GAP_S)


@asynccontextmanager
async def attack(url: str, model: str) -> AsyncIterator[None]:
    """All kinds at once, for as long as the block lasts."""
    tasks = [
        asyncio.create_task(again_and_again(kind, url, model)) for kind, count in KINDS.items() for _ in range(count)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
