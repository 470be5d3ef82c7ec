"""`jinaclip serve` as a process of its own, and bare sockets that speak to it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

PATIENCE_S = 60
LOOK_S = 0.05
TEXTS = "/v1/embeddings"


class Serve:
    """A server on a free port.

    Args:
        log: file for what it logs.
        options: of the command line.

    Attributes:
        url: where it listens.
    """

    def __init__(self, log: Path, *options: str) -> None:
        self._log = log
        one_each = httpx.Limits(max_keepalive_connections=0)
        self._client = httpx.Client(verify=False, timeout=PATIENCE_S, limits=one_each)
        with log.open("wb") as errors:
            command = [sys.executable, "-m", "jinaclip", "serve", "--port", "0", *options]
            environment = {**os.environ, "JINA_API_KEY": "jina_test_of_a_gateway"}
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        line = self.process.stdout.readline() if self.process.stdout else ""
        assert line.startswith("listening on "), log.read_text()
        self.url = line.split()[-1]
        self.wait_for(lambda: self.get("/ready").status_code == 200)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text()

    def wait_for(self, condition: Any) -> None:
        """Waits until this is so; fails after a minute."""
        ends_at = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < ends_at, self.log
            threading.Event().wait(LOOK_S)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """One GET on a connection of its own."""
        return self._client.get(self.url + path, headers=headers)

    def embed(self, body: Any, key: str | None = None) -> httpx.Response:
        """One request on a connection of its own."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self._client.post(self.url + TEXTS, json=body, headers=headers)

    def gauge(self, ending: str, key: str | None = None) -> float:
        """A value of /metrics, by the end of its name."""
        text = self.get("/metrics", **({"Authorization": f"Bearer {key}"} if key else {})).text
        (value,) = re.findall(rf"^\w*{ending} (\S+)$", text, re.MULTILINE)
        return float(value)

    def peak_memory(self) -> int:
        """Most bytes of memory it has had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0])

    def open_files(self) -> int:
        """Files and sockets it has open."""
        return len([*Path(f"/proc/{self.process.pid}/fd").iterdir()])

    def has_connection(self, client: socket.socket) -> bool:
        """Whether it still has its end of a client's connection."""
        ends = [f":{self.address[1]:04X}", f":{client.getsockname()[1]:04X}"]
        lines = Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]
        found = [line.split() for line in lines]
        return any([x[1][-5:], x[2][-5:]] == ends and x[9] != "0" for x in found)  # 0 is one that the system has left

    def connect(self, timeout: float = PATIENCE_S) -> socket.socket:
        """A bare connection."""
        return socket.create_connection(self.address, timeout=timeout)

    def send_raw(self, raw: bytes) -> bytes:
        """What comes back until the server closes the connection."""
        with self.connect() as connection:
            connection.sendall(raw)
            return read_all(connection)

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Ends it, whatever it does."""
        self._client.close()
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@contextmanager
def serving(log: Path, *options: str) -> Iterator[Serve]:
    """A server for as long as the block lasts."""
    server = Serve(log, *options)
    try:
        yield server
    finally:
        server.close()


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the end, in peace or not."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def request_bytes(body: bytes, *headers: str, path: str = TEXTS, method: str = "POST") -> bytes:
    """A request with just these headers beside Host."""
    head = "".join(f"{header}\r\n" for header in ("Host: localhost", *headers))
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def texts(*inputs: Any, **fields: Any) -> dict[str, Any]:
    """A request for the vectors of these."""
    return {"model": "jina-clip-v2", "input": list(inputs), "embedding_type": "base64", **fields}


def as_json(body: Any) -> bytes:
    """A body."""
    return json.dumps(body).encode()


def gateway_to(url: str) -> tuple[str, ...]:
    """Options of a server without weights, which starts in a moment: it asks another service."""
    return ("--model", "jina-clip-v2", "--backend", "api", "--base-url", url)
