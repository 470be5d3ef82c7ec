"""The figures that `simulate.py` reckons with, and where each is from; `--set NAME=VALUE` there changes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from jinaclip.specs import JINA_CLIP_V1, JINA_CLIP_V2

PERFORMANCE = "docs/performance.md"
MEASURE = "simulate.py --measure"
PRICES = "costnimbus.com/article/gpu-cost-management-ml-teams, March 2026"
S3_PRICES = "aws.amazon.com/s3/pricing, us-east-1"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, and why it is believed."""

    value: float
    unit: str
    kind: str
    """"measured" on our machine, "published" by whom it is about, "price", or "assumed"."""
    source: str


def measured(value: float, unit: str, source: str) -> Figure:
    """A figure of our own."""
    return Figure(value, unit, "measured", source)


def published(value: float, unit: str, source: str) -> Figure:
    """A figure of whom it is about."""
    return Figure(value, unit, "published", source)


def assumed(value: float, unit: str, why: str) -> Figure:
    """A figure that we have no source for."""
    return Figure(value, unit, "assumed", why)


def price(value: float, unit: str, source: str) -> Figure:
    """What somebody asks for something."""
    return Figure(value, unit, "price", source)


FIGURES: dict[str, Figure] = {
    # what has to be computed
    "v1_image_gflop": measured(32.7, "GFLOP", f"{PERFORMANCE}, counted by torch"),
    "v2_image_gflop": measured(916.1, "GFLOP", f"{PERFORMANCE}, counted by torch"),
    "v1_token_gflop": measured(0.227, "GFLOP", f"{PERFORMANCE}: 3.4 for 15 tokens"),
    "v2_token_gflop": measured(0.608, "GFLOP", f"{PERFORMANCE}: 14.6 for 24 tokens"),
    "text_tokens": assumed(32, "tokens", "a text of 25 words"),
    # by what
    "mfu": assumed(0.4, "of the peak", "no CUDA device was at hand; a CPU gave 0.81 to 0.89 of its matmul peak"),
    "L4_tflops": published(121, "TFLOP/s", "NVIDIA's data sheet: bfloat16, dense"),
    "H100_tflops": published(989, "TFLOP/s", "NVIDIA's data sheet: bfloat16, dense, SXM"),
    "L4_cores": published(8, "vCPUs a GPU", "AWS g6.2xlarge"),
    "H100_cores": published(24, "vCPUs a GPU", "AWS p5.48xlarge: 192 for 8"),
    "L4_network": assumed(0.3, "GB/s", "what a machine with up to 10 Gbit/s keeps up"),
    "H100_network": assumed(2.0, "GB/s", "an eighth of a machine with more than 100 Gbit/s, with room"),
    "L4_hour": price(1.00, "USD", f"{PRICES}: 0.80 to 1.10"),
    "L4_spot_hour": assumed(0.45, "USD", "a bit under half"),
    "H100_hour": price(3.90, "USD", PRICES),
    "H100_spot_hour": price(2.25, "USD", f"{PRICES}: 2.00 to 2.50"),
    "cpu_hour": assumed(0.40, "USD", "a machine of 8 vCPUs without a GPU, for the API"),
    "memory_gb": published(32, "GB", "AWS g6.2xlarge"),
    # images
    "image_mb": measured(0.5, "MB", f"{MEASURE}: JPEG photographs of 1600 x 1200"),
    "v1_decode_ms": measured(25, "ms of a core", f"{MEASURE}: JPEG to the numbers of the tower"),
    "v2_decode_ms": measured(33, "ms of a core", f"{MEASURE}: JPEG to the numbers of the tower"),
    "v1_tile_ms": measured(26, "ms of a core", f"{MEASURE}: JPEG to a PNG of 224 x 224"),
    "v2_tile_ms": measured(42, "ms of a core", f"{MEASURE}: JPEG to a PNG of 512 x 512"),
    "v1_tile_mb": measured(0.054, "MB", f"{MEASURE}: that PNG"),
    "v2_tile_mb": measured(0.35, "MB", f"{MEASURE}: that PNG"),
    # rows
    "row_us": assumed(100.0, "us of a core", f"reading, digest, index, cache; {MEASURE} gave 145 while busy"),
    "read_us": measured(8.0, "us of a core", f"{MEASURE}: a row of a JSONL file, before anybody asks whose it is"),
    "client_text_us": measured(18.0, "us of a core", f"{PERFORMANCE}: the client, a text"),
    "write_mb": measured(157, "MB/s", f"{MEASURE}: Parquet of float32 vectors"),
    "index_bytes": published(53, "bytes a row", "bulk/index.py: its columns"),
    "open_us": measured(35.0, "us a row", f"{MEASURE}: a finished run again, while busy"),
    "ray_id_bytes": published(8, "bytes a row", "Ray: ids of a checkpoint are held by each filter actor"),
    "ray_block_ms": measured(17.0, "ms", f"{PERFORMANCE}: Ray's driver, a block, from reading to writing"),
    "ray_row_us": measured(5.0, "us", f"{PERFORMANCE}: and a row of it, taken into the index"),
    # storage
    "gets_a_prefix": published(5500, "requests/s", "Amazon S3: at least, for a partitioned prefix"),
    "get_usd": price(0.0004, "USD a 1,000", S3_PRICES),
    "put_usd": price(0.005, "USD a 1,000", f"{S3_PRICES}; a LIST costs as much"),
    "list_names": published(1000, "names", "Amazon S3: what a LIST gives at most"),
    "egress_usd": price(0.09, "USD a GB", f"{S3_PRICES}, to the internet"),
    # the hosted service
    "token_usd": price(0.05, "USD a million", "example in Jina's API description; ask GET /v1/models"),
    "v1_image_tokens": published(JINA_CLIP_V1.tokens_per_tile, "tokens", "Jina: a tile"),
    "v2_image_tokens": published(JINA_CLIP_V2.tokens_per_tile, "tokens", "Jina: a tile"),
    "request_ms": assumed(120, "ms", "the latency model of the test server, a request"),
    "tile_request_ms": assumed(6, "ms", "the same, on top for a tile"),
    "text_request_ms": assumed(0.4, "ms", "the same, on top for a text"),
    "request_mb": published(8, "MB", "what the client puts into a request"),
    "request_texts": published(512, "texts", "what the client puts into a request"),
    "client_cores": assumed(8, "vCPUs", "a machine that calls the API"),
    "uplink_gb": assumed(0.125, "GB/s", "1 Gbit/s to the internet"),
    # what goes wrong
    "failed_requests": assumed(0.001, "of them", "503 of S3 or of the service; sent again"),
    "outages_a_day": assumed(0.1, "a day", "the service or the storage is away for all"),
    "outage_min": assumed(30, "minutes", "each time"),
    "stragglers": assumed(0.02, "of the parts", "slow disk, hot neighbour"),
    "straggler_factor": assumed(3, "times as long", "each of those"),
    "preemptions_an_hour": assumed(0.05, "a machine", "spot: each is lost once in 20 hours"),
    "restart_min": assumed(5, "minutes", "until another spot machine is there"),
    "start_s": assumed(90, "s", "boot, imports, weights"),
}

TIERS = {"free": (500, 1e6, 5), "1": (500, 10e6, 50), "2": (5_000, 100e6, 500)}
"""Requests a minute, tokens a minute, requests at once; Jina's API description, 2026."""


class Figures:
    """The figures, some of them changed.

    Args:
        changes: values by name.

    Raises:
        KeyError: there is no such figure.
    """

    def __init__(self, changes: Mapping[str, float]) -> None:
        self.all = dict(FIGURES)
        for name, value in changes.items():
            self.all[name] = replace(self.all[name], value=value, kind="given", source="--set")

    def __call__(self, name: str) -> float:
        """The value of a figure."""
        return self.all[name].value

    def table(self) -> str:
        """Markdown."""
        lines = ["| figure | value | kind | from |", "|---|---|---|---|"]
        for name, figure in self.all.items():
            lines.append(f"| `{name}` | {figure.value:,g} {figure.unit} | {figure.kind} | {figure.source} |")
        return "\n".join(lines)
