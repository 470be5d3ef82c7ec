"""Spans of OpenTelemetry's own SDK, kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jinaclip.tracing import instrument, uninstrument


@dataclass
class Spans:
    """What was exported, and a tracer for the caller's own."""

    provider: TracerProvider
    exporter: InMemorySpanExporter

    @property
    def tracer(self):
        return self.provider.get_tracer("the caller")

    @property
    def ours(self) -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.instrumentation_scope.name == "jinaclip"]

    @property
    def ours_alone(self) -> ReadableSpan:
        (span,) = self.ours
        return span


@contextmanager
def record() -> Iterator[Spans]:
    """The spans of our calls while this lasts."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrument(provider)
    try:
        yield Spans(provider, exporter)
    finally:
        uninstrument()
        provider.shutdown()
