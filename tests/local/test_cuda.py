"""On a CUDA device, for whoever has one: `pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from jinaclip import JinaClip
from jinaclip.local import load_towers
from tests.tiny import GOLDEN

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize(("dtype", "raw"), [("float32", 2e-3), ("bfloat16", 0.25), ("float16", 0.05)])
def test_the_goldens_hold(version: str, dtype: str, raw: float) -> None:
    folder = GOLDEN / f"{version}-tiny"
    inputs, expected = np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    towers = load_towers(folder, device="cuda", dtype=dtype)
    for name in "abcd":
        got = towers.text(torch.from_numpy(inputs[f"ids_{name}"])).float().cpu().numpy()
        assert np.abs(got - expected[f"text_{name}"]).max() < raw
    got = towers.vision(torch.from_numpy(inputs["pixel_values"])).float().cpu().numpy()
    assert np.abs(got - expected["image"]).max() < raw


def test_the_default_type_is_bfloat16_and_stays_close_to_the_cpu(folder: Path) -> None:
    texts = ["a", "a few words", "many more words than before, " * 200]
    shown = [np.random.default_rng(i).integers(0, 256, (70, 90, 3), np.uint8) for i in range(8)]
    with (
        JinaClip(str(folder), backend="local", device="cuda") as fast,
        JinaClip(str(folder), backend="local", device="cpu") as exact,
    ):
        assert fast._backend._loaded().runner.towers.dtype == torch.bfloat16
        assert (fast.embed_documents(texts) * exact.embed_documents(texts)).sum(axis=1).min() > 0.99
        assert (fast.embed_images(shown) * exact.embed_images(shown)).sum(axis=1).min() > 0.99


def test_8192_tokens_fit(folder: Path) -> None:
    with JinaClip(str(folder), backend="local", device="cuda", truncate=True) as clip:
        assert np.isfinite(clip.embed_documents(["word " * 9000] * 4)).all()
