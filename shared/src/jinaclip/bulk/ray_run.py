"""The run on Ray Data: read, prepare, embed and write are operators of Ray's; this process starts and ends the run.

Ray skips what is done by its own checkpoints. They are made anew at the start of each run, from the rows of the output,
which alone says what is done: so a run here goes on from one without Ray, and the other way round; and items that were
edited since, or that failed and are to be tried again, are not skipped.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from jinaclip.bulk.index import DONE, FAILED, REPEATED
from jinaclip.bulk.manifest import Shape
from jinaclip.bulk.options import BulkOptions
from jinaclip.bulk.output import Output
from jinaclip.bulk.own_cache import cache_name, remove_cache
from jinaclip.bulk.ray_cluster import (
    OWN_CPUS,
    Machines,
    check_room,
    data_context,
    first_line,
    import_ray,
    join_ray,
    quiet_logs,
)
from jinaclip.bulk.ray_collect import Collector, collecting, write_checkpoints
from jinaclip.bulk.ray_embed import ActorOptions, Embedder
from jinaclip.bulk.ray_folders import RunFolder
from jinaclip.bulk.ray_limits import choose_cache, divide_limits
from jinaclip.bulk.ray_prepare import Fitting
from jinaclip.bulk.ray_read import KEY, Reading, Salt, group_splits, make_datasource
from jinaclip.bulk.report import Report
from jinaclip.clip import JinaClip
from jinaclip.errors import ConfigError, JinaClipError
from jinaclip.sources import Source

if TYPE_CHECKING:
    from ray.data import Dataset

logger = logging.getLogger("jinaclip.bulk")
TEXT_ROWS, IMAGE_ROWS = 512, 64
"""Items that an actor is handed at once, and rows of a write task: what Ray embeds again when a machine is lost."""
CALLS = {"api": 4, "local": 2}
"""Of an actor at once, by backend, so that neither the service nor the engine waits for the next block."""
DROPPED = ".*heckpointing will be disabled"
"""What Ray warns of when it runs a plan without its checkpoints."""


def run_on_ray(source: Source, out: str | os.PathLike[str], options: BulkOptions) -> Report:
    """Embeds all of a source by Ray; see `jinaclip.bulk.embed`.

    Raises:
        ConfigError: an option is wrong, or means nothing on Ray; the source can only be read by this process; Ray has
            too few CPUs or GPUs, or its settings would lose rows.
        MissingDependencyError: the extra `ray` is not installed.
        KeyboardInterrupt: Ctrl-C. What Ray has written stays; the Report is its `partial`.
    """
    began_at = time.monotonic()
    import_ray()
    check_options(options)
    groups = group_splits(source.splits())
    with ExitStack() as stack:
        clip = stack.enter_context(JinaClip(**{**options.clip, "cache": False, "show_progress": False}))
        shape = Shape(clip.dimensions, options.precision, clip.space, options.settings)
        fitting = Fitting.of(clip.config, clip.spec.image_size)
        output = stack.enter_context(Output(out, shape, shard=options.shard))
        machines = stack.enter_context(join_ray(options.address, (options.actors or 1) + OWN_CPUS))
        run = Run(source, options, output, groups, fitting, machines)
        report = run.go()
    report.seconds = time.monotonic() - began_at
    if run.interrupt is not None:
        run.interrupt.partial = report  # type: ignore[attr-defined]
        raise run.interrupt
    return report


def check_options(options: BulkOptions) -> None:
    """Refuses what a run on Ray has not.

    Raises:
        ConfigError: `limit` or `deadline` is set.
    """
    if options.limit is not None:
        raise ConfigError(
            "limit means nothing with executor='ray', whose tasks read at once: use shard", option="limit"
        )
    if options.clip.get("deadline") is not None:
        raise ConfigError("deadline means nothing with executor='ray': end the run with Ctrl-C", option="deadline")


@dataclass(frozen=True, slots=True)
class Pool:
    """The actors of a run.

    Attributes:
        actors: how many.
        gpus: of each; a share of one is possible.
    """

    actors: int
    gpus: float

    @classmethod
    def of(cls, options: BulkOptions, machines: Machines) -> Pool:
        """As the user says; else one actor for each GPU on the local backend, or one."""
        is_local = options.config.backend == "local" and options.config.device != "cpu"
        gpus = options.gpus_per_actor
        if gpus is None:
            gpus = 1.0 if is_local and machines.gpus else 0.0
        actors = options.actors or (max(1, int(machines.gpus / gpus)) if gpus else 1)
        check_room(machines, actors, gpus)
        return cls(actors, gpus)


class Run:
    """A run on Ray that is under way.

    Attributes:
        interrupt: the Ctrl-C that ended it, or None.
    """

    def __init__(
        self,
        source: Source,
        options: BulkOptions,
        output: Output,
        groups: list[Any],
        fitting: Fitting,
        machines: Machines,
    ) -> None:
        self._options, self._output, self._groups = options, output, groups
        self._fitting, self._machines = fitting, machines
        self._has_images = source.kinds is None or "image" in source.kinds
        self._rows = IMAGE_ROWS if self._has_images else TEXT_ROWS
        self._pool = Pool.of(options, machines)
        self._folder = RunFolder.of(output.folder, options.shard)
        self._cache_name = cache_name(options.shard)
        self._salt = Salt.draw()
        self._known = np.zeros(0, np.int64)
        self.interrupt: KeyboardInterrupt | None = None

    def go(self) -> Report:
        """Runs it."""
        self._begin()
        collector = self._make_collector()
        stopped = self._execute(collector)
        collector.finish()
        report = collector.report
        report.stopped = stopped
        self._end(report)
        return report

    def _make_collector(self) -> Collector:
        return Collector(self._folder, self._output.folder, self._output.shape, self._options.shard)

    def _begin(self) -> None:
        """Takes in what an earlier run that was killed has written, and tells Ray what is done."""
        self._make_collector().recover()
        self._folder.remove()
        self._output.refresh()
        keys, digests = self._output.known(failed=not self._options.retry_failed)
        self._known = self._salt.keys(keys, digests)
        write_checkpoints(self._folder, self._known)

    # -- while Ray works

    def _execute(self, collector: Collector) -> JinaClipError | None:
        """Lets Ray work until all is written; gives what ended it before, if anything did."""
        import ray

        context = data_context(self._checkpoints())
        try:
            with quiet_logs(), collecting(collector), ray.data.DataContext.current(context):
                self._write(self._plan())
        except KeyboardInterrupt as interrupt:
            self.interrupt = interrupt
        except ray.exceptions.RayError as error:
            logger.debug("Ray ended the run", exc_info=True)
            return self._folder.read_stop() or JinaClipError(f"Ray ended the run: {first_line(error)}")
        return self._folder.read_stop()

    def _checkpoints(self) -> Any:
        from ray.data.checkpoint import CheckpointConfig

        place = self._folder.checkpoints
        return CheckpointConfig(
            KEY, place.path, override_filesystem=place.filesystem, delete_checkpoint_on_success=False
        )

    def _plan(self) -> Dataset:
        """Reads, prepares and embeds. Blocks between prepare and embed are bounded by rows, so writes are, too."""
        import ray

        options, rows = self._options, self._rows
        reading = Reading(options, self._fitting.policy, self._salt, self._folder)
        items = ray.data.read_datasource(
            make_datasource(reading, self._groups), override_num_blocks=max(1, len(self._groups))
        )
        settings: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": rows, "zero_copy_batch": True}
        prepared = items.map_batches(self._fitting, **settings) if self._has_images else items
        bounded = prepared.repartition(target_num_rows_per_block=rows)
        calls = CALLS[options.config.backend]
        pool = ray.data.ActorPoolStrategy(
            size=self._pool.actors,
            max_tasks_in_flight_per_actor=2 * calls,
            max_concurrent_calls_per_actor=calls,
            enable_true_multi_threading=True,
        )
        arguments = (self._actor_options(),)
        resources = {"num_cpus": 1, "num_gpus": self._pool.gpus}
        return bounded.map_batches(Embedder, fn_constructor_args=arguments, compute=pool, **resources, **settings)

    def _actor_options(self) -> ActorOptions:
        options = self._options
        cache = choose_cache(options.clip["cache"], self._output.folder, self._cache_name, self._machines.count)
        clip = divide_limits({**options.clip, "cache": cache, "deadline": None}, self._pool.actors)
        return ActorOptions(clip, self._output.shape, options.task, options.on_error, self._folder)

    def _write(self, rows: Dataset) -> None:
        place = self._folder.rows
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"ray\.")  # it has many, for authors of pipelines
            warnings.filterwarnings("error", DROPPED)
            try:
                rows.write_parquet(place.path, filesystem=place.filesystem)
            except UserWarning as warning:
                raise ConfigError(f"Ray would run without its checkpoints: {warning}") from None

    # -- the end

    def _end(self, report: Report) -> None:
        """Counts what became of each item, drops rows of items that are gone, and cleans up."""
        output = self._output
        output.refresh()
        is_over = report.stopped is None and self.interrupt is None
        if is_over:
            try:
                self._compare(report)
            except JinaClipError as error:
                report.stopped, is_over = error, False
        finished = is_over and not report.left
        if finished:
            found = output.finish()
            report.dropped, report.lost, report.unseen = found.dropped, found.missing, found.unseen
            finished = not found.missing
        output.save_manifest(report.counts, finished=finished)
        if finished:
            self._clean()

    def _compare(self, report: Report) -> None:
        """Looks for the row of each item of the source, and counts anew: a task that Ray ran twice wrote twice."""
        report.done = report.failed = report.skipped = report.failed_before = 0
        for seen in self._folder.read_seen(len(self._groups)):
            keys, digests = seen[:, :16].copy(), seen[:, 16:].copy()
            states = self._output.adopt_seen(keys, digests)
            known = np.isin(self._salt.keys(keys, digests), self._known)
            done, failed = states == DONE, states == FAILED
            report.done += int((done & ~known).sum())
            report.skipped += int((done & known).sum())
            report.failed += int(failed.sum())
            report.failed_before += int((failed & known).sum())
            report.repeated += int((states == REPEATED).sum())
            report.left += int((~done & ~failed & (states != REPEATED)).sum())
        report.whole = True
        if report.left:
            report.stopped = JinaClipError(
                f"{report.left} items were read and have no row; the same command embeds them"
            )

    def _clean(self) -> None:
        self._folder.remove()
        if self._output.folder.local is not None:
            remove_cache(self._output.folder.local / self._cache_name)
