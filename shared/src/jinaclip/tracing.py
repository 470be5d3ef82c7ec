"""Calls as spans of OpenTelemetry, by its GenAI conventions for `embeddings`. Needs the extra `otel`.

    from jinaclip.tracing import instrument

    instrument()

A span begins and ends with its call, and its parent is the span that is current where the call is made. Requests have
no spans: one may serve many calls. What holds a call up is an event of its span. No attribute holds a text, an image, a
key or anything that a service wrote.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jinaclip import __version__
from jinaclip.requirements import missing_dependency
from jinaclip.telemetry import (
    CallEnded,
    CallStarted,
    Event,
    EventFilter,
    RequestRetried,
    Waiting,
    get_hooks,
    set_hooks,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer, TracerProvider

OPERATION = "embeddings"
_lock = threading.Lock()  # instrument and uninstrument read the hooks and set them


def instrument(tracer_provider: TracerProvider | None = None) -> None:
    """Makes a span of each call of this process from now on, whatever class or host makes it.

    A hook is added to those of `jinaclip.telemetry`; what is set there later with `set_hooks` takes it out. Calling
    this again changes nothing but the provider.

    Args:
        tracer_provider: takes the spans; None is the global one of OpenTelemetry, whenever it is set.

    Raises:
        MissingDependencyError: OpenTelemetry's API is not installed.
    """
    try:
        from opentelemetry import trace
    except ModuleNotFoundError:
        raise missing_dependency("tracing", "opentelemetry-api", "otel") from None
    tracer = trace.get_tracer("jinaclip", __version__, tracer_provider)
    with _lock:
        _remove()
        set_hooks(*get_hooks(), Tracing(tracer))


def uninstrument() -> None:
    """Makes no more spans; those of calls under way end now. Without `instrument` before, nothing."""
    with _lock:
        _remove()


def _remove() -> None:
    hooks = get_hooks()
    own = [hook for hook in hooks if isinstance(hook, Tracing)]
    if own:
        set_hooks(*(hook for hook in hooks if not isinstance(hook, Tracing)))
    for hook in own:
        hook.close()


class Tracing(EventFilter):
    """The hook: keeps the span of each call under way, by the call's number.

    Args:
        tracer: makes the spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        super().__init__(self._take, CallStarted, CallEnded, RequestRetried, Waiting)
        self._tracer = tracer
        self._spans: dict[int, Span] = {}
        self._is_closed = False
        self._lock = threading.Lock()  # events of a call come from several threads, and none may come after its end

    def close(self) -> None:
        """Ends the spans of calls under way, and of those that begin at this moment."""
        with self._lock:
            self._is_closed = True
            spans, self._spans = self._spans, {}
            for span in spans.values():
                span.end()

    def _take(self, event: Event) -> None:
        match event:
            case CallStarted():
                self._start(event)
            case CallEnded():
                self._end(event)
            case RequestRetried():
                self._note(
                    event.calls, "retry", {"reason": event.reason, "items": event.items, "seconds": event.seconds}
                )
            case Waiting(seconds=float() | int() as seconds):
                self._note(event.calls, "wait", {"reason": event.reason, "seconds": seconds})

    def _start(self, event: CallStarted) -> None:
        from opentelemetry.trace import SpanKind

        kind = SpanKind.INTERNAL if event.host is None else SpanKind.CLIENT
        span = self._tracer.start_span(f"{OPERATION} {event.model}", kind=kind, attributes=attributes_of(event))
        with self._lock:
            if self._is_closed:  # since the event was made
                span.end()
            else:
                self._spans[event.call] = span

    def _end(self, event: CallEnded) -> None:
        from opentelemetry.trace import StatusCode

        with self._lock:
            span = self._spans.pop(event.call, None)
            if span is None:
                return  # it began before `instrument`
            span.set_attribute("gen_ai.usage.input_tokens", event.tokens)
            span.set_attribute("jinaclip.items", event.items)
            span.set_attribute("jinaclip.items.failed", event.failed)
            span.set_attribute("jinaclip.cache.hits", event.hits)
            if event.error is not None:
                span.set_attribute("error.type", event.error)
                span.set_status(StatusCode.ERROR)  # without the text of the error, which may quote an input
            span.end()

    def _note(self, calls: tuple[int, ...], name: str, attributes: dict[str, str | int | float]) -> None:
        own = {f"jinaclip.{name}.{key}": value for key, value in attributes.items()}
        with self._lock:
            for span in (self._spans[call] for call in calls if call in self._spans):
                span.add_event(f"jinaclip.{name}", own)


def attributes_of(event: CallStarted) -> dict[str, str | int]:
    """What is known of a call when it begins, so that samplers can go by it."""
    attributes: dict[str, str | int] = {
        "gen_ai.operation.name": OPERATION,
        "gen_ai.provider.name": event.provider,
        "gen_ai.request.model": event.model,
        "gen_ai.embeddings.dimension.count": event.dimensions,
        "jinaclip.task": event.task,
        "jinaclip.items.kind": event.kind,
    }
    if event.host is not None and event.port is not None:
        attributes["server.address"] = urlsplit(f"//{event.host}").hostname or event.host
        attributes["server.port"] = event.port
    return attributes
