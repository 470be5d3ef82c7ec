"""What a run on Ray keeps in the output while it lasts: Ray's checkpoints, what was seen, what was written.

Tasks and the driver tell each other that the run is to end by a file in it, which works wherever the output does.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Container, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jinaclip import errors
from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.parts import Shard, suffix_of
from jinaclip.errors import JinaClipError

CHECKPOINTS, SEEN = "_checkpoints", "_seen"
STOP, OVER, CUT, WRITTEN, ALIVE = "stop-", "over", "cut", "written-", "alive"
LOOK_SECONDS = 1.0
"""After which a task looks again whether the run is to end."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The two folders; it can be pickled.

    Attributes:
        output: the folder of the output.
        suffix: "" or that of a shard, so that shards do not meet.
        run: begins the names of what a run leaves, as tasks of a run that was killed may outlive it for a while.
    """

    output: OutputFolder
    suffix: str
    run: str

    @classmethod
    def of(cls, output: OutputFolder, shard: Shard | None) -> RunFolder:
        """Those of a new run."""
        return cls(output, suffix_of(shard), secrets.token_hex(6))

    def _folder(self, name: str) -> OutputFolder:
        return self.output.enter(f"{name}{self.suffix}")

    @property
    def checkpoints(self) -> OutputFolder:
        """Ray's, of the keys of rows that are written."""
        return self._folder(CHECKPOINTS)

    @property
    def seen(self) -> OutputFolder:
        """What read tasks saw, what write tasks wrote, and why an actor stopped."""
        return self._folder(SEEN)

    def note_stop(self, error: JinaClipError) -> None:
        """Leaves why the run is to end, for the driver: of exceptions in tasks, Ray makes long texts."""
        note = {"error": type(error).__name__, "text": str(error)}
        self.seen.write(f"{self.run}-{STOP}{secrets.token_hex(6)}.json", json.dumps(note).encode())
        self.note_over()

    def note_alive(self) -> None:
        """Lets tasks of this run write parts, until the folders are removed, which the next run does first."""
        self.seen.write(f"{self.run}-{ALIVE}", b"")

    def check_alive(self) -> None:
        """Keeps a task that outlived its run from writing rows that nobody knows of.

        Raises:
            JinaClipError: the run is over.
        """
        if not self.seen.holds(f"{self.run}-{ALIVE}"):
            raise JinaClipError("the run of this task is over; nothing more is written for it")

    def note_over(self) -> None:
        """Lets all tasks end the run: what is in flight is waited for and written, and nothing more is read or sent."""
        self.seen.write(f"{self.run}-{OVER}", b"")

    def is_over(self) -> bool:
        """Whether the run is to end."""
        return self.seen.holds(f"{self.run}-{OVER}")

    def note_cut(self) -> None:
        """Leaves that the source has more rows than `limit`."""
        self.seen.write(f"{self.run}-{CUT}", b"")

    def is_cut(self) -> bool:
        """Whether the source has more rows than `limit`."""
        return self.seen.holds(f"{self.run}-{CUT}")

    def read_stop(self) -> JinaClipError | None:
        """Why the run is to end; of several reasons the first by the order of names, None if there is none."""
        names = [name for name in self.seen.names() if name.startswith(f"{self.run}-{STOP}")]
        if not names:
            return None
        note = json.loads(self.seen.read(names[0]))
        kind = getattr(errors, note["error"], JinaClipError) if note["error"] in errors.__all__ else JinaClipError
        error: JinaClipError = kind(note["text"])
        return error

    def note_seen(self, number: int, identities: NDArray[np.uint8]) -> None:
        """Leaves the keys and digests that a read task saw, uint8 (n, 32)."""
        file = BytesIO()
        np.save(file, identities, allow_pickle=False)
        self.seen.write(f"{self.run}-{number:06d}.npy", file.getvalue())

    def read_seen(self, count: int | None) -> Iterator[NDArray[np.uint8]]:
        """What so many read tasks saw, in the order of the source, uint8 (n, 32) each.

        Args:
            count: of the tasks; None for as many as left something, where a run ended early.

        Raises:
            JinaClipError: not all of them left it where this process looks.
        """
        names = [name for name in self.seen.names() if name.startswith(self.run) and name.endswith(".npy")]
        if count is not None and len(names) != count:
            raise JinaClipError(
                f"{len(names)} of {count} tasks left in {self.seen} what they read: is it on a file system that all "
                "machines of the Ray share? Rows are kept; run again with such an --out"
            )
        for name in names:
            yield np.load(BytesIO(self.seen.read(name)), allow_pickle=False)

    def note_written(self, counts: dict[str, Any]) -> None:
        """Leaves what a write task wrote: names of parts, and counts of their rows."""
        self.seen.write(f"{self.run}-{WRITTEN}{secrets.token_hex(6)}.json", json.dumps(counts).encode())

    def read_written(self, known: Container[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Names and counts of what write tasks left, but for those of known names."""
        for name in self.seen.names():
            if name.startswith(f"{self.run}-{WRITTEN}") and name not in known:
                yield name, json.loads(self.seen.read(name))

    def remove(self) -> None:
        """Removes the two."""
        for folder in (self.checkpoints, self.seen):
            folder.remove()


class EndWatch:
    """Whether a run is to end, for a task that asks often: it looks now and then.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._is_over, self._looked_at = False, -LOOK_SECONDS

    def is_over(self) -> bool:
        """Whether it is, a second ago at most."""
        now = time.monotonic()
        if not self._is_over and now - self._looked_at >= LOOK_SECONDS:
            self._looked_at, self._is_over = now, self._folder.is_over()
        return self._is_over
