"""How a connection comes about: the addresses of a host, raced against each other, and what proxies want to hear."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

import httpx

EYEBALLS_SECONDS = 0.25
"""How long one address of a host may take until the next one is tried beside it (RFC 8305)."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy.

    Attributes:
        scheme: http, https, socks5 or socks5h.
        host: its name or address.
        port: its port.
        auth: user and password.
    """

    scheme: str
    host: str
    port: int
    auth: tuple[bytes, bytes] | None

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """The proxy of a URL, its user and password taken out."""
        proxy = httpx.Proxy(url)
        port = proxy.url.port or {"http": 80, "https": 443}.get(proxy.url.scheme, 1080)
        return cls(proxy.url.scheme, proxy.url.raw_host.decode("ascii"), port, proxy.raw_auth)

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS, and not HTTP."""
        return self.scheme.startswith("socks")

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What it wants in the head of each request that it reads."""
        if self.auth is None:
            return []
        return [(b"Proxy-Authorization", b"Basic " + base64.b64encode(b":".join(self.auth)))]


async def open_socket(host: str, port: int) -> socket.socket:
    """A socket that is connected to a host. May be cancelled at any time.

    Raises:
        OSError: The host is unknown, or none of its addresses answers; the error of the last one.
    """
    race = Race()
    try:
        return await race.run(host, port)
    finally:
        race.end()


class Race:
    """Tries the addresses of a host, one beside the other when it takes long.

    That is what `happy_eyeballs_delay` of asyncio does, but it loses sockets when it is cancelled.
    """

    def __init__(self) -> None:
        self._winner: socket.socket | None = None
        self._runners: dict[asyncio.Task[None], socket.socket] = {}

    async def run(self, host: str, port: int) -> socket.socket:
        """The first socket that connects, or else the last error."""
        error: BaseException = OSError(f"{host!r} has no address")
        waiting = deque(await addresses(host, port))
        while waiting or self._runners:
            if waiting:
                error = self._start(*waiting.popleft()) or error
            if not self._runners:
                continue
            seconds = EYEBALLS_SECONDS if waiting else None
            done, _ = await asyncio.wait(self._runners, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                failed = task.exception()
                if failed is None:
                    self._winner = self._runners[task]
                    return self._winner
                self._runners.pop(task).close()
                error = failed
        raise error

    def _start(self, family: int, address: Any) -> OSError | None:
        try:
            own = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # the machine does not know this family
            return error
        own.setblocking(False)
        task = asyncio.ensure_future(asyncio.get_running_loop().sock_connect(own, address))
        task.add_done_callback(retrieve)
        self._runners[task] = own
        return None

    def end(self) -> None:
        """Closes all but the winner."""
        for task, own in self._runners.items():
            if own is not self._winner:
                task.cancel()
                task.add_done_callback(partial(close, own))  # once the loop no longer watches it


def close(own: socket.socket, _: object) -> None:
    """Closes a socket, as a callback."""
    own.close()


async def addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """Of a host, by turns of one family and the other, as `socket.socket` and `connect` take them."""
    with suppress(ValueError):
        version = ipaddress.ip_address(host).version
        if "%" not in host:  # the system knows the number of a zone
            return [(socket.AF_INET if version == 4 else socket.AF_INET6, (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    first = [(family, address) for family, *_, address in found if family == found[0][0]]
    other = [(family, address) for family, *_, address in found if family != found[0][0]]
    return [pair for pairs in zip_longest(first, other) for pair in pairs if pair is not None]


ADDRESS_BYTES = {1: 4, 4: 16}
"""Of an IPv4 and an IPv6 address in the reply of a SOCKS proxy (RFC 1928, section 6)."""
Read = Callable[[int], Awaitable[bytes]]
"""Reads exactly so many bytes. Raises httpx.ProxyError if there are fewer."""
Write = Callable[[bytes], Awaitable[None]]


async def greet_socks(read: Read, write: Write, proxy: Proxy, host: str, port: int) -> None:
    """Asks a SOCKS5 proxy for a way to a host (RFC 1928 and 1929).

    Raises:
        httpx.ProxyError: It refuses, or is no such proxy.
    """
    from socksio import ProtocolError, socks5

    connection = socks5.SOCKS5Connection()

    async def exchange(request: Any, read_answer: Callable[[], Awaitable[bytes]]) -> Any:
        connection.send(request)
        await write(connection.data_to_send())
        return connection.receive_data(await read_answer())

    two = partial(read, 2)

    methods = socks5.SOCKS5AuthMethod
    method = methods.NO_AUTH_REQUIRED if proxy.auth is None else methods.USERNAME_PASSWORD
    try:
        if (await exchange(socks5.SOCKS5AuthMethodsRequest([method]), two)).method != method:
            raise httpx.ProxyError("the SOCKS proxy wants to know another user, or none")
        user = proxy.auth and socks5.SOCKS5UsernamePasswordRequest(*proxy.auth)
        if user and not (await exchange(user, two)).success:
            raise httpx.ProxyError("the SOCKS proxy refuses user and password")
        way = socks5.SOCKS5CommandRequest.from_address(socks5.SOCKS5Command.CONNECT, (host, port))
        reply = await exchange(way, partial(read_reply, read))
    except (ProtocolError, AttributeError) as error:
        raise httpx.ProxyError("it is no SOCKS5 proxy") from error
    if reply.reply_code != socks5.SOCKS5ReplyCode.SUCCEEDED:
        raise httpx.ProxyError(f"the SOCKS proxy cannot connect: {reply.reply_code.name}")


async def read_reply(read: Read) -> bytes:
    """The reply of a SOCKS proxy to the request for a way, in however many pieces it comes."""
    head = await read(5)
    address = ADDRESS_BYTES.get(head[3], head[4] + 1)  # the first byte of a name is its length
    return head + await read(address - 1 + 2)


def retrieve(task: asyncio.Task[Any]) -> None:
    """Takes note of an error that nobody may be left to hear of; asyncio would log it."""
    if not task.cancelled():
        task.exception()
