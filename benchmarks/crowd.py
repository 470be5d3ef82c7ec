"""Clients of a server in one process: asyncio streams and requests that are written beforehand, which cost little.

What a client does with an answer is not part of what is measured, beyond reading it to its end.
"""

from __future__ import annotations

import asyncio
import base64
import json
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np

PATH = "/v1/embeddings"
TIMEOUT_S = 600


class Answer(NamedTuple):
    """What came of a request."""

    status: int
    body: bytes
    seconds: float


@dataclass
class Tally:
    """What came of many requests."""

    wall: float = 0.0
    laps: list[float] = field(default_factory=list)
    """Seconds of each request that was answered with 200."""
    statuses: Counter[int] = field(default_factory=Counter)

    def add(self, answer: Answer) -> None:
        """Counts one."""
        self.statuses[answer.status] += 1
        if answer.status == 200:
            self.laps.append(answer.seconds)

    def p99(self) -> float:
        """Seconds that 99 in 100 requests stayed below."""
        return statistics.quantiles(self.laps, n=100, method="inclusive")[-1]

    def check(self) -> Tally:
        """Ends the run if a request was refused, for then the figures compare nothing."""
        if set(self.statuses) - {200}:
            raise SystemExit(f"the server refused some: {dict(self.statuses)}")
        return self


class Connection:
    """A connection that is kept, for one request after another.

    Args:
        url: of the server; plain HTTP.
        path: that is asked.
    """

    def __init__(self, url: str, path: str = PATH) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.path = path
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The two ends, connected where they are not."""
        if self.reader is None or self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        return self.reader, self.writer

    async def post(self, body: bytes) -> Answer:
        """One exchange."""
        return await self.exchange(head("POST", self.path, body) + body)

    async def get(self) -> Answer:
        """One exchange without a body."""
        return await self.exchange(head("GET", self.path, b""))

    async def exchange(self, request: bytes) -> Answer:
        """Sends a request as it is, and reads its answer to the end."""
        start = time.perf_counter()
        reader, writer = await self.open()
        writer.write(request)
        await writer.drain()
        status, headers = read_head(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return Answer(status, body, time.perf_counter() - start)

    def close(self) -> None:
        """Lets the connection go."""
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


def head(method: str, path: str, body: bytes) -> bytes:
    """Request line and headers."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()


def read_head(raw: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers, their names in small letters."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    return int(first.split()[1]), {name.strip().lower(): value.strip() for name, _, value in pairs}


async def crowd(url: str, bodies: Iterable[bytes], clients: int) -> Tally:
    """So many clients, each of which sends the next request when its last is answered, until there are no more."""
    tally, left = Tally(), iter(bodies)

    async def work() -> None:
        connection = Connection(url)
        for body in left:
            tally.add(await connection.post(body))
        connection.close()

    start = time.perf_counter()
    async with asyncio.timeout(TIMEOUT_S):
        await asyncio.gather(*(work() for _ in range(clients)))
    tally.wall = time.perf_counter() - start
    return tally


# -- what they send and get


def request(model: str, inputs: Sequence[Any], **more: Any) -> bytes:
    """A body as any Jina client writes it; vectors come as base64."""
    return json.dumps({"model": model, "embedding_type": "base64", "input": inputs, **more}).encode()


def requests(model: str, inputs: Sequence[Any], size: int, **more: Any) -> list[bytes]:
    """Bodies with so many inputs each."""
    return [request(model, inputs[start : start + size], **more) for start in range(0, len(inputs), size)]


def image_inputs(paths: Iterable[Path]) -> Iterator[dict[str, str]]:
    """Files as they are, in base64."""
    for path in paths:
        yield {"image": base64.b64encode(path.read_bytes()).decode()}


def vectors(answer: Answer) -> np.ndarray:
    """(n, d) float32, rows in the order of the inputs."""
    rows = sorted(json.loads(answer.body)["data"], key=lambda row: row["index"])
    return np.array([np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in rows])
