"""What those who watch are told of a whole call: that it begins, and how it ended."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

from jinaclip import telemetry
from jinaclip.call.request import Request
from jinaclip.call.results import Results
from jinaclip.errors import JinaClipError
from jinaclip.process import run_apart, start_thread
from jinaclip.telemetry import CallEnded, CallStarted, Event

E = TypeVar("E", bound=Event)
_numbers = itertools.count(1)  # of calls


@dataclass(frozen=True, slots=True)
class Service:
    """Who embeds, for those who watch.

    Attributes:
        provider: "jina", "openai" for servers of that shape, "aws.sagemaker", "jinaclip" on this machine.
        host: name of its machine, with the port if its address names one; None on this machine.
        port: of it, also where the address leaves it out; None on this machine.
    """

    provider: str
    host: str | None = None
    port: int | None = None


HERE = Service("jinaclip")


class Watch:
    """Tells of one call: as a context it tells when the call begins, and when it has ended, whatever ended it.

    Args:
        request: what is asked.
        service: who embeds.
        model: its name.
        dimensions: width of the vectors.
        strict: the results are to be unwrapped, so that the error of an item is raised.

    Attributes:
        number: of the call.
    """

    def __init__(self, request: Request, service: Service, model: str, dimensions: int, *, strict: bool) -> None:
        self.number = next(_numbers)
        self._request, self._service, self._model, self._dimensions = request, service, model, dimensions
        self._strict = strict
        self._results: Results | None = None
        self._begun_at = 0.0
        self._telling = threading.Lock()  # taken in threads of ours alone: the end is told after the beginning
        self._has_begun = self._is_broken_off = False

    def note(self, results: Results) -> Results:
        """Notes what came of the call, and gives it back."""
        self._results = results
        return results

    def __enter__(self) -> Self:
        self._begun_at = time.monotonic()
        try:
            if telemetry.wants(CallStarted):
                tell(self._begin, self._started())
        except BaseException as error:  # of a signal handler: `__exit__` is not called, and the hooks are still told
            tell(self._break_off, self._ended(error), wait=False)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if telemetry.wants(CallEnded):
            tell(telemetry.emit, self._ended(error), wait=kind is not GeneratorExit)

    def _begin(self, event: CallStarted) -> None:
        with self._telling:
            if not self._is_broken_off:
                self._has_begun = True
                telemetry.emit(event)

    def _break_off(self, event: CallEnded) -> None:
        """Tells the end of a call whose caller has left while its beginning was told, if that was told to anybody."""
        with self._telling:
            self._is_broken_off = True
            if self._has_begun and telemetry.wants(CallEnded):
                telemetry.emit(event)

    def _started(self) -> CallStarted:
        request, service = self._request, self._service
        return CallStarted(
            call=self.number,
            provider=service.provider,
            host=service.host,
            port=service.port,
            model=self._model,
            dimensions=self._dimensions,
            kind=request.kind,
            task=request.task,
            items=request.total,
        )

    def _ended(self, error: BaseException | None) -> CallEnded:
        partial = self._results if error is None else getattr(error, "partial", None)
        results = partial if isinstance(partial, Results) else None
        raised = error if error is not None else self._error_of(results)
        return CallEnded(
            call=self.number,
            items=len(results) if results is not None else self._request.total or 0,
            failed=len(results.errors) if results is not None else self._request.total or 0,
            tokens=results.usage.tokens if results is not None else 0,
            hits=results.usage.hits if results is not None else 0,
            seconds=time.monotonic() - self._begun_at,
            error=None if raised is None else type(raised).__name__,
        )

    def _error_of(self, results: Results | None) -> BaseException | None:
        """What stopped the call, or what the caller is about to raise out of the results."""
        if results is None or not self._strict:
            return None if results is None else results.stopped
        return results.find_error()


def tell(function: Callable[[E], None], event: E, *, wait: bool = True) -> None:
    """Gives an event to the hooks in a thread of ours, with the caller's context, and waits for them.

    In the caller's thread an exception of a signal handler could strike inside a hook, and be taken for the hook's.

    Args:
        function: gives it to them.
        event: what they are told.
        wait: False for a coroutine that is collected: that happens anywhere, also inside a hook, whose lock another
            event would wait for; and for a caller who was told to leave while hooks run.
    """
    with suppress(JinaClipError):  # no thread can be started: the call itself will say so
        if wait:
            run_apart(function, event)
        else:
            start_thread("jinaclip-work", function, event)
