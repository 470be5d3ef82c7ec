"""What `serve.py` compares, each in a process of its own: our server, LitServe's, and the engine without a server.

`python serving.py JOB` is the last of them; it prints a line of JSON.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START_S = 300
STOP_S = 30
LIMIT_S = 1800
PEERS = Path(__file__).parent / "peers"


@dataclasses.dataclass(frozen=True)
class Alone:
    """The engine without a server: one call with all items."""

    folder: str
    kind: str
    """"texts" or "images"."""
    count: int
    words: int = 25

    def run(self) -> float:
        """Seconds of the call, in a fresh process, weights loaded and warm."""
        command = [sys.executable, __file__, json.dumps(dataclasses.asdict(self))]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S, check=True)
        return json.loads(done.stdout)


def measure(job: Alone) -> float:
    """Runs the job once, warm."""
    from inputs import make_photos, make_texts

    from jinaclip import Image, JinaClip

    clip = JinaClip(job.folder, backend="local", device="cpu", cache=False)
    if job.kind == "texts":
        embed: Callable[[list], object] = clip.embed_documents
        items: list = list(make_texts(job.count, words=job.words))
    else:
        embed = clip.embed_images
        items = [Image.from_bytes(path.read_bytes()) for path in make_photos(job.count)]
    embed(items[:4])
    start = time.perf_counter()
    embed(items)
    return time.perf_counter() - start


@contextmanager
def ours(folder: Path, model: str) -> Iterator[str]:
    """The URL of a `jinaclip serve` that is ready; clients call the model by this name."""
    port = free_port()
    command = [sys.executable, "-m", "jinaclip", "serve", "--model", str(folder), "--served-name", model]
    with running([*command, "--device", "cpu", "--port", str(port)], f"http://127.0.0.1:{port}", "/ready") as url:
        yield url


@contextmanager
def litserve(folder: Path) -> Iterator[str]:
    """The URL of a LitServe over the same towers that is ready."""
    port = free_port()
    command = [sys.executable, str(PEERS / "lit.py"), str(folder), str(port)]
    with running(command, f"http://127.0.0.1:{port}", "/health") as url:
        yield url


@contextmanager
def running(command: list[str], url: str, ready: str) -> Iterator[str]:
    """A server that has said that it is ready, until the end of the block; what it prints goes to standard error."""
    with subprocess.Popen(command, stdout=sys.stderr, start_new_session=True) as process:
        try:
            wait_until_ready(process, url + ready)
            yield url
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends a server with all its processes: LitServe's outlive the one that started them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Asks until the answer is 200."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode} before it was ready: {process.args}")
        try:
            with urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.2)
    raise SystemExit(f"the server was not ready after {START_S} s: {process.args}")


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


if __name__ == "__main__":
    print(json.dumps(measure(Alone(**json.loads(sys.argv[1])))))
