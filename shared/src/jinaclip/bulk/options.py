"""What a bulk run is asked for: the options of `jinaclip embed` and of `jinaclip.bulk.embed`, checked once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Literal, get_args

from jinaclip.bulk.items import PairMode
from jinaclip.bulk.parts import Shard
from jinaclip.bulk.precision import Precision
from jinaclip.call.request import Task
from jinaclip.clip import TASKS
from jinaclip.config import EmbedderConfig, whole_number
from jinaclip.errors import ConfigError
from jinaclip.numeric import is_number
from jinaclip.sources import Columns
from jinaclip.sources.places import fix_roots
from jinaclip.vectors import check_weight

OnError = Literal["keep", "stop"]
Executor = Literal["local", "ray"]
SHARD = re.compile(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOptions:
    """All that decides a run beside its source and its output.

    Attributes:
        columns: the names of columns in a table.
        pair: what becomes of a row with a text and an image: "fuse" makes one vector of both, "both" one of each.
        weight: share of the text in a fused vector, from 0 to 1.
        task: "document" or "query", for texts.
        precision: of the vectors in the output.
        on_error: "keep" writes why an item failed and goes on, "stop" ends the run with the first that fails.
        retry_failed: whether items that failed in an earlier run are tried again.
        limit: at most so many rows of the source are looked at; nothing is dropped as deleted then.
        shard: this run's share of the rows.
        executor: "local" for this process, "ray" for Ray Data.
        address, actors, gpus_per_actor: of Ray; see docs/bulk.md.
        clip: the options of JinaClip by name, the model among them.

    Raises:
        ConfigError: an option is wrong.
    """

    columns: Columns = field(default_factory=Columns)
    pair: PairMode | None = None
    weight: float = 0.5
    task: Task = "document"
    precision: Precision = "float32"
    on_error: OnError = "keep"
    retry_failed: bool = False
    limit: int | None = None
    shard: Shard | None = None
    executor: Executor = "local"
    address: str | None = None
    actors: int | None = None
    gpus_per_actor: float | None = None
    clip: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_weight(self.weight)
        _check_choice("pair", self.pair, (None, *get_args(PairMode)))
        _check_choice("task", self.task, TASKS)
        _check_choice("precision", self.precision, get_args(Precision))
        _check_choice("on_error", self.on_error, get_args(OnError))
        _check_choice("executor", self.executor, get_args(Executor))
        for name in ("limit", "actors"):
            if (problem := whole_number(1, optional=True)(getattr(self, name))) is not None:
                raise ConfigError(f"{name}={getattr(self, name)!r} must be {problem}", option=name)
        self._check_ray()

    def _check_ray(self) -> None:
        gpus = self.gpus_per_actor
        if gpus is not None and not (is_number(gpus) and gpus >= 0):
            raise ConfigError(f"gpus_per_actor={gpus!r} must be a number from 0", option="gpus_per_actor")
        if self.executor == "ray":
            return
        for name in ("address", "actors", "gpus_per_actor"):
            if getattr(self, name) is not None:
                raise ConfigError(f"{name} means something with executor='ray' alone", option=name)

    @property
    def config(self) -> EmbedderConfig:
        """The options of JinaClip."""
        return EmbedderConfig(**self.clip)

    def fix_roots(self) -> BulkOptions:
        """The same for other processes: paths may lead where they may lead here, whatever their working directory."""
        return replace(self, clip={**self.clip, "image_policy": fix_roots(self.config.image_policy)})

    @property
    def settings(self) -> dict[str, Any]:
        """What a resumed run must have as the first one had it, beside space and precision."""
        return {"pair": self.pair, "weight": self.weight if self.pair == "fuse" else None, "task": self.task}

    def owns(self, row_id: str) -> bool:
        """Whether the row of this id is of this shard."""
        if self.shard is None:
            return True
        number, count = self.shard
        digest = sha256(row_id.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "little") % count == number - 1


def read_shard(shard: str | Shard | None) -> Shard | None:
    """A shard as "2/4", or as (2, 4).

    Raises:
        ConfigError: it is neither, or there is no such shard.
    """
    if shard is None:
        return None
    if isinstance(shard, str) and (found := SHARD.fullmatch(shard)):
        number, count = int(found[1]), int(found[2])
    elif isinstance(shard, tuple) and len(shard) == 2 and all(type(one) is int for one in shard):
        number, count = shard
    else:
        raise ConfigError(f'shard={shard!r:.40} must be "i/n", such as "1/4" for the first of four', option="shard")
    if not 1 <= number <= count:
        raise ConfigError(f"shard={number}/{count}: shards are counted from 1 to {count}", option="shard")
    return number, count


def _check_choice(name: str, value: object, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        words = ", ".join(map(repr, choices))
        raise ConfigError(f"{name}={value!r:.40} must be one of {words}", option=name)
