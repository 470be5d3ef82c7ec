"""Where requests go, and what items must have in common to share one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jinaclip.config import EmbedderConfig
from jinaclip.secret import KEY_SHAPE, Headers, Secret

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go: what has the same endpoint shares connections."""

    url: str
    authorization: Secret
    headers: Headers
    transport: Callable[[], httpx.AsyncBaseTransport] | None = field(default=None, compare=False)
    transport_id: int | None = None
    """Factories are told apart as objects: one may compare or hash as it likes, or not at all."""

    def clean(self, text: str) -> str:
        """Text of the service without the key and the values of the caller's headers."""
        values = [self.authorization.reveal(), *self.headers.reveal().values()]
        for value in [*values, *(value.partition(" ")[2] for value in values)]:
            text = text.replace(value, "***") if value else text
        return KEY_SHAPE.sub("***", text).strip()

    @property
    def host(self) -> str:
        """Name of the service's machine, and the port if the address has one."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    @classmethod
    def of(cls, config: EmbedderConfig) -> Endpoint:
        """The endpoint of a configuration.

        Raises:
            AuthenticationError: there is no key.
            ConfigError: the value of a header is not there.
        """
        if config.headers:
            config.extra_headers.reveal()
        return cls(config.base_url, config.authorization, config.extra_headers, config.transport, id(config.transport))


@dataclass(frozen=True, slots=True)
class Route:
    """What items must have in common to share a request: where it goes and all of it but its inputs."""

    endpoint: Endpoint
    settings: tuple[tuple[str, Any], ...]
    dimensions: int
    query: bool
    """Texts that are embedded as queries. They never share a request with images."""
