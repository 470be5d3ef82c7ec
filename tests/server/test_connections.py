"""Connections by themselves, on a bare event loop."""

from __future__ import annotations

import asyncio

import httpx
import uvicorn
from uvicorn.server import ServerState

from jinaclip.server.connections import Connections
from jinaclip.server.settings import Settings


async def test_where_there_is_no_room_a_client_reads_a_whole_refusal() -> None:
    protocol = Connections(Settings(), most=0).protocol()
    config = uvicorn.Config(lambda: None, lifespan="off")
    listening = await asyncio.get_running_loop().create_server(
        lambda: protocol(config, ServerState(), {}),  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        "127.0.0.1",
        0,
    )
    async with listening, httpx.AsyncClient() as client:
        port = listening.sockets[0].getsockname()[1]
        response = await client.get(f"http://127.0.0.1:{port}/live")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["code"] == "SERVICE_UNAVAILABLE"
