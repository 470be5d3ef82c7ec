"""Two sources embed the same sample, and what they give is compared."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jinaclip.call.request import Task
from jinaclip.call.results import ItemFailure, Results
from jinaclip.clip import JinaClip
from jinaclip.compare.measures import Agreement, Kept, Numbers, cosines, keep, norm
from jinaclip.compare.report import Comparison, Identity
from jinaclip.compare.sample import Chosen, Sample, read_sample
from jinaclip.compare.verdict import SAME
from jinaclip.errors import InputError
from jinaclip.hosts import embed

logger = logging.getLogger("jinaclip")


class Column(NamedTuple):
    """Inputs to be embedded together."""

    chosen: Chosen
    kind: Literal["text", "image"]
    task: Task


@dataclass(frozen=True, slots=True)
class Side:
    """A source and what it gave, by kind of inputs."""

    identity: Identity
    results: Mapping[str, Results]


def compare(
    a: JinaClip,
    b: JinaClip,
    sample: Sample | None = None,
    *,
    descriptions: tuple[str, str] = ("", ""),
    close: bool = False,
) -> Comparison:
    """Whether two sources of vectors are one space: both embed the same texts, as documents and as queries, and images.

    No cache is read or written. What costs nothing is embedded first, so that nothing is paid for if it fails. About
    how many tokens the API will be asked for is logged before that.

    Args:
        a: one source.
        b: the other, another object.
        sample: of `read_sample`; None is the small one of the package.
        descriptions: what the report calls the two; unless given, their model, backend and base URL.
        close: whether to close each after its turn, so that two models are never in memory at once.

    Returns:
        Comparison: `verdict`, `reasons`, `agreements` by kind; `str` of it is a page for people. Vectors of different
        widths are two spaces, and nothing is embedded.

    Raises:
        JinaClipError: a source cannot embed at all (no key, no weights, an outage); the message says which.
        BudgetError: the sample would exceed the `token_budget` of a source.
    """
    used = read_sample() if sample is None else sample
    columns = make_columns(used)
    clips = dict(zip("AB", (a, b), strict=True))
    identities = [identify(name, clip, words) for (name, clip), words in zip(clips.items(), descriptions, strict=True)]
    if a.dimensions != b.dimensions:
        return Comparison((identities[0], identities[1]), [*columns], {})
    announce_all(identities, [a, b], columns)
    sides = {}
    for identity in sorted(identities, key=lambda one: clips[one.name].config.backend == "api"):
        sides[identity.name] = embed_side(identity, clips[identity.name], columns, close=close)
    return conclude((sides["A"], sides["B"]), columns, describe_sample(used))


def make_columns(sample: Sample) -> dict[str, Column]:
    """What is embedded, by kind; kinds without inputs are not there."""
    columns = {
        "texts": Column(sample.texts, "text", "document"),
        "queries": Column(sample.texts, "text", "query"),
        "images": Column(sample.images, "image", "document"),
    }
    return {kind: column for kind, column in columns.items() if column.chosen.inputs}


def identify(name: str, clip: JinaClip, description: str) -> Identity:
    """What a source is.

    Raises:
        CheckpointError, ConfigError: as `JinaClip.space` and `JinaClip.fingerprint`.
    """
    config = clip.config
    place = f" at {config.base_url}" if config.backend == "api" else ""
    words = description or f"{config.model}, backend {config.backend}{place}"
    return Identity(name, words, clip.space, clip.fingerprint, clip.dimensions)


def announce_all(identities: Sequence[Identity], clips: Sequence[JinaClip], columns: Mapping[str, Column]) -> None:
    """Logs about what the API will bill, before anything is sent.

    Raises:
        BudgetError: that would exceed `token_budget`.
    """
    for identity, clip in zip(identities, clips, strict=True):
        if clip.config.backend == "api":
            tokens = sum(estimate_column(clip, column) for column in columns.values())
            counts = ", ".join(f"{len(column.chosen.inputs)} {kind}" for kind, column in columns.items())
            logger.info("%s (%s): %s, about %s tokens", identity.name, identity.description, counts, f"{tokens:,}")
            clip.check_budget(tokens)


def estimate_column(clip: JinaClip, column: Column) -> int:
    """About the tokens of a column; what cannot be embedded costs none."""
    own = without_cache(clip)
    tokens = 0
    for item in column.chosen.inputs:
        with suppress(InputError):
            taken = item if column.kind == "text" else own.resolve_image(item)
            tokens += own.estimate([taken], task=column.task).tokens
    return tokens


def without_cache(clip: JinaClip) -> JinaClip:
    """What embeds anew: this object, or the same without its cache."""
    return clip if clip.cache is None else clip.with_cache(False)


def embed_side(identity: Identity, clip: JinaClip, columns: Mapping[str, Column], *, close: bool) -> Side:
    """Everything embedded by one source.

    Raises:
        JinaClipError: it cannot embed at all.
    """
    own = without_cache(clip)
    try:
        return Side(identity, {kind: embed_column(identity, own, column) for kind, column in columns.items()})
    finally:
        if close:
            own.close()


def embed_column(identity: Identity, clip: JinaClip, column: Column) -> Results:
    """The vectors of one kind; inputs may have failed.

    Raises:
        JinaClipError: what ended the call before all was done.
    """
    inputs, names = column.chosen.inputs, column.chosen.names
    results = embed(clip, inputs, task=column.task, kind=column.kind, name=lambda number, _: names[number])
    if results.stopped is not None:
        raise ItemFailure(results.stopped, None, f"{identity.name} ({identity.description})").error()
    return results


def conclude(sides: tuple[Side, Side], columns: Mapping[str, Column], notes: Sequence[str]) -> Comparison:
    """What the vectors of both say.

    Raises:
        JinaClipError: there is no input at all that both embedded; why the first failed.
    """
    both = {kind: sides[0].results[kind].ok & sides[1].results[kind].ok for kind in columns}
    if not any(mask.any() for mask in both.values()):
        raise first_failure(sides)
    agreements = {kind: agree(kind, sides, both, columns) for kind in columns if both[kind].any()}
    identities = (sides[0].identity, sides[1].identity)
    return Comparison(identities, [*columns], agreements, [*name_failures(sides)], notes, find_echo(sides, both))


def first_failure(sides: tuple[Side, Side]) -> Exception:
    """Why the first input failed that did."""
    failures = ((side, failure) for side in sides for r in side.results.values() for failure in r.errors.values())
    side, failure = next(failures)
    return ItemFailure(failure.error(), None, f"nothing can be compared; {side.identity.name}").error()


def name_failures(sides: tuple[Side, Side]) -> Iterator[str]:
    """A line for each input and side that failed."""
    for side in sides:
        for kind, results in side.results.items():
            for failure in results.errors.values():
                yield f"- {side.identity.name}, {kind}: {failure}"


def agree(
    kind: str, sides: tuple[Side, Side], both: Mapping[str, NDArray[np.bool_]], columns: Mapping[str, Column]
) -> Agreement:
    """How far the vectors of one kind agree."""
    ours, theirs = vectors_of(kind, sides, both)
    mask = both[kind]
    names = [name for name, ok in zip(columns[kind].chosen.names, mask, strict=True) if ok]
    lengths = (norm(ours), norm(theirs))
    among = "images" if kind == "images" else "texts"
    kept = keep((ours, theirs), vectors_of(among, sides, both), find_own(mask, both[among]))
    shown = kind == "queries" and "images" in both
    kept_images = keep((ours, theirs), vectors_of("images", sides, both)) if shown else Kept()
    return Agreement(kind, int(mask.sum()), cosines(ours, theirs), names, lengths, kept, kept_images)


def vectors_of(kind: str, sides: tuple[Side, Side], both: Mapping[str, NDArray[np.bool_]]) -> tuple[Any, Any]:
    """The vectors of A and B of those inputs that both embedded."""
    ours, theirs = (side.results[kind].vectors[both[kind]] for side in sides)
    return ours, theirs


def find_own(asked: NDArray[np.bool_], among: NDArray[np.bool_]) -> NDArray[np.intp]:
    """For each input of one mask its row among those of the other mask; -1 where it has none."""
    rows = np.where(among, np.cumsum(among) - 1, -1)
    return rows[asked]


def find_echo(sides: tuple[Side, Side], both: Mapping[str, NDArray[np.bool_]]) -> str | None:
    """The side whose queries are its documents, while the other's are not."""
    mask = both.get("texts", np.zeros(0, bool)) & both.get("queries", np.zeros(0, bool))
    if not mask.any():
        return None
    least: dict[str, Numbers] = {
        side.identity.name: cosines(side.results["texts"].vectors[mask], side.results["queries"].vectors[mask]).min()
        for side in sides
    }
    echoes = [name for name, value in least.items() if value >= SAME]
    return echoes[0] if len(echoes) == 1 else None


def describe_sample(sample: Sample) -> list[str]:
    """What the figures rest on."""
    if sample.built_in:
        texts, images = len(sample.texts.inputs), len(sample.images.inputs)
        few = f"sample: {texts} texts and {images} images of the package, which is few"
        return [f"{few}; name files of your own to be surer"]
    chosen = (("texts", sample.texts), ("images", sample.images))
    return [f"sample: {len(one.inputs):,} of {one.found:,} {kind}" for kind, one in chosen if one.found]
