"""Sources that come slowly, or without end: stdin, slow items, and memory that stays the same."""

from __future__ import annotations

import _thread
import json
import os
import subprocess
import sys
import threading

import pytest

from jinaclip.bulk import embed
from jinaclip.bulk.chunks import OpenChunks
from jinaclip.bulk.items import digest_of
from jinaclip.sources import SourceRow
from tests.bulk.processes import Embed, at, picture, read
from tests.needs import long


def lines(first: int, last: int) -> bytes:
    return "".join(f"text number {number}\n" for number in range(first, last)).encode()


@pytest.mark.slow
def test_rows_of_stdin_are_embedded_as_they_come(server, tmp_path) -> None:
    """Nobody waits for a block to be full, nor for the end; Ctrl-C ends it though stdin stays open."""
    embed = Embed("-", tmp_path / "out", *at(server))
    assert embed.process.stdin is not None
    for count in (3, 6):
        embed.process.stdin.write(lines(count - 3, count))
        embed.process.stdin.flush()
        embed.wait_until(lambda count=count: server.ledger()["answered_items"] == count)
    embed.signal()
    assert embed.process.wait(30) == 130
    assert embed.process.stderr is not None
    assert b"Fatal" not in embed.process.stderr.read()
    embed.wait()
    assert len(read(tmp_path / "out")) == 6
    again = Embed("-", tmp_path / "out", *at(server), stdin=lines(0, 9))
    code, printed, logged = again.wait()
    assert (code, printed[:36]) == (0, "done 3, failed 0, skipped 6 (done be"), logged
    assert server.ledger()["answered"] == {"1": 9}


def test_an_interrupt_in_python_comes_with_the_report(server, tmp_path, jinaclip_api_key) -> None:
    """Without a signal handler of ours: what is in flight is written first, and the same call goes on."""
    rows = [{"id": number, "text": f"text {number}"} for number in range(2_000)]

    def interrupted():
        yield from rows[:1_000]
        while not server.ledger()["answered_items"]:
            threading.Event().wait(0.01)
        _thread.interrupt_main()
        yield from rows[1_000:]

    options = {"api_key": jinaclip_api_key, "base_url": server.url, "batch_size": 32, "max_concurrency": 2}
    server.configure(base_ms=100)
    with pytest.raises(KeyboardInterrupt) as caught:
        embed(interrupted(), tmp_path / "out", **options)
    server.configure(base_ms=0)
    done = caught.value.partial.done
    assert len(read(tmp_path / "out")) == done == server.ledger()["answered_items"] < 2_000
    assert embed(rows, tmp_path / "out", **options).complete
    assert server.ledger()["answered"] == {"1": 2_000}


@pytest.mark.slow
def test_a_slow_item_holds_up_nothing_else(server, tmp_path, jinaclip_api_key) -> None:
    """One answer hangs while thousands come that are behind it; asked again, it is there."""
    server.configure(poison={"the slow one": "slow_headers"}, drip_s=1)
    rows = [{"id": "slow", "text": "the slow one"}, *({"id": i, "text": f"text {i}"} for i in range(6_000))]
    seen = []
    others = threading.Event()

    def watched():
        yield from rows
        while server.ledger()["answered_items"] < 4_000:
            others.wait(0.02)
        seen.append(server.history("text", "the slow one")["answered"])
        server.configure(poison={})

    options = {"batch_size": 64, "max_concurrency": 4, "cache": False, "timeout": 5}
    report = embed(watched(), tmp_path / "out", api_key=jinaclip_api_key, base_url=server.url, **options)
    assert seen == [0]
    assert report.done == 6_001


def test_of_an_id_that_comes_twice_the_first_counts_however_long_its_file_takes(command, server, tmp_path) -> None:
    """Large pictures come first, small ones with the same ids right behind them; the next run has nothing to do."""
    lines = []
    for number in range(24):
        for name, side in (("large", 400), ("small", 16)):
            (tmp_path / f"{number}-{name}.png").write_bytes(picture(2 * number + (side == 16), side))
            lines.append(json.dumps({"id": number, "image": f"{number}-{name}.png"}))
    order = [
        lines[place]
        for start in range(0, 48, 8)
        for place in (*range(start, start + 8, 2), *range(start + 1, start + 8, 2))
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(order))
    for done in (24, 0):
        code, printed, _ = command(tmp_path / "t.jsonl", tmp_path / "out")
        assert (code, f"done {done}," in printed, "repeated ids 24" in printed) == (3, True, True), printed
    for (number, _), row in read(tmp_path / "out").items():
        assert row["digest"] == digest_of(b"image", (b"file", picture(2 * int(number), 400))).hex()
    assert server.ledger()["answered"] == {"1": 24}


def test_a_chunk_repeats_what_one_before_it_has_that_is_still_read() -> None:
    chunks = OpenChunks(pair="both")
    one, two = (chunks.open([SourceRow(name, "text", None, "a place") for name in names]) for names in ("abc", "cd"))
    assert (one.repeated, two.repeated) == (frozenset(), {("c", "text")})
    chunks.close(one)
    three = chunks.open([SourceRow(name, "text", None, "a place") for name in "cd"])
    assert three.repeated == {("d", "text")}, "of c the output knows now"


MEASURE = """
import resource, sys
from jinaclip.bulk import embed

def rows(count):
    for number in range(count):
        yield {"id": number, "text": f"text number {number} of many"}

peaks = []
for count in map(int, sys.argv[3:]):
    report = embed(rows(count), f"{sys.argv[1]}/{count}", api_key="jina_test_1", base_url=sys.argv[2], dimensions=64)
    assert report.complete, report
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(*peaks)
"""
INDEX_BYTES = 64
"""Of each row of the output, which is held to look it up."""
SLACK_KIB = 128 * 1024
"""What allocators keep, and the caches of what is opened on the way; the vectors of 50,000 rows take more."""


@pytest.mark.slow
@pytest.mark.parametrize("count", [50_000, long(1_000_000)])
def test_memory_does_not_grow_with_the_source(server, tmp_path, count) -> None:
    """A run of many rows takes as much as one of 20,000, but for the index."""
    command = [sys.executable, "-c", MEASURE, str(tmp_path), server.url, "20000", str(count)]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # else each thread keeps memory of its own
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1800, env=environment)
    peaks = ran.stdout.split()
    first, second = map(int, peaks[-2:])
    assert second - first < SLACK_KIB + 2 * count * INDEX_BYTES / 1024, (first, second)
