"""At whatever moment a run dies, the next one ends as if it had not, and pays again for what was in flight alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from jinaclip.bulk.files import HIDDEN, TEMPORARY, OutputFolder
from tests.bulk.rows import BLOCK, assert_holds, item, rows, run

PART_ROWS = 8
ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """The process ends here: nothing that follows reaches the disk."""


class MortalFolder(OutputFolder):
    """Dies at an operation that changes the folder.

    Args:
        place: the folder.
        last: number of that operation, from 0.
        moment: "before" it, "after" it, or "midway", with half a file where it writes one.
        error: that it dies of. After `Killed` nothing works any more; an OSError happens once.
    """

    def __init__(self, place: Path, last: int, moment: str, error: type[BaseException]) -> None:
        super().__init__(place)
        self.left, self.moment, self.error, self.dead = last, moment, error, False

    def _meet(self, moment: str) -> None:
        if self.dead or (self.left == 0 and moment == self.moment):
            self.dead = self.error is Killed
            self.left -= moment == self.moment
            raise self.error("no space left on device")
        self.left -= moment == "after"

    def write(self, name, data):
        self._meet("before")
        if self.left == 0 and self.moment == "midway":
            (self.local / f"{TEMPORARY}{name}{HIDDEN}").write_bytes(b"PAR1 and no more")
            self._meet("midway")
        super().write(name, data)
        self._meet("after")

    def move(self, name, other):
        self._meet("before")
        self._meet("midway")
        super().move(name, other)
        self._meet("after")

    def delete(self, name):
        self._meet("before")
        self._meet("midway")
        super().delete(name)
        self._meet("after")


def before_and_after():
    """A source, and the same after rows were inserted, edited, renamed and deleted."""
    first = {f"id {i}": f"text {i}" for i in range(30)}
    then = {name: text for name, text in first.items() if name not in ("id 2", "id 9", "id 17")}
    then |= {"id 4": "edited", "new": "inserted", "renamed": "text 9", "id 20": "bad"}
    return first, then


def dies(folder: Path, source: dict[str, str], last: int, moment: str, error: type[BaseException]) -> bool:
    """Whether a run died of the error before its end."""
    try:
        run(MortalFolder(folder, last, moment, error), source, part_rows=PART_ROWS)
    except (Killed, OSError):
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "error"),
    [("before", Killed), ("midway", Killed), ("after", Killed), ("before", OSError), ("after", OSError)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_each_operation_on_the_folder_may_be_the_last(tmp_path, moment, error):
    """Of a run that copies, embeds, drops and merges; the next one pays for what is new alone."""
    first, then = before_and_after()
    for last in range(100):
        folder = tmp_path / str(last)
        run(folder, first, part_rows=PART_ROWS)
        died = dies(folder, then, last, moment, error)
        current = {item(name, text).digest.hex() for name, text in then.items()}
        there = {row["digest"] for row in rows(folder)} & current
        kept = {item(name, text).digest.hex() for name, text in first.items()} & current
        assert there >= kept, "a row that is still wanted is gone"
        paid = run(folder, then, part_rows=PART_ROWS)
        assert {*paid} <= {"edited", "inserted", "bad"}
        assert_holds(folder, then)
        assert not [*folder.glob("_tmp-part*")]
        if not died:
            break
    assert last > 8


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_first_run_that_dies_again_and_again_pays_for_what_was_in_flight(tmp_path, moment):
    source, paid = {str(i): f"text {i}" for i in range(60)}, Counter()
    deaths = 0
    for last in (1, 2, 3, 1, 4, 2, 1, 3, 0, 2):
        with_ledger = MortalFolder(tmp_path / "out", last, moment, Killed)
        deaths += dies_paying(with_ledger, source, paid)
    paid.update(run(tmp_path / "out", source, part_rows=PART_ROWS))
    assert_holds(tmp_path / "out", source)
    assert deaths
    assert paid.total() - len(source) <= deaths * (2 * PART_ROWS + BLOCK)  # one part is saved while the next one fills


def dies_paying(folder: OutputFolder, source: dict[str, str], paid: Counter[str]) -> bool:
    from jinaclip.bulk.output import Output
    from tests.bulk.rows import SHAPE, blocks, items, step

    spent: list[str] = []
    try:
        with Output(folder, SHAPE, part_rows=PART_ROWS) as output:
            for some in blocks(items(source)):
                step(output, some, spent)
    except Killed:
        return True
    finally:
        paid.update(spent)
    return False


CHILD = """
import sys
from tests.bulk.rows import SHAPE, blocks, items, step
from jinaclip.bulk.output import Output

class Bill(list):
    def __iadd__(self, texts):
        print(*(f"paid {text}" for text in texts), sep="\\n", flush=True)
        return self

source = {str(i): f"text {i}" for i in range(int(sys.argv[2]))}
with Output(sys.argv[1], SHAPE, part_rows=64) as output:
    for some in blocks(items(source), 16):
        step(output, some, Bill())
        print("block", flush=True)
    print("finish", flush=True)
    output.finish()
"""


def die_at(folder: Path, count: int, line: int) -> list[str]:
    """Starts a run in a process of its own and kills it when it has printed so many lines; what it printed."""
    command = [sys.executable, "-c", CHILD, str(folder), str(count)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        printed = [*islice(child.stdout, line)]
        child.send_signal(signal.SIGKILL)
        printed += child.stdout
    return [text.strip() for text in printed]


@pytest.mark.slow
@pytest.mark.parametrize("kills", [5, pytest.param(60, marks=pytest.mark.long)])
def test_kill_9_at_many_moments(tmp_path, kills):
    """Each time within writing a part or a little after; also while it finishes."""
    count, paid, died = 150 * kills, Counter(), 0
    for number in range(kills):
        printed = die_at(tmp_path / "out", count, 40 + 37 * number % 101)
        paid.update(text for text in printed if text.startswith("paid"))
        died += "finish" not in printed
    source = {str(i): f"text {i}" for i in range(count)}
    paid.update(f"paid {text}" for text in run(tmp_path / "out", source, part_rows=64))
    assert_holds(tmp_path / "out", source)
    assert died > kills / 2
    assert set(paid) == {f"paid {text}" for text in source.values()}
    assert paid.total() - len(source) <= died * (2 * 64 + 16)
