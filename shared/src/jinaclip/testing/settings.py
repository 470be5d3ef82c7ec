"""Everything about the server that can be set, at its start or while it runs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server behaves; the defaults are an honest, immediate service without limits."""

    key: str = "jina_test"
    """Keys that start with this are accepted."""
    echo_key: bool = False
    """Whether a 401 repeats the key it refuses."""
    max_inputs: int = 512
    max_bytes: int = 0
    """Larger requests are answered 413; 0 lifts the limit, here and below."""
    max_tokens: int = 8192
    """Of one text."""
    balance: int = 0
    """Tokens billed after which the balance counts as used up."""

    model: str = ""
    """Folder of a checkpoint that answers; without one, vectors stand for the digest of their input."""

    fault_rate: float = 0.0
    """Share of requests that get a fault."""
    seed: int = 1
    faults: tuple[str, ...] = ()
    """Faults to draw from; none means those in `faults.PASSING`."""
    faults_in_row: int = 0
    """After so many faults for the same body the next answer to it is honest."""
    script: tuple[str | None, ...] = ()
    """Faults of the next requests in order; None is an honest answer."""
    poison: dict[str, str] = field(default_factory=dict)
    """Marker in a text -> the fault that every request with such a text gets."""
    drip_s: float = 0.05
    """Between two bytes of a slow answer."""
    retry_after: float = 0.02
    """Seconds that `retry_after_seconds` asks for."""

    base_ms: float = 0.0
    text_ms: float = 0.0
    tile_ms: float = 0.0
    connect_ms: float = 0.0
    """On top for the first request of a connection."""
    slots: int = 0
    """Requests worked on at once."""
    concurrency: int = 0
    """More requests than this in flight are answered 429."""
    rpm: float = 0.0
    tpm: float = 0.0
    burst_s: float = 60.0
    """Seconds' worth that a full bucket holds."""
    tell_wait: bool = False
    """Whether a 429 of `rpm` and `tpm` says in Retry-After how long."""
    shuffle: bool = False
    """Whether answers list their rows in random order, with right indices."""

    def updated(self, changes: dict[str, Any]) -> Settings:
        """A copy with some settings changed; a script runs once and is not carried over.

        Raises:
            ValueError: a setting does not exist.
        """
        unknown = set(changes) - {item.name for item in fields(self)}
        if unknown:
            raise ValueError(f"no such settings: {', '.join(sorted(unknown))}")
        return replace(self, **{"script": (), **changes})
