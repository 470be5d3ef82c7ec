"""A cache in Redis, over real sockets: shared by machines, gone meanwhile, and in the hands of others."""

from __future__ import annotations

import logging
import pickle
import socketserver
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from jinaclip import Cache, ConfigError, JinaClip, JinaClipError
from jinaclip.cache import RedisStore
from jinaclip.cache.redis_store import PREFIX
from jinaclip.testing import Server
from tests.needs import skip_without

Make = Callable[..., JinaClip]
SAME = 2e-6
TEXTS = [f"text {number}" for number in range(30)]
SECRET = "very-secret-word"


@pytest.fixture
def redis() -> Iterator[Any]:
    """A server of this test's own."""
    skip_without("redis")
    skip_without("fakeredis")
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    stop(server)
    thread.join(60)


def stop(server: Any) -> None:
    """Ends it, and its connections."""
    server.shutdown()
    server.server_close()


def url_of(server: Any) -> str:
    return f"redis://127.0.0.1:{server.server_address[1]}/0"


@pytest.fixture
def store(redis: Any) -> Iterator[RedisStore]:
    found = RedisStore(url_of(redis))
    yield found
    found.close()


@pytest.fixture
def connection(redis: Any) -> Iterator[Any]:
    from redis import Redis

    with Redis.from_url(url_of(redis)) as found:
        yield found


def make_cache(redis: Any) -> Cache:
    return Cache(store=RedisStore(url_of(redis)))


def test_what_was_put_comes_back(store: RedisStore, connection: Any) -> None:
    entries = {number.to_bytes(32, "little"): bytes([number % 256]) * 100 for number in range(1200)}
    connection.set("other", "not ours")
    store.put_many(entries)
    assert store.get_many([*entries, b"x" * 32]) == entries
    assert dict(store.scan()) == entries
    size = store.size()
    assert (size.entries, size.size) == (1200, 120_000)
    store.delete_many([*entries][:200])
    assert len(store.get_many([*entries])) == 1000
    store.clear()
    assert store.get_many([*entries]) == {}
    assert connection.get("other") == b"not ours"


def test_days_after_which_an_entry_goes(redis: Any, connection: Any) -> None:
    store = RedisStore(url_of(redis), days=2)
    store.put_many({b"k" * 32: b"entry"})
    assert 0 < connection.ttl(PREFIX + b"k" * 32) <= 2 * 24 * 3600
    store.close()


def test_calls_find_what_others_paid_for(clip: Make, server: Server, redis: Any) -> None:
    first, second = (clip(cache=make_cache(redis)) for _ in range(2))
    vectors = first.embed_documents(TEXTS)
    assert first.cache.flush()
    found = second.embed(TEXTS)
    assert np.array_equal(found.vectors, vectors)
    assert found.usage.hits == len(TEXTS)
    assert server.ledger()["texts"] == len(TEXTS)
    stats = second.cache.stats()
    assert (stats.entries, stats.hits) == (len(TEXTS), len(TEXTS))


MACHINE = """
import sys
import numpy as np
from jinaclip import Cache, JinaClip
from jinaclip.cache import RedisStore
url, address, first = sys.argv[1:]
texts = [f"text {int(first) + number}" for number in range(60)]
options = {"api_key": "jina_test_machines", "base_url": url}
wanted = JinaClip(cache=False, **options).embed_documents(texts)
with JinaClip(cache=Cache(store=RedisStore(address)), batch_size=10, **options) as clip:
    for _ in range(3):
        assert np.abs(clip.embed_documents(texts) - wanted).max() < 2e-6
"""


@pytest.mark.slow
def test_machines_share_it(clip: Make, server: Server, redis: Any, connection: Any) -> None:
    """Each a process of its own; all that they paid for is there once they have ended."""
    command = [sys.executable, "-c", MACHINE, server.url, url_of(redis)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    machines = [subprocess.Popen([*command, str(first)], **pipes) for first in (0, 30)]
    assert [machine.communicate(timeout=300) for machine in machines] == [("", "")] * 2
    assert connection.dbsize() == 90
    assert clip(cache=make_cache(redis)).embed([f"text {number}" for number in range(90)]).usage.hits == 90


def test_a_server_that_has_gone_costs_its_entries_alone(
    clip: Make, redis: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = clip(cache=make_cache(redis))
    first = one.embed_documents(TEXTS)
    assert one.cache.flush()
    stop(redis)
    for _ in range(2):
        assert np.abs(one.embed_documents([*TEXTS, "one more"])[:-1] - first).max() < SAME
    with pytest.raises(JinaClipError, match="cannot be used"):
        one.cache.stats()
    one.cache.close()
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert "embedding goes on without it" in warning.getMessage()


def test_no_server_at_all(clip: Make, caplog: pytest.LogCaptureFixture) -> None:
    skip_without("redis")
    one = clip(cache=Cache(store=RedisStore(f"redis://user:{SECRET}@127.0.0.1:1/0")))
    assert one.embed(TEXTS).ok.all()
    one.cache.close()
    assert len(caplog.records) == 1
    assert "127.0.0.1:1" in caplog.text
    assert SECRET not in caplog.text


URLS = [
    f"redis://:{SECRET}@cache.internal:6379/0",
    f"rediss://user:{SECRET}@cache.internal/0",
    f"redis://cache.internal/0?password={SECRET}",
    f"redis://user:a@b{SECRET}@cache.internal/0",
    f"unix://user:{SECRET}@/run/redis.sock?db=0",
    f"redis://user:{SECRET}@[::1]:6379/0",
]


@pytest.mark.parametrize("url", URLS)
def test_a_password_is_shown_nowhere(url: str) -> None:
    skip_without("redis")
    store = RedisStore(url)
    cache = Cache(store=store)
    for shown in (
        repr(store),
        str(store),
        store.name,
        repr(cache),
        repr(JinaClip(api_key="jina_test", cache=cache).config),
    ):
        assert SECRET not in shown
    assert pickle.loads(pickle.dumps(cache))._worker.store._url == url  # who opens it needs it
    assert "cache.internal" in store.name or "redis.sock" in store.name or "::1" in store.name


@pytest.mark.parametrize(
    "url",
    ["", "cache.internal", f"http://user:{SECRET}@a", f"redis://user:{SECRET}/x@host", f"redis://u:{SECRET}@h:port/0"],
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    skip_without("redis")
    with pytest.raises(ConfigError) as caught:
        RedisStore(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("days", [0, -1, float("nan"), float("inf")])
def test_days_are_a_number_above_0(days: float) -> None:
    with pytest.raises(ConfigError, match="days"):
        RedisStore("redis://cache.internal", days=days)


class Refusal(socketserver.BaseRequestHandler):
    """Answers to whatever it is sent that it is none of that, and repeats it."""

    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(b"-WRONGPASS invalid: " + data.replace(b"\r\n", b" ") + b"\r\n")


def test_a_password_that_a_server_repeats_is_shown_nowhere(clip: Make, caplog: pytest.LogCaptureFixture) -> None:
    skip_without("redis")
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refusal) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        one = clip(cache=Cache(store=RedisStore(f"redis://user:{SECRET}@127.0.0.1:{server.server_address[1]}/0")))
        assert one.embed(TEXTS).ok.all()
        with pytest.raises(JinaClipError) as caught:
            one.cache.stats()
        one.cache.close()
        server.shutdown()
    assert SECRET not in caplog.text + "".join(traceback.format_exception(caught.value))
    assert len(caplog.records) == 1


def test_a_pickled_object_works_elsewhere(clip: Make, server: Server, redis: Any) -> None:
    one = clip(cache=make_cache(redis))
    one.embed_documents(TEXTS)
    assert one.cache.flush()
    other = pickle.loads(pickle.dumps(one))
    assert other.embed(TEXTS).usage.hits == len(TEXTS)
    other.close()


def swap(connection: Any, keys: list[bytes]) -> None:
    values = connection.mget(keys)
    connection.mset(dict(zip(keys, values[::-1], strict=True)))


WRONG: dict[str, Callable[[Any, list[bytes]], object]] = {
    "swapped": swap,
    "nonsense": lambda connection, keys: connection.mset(dict.fromkeys(keys, b"V nonsense")),
    "empty": lambda connection, keys: connection.mset(dict.fromkeys(keys, b"")),
    "a bit": lambda connection, keys: [connection.setbit(key, 4000, 1 - connection.getbit(key, 4000)) for key in keys],
    "cut": lambda connection, keys: [connection.set(key, connection.getrange(key, 0, 999)) for key in keys],
    "longer": lambda connection, keys: [connection.append(key, b"0000") for key in keys],
    "a list": lambda connection, keys: [connection.delete(key) and connection.rpush(key, b"V") for key in keys],
    "gone": lambda connection, keys: connection.flushall(),
}


@pytest.mark.parametrize("how", WRONG)
def test_wrong_values_under_our_keys_are_never_returned(
    clip: Make, redis: Any, connection: Any, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = clip(cache=make_cache(redis))
    first = one.embed_documents(TEXTS)
    assert one.cache.flush()
    keys = sorted(connection.keys(PREFIX + b"*"))
    assert len(keys) == len(TEXTS)
    WRONG[how](connection, keys)
    again = one.embed(TEXTS)
    assert np.abs(again.vectors - first).max() < SAME
    assert again.usage.hits == 0
    assert len(caplog.records) == (how not in ("gone", "a list"))
    assert one.cache.flush()
    assert one.embed(TEXTS).usage.hits == len(TEXTS)
