"""What is embedded in one call: rows from the source in chunks, and blocks of the items that have no vector yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Condition
from typing import Any

from jinaclip.bulk.chunks import Chunk, OpenChunks
from jinaclip.bulk.items import Item, PairMode
from jinaclip.bulk.options import BulkOptions
from jinaclip.call.request import Request, Task
from jinaclip.errors import ConfigError
from jinaclip.hosts import Latch
from jinaclip.inputs import Image, Pair, Text
from jinaclip.sources import Source, SourceRow

BLOCK_ITEMS, BLOCK_BYTES = 256, 16 * 2**20
"""Of one call: what is worth a call of its own, and no more memory than a few photos take."""
MOST_BYTES = 256 * 2**20
"""Of all blocks in flight together; reading waits while there are more."""
CHUNK_ROWS, CHUNK_BYTES = 512, 4 * 2**20
"""Of rows that are looked up together. All that are missing go into one block, so it may hold 767 items."""
WAITING_ROWS, WAITING_BYTES = 4 * CHUNK_ROWS, 4 * CHUNK_BYTES
"""Of rows that were read and wait."""
ROW_BYTES = 4096
"""What a vector takes until it is written."""
FILE_BYTES = 2**20
"""A file that is not read yet counts as so many bytes."""
TILE_BYTES = 400_000
"""A photo as it is sent takes about so many, until it is answered."""
LINGER_SECONDS = 0.05
"""A block waits so long for more rows before it goes as it is: those of a slow source are embedded as they come."""
NO_PAIR = (
    "{} has a text and an image in a row. Say which vectors you want: --pair fuse makes one of both (--weight is the "
    "share of the text), --pair both makes two, whose kinds are text and image; --image '' leaves the images out, "
    "--text '' the texts. From Python: pair='fuse', and so on"
)


@dataclass(slots=True, eq=False)
class Block:
    """Items that are embedded together.

    Attributes:
        items: those without a vector.
        size: bytes that they take, about.
        stop: set to end the call.
    """

    items: list[Item] = field(default_factory=list)
    size: int = 0
    stop: Latch = field(default_factory=Latch)

    def add(self, items: list[Item]) -> None:
        """Takes items in."""
        self.items += items
        self.size += sum(map(size_of_item, items))

    def contents(self) -> list[Any]:
        """What is embedded, as `JinaClip.embed` takes it."""
        return [item.content for item in self.items]

    def request(self, task: Task) -> Request | None:
        """What is asked of a block of texts; None for one with images."""
        return request_texts(self.contents(), task)

    @property
    def is_full(self) -> bool:
        """Whether it is to go as it is."""
        return len(self.items) >= BLOCK_ITEMS or self.size >= BLOCK_BYTES


def request_texts(contents: Sequence[Any], task: Task) -> Request | None:
    """What is asked of texts, which were read once as items; None where there are images."""
    if not all(isinstance(content, str) for content in contents):
        return None
    texts = [Text(content) for content in contents]
    return Request(texts, len(texts), "item", task, quick=True, hint=len(texts))


def size_of(content: Any) -> int:
    """Bytes of a text, an image or both as this process holds them, about; 0 of what is in a file or has pixels."""
    if isinstance(content, str):  # first: of these there are millions
        return len(content)
    if isinstance(content, Pair):
        return sum(size_of(half) for half in content.halves)
    if isinstance(content, Text):
        content = content.value
    elif isinstance(content, Image):
        content = content.source
    return len(content) if isinstance(content, bytes | str) else 0  # a table may hold anything


def size_of_item(item: Item) -> int:
    """Bytes that an item takes until it is written, about."""
    return ROW_BYTES + TILE_BYTES * (item.kind != "text") + size_of(item.content)


def size_of_row(row: SourceRow) -> int:
    """Bytes of a row as it was read, and of the file that it names."""
    image = 0 if row.image is None else size_of(row.image) or FILE_BYTES
    return image + size_of(row.text)


def check_kinds(source: Source, options: BulkOptions) -> None:
    """Refuses a source whose rows have texts and images, if nothing says what is to become of the two.

    Raises:
        ConfigError: it is so.
    """
    if options.pair is None and source.kinds is not None and len(source.kinds) > 1:
        raise ConfigError(NO_PAIR.format(source.name), option="pair")


def check_row(row: SourceRow, options: BulkOptions) -> None:
    """The same for a row, where only reading tells. Raises as `check_kinds`."""
    if options.pair is None and row.text is not None and row.image is not None:
        raise ConfigError(NO_PAIR.format(row.where), option="pair")


class RowBuffer:
    """Rows between the thread that reads the source and those that embed: as many as wait, and no more.

    A row that finds room is put without a lock, as millions are: a single step of the interpreter's puts it, and only
    then it is looked whether anybody waits, who says so first and then looks for rows.

    Args:
        pair: what becomes of a text and an image in a row.
    """

    def __init__(self, pair: PairMode | None) -> None:
        self._chunks = OpenChunks(pair)
        self._rows: deque[SourceRow] = deque()
        self._sizes: deque[int] = deque()  # of the rows, put before them
        self._put = self._taken = 0  # bytes, each counted by one side
        self._changed = Condition()
        self._waiting = 0  # who wants rows
        self._has_ended = self._is_closed = False

    def put(self, row: SourceRow) -> bool:
        """Takes a row in, once there is room; gives whether anybody still wants rows. For one thread."""
        if self._is_full:
            self._wait_for_room()
        if self._is_closed:
            return False
        size = size_of_row(row)
        self._sizes.append(size)
        self._rows.append(row)
        self._put += size
        if self._waiting:
            with self._changed:
                self._changed.notify_all()
        return True

    def _wait_for_room(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._is_full or self._is_closed)

    @property
    def _is_full(self) -> bool:
        return len(self._rows) >= WAITING_ROWS or (self._put - self._taken >= WAITING_BYTES and bool(self._rows))

    def take(self, seconds: float) -> Chunk | None:
        """What waits, a chunk of it at most; not one row if none came for so many seconds; None after the last.

        Give it to `note_looked_up` when the output knows its items.
        """
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: self._rows or self._has_ended or self._is_closed, seconds)
            self._waiting -= 1
            if self._is_closed or (self._has_ended and not self._rows):
                return None
            chunk = self._chunks.open(self._take_rows())
            self._changed.notify_all()
            return chunk

    def note_looked_up(self, chunk: Chunk) -> None:
        """Notes that the output knows the items of a chunk."""
        with self._changed:
            self._chunks.close(chunk)

    def _take_rows(self) -> list[SourceRow]:
        rows, size = list[SourceRow](), 0
        while self._rows and len(rows) < CHUNK_ROWS and size < CHUNK_BYTES:
            rows.append(self._rows.popleft())
            size += self._sizes.popleft()
        self._taken += size
        return rows

    def end(self) -> None:
        """Notes that the last row was put."""
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def close(self) -> list[SourceRow]:
        """Wants no more rows; gives those that still waited."""
        with self._changed:
            self._is_closed = True
            left = [*self._rows]
            self._rows.clear()
            self._changed.notify_all()
        return left
