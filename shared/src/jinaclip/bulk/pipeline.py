"""The run within one process: a thread reads rows, some embed blocks of them, and what came of them is written.

Threads of ours do all the work, and the caller's thread only waits: what Ctrl-C raises there strikes nothing in the
middle. Several blocks are in flight, so that the service or the engine never waits for the slowest item of one. The
output and the counts are one lock's: whoever holds it may use both.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np

from jinaclip.bulk.block_embedder import BlockEmbedder
from jinaclip.bulk.blocks import LINGER_SECONDS, MOST_BYTES, Block, RowBuffer, check_row
from jinaclip.bulk.chunks import Chunk
from jinaclip.bulk.index import ABSENT, COPY, DONE, FAILED, REPEATED
from jinaclip.bulk.items import Item, items_of, name_item
from jinaclip.bulk.options import BulkOptions
from jinaclip.bulk.output import Output
from jinaclip.bulk.report import Report
from jinaclip.bulk.waiting import WaitingItems
from jinaclip.call.results import Results, clone
from jinaclip.clip import JinaClip
from jinaclip.errors import ConfigError, JinaClipError
from jinaclip.hosts import Latch, start_thread
from jinaclip.sources import Source, SourceRow
from jinaclip.vectors import Vectors

BLOCKS = {"api": 48, "local": 8}
"""Blocks in flight by backend. 48 are some 24,000 texts, which fill the requests of 16 slots while others are read and
written; 8 are some 4,000, enough for several devices."""
READERS = 16
"""Blocks for which files are read at once: those of a bucket come one in 30 ms each."""
CACHE_SECONDS = 5.0
"""For which a block waits for the cache, which may be slow, or broken."""
IDLE_SECONDS = 5.0
FLUSH_SECONDS = 60.0
"""After which what was embedded is written, also where nothing more comes."""


class Pipeline:
    """A run under way.

    Args:
        clip: embeds.
        source: gives the rows.
        output: open; written to, and finished once the whole source was read.
        options: of the run.

    Attributes:
        report: what came of it so far.
        over: set once nothing is left to do.
        error: what went wrong with the run itself, such as a full disk.
        finished: whether the output was finished.
        vectors: of texts and images, that came with the blocks that are done; what the usage has more is in flight.
    """

    def __init__(self, clip: JinaClip, source: Source, output: Output, options: BulkOptions) -> None:
        self.report = Report()
        self.over = Latch()
        self.error: BaseException | None = None
        self.finished = False
        self.vectors = 0
        self._clip, self._source, self._output, self._options = clip, source, output, options
        self._rows = RowBuffer(options.pair)
        self._waiting = WaitingItems()
        self._embedder = BlockEmbedder(clip, options.task)
        self._lock = threading.RLock()
        self._has_room = threading.Condition(self._lock)
        self._in_flight: set[Block] = set()
        self._fillers = threading.Semaphore(1)  # of texts, one gathers whole blocks while others are embedded
        self._reads_files = False
        self._is_stopping = False
        self._unwritten_since: float | None = None

    def start(self) -> None:
        """Starts it."""
        start_thread("jinaclip-bulk-read", self._read)
        start_thread("jinaclip-bulk", self._conduct)

    def stop(self, cause: JinaClipError | None = None) -> None:
        """Reads and sends nothing more; what is in flight is waited for and written."""
        unread = len(self._rows.close())
        with self._lock:
            self.report.left += unread
            self.report.stopped = self.report.stopped or cause
            self._is_stopping = True
            self._has_room.notify_all()
        self._stop_calls()

    def _stop_calls(self) -> None:
        for block in [*self._in_flight]:  # in one step, as it is done without the lock, too
            block.stop.set()

    def fail(self, error: BaseException) -> None:
        """Ends the run for something that is no outcome of it."""
        self.error = self.error or error
        self.stop()

    @property
    def items_in_flight(self) -> int:
        """Items that are being embedded."""
        with self._lock:
            return sum(len(block.items) for block in self._in_flight)

    # -- reading

    def _read(self) -> None:
        try:
            self.report.whole = self._read_rows()
        except ConfigError as error:
            self.fail(error)
        except JinaClipError as error:  # what was read until then is embedded
            with self._lock:
                self.report.stopped = self.report.stopped or error
        except BaseException as error:  # noqa: BLE001  a source may be the caller's own
            self.fail(error)
        finally:
            self._rows.end()

    def _read_rows(self) -> bool:
        """Hands in the rows of this run; gives whether the source ended."""
        options = self._options
        for number, row in enumerate(self._source.rows()):
            if options.limit is not None and number >= options.limit:
                return False
            check_row(row, options)
            if options.owns(row.id) and not self._rows.put(row):
                return False
        return True

    # -- the threads that embed

    def _conduct(self) -> None:
        """Runs the threads that embed, and ends the output after them."""
        try:
            threads = [start_thread("jinaclip-bulk-embed", self._work) for _ in range(self._count_threads())]
            for thread in threads:
                thread.join()
            self._end()
        except BaseException as error:  # noqa: BLE001  it goes to whoever waits
            self.fail(error)
        finally:
            self.over.set()

    def _count_threads(self) -> int:
        return BLOCKS[self._clip.config.backend]

    def _work(self) -> None:
        try:
            while not self._is_stopping:
                with self._fillers:
                    block = self._fill()
                if block is None:
                    return
                if block.items:
                    self._embed(block)
        except BaseException as error:  # noqa: BLE001  it goes to whoever waits
            self.fail(error)

    def _fill(self) -> Block | None:
        """A block of what is to be embedded, empty if nothing came for a while; None after the last."""
        self._wait_for_room()
        block = Block()
        while not block.is_full:
            chunk = self._rows.take(LINGER_SECONDS if block.items else IDLE_SECONDS)
            if chunk is None or not chunk.rows:
                self._flush_in_time()
                return block if block.items or chunk is not None else None
            self._note_files(chunk.rows)
            block.add(self._find_missing(chunk))
        return block

    def _wait_for_room(self) -> None:
        with self._lock:
            self._has_room.wait_for(lambda: self._is_stopping or self._size_in_flight() < MOST_BYTES)

    def _size_in_flight(self) -> int:
        return sum(block.size for block in self._in_flight)

    def _note_files(self, rows: Sequence[SourceRow]) -> None:
        """Lets several threads fill blocks once there are images: reading them is waiting."""
        with self._lock:
            if self._reads_files or not any(row.image is not None for row in rows):
                return
            self._reads_files = True
        self._fillers.release(READERS - 1)

    def _find_missing(self, chunk: Chunk) -> list[Item]:
        """The items of rows that are to be embedded; the others are counted, copied, or written as failed."""
        options, policy = self._options, self._clip.config.image_policy
        items = [item for row in chunk.rows for item in items_of(row, options.pair, options.weight, policy)]
        with self._lock:
            items, report = self._keep_unread(self._leave_repeated(items, chunk)), self.report
            found = self._output.look_up(items)
            self._rows.note_looked_up(chunk)
            report.skipped += int((found == DONE).sum())
            for place in np.flatnonzero(found == REPEATED):
                report.note_repeated(name_item(items[place]))
            if not options.retry_failed:
                failed = int((found == FAILED).sum())
                report.failed, report.failed_before = report.failed + failed, report.failed_before + failed
            again = (found == FAILED) & options.retry_failed  # another id may have the vector by now
            missing = [items[place] for place in np.flatnonzero(found == ABSENT).tolist()]
            missing += self._copy([items[place] for place in np.flatnonzero((found == COPY) | again).tolist()])
            self._fail_items([(item, item.error) for item in missing if item.error is not None])
            return self._waiting.claim(item for item in missing if item.error is None)

    def _leave_repeated(self, items: list[Item], chunk: Chunk) -> list[Item]:
        """Counts items that repeat those of a chunk that may still be read, and leaves them out."""
        if not chunk.repeated:  # as nearly always
            return items
        for item in filter(chunk.repeats, items):
            self.report.note_repeated(name_item(item))
        return [item for item in items if not chunk.repeats(item)]

    def _keep_unread(self, items: list[Item]) -> list[Item]:
        """Tells of files that cannot be read, and leaves out those whose vector of before stays."""
        unread = {item.key: item for item in items if item.is_unread}
        if not unread:  # as nearly always
            return items
        kept = [(item, item.error) for item in self._output.keep_vectors([*unread.values()]) if item.error is not None]
        if self._options.on_error == "stop":
            self._fail_items(kept)
        else:
            for item, error in kept:
                self.report.note_kept(f"{name_failure(item, error)}; the vector of before is kept")
        left_out = {id(item) for item, _ in kept}
        return [item for item in items if id(item) not in left_out]

    def _copy(self, items: list[Item]) -> list[Item]:
        """Gives items the vectors of others with the same content; gives those for which that was not to be had."""
        left = self._output.copy(items) if items else []
        self.report.copied += len(items) - len(left)
        return left

    def _fail_items(self, failed: Sequence[tuple[Item, JinaClipError]]) -> None:
        """Writes why items have no vector, or ends the run with the first of them, as the user has chosen."""
        if not failed:
            return
        if self._options.on_error == "stop":
            item, error = failed[0]
            self.report.left += len(failed)
            stopped = clone(error)
            stopped.args = (name_failure(item, error),)
            self.stop(stopped)
            return
        items = [item for item, _ in failed]
        errors = {place: describe(error) for place, (_, error) in enumerate(failed)}
        rows = np.full((len(items), self._clip.dimensions), np.nan, np.float32)
        self._add(items, rows, errors, [0] * len(items))
        for item, error in failed:
            self.report.note_failure(name_failure(item, error))

    # -- embedding

    def _embed(self, block: Block) -> None:
        with self._lock:
            if self._is_stopping:
                self._leave(block)
                return
            self._in_flight.add(block)
        request = block.request(self._options.task)
        try:
            with self._lock:
                self._output.check_room(self.items_in_flight)
            tokens = self._clip.count_tokens(request or block.contents(), task=self._options.task)
            results = self._embedder.embed(block.contents(), request, tokens, block.stop)
            self._wait_for_cache()
        except BaseException:
            with self._lock:
                self._land(block)
                self._leave(block)
            raise
        with self._lock:  # in one step, so that its rows count as in flight until they count as waiting for the disk
            self._land(block)
            self._record(block, results, tokens)

    def _land(self, block: Block) -> None:
        self._in_flight.discard(block)
        self._has_room.notify_all()

    def _leave(self, block: Block) -> None:
        """Counts items as left, and those that waited for them."""
        self.report.left += len(block.items) + len(self._waiting.release(block.items))

    def _record(self, block: Block, results: Results, tokens: Sequence[int]) -> None:
        """Writes what came of a block; what the end of its call left undone is no failure of an item."""
        left = {place for place, one in results.errors.items() if one.left}
        errors = {place: one.reason for place, one in results.errors.items() if place not in left}
        undone = left | errors.keys()
        places = [place for place in range(len(results)) if place not in undone]
        with self._lock:
            report = self.report
            report.tokens += results.usage.tokens
            self.vectors += results.usage.items + results.usage.hits
            report.from_cache += results.usage.hits
            report.left += len(left) + len(block.items) - len(results)
            report.done += len(places)
            if places:
                items = [block.items[place] for place in places]
                vectors = results.vectors[places] if undone else results.vectors  # picking rows copies them
                self._add(items, vectors, {}, [tokens[place] for place in places])
            failed = {block.items[place].digest: error for place, error in errors.items()}
            waited = self._waiting.release(block.items)
            report.left += len(self._copy([item for item in waited if item.digest not in failed]))
            both = [*(block.items[place] for place in errors), *(item for item in waited if item.digest in failed)]
            self._fail_items([(item, failed[item.digest]) for item in both])
        if results.stopped is not None:
            self.stop(None if block.stop.done() else results.stopped)

    def _wait_for_cache(self) -> None:
        """Lets the cache write what has come: it drops what comes faster than it writes, and a kill would cost that."""
        if self._clip.cache is not None:
            self._clip.cache.flush(CACHE_SECONDS)

    # -- writing

    def _add(self, items: Sequence[Item], rows: Vectors, errors: dict[int, str], tokens: Sequence[int]) -> None:
        self._output.add(items, rows, errors, tokens)
        self._unwritten_since = self._unwritten_since or time.monotonic()

    def _flush_in_time(self) -> None:
        """Writes what waits for more, which may not come soon."""
        with self._lock:
            if self._unwritten_since is not None and time.monotonic() - self._unwritten_since > FLUSH_SECONDS:
                self._unwritten_since = None
                self._output.flush()

    def _end(self) -> None:
        """Writes the rest, and drops what is not in the source any more, if all of the source was looked at."""
        with self._lock:
            report = self.report
            report.left += len(self._rows.close())
            is_whole = report.whole and report.stopped is None and self.error is None and not self._is_stopping
            try:
                self._output.flush()
            finally:
                report.note_unwritten(max(0, report.done + report.copied - self._output.vectors_written))
            if is_whole and self._options.limit is None:
                found = self._output.finish()
                report.dropped, report.lost, report.unseen = found.dropped, found.missing, found.unseen
                self.finished = not found.missing
            self._output.save_manifest(report.counts, finished=self.finished)

    def abandon(self) -> None:
        """Ends at once: nothing is waited for, the lock neither, which is held while a part is written."""
        self._is_stopping = True
        self._rows.close()
        self._stop_calls()


def name_failure(item: Item, error: JinaClipError) -> str:
    """Which item it is, and why it has no vector; an error of its row says where it stands."""
    if error is item.error:
        return str(error) if item.id == item.where else f"id {item.id!r}, {error}"
    return f"{name_item(item)}: {error}"


def describe(error: JinaClipError) -> str:
    """Why an item failed, for the column `error`."""
    return f"{type(error).__name__}: {error}"
