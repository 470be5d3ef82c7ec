"""Ray itself: one is started here, or one that runs is joined; what it has is compared with what is needed."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jinaclip.errors import ConfigError, JinaClipError
from jinaclip.process import available_cpus
from jinaclip.requirements import missing_dependency

if TYPE_CHECKING:
    from ray.data import DataContext

logger = logging.getLogger("jinaclip.bulk")
OWN_CPUS = 2
"""Beside those of the actors: for the one that filters what is done, and for a task that reads, prepares or writes."""
BLOCK_BYTES = 16 * 2**20
"""Of a block between two operators."""
LOUD = ("ray", "ray.data")
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal"}
"""Of the environment, unless the user has set them: Ray tells nobody of the run, and its C++ part prints nothing."""


@dataclass(frozen=True, slots=True)
class Machines:
    """What a Ray consists of.

    Attributes:
        count: machines.
        cpus, gpus: of all of them.
    """

    count: int
    cpus: float
    gpus: float


def import_ray() -> Any:
    """The module, with Ray Data.

    Raises:
        MissingDependencyError: the extra `ray` is not installed.
        ConfigError: it is too old for checkpoints.
    """
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as missing:
        raise missing_dependency("executor='ray'", missing.name, "ray") from None
    try:
        import ray.data.checkpoint
    except ModuleNotFoundError:
        raise ConfigError(
            f"executor='ray' needs the checkpoints of Ray Data, which Ray {ray.__version__} does not have: upgrade it",
            option="executor",
        ) from None
    return ray


@contextmanager
def join_ray(address: str | None, cpus: float) -> Iterator[Machines]:
    """Connects to a Ray for as long as the `with` lasts.

    One that this process is connected to already is used, and stays. Else one is started on this machine, and ends with
    the `with`; or, with an address, the one there is joined and left.

    Args:
        address: None, "auto", "host:port" or "ray://host:port".
        cpus: how many actors and tasks need at least.

    Raises:
        JinaClipError: it does not start, or nothing answers at the address.
    """
    ray = import_ray()
    if ray.is_initialized():
        if address is not None:
            logger.warning("this process is connected to a Ray already, which is used; address=%r is not", address)
        yield _count(ray)
        return
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        _connect(ray, address, cpus)
        yield _count(ray)
    finally:
        ray.shutdown()


def is_own(address: str | None) -> bool:
    """Whether `join_ray` would start a Ray on this machine, whose actors have the environment of this process."""
    return address is None and not import_ray().is_initialized()


def _connect(ray: Any, address: str | None, cpus: float) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        own = {"num_cpus": max(available_cpus(), int(cpus) + 1), "include_dashboard": False}
        options |= {"address": "local", **own}
    else:
        options["address"] = address
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises bare Exceptions too, for a start that takes too long
        where = "does not start here" if address is None else f"cannot be joined at {address!r}"
        raise JinaClipError(f"Ray {where}: {first_line(error)}") from error


def _count(ray: Any) -> Machines:
    resources = ray.cluster_resources()
    alive = sum(1 for node in ray.nodes() if node["Alive"])
    return Machines(alive, resources.get("CPU", 0.0), resources.get("GPU", 0.0))


def check_room(machines: Machines, actors: int, gpus: float) -> None:
    """Refuses what Ray would wait for without an end.

    Raises:
        ConfigError: there are fewer CPUs or GPUs than the actors and one task need.
    """
    if machines.cpus < actors + OWN_CPUS:
        raise ConfigError(
            f"actors={actors} need {actors + OWN_CPUS} CPUs of Ray, one each and {OWN_CPUS} for all else, and it has "
            f"{machines.cpus:g}: use fewer actors, or start Ray with more (ray start --num-cpus)",
            option="actors",
        )
    if machines.gpus < actors * gpus:
        raise ConfigError(
            f"actors={actors} with gpus_per_actor={gpus:g} need {actors * gpus:g} GPUs of Ray, and it has "
            f"{machines.gpus:g}",
            option="gpus_per_actor",
        )


def data_context(checkpoint: Any) -> DataContext:
    """The settings of Ray Data for a run: the caller's, with these checkpoints and bounded blocks.

    Raises:
        ConfigError: the caller's settings lose rows, or are checkpoints of the caller's own.
    """
    from ray.data import DataContext

    own = DataContext.get_current()
    if own.max_errored_blocks:
        raise ConfigError(
            f"DataContext.max_errored_blocks={own.max_errored_blocks} makes Ray drop blocks whose task fails, and say "
            "nothing: set it to 0. An item that fails keeps its row here, with the error"
        )
    if own.checkpoint_config is not None:
        raise ConfigError("DataContext.checkpoint_config is set, and this run needs checkpoints of its own: unset it")
    context = own.copy()
    context.checkpoint_config = checkpoint
    context.target_max_block_size = BLOCK_BYTES
    context.enable_progress_bars = False
    context.use_datasource_v2 = False  # else Ray starts 32 processes to read its checkpoints, which takes half a minute
    return context


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Keeps Ray's own lines about its plans and operators from the screen; its errors are told by ours."""
    levels = {name: logging.getLogger(name).level for name in LOUD}
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def first_line(error: BaseException) -> str:
    """Of the text of an error of Ray's, the line that says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    with suppress(IndexError):
        return lines[-1][:300]
    return type(error).__name__
