"""The toy checkpoints with known answers."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import torch

from jinaclip.local import load_towers

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = ("v1-tiny", "v2-tiny")
RAW, UNIT = 2e-5, 2e-6
"""Tolerances: raw values, unit vectors."""


def folder(model: str) -> Path:
    return GOLDEN / model


@functools.cache
def inputs(model: str) -> dict[str, np.ndarray]:
    with np.load(folder(model) / "inputs.npz") as arrays:
        return dict(arrays)


@functools.cache
def expected(model: str) -> dict[str, np.ndarray]:
    with np.load(folder(model) / "expected.npz") as arrays:
        return dict(arrays)


@functools.cache
def towers(model: str, dtype: str = "float32", lora_task: str | None = "default"):
    return load_towers(folder(model), dtype=dtype, lora_task=lora_task)


def preprocessor_config(model: str) -> dict:
    return json.loads((folder(model) / "preprocessor_config.json").read_text())


def ids(model: str, which: str) -> torch.Tensor:
    return torch.from_numpy(inputs(model)[f"ids_{which}"])


def pixels(model: str, name: str = "pixel_values") -> torch.Tensor:
    return torch.from_numpy(inputs(model)[name])


def unit(x: np.ndarray, width: int | None = None) -> np.ndarray:
    x = x[:, :width]
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def error(found, wanted) -> float:
    return float(np.abs(np.asarray(found) - np.asarray(wanted)).max())
