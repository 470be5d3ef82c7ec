"""The server as an ASGI application: its routes, and what happens before the first request and after the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jinaclip.backends.api.wires.jina import Code
from jinaclip.process import run_in_thread
from jinaclip.server.admission import Admission
from jinaclip.server.embeddings import Embeddings
from jinaclip.server.engines import Engines
from jinaclip.server.health import Health
from jinaclip.server.keys import Ring
from jinaclip.server.metrics import Metrics
from jinaclip.server.openapi import make_document
from jinaclip.server.page import page_routes
from jinaclip.server.refusals import Refused, json_response, unavailable
from jinaclip.server.requests import Defaults
from jinaclip.server.settings import Settings
from jinaclip.telemetry import EnginePass, EventFilter, get_hooks, set_hooks


def make_app(settings: Settings, engines: Engines, ring: Ring, admission: Admission) -> Starlette:
    """The whole server. Its `state.health` tells, and is told, whether it takes work.

    Args:
        settings: of the server.
        engines: what embeds; they are closed with the application.
        ring: knows the keys.
        admission: bounds what is under way.
    """
    metrics, health = Metrics(lambda: float(admission.depth)), Health()
    endpoints = Endpoints(make_defaults(settings, engines), engines, ring, metrics, health)
    embeddings = Embeddings(settings, endpoints.defaults, engines, ring, admission, metrics, health)
    routes = [
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/v1/models", endpoints.models),
        Route("/v1/models/{name:path}", endpoints.model),
        Route("/live", endpoints.live),
        Route("/ready", endpoints.ready),
        Route("/metrics", endpoints.metrics),
        Route("/openapi.json", endpoints.openapi),
        *page_routes(),
    ]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        hooks = get_hooks()
        set_hooks(*hooks, EventFilter(metrics.note_event, EnginePass))
        warming = asyncio.create_task(health.warm_up(engines))
        try:
            yield
        finally:
            warming.cancel()
            set_hooks(*hooks)
            engines.close()

    handlers: Any = {Refused: refuse, HTTPException: refuse_route}
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    app.router.redirect_slashes = False  # whoever follows would send body and key in clear to a server behind TLS
    app.state.health = health
    return app


def make_defaults(settings: Settings, engines: Engines) -> Defaults:
    """What requests get that do not say otherwise."""
    config = engines.config
    return Defaults(
        spec=engines.spec,
        names=names_of(settings, engines),
        dimensions=engines.dimensions,
        normalized=config.normalized,
        truncate=config.truncate,
        policy=config.image_policy,
        fetch=settings.fetch,
        max_inputs=settings.max_inputs,
        max_text=settings.max_text,
    )


def names_of(settings: Settings, engines: Engines) -> tuple[str, ...]:
    """What clients may call the model. A path stays the server's own."""
    own, given = settings.served_name or engines.spec.name, engines.config.model
    others = [] if settings.served_name or Path(given).exists() else [given]
    return tuple(dict.fromkeys([own, f"jinaai/{own}", *others]))


class Endpoints:
    """All of the server but its embeddings."""

    def __init__(self, defaults: Defaults, engines: Engines, ring: Ring, metrics: Metrics, health: Health) -> None:
        self.defaults, self._engines, self._ring = defaults, engines, ring
        self._metrics, self._health = metrics, health
        self._document = make_document(defaults)

    async def live(self, _: Request) -> Response:
        """200 as long as the process answers."""
        return json_response({"status": "alive"})

    async def ready(self, _: Request) -> Response:
        """200 while requests are answered, 503 before and after."""
        problem = self._health.problem
        if problem is not None:
            return unavailable(problem).response()
        return json_response({"status": "ready"})

    async def models(self, _: Request) -> Response:
        """The one model, in a list."""
        return json_response({"object": "list", "data": [await self._describe()]})

    async def model(self, request: Request) -> Response:
        """The one model, by any of its names."""
        if request.path_params["name"] not in self.defaults.names:
            raise Refused(404, Code.NOT_FOUND, f"the only model here is {self.defaults.names[0]!r}")
        return json_response(await self._describe())

    async def _describe(self) -> dict[str, Any]:
        spec = self.defaults.spec
        space = await run_in_thread(self._engines.space, spec.dimensions, normalized=self.defaults.normalized)
        return {
            "id": self.defaults.names[0],
            "object": "model",
            "created": 0,
            "owned_by": "jinaclip",
            "dimensions": spec.dimensions,
            "matryoshka": list(spec.matryoshka),
            "max_tokens": spec.max_tokens,
            "image_size": spec.image_size,
            "space": space,
        }

    async def metrics(self, request: Request) -> Response:
        """For Prometheus; with a key, where there are keys."""
        self._ring.find(request.headers.get("authorization", ""))
        return self._metrics.response()

    async def openapi(self, _: Request) -> Response:
        """What the server takes and gives, for programs."""
        return json_response(self._document)


async def refuse(_: Request, refused: Refused) -> Response:
    """The response of a refusal that an endpoint raised."""
    return refused.response()


async def refuse_route(_: Request, error: HTTPException) -> Response:
    """The response where there is no such path, or no such method."""
    message = "there is no such path or method: embeddings are POST /v1/embeddings, the rest is in /openapi.json"
    refused = Refused(error.status_code, Code.NOT_FOUND, message)
    response = refused.response()
    response.headers.update(error.headers or {})
    return response
