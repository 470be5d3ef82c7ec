"""A part is written while the next one fills; until it lies there its rows are in memory; a failure is tried again."""

from __future__ import annotations

from threading import Event, Thread

import numpy as np
import pyarrow as pa
import pytest

from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.output import Output
from jinaclip.bulk.part_writer import PartWriter
from jinaclip.errors import ClosedError, JinaClipError
from tests.bulk.rows import BLOCK, SHAPE, assert_holds, blocks, items, rows, step

SOURCE = {f"id {i}": f"text {i}" for i in range(30)}
FIRST, SECOND = pa.table({"id": ["a", "b"]}), pa.table({"id": ["c"]})


class SlowDisk:
    """Saves a part once it is allowed to; fails as often as it is told."""

    def __init__(self, failures: int = 0) -> None:
        self.may_go, self.failures = Event(), failures
        self.saved: list[tuple[int, pa.Table]] = []
        self.busy = 0

    def save(self, number: int, table: pa.Table) -> None:
        self.busy += 1
        assert self.busy == 1, "two parts at a time"
        assert self.may_go.wait(30)
        self.busy -= 1
        if self.failures:
            self.failures -= 1
            raise OSError("no space left")
        self.saved.append((number, table))


def test_rows_of_a_part_that_is_being_saved_are_there():
    disk = SlowDisk()
    writer = PartWriter(disk.save)
    writer.begin(3, FIRST)
    assert (writer.table_of(3), writer.table_of(2), len(writer)) == (FIRST, None, 2)
    disk.may_go.set()
    writer.finish()
    assert (disk.saved, writer.table_of(3), len(writer)) == ([(3, FIRST)], None, 0)


def test_a_second_part_waits_for_the_first():
    disk = SlowDisk()
    writer = PartWriter(disk.save)
    writer.begin(0, FIRST)
    second = Thread(target=writer.begin, args=(1, SECOND))
    second.start()
    assert writer.table_of(0) is FIRST, "it gave up its place while it was being saved"
    disk.may_go.set()
    second.join(30)
    writer.finish()
    assert disk.saved == [(0, FIRST), (1, SECOND)]


def test_what_could_not_be_saved_is_tried_again_and_the_next_is_not_begun_before():
    disk = SlowDisk(failures=2)
    disk.may_go.set()
    writer = PartWriter(disk.save)
    writer.begin(0, FIRST)
    for _ in range(2):
        with pytest.raises(OSError, match="no space left"):
            writer.begin(1, SECOND)
    writer.begin(1, SECOND)
    writer.finish()
    assert disk.saved == [(0, FIRST), (1, SECOND)]


def test_an_end_that_comes_while_somebody_waits_saves_nothing_twice():
    disk = SlowDisk()
    writer = PartWriter(disk.save)
    writer.begin(0, FIRST)
    waiting = [Thread(target=writer.finish) for _ in range(3)]
    for thread in waiting:
        thread.start()
    disk.may_go.set()
    for thread in waiting:
        thread.join(30)
    assert disk.saved == [(0, FIRST)]


def test_a_part_is_saved_also_where_no_thread_can_be_started(monkeypatch):
    def refuse(*_):
        raise JinaClipError("the process is ending")

    monkeypatch.setattr("jinaclip.bulk.part_writer.start_thread", refuse)
    disk = SlowDisk()
    disk.may_go.set()
    writer = PartWriter(disk.save)
    writer.begin(0, FIRST)
    writer.begin(1, SECOND)
    writer.finish()
    assert disk.saved == [(0, FIRST), (1, SECOND)]


def test_who_adds_rows_to_an_output_that_was_left_is_told(tmp_path):
    """As a thread of a run would that ended at once; its rows are nobody's any more."""
    with Output(tmp_path / "out", SHAPE) as output:
        step(output, items({"a": "text a"}), [])
    with pytest.raises(ClosedError):
        output.add(items({"b": "text b"}), np.zeros((1, 16), np.float32))
    assert [row["id"] for row in rows(tmp_path / "out")] == ["a"]


class FullFolder(OutputFolder):
    """Takes no part but the first until there is room."""

    is_full, written = True, 0

    def write(self, name, data):
        if name.startswith("part-"):
            if self.is_full and self.written:
                raise OSError("no space left")
            self.written += 1
        super().write(name, data)


def test_no_part_is_lost_or_written_twice_when_the_disk_was_full_for_a_while(tmp_path):
    folder, spent = FullFolder(tmp_path / "out"), []
    with Output(folder, SHAPE, part_rows=8) as output:
        with pytest.raises(OSError, match="no space left"):
            for some in blocks(items(SOURCE)):
                step(output, some, spent)
        folder.is_full = False
        output.flush()
    written = [row["id"] for row in rows(tmp_path / "out")]
    assert len(written) == len({*written}) > len(spent) - BLOCK, "more is lost than what the last block had left"
    with Output(folder, SHAPE, part_rows=8) as output:
        for some in blocks(items(SOURCE)):
            step(output, some, spent)
        output.finish()
    assert_holds(tmp_path / "out", SOURCE)
    assert len(spent) <= len(SOURCE) + 8
