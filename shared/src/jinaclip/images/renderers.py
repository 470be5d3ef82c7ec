"""Processes that draw pages of PDF files: started by `subprocess`, and ended once nobody waits for them any more."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

from jinaclip.errors import JinaClipError
from jinaclip.images import pdfium
from jinaclip.process import Dropped, Task, is_wanted, start_thread
from jinaclip.requirements import check_installed

R = TypeVar("R")
MEMORY = 2 * 2**30
"""Bytes of address space that a process may have beside its file, where the system limits that."""
START_SECONDS = 60.0
"""For the interpreter to start: a tenth of a second, on a machine with nothing else to do."""
CHECK_SECONDS = 0.05
"""How often one who waits for an answer looks whether anybody still wants it."""
IDLE = 8
"""Processes that are kept, each with its file open, for the next page."""
LONGEST_REASON = 1000
ENVIRONMENT = re.compile(r"PATH|LANG|LC_\w+|LD_\w+|DYLD_\w+|TE?MP|TMPDIR|SYSTEMROOT|WINDIR", re.IGNORECASE)
"""Variables that an interpreter may need. The others, keys say, are none of a file's business."""
INTERPRETER = re.compile(r"(python|pypy)[\d.]*w?(\.exe)?", re.IGNORECASE)
NO_WINDOW = getattr(subprocess, "CREATE_NO_WINDOW", 0)


class NotDrawn(Exception):
    """What was asked of the process cannot be had."""


class Refused(NotDrawn):
    """PDFium says why it does not do it; it can be asked for something else."""


class Locked(Refused):
    """The file is encrypted, and this is not its password."""


class Head(NamedTuple):
    """What an answer begins with: two numbers, and how many bytes follow."""

    first: int
    second: int
    length: int


class Drawing(NamedTuple):
    """A page: width and height, 3 bytes for each pixel, and notes of what was not drawn, such as `pdfium.MOVING`."""

    width: int
    height: int
    pixels: bytearray
    notes: int


class Renderer:
    """A process with a PDF file open. To be used by one thread at a time, one of ours; `end` is for any.

    The file may have taken it over, so what it answers is checked: kinds, lengths, sizes.

    Args:
        owner: whose it is.
        data: the file.
        password: of the file, or "".
        seconds: that each request may take.

    Attributes:
        page_count: of the file.

    Raises:
        NotDrawn: PDFium cannot open the file.
        JinaClipError: the process does not start.
        MissingDependencyError: pypdfium2 is not installed.
    """

    def __init__(self, owner: object, data: bytes, password: str, seconds: float) -> None:
        self.owner, self._seconds = owner, seconds
        self._ended, self._talk = False, cast("Task[Any] | None", None)
        self._process = start_process(MEMORY + 4 * len(data))
        _all.add(self)
        key = password.encode("utf-8", "replace")
        try:
            self._wait_for_start()
            self.page_count = self._ask(pdfium.OPEN, len(key), 0, key, data).first
        except BaseException:
            self.end()
            raise

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked more."""
        return self._process.poll() is None

    def draw(self, number: int, max_pixels: int, reserve: Callable[[int, int], None]) -> Drawing:
        """A page, by number from 0. `reserve` is told its size before its pixels come here.

        Raises:
            NotDrawn: PDFium cannot draw it.
        """
        with self._ended_by_errors():
            head = self._ask(pdfium.DRAW, number, max_pixels)
            width, height = check_size(head, max_pixels)
            check_length(head, exactly=1 + 3 * width * height)
            reserve(width, height)
            notes, pixels = self._wait(lambda: (self._receive(1)[0], self._receive(3 * width * height)))
            return Drawing(width, height, pixels, notes)

    def read(self, number: int) -> str:
        """The text of a page, by number from 0.

        Raises:
            NotDrawn: PDFium cannot read it.
        """
        with self._ended_by_errors():
            head = self._ask(pdfium.TEXT, number, 0)
            check_length(head, most=pdfium.LONGEST_TEXT)
            return self._wait(partial(self._receive, head.length)).decode("utf-8", "replace")

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._ended = True
        self._process.kill()
        self._process.wait()
        if self._talk is not None:
            self._talk.done.wait()  # with nobody at the other end, its thread is through at once
        self._close_pipes()
        _all.discard(self)

    def forget(self) -> None:
        """Lets go of the process in a forked child: it is the parent's, with which its stdin must end."""
        self._close_pipes()
        self._process.returncode = 0  # so that nobody here waits for it

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    @contextmanager
    def _ended_by_errors(self) -> Iterator[None]:
        """Ends the process if it, or who waits for it, does not come to an orderly end."""
        try:
            yield
        except Refused:
            raise
        except BaseException:
            self.end()
            raise

    def _wait_for_start(self) -> None:
        try:
            self._wait(partial(self._receive_head, pdfium.READY), START_SECONDS)
        except NotDrawn as error:
            raise JinaClipError(f"the process that draws pages of PDF files does not start: {error}") from None

    def _ask(self, kind: bytes, first: int, second: int, *parts: bytes) -> Head:
        """What the answer to a request begins with."""

        def talk() -> Head:
            pdfium.send(self._process.stdin, kind, first, min(second, 2**32 - 1), *parts)
            return self._receive_head(pdfium.DONE)

        return self._wait(talk)

    def _receive_head(self, expected: bytes) -> Head:
        kind, *numbers = pdfium.FRAME.unpack(self._receive(pdfium.FRAME.size))
        head = Head(*numbers)
        if kind in (pdfium.FAILED, pdfium.LOCKED):
            check_length(head, most=LONGEST_REASON)
            reason = self._receive(head.length).decode("utf-8", "replace")
            raise (Refused if kind == pdfium.FAILED else Locked)("".join(filter(str.isprintable, reason)))
        if kind != expected:
            raise NotDrawn(NONSENSE)
        return head

    def _receive(self, length: int) -> bytearray:
        return pdfium.read_bytes(self._process.stdout, length)

    def _wait(self, talk: Callable[[], R], seconds: float | None = None) -> R:
        """What comes of reading and writing, which is done in another thread, so that this one can give up.

        Raises:
            Dropped: nobody wants it any more.
            NotDrawn: it takes too long, or the process has ended.
        """
        seconds = self._seconds if seconds is None else seconds
        task = Task(talk)
        start_thread("jinaclip-page", task.run)
        self._talk = task
        ends_at = time.monotonic() + seconds
        while not task.done.wait(CHECK_SECONDS):
            if not is_wanted():
                raise Dropped
            if time.monotonic() > ends_at:
                raise NotDrawn(f"it took longer than {seconds:g} s")
        try:
            return task.result()
        except (EOFError, OSError, ValueError):  # at its end; the pipe may be closed already
            raise NotDrawn(self._describe_end()) from None

    def _describe_end(self) -> str:
        if self._ended:
            return CLOSED
        self._process.kill()  # if it has closed its pipes alone
        code = self._process.wait()
        names = {-number: number.name for number in signal.Signals}
        how = names.get(code, f"exit code {code}")
        return f"PDFium broke down ({how}); is the file damaged, or a page too large for {MEMORY >> 30} GiB?"


CLOSED = "its file was closed"
NONSENSE = "PDFium gave an answer that does not hold"
_all: set[Renderer] = set()
_idle: list[Renderer] = []  # the last one was used last


def check_size(head: Head, max_pixels: int) -> tuple[int, int]:
    """The two numbers of an answer, if they are the width and the height of an image that was asked for."""
    if not 0 < head.first * head.second <= max_pixels:
        raise NotDrawn(NONSENSE)
    return head.first, head.second


def check_length(head: Head, *, most: int | None = None, exactly: int | None = None) -> None:
    """Refuses to wait for other amounts of data than were asked for."""
    if (most is not None and head.length > most) or exactly not in (None, head.length):
        raise NotDrawn(NONSENSE)


def take_idle(owner: object) -> Renderer | None:
    """An idle process of this owner, if there is one. It is nobody else's then."""
    for renderer in reversed(_idle.copy()):
        if renderer.owner is owner and remove_idle(renderer):
            if renderer.is_alive:
                return renderer
            renderer.end()
    return None


def keep_idle(renderer: Renderer) -> None:
    """Keeps a process for the next page; the one that was not used for longest ends if there are too many."""
    _idle.append(renderer)
    for oldest in _idle[:-IDLE]:
        if remove_idle(oldest):
            oldest.end()


def remove_idle(renderer: Renderer) -> bool:
    """Whether this call took a process out of those that are idle.

    A single step, without a lock that a finalizer, which may run anywhere, could find taken.
    """
    try:
        _idle.remove(renderer)
    except ValueError:
        return False
    return True


def end_all(owner: object) -> None:
    """Ends the processes of an owner, idle or not."""
    for renderer in tuple(_all):
        if renderer.owner is owner:
            remove_idle(renderer)
            renderer.end()


def forget_all() -> None:
    """Lets go of all processes, in a forked child."""
    for renderer in tuple(_all):
        renderer.forget()
    _all.clear()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_all)


def start_process(memory: int) -> subprocess.Popen[bytes]:
    """Starts a process that serves `pdfium`: with no more than its two pipes, and out of the reach of Ctrl-C.

    Raises:
        JinaClipError: the system does not start it.
        MissingDependencyError: pypdfium2 is not installed.
    """
    check_installed(["pypdfium2"], "a page of a PDF file", "pdf")
    paths = [path for path in sys.path if isinstance(path, str) and path]
    try:
        return subprocess.Popen(  # noqa: S603  an interpreter, with a file of ours
            [find_interpreter(), "-I", "-S", str(pdfium.__file__), str(memory), *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env={name: value for name, value in os.environ.items() if ENVIRONMENT.fullmatch(name)},
            start_new_session=True,
            creationflags=NO_WINDOW,
        )
    except OSError as error:
        raise JinaClipError(f"no process can be started to draw pages of PDF files: {error}") from None


def find_interpreter() -> str:
    """The Python that runs this, also where it is part of another program, such as uWSGI.

    Raises:
        JinaClipError: there is none, as in a program that was frozen.
    """
    folder = Path(sys.exec_prefix, "Scripts" if os.name == "nt" else "bin")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    nearby = [folder / f"python{version}", folder / "python3", Path(sys.exec_prefix, "python.exe")]
    for path in (Path(sys.executable or ""), *nearby):
        if not getattr(sys, "frozen", False) and INTERPRETER.fullmatch(path.name) and path.is_file():
            return str(path)
    raise JinaClipError(
        "pages of PDF files are drawn in a process of their own, and there is no Python interpreter to run it "
        f"(sys.executable is {sys.executable!r}); draw them where there is one"
    )
