"""What the folder says of itself: how its vectors were made, how many there are, whether the run came to its end."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from jinaclip import __version__
from jinaclip.bulk.files import OutputFolder
from jinaclip.bulk.parts import NAME, Shard, shard_of, suffix_of
from jinaclip.bulk.precision import Precision, check_precision
from jinaclip.errors import ConfigError

logger = logging.getLogger("jinaclip.bulk")
FORMAT = 1
"""Of the folder; grows when an older version could no longer read it."""
MANIFEST = re.compile(r"_manifest(?:-(?P<shard>\d+)of(?P<shards>\d+))?\.json")


@dataclass(frozen=True, slots=True)
class Shape:
    """How the vectors of an output are made and stored.

    Attributes:
        dimensions: of each vector.
        precision: how each number is stored.
        space: the name of the vector space, `JinaClip.space`.
        settings: what else rows depend on, such as how pairs are embedded; JSON values. A resume with others is
            refused.
    """

    dimensions: int
    precision: Precision
    space: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_precision(self.precision, self.dimensions)


@dataclass(slots=True)
class Manifest:
    """What `_manifest.json` holds.

    Times are ISO 8601 in UTC. `finished_at` is None until a run has read all of its source and no stale row is left.
    """

    space: str
    dimensions: int
    precision: str
    settings: dict[str, Any]
    shard: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    started_at: str = ""
    updated_at: str = ""
    finished_at: str | None = None
    format: int = FORMAT
    jinaclip: str = __version__

    @classmethod
    def of(cls, shape: Shape, shard: Shard | None) -> Manifest:
        """The manifest of a run that starts now."""
        name = f"{shard[0]}/{shard[1]}" if shard else None
        settings = json.loads(json.dumps(dict(shape.settings)))  # as it will be read: tuples are lists
        return cls(shape.space, shape.dimensions, shape.precision, settings, name, started_at=now())

    def save(self, folder: OutputFolder, shard: Shard | None) -> None:
        """Writes it."""
        self.updated_at = now()
        folder.write(manifest_name(shard), json.dumps(asdict(self), indent=1).encode())


def now() -> str:
    """The time, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def manifest_name(shard: Shard | None) -> str:
    """Of its file."""
    return f"_manifest{suffix_of(shard)}.json"


def read_manifest(folder: OutputFolder, name: str) -> dict[str, Any] | None:
    """What a manifest holds; None where there is none, or one that is no JSON object.

    Raises:
        ConfigError: it is of a later version.
    """
    try:
        found = json.loads(folder.read(name))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(found, dict):
        return None
    if found.get("format") != FORMAT:
        raise ConfigError(
            f"{folder} was written in format {found.get('format')!r} by jinaclip {found.get('jinaclip')}, and this is "
            f"{__version__}, which knows format {FORMAT}: upgrade jinaclip, or choose another --out",
            option="out",
        )
    return found


def read_manifests(folder: OutputFolder, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the manifests among these files hold, by the names of those that can be read. Raises as `read_manifest`."""
    found = ((name, read_manifest(folder, name)) for name in names if MANIFEST.fullmatch(name))
    return {name: manifest for name, manifest in found if manifest is not None}


def check_resume(folder: OutputFolder, found: Mapping[str, Mapping[str, Any]], new: Manifest) -> None:
    """Refuses to add rows to an output that was begun with other settings, by this run's shard or another.

    Args:
        folder: of the output.
        found: its manifests by their names.
        new: of this run.

    Raises:
        ConfigError: names the first setting that differs, with both values, and the manifest.
    """
    for file, manifest in found.items():
        if difference := _find_difference(manifest, asdict(new)):
            name, before, asked = difference
            raise ConfigError(
                f"{folder} was begun with {name}={before!r} ({file}), and this run has {name}={asked!r}: "
                "run with the same options again, or choose another --out",
                option="out",
            )


def check_alike(folder: OutputFolder, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses to read shards together that were made with different settings.

    Args:
        folder: of the output.
        found: its manifests by their names, one at least.

    Raises:
        ConfigError: names the first setting that differs, with both values, and both manifests.
    """
    (first, one), *others = found.items()
    for file, other in others:
        if difference := _find_difference(one, other):
            name, here, there = difference
            raise ConfigError(
                f"{folder} holds shards that do not belong together: {name}={here!r} in {first}, and {name}={there!r} "
                f"in {file}; embed one of them into another --out"
            )


def _find_difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """The first of what all rows of an output have in common that two manifests say differently."""
    here, there = (
        {name: manifest.get(name) for name in ("space", "precision", "dimensions")} | manifest.get("settings", {})
        for manifest in (one, other)
    )
    names = (name for name in there | here if here.get(name) != there.get(name))
    return next(((name, here.get(name), there.get(name)) for name in names), None)


def warn_of_lost(folder: OutputFolder, names: Sequence[str], found: Mapping[str, Any]) -> None:
    """Tells of parts whose manifest is gone or spoilt, since parts do not say all that it said.

    Args:
        folder: of the output.
        names: of its files.
        found: its manifests by their names.
    """
    parts = filter(None, map(NAME.fullmatch, names))
    for lost in sorted({manifest_name(shard_of(part)) for part in parts} - found.keys()):
        logger.warning(
            "%s has parts, but its %s is gone or cannot be read, so it is not known whether they were made with the "
            "task, pair and weight of this run: if they were not, stop it, and choose another --out",
            folder,
            lost,
        )


def check_shards(folder: OutputFolder, names: list[str], shard: Shard | None) -> None:
    """Refuses another number of shards than the folder has, since rows would then lie in two of them.

    Raises:
        ConfigError: it was written by another number of shards.
    """
    wanted = shard[1] if shard else None
    for name in names:
        match = NAME.fullmatch(name) or MANIFEST.fullmatch(name)
        if match is None:
            continue
        shards = int(match["shards"]) if match["shards"] else None
        if shards != wanted:
            raise ConfigError(
                f"{folder} was written {_shards_text(shards)}, and this run is {_shards_text(wanted)}: use the same "
                "number of shards again, or choose another --out",
                option="shard",
            )


def _shards_text(shards: int | None) -> str:
    return "without --shard" if shards is None else f"in {shards} shards"
