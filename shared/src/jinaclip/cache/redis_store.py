"""Entries in Redis or Valkey, for many machines. The server evicts by its own rules: set `maxmemory` there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from jinaclip.cache.store import StoreError, StoreSize
from jinaclip.errors import ConfigError
from jinaclip.requirements import missing_dependency

PREFIX = b"jinaclip:"
"""Before every key, so that a database may hold other things too."""
AT_ONCE = 500
"""Keys in one command."""
TIMEOUT_S = 5.0
"""Seconds for connecting, and for each answer, unless the URL says otherwise."""


class RedisStore:
    """Entries in a Redis or Valkey server: `Cache(store=RedisStore("redis://cache.internal/0"))`.

    Whoever may write there decides which vectors come out of the cache: keep the server to yourselves, behind a
    password and TLS (`rediss://`).

    Args:
        url: as redis-py takes it. User and password in it are shown nowhere; a pickle holds them.
        days: after which an entry that was not written again goes; None keeps it for as long as the server does.

    Raises:
        MissingDependencyError: the extra `redis` is not installed.
        ConfigError: it is no URL of a Redis server, or `days` no number above 0.
    """

    def __init__(self, url: str, *, days: float | None = None) -> None:
        if days is not None and not 0 < days < math.inf:
            raise ConfigError(f"days={days!r} must be a number above 0, or None", option="cache")
        self._url, self._days = url, days
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ModuleNotFoundError as missing:
            raise missing_dependency("a Redis store", missing.name, "redis") from None
        once_more = Retry(NoBackoff(), 1)  # an idle connection may have been closed; who is gone is not waited for
        try:
            self._client = redis.Redis.from_url(
                url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=once_more
            )
        except (ValueError, TypeError):
            raise ConfigError("a Redis store takes a URL such as redis://host:6379/0", option="cache") from None
        self._errors = (redis.RedisError, OSError)

    def __repr__(self) -> str:
        return f"RedisStore({self.name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (self._url, self._days)

    @property
    def name(self) -> str:
        """The URL, without user and password."""
        parts = urlsplit(self._url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"

    def get_many(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The entries that there are of these keys."""
        found: dict[bytes, bytes] = {}
        with self._convert_errors():
            for start in range(0, len(keys), AT_ONCE):
                some = keys[start : start + AT_ONCE]
                entries: Any = self._client.mget([PREFIX + key for key in some])
                found |= {key: entry for key, entry in zip(some, entries, strict=True) if entry is not None}
        return found

    def put_many(self, entries: Mapping[bytes, bytes]) -> None:
        """Keeps entries, in one go."""
        seconds = None if self._days is None else int(self._days * 24 * 3600) or 1
        with self._convert_errors(), self._client.pipeline(transaction=False) as pipeline:
            for key, entry in entries.items():
                pipeline.set(PREFIX + key, entry, ex=seconds)
            pipeline.execute()

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Drops entries."""
        with self._convert_errors():
            self._client.delete(*[PREFIX + key for key in keys])

    def scan(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries of ours."""
        with self._convert_errors():
            for keys in self._keys():
                yield from self.get_many([key.removeprefix(PREFIX) for key in keys]).items()

    def size(self) -> StoreSize:
        """Entries of ours, and the bytes of their values; it asks for each, which takes a while."""
        entries = size = 0
        with self._convert_errors():
            for keys in self._keys():
                with self._client.pipeline(transaction=False) as pipeline:
                    for key in keys:
                        pipeline.strlen(key)
                    lengths = pipeline.execute()
                entries, size = entries + len(keys), size + sum(lengths)
        return StoreSize(entries, size)

    def clear(self) -> None:
        """Drops all entries of ours."""
        with self._convert_errors():
            for keys in self._keys():
                self._client.delete(*keys)

    def close(self) -> None:
        """Closes the connections."""
        with self._convert_errors():
            self._client.close()

    def forget(self) -> None:
        """Nothing: redis-py notices a fork by itself."""

    def _keys(self) -> Iterator[list[bytes]]:
        """Keys on the server, some at a time."""
        keys = iter(self._client.scan_iter(match=PREFIX + b"*", count=AT_ONCE))
        while some := list(islice(keys, AT_ONCE)):
            yield some

    @contextmanager
    def _convert_errors(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            raise StoreError(f"the cache {self.name} cannot be used: {type(error).__name__}") from None


def _make(url: str, days: float | None) -> RedisStore:
    return RedisStore(url, days=days)
