"""The endpoints: Jina's own, and those that tests steer the service with."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from jinaclip.backends.api.wires.jina import InvalidRequest
from jinaclip.testing.batch import Batch, check_key, read_batch
from jinaclip.testing.faults import FAULTS, Exchange, Reply
from jinaclip.testing.latency import Latency
from jinaclip.testing.ledger import Ledger
from jinaclip.testing.limits import RateLimits
from jinaclip.testing.responses import RefusalError, json_response
from jinaclip.testing.selector import FaultSelector

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from jinaclip.testing.protocol import Connection
    from jinaclip.testing.settings import Settings

SENDING_S = 0.2
"""How long the ledger waits for answers that are on their way."""


class Service:
    """`POST /v1/embeddings`, as an ASGI application."""

    def __init__(self, settings: Settings) -> None:
        self.first_settings = settings
        self.configure(settings)
        self.ledger = Ledger()
        self.sending, self.idle = 0, asyncio.Event()
        self.idle.set()

    def configure(self, settings: Settings) -> None:
        """Starts afresh under these settings; the ledger goes on.

        Raises:
            ValueError: they name a fault that does not exist.
        """
        selector = FaultSelector(settings)
        self.settings, self.selector = settings, selector
        self.limits, self.latency = RateLimits(settings), Latency(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or does what the settings want instead."""
        request = Request(scope, receive)
        connection: Connection = scope["state"]["connection"]
        try:
            raw = await request.body()
        except ClientDisconnect:
            return
        connection.resume_reading()
        ledger, is_new = self.ledger, connection.ledger is None
        ledger.open(len(raw), new_connection=connection.ledger is not ledger)
        connection.ledger = ledger
        with ledger.in_flight():
            batch, reply = await self.reply(raw, dict(request.headers), ledger, new_connection=is_new)
            sent = not connection.gone.is_set() and await self.send(reply, (scope, receive, send))
        ledger.totals.bytes_out += len(getattr(reply.response, "body", b"")) if sent else 0
        if batch is not None and reply.response.status_code == HTTPStatus.OK:
            ledger.close(batch, reply.answered, sent=sent)

    async def reply(
        self, raw: bytes, headers: dict[str, str], ledger: Ledger, *, new_connection: bool
    ) -> tuple[Batch | None, Reply]:
        """What this request gets."""
        try:
            check_key(headers.get("authorization", ""), self.settings)
            batch = read_batch(raw, self.settings)
            ledger.receive(batch, headers)
            self.limits.admit(batch, ledger.totals)
        except InvalidRequest as invalid:
            ledger.refused[invalid.kind] += 1
            return None, Reply(json_response(invalid.body, invalid.status))
        except RefusalError as refusal:
            ledger.refused[refusal.kind] += 1
            return None, Reply(refusal.response)
        name, exchange = self.selector.select(raw, batch)
        await self.latency.wait(batch, new_connection=new_connection)
        if name is not None:
            ledger.faults[name] += 1
            return batch, FAULTS[name](exchange)
        if batch.model:
            return batch, Reply(await asyncio.to_thread(self.honest_response, batch, exchange), None)
        return batch, Reply(self.honest_response(batch, exchange), None)

    def honest_response(self, batch: Batch, exchange: Exchange) -> Response:
        """The right answer."""
        if not self.settings.shuffle:
            return Response(batch.answer_bytes(), media_type="application/json")
        answer = batch.answer()
        exchange.draw.shuffle(answer["data"])
        return json_response(answer)

    async def send(self, reply: Reply, asgi: tuple[Scope, Receive, Send]) -> bool:
        """Sends a reply; False if it did not get out as a whole."""
        connection: Connection = asgi[0]["state"]["connection"]
        self.sending += 1
        self.idle.clear()
        try:
            await reply.response(*asgi)
            return await connection.flush() and getattr(reply.response, "finished", True)
        finally:
            self.sending -= 1
            if not self.sending:
                self.idle.set()

    async def settle(self) -> None:
        """Waits a little for what is being sent."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SENDING_S):
                await self.idle.wait()


def make_app(settings: Settings) -> Starlette:
    """The whole service. It runs on `jinaclip.testing.protocol.Connection` alone, so `python -m` starts it.

    Raises:
        ValueError: the settings name a fault that does not exist.
    """
    service = Service(settings)

    async def configure(request: Request) -> Response:
        try:
            service.configure(service.settings.change(orjson.loads(await request.body())))
        except (ValueError, TypeError) as error:
            return PlainTextResponse(str(error), 400)
        return json_response({})

    async def reset(request: Request) -> Response:
        if request.query_params.get("settings") != "keep":
            service.configure(service.first_settings)
        service.ledger = Ledger()
        return json_response({})

    async def ledger(request: Request) -> Response:
        await service.settle()
        name = request.query_params.get("digest")
        return json_response(service.ledger.history(bytes.fromhex(name)) if name else service.ledger.summary())

    async def count_redirect(request: Request) -> Response:
        service.ledger.totals.redirected += 1
        return json_response({})

    routes = [
        Route("/v1/embeddings", service, methods=["POST"]),
        Route("/configure", configure, methods=["POST"]),
        Route("/reset", reset, methods=["POST"]),
        Route("/ledger", ledger),
        Route("/redirected", count_redirect, methods=["GET", "POST"]),
    ]
    return Starlette(routes=routes)
