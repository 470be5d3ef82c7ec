"""Where requests go, and what items must have in common to share one."""

from __future__ import annotations

import itertools
import os
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies

from jinaclip.backends.api.wires import WIRES
from jinaclip.backends.api.wires.base import Wire
from jinaclip.config import KEY_VARIABLES, OTHER_KEY_VARIABLE, EmbedderConfig
from jinaclip.secret import Headers, Redactor, Secret
from jinaclip.specs import ModelSpec

if TYPE_CHECKING:
    import httpx


def host_of(url: str) -> str:
    """Name of the machine of an address, and the port if it has one, without who asks."""
    return urlsplit(url).netloc.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go: what has the same endpoint shares connections."""

    url: str
    authorization: Secret
    headers: Headers
    wire: Wire
    base_url: str
    """As the option has it; a wire may make the URL of something else."""
    transport: Callable[[], httpx.AsyncBaseTransport] | None = field(default=None, compare=False)
    transport_id: int | None = None
    """Factories are told apart as objects: one may compare or hash as it likes, or not at all."""

    def clean(self, text: str) -> str:
        """Text that others wrote, without what is secret here and in the environment, then cut.

        Whatever a service, a proxy, a transport or a library says goes through this before anybody sees it.
        """
        if not text:
            return text
        own = [self.authorization.reveal(), *self.headers.reveal().values()]
        decoded = [part for value in own for part in _credentials(value)]
        return _redactor(frozenset([*own, *decoded, *secrets_of_environment()])).clean(text)

    @property
    def refused(self) -> str:
        """What it means that the service refuses who asks, and what to look at."""
        if self.authorization or self.wire.open_signer(self.base_url) is not None:
            return f"the service refuses this key; {self.wire.traits.key_hint}"
        return f"the service wants a key, and none was sent: pass api_key, or set {OTHER_KEY_VARIABLE}"

    @property
    def host(self) -> str:
        """Name of the service's machine, and the port if the address has one."""
        return host_of(self.url)

    @classmethod
    def of(cls, config: EmbedderConfig, url: str | None = None) -> Endpoint:
        """The endpoint of a configuration.

        Args:
            config: the options.
            url: where its wire sends requests; None asks the wire.

        Raises:
            AuthenticationError: there is no key.
            ConfigError: the value of a header is not there.
        """
        if config.headers:
            config.extra_headers.reveal()
        wire, factory = WIRES[config.wire_name], config.transport
        key = wire.authorize(config)
        url = wire.url(config.base_url) if url is None else url
        return cls(url, key, config.extra_headers, wire, config.base_url, factory, id(factory))


@dataclass(frozen=True, slots=True)
class Route:
    """What items must have in common to share a request: where it goes and all of it but its inputs."""

    endpoint: Endpoint
    settings: tuple[tuple[str, Any], ...]
    model: str
    dimensions: int
    width: int
    """Of the vectors that are asked for: `dimensions`, or more, which are cut here."""
    normalized: bool
    query: bool
    """Texts that are embedded as queries. They never share a request with images."""

    @property
    def wire(self) -> Wire:
        """How requests are written and answers read."""
        return self.endpoint.wire

    @classmethod
    def of(cls, endpoint: Endpoint, config: EmbedderConfig, spec: ModelSpec, *, query: bool) -> Route:
        """The route of documents and images, or of queries."""
        wire, dimensions = endpoint.wire, config.dimensions or spec.dimensions
        settings = wire.settings(config, spec, query=query)
        width = width_asked(wire, config, spec)
        return cls(endpoint, tuple(settings.items()), spec.name, dimensions, width, config.normalized, query)


def width_asked(wire: Wire, config: EmbedderConfig, spec: ModelSpec) -> int:
    """The width of the vectors that a service is asked for."""
    return (config.dimensions or spec.dimensions) if wire.traits.says_dimensions else spec.dimensions


MOST_REMEMBERED = 64
"""Secrets of the environment, those that are not in it any more included."""
_redactor = lru_cache(maxsize=8)(Redactor)
_remembered: dict[str, int] = {}
"""Secrets, and when each was last met, in an order of their own."""
_met = itertools.count()


def secrets_of_environment() -> list[str]:
    """Keys and passwords of proxies that are in the environment, or were when this was last called.

    A key may be replaced while a request that was sent with it, or a connection through a proxy, is under way.
    """
    keys = (os.environ.get(name, "").strip() for name in (*KEY_VARIABLES, OTHER_KEY_VARIABLE))
    proxies = (secret for proxy in getproxies().values() for secret in _secrets_of_proxy(proxy))
    remember_secrets(filter(None, [*keys, *proxies]))
    return list(_remembered)


def remember_secrets(secrets: Iterable[str]) -> None:
    """Notes what requests are made with, as a service may repeat it when it refuses them.

    Any thread may call it: one that is met again stays there meanwhile.
    """
    for secret in secrets:
        _remembered[secret] = next(_met)
    oldest = sorted(_remembered.items(), key=itemgetter(1))[:-MOST_REMEMBERED]
    for secret, _ in oldest:
        _remembered.pop(secret, None)  # another thread may have done so


def _secrets_of_proxy(url: str) -> Iterator[str]:
    """The password in the URL of a proxy, and user and password as they are sent."""
    with suppress(ValueError):  # it is no URL, and will not be used
        user, found, password = (
            urlsplit(url if "://" in url else f"http://{url}").netloc.rpartition("@")[0].partition(":")
        )
        if found:
            yield from (unquote(password), f"{unquote(user)}:{unquote(password)}")


def _credentials(value: str) -> Iterator[str]:
    """The password in the value of a header of the scheme Basic, and user and password as they were."""
    scheme, _, letters = value.partition(" ")
    if scheme.lower() == "basic":
        with suppress(ValueError):  # it is no base64
            pair = b64decode(letters).decode()
            yield from (pair, pair.partition(":")[2])
