"""A disk that is full, or takes no more: nothing is asked for that could not be written, and the report is told."""

from __future__ import annotations

import resource
import shutil
import sys

import pytest

from jinaclip.bulk.blocks import BLOCK_ITEMS, CHUNK_ROWS
from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.output import Output
from jinaclip.bulk.parts import PART_ROWS
from jinaclip.bulk.pipeline import BLOCKS
from tests.bulk.processes import Embed, at, numbered, read, write_texts
from tests.bulk.rows import SHAPE, items, step

MOST_BYTES = 1_000_000
"""Of a file: less than a part of 8,192 vectors takes."""


def test_a_disk_without_room_is_noticed_before_anything_is_paid(command, server, tmp_path, monkeypatch) -> None:
    """The run says how much is left, and goes on once there is room."""
    source, out = write_texts(tmp_path / "t.jsonl", numbered(20)), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("jinaclip.bulk.output.TEXT_BYTES", 10**15)
        code, printed, logged = command(source, out)
    assert (code, "MiB left" in logged, "make room" in logged) == (1, True, True), logged
    assert "20 items that were read have no row" in printed
    assert server.ledger()["requests"] == 0
    assert command(source, out)[0] == 0
    assert len(read(out)) == 20


def test_a_run_wants_room_for_what_it_has_to_write_and_no_more(command, tmp_path, monkeypatch) -> None:
    """Rows so large that the disk holds a thousand: ten of them go, and a whole part would not."""
    source, out = write_texts(tmp_path / "t.jsonl", numbered(10)), tmp_path / "out"
    monkeypatch.setattr("jinaclip.bulk.output.TEXT_BYTES", shutil.disk_usage(tmp_path).free // 1000)
    code, printed, logged = command(source, out)
    assert code == 0, (printed, logged)
    assert len(read(out)) == 10


def test_what_waits_to_be_written_counts_with_what_is_in_flight(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("jinaclip.bulk.output.TEXT_BYTES", shutil.disk_usage(tmp_path).free // 8)
    with Output(tmp_path / "out", SHAPE) as output:
        output.check_room(5)
        step(output, items({str(number): f"text {number}" for number in range(5)}), [])
        with pytest.raises(OSError, match="make room"):
            output.check_room(5)


def test_the_cache_of_the_run_counts_too_and_that_of_the_user_lies_elsewhere(
    command, server, tmp_path, monkeypatch
) -> None:
    """It takes as much of the disk as the rows, and takes it first."""
    source, out = write_texts(tmp_path / "t.jsonl", numbered(20)), tmp_path / "out"
    monkeypatch.setattr("jinaclip.bulk.own_cache.ENTRY_BYTES", shutil.disk_usage(tmp_path).free // 10)
    code, _, logged = command(source, out)
    assert (code, "make room" in logged, server.ledger()["requests"]) == (1, True, 0), logged
    for cache in ("off", str(tmp_path / "vectors.sqlite")):
        assert command(source, tmp_path / cache[-3:], "--cache", cache)[0] == 0


def test_what_came_and_could_not_be_written_is_left_and_not_done(server, tmp_path) -> None:
    """The cache holds the vectors; the only part has copies too, and is too large. So the next run pays nothing."""
    texts = numbered(200) | {f"copy {number}": "text number 0" for number in range(100)}
    source, out = write_texts(tmp_path / "t.jsonl", texts), tmp_path / "out"
    embed = Embed(source, out, *at(server))
    resource.prlimit(embed.process.pid, resource.RLIMIT_FSIZE, (MOST_BYTES, resource.RLIM_INFINITY))
    code, printed, logged = embed.wait()
    assert (code, "File too large" in logged) == (1, True), logged
    assert not [*out.glob("part-*")]
    assert printed.startswith("done 0, failed 0, skipped 0 (done before), copied 0 ")
    assert "300 items that were read have no row; the same command embeds them" in printed
    paid = server.ledger()["answered_items"]
    code, printed, _ = Embed(source, out, *at(server)).wait()
    assert (code, printed.partition(",")[0], len(read(out))) == (0, "done 200", 300)
    assert server.ledger()["answered_items"] == paid == 200


@pytest.mark.skipif(sys.platform != "linux", reason="the size of /proc is Linux's")
def test_a_file_system_that_does_not_tell_its_size_is_not_taken_for_a_full_one() -> None:
    assert shutil.disk_usage("/proc").total == 0
    OutputFolder("/proc").check_room(2**30)


@pytest.mark.slow
def test_after_a_write_that_failed_nothing_more_is_sent(command, server, tmp_path) -> None:
    """What was in flight is all that is paid for beside the part that could not be written, and the one that filled."""
    source, out = write_texts(tmp_path / "t.jsonl", numbered(80_000)), tmp_path / "out"
    options = ("--cache", "off", "--dimensions", "64")
    embed = Embed(source, out, *at(server), *options)
    resource.prlimit(embed.process.pid, resource.RLIMIT_FSIZE, (MOST_BYTES, resource.RLIM_INFINITY))
    code, printed, logged = embed.wait()
    assert (code, "File too large" in logged) == (1, True), logged
    assert printed.startswith("done ") and "goes on from there" in printed
    assert 0 < server.ledger()["answered_items"] <= 2 * PART_ROWS + BLOCKS["api"] * (BLOCK_ITEMS + CHUNK_ROWS)


def test_an_interrupt_keeps_its_report_though_the_output_cannot_be_written(tmp_path, caplog) -> None:
    """The error of the disk is logged, and is not raised instead."""
    out = tmp_path / "out"
    interrupt = KeyboardInterrupt()
    interrupt.partial = "the report"
    with pytest.raises(KeyboardInterrupt) as caught, Output(out, SHAPE) as output:
        step(output, items({"a": "text"}), [])
        shutil.rmtree(out)
        out.write_text("a file where the folder was")
        raise interrupt
    assert caught.value.partial == "the report"
    assert "is lost" in caplog.text
