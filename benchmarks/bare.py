"""What anybody could write with httpx alone: no checks, no retries, no limits. The measure of our overhead.

Two transports (threads and asyncio) and two codecs (the fastest and the standard library's); whoever compares takes
the faster transport.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import orjson
import pybase64
from PIL import Image

from jinaclip.images.resize import encode as encode_picture

KEY = "jina_test_benchmark"
WIDTH = 1024
SIDE = 512
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json", "Accept-Encoding": "identity"}
BODY = {"model": "jina-clip-v2", "normalized": True, "embedding_type": "base64", "truncate": False}
Lap = tuple[float, np.ndarray]


class Codec(NamedTuple):
    """How JSON and base64 are written and read."""

    dumps: Callable[[Any], bytes]
    loads: Callable[[bytes], Any]
    decode: Callable[[str], bytes]


FASTEST = Codec(orjson.dumps, orjson.loads, lambda text: pybase64.b64decode(text, validate=True))
STANDARD = Codec(lambda body: json.dumps(body).encode(), json.loads, base64.b64decode)


class Bare:
    """What both transports share."""

    def __init__(self, url: str, codec: Codec, in_flight: int) -> None:
        self.url, self.codec, self.in_flight = url, codec, in_flight
        limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
        self.options = {"headers": HEADERS, "limits": limits, "timeout": 600, "trust_env": False}

    def write(self, inputs: list[dict[str, str]], **more: str) -> bytes:
        """A request."""
        return self.codec.dumps({**BODY, **more, "input": inputs})

    def read(self, raw: bytes) -> np.ndarray:
        """The rows of an answer, taken to be in order."""
        data, decode = self.codec.loads(raw)["data"], self.codec.decode
        return np.frombuffer(b"".join([decode(row["embedding"]) for row in data]), "<f4").reshape(len(data), -1)


class Threads(Bare):
    """httpx.Client in a pool of threads."""

    def __init__(self, url: str, codec: Codec, in_flight: int) -> None:
        super().__init__(url, codec, in_flight)
        self.client = httpx.Client(**self.options)
        self.pool = ThreadPoolExecutor(in_flight)

    def post(self, body: bytes) -> bytes:
        """One exchange."""
        return self.client.post(self.url, content=body).raise_for_status().content

    def texts(self, texts: list[str], size: int) -> np.ndarray:
        """Vectors of texts, so many in a request."""
        out = np.empty((len(texts), WIDTH), np.float32)

        def embed(start: int) -> None:
            inputs = [{"text": text} for text in texts[start : start + size]]
            out[start : start + size] = self.read(self.post(self.write(inputs)))

        list(self.pool.map(embed, range(0, len(texts), size)))
        return out

    def queries(self, texts: list[str]) -> list[Lap]:
        """Queries one after another, and how long each took."""
        return [lap(self.query, text) for text in texts]

    def query(self, text: str) -> np.ndarray:
        """Vector of one query."""
        return self.read(self.post(self.write([{"text": text}], task="retrieval.query")))[0]


class Loop(Bare):
    """httpx.AsyncClient in an event loop of its own."""

    def __init__(self, url: str, codec: Codec, in_flight: int) -> None:
        super().__init__(url, codec, in_flight)
        self.runner = asyncio.Runner()
        self.client = httpx.AsyncClient(**self.options)
        self.pixels = ThreadPoolExecutor(os.cpu_count())

    async def post(self, body: bytes) -> bytes:
        """One exchange."""
        return (await self.client.post(self.url, content=body)).raise_for_status().content

    def texts(self, texts: list[str], size: int) -> np.ndarray:
        """Vectors of texts, so many in a request."""

        async def inputs(start: int) -> list[dict[str, str]]:
            return [{"text": text} for text in texts[start : start + size]]

        return self.runner.run(self.embed(inputs, len(texts), size))

    def images(self, paths: list[Path], size: int) -> np.ndarray:
        """Vectors of pictures, cut to the tile that the model sees in as many threads as there are cores."""

        async def run() -> np.ndarray:
            loop = asyncio.get_running_loop()
            tiles = [loop.run_in_executor(self.pixels, one_tile, path) for path in paths]

            async def inputs(start: int) -> list[dict[str, str]]:
                return [{"image": await tile} for tile in tiles[start : start + size]]

            return await self.embed(inputs, len(paths), size)

        return self.runner.run(run())

    async def embed(self, inputs: Callable[[int], Any], count: int, size: int) -> np.ndarray:
        """Vectors of so many inputs, by as many tasks as may be in flight."""
        out, starts = np.empty((count, WIDTH), np.float32), iter(range(0, count, size))

        async def work() -> None:
            for start in starts:
                body = self.write(await inputs(start))
                out[start : start + size] = self.read(await self.post(body))

        await asyncio.gather(*(work() for _ in range(self.in_flight)))
        return out

    def queries(self, texts: list[str]) -> list[Lap]:
        """Queries one after another, and how long each took."""

        async def run() -> list[Lap]:
            return [await alap(self.query, text) for text in texts]

        return self.runner.run(run())

    async def query(self, text: str) -> np.ndarray:
        """Vector of one query."""
        return self.read(await self.post(self.write([{"text": text}], task="retrieval.query")))[0]


def one_tile(path: Path) -> str:
    """The pixels that the model sees, by the same calls as the core's, in base64."""
    picture = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
    width, height = picture.size
    scale = SIDE / min(width, height)
    picture = picture.resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
    left, top = (round((length - SIDE) / 2) for length in picture.size)
    picture = picture.crop((left, top, left + SIDE, top + SIDE))
    return pybase64.b64encode(encode_picture(picture, None)).decode()


def lap(function: Callable[[str], np.ndarray], text: str) -> Lap:
    """Seconds that a call took, and what it gave."""
    start = time.perf_counter()
    row = function(text)
    return time.perf_counter() - start, row


async def alap(function: Callable[[str], Any], text: str) -> Lap:
    """Seconds that a call took, and what it gave."""
    start = time.perf_counter()
    row = await function(text)
    return time.perf_counter() - start, row
