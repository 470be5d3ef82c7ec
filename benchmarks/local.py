"""The local backend beside what the machine can do; prints a Markdown table.

    python benchmarks/local.py                       # everything, on the CPU
    python benchmarks/local.py --device cuda         # the same on a GPU
    python benchmarks/local.py --quick               # a smoke test with tiny checkpoints; the figures mean nothing
    python benchmarks/local.py --only images,load --models v2
    python benchmarks/local.py --only engines        # PyTorch, ONNX Runtime, int8; needs the extra `export`

The checkpoints have the published sizes and random weights (`checkpoints.py`). Every part of every model is a fresh
process; what is compared takes turns in it, and the best round of each counts, so that other work on the machine hits
neither.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from bench import Job
from checkpoints import checkpoint
from inputs import make_photos
from report import HEADER, Row, machine

PARTS = ("images", "texts", "queries", "lora", "load")
CARD_PARTS = ("precisions", "feeding")
"""Beside those, where a GPU computes."""
ENGINES = "engines"
"""Measured on request: `--only engines` exports both models twice, which takes minutes and 10 GB of disk."""
PACKAGES = ("jinaclip", "torch", "numpy", "pillow", "tokenizers", "safetensors")


def jobs(parts: list[str], models: list[str], device: str, *, quick: bool, rounds: int) -> list[Job]:
    """What is measured; v1 has no adapters."""
    return [
        Job(part, version, device, quick, rounds)
        for part in parts
        for version in models
        if (part, version) != ("lora", "v1")
    ]


def main() -> None:
    """Reads the command line, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--rounds", type=int, help="default 3, or 1 with --quick")
    parser.add_argument("--only", help=f"of {', '.join((*PARTS, *CARD_PARTS))}, with commas between; all that fit")
    parser.add_argument("--models", default="v1,v2", help="models, with commas between")
    options = parser.parse_args()
    usual = (*PARTS, *CARD_PARTS) if options.device == "cuda" else PARTS
    parts, models = list(usual) if options.only is None else options.only.split(","), options.models.split(",")
    known = (*PARTS, *CARD_PARTS, ENGINES, "v1", "v2")
    if unknown := [name for name in (*parts, *models) if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}")
    for version in models:
        checkpoint(version, tiny=options.quick)
    if {"images", "feeding"} & {*parts}:
        make_photos(8 if options.quick else 300 if options.device == "cuda" else 40)
    print(
        f"`python benchmarks/local.py {' '.join(sys.argv[1:])}`\n\n{machine(*PACKAGES)} {accelerator(options.device)}\n"
    )
    if options.quick:
        print("A smoke test: the figures mean nothing.\n")
    print(HEADER, flush=True)
    start = time.perf_counter()
    rounds = options.rounds or (1 if options.quick else 3)
    for job in jobs(parts, models, options.device, quick=options.quick, rounds=rounds):
        for row in job.run():
            print(Row(**row), flush=True)
    print(f"\nTook {(time.perf_counter() - start) / 60:.1f} minutes; load after {os.getloadavg()[0]:.1f}.")


def accelerator(device: str) -> str:
    """What computes, beside the processor."""
    import torch

    if device == "cuda":
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, bfloat16."
    return f"{torch.get_num_threads()} threads, float32."


if __name__ == "__main__":
    main()
