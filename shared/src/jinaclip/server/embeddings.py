"""`POST /v1/embeddings`: who asks, may it be, what is asked, the vectors, the answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jinaclip.backends.api.wires.jina import Code, write_answer
from jinaclip.errors import JinaClipError
from jinaclip.process import run_in_thread
from jinaclip.server.admission import Admission, Admitted, announced_size, read_body
from jinaclip.server.engines import Engines
from jinaclip.server.errors import Complaints, refusal_of
from jinaclip.server.health import Health
from jinaclip.server.keys import Ring
from jinaclip.server.life import place_of
from jinaclip.server.metrics import Metrics
from jinaclip.server.refusals import Refused, unavailable
from jinaclip.server.requests import Defaults, EmbeddingsRequest, read_request
from jinaclip.server.settings import Settings
from jinaclip.vectors import Vectors, truncate

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")
logger = logging.getLogger("jinaclip.server")
LARGE_BODY = 64 * 1024
"""Bytes from which a body is read in a thread; below, starting one takes longer."""
LARGE_ANSWER = 128 * 1024
"""Numbers from which an answer is written in a thread."""
GONE = 499
"""What logs and metrics call the status of a request whose client went away; nobody is sent it."""


class ClientGone(Exception):
    """The client went away before its answer."""


class Embeddings:
    """The endpoint, as an ASGI application.

    Args:
        settings: of the server.
        defaults: what requests get that do not say.
        engines: what embeds.
        ring: knows the keys.
        admission: how much may be under way.
        metrics: counts.
        health: whether work is taken.
    """

    def __init__(
        self,
        settings: Settings,
        defaults: Defaults,
        engines: Engines,
        ring: Ring,
        admission: Admission,
        metrics: Metrics,
        health: Health,
    ) -> None:
        self._settings, self._defaults, self._engines = settings, defaults, engines
        self._ring, self._admission, self._metrics, self._health = ring, admission, metrics, health
        self._complaints = Complaints()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; one whose client has gone is dropped. What it holds counts until the answer is sent."""
        started, note = time.perf_counter(), self._metrics.note_request
        request = Request(scope, receive)
        with ExitStack() as held:
            try:
                kind, response = await self._respond(request, held)
            except (ClientGone, ClientDisconnect):
                note("", GONE, time.perf_counter() - started)
                return
            note(kind, response.status_code, time.perf_counter() - started)
            await response(scope, receive, send)

    async def _respond(self, request: Request, held: ExitStack) -> tuple[str, Response]:
        """What the request holds, as far as that is known, and the response: an answer, or why there is none."""
        try:
            return await self._answer(request, held)
        except Refused as refused:
            self._metrics.note_refusal(refused.code)
            return "", refused.response()
        except (ClientGone, ClientDisconnect):
            raise
        except Exception as error:  # noqa: BLE001  its text may hold what the request held
            logger.error("a request failed with %s", place_of(error))  # noqa: TRY400
            self._metrics.note_refusal(Code.INTERNAL)
            return "", Refused(500, Code.INTERNAL, "the server failed; its log says where").response()

    async def _answer(self, request: Request, held: ExitStack) -> tuple[str, Response]:
        key = self._ring.find(request.headers.get("authorization", ""))
        if not self._health.is_warm:
            raise unavailable(self._health.problem or "")
        admitted = held.enter_context(self._admission.enter(key, announced_size(request)))
        asked = await self._read(await read_body(request, admitted, self._settings.body_timeout), admitted)
        admitted.hold(len(asked.inputs))
        try:
            results = await unless_gone(self._engines.embed(asked), request)
            rows = cut(results.unwrap(), asked)
        except JinaClipError as error:
            self._complaints.note(error)
            raise refusal_of(error) from None
        self._metrics.note_answer(key.name, asked, results.usage.tokens)
        admitted.release_items()
        response = await self._write(asked, rows, results.usage.tokens)
        admitted.hold_bytes(len(response.body))
        return asked.kind, response

    async def _read(self, raw: bytes, admitted: Admitted) -> EmbeddingsRequest:
        admitted.hold_values(raw)
        if len(raw) < LARGE_BODY:
            return read_request(raw, self._defaults)
        return await run_in_thread(read_request, raw, self._defaults)

    async def _write(self, asked: EmbeddingsRequest, rows: Vectors, tokens: int) -> Response:
        space = self._engines.space(asked.dimensions, normalized=asked.normalized)
        if rows.size < LARGE_ANSWER:
            return write(asked, rows, tokens, space)
        return await run_in_thread(write, asked, rows, tokens, space)


def cut(rows: Vectors, asked: EmbeddingsRequest) -> Vectors:
    """Vectors of the full width at the width that was asked for.

    Raises:
        InputError: one has no direction there.
    """
    if rows.shape[1] == asked.dimensions:
        return rows
    return truncate(rows, asked.dimensions) if asked.normalized else rows[:, : asked.dimensions]


def write(asked: EmbeddingsRequest, rows: Vectors, tokens: int, space: str) -> Response:
    """The answer."""
    answer = write_answer(asked.model, np.ascontiguousarray(rows), tokens, asked.encoding)
    return Response(orjson.dumps({**answer, "space": space}), media_type="application/json")


async def unless_gone(work: Awaitable[T], request: Request) -> T:
    """What the work gives. It is cancelled when the client goes away.

    Raises:
        ClientGone: it went away.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(wait_until_gone(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGone
    finally:
        gone.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))


async def wait_until_gone(request: Request) -> None:
    """Waits until the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
