"""Clients that a server must survive. Each runs until it is cancelled or the server has had enough of it."""

from __future__ import annotations

import asyncio
import base64
import random
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress

from tests.images.png_files import chunk, ihdr, png
from tests.server.processes import TEXTS, as_json, request_bytes, texts

MARK = "hush-hush"
"""In all that is sent, and nowhere else afterwards."""
DRIP_S = 0.2
DEAF_S = 5
MIB = 2**20
FLAT = zlib.compress(bytes(36_001 * 300))
"""The first rows of a large black image."""

Attack = Callable[[str, int, str], Awaitable[bytes]]


async def send(host: str, port: int, *parts: bytes, drip: bytes = b"", limit: int = 2**16) -> bytes:
    """Sends parts, then `drip` again and again; gives what came back."""
    reader, writer = await asyncio.open_connection(host, port, limit=limit)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        while drip and not reader.at_eof():
            writer.write(drip)
            await writer.drain()
            with suppress(TimeoutError):
                async with asyncio.timeout(DRIP_S):
                    return await reader.read(MIB)
        return await reader.read(MIB)
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def head(key: str, *headers: str) -> bytes:
    """The beginning of a request with a key."""
    return request_bytes(b"", f"Authorization: Bearer {key}", *headers)


def whole(key: str, body: bytes) -> bytes:
    """A request with a key."""
    return head(key, f"Content-Length: {len(body)}") + body


async def slow_headers(host: str, port: int, key: str) -> bytes:
    """A header byte now and then."""
    return await send(host, port, head(key).removesuffix(b"\r\n") + b"X-Mark: " + MARK.encode(), drip=b"a")


async def slow_body(host: str, port: int, key: str) -> bytes:
    """A byte of a body now and then, of which much is announced."""
    return await send(host, port, head(key, f"Content-Length: {4 * MIB}"), b'{"input": "' + MARK.encode(), drip=b"a")


async def slow_chunks(host: str, port: int, key: str) -> bytes:
    """A byte of a body of no announced length now and then."""
    return await send(host, port, head(key, "Transfer-Encoding: chunked"), drip=b"1\r\na\r\n")


async def silence(host: str, port: int, key: str) -> bytes:
    """A connection on which nothing comes."""
    return await send(host, port)


async def deafness(host: str, port: int, key: str) -> bytes:
    """Asks for much and reads nothing."""
    body = as_json(texts(*[f"{MARK} {i}" for i in range(256)], embedding_type="float"))
    _, writer = await asyncio.open_connection(host, port, limit=1)  # asyncio reads on only when somebody takes it
    try:
        writer.write(whole(key, body))
        await writer.drain()
        await asyncio.sleep(DEAF_S)
    finally:
        writer.transport.abort()
    return b""


async def endless_body(host: str, port: int, key: str) -> bytes:
    """A body without a length and without an end, as fast as it goes."""
    part = b"%x\r\n%b\r\n" % (MIB, (MARK.encode() * MIB)[:MIB])
    return await send(host, port, head(key, "Transfer-Encoding: chunked"), *[part] * 64)


async def many_items(host: str, port: int, key: str) -> bytes:
    """100,000 texts."""
    return await send(host, port, whole(key, as_json(texts(*[MARK] * 100_000))))


async def many_values(host: str, port: int, key: str) -> bytes:
    """A body whose parts are hardly anything, and take twenty times the memory."""
    return await send(host, port, whole(key, b'{"model": "jina-clip-v2", "input": [' + b"[]," * MIB + b"[]]}"))


async def deep_values(host: str, port: int, key: str) -> bytes:
    """Brackets within brackets."""
    return await send(host, port, whole(key, b"[" * MIB))


async def vanishing(host: str, port: int, key: str) -> bytes:
    """Sends much work and is gone."""
    body = as_json(texts(*[f"{MARK} {random.random()}" for _ in range(200)]))
    _, writer = await asyncio.open_connection(host, port)
    writer.write(whole(key, body))
    await writer.drain()
    writer.transport.abort()
    return b""


async def bombs(host: str, port: int, key: str) -> bytes:
    """Images that are large once they are decoded."""
    flat = png(ihdr(12_000, 12_000), chunk(b"IDAT", FLAT), chunk(b"IEND"))
    image = {"image": base64.b64encode(flat).decode()}
    return await send(host, port, whole(key, as_json(texts(*[image] * 4))))


async def strangers(host: str, port: int, key: str) -> bytes:
    """Guesses a key."""
    return await send(host, port, whole(f"{key[:-4]}zzzz", as_json(texts(MARK))))


async def nonsense(host: str, port: int, key: str) -> bytes:
    """Headers without end."""
    return await send(host, port, f"POST {TEXTS} HTTP/1.1\r\nHost: localhost\r\n".encode(), *[b"a:b\r\n" * 1000] * 20)


LASTING: tuple[Attack, ...] = (slow_headers, slow_body, slow_chunks, silence, deafness)
"""Those that try to hold something."""
AGAIN: tuple[Attack, ...] = (
    endless_body,
    many_items,
    many_values,
    deep_values,
    vanishing,
    bombs,
    strangers,
    nonsense,
)
"""Those that come again and again."""
