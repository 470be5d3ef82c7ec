"""`embed`: one run from a source to an output, as the command and as Python start it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any

from jinaclip.bulk.blocks import check_kinds
from jinaclip.bulk.files import OutputFolder, check_apart, check_extra
from jinaclip.bulk.items import PairMode
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.options import BulkOptions, Executor, OnError, read_shard
from jinaclip.bulk.output import Output
from jinaclip.bulk.own_cache import cache_folder, logged_bytes, open_cache, remove_cache
from jinaclip.bulk.parts import Shard
from jinaclip.bulk.pipeline import Pipeline
from jinaclip.bulk.precision import Precision
from jinaclip.bulk.progress import PipelineCounter, Progress, show_progress_of
from jinaclip.bulk.ray_folders import RunFolder
from jinaclip.bulk.report import Report
from jinaclip.bulk.work import expected_items, wait
from jinaclip.cache import Cache
from jinaclip.cache.place import ENVIRONMENT
from jinaclip.call.request import Task
from jinaclip.clip import JinaClip
from jinaclip.config import EmbedderConfig
from jinaclip.errors import ConfigError
from jinaclip.sources import Columns, Source, close_documents, open_source
from jinaclip.sources.image_files import ImageFileSource
from jinaclip.sources.opening import SourceLike


def embed(
    source: SourceLike,
    out: str | os.PathLike[str],
    *,
    id: str | None = None,  # noqa: A002  the column's own name
    text: str | None = None,
    image: str | None = None,
    pair: PairMode | None = None,
    weight: float = 0.5,
    task: Task = "document",
    precision: Precision = "float32",
    on_error: OnError = "keep",
    retry_failed: bool = False,
    limit: int | None = None,
    shard: str | Shard | None = None,
    executor: Executor = "local",
    address: str | None = None,
    actors: int | None = None,
    gpus_per_actor: float | None = None,
    clip: JinaClip | None = None,
    show_progress: bool | None = None,
    **options: Any,
) -> Report:
    """Embeds all of a source into Parquet files; what an earlier run of the same output has done is skipped.

    Args:
        source: a folder, a file, a glob, an address of either such as s3://bucket/products.parquet, "-" for standard
            input, or mappings from Python; see docs/bulk.md.
        out: the folder of the output, a path or an address.
        id: name of the column that tells rows apart; "id" unless given.
        text: name of the column of texts; "text" unless given, if there is such.
        image: name of the column of images; "image" unless given, if there is such.
        pair: what becomes of a row with a text and an image: "fuse" makes one vector of both, "both" one of each.
        weight: share of the text in a fused vector, from 0 to 1.
        task: "document" or "query", for texts.
        precision: of the vectors: "float32", "float16", "int8" (with a scale by row) or "ubinary" (bits).
        on_error: "keep" writes why an item failed and goes on; "stop" ends the run with the first that fails.
        retry_failed: try again what failed in an earlier run.
        limit: look at so many rows at most; nothing is dropped as deleted then.
        shard: "i/n", or (i, n): embed the i-th of n shares of the rows, told apart by their ids.
        executor: "local", or "ray" for Ray Data, which needs the extra `ray`.
        address: of a Ray cluster.
        actors: of Ray that embed.
        gpus_per_actor: of Ray.
        clip: embeds, instead of one that is made of `options`; it is not closed.
        show_progress: whether to draw a bar; unless given on a terminal. Elsewhere a line is logged every 30 s.
        options: of JinaClip. `deadline` are the seconds of the whole run; without `cache` and JINACLIP_CACHE the run
            has a cache of its own in the output, which is removed when the output is finished.

    Returns:
        The Report. What ends a run early (no key, an empty balance, an outage, a spent `token_budget`) is in its
        `stopped`; all that was answered is written, and the same call goes on from there.

    Raises:
        ConfigError: an option is wrong; the output was begun with another `space` or other settings, or another run
            writes to it; or rows have a text and an image, and there is no `pair`.
        MissingDependencyError: an extra is not installed.
        OSError: the output cannot be read or written.
        KeyboardInterrupt: Ctrl-C. The first one waits for what is in flight, which is written too, the second does not;
            the Report is its `partial`.
    """
    bulk = make_options(
        clip,
        options,
        columns=Columns(id, text, image),
        pair=pair,
        weight=weight,
        task=task,
        precision=precision,
        on_error=on_error,
        retry_failed=retry_failed,
        limit=limit,
        shard=read_shard(shard),
        executor=executor,
        address=address,
        actors=actors,
        gpus_per_actor=gpus_per_actor,
    )
    if bulk.executor == "ray":
        bulk = bulk.fix_roots()
    opened = open_checked(source, out, bulk)
    if bulk.executor == "ray":
        from jinaclip.bulk.ray_run import run_on_ray

        return run_on_ray(opened, out, bulk, show_progress_of(show_progress))
    with ExitStack() as stack:
        stack.callback(close_documents)
        place = make_place(clip, bulk, OutputFolder(out), stack)
        return run(place, opened, bulk, show_progress_of(show_progress))


def open_checked(source: SourceLike, out: str | os.PathLike[str], options: BulkOptions) -> Source:
    """The source of a run, which fits its options and its output. Raises as `embed`."""
    check_extra()
    opened = open_source(source, options.columns, policy=options.config.image_policy)
    check_kinds(opened, options)
    if not isinstance(opened, ImageFileSource):
        check_apart(source, out)
    return opened


def make_options(clip: JinaClip | None, options: Mapping[str, Any], **bulk: Any) -> BulkOptions:
    """The options of a run, checked; those of JinaClip are of `clip`, if one is given.

    Raises:
        ConfigError: one is wrong, or both a clip and options of it are given.
    """
    if clip is not None and options:
        raise ConfigError(f"a clip has its options; {', '.join(sorted(options))} cannot be given beside it")
    config = EmbedderConfig(**options) if clip is None else clip.config
    return BulkOptions(clip=config.options(), **bulk)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run embeds and writes.

    Attributes:
        clip: embeds.
        output: is written to.
        cache: of the run itself; None if the user has another, or none.
        ends_after: seconds of the whole run; None for any number.
    """

    clip: JinaClip
    output: Output
    cache: Cache | None
    ends_after: float | None


def make_place(clip: JinaClip | None, options: BulkOptions, folder: OutputFolder, stack: ExitStack) -> Place:
    """Opens the output and what embeds; nothing is sent, and no weights are loaded.

    Raises as `embed`.
    """
    cache = own_cache(options, folder)
    if cache is not None:
        stack.callback(cache.close)
    choice = {"cache": cache or True} if needs_cache(options) else {}
    seconds = None
    if clip is None:
        seconds = options.config.deadline
        clip = stack.enter_context(JinaClip(**{**options.clip, "deadline": None, "show_progress": False, **choice}))
    elif choice:
        clip = clip.with_cache(choice["cache"])
    shape = shape_of(clip, options)
    vectors = 2 if options.pair == "fuse" else 1  # that an item has in the cache, beside its row
    beside = 0 if cache is None else vectors * logged_bytes(clip.spec.dimensions)
    output = stack.enter_context(Output(folder, shape, shard=options.shard, beside=beside))
    RunFolder.of(folder, options.shard).remove()  # what a run on Ray that was killed left
    return Place(clip, output, cache, seconds)


def shape_of(clip: JinaClip, options: BulkOptions) -> Shape:
    """Of the output."""
    return Shape(clip.dimensions, options.precision, clip.space, options.settings)


def needs_cache(options: BulkOptions) -> bool:
    """Whether the user has said nothing of a cache."""
    return options.clip["cache"] is None and not os.environ.get(ENVIRONMENT, "").strip()


def own_cache(options: BulkOptions, folder: OutputFolder) -> Cache | None:
    """The run's own cache, in a local output, so that a kill costs no more than what was in flight."""
    if folder.local is None or not needs_cache(options):
        return None
    return open_cache(cache_folder(folder.local, options.shard))


def run(place: Place, source: Source, options: BulkOptions, progress: Progress) -> Report:
    """Runs until all is done, or something ends it. Raises as `embed`."""
    began_at = time.monotonic()
    pipeline = Pipeline(place.clip, source, place.output, options)
    with progress.showing(PipelineCounter(pipeline, place.clip).count, expected_items(source, options)):
        pipeline.start()
        interrupt = wait(pipeline, progress, place.ends_after)
    pipeline.report.seconds = time.monotonic() - began_at
    folder = place.output.folder.local
    if place.cache is not None:
        place.cache.close()
    if pipeline.finished and folder is not None:
        remove_cache(cache_folder(folder, options.shard))
    error = interrupt or pipeline.error
    if error is None:
        return pipeline.report
    with suppress(AttributeError):
        error.partial = pipeline.report  # type: ignore[attr-defined]
    raise error
