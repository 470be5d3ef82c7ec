"""What Ray wrote becomes parts of the output: its many small files, some cut short by a crash, into few whole ones."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.items import name_row
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.parts import PART_ROWS, Shard, has_vectors_of, name_of, schema_of, write_part
from jinaclip.bulk.ray_folders import RunFolder
from jinaclip.bulk.ray_read import KEY, Keys
from jinaclip.bulk.report import Report

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger("jinaclip.bulk")
COLLECT_SECONDS = 2.0
CHECKPOINT_ROWS = 2**22
"""Keys in a file of checkpoints."""


class Collector:
    """Moves rows from Ray's files to parts of the output. A file is removed once its rows are in a part.

    A crash in between leaves rows in both; `Output.finish` keeps one of them.

    Args:
        folder: of the run.
        output: the folder of the output.
        shape: of its vectors.
        shard: in the names of its parts.
    """

    def __init__(self, folder: RunFolder, output: OutputFolder, shape: Shape, shard: Shard | None) -> None:
        self._folder, self._output, self._shape, self._shard = folder, output, shape, shard
        self._schema = schema_of(shape.precision, shape.dimensions)
        self._waiting: list[pa.Table] = []
        self._emptied: list[str] = []
        self._taken: set[str] = set()
        self._is_closed = False
        self.report = Report()
        """Done, failed, tokens and hits of what was taken."""

    def collect(self) -> None:
        """Takes what Ray has committed since, and writes parts that are full."""
        committed = self._folder.committed()
        self._take([name for name in self._folder.rows.names() if _stem(name) in committed])

    def finish(self) -> None:
        """Takes what Ray has committed since, and writes all that waits."""
        self.collect()
        self._write(everything=True)

    def close(self) -> None:
        """Takes and writes nothing more; what was not taken is left to the next run."""
        self._is_closed = True

    def recover(self) -> None:
        """Takes all files of a run that was killed, also those that were not committed if they are whole."""
        self._take(self._folder.rows.names())
        self._write(everything=True)

    def _take(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._taken and not self._is_closed:
                self._take_file(name)

    def _take_file(self, name: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        data = self._folder.rows.read(name)  # first: a connection that breaks says nothing of the file
        self._taken.add(name)
        try:
            table = pq.read_table(pa.BufferReader(data))
        except (pa.ArrowException, OSError) as error:  # cut short by a crash; the rows are embedded again
            logger.info("%s of Ray's is no whole file: %s", name, error)
            self._folder.rows.delete(name)
            return
        if not self._fits(table):
            logger.warning(
                "%s in %s holds rows of an earlier run with other options; it is removed", name, self._folder.rows
            )
            self._folder.rows.delete(name)
            return
        self._count(table)
        self._waiting.append(table.select(self._schema.names).cast(self._schema))
        self._emptied.append(name)
        self._write()

    def _fits(self, table: pa.Table) -> bool:
        """Whether rows are of this space and precision: before the first part nothing else tells what a run was."""
        if not {*self._schema.names} <= {*table.schema.names}:
            return False
        return has_vectors_of(table.schema, self._schema) and {*table["space"].unique().to_pylist()} <= {
            self._shape.space
        }

    def _count(self, table: pa.Table) -> None:
        report, errors = self.report, table["error"].to_pylist()
        failures = np.array([place for place, error in enumerate(errors) if error is not None], np.int64)
        report.done += len(table) - len(failures)
        report.tokens += int(np.asarray(table["billed"]).sum())
        report.from_cache += int(np.asarray(table["hits"]).sum())
        ids, wheres = (table[name].take(failures).to_pylist() for name in ("id", "where"))
        for name, where, place in zip(ids, wheres, failures, strict=True):
            report.note_failure(f"{name_row(name, where)}: {errors[place].partition(': ')[2]}")

    def _write(self, *, everything: bool = False) -> None:
        import pyarrow as pa

        waiting = sum(map(len, self._waiting))
        if self._is_closed or (waiting < PART_ROWS and not (everything and self._emptied)):
            return
        table = pa.concat_tables(self._waiting)
        for start in range(0, waiting, PART_ROWS):
            part = table.slice(start, PART_ROWS)
            self._output.write(name_of(0, self._shard), partial(write_part, part, self._shape.precision))
        for name in self._emptied:
            self._folder.rows.delete(name)
        self._waiting, self._emptied = [], []


def _stem(name: str) -> str:
    """How a file's name begins: Ray names the files of a write `<write>-0.parquet`, and its checkpoint `<write>`."""
    return name.rpartition("-")[0]


def write_checkpoints(folder: RunFolder, known: Keys) -> None:
    """Tells Ray the keys of the items that are done, int64 (n,)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, start in enumerate(range(0, len(known), CHECKPOINT_ROWS)):
        table = pa.table({KEY: known[start : start + CHECKPOINT_ROWS]})
        folder.checkpoints.write(f"known-{number:05d}.parquet", partial(pq.write_table, table))


def take_over(output: OutputFolder, shape: Shape, shard: Shard | None) -> None:
    """Makes parts of what a run on Ray that was killed has written, for a run without Ray, and removes its folders."""
    folder = RunFolder.of(output, shard)
    if folder.rows.names():
        Collector(folder, output, shape, shard).recover()
    folder.remove()


@contextmanager
def collecting(collector: Collector) -> Iterator[None]:
    """Collects what Ray writes, now and then, in a thread, for as long as the `with` lasts.

    What cannot be read or written is tried again. Raises whatever else went wrong there.
    """
    over, failures = threading.Event(), list[BaseException]()

    def collect() -> None:
        while not over.wait(COLLECT_SECONDS):
            try:
                collector.collect()
            except OSError as error:  # perhaps it passes; else `finish` raises it
                logger.warning("rows of Ray's cannot be taken in, which is tried again: %s", error)
            except BaseException as error:  # noqa: BLE001  it goes to whoever waits
                failures.append(error)
                return

    thread = threading.Thread(target=collect, name="jinaclip-bulk-collect", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]
