"""Everything about the service that can be set, at its start or while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the service behaves; the defaults are an honest, immediate service without rate limits.

    Attributes:
        key: keys that start with this are accepted ("jina_test")
        echo_key: whether a 401 repeats the key that it refuses (false)
        max_inputs: most inputs of one request; 0 lifts the limit, as everywhere here (512)
        max_bytes: larger requests are answered 413 (0)
        max_tokens: most tokens of one text (8192)
        balance: tokens billed after which the balance is used up (0)
        model: folder of a checkpoint whose vectors are answered; without one a vector stands for the digest
            of its input ("")
        fault_rate: share of requests that get a fault (0.0)
        seed: of the draws: the same requests get the same faults (1)
        faults: names to draw from; empty for those that a client should survive by asking again ([])
        faults_in_row: after so many faults for one body the next answer to it is honest (0)
        script: faults of the next requests in order; null is an honest answer ([])
        poison: marker in a text -> fault that every request with such a text gets ({})
        drip_s: seconds between two bytes of a slow answer (0.05)
        retry_after: seconds that the fault `retry_after_seconds` asks for (0.02)
        base_ms: milliseconds that any request takes (0.0)
        text_ms: on top for each text (0.0)
        tile_ms: on top for each tile of an image (0.0)
        connect_ms: on top for the first request of a connection (0.0)
        slots: requests worked on at once (0)
        max_concurrency: more requests than this in flight are answered 429 (0)
        requests_per_minute: more are answered 429 (0.0)
        tokens_per_minute: more are answered 429 (0.0)
        burst_s: seconds' worth of the two rates that may be taken at once (60.0)
        send_retry_after: whether their 429 has a Retry-After (false)
        shuffle: whether answers list their rows in random order, with right indices (false)
    """

    key: str = "jina_test"
    echo_key: bool = False
    max_inputs: int = 512
    max_bytes: int = 0
    max_tokens: int = 8192
    balance: int = 0

    model: str = ""

    fault_rate: float = 0.0
    seed: int = 1
    faults: tuple[str, ...] = ()
    faults_in_row: int = 0
    script: tuple[str | None, ...] = ()
    poison: dict[str, str] = field(default_factory=dict)
    drip_s: float = 0.05
    retry_after: float = 0.02

    base_ms: float = 0.0
    text_ms: float = 0.0
    tile_ms: float = 0.0
    connect_ms: float = 0.0
    slots: int = 0
    max_concurrency: int = 0
    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    burst_s: float = 60.0
    send_retry_after: bool = False
    shuffle: bool = False

    def change(self, changes: Mapping[str, Any]) -> Settings:
        """A copy with some settings changed; a script runs once and is not carried over.

        Raises:
            ValueError: a setting does not exist.
            TypeError: this is no mapping of names.
        """
        if not isinstance(changes, Mapping):
            raise TypeError("settings are an object of names and values")
        unknown = set(changes) - {item.name for item in fields(self)}
        if unknown:
            raise ValueError(f"no such settings: {', '.join(sorted(unknown))}")
        return replace(self, **{"script": (), **changes})
