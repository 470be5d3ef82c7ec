"""Tries inputs that were tampered with, and prints how many: `python -m tests.fuzz`; see docs/reliability.md.

    python -m tests.fuzz                        all subjects, for JINACLIP_TEST_SECONDS in all, 120 unless set
    python -m tests.fuzz images answers         these
    python -m tests.fuzz .fuzz/images-1a2b3c    an input that was kept

What raises anything but the errors that are documented is kept in the folder .fuzz, with its traceback beside it, and
the exit status is 1. Of equal findings one is kept.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.subjects import Subject, subjects

SECONDS = float(os.environ.get("JINACLIP_TEST_SECONDS", "120"))
KEPT = Path(".fuzz")
ROUND = 50
"""Drawings of hypothesis from one seed."""


@dataclass
class Fuzz:
    """A subject on trial.

    Attributes:
        findings: by the place and class of what was raised, the name of the input that was kept.
        slowest: seconds of the input that took longest.
    """

    subject: Subject
    kept: Path = KEPT
    accepted: int = 0
    refused: int = 0
    broken: int = 0
    slowest: float = 0.0
    findings: dict[str, str] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        """Inputs so far."""
        return self.accepted + self.refused + self.broken

    def run(self, seconds: float, *, first_seed: int = 1, most: float = math.inf) -> None:
        """Tries inputs for so long, or so many; each round has a seed of its own."""
        end = time.monotonic() + seconds

        def is_over() -> bool:
            return time.monotonic() >= end or self.tried >= most

        for number in itertools.count(first_seed):
            if is_over():
                return
            self._round(number, is_over)

    def _round(self, number: int, is_over: Callable[[], bool]) -> None:
        @seed(number)
        @settings(
            max_examples=ROUND,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(self.subject.inputs)
        def try_all(inputs: Iterator[bytes]) -> None:
            while not is_over() and (data := next(inputs, None)) is not None:
                self.try_one(data)

        try_all()

    def try_one(self, data: bytes) -> None:
        """Tries an input, and keeps it if it is a finding."""
        since = time.perf_counter()
        try:
            accepted = self.subject.try_input(data)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self.broken += 1
            self._keep(data, error)
        else:
            self.accepted += accepted
            self.refused += not accepted
        self.slowest = max(self.slowest, time.perf_counter() - since)

    def _keep(self, data: bytes, error: BaseException) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        finding = f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        if finding not in self.findings:
            name = f"{self.subject.name}-{hashlib.sha256(data).hexdigest()[:12]}"
            self.kept.mkdir(exist_ok=True)
            (self.kept / name).write_bytes(data)
            (self.kept / f"{name}.txt").write_text("".join(traceback.format_exception(error)), errors="replace")
            self.findings[finding] = name

    def __str__(self) -> str:
        found = "".join(f"\n  {finding}: {self.kept / name}" for finding, name in self.findings.items())
        return (
            f"{self.subject.name}: {self.tried:,} inputs, {self.accepted:,} accepted, {self.refused:,} refused, "
            f"slowest {self.slowest:.2f} s, {len(self.findings)} findings{found}"
        )


def fuzz(chosen: Sequence[Subject], seconds: float, first_seed: int, kept: Path = KEPT) -> list[Fuzz]:
    """Tries each subject for its share of the time; Ctrl-C goes on to the summary."""
    runs: list[Fuzz] = []
    try:
        for subject in chosen:
            runs.append(Fuzz(subject, kept))
            with ExitStack() as stack:
                subject.open(stack)
                runs[-1].run(seconds / len(chosen), first_seed=first_seed)
            print(runs[-1], flush=True)
    except KeyboardInterrupt:
        print(runs[-1], "(interrupted)")
    return runs


def replay(path: Path) -> None:
    """Tries an input that was kept, and lets its error come out."""
    subject = next(one for one in subjects() if one.name == path.name.partition("-")[0])
    with ExitStack() as stack:
        subject.open(stack)
        print("accepted" if subject.try_input(path.read_bytes()) else "refused")


def main(arguments: Sequence[str]) -> int:
    """1 if there was a finding."""
    warnings.simplefilter("ignore")  # of libraries, about odd files
    if arguments and Path(arguments[0]).exists():
        replay(Path(arguments[0]))
        return 0
    first_seed = int(time.time())
    print(f"seed {first_seed}, {SECONDS:.0f} s", flush=True)
    chosen = [one for one in subjects() if not arguments or one.name in arguments]
    return int(any(run.findings for run in fuzz(chosen, SECONDS, first_seed)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
