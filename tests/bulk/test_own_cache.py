"""The cache of a run is a log in its output; what it holds goes on to a run of several processes, and the other way."""

from __future__ import annotations

import signal

import numpy as np
import pytest

from jinaclip.bulk import embed
from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.lock import take_lock
from jinaclip.bulk.own_cache import cache_name, open_cache, remove_cache, share_cache
from jinaclip.errors import ConfigError
from tests.bulk.processes import Embed, at, numbered, write_texts
from tests.needs import skip_without

KEYS = [bytes([number]) * 32 for number in range(4)]
ROWS = np.eye(4, dtype=np.float32)


def has_all(cache) -> bool:
    return cache.vectors(KEYS, 4, normalized=True).keys == KEYS


def test_a_run_in_one_process_and_one_in_several_find_what_the_other_had(tmp_path) -> None:
    for shard in (None, (1, 2)):
        log = open_cache(tmp_path, shard)
        log.keep_vectors(KEYS, ROWS, "")
        log.close()
        assert not (tmp_path / cache_name(shard)).exists()
        share_cache(tmp_path, shard)
        shared = open_cache(tmp_path, shard)
        assert shared.path == tmp_path / cache_name(shard)
        assert has_all(shared)
        shared.close()
        remove_cache(tmp_path / cache_name(shard))
        assert not [*tmp_path.iterdir()]


def test_a_run_on_ray_that_is_refused_leaves_the_log_of_the_run_under_way_alone(tmp_path) -> None:
    """A record that is being written is not taken for one that was torn, and no other file stands for the log later."""
    skip_without("ray")
    lock = take_lock(OutputFolder(tmp_path), None)
    (tmp_path / "_cache.log").write_bytes(b"\x20\0\0\0\xff\0\0\0 the beginning of a record")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigError, match="another run writes"):
        embed([{"id": "1", "text": "a"}], tmp_path, executor="ray", api_key="jina_test_1")
    lock.release()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name in before} == before
    assert not (tmp_path / cache_name(None)).exists()


def test_nothing_is_shared_where_no_run_was(tmp_path) -> None:
    share_cache(tmp_path, None)
    assert not [*tmp_path.iterdir()]


def test_a_killed_run_leaves_a_log_and_the_next_one_takes_its_answers_from_it(server, tmp_path, command) -> None:
    """Nothing was written as a part by then, so that all of them come from there."""
    server.configure(base_ms=50)
    source, out = write_texts(tmp_path / "t.jsonl", numbered(2_000)), tmp_path / "out"
    embed = Embed(source, out, *at(server), "--batch-size", "32", "--max-concurrency", "4")
    embed.wait_until(lambda: server.ledger()["answered_items"] >= 800)
    embed.signal(signal.SIGKILL)
    embed.wait()
    answered = server.ledger()["answered_items"]
    assert {file.name for file in out.glob("_cache*")} == {"_cache.log"}
    assert not [*out.glob("part-*")]
    code, printed, _ = command(source, out)
    assert code == 0
    hits = int(printed.split("vectors from the cache ")[1].split(", tokens")[0].replace(",", ""))
    assert answered - 4 * 32 - 256 <= hits <= answered
    assert not [*out.glob("_cache*")]
