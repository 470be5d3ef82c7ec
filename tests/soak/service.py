"""The service of the soak, in a process of its own: right answers and faults, and a ledger of what it billed."""

from __future__ import annotations

import base64
import json
import multiprocessing
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from tests.raw import Asked, Sent, answer_body, http, refusal, serving, width_of

POISON = "poison"
"""A text with this word in it is always refused."""
RETRY_AFTER = ("Retry-After", "0.05")


def label_of(entry: dict[str, str], task: str | None) -> str:
    """What an input is, whatever its form: the task and the text, or the number that is an image's colour."""
    if "text" in entry:
        return f"{task}|{entry['text']}"
    red, green, blue = Image.open(BytesIO(base64.b64decode(entry["image"]))).convert("RGB").getpixel((0, 0))
    return image_label(red << 16 | green << 8 | blue)


def image_label(number: int) -> str:
    return f"image|{number}"


def labels_of(body: dict[str, Any]) -> list[str]:
    return [label_of(entry, body.get("task")) for entry in body["input"]]


class Service:
    """Answers, and keeps the ledger.

    Attributes:
        answered: by item, the fault beside which it was first answered rightly, to the last byte, while somebody read.
        twice: how many items were answered so once more, by the fault of the first time.
        faults: how often each fault was made.
    """

    def __init__(self, rate: float, slow: float, seed: int) -> None:
        self.answered: dict[str, str] = {}
        self.twice: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.requests = 0
        self._rate, self._slow, self._draw = rate, slow, random.Random(seed)
        self._lock = threading.Lock()

    def respond(self, asked: Asked) -> Sent:
        """Refuses what is poisoned, else makes a fault or answers."""
        labels, width = labels_of(asked.body), width_of(asked)
        poisoned = [place for place, label in enumerate(labels) if POISON in label]
        with self._lock:
            self.requests += 1
            fault = self._fault(poisoned)
            self.faults[fault] += 1
            odd = self._draw.randrange(len(labels))
        made = MAKERS[fault](Asking(labels, width, poisoned[0] if poisoned else odd, self._slow))
        return Sent(self._deliver(fault, made), made.close)

    def _fault(self, poisoned: Sequence[int]) -> str:
        if poisoned:
            return self._draw.choice(["refused by name", "refused"])
        return self._draw.choice(PASSING) if self._draw.random() < self._rate else "none"

    def _deliver(self, fault: str, made: Made) -> Iterator[bytes]:
        """The bytes, after which what they answer enters the ledger, if they were taken."""
        yield from made.pieces
        with self._lock:
            for label in made.answers:
                if label in self.answered:
                    self.twice[self.answered[label]] += 1
                self.answered.setdefault(label, fault)

    def books(self) -> dict[str, Any]:
        """The ledger, in figures."""
        with self._lock:
            faults = {name: count for name, count in self.faults.items() if name != "none"}
            return {
                "requests": self.requests,
                "faults": faults,
                "answered": len(self.answered),
                "twice": dict(self.twice),
            }


@dataclass
class Asking:
    """A request: what its inputs are, the width of the rows, the place of an odd one, and how late is too late."""

    labels: list[str]
    width: int
    odd: int
    slow: float

    @property
    def good(self) -> bytes:
        """A right answer."""
        return http(answer_body(self.labels, width=self.width))

    @property
    def others(self) -> list[str]:
        """All but the odd one."""
        return self.labels[: self.odd] + self.labels[self.odd + 1 :]


@dataclass
class Made:
    """What is sent back, what of it answers rightly, and whether the connection closes after it."""

    pieces: Iterable[bytes]
    answers: Sequence[str] = ()
    close: bool = False


def slowly(pieces: Sequence[bytes], pause: float) -> Iterator[bytes]:
    for piece in pieces:
        time.sleep(pause)
        yield piece


def bad_row(asking: Asking) -> bytes:
    body = json.loads(answer_body(asking.labels, width=asking.width))
    nan = b"\x00\x00\xc0\x7f"
    body["data"][asking.odd]["embedding"] = base64.b64encode(nan * asking.width).decode()
    return http(json.dumps(body).encode())


def named(place: int) -> bytes:
    errors = [{"field": f"body -> input -> {place}", "message": "refused", "type": "value_error"}]
    return http(json.dumps({"detail": "Validation error", "errors": errors}).encode(), 422)


def split(answer: bytes, parts: int) -> list[bytes]:
    step = -(-len(answer) // parts)
    return [answer[at : at + step] for at in range(0, len(answer), step)]


def busy(asking: Asking) -> bytes:
    words = "Too many concurrent requests" if len(asking.labels) % 2 else "Slow down"
    return refusal(429, words, [RETRY_AFTER])


def rows_of(labels: Sequence[str], width: int) -> bytes:
    return http(answer_body(labels, width=width))


MAKERS: dict[str, Callable[[Asking], Made]] = {
    "none": lambda a: Made([a.good], a.labels),
    "refused by name": lambda a: Made([named(a.odd)]),
    "refused": lambda a: Made([refusal(400)]),
    "429": lambda a: Made([busy(a)]),
    "500": lambda a: Made([refusal(500)]),
    "502": lambda a: Made([http(b"<html>bad gateway</html>", 502)], close=True),
    "503": lambda a: Made([refusal(503, headers=[RETRY_AFTER])]),
    "504": lambda a: Made([refusal(504)]),
    "closed before": lambda a: Made([], close=True),
    "closed in the head": lambda a: Made([a.good[:25]], close=True),
    "closed in the body": lambda a: Made([a.good[:-40]], close=True),
    "closed after": lambda a: Made([a.good], a.labels, close=True),
    "answered twice": lambda a: Made([2 * a.good], a.labels),
    "in pieces": lambda a: Made(slowly(split(a.good, 7), 0.01), a.labels),
    "too late": lambda a: Made(slowly([a.good], a.slow), close=True),
    "no JSON": lambda a: Made([http(b"<html>welcome</html>")]),
    "a row short": lambda a: Made([rows_of(a.labels[:-1], a.width)]),
    "a row too many": lambda a: Made([rows_of([*a.labels, "more"], a.width)]),
    "another width": lambda a: Made([rows_of(a.labels, a.width - 1)]),
    "a row of NaN": lambda a: Made([bad_row(a)], a.others),
}
PASSING = [name for name in MAKERS if name not in ("none", "refused", "refused by name")]


def run(pipe: Connection, rate: float, slow: float, seed: int) -> None:
    """The process: sends its URL, then its books whenever it is asked; ends when the other end does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the calls' side
    service = Service(rate, slow, seed)
    with serving(service.respond) as server:
        pipe.send(server.url)
        try:
            while pipe.recv():
                pipe.send(service.books())
                server.asked.clear()
        except EOFError:
            return


class Remote:
    """The service, from outside."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()
        self.url: str = pipe.recv()

    def books(self) -> dict[str, Any]:
        with self._lock:
            self._pipe.send(True)
            return self._pipe.recv()


@contextmanager
def running(rate: float, slow: float, seed: int) -> Iterator[Remote]:
    """A service in a process of its own.

    Args:
        rate: share of the requests that go wrong.
        slow: seconds that an answer takes which is to come too late.
        seed: of the draws.
    """
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=run, args=(far, rate, slow, seed), daemon=True)
    process.start()
    try:
        yield Remote(near)
        near.send(False)
    finally:
        near.close()
        process.join(10)
        process.kill()
