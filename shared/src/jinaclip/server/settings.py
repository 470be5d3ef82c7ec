"""Everything that can be set about the server, beside the options of JinaClip."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jinaclip.config import Check, check_options, instance_of, seconds, whole_number
from jinaclip.numeric import is_number

MIB = 2**20


def option(default: Any, meaning: str) -> Any:
    """A setting with its default and what the command line says of it."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the server behaves. Sizes in bytes, times in seconds.

    Raises:
        ConfigError: a value is out of range or of the wrong type; the message names the setting.
    """

    host: str = option("127.0.0.1", "address to listen on; beyond this machine it takes --keys")
    port: int = option(8000, "0 takes a free one")
    keys: str | None = option(None, "file of hashed keys that are let in; without one, this machine alone")
    fetch: bool = option(False, "download the images that requests name by https URL")
    served_name: str | None = option(None, "what clients call the model; the name of the model if not given")
    max_body: int = option(64 * MIB, "bytes of one request")
    max_inputs: int = option(2048, "texts and images in one request")
    max_text: int = option(1_000_000, "characters of one text, also of one that is to be cut")
    max_queue: int = option(16_384, "texts and images of all requests under way; more are refused with 429")
    max_memory: int = option(512 * MIB, "bytes of all requests and answers under way; more are refused with 429")
    header_timeout: float = option(10.0, "seconds for the headers of a request")
    body_timeout: float = option(60.0, "seconds for the body of a request")
    send_timeout: float = option(60.0, "seconds for a client to read its answer")
    keep_alive: int = option(75, "seconds that a connection may idle; longer than the balancer before it waits")
    max_connections: int = option(4096, "open connections; beyond it the one that has waited longest is closed")
    max_connections_per_peer: int | None = option(
        None, "open connections of one address; not for servers behind a proxy, which is one address"
    )
    drain_delay: float = option(2.0, "seconds that a stopping server still listens, not ready, for balancers to notice")
    drain_timeout: float = option(25.0, "seconds that a stopping server gives what is under way")

    def __post_init__(self) -> None:
        check_options(self, _CHECKS)


def _word(value: Any) -> str | None:
    return None if isinstance(value, str) and value.strip() else "a word"


def _optional_word(value: Any) -> str | None:
    return None if value is None else _word(value)


def _pause(value: Any) -> str | None:
    is_zero = is_number(value) and value == 0
    return None if is_zero or seconds(value) is None else "a number of seconds, 0 or more"


_CHECKS: dict[str, Check] = {
    "host": _word,
    "port": whole_number(0, 65535),
    "keys": _optional_word,
    "fetch": instance_of(bool),
    "served_name": _optional_word,
    "max_body": whole_number(1),
    "max_inputs": whole_number(1),
    "max_text": whole_number(1),
    "max_queue": whole_number(1),
    "max_memory": whole_number(1),
    "header_timeout": seconds,
    "body_timeout": seconds,
    "send_timeout": seconds,
    "keep_alive": whole_number(1),
    "max_connections": whole_number(1),
    "max_connections_per_peer": whole_number(1, optional=True),
    "drain_delay": _pause,
    "drain_timeout": seconds,
}
