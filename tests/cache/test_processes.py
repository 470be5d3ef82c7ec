"""Several processes on one file, processes that fork, and processes that are killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jinaclip import Cache, JinaClip
from jinaclip.testing import Server
from tests.cache.soundness import check_sound
from tests.needs import long

Make = Callable[..., JinaClip]
SAME = 2e-6
posix = pytest.mark.skipif(os.name != "posix", reason="forks, and kills")
START = """
import os, signal, sys, threading
import numpy as np
from jinaclip import JinaClip
url, path, *rest = sys.argv[1:]
def make(cache=path, **options):
    return JinaClip(api_key="jina_test_processes", base_url=url, cache=cache, **options)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "vectors.sqlite"


def start(program: str, server: Server, path: Path, *rest: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", START + program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, server.url, str(path), *map(str, rest)], **pipes)


def run(program: str, server: Server, path: Path, *rest: object) -> str:
    """What it prints; it ends well, and says nothing on standard error."""
    process = start(program, server, path, *rest)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, ""), err
    return out


TOGETHER = """
number = int(rest[0])
plain, clip = make(False), make(batch_size=10)
texts = [f"text {number * 40 + one}" for one in range(160)]
wanted = plain.embed_documents(texts)
print("ready", flush=True)
sys.stdin.readline()
for turn in range(4):
    found = clip.embed(texts[turn * 20 : turn * 20 + 100] if turn < 3 else texts)
    rows = wanted[turn * 20 : turn * 20 + 100] if turn < 3 else wanted
    assert found.ok.all() and np.abs(found.vectors - rows).max() < 2e-6
print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, long(8)])
def test_processes_that_begin_together_on_one_file(clip: Make, server: Server, path: Path, count: int) -> None:
    processes = [start(TOGETHER, server, path, number) for number in range(count)]
    try:
        assert [process.stdout.readline() for process in processes if process.stdout] == ["ready\n"] * count
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        ends = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert ends == [("done\n", "")] * count
    texts = [f"text {number}" for number in range((count - 1) * 40 + 160)]
    assert check_sound(path) == len(texts)
    assert clip(cache=path).embed(texts).usage.hits == len(texts)


def test_a_process_that_ends_after_a_call_has_all_on_disk(clip: Make, server: Server, path: Path) -> None:
    program = "make().embed_documents([f'text {n}' for n in range(600)])\nsys.exit(0)"
    assert run(program, server, path) == ""
    texts = [f"text {number}" for number in range(600)]
    assert clip(cache=path).embed(texts).usage.hits == len(texts)
    assert [file.name for file in path.parent.iterdir() if file.name == path.name] == [path.name]


@pytest.mark.slow
def test_a_process_that_ends_by_an_error_has_all_on_disk(clip: Make, server: Server, path: Path) -> None:
    process = start("make().embed_documents([f'text {n}' for n in range(500)])\nraise ValueError", server, path)
    assert "ValueError" in process.communicate(timeout=300)[1]
    assert clip(cache=path).embed([f"text {number}" for number in range(500)]).usage.hits == 500


MULTIPROCESSING = """
import multiprocessing
def work(number):
    make().embed_documents([f"{number} text {one}" for one in range(400)])
if __name__ == "__main__":
    make().embed_documents(["of the parent"])
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=work, args=(number,)) for number in range(3)]
    [child.start() for child in children]
    [child.join() for child in children]
    assert [child.exitcode for child in children] == [0] * 3
"""


@pytest.mark.slow
@posix
def test_children_of_multiprocessing_have_all_on_disk(server: Server, path: Path) -> None:
    run(MULTIPROCESSING, server, path)
    assert check_sound(path) == 1201


FORKS = """
clip = make()
texts = [f"text {one}" for one in range(300)]
wanted = make(False).embed_documents(texts)
assert np.abs(clip.embed_documents(texts[:100]) - wanted[:100]).max() < 2e-6
children = []
for number in range(4):
    if (child := os.fork()) == 0:
        found = clip.embed(texts[: 150 + number])
        assert found.ok.all() and np.abs(found.vectors - wanted[: 150 + number]).max() < 2e-6
        grandchild = os.fork()
        if grandchild == 0:
            assert clip.embed(texts[50:150]).ok.all()
            sys.exit(0)
        assert os.waitpid(grandchild, 0)[1] == 0
        sys.exit(0)
    children.append(child)
    found = clip.embed(texts[: 200 + number])
    assert np.abs(found.vectors - wanted[: 200 + number]).max() < 2e-6
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
assert clip.embed(texts[:200]).usage.hits == 200
print("done")
"""


@pytest.mark.slow
@posix
def test_forked_children_and_their_children(server: Server, path: Path) -> None:
    """They and the parent go on, each with what it has open itself."""
    assert run(FORKS, server, path) == "done\n"
    assert check_sound(path) == 203


MIDDLE = """
clip = make(batch_size=20)
texts = [f"text {one}" for one in range(1000)]
wanted = make(False).embed_documents(texts)
children, found = [], []
def call():
    found.append(clip.embed(texts))
thread = threading.Thread(target=call)
thread.start()
for number in range(6):
    if (child := os.fork()) == 0:
        some = texts[number * 150 : number * 150 + 150]
        rows = clip.embed(some)
        assert rows.ok.all() and np.abs(rows.vectors - wanted[number * 150 : number * 150 + 150]).max() < 2e-6
        assert clip.embed(some).usage.hits == 150
        sys.exit(0)
    children.append(child)
thread.join()
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
assert found[0].ok.all() and np.abs(found[0].vectors - wanted).max() < 2e-6
print("done")
"""


@pytest.mark.slow
@posix
def test_forked_in_the_middle_of_a_call(server: Server, path: Path) -> None:
    server.configure(base_ms=3)
    assert run(MIDDLE, server, path) == "done\n"
    assert check_sound(path) == 1000


# -- killed at a write

KILLED = """
import ctypes, sqlite3
from tests.cache.system_calls import replace_calls

writes, stop = 0, int(rest[0])

def count(name, number, data, size, offset):
    global writes
    writes += 1
    if writes == stop:
        if stop % 3 == 0:
            os.pwrite(number, ctypes.string_at(data, size // 2), offset)  # half of it comes through
        os.kill(os.getpid(), signal.SIGKILL)
    return os.pwrite(number, ctypes.string_at(data, size), offset)

replace_calls(count)
clip = make(batch_size=2, max_concurrency=2)
texts = [f"text {one}" for one in range(60)]
for some in (texts[:20], texts[10:40], texts):
    clip.embed_documents(some)
    clip.cache.flush()
clip.cache.close()
for turn in range(10):
    clip.embed_documents([f"{turn} {text}" for text in texts])
    clip.cache.close()
print("end", writes)
"""


@pytest.mark.slow
@posix
@pytest.mark.parametrize("first", [pytest.param(None, id="five"), *(long(block) for block in range(10))])
def test_killed_at_any_write_and_resumed(clip: Make, server: Server, tmp_path: Path, first: int | None) -> None:
    """Identical results; what is paid again is at most what was in flight, and not written yet."""
    texts = [f"text {number}" for number in range(60)]
    wanted = clip(cache=False).embed_documents(texts)
    moments = range(1, 301, 60) if first is None else range(30 * first + 1, 30 * first + 31)
    for moment in moments:
        path = tmp_path / str(moment) / "vectors.sqlite"
        server.reset()
        process = start(KILLED, server, path, moment)
        out, err = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, (moment, out, err)
        written = check_sound(path) if is_made(path) else 0
        found = clip(cache=path).embed(texts)
        assert np.abs(found.vectors - wanted).max() < SAME
        assert found.usage.hits == written
        answered = server.ledger()["answered"]
        assert set(answered) <= {"1", "2"}
        assert answered.get("2", 0) <= IN_FLIGHT, (moment, answered)
        Cache(path).close()
        assert check_sound(path) == len(texts)


IN_FLIGHT = 34
"""Texts of a call that are answered while the first of them are being written."""


def is_made(path: Path) -> bool:
    """Whether it got as far as a table."""
    if not path.exists():
        return False
    file = sqlite3.connect(path)
    try:
        return bool(file.execute("select count(*) from sqlite_master").fetchone()[0])
    finally:
        file.close()
