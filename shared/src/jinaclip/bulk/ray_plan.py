"""What Ray does: read, prepare, embed and write are operators of its own, in a thread that a run waits for."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from jinaclip.bulk.options import BulkOptions
from jinaclip.bulk.ray_cluster import Machines, check_room, first_line, quiet_logs
from jinaclip.bulk.ray_embed import ActorOptions, Embedder
from jinaclip.bulk.ray_folders import RunFolder
from jinaclip.bulk.ray_prepare import ImagePreparer
from jinaclip.bulk.ray_read import KEY, ReadOptions, make_datasource
from jinaclip.bulk.ray_write import WriteOptions, WrittenParts, follow_in_thread, make_datasink
from jinaclip.errors import ConfigError, JinaClipError
from jinaclip.hosts import Backend, Latch, start_thread
from jinaclip.sources import Source, Split

if TYPE_CHECKING:
    from ray.data import DataContext, Dataset

logger = logging.getLogger("jinaclip.bulk")
IMAGE_ROWS = 64
"""Images of a block: they are prepared on many CPUs."""
APART: dict[str, Any] = {"memory": 1}
"""What a task asks for which prepares images, a byte. Where it asked for the same as an actor does, Ray would make one
operator of both, and actors would prepare."""
FIRST_ROWS = 256
"""Rows of a source that are looked at for images, where nothing else tells."""
DROPPED = ".*heckpointing will be disabled"
"""What Ray warns of when it runs a plan without its checkpoints."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """What Ray cuts the items into. Each costs it some 60 ms, whatever is in it.

    Attributes:
        rows: most items of one: what an actor is handed at once, what a task writes, and what Ray embeds again when a
            machine is lost.
        calls: blocks that an actor embeds at once, so that neither the service nor the engine waits for the next.
    """

    rows: int
    calls: int


TEXT_BLOCKS = {"api": Blocks(4096, 4), "local": Blocks(2048, 2)}
"""By backend. An actor has at most 16,384 texts in flight, and its log holds 65,000 vectors."""
IMAGE_BLOCKS = {"api": Blocks(IMAGE_ROWS, 8), "local": Blocks(IMAGE_ROWS, 2)}


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
        """As the user says; else one actor for each GPU on the local backend, or one.

        Raises:
            ConfigError: Ray has too few CPUs or GPUs.
        """
        is_local = options.config.backend == "local" and options.config.device != "cpu"
        gpus = options.gpus_per_actor
        if gpus is None:
            gpus = 1.0 if is_local and machines.gpus else 0.0
        actors = options.actors or (max(1, int(machines.gpus / gpus)) if gpus else 1)
        check_room(machines, actors, gpus)
        return cls(actors, gpus)


@dataclass(frozen=True, slots=True)
class Plan:
    """The operators of a run.

    Attributes:
        read_options: what read tasks need.
        groups: of splits of the source, one for each read task.
        preparer: prepares images; None where there are none.
        blocks: what the items are cut into.
        pool: of actors.
        actor: what actors need.
        write_options: what write tasks need.
    """

    read_options: ReadOptions
    groups: Sequence[Sequence[Split[Any]]]
    preparer: ImagePreparer | None
    blocks: Blocks
    pool: Pool
    actor: ActorOptions
    write_options: WriteOptions

    def write(self) -> None:
        """Lets Ray work until all is written.

        Raises:
            ConfigError: Ray would do so without its checkpoints.
        """
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"ray\.")  # it has many, for authors of pipelines
            warnings.filterwarnings("error", DROPPED)
            try:
                self._rows().write_datasink(make_datasink(self.write_options))
            except UserWarning as warning:
                raise ConfigError(f"Ray would run without its checkpoints: {warning}") from None

    def _rows(self) -> Dataset:
        """Blocks are bounded by rows, and once images are prepared by bytes too; what is written keeps these bounds."""
        # a block at a time: where a batch has a size, Ray joins blocks until it is reached, whatever their bytes
        settings: dict[str, Any] = {"batch_format": "pyarrow", "zero_copy_batch": True, "batch_size": None}
        bounded = self._items().repartition(target_num_rows_per_block=self.blocks.rows)
        prepared = bounded
        if self.preparer is not None:
            prepared = bounded.map_batches(self.preparer, **APART, **settings)
        settings |= {"num_cpus": 1, "num_gpus": self.pool.gpus}
        arguments = (self.actor,)
        return prepared.map_batches(Embedder, fn_constructor_args=arguments, compute=self._actors(), **settings)

    def _items(self) -> Dataset:
        import ray

        source = make_datasource(self.read_options, self.groups)
        return ray.data.read_datasource(source, override_num_blocks=max(1, len(self.groups)))

    def _actors(self) -> Any:
        import ray

        calls = self.blocks.calls
        return ray.data.ActorPoolStrategy(
            size=self.pool.actors,
            max_tasks_in_flight_per_actor=2 * calls,
            max_concurrent_calls_per_actor=calls,
            enable_true_multi_threading=True,
        )


def choose_blocks(source: Source, backend: Backend) -> Blocks:
    """By what the source holds; of one that does not say so, the first rows tell.

    Images that come later are prepared, too, by fewer tasks.
    """
    if source.kinds is not None:
        return (IMAGE_BLOCKS if "image" in source.kinds else TEXT_BLOCKS)[backend]
    with suppress(JinaClipError):  # whoever reads it for the run says so
        if any(row.image is not None for row in islice(source.rows(), FIRST_ROWS)):
            return IMAGE_BLOCKS[backend]
    return TEXT_BLOCKS[backend]


def checkpoints(folder: RunFolder) -> Any:
    """The settings of Ray's checkpoints."""
    from ray.data.checkpoint import CheckpointConfig

    place = folder.checkpoints
    return CheckpointConfig(KEY, place.path, override_filesystem=place.filesystem, delete_checkpoint_on_success=False)


class RayWork:
    """Ray at work, in a thread, so that what Ctrl-C raises in the caller's, which only waits, strikes nothing halfway.

    Args:
        plan: what it does.
        context: the settings of Ray Data.
        follower: follows what it writes.

    Attributes:
        over: set once all is written, or nothing more comes.
        stopped: why Ray ended before all was done, if it did so of itself.
        error: what went wrong with the run itself, such as a full disk.
        is_ending: whether somebody called `stop`.
    """

    def __init__(self, plan: Plan, context: DataContext, follower: WrittenParts) -> None:
        self.over = Latch()
        self.stopped: JinaClipError | None = None
        self.error: BaseException | None = None
        self.is_ending = False
        self._plan, self._context, self._follower = plan, context, follower

    def start(self) -> None:
        """Starts it."""
        start_thread("jinaclip-bulk-ray", self._work)

    def stop(self, cause: JinaClipError | None = None) -> None:
        """Lets all tasks end the run: what is in flight is waited for and written."""
        self.is_ending, folder = True, self._plan.read_options.folder
        if cause is None:
            folder.note_over()
        else:
            folder.note_stop(cause)

    def abandon(self) -> None:
        """Ends at once: nothing is waited for. Ray goes on until it is shut down; a part is whole or not there."""
        self._follower.close()

    def _work(self) -> None:
        import ray

        try:
            with quiet_logs(), follow_in_thread(self._follower), ray.data.DataContext.current(self._context):
                self._plan.write()
        except ray.exceptions.RayError as error:
            logger.debug("Ray ended the run", exc_info=True)
            self.stopped = JinaClipError(f"Ray ended the run: {first_line(error)}")
        except BaseException as error:  # noqa: BLE001  it goes to whoever waits
            self.error = error
        finally:
            self.over.set()
