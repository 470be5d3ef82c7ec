"""The transport over real sockets: no descriptor, task or place in the pool is lost, and no answer is another's."""

import asyncio
import contextvars
import gc
import itertools
import os
import selectors
import socket
import ssl
import struct
import sys
import threading
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import trustme

from jinaclip.backends.api.connect import open_socket
from jinaclip.backends.api.transport import TooLarge, Transport, gather

PATIENCE = 10.0
"""Seconds that nothing here takes, unless it hangs."""
STEPS = 48
"""Turns of the loop after which a request is cancelled; a whole exchange takes fewer."""


# -- servers


@asynccontextmanager
async def serve(handler, **options):
    """Runs a raw server on this loop and gives its port; a connection is closed when its handler returns."""
    tasks = set()

    async def connected(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handler(reader, writer)
        finally:
            tasks.discard(asyncio.current_task())
            writer.transport.abort() if options.get("ssl") else writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await settle(lambda: not tasks)


async def receive(reader):
    """The body of a request."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
    return await reader.readexactly(int(fields[b"Content-Length"]))


def answer(body, *, status=200, more=b""):
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n%b\r\n%b" % (status, len(body), more, body)


def chunked(body):
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def without_returns(body):
    """An answer whose head has no carriage returns, which h11 takes."""
    return b"HTTP/1.1 200 OK\nContent-Length: %d\n\n%b" % (len(body), body)


async def echo(reader, writer):
    while True:
        writer.write(answer(await receive(reader)))


async def until_closed(reader):
    while await reader.read(2**16):
        pass


# -- the other side


@asynccontextmanager
async def client(context=None, proxy=None):
    transport = Transport(ssl_context=context, proxy=proxy)
    try:
        yield transport
    finally:
        await transport.aclose()


async def post(transport, url, body=b"{}", seconds=None, **extensions):
    port = isinstance(url, int)
    url = f"http://127.0.0.1:{url}/" if port else url
    times = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), seconds)}
    request = httpx.Request("POST", url, content=body, extensions=times | extensions)
    async with asyncio.timeout(PATIENCE):
        response = await transport.handle_async_request(request)
    return response.status_code, await response.aread()


async def settle(condition):
    """Lets the loop turn until this holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - a descriptor sets no event
            await asyncio.sleep(0)


def sockets():
    """The sockets of this process by descriptor; what else is open, other tests may have left to a thread."""
    folder, found = Path("/proc/self/fd"), {}
    for link in folder.iterdir() if folder.exists() else ():
        with suppress(OSError):  # closed meanwhile
            if (target := str(link.readlink())).startswith("socket:"):
                found[link.name] = target
    return found


@asynccontextmanager
async def nothing_left():
    """Neither a socket nor a task outlives the block."""
    gc.collect()
    await asyncio.sleep(0)
    before, tasks = sockets(), asyncio.all_tasks()
    yield
    try:
        await settle(lambda: len(sockets()) <= len(before) and len(asyncio.all_tasks()) <= len(tasks))
    except TimeoutError:
        left = set(sockets().items()) - set(before.items())
        raise AssertionError(f"left: {left}, {asyncio.all_tasks() - tasks}") from None


def connections(transport):
    """How many connections are in use, and how many wait for a request."""
    return len(transport._busy), len(transport._idle)


# -- whose answer it is


@pytest.mark.slow
@pytest.mark.parametrize("form", [answer, chunked, without_returns])
@pytest.mark.parametrize("at_once", [1, 8])
async def test_the_second_copy_of_an_answer_is_nobodys(form, at_once):
    count = itertools.count()

    async def double(reader, writer):
        while True:
            whole = form(await receive(reader) * 500)
            writer.write(whole * (2 if next(count) % 10 == 0 else 1))

    async def some(transport, port, start):
        return [
            await post(transport, port, b"%09d" % i) == (200, b"%09d" % i * 500) for i in range(start, 500, at_once)
        ]

    async with serve(double) as port, client() as transport:
        right = await asyncio.gather(*(some(transport, port, start) for start in range(at_once)))
    assert sum(map(sum, right)) == 500


@pytest.mark.parametrize(
    "wrong",
    [
        lambda body: answer(body) + b"\r\n",
        lambda body: answer(body) + b"junk" * 1000,
        lambda body: answer(body).replace(b": 9", b": 4"),  # Content-Length
    ],
    ids=["newline", "junk", "short"],
)
async def test_bytes_after_an_answer_harm_nobody(wrong):
    async def surplus(reader, writer):
        while True:
            writer.write(wrong(await receive(reader)))

    async with serve(surplus) as port, client() as transport:
        for i in range(100):
            body = b"%09d" % i
            assert (await post(transport, port, body)) in [(200, body), (200, body[:4])]


async def test_bytes_that_come_while_a_connection_is_idle_end_it():
    go = asyncio.Event()
    ports = []

    async def late(reader, writer):
        ports.append(writer.get_extra_info("peername"))
        writer.write(answer(await receive(reader)))
        await go.wait()
        writer.write(answer(b"somebody else's"))
        await until_closed(reader)
        if len(ports) == 1:
            closed.set()

    closed = asyncio.Event()
    async with serve(late) as port, client() as transport:
        assert await post(transport, port, b"first") == (200, b"first")
        go.set()
        await asyncio.wait_for(closed.wait(), PATIENCE)
        assert await post(transport, port, b"second") == (200, b"second")
    assert len(set(ports)) == 2


async def test_bytes_that_the_loop_has_not_seen_make_a_connection_unfit():
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(PATIENCE)
    go, sent = threading.Event(), threading.Event()

    def late():
        with listener, listener.accept()[0] as first:
            first.recv(2**16)
            first.sendall(answer(b"first"))
            go.wait(PATIENCE)
            first.sendall(answer(b"somebody else's"))
            sent.set()
            with listener.accept()[0] as second:
                second.recv(2**16)
                second.sendall(answer(b"second"))

    server = threading.Thread(target=late, daemon=True)
    server.start()
    async with client() as transport:
        assert await post(transport, listener.getsockname()[1]) == (200, b"first")
        go.set()
        sent.wait(PATIENCE)  # as a loop that is busy with something else
        assert await post(transport, listener.getsockname()[1]) == (200, b"second")
    server.join(PATIENCE)


async def test_a_request_leaves_nothing_in_the_context_of_its_caller():
    async with serve(echo) as port, client() as transport:
        before = dict(contextvars.copy_context())
        await post(transport, port)
        assert dict(contextvars.copy_context()) == before


async def test_an_answer_that_ends_before_its_length_is_an_error():
    async def cut(reader, writer):
        await receive(reader)
        writer.write(answer(b"123456789").replace(b": 9", b": 99"))

    async with nothing_left(), serve(cut) as port, client() as transport:
        with pytest.raises(httpx.RemoteProtocolError):
            await post(transport, port)
        assert connections(transport) == (0, 0)


async def test_what_the_service_says_comes_through_as_it_is():
    async def refuse(reader, writer):
        await receive(reader)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"no", status=429, more=b"X-A: 1\r\nX-A: 2\r\n"))

    async with serve(refuse) as port, client() as transport:
        response = await transport.handle_async_request(httpx.Request("POST", f"http://127.0.0.1:{port}/", content=b""))
    assert (response.status_code, response.headers.get_list("x-a")) == (429, ["1", "2"])
    assert response.extensions == {"http_version": b"HTTP/1.1", "reason_phrase": b"OK"}


async def test_requests_without_a_body_and_with_one_in_pieces_work():
    async def report(reader, writer):
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if b"chunked" in head:
                await reader.readuntil(b"0\r\n\r\n")
            writer.write(answer(head.split(b" ")[0] if not head.startswith(b"HEAD") else b""))

    class Pieces(httpx.AsyncByteStream):
        async def __aiter__(self):
            yield b"one"
            yield b"two"

    async with nothing_left(), serve(report) as port, client() as transport:
        url = f"http://127.0.0.1:{port}/"
        for request in [
            httpx.Request("GET", url),
            httpx.Request("HEAD", url),
            httpx.Request("PUT", url, headers={"Host": "localhost", "Transfer-Encoding": "chunked"}, stream=Pieces()),
        ] * 3:
            response = await transport.handle_async_request(request)
            assert await response.aread() == request.method.encode().replace(b"HEAD", b"")
        assert connections(transport) == (0, 1)


async def test_it_serves_a_client_of_httpx():
    async with (
        nothing_left(),
        serve(echo) as port,
        httpx.AsyncClient(transport=Transport(ssl_context=None, proxy=None)) as user,
    ):
        assert (await user.post(f"http://127.0.0.1:{port}/", content=b"x")).text == "x"


# -- size


@pytest.mark.slow
@pytest.mark.parametrize(("status", "most"), [(200, (99, None)), (500, (None, 99)), (500, (5000, 99))])
async def test_a_body_that_is_too_large_ends_its_connection(status, most):
    async def much(reader, writer):
        await receive(reader)
        writer.write(answer(b"x" * 10**6, status=status))
        await until_closed(reader)

    async with nothing_left(), serve(much) as port, client() as transport:
        with pytest.raises(TooLarge):
            await post(transport, port, most_bytes=most)
        await settle(lambda: connections(transport) == (0, 0))


async def test_a_body_of_just_the_size_is_read():
    async with serve(echo) as port, client() as transport:
        assert await post(transport, port, b"x" * 99, most_bytes=(99, 1)) == (200, b"x" * 99)


async def test_gather_counts_bytes_and_not_chunks():
    async def chunks():
        yield b"12"
        yield b"345"

    assert await gather(chunks(), 5) == await gather(chunks(), None) == b"12345"
    with pytest.raises(TooLarge):
        await gather(chunks(), 4)


@pytest.mark.parametrize("secure", [False, True])
async def test_a_large_upload_waits_for_a_slow_reader(secure, authority):
    async def slow(reader, writer):
        body = await receive(reader)
        writer.write(answer(str(len(body)).encode() * 10**6))
        await until_closed(reader)

    context, server = authority
    url = ("https://localhost:%d/" if secure else "http://127.0.0.1:%d/").__mod__
    async with serve(slow, limit=2**14, ssl=server if secure else None) as port, client(context) as transport:
        assert await post(transport, url(port), b"x" * 2**23) == (200, b"8388608" * 10**6)


async def test_an_early_refusal_of_a_large_upload_is_an_answer_or_an_error_of_httpx():
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"too large", status=413))

    async with nothing_left(), serve(refuse) as port, client() as transport:
        with suppress(httpx.TransportError):  # the reset of the connection may overtake the answer
            assert await post(transport, port, b"x" * 2**23) == (413, b"too large")


@pytest.mark.slow
async def test_an_answer_that_nobody_reads_yet_waits_at_the_service():
    sent = []

    async def flood(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"").replace(b": 0", b": 99999999"))
        for _ in range(64):
            writer.write(bytes(2**20))
            await writer.drain()
            sent.append(2**20)

    async with nothing_left(), serve(flood, limit=2**10) as port, client() as transport:
        with pytest.raises(httpx.WriteTimeout):
            await post(transport, port, b"x" * 2**25, seconds=0.3)
    assert sum(sent) < 40 * 2**20


async def test_a_small_request_is_one_packet():
    async def count(reader, writer):
        writer.write(answer(b"whole" if (await reader.read(2**16)).endswith(b"{}") else b"head alone"))

    async with serve(count) as port, client() as transport:
        for _ in range(20):
            assert await post(transport, port) == (200, b"whole")


# -- cancelling


async def silent(reader, writer):
    await until_closed(reader)


async def half(reader, writer):
    await receive(reader)
    writer.write(answer(b"x" * 5000)[:-1])
    await until_closed(reader)


async def drip(reader, writer):
    await receive(reader)
    for byte in answer(b"x" * 5000):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0)


async def cancel_at_every_step(transport, url):
    for step in range(STEPS):
        task = asyncio.create_task(post(transport, url, b"x" * 2000))
        for _ in range(step):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert connections(transport) in ((0, 0), (0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("handler", [silent, half, drip, echo])
@pytest.mark.parametrize("secure", [False, True])
async def test_cancelling_leaves_nothing_at_any_step(handler, secure, authority):
    context, server = authority
    async with nothing_left(), serve(handler, ssl=server if secure else None) as port, client(context) as transport:
        await cancel_at_every_step(transport, f"https://localhost:{port}/" if secure else f"http://127.0.0.1:{port}/")
        async with serve(echo) as well:
            assert await post(transport, well, b"next") == (200, b"next")


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True])
async def test_cancelling_a_request_on_a_used_connection_leaves_nothing_at_any_step(secure, authority):
    context, server = authority
    async with nothing_left(), serve(echo, ssl=server if secure else None) as port, client(context) as transport:
        url = f"https://localhost:{port}/" if secure else f"http://127.0.0.1:{port}/"
        assert await post(transport, url) == (200, b"{}")
        count = len(sockets())
        for step in range(STEPS):
            assert await post(transport, url, b"first") == (200, b"first")
            assert connections(transport) == (0, 1)
            task = asyncio.create_task(post(transport, url, b"second"))
            for _ in range(step):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await settle(lambda: len(sockets()) <= count)


@pytest.mark.slow
async def test_cancelling_a_handshake_leaves_nothing(authority):
    context, _ = authority
    async with nothing_left(), serve(silent) as port, client(context) as transport:
        await cancel_at_every_step(transport, f"https://localhost:{port}/")
        assert connections(transport) == (0, 0)


@pytest.mark.slow
async def test_cancelling_a_connect_leaves_nothing():
    with full_backlog() as port:
        async with nothing_left(), client() as transport:
            await cancel_at_every_step(transport, f"http://127.0.0.1:{port}/")
            assert connections(transport) == (0, 0)


@pytest.mark.slow
def test_cancelling_a_lookup_of_a_name_leaves_nothing():
    class Lost(asyncio.SelectorEventLoop):
        async def getaddrinfo(self, *args, **options):
            await asyncio.Event().wait()

    async def main():
        async with nothing_left(), client() as transport:
            await cancel_at_every_step(transport, "http://nowhere.invalid/")
            assert connections(transport) == (0, 0)

    with asyncio.Runner(loop_factory=Lost) as runner:
        runner.run(main())


async def test_a_deadline_around_a_request_is_kept():
    async with nothing_left(), serve(drip) as port, client() as transport:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await post(transport, port)
        assert connections(transport) == (0, 0)


@pytest.mark.slow
async def test_one_cancelled_request_does_not_touch_the_others():
    async def slow(reader, writer):
        while True:
            body = await receive(reader)
            if body == b"never":
                await until_closed(reader)
            writer.write(answer(body))

    async with nothing_left(), serve(slow) as port, client() as transport:
        for i in range(20):
            doomed = [asyncio.create_task(post(transport, port, b"never")) for _ in range(4)]
            others = [asyncio.create_task(post(transport, port, b"%d" % n)) for n in range(4)]
            for _ in range(i):
                await asyncio.sleep(0)
            for task in doomed:
                task.cancel()
            assert await asyncio.gather(*others) == [(200, b"%d" % n) for n in range(4)]
            await asyncio.wait(doomed)
        assert connections(transport)[0] == 0


async def test_closing_ends_requests_in_flight():
    async with nothing_left(), serve(silent) as port, client() as transport:
        tasks = [asyncio.create_task(post(transport, port)) for _ in range(5)]
        for i in range(5):
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(post(transport, port, b"%d" % i)))
        await asyncio.sleep(0)
        await transport.aclose()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE)
        assert {isinstance(end, httpx.NetworkError) for end in ends} == {True}


# -- connections that end


@pytest.mark.slow
async def test_a_connection_that_closes_after_its_answer_fails_nobody():
    async def once(reader, writer):
        writer.write(answer(await receive(reader)))

    async with nothing_left(), serve(once) as port, client() as transport:
        for i in range(300):
            assert await post(transport, port, b"%d" % i) == (200, b"%d" % i)


@pytest.mark.slow
async def test_a_used_connection_that_closes_on_a_request_is_replaced():
    served = []

    async def twice(reader, writer):
        served.append(await receive(reader))
        writer.write(answer(served[-1]))
        await receive(reader)

    async def some(transport, port, start):
        for i in range(start, 304, 8):
            assert await post(transport, port, b"%d" % i) == (200, b"%d" % i)

    async with nothing_left(), serve(twice) as port, client() as transport:
        await asyncio.gather(*(some(transport, port, start) for start in range(8)))
    assert sorted(map(int, served)) == list(range(304))


async def test_a_used_connection_is_replaced_only_once_and_only_before_an_answer():
    received = []

    async def worse(reader, writer):
        received.append(await receive(reader))
        if received == [b"first"]:
            writer.write(answer(b""))
            received.append(await receive(reader))
        elif received[-1] == b"third":
            writer.write(answer(b""))
            received.append(await receive(reader))
            writer.write(b"HTTP/1.1 200 ")

    async with nothing_left(), serve(worse) as port, client() as transport:
        await post(transport, port, b"first")
        with pytest.raises(httpx.TransportError):
            await post(transport, port, b"second")
        assert received == [b"first", b"second", b"second"]
        await post(transport, port, b"third")
        with pytest.raises(httpx.RemoteProtocolError):
            await post(transport, port, b"fourth")
        assert received[3:] == [b"third", b"fourth"]


@pytest.mark.slow
async def test_many_dead_connections_cost_one_replacement():
    dead = asyncio.Event()
    gate = asyncio.Barrier(8)

    async def frozen(reader, writer):
        body = await receive(reader)
        if not dead.is_set():
            await gate.wait()
        writer.write(answer(body))
        if not dead.is_set():
            await receive(reader)

    async with nothing_left(), serve(frozen) as port, client() as transport:
        await asyncio.gather(*(post(transport, port) for _ in range(8)))
        dead.set()
        assert await post(transport, port, b"thawed") == (200, b"thawed")


@pytest.mark.slow
async def test_a_new_connection_that_closes_at_once_is_an_error():
    connected = []

    async def shut(reader, writer):
        connected.append(1)
        writer.transport.abort()

    async with nothing_left(), serve(shut) as port, client() as transport:
        for _ in range(20):
            with pytest.raises(httpx.TransportError):
                await post(transport, port)
    assert len(connected) <= 20


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_connection_that_closes_before_the_request_is_an_error_of_connecting(scheme, authority, monkeypatch):
    gone = asyncio.Event()

    async def shut(reader, writer):
        gone.set()

    async def open_late(host, port):
        opened = await open_socket(host, port)
        await gone.wait()
        with selectors.DefaultSelector() as selector:
            selector.register(opened, selectors.EVENT_READ)
            await settle(lambda: selector.select(0))
        return opened

    monkeypatch.setattr("jinaclip.backends.api.transport.open_socket", open_late)
    async with nothing_left(), serve(shut) as port, client(authority[0]) as transport:
        with pytest.raises(httpx.ConnectError):
            await post(transport, f"{scheme}://localhost:{port}/")
        assert connections(transport) == (0, 0)


@pytest.mark.slow
async def test_a_service_that_speaks_first_is_an_error():
    async def banner(reader, writer):
        writer.write(answer(b"not asked"))
        await until_closed(reader)

    async with nothing_left(), serve(banner) as port, client() as transport:
        for _ in range(20):
            with suppress(httpx.TransportError):  # unless it comes after the request: then it looks like an answer
                assert await post(transport, port) == (200, b"not asked")


# -- errors


@pytest.mark.slow
async def test_timeouts_are_those_of_httpx(authority):
    context, _ = authority
    async with nothing_left(), serve(silent) as port, client(context) as transport:
        with pytest.raises(httpx.ReadTimeout):
            await post(
                transport, port, timeout={"connect": PATIENCE, "read": 0.01, "write": PATIENCE, "pool": PATIENCE}
            )
        with pytest.raises(httpx.ConnectTimeout):
            await post(transport, f"https://localhost:{port}/", seconds=0.05)
        assert connections(transport) == (0, 0)


async def test_a_write_that_nobody_reads_times_out():
    async def deaf(reader, writer):
        await asyncio.Event().wait()

    async with nothing_left(), serve(deaf, limit=2**10) as port, client() as transport:
        with pytest.raises(httpx.WriteTimeout):
            await post(transport, port, b"x" * 2**25, seconds=0.1)


@pytest.mark.slow
async def test_a_connect_that_hangs_times_out():
    with full_backlog() as port:
        async with nothing_left(), client() as transport:
            with pytest.raises(httpx.ConnectTimeout):
                await post(transport, port, seconds=0.05)


def loop_that_knows(*hosts):
    """A loop for which every name has these addresses."""

    class Resolver(asyncio.SelectorEventLoop):
        async def getaddrinfo(self, host, port, **options):
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in hosts]

    return Resolver


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere 127.0.0.2 is not this machine")
@pytest.mark.parametrize("first", ["hangs", "refuses"])
def test_a_second_address_is_tried_beside_the_first(first):
    async def main():
        async with nothing_left(), serve(echo) as port:
            with full_backlog("127.0.0.2", port) if first == "hangs" else nullcontext():
                async with client() as transport:
                    assert await post(transport, f"http://two.invalid:{port}/", b"second") == (200, b"second")
                    await transport.aclose()
                    await cancel_at_every_step(transport, f"http://two.invalid:{port}/")

    with asyncio.Runner(loop_factory=loop_that_knows("127.0.0.2", "127.0.0.1")) as runner:
        runner.run(main())


@pytest.mark.slow
async def test_a_reset_is_in_the_chain_of_causes():
    async def reset(reader, writer):
        await receive(reader)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with nothing_left(), serve(reset) as port, client() as transport:
        with pytest.raises(httpx.ReadError) as caught:
            await post(transport, port)
    assert ConnectionResetError in map(type, causes(caught.value))


async def test_a_refused_connection_says_so():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        async with nothing_left(), client() as transport:
            with pytest.raises(httpx.ConnectError) as caught:
                await post(transport, free.getsockname()[1])
    assert ConnectionRefusedError in map(type, causes(caught.value))


@pytest.mark.slow
def test_an_unknown_name_is_in_the_chain_of_causes():
    class Nameless(asyncio.SelectorEventLoop):
        async def getaddrinfo(self, *args, **options):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

    async def main():
        async with nothing_left(), client() as transport:
            with pytest.raises(httpx.ConnectError) as caught:
                await post(transport, "http://nowhere.invalid/")
        assert socket.gaierror in map(type, causes(caught.value))

    with asyncio.Runner(loop_factory=Nameless) as runner:
        runner.run(main())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "headers", "kind"),
    [
        ("ftp://127.0.0.1/", {}, httpx.UnsupportedProtocol),
        ("http://127.0.0.1:{port}/", {"X": "a\x00b"}, httpx.LocalProtocolError),
        ("http://127.0.0.1:{port}/", {"Content-Length": "1"}, httpx.LocalProtocolError),
        ("http://" + "a" * 64 + ".invalid/", {}, httpx.ConnectError),
    ],
)
async def test_what_cannot_be_sent_is_an_error_of_httpx(url, headers, kind):
    async with nothing_left(), serve(echo) as port, client() as transport:
        with pytest.raises(kind):
            request = httpx.Request("POST", url.format(port=port), headers=headers, content=b"xyz")
            await transport.handle_async_request(request)
        assert connections(transport) == (0, 0)


# -- TLS and proxies


@pytest.fixture(scope="module")
def authority():
    """Contexts of a client and of a server; the client trusts nobody else."""
    own = trustme.CA()
    trusting, server = ssl.create_default_context(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.configure_trust(trusting)
    own.issue_cert("localhost").configure_cert(server)
    return trusting, server


async def test_a_certificate_of_a_trusted_authority_is_accepted(authority):
    context, server = authority
    async with nothing_left(), serve(echo, ssl=server) as port, client(context) as transport:
        for i in range(20):
            assert await post(transport, f"https://localhost:{port}/", b"%d" % i) == (200, b"%d" % i)


async def test_a_certificate_of_another_authority_is_in_the_chain_of_causes(authority):
    async with nothing_left(), serve(echo, ssl=authority[1]) as port, client(ssl.create_default_context()) as transport:
        with pytest.raises(httpx.ConnectError) as caught:
            await post(transport, f"https://localhost:{port}/")
        assert connections(transport) == (0, 0)
    assert ssl.SSLCertVerificationError in map(type, causes(caught.value))


async def proxy(reader, writer, asked):
    """Forwards a plain request by its first line, and opens a tunnel for CONNECT."""
    head = await reader.readuntil(b"\r\n\r\n")
    asked.append(head)
    method, target = head.split(b" ")[:2]
    port = int((target if method == b"CONNECT" else httpx.URL(target.decode()).netloc).split(b":")[-1])
    if method == b"CONNECT":
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await relay(reader, writer, port, b"" if method == b"CONNECT" else head)


async def relay(reader, writer, port, first=b""):
    """Carries bytes between a client and what listens at a port, until one of them ends."""
    behind, ahead = await asyncio.open_connection("127.0.0.1", port)
    ahead.write(first)
    pumps = [asyncio.create_task(pump(*way)) for way in ((reader, ahead), (behind, writer))]
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in pumps:
            task.cancel()
        ahead.close()


async def pump(reader, writer):
    with suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)


@pytest.mark.slow
@pytest.mark.parametrize("behind_tls", [False, True])
@pytest.mark.parametrize("proxy_tls", [False, True])
async def test_a_proxy_forwards_and_tunnels(behind_tls, proxy_tls, authority):
    context, server = authority
    asked = []
    scheme = "https" if behind_tls else "http"
    async with (
        nothing_left(),
        serve(echo, ssl=server if behind_tls else None) as port,
        serve(partial(proxy, asked=asked), ssl=server if proxy_tls else None) as via,
        client(context, f"{'https' if proxy_tls else 'http'}://user:word@localhost:{via}") as transport,
    ):
        for i in range(5):
            assert await post(transport, f"{scheme}://localhost:{port}/", b"%d" % i) == (200, b"%d" % i)
        assert len(asked) == 1
        assert b"Proxy-Authorization: Basic dXNlcjp3b3Jk\r\n" in asked[0]


async def socks(reader, writer, asked):
    """A SOCKS5 proxy that knows one user, or nobody if there is none to know (RFC 1928, RFC 1929)."""
    _, count = await reader.readexactly(2)
    method = 2 if 2 in await reader.readexactly(count) else 0
    writer.write(bytes([5, method]))
    if method == 2:
        user = (await reader.readexactly((await reader.readexactly(2))[1])).decode()
        word = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        writer.write(bytes([1, (user, word) != ("user", "word")]))
    _, _, _, kind = await reader.readexactly(4)
    host = await reader.readexactly((await reader.readexactly(1))[0] if kind == 3 else 4)
    port = int.from_bytes(await reader.readexactly(2))
    asked.append((kind, host))
    for byte in (5, 0, 0, kind, *((len(host), *host) if kind == 3 else host), 0, 0):
        writer.write(bytes([byte]))  # in as many pieces as may be
        await writer.drain()
        await asyncio.sleep(0)
    await relay(reader, writer, port)


@pytest.mark.slow
@pytest.mark.parametrize("behind_tls", [False, True])
@pytest.mark.parametrize("user", ["", "user:word@"])
async def test_a_socks_proxy_opens_the_way(behind_tls, user, authority):
    context, server = authority
    asked = []
    scheme = "https" if behind_tls else "http"
    async with (
        nothing_left(),
        serve(echo, ssl=server if behind_tls else None) as port,
        serve(partial(socks, asked=asked)) as via,
        client(context, f"socks5://{user}localhost:{via}") as transport,
    ):
        for i in range(3):
            assert await post(transport, f"{scheme}://localhost:{port}/", b"%d" % i) == (200, b"%d" % i)
        assert asked == [(3, b"localhost")]
        await cancel_at_every_step(transport, f"{scheme}://localhost:{port}/")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([bytes([5, 255])], "user"),
        ([bytes([5, 2]), bytes([1, 1])], "refuses"),
        ([bytes([5, 2]), bytes([1, 0]), bytes([5, 5, 0, 1, 0, 0, 0, 0, 0, 0])], "CONNECTION_REFUSED"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "no SOCKS5 proxy"),
        ([b""], "ended the connection"),
        ([bytes([5])], "ended the connection"),
        ([bytes([5, 2]), bytes([1, 0]), bytes([5, 0, 0, 3])], "ended the connection"),
        ([bytes([5, 2]), bytes([1, 0]), bytes([5, 0, 0, 9, 0, 0, 0])], "no SOCKS5 proxy"),
        ([bytes([5, 2]), bytes([1, 0]), bytes([5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 22])], "more than it should"),
    ],
)
async def test_a_socks_proxy_that_refuses_is_an_error(answers, words):
    async def refuse(reader, writer):
        for data in answers:
            await reader.read(2**16)
            writer.write(data)

    async with nothing_left(), serve(refuse) as via, client(proxy=f"socks5://user:word@localhost:{via}") as transport:
        with pytest.raises(httpx.ProxyError, match=words):
            await post(transport, "https://localhost:1/")
        assert connections(transport) == (0, 0)


async def test_cancelling_a_tunnel_leaves_nothing(authority):
    context, _ = authority
    async with (
        nothing_left(),
        serve(silent) as port,
        serve(partial(proxy, asked=[])) as via,
        client(context, f"http://localhost:{via}") as transport,
    ):
        await cancel_at_every_step(transport, f"https://localhost:{port}/")
        assert connections(transport) == (0, 0)


async def test_a_proxy_that_refuses_is_an_error():
    async def refuse(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(b"", status=407))

    async with nothing_left(), serve(refuse) as via, client(proxy=f"http://127.0.0.1:{via}") as transport:
        with pytest.raises(httpx.ProxyError):
            await post(transport, "https://localhost:1/")
        assert connections(transport) == (0, 0)


# -- helpers that read better last


def causes(error):
    while error is not None:
        yield error
        error = error.__cause__


class full_backlog:  # noqa: N801
    """A port that takes no more connections: what connects hangs."""

    def __init__(self, host="127.0.0.1", port=0):
        self.address = host, port

    def __enter__(self):
        self.listener = socket.create_server(self.address, backlog=0)
        self.waiting = []
        for _ in range(8):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(self.listener.getsockname())
            self.waiting.append(one)
        if os.name != "posix":
            pytest.skip("a full backlog refuses here")
        return self.listener.getsockname()[1]

    def __exit__(self, *exc):
        for one in [*self.waiting, self.listener]:
            one.close()
