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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from tests.raw import Asked, Sent, answer_body, http, refusal, serving, width_of

POISON = "poison"
"""A text with this word in it is always refused."""
LEAST_RETRY_AFTER = ("Retry-After", "0.05")


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
        answered: how often each item was answered rightly, the answer sent to its last byte while somebody read.
        faults: how often each fault was made.
    """

    def __init__(self, rate: float, slow: float, seed: int) -> None:
        self.answered: Counter[str] = Counter()
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
        return Sent(*MAKERS[fault](self, labels, width, poisoned[0] if poisoned else odd))

    def _fault(self, poisoned: Sequence[int]) -> str:
        if poisoned:
            return self._draw.choice(["refused by name", "refused"])
        return self._draw.choice(PASSING) if self._draw.random() < self._rate else "none"

    def deliver(self, labels: Sequence[str], pieces: Sequence[bytes], pause: float = 0.0) -> Iterator[bytes]:
        """Bytes of an answer to these items, which enters the ledger when the last were taken."""
        for piece in pieces:
            time.sleep(pause)
            yield piece
        with self._lock:
            self.answered.update(labels)

    def after(self, answer: bytes) -> Iterator[bytes]:
        """An answer that comes when nobody waits for it any more."""
        time.sleep(self._slow)
        yield answer

    def books(self) -> dict[str, Any]:
        """The ledger, in figures."""
        with self._lock:
            twice = sum(times > 1 for times in self.answered.values())
            faults = {name: count for name, count in self.faults.items() if name != "none"}
            return {"requests": self.requests, "faults": faults, "answered": len(self.answered), "twice": twice}


Made = tuple[Any, bool]
"""Pieces, and whether the connection closes after them."""


def good(labels: Sequence[str], width: int) -> bytes:
    return http(answer_body(labels, width=width))


def bad_row(labels: Sequence[str], width: int, odd: int) -> bytes:
    body = json.loads(answer_body(labels, width=width))
    body["data"][odd]["embedding"] = base64.b64encode(b"\x00\x00\xc0\x7f" * width).decode()  # NaN
    return http(json.dumps(body).encode())


def named(place: int) -> bytes:
    errors = [{"field": f"body -> input -> {place}", "message": "refused", "type": "value_error"}]
    return http(json.dumps({"detail": "Validation error", "errors": errors}).encode(), 422)


def split(answer: bytes, parts: int) -> list[bytes]:
    step = -(-len(answer) // parts)
    return [answer[at : at + step] for at in range(0, len(answer), step)]


def busy(labels: Sequence[str]) -> bytes:
    words = "Too many concurrent requests" if len(labels) % 2 else "Slow down"
    return refusal(429, words, [LEAST_RETRY_AFTER])


MAKERS: dict[str, Callable[[Service, list[str], int, int], Made]] = {
    "none": lambda s, labels, width, _: (s.deliver(labels, [good(labels, width)]), False),
    "refused by name": lambda s, labels, width, odd: ([named(odd)], False),
    "refused": lambda s, labels, width, _: ([refusal(400)], False),
    "429": lambda s, labels, width, _: ([busy(labels)], False),
    "500": lambda s, labels, width, _: ([refusal(500)], False),
    "502": lambda s, labels, width, _: ([http(b"<html>bad gateway</html>", 502)], True),
    "503": lambda s, labels, width, _: ([refusal(503, headers=[LEAST_RETRY_AFTER])], False),
    "504": lambda s, labels, width, _: ([refusal(504)], False),
    "closed before": lambda s, labels, width, _: ([], True),
    "closed in the head": lambda s, labels, width, _: ([good(labels, width)[:25]], True),
    "closed in the body": lambda s, labels, width, _: ([good(labels, width)[:-40]], True),
    "closed after": lambda s, labels, width, _: (s.deliver(labels, [good(labels, width)]), True),
    "answered twice": lambda s, labels, width, _: (s.deliver(labels, [2 * good(labels, width)]), False),
    "in pieces": lambda s, labels, width, _: (s.deliver(labels, split(good(labels, width), 7), 0.01), False),
    "too late": lambda s, labels, width, _: (s.after(good(labels, width)), True),
    "no JSON": lambda s, labels, width, _: ([http(b"<html>welcome</html>")], False),
    "a row short": lambda s, labels, width, _: ([http(answer_body(labels[:-1], width=width))], False),
    "a row too many": lambda s, labels, width, _: ([http(answer_body([*labels, "more"], width=width))], False),
    "another width": lambda s, labels, width, _: ([good(labels, width - 1)], False),
    "a row of NaN": lambda s, labels, width, odd: (
        s.deliver(labels[:odd] + labels[odd + 1 :], [bad_row(labels, width, odd)]),
        False,
    ),
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
