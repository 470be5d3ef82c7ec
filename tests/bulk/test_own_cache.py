"""The cache of a run are logs in its output, one for each process, that all of them read."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest

from jinaclip.bulk import embed
from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.lock import take_lock
from jinaclip.bulk.own_cache import cache_folder, open_cache, remove_cache
from jinaclip.errors import ConfigError
from tests.bulk.processes import Embed, at, numbered, write_texts
from tests.needs import skip_without

KEYS = [bytes([number]) * 32 for number in range(4)]
ROWS = np.eye(4, dtype=np.float32)


def has_all(cache) -> bool:
    return cache.vectors(KEYS, 4, normalized=True).keys == KEYS


def test_processes_of_a_run_find_what_the_others_have_and_one_that_is_killed_leaves_its_log(tmp_path) -> None:
    """Each has a log of its own while it lives, and whoever comes next goes on with that of the one that was killed."""
    program = (
        "import os, signal, sys; from pathlib import Path; from jinaclip.bulk.own_cache import open_cache\n"
        "from tests.bulk.test_own_cache import KEYS, ROWS\n"
        "cache = open_cache(Path(sys.argv[1])); cache.keep_vectors(KEYS[:2], ROWS[:2], ''); cache.flush()\n"
        "print(flush=True); sys.stdin.readline(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    folder = cache_folder(tmp_path, (1, 2))
    command, pipe = [sys.executable, "-c", program, str(folder)], subprocess.PIPE
    other = subprocess.Popen(command, stdin=pipe, stdout=pipe)
    assert other.stdout.readline()
    cache = open_cache(folder)
    cache.keep_vectors(KEYS[2:], ROWS[2:], "")
    cache.flush()
    assert has_all(cache)
    cache.close()
    logs = {path.name for path in folder.glob("*.log")}
    assert len(logs) == 2
    other.communicate(b"\n")
    following = [open_cache(folder) for _ in range(2)]
    for cache in following:
        assert has_all(cache)
        cache.keep_vectors(KEYS, ROWS, "")
        cache.flush()
    assert {path.name for path in folder.glob("*.log")} == logs
    for cache in following:
        cache.close()
    remove_cache(folder)
    assert not [*tmp_path.iterdir()]


def test_what_an_earlier_version_left_goes_too(tmp_path) -> None:
    for name in ("_cache.sqlite", "_cache.sqlite-wal", "_cache.log", "_cache-1of2.log", "part-00000-a.parquet"):
        (tmp_path / name).write_bytes(b"1")
    remove_cache(cache_folder(tmp_path, None))
    assert {path.name for path in tmp_path.iterdir()} == {"_cache-1of2.log", "part-00000-a.parquet"}


def test_a_run_on_ray_that_is_refused_leaves_the_log_of_the_run_under_way_alone(tmp_path) -> None:
    """A record that is being written is not taken for one that was torn."""
    skip_without("ray")
    lock = take_lock(OutputFolder(tmp_path), None)
    under_way = open_cache(cache_folder(tmp_path, None))
    under_way.keep_vectors(KEYS, ROWS, "")
    under_way.flush()
    with next(tmp_path.glob("_cache/*.log")).open("ab") as file:
        file.write(b"\x20\0\0\0\xff\0\0\0 the beginning of a record")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="another run writes"):
        embed([{"id": "1", "text": "a"}], tmp_path, executor="ray", api_key="jina_test_1")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    under_way.close()
    lock.release()


def test_a_killed_run_leaves_a_log_and_the_next_one_takes_its_answers_from_it(server, tmp_path, command) -> None:
    """Nothing was written as a part by then, so that all of them come from there."""
    server.configure(base_ms=50)
    source, out = write_texts(tmp_path / "t.jsonl", numbered(2_000)), tmp_path / "out"
    embed = Embed(source, out, *at(server), "--batch-size", "32", "--max-concurrency", "4")
    embed.wait_until(lambda: server.ledger()["answered_items"] >= 800)
    embed.signal(signal.SIGKILL)
    embed.wait()
    answered = server.ledger()["answered_items"]
    assert len([*out.glob("_cache/*.log")]) == 1
    assert not [*out.glob("part-*")]
    code, printed, _ = command(source, out)
    assert code == 0
    hits = int(printed.split("vectors from the cache ")[1].split(", tokens")[0].replace(",", ""))
    assert answered - 4 * 32 - 256 <= hits <= answered
    assert not [*out.glob("_cache*")]
