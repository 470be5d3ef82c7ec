"""Loads checkpoint folders, each in a process of its own, and tells what came of it and what it cost.

Run as a program it imports what loading needs, once, then reads folders from its input, a line each, and forks for each
of them; that is how `load` uses it.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

MODULES = ["numpy", "torch", "tokenizers", "safetensors.torch", "jinaclip.backends.local.towers.runner"]
MODULES += [
    "jinaclip.backends.local.backend",
    "jinaclip.call.prepare",
    "jinaclip.clip",
    "PIL.Image",
    "concurrent.futures",
]
"""Imported once, and not counted as what loading costs."""
LIMIT_S, LIMIT_BYTES = 20, 8 * 2**30
"""What a process may take before it is ended: far beyond what the tests allow, and short of harming the machine."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of loading a folder and embedding one text and one image."""

    outcome: str
    """ "works", or the class of the error; "ended" for a process that did not end by itself."""
    message: str
    seconds: float
    grown: int
    """Bytes of memory at the peak above those before, without the pages of libraries that were touched meanwhile."""


class Loader:
    """The program, ready to load folders."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.local.loading"]
        root = Path(__file__).parents[2]
        environment = {**os.environ, "RUST_BACKTRACE": "0"}
        self._process = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def load(self, folder: Path) -> Attempt:
        """What comes of loading a folder."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{folder}\n")
        self._process.stdin.flush()
        return Attempt(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the program."""
        self._process.communicate(timeout=60)


def attempt(folder: str) -> Attempt:
    """Loads a folder here."""
    import numpy as np

    from jinaclip import JinaClip

    begun, before = time.perf_counter(), memory("VmRSS") - memory("RssFile")
    try:
        with JinaClip(folder, backend="local", device="cpu") as clip:
            clip.embed_documents(["a red dress"])
            clip.embed_image(np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3))
        outcome, message = "works", ""
    except BaseException as error:  # the test looks at its class
        outcome, message = type(error).__name__, str(error)
    return Attempt(outcome, message, time.perf_counter() - begun, memory("VmHWM") - memory("RssFile") - before)


def memory(what: str) -> int:
    """Bytes of memory of this process: VmRSS now, VmHWM at the peak, RssFile those of now that are pages of files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{what}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(what)


def fork_to_load(folder: str) -> Attempt:
    """Loads a folder in a child process."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(LIMIT_S)
        resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
        found = attempt(folder)
        os.write(write, json.dumps([found.outcome, found.message[:10_000], found.seconds, found.grown]).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return Attempt(*json.loads(answer)) if answer else Attempt("ended", f"status {status}", LIMIT_S, 0)


def main() -> None:
    """Loads what it reads the names of."""
    for module in MODULES:
        importlib.import_module(module)
    for line in sys.stdin:
        found = fork_to_load(line.rstrip("\n"))
        answer = {name: getattr(found, name) for name in Attempt.__slots__}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
