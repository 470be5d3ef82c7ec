"""What Prometheus reads: numbers and names of ours. No input, key, address or vector comes near them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response

from jinaclip.telemetry import EnginePass, Event

if TYPE_CHECKING:
    from jinaclip.server.requests import EmbeddingsRequest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """Counters of one server, in a registry of their own.

    Args:
        depth: gives how many texts and images are under way.
    """

    def __init__(self, depth: Callable[[], float]) -> None:
        self._registry = own = CollectorRegistry()
        self._requests = Counter(
            "jinaclip_requests", "Requests by status and content", ["status", "kind"], registry=own
        )
        self._refusals = Counter("jinaclip_refusals", "Refusals by reason", ["code"], registry=own)
        self._seconds = Histogram(
            "jinaclip_request_seconds", "From request to answer", ["kind"], buckets=SECONDS, registry=own
        )
        self._items = Counter("jinaclip_items", "Texts and images embedded", ["kind"], registry=own)
        self._tokens = Counter("jinaclip_tokens", "Tokens of answers", ["key"], registry=own)
        self._rows = Histogram("jinaclip_pass_rows", "Rows of a pass", ["kind", "device"], buckets=ROWS, registry=own)
        self._passes = Histogram(
            "jinaclip_pass_seconds", "Seconds of a pass", ["kind", "device"], buckets=SECONDS, registry=own
        )
        Gauge("jinaclip_queue_depth", "Texts and images under way", registry=own).set_function(depth)

    def note_request(self, kind: str, status: int, seconds: float) -> None:
        """Counts a request that has come to its end; `kind` is empty where what it held was not understood."""
        self._requests.labels(status, kind).inc()
        self._seconds.labels(kind).observe(seconds)

    def note_refusal(self, code: str) -> None:
        """Counts the reason of a refusal."""
        self._refusals.labels(code).inc()

    def note_answer(self, key: str, request: EmbeddingsRequest, tokens: int) -> None:
        """Counts what was embedded, and for whom."""
        texts = sum(isinstance(one, str) for one in request.inputs)
        self._items.labels("text").inc(texts)
        self._items.labels("image").inc(len(request.inputs) - texts)
        self._tokens.labels(key).inc(tokens)

    def note_event(self, event: Event) -> None:
        """A telemetry hook: counts the passes of the local engine."""
        if isinstance(event, EnginePass):
            self._rows.labels(event.kind, event.device).observe(event.rows)
            self._passes.labels(event.kind, event.device).observe(event.seconds)

    def response(self) -> Response:
        """All of them, as Prometheus reads them."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)
