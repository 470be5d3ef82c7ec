"""What one actor of several may do, and the cache that keeps them from paying twice."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.own_cache import cache_folder, open_cache
from jinaclip.bulk.parts import Shard
from jinaclip.cache import Cache, RedisStore
from jinaclip.cache.place import ENVIRONMENT, default_path, network_type
from jinaclip.config import read_choice

logger = logging.getLogger("jinaclip.bulk")
LIMITS = ("max_concurrency", "requests_per_minute", "tokens_per_minute", "token_budget")
"""Options that bound all actors together."""
MACHINE_CACHE, MACHINE_BYTES = "ray.sqlite", 2**30
"""In the user's folder for caches, on each machine, and its most bytes."""
REDIS = ("redis://", "rediss://", "unix://")


def divide_limits(options: Mapping[str, Any], actors: int) -> dict[str, Any]:
    """The options of one actor's JinaClip: each limit of the user's by the number of actors, but 1 at least.

    What that changes is told as a warning.
    """
    divided = dict(options)
    for name in LIMITS:
        limit = options.get(name)
        if limit is None or actors == 1:
            continue
        divided[name] = max(1, limit // actors)
        if divided[name] * actors != limit:
            logger.warning(
                "%s=%d does not divide by %d actors: each has %d, all together %d",
                name, limit, actors, divided[name], divided[name] * actors,
            )  # fmt: skip
    return divided


def choose_cache(option: Any, folder: OutputFolder, shard: Shard | None, machines: int) -> Any:
    """The option `cache` of the actors' JinaClips.

    What the user named is taken: a URL of Redis, a path, a `jinaclip.Cache`, True or False, or JINACLIP_CACHE, which is
    read here as actors may have another environment. Else it is that of the run, in the output's folder, if that is on
    a disk of the one machine there is; if there are several, a file on each, in the user's folder for caches.

    Args:
        option: `cache` as the user gave it.
        folder: of the output.
        shard: of the run.
        machines: of the Ray.
    """
    if option is None and os.environ.get(ENVIRONMENT, "").strip():
        option = read_choice(os.environ[ENVIRONMENT])
    if isinstance(option, str) and option.startswith(REDIS):
        return Cache(store=RedisStore(option))
    if option is not None:
        return option
    if machines == 1 and folder.local is not None and network_type(_existing(folder.local)) is None:
        return ActorCache(cache_folder(folder.local, shard))
    return ActorCache(None)


def _existing(path: Path) -> Path:
    """The folder, or the nearest above that is there."""
    return path if path.exists() else _existing(path.parent)


@dataclass(frozen=True, slots=True)
class ActorCache:
    """A cache that is opened in the process that uses it. It can be pickled.

    Attributes:
        folder: of the run's own logs; None for a file in the user's folder for caches, wherever that is on the machine.
    """

    folder: Path | None

    def open(self) -> Cache:
        """The cache."""
        if self.folder is not None:
            return open_cache(self.folder)
        return Cache(default_path().with_name(MACHINE_CACHE), max_bytes=MACHINE_BYTES)
