"""The run on Ray Data: this process starts it, shows how it goes on, and ends it.

Ray skips what is done by its own checkpoints. They are made anew at the start of each run, from the rows of the output,
which alone says what is done: so a run here goes on from one without Ray, and the other way round; and items that were
edited since, or that failed and are to be tried again, are not skipped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jinaclip.bulk.index import DONE, FAILED, REPEATED
from jinaclip.bulk.manifest import Shape, manifest_name, read_manifest
from jinaclip.bulk.options import BulkOptions
from jinaclip.bulk.output import Output
from jinaclip.bulk.own_cache import cache_folder, remove_cache
from jinaclip.bulk.progress import Counts, Progress
from jinaclip.bulk.ray_cluster import OWN_CPUS, Machines, data_context, import_ray, is_own, join_ray
from jinaclip.bulk.ray_embed import ActorOptions
from jinaclip.bulk.ray_folders import RunFolder
from jinaclip.bulk.ray_limits import choose_cache, divide_limits
from jinaclip.bulk.ray_plan import Plan, Pool, RayWork, checkpoints, choose_blocks
from jinaclip.bulk.ray_prepare import ImagePreparer
from jinaclip.bulk.ray_read import MOST_READS, Keys, ReadOptions, Salt, group_splits
from jinaclip.bulk.ray_write import WriteOptions, WrittenParts, write_checkpoints
from jinaclip.bulk.report import Report
from jinaclip.bulk.work import expected_items, wait
from jinaclip.clip import JinaClip
from jinaclip.errors import AuthenticationError, ConfigError, InputError, JinaClipError
from jinaclip.sources import Source

LOOK_SECONDS = 60.0
"""For which a run over a finished output looks whether anything is left, before it asks Ray."""
Identities = NDArray[np.uint8]
"""Keys and digests of items, uint8 (n, 32)."""


def run_on_ray(source: Source, out: str | os.PathLike[str], options: BulkOptions, progress: Progress) -> Report:
    """Embeds all of a source by Ray; see `jinaclip.bulk.embed`.

    Raises:
        ConfigError: an option is wrong; the source can only be read by this process; Ray has too few CPUs or GPUs, or
            its settings would lose rows.
        MissingDependencyError: the extra `ray` is not installed.
        OSError: the output cannot be read or written.
        KeyboardInterrupt: Ctrl-C. The first one waits for what is in flight, the second does not; the Report is its
            `partial`.
    """
    began_at = time.monotonic()
    import_ray()
    with ExitStack() as stack:
        clip = stack.enter_context(JinaClip(**{**options.clip, "cache": False, "show_progress": False}))
        preparer = ImagePreparer.of(clip.config, clip.spec.image_size)
        shape = Shape(clip.dimensions, options.precision, clip.space, options.settings)
        output = stack.enter_context(Output(out, shape, shard=options.shard))
        run = Run(source, options, output, preparer)
        run.begin()
        if (seen := run.look()) is not None:
            run.end(seen)
        elif (missing := _missing_key(clip, options)) is not None:
            run.report.stopped = missing
        else:
            machines = stack.enter_context(join_ray(options.address, (options.actors or 1) + OWN_CPUS))
            run.work(machines, progress)
    run.report.seconds = time.monotonic() - began_at
    if run.error is not None:
        run.error.partial = run.report  # type: ignore[attr-defined]
        raise run.error
    return run.report


def _missing_key(clip: JinaClip, options: BulkOptions) -> AuthenticationError | None:
    """What says that there is no key, where actors have none but this process's; those of a cluster may have one."""
    if options.config.backend == "local" or not is_own(options.address):
        return None
    try:
        clip.config.key  # noqa: B018  it raises
    except AuthenticationError as missing:
        return missing
    return None


class Run:
    """A run on Ray.

    Args:
        source: what is embedded.
        options: of the run.
        output: open.
        preparer: prepares images.

    Attributes:
        report: what came of it.
        error: what the caller gets after all is written: the Ctrl-C that ended it, or what is no outcome of a run.
    """

    def __init__(self, source: Source, options: BulkOptions, output: Output, preparer: ImagePreparer) -> None:
        self._source, self._options, self._output, self._preparer = source, options, output, preparer
        self._groups = group_splits(source.splits(), MOST_READS if options.limit is None else 1)
        self._has_images = source.kinds is None or "image" in source.kinds
        self._total = expected_items(source, options)
        self._folder = RunFolder.of(output.folder, options.shard)
        self._read_options = ReadOptions(options, preparer.policy, Salt.draw(), self._folder)
        self._known: Keys = np.zeros(0, np.int64)
        self._follower = WrittenParts(self._folder, output)
        self.error: BaseException | None = None

    @property
    def report(self) -> Report:
        """What came of it."""
        return self._follower.report

    # -- before Ray works

    def begin(self) -> None:
        """Finds out what is done; what a run that was killed left beside its parts goes."""
        self._folder.remove()
        keys, digests = self._output.known(failed=not self._options.retry_failed)
        self._known = np.sort(self._read_options.salt.keys(keys, digests))

    def look(self) -> list[Identities] | None:
        """What the source holds, if all of it is done; None if something is left, or that takes long to tell."""
        manifest = read_manifest(self._output.folder, manifest_name(self._options.shard))
        if not len(self._known) or manifest is None or manifest.get("finished_at") is None:
            return None
        seen, ends_at = list[Identities](), time.monotonic() + LOOK_SECONDS
        read = chain.from_iterable(map(self._read_options.identities, self._groups))
        with suppress(InputError):  # a source that cannot be read to its end: a task will say so
            for identities in read:
                if time.monotonic() > ends_at or not self._are_known(identities).all():
                    return None
                seen.append(identities)
            return seen
        return None

    def _are_known(self, identities: Identities) -> NDArray[np.bool_]:
        """Which of these were done before the run."""
        keys = self._read_options.salt.keys(identities[:, :16], identities[:, 16:])
        places = np.searchsorted(self._known, keys)
        found: NDArray[np.bool_] = np.take(self._known, places, mode="clip") == keys if len(self._known) else places < 0
        return found

    # -- while Ray works

    def work(self, machines: Machines, progress: Progress) -> None:
        """Lets Ray work until all is written, or something ends it.

        Raises:
            ConfigError: Ray has too few CPUs or GPUs, or its settings would lose rows.
            KeyboardInterrupt: the second Ctrl-C.
        """
        plan = self._plan(machines)
        work = RayWork(plan, data_context(checkpoints(self._folder)), self._follower)
        self._output.save_manifest(self.report.counts, finished=False)  # before there are parts of other rows
        write_checkpoints(self._folder, self._known)
        self._folder.note_alive()
        with progress.showing(self._count, self._total):
            work.start()
            interrupt = wait(work, progress, self._options.config.deadline)
        if work.error is None:
            self._follower.follow()
            self.report.stopped = self._folder.read_stop() or work.stopped
            is_early = work.is_ending or self.report.stopped is not None
            self.end(self._folder.read_seen(None if is_early else len(self._groups)), is_early=is_early)
        wrong = self.report.stopped if isinstance(self.report.stopped, ConfigError) else None
        self.error = work.error or interrupt or wrong

    def _plan(self, machines: Machines) -> Plan:
        options, pool = self._options, Pool.of(self._options, machines)
        cache = choose_cache(options.clip["cache"], self._output.folder, options.shard, machines.count)
        clip = divide_limits({**options.clip, "cache": cache, "deadline": None}, pool.actors)
        actor = ActorOptions(clip, self._output.shape, options.task, options.on_error, self._folder)
        preparer = self._preparer if self._has_images else None
        write_options = WriteOptions(self._folder, self._output.shape, options.shard)
        blocks = choose_blocks(self._source, options.config.backend)
        return Plan(self._read_options, self._groups, preparer, blocks, pool, actor, write_options)

    def _count(self) -> Counts:
        """How far it is, by the rows that are written; what was done before is thought to be in the source still."""
        report = self.report
        items = len(self._known) + report.done + report.failed
        known = items if self._total is None else min(items, self._total)
        return Counts(known, report.done + report.failed, report.tokens, report.failed)

    # -- the end

    def end(self, seen: Iterable[Identities], *, is_early: bool = False) -> None:
        """Counts what became of each item, drops rows of items that are gone, and cleans up.

        Args:
            seen: what was read, in the order of the source.
            is_early: whether something ended the run before all was done.
        """
        output, report = self._output, self.report
        output.refresh()
        try:
            self._compare(seen)
        except JinaClipError as error:
            report.stopped, is_early = report.stopped or error, True
        report.whole = not is_early and not self._folder.is_cut()
        if report.left and not is_early:
            report.stopped = JinaClipError(
                f"{report.left} items were read and have no row; the same command embeds them"
            )
        finished = report.whole and not report.left and self._options.limit is None
        if finished:
            found = output.finish()
            report.dropped, report.lost, report.unseen = found.dropped, found.missing, found.unseen
            finished = not found.missing
        output.save_manifest(report.counts, finished=finished)
        self._clean(folders=not is_early and not report.left, cache=finished)

    def _compare(self, seen: Iterable[Identities]) -> None:
        """Looks for the row of each item of the source, and counts anew: a task that Ray ran twice wrote twice."""
        report = self.report
        report.done = report.failed = report.skipped = report.failed_before = 0
        for identities in seen:
            keys, digests = identities[:, :16].copy(), identities[:, 16:].copy()
            states, known = self._output.adopt_seen(keys, digests), self._are_known(identities)
            done, failed = states == DONE, states == FAILED
            report.done += int((done & ~known).sum())
            report.skipped += int((done & known).sum())
            report.failed += int(failed.sum())
            report.failed_before += int((failed & known).sum())
            report.repeated += int((states == REPEATED).sum())
            report.left += int((~done & ~failed & (states != REPEATED)).sum())

    def _clean(self, *, folders: bool, cache: bool) -> None:
        if folders:
            self._folder.remove()
        local: Any = self._output.folder.local
        if cache and local is not None:
            remove_cache(cache_folder(local, self._options.shard))
