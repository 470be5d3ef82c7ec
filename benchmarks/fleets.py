"""What rows pass on a fleet of GPUs or through the hosted service, as plans for `simulation.py`, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from assumptions import TIERS, Figures
from simulation import HOUR_S, Faults, Outcome, Plan, Station

from jinaclip.bulk.ray_plan import IMAGE_BLOCKS, TEXT_BLOCKS

MEGA, GIGA, GIB = 1e6, 1e9, 2**30
CLIENT_START_S = 10
"""Until a machine without a model sends."""
TEXT_BYTES = 5
"""Of a token, on the way to the service."""


@dataclass(frozen=True, slots=True)
class Work:
    """What is embedded."""

    kind: str
    """"image" or "text"."""
    model: str
    """"v1" or "v2"."""
    rows: int


@dataclass(frozen=True, slots=True)
class Settings:
    """How it is run."""

    figures: Figures
    executor: str = "shards"
    """"shards": `--shard i/n`, each machine reads the whole source and embeds its share; "tables": each has a source of
    its own; "ray": all take from one queue, which a driver fills."""
    on_demand: bool = False
    """Whether machines are not taken away, at their price."""
    shared_cache: bool = False
    """Whether vectors survive the machine that made them."""
    part_rows: int = 8192
    prefixes: int = 1
    """Partitioned prefixes of the bucket that the images lie in."""
    seed: int = 0


# -- plans


def faults(figures: Figures, *, spot: bool) -> Faults:
    """What goes wrong; only spot machines are taken away."""
    return Faults(
        failed_requests=figures("failed_requests"),
        outages_a_day=figures("outages_a_day"),
        outage_s=figures("outage_min") * 60,
        stragglers=figures("stragglers"),
        straggler_factor=figures("straggler_factor"),
        preemptions_an_hour=figures("preemptions_an_hour") if spot else 0.0,
        restart_s=figures("restart_min") * 60,
    )


def row_station(figures: Figures, microseconds: float) -> Station:
    """The part of a row's way that one process does on one core, whatever embeds it."""
    return Station("one process (rows)", MEGA / microseconds)


def writer(work: Work, figures: Figures) -> Station:
    """Parquet of float32 vectors."""
    width = 768 if work.model == "v1" else 1024
    return Station("writing Parquet", figures("write_mb") * MEGA / (4 * width))


def gflop(work: Work, figures: Figures) -> float:
    """Of a row."""
    if work.kind == "image":
        return figures(f"{work.model}_image_gflop")
    return figures(f"{work.model}_token_gflop") * figures("text_tokens")


def reading(machines: int, settings: Settings) -> Iterator[Station]:
    """With `--shard i/n` each machine reads the rows of all, to find its own."""
    if settings.executor == "shards":
        yield Station("reading the source", MEGA / settings.figures("read_us") / machines)


def gpu_stations(work: Work, gpu: str, settings: Settings) -> Iterator[Station]:
    """What a row passes on a fleet of GPUs, one a machine."""
    figures = settings.figures
    yield Station("GPU", figures(f"{gpu}_tflops") * 1000 * figures("mfu") / gflop(work, figures))
    yield row_station(figures, figures("row_us"))
    yield writer(work, figures)
    if work.kind == "image":
        yield Station("CPUs (decoding)", figures(f"{gpu}_cores") * 1000 / figures(f"{work.model}_decode_ms"))
        yield Station("network of a machine", figures(f"{gpu}_network") * 1000 / figures("image_mb"))
        gets = figures("gets_a_prefix") * settings.prefixes
        yield Station("storage (GET)", gets, shared=True, repeats=True)
    if settings.executor == "ray":
        yield driver(work, settings)


def driver(work: Work, settings: Settings) -> Station:
    """Ray's driver: it hands out blocks, and takes the rows of all of them into its index."""
    figures = settings.figures
    rows = (IMAGE_BLOCKS if work.kind == "image" else TEXT_BLOCKS)["local"].rows
    seconds = figures("ray_block_ms") / 1000 / rows + figures("ray_row_us") / MEGA
    return Station("driver of Ray", 1 / seconds, shared=True)


def gpu_plan(work: Work, gpu: str, machines: int, settings: Settings) -> Plan:
    """Rows on so many GPUs."""
    return Plan(
        rows=work.rows,
        machines=machines,
        stations=(*gpu_stations(work, gpu, settings), *reading(machines, settings)),
        part_rows=settings.part_rows,
        start_s=settings.figures("start_s"),
        cache_survives=settings.shared_cache,
        shards=settings.executor != "ray",
        faults=faults(settings.figures, spot=not settings.on_demand),
        seed=settings.seed,
    )


def request_rows(work: Work, figures: Figures) -> int:
    """Rows that a request to the service holds."""
    if work.kind == "text":
        return int(figures("request_texts"))
    return int(figures("request_mb") / (figures(f"{work.model}_tile_mb") * 4 / 3))


def row_tokens(work: Work, figures: Figures) -> float:
    """Tokens that the service bills for a row."""
    return figures("text_tokens") if work.kind == "text" else figures(f"{work.model}_image_tokens")


def api_stations(work: Work, tier: str, settings: Settings) -> Iterator[Station]:
    """What a row passes on its way to the hosted service."""
    figures = settings.figures
    requests, tokens, slots = TIERS[tier]
    together, image = request_rows(work, figures), work.kind == "image"
    latency = figures("request_ms") + together * figures("tile_request_ms" if image else "text_request_ms")
    yield Station("tokens a minute", tokens / 60 / row_tokens(work, figures), shared=True)
    yield Station("requests a minute", requests / 60 * together, shared=True, repeats=True)
    yield Station("requests at once", slots * together * 1000 / latency, shared=True, repeats=True)
    yield row_station(figures, figures("row_us") + figures("client_text_us"))
    yield writer(work, figures)
    if image:
        yield Station("CPUs (tiles)", figures("client_cores") * 1000 / figures(f"{work.model}_tile_ms"))
        yield Station("network to the service", figures("uplink_gb") * 750 / figures(f"{work.model}_tile_mb"))
        yield Station("storage (GET)", figures("gets_a_prefix") * settings.prefixes, shared=True, repeats=True)


def api_plan(work: Work, tier: str, clients: int, settings: Settings) -> Plan:
    """Rows through one key of the hosted service, the limits divided by the machines that share it."""
    return Plan(
        rows=work.rows,
        machines=clients,
        stations=(*api_stations(work, tier, settings), *reading(clients, settings)),
        part_rows=settings.part_rows,
        request_rows=request_rows(work, settings.figures),
        start_s=CLIENT_START_S,
        shards=settings.executor != "ray",
        faults=faults(settings.figures, spot=False),
        seed=settings.seed,
    )


# -- money


def storage_usd(work: Work, machines: int, outcome: Outcome, settings: Settings) -> float:
    """Requests to the storage: a GET for each image, a PUT a part, and the names of all images."""
    figures = settings.figures
    image = work.kind == "image"
    lists = work.rows / figures("list_names") * (machines if settings.executor == "shards" else 1) if image else 0
    gets = outcome.embedded if image else 0
    puts = lists + outcome.rows / settings.part_rows
    return (gets * figures("get_usd") + puts * figures("put_usd")) / 1000


def gpu_usd(gpu: str, outcome: Outcome, settings: Settings) -> float:
    """Hours of machines."""
    hour = settings.figures(f"{gpu}_hour" if settings.on_demand else f"{gpu}_spot_hour")
    return outcome.machine_seconds / HOUR_S * hour


def api_usd(work: Work, clients: int, outcome: Outcome, settings: Settings) -> dict[str, float]:
    """Tokens, tiles that leave a cloud, and the machines that send them."""
    figures = settings.figures
    sent = (
        figures(f"{work.model}_tile_mb") * 4 / 3 if work.kind == "image" else figures("text_tokens") * TEXT_BYTES / MEGA
    )
    return {
        "tokens": outcome.embedded * row_tokens(work, figures) * figures("token_usd") / MEGA,
        "egress": outcome.embedded * sent / 1000 * figures("egress_usd"),
        "machines": outcome.machine_seconds / HOUR_S * figures("cpu_hour"),
        "storage": storage_usd(work, clients, outcome, settings),
    }
