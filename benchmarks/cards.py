"""What `local.py` measures where a GPU computes: each type of numbers, and what feeds the towers.

Both parts run on a CPU too, in a smoke test, so that they work on the day that there is a card.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import torch
from bench import Job
from inputs import make_photos
from reckoning import Bill, Shapes, peak, seconds
from report import Row

from jinaclip import Image, JinaClip
from jinaclip import images as opening
from jinaclip.backends.local.preprocess import PreprocessConfig, byte_values, resize, to_rgb
from jinaclip.backends.local.towers.cuda_runner import CudaRunner
from jinaclip.config import ImagePolicy
from jinaclip.local import load_towers
from jinaclip.process import available_cpus

DTYPES = ("bfloat16", "float16", "float32")
TEXTS, TOKENS = 256, 64
"""Texts in a pass, and tokens in each."""
GOAL = 0.7
"""Of the peak, for a tower alone in bfloat16."""


def best(run: Callable[[], object], job: Job) -> float:
    """Seconds of the best of some runs, after one to warm up."""
    seconds(run, job.device)
    return min(seconds(run, job.device) for _ in range(2 * job.rounds))


# -- each type of numbers


def precisions(job: Job) -> Iterator[Row]:
    """Both towers in each dtype, as the engine runs them, beside the measured bfloat16 peak of their products."""
    bill = Bill(job.folder)
    for dtype in DTYPES:
        yield from towers_in(job, dtype, bill)
        gc.collect()
    if job.device == "cuda":
        yield compiled_row(job, bill)  # last: compiling takes long, and needs a compiler that may not be there


def runner_in(job: Job, dtype: str, bill: Bill) -> CudaRunner:
    """The towers in one dtype."""
    return CudaRunner(load_towers(job.folder, device=job.device, dtype=dtype), byte_values(settings_of(bill)))


def squares_for(runner: CudaRunner, job: Job) -> np.ndarray:
    """(B, S, S, 3) bytes, as many images as a pass takes."""
    shown, side = 4 if job.quick else runner.max_batch_images, runner.image_size
    return np.random.default_rng(1).integers(0, 256, (shown, side, side, 3), np.uint8)


def towers_in(job: Job, dtype: str, bill: Bill) -> Iterator[Row]:
    """Both towers in one dtype."""
    runner = runner_in(job, dtype, bill)
    squares = squares_for(runner, job)
    took, shown = best(partial(show, runner, squares), job), len(squares)
    yield rate_row(job, f"{dtype} vision tower", shown, took, bill.pictures(shown))
    count, tokens = (4, 16) if job.quick else (TEXTS, TOKENS)
    ids = np.random.default_rng(2).integers(5, 200, (count, tokens), np.int64)
    read = best(partial(runner.text, ids, np.ones_like(ids)), job)
    yield rate_row(job, f"{dtype} text tower, {tokens} tokens each", count, read, bill.texts(count, tokens))


def show(runner: CudaRunner, squares: np.ndarray) -> np.ndarray:
    """One pass over images, from this side and back."""
    return runner.begin_images(squares)()


def rate_row(job: Job, what: str, count: int, took: float, bill: tuple[int, Shapes]) -> Row:
    """Items a second, and what part of the peak that is."""
    flops, shapes = bill
    most = peak(shapes, job.device, tries=4)
    return Row(
        f"{job.version} {what}, {count} in a pass, from this side and back, vs matmul peak (MFU)",
        f"{count / took:,.1f}/s, {flops / took / 1e9:,.0f} GFLOP/s",
        f"{most / 1e9:,.0f} GFLOP/s",
        flops / took / most,
        GOAL if what.startswith("bfloat16") and job.device == "cuda" else None,
        least=True,
    )


def compiled_row(job: Job, bill: Bill) -> Row:
    """What compiling the blocks brings, in bfloat16."""
    runner = runner_in(job, "bfloat16", bill)
    squares = squares_for(runner, job)
    plain = best(partial(show, runner, squares), job)
    runner.towers.compile()
    compiled = best(partial(show, runner, squares), job)
    return Row(
        f"{job.version} vision tower with compiled blocks (`Towers.compile`) vs plain",
        f"{len(squares) / compiled:,.1f}/s",
        f"{len(squares) / plain:,.1f}/s",
        plain / compiled,
        None,
    )


# -- what feeds the towers


def feeding(job: Job) -> Iterator[Row]:
    """From the file to the device: decoding by all threads, the way to the device, and the whole with fast decoding."""
    bill, count = Bill(job.folder), job.count(8, 300)
    settings = settings_of(bill)
    runner = CudaRunner(load_towers(job.folder, device=job.device), byte_values(settings))
    pictures = [Image.from_bytes(path.read_bytes()) for path in make_photos(count)]
    threads = available_cpus()
    with ThreadPoolExecutor(threads) as pool:
        decoding = seconds(lambda: list(pool.map(lambda picture: decode(picture, settings), pictures)), "cpu")
    together = min(count, runner.max_batch_images)
    squares = np.stack([decode(picture, settings) for picture in pictures[:together]])
    whole = best(partial(show, runner, squares), job)
    sending = best(partial(send, squares, job.device), job)
    yield Row(
        f"{job.version} photos of 1600 x 1200 decoded and fitted by {threads} threads vs the vision tower alone",
        f"{count / decoding:,.1f}/s",
        f"{together / whole:,.1f}/s",
        count / decoding * whole / together,
        None,
    )
    yield Row(
        f"{job.version} pinning and sending {squares.nbytes / 1e6:,.0f} MB of {together} images vs their whole pass",
        f"{sending * 1e3:,.2f} ms",
        f"{whole * 1e3:,.2f} ms",
        sending / whole,
        None,
    )
    yield from end_to_end(job, pictures)


def send(squares: np.ndarray, device: str) -> torch.Tensor:
    """Bytes to the device, by pinned memory where that is another."""
    tensor = torch.from_numpy(squares)
    return tensor.pin_memory().to(device) if device == "cuda" else tensor.clone()


def end_to_end(job: Job, pictures: list[Image]) -> Iterator[Row]:
    """JPEG to vector, both ways to decode."""
    rates = {}
    for mode in ("exact", "fast"):
        options = {"backend": "local", "device": job.device, "cache": False, "image_decode": mode}
        with JinaClip(str(job.folder), **options) as clip:
            clip.embed_images(pictures[:4])
            run = partial(clip.embed_images, pictures)
            rates[mode] = len(pictures) / min(seconds(run, job.device) for _ in range(job.rounds))
    yield Row(
        f"{job.version} JPEG to vector with image_decode='fast' vs 'exact'",
        f"{rates['fast']:,.1f}/s",
        f"{rates['exact']:,.1f}/s",
        rates["fast"] / rates["exact"],
        None,
    )


def settings_of(bill: Bill) -> PreprocessConfig:
    """How images become pixels: both published models do it alike."""
    return PreprocessConfig(bill.assembly.vision.config.image_size)


def decode(picture: Image, settings: PreprocessConfig) -> np.ndarray:
    """(S, S, 3) bytes of a photo."""
    return np.asarray(resize(to_rgb(opening.open_image(picture, ImagePolicy())), settings))
