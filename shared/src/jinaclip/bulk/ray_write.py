"""Ray writes: its tasks make parts of the output, each whole or not there at all, and leave counts for the driver."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jinaclip.bulk.items import name_row
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.output import Output
from jinaclip.bulk.parts import PART_ROWS, Shard, name_of, schema_of, write_part
from jinaclip.bulk.ray_folders import RunFolder
from jinaclip.bulk.ray_read import KEY, Keys
from jinaclip.bulk.report import SHOWN, Report, keep_first

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Datasink

logger = logging.getLogger("jinaclip.bulk")
LEAST_ROWS = 256
"""Of a part, where blocks have fewer, as those of images; a run that finishes merges small parts."""
FOLLOW_SECONDS = 2.0
"""After which the driver looks again what was written."""
CHECKPOINT_ROWS = 2**22
"""Keys in a file of checkpoints."""


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What write tasks need to know.

    Attributes:
        folder: where they leave their counts; parts go to its output.
        shape: of the vectors.
        shard: in the names of the parts.
    """

    folder: RunFolder
    shape: Shape
    shard: Shard | None

    def write(self, tables: Iterable[pa.Table]) -> None:
        """Writes rows as parts. For a task of Ray's; one that Ray runs twice writes twice, which the end puts right."""
        import pyarrow as pa

        filled = [table for table in tables if len(table)]
        if not filled:
            return
        table = pa.concat_tables(filled)
        schema = schema_of(self.shape.precision, self.shape.dimensions)
        rows = table.select(schema.names).cast(schema)
        names = [self._write_part(rows.slice(start, PART_ROWS)) for start in range(0, len(rows), PART_ROWS)]
        self.folder.note_written({"parts": names, **count_rows(table)})

    def _write_part(self, rows: pa.Table) -> str:
        name = name_of(0, self.shard)
        self.folder.check_alive()
        self.folder.output.write(name, partial(write_part, rows, self.shape.precision))
        return name


def make_datasink(options: WriteOptions) -> Datasink[None]:
    """What Ray writes to."""
    from ray.data import Datasink

    class Parts(Datasink[None]):
        """The parts of an output."""

        def write(self, blocks: Iterable[Any], ctx: Any) -> None:
            """Writes what one task is given."""
            options.write(blocks)

        @property
        def min_rows_per_write(self) -> int:
            """Small blocks are joined."""
            return LEAST_ROWS

    return Parts()


def count_rows(table: pa.Table) -> dict[str, Any]:
    """What the driver wants to know of rows: how many there are, what they cost, and the first that failed."""
    done = table["error"].null_count
    failed = table.filter(table["error"].is_valid()).select(["id", "where", "error"]).slice(0, SHOWN).to_pylist()
    return {
        "done": done,
        "failed": len(table) - done,
        "tokens": int(np.asarray(table["billed"]).sum()),
        "hits": int(np.asarray(table["hits"]).sum()),
        "failures": [_name_failure(**row) for row in failed],
    }


def _name_failure(id: str, where: str, error: str) -> str:  # noqa: A002  the column's own name
    """Which item it is, and why it has no vector, without the name of the error."""
    return f"{name_row(id, where)}: {error.partition(': ')[2]}"


class WrittenParts:
    """Follows what write tasks write: counts it, and takes its parts into the index, so that little is left at the end.

    Args:
        folder: of the run.
        output: open; it is used for nothing else meanwhile.

    Attributes:
        report: done, failed, tokens and hits.
    """

    def __init__(self, folder: RunFolder, output: Output) -> None:
        self._folder, self._output = folder, output
        self._counted: set[str] = set()
        self._is_closed = False
        self.report = Report()

    def follow(self) -> None:
        """Takes in what was written since: whole parts alone, also where a file is seen before it is whole.

        Raises:
            OSError: it cannot be read.
        """
        if not self._is_closed:
            self._output.refresh(self._count())

    def end_run(self) -> None:
        """Lets all tasks end the run."""
        with suppress(OSError):
            self._folder.note_over()

    def close(self) -> None:
        """Takes in nothing more."""
        self._is_closed = True

    def _count(self) -> list[str]:
        """Counts rows of new parts, and gives the names of these."""
        report, names = self.report, list[str]()
        for name, found in self._folder.read_written(self._counted):
            self._counted.add(name)
            report.done += found["done"]
            report.failed += found["failed"]
            report.tokens += found["tokens"]
            report.from_cache += found["hits"]
            for text in found["failures"]:
                keep_first(report.failures, text)
            names += found["parts"]
        return names


@contextmanager
def follow_in_thread(written: WrittenParts) -> Iterator[None]:
    """Follows what Ray writes, in a thread, for as long as the `with` lasts.

    What cannot be read is tried again. Raises whatever else went wrong there.
    """
    over, failures = threading.Event(), list[BaseException]()

    def follow() -> None:
        while not over.wait(FOLLOW_SECONDS):
            try:
                written.follow()
            except OSError as error:  # perhaps it passes; else the end of the run raises it
                logger.warning("what Ray wrote cannot be read, which is tried again: %s", error)
            except BaseException as error:  # noqa: BLE001  it goes to whoever waits
                failures.append(error)
                written.end_run()
                return

    thread = threading.Thread(target=follow, name="jinaclip-bulk-follow", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


def write_checkpoints(folder: RunFolder, known: Keys) -> None:
    """Tells Ray the keys of the items that are done, int64 (n,)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for number, start in enumerate(range(0, len(known), CHECKPOINT_ROWS)):
        table = pa.table({KEY: known[start : start + CHECKPOINT_ROWS]})
        folder.checkpoints.write(f"known-{number:05d}.parquet", partial(pq.write_table, table))
