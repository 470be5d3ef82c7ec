"""`jinaclip embed` as a process of its own, and what it has left behind."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image as PillowImage

from jinaclip.testing import Server

PATIENCE_S = 120
LOOK_S = 0.02


class Embed:
    """A run of the command.

    Args:
        source, out: of the run; the source "-" gets nothing.
        options: of the command line.
        key: in the environment; None for none.
        stdin: bytes of standard input.
    """

    def __init__(
        self, source: Any, out: Path, *options: str, key: str | None = "jina_test_bulk", stdin: bytes | None = None
    ) -> None:
        names = ("JINA_API_KEY", "JINACLIP_CACHE")
        environment = {name: value for name, value in os.environ.items() if name not in names}
        if key is not None:
            environment["JINA_API_KEY"] = key
        command = [sys.executable, "-m", "jinaclip", "embed", str(source), "--out", str(out), *options]
        self.out = out
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        self._stdin = stdin

    def wait(self) -> tuple[int, str, str]:
        """Exit code, and what it printed and logged, once it has ended."""
        printed, logged = self.process.communicate(self._stdin, timeout=PATIENCE_S)
        return self.process.returncode, printed.decode(), logged.decode()

    def signal(self, number: int = signal.SIGINT) -> None:
        """Sends it a signal."""
        self.process.send_signal(number)

    def wait_for_line(self, word: str) -> None:
        """Waits until it logs a line with this word in it."""
        assert self.process.stderr is not None
        while line := self.process.stderr.readline().decode():
            if word in line:
                return
        raise AssertionError(f"it ended and never logged {word!r}")

    def wait_until(self, condition: Any) -> None:
        """Waits until something holds, while it runs."""
        ends_at = time.monotonic() + PATIENCE_S
        while not condition():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < ends_at
            time.sleep(LOOK_S)


def at(server: Server) -> tuple[str, ...]:
    """Options that name the service."""
    return ("--base-url", server.url)


def write_texts(path: Path, texts: dict[str, str]) -> Path:
    """A JSONL file of texts by id."""
    path.write_text("".join(json.dumps({"id": name, "text": text}) + "\n" for name, text in texts.items()))
    return path


def picture(number: int, side: int = 16) -> bytes:
    """A PNG file, no two alike."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    file = io.BytesIO()
    PillowImage.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def numbered(count: int) -> dict[str, str]:
    """Texts by id, no two alike."""
    return {f"item-{number}": f"text number {number}" for number in range(count)}


def read(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of an output by id and kind, of which no two are the same."""
    rows = pq.read_table(out).to_pylist()
    found = {(row["id"], row["kind"]): row for row in rows}
    assert len(found) == len(rows), "a row is there twice"
    return found


def manifest(out: Path) -> dict[str, Any]:
    """What the manifest of an output says."""
    found: dict[str, Any] = json.loads((out / "_manifest.json").read_text())
    return found
