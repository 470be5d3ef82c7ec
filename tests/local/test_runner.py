"""The towers behind the Runner protocol: numpy in, numpy out, and Python's own error where memory ends."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import pytest
import torch

from jinaclip.backends.local.runner import Runner
from jinaclip.backends.local.towers.loader import Towers
from jinaclip.backends.local.towers.runner import BATCH_TOKENS, OTHER_BATCH_TOKENS, TorchRunner
from jinaclip.errors import InputError

from .goldens import MODELS, RAW, error, expected, inputs, towers


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return request.param


def test_vectors_are_those_of_the_towers(model: str) -> None:
    runner: Runner = TorchRunner(towers(model))
    ids = inputs(model)["ids_a"]
    for found, name in (
        (runner.text(ids, np.ones_like(ids)), "text_a"),
        (runner.images(inputs(model)["pixel_values"]), "image"),
    ):
        assert found.dtype == np.float32
        assert found.shape == (len(expected(model)[name]), runner.dimensions)
        assert error(found, expected(model)[name]) < RAW


def test_padding_is_masked(model: str) -> None:
    runner, ids = TorchRunner(towers(model)), inputs(model)["ids_a"][:1, :5]
    padded = np.full((1, 9), runner.pad_id, np.int64)
    padded[:, :5] = ids
    mask = (np.arange(9) < 5).astype(np.int64)[None]
    assert error(runner.text(padded, mask), runner.text(ids, np.ones_like(ids))) < RAW


def test_vectors_of_any_dtype_are_float32(model: str) -> None:
    ids = inputs(model)["ids_a"]
    for dtype in ("bfloat16", "float64"):
        assert TorchRunner(towers(model, dtype)).text(ids, np.ones_like(ids)).dtype == np.float32


def test_facts() -> None:
    loaded = towers("v1-tiny")
    runner = TorchRunner(loaded)
    facts = (runner.dimensions, runner.image_size, runner.vocab_size, runner.pad_id, runner.device)
    assert facts == (48, 64, 220, 0, "cpu")
    assert runner.logit_scale == loaded.logit_scale
    assert runner.max_batch_tokens == BATCH_TOKENS["cpu"]
    elsewhere = TorchRunner(Towers(loaded.assembly, {}, torch.device("cuda", 1), torch.bfloat16))
    assert elsewhere.device == "cuda:1"
    assert (elsewhere.max_batch_tokens, elsewhere.max_batch_images) == (OTHER_BATCH_TOKENS, OTHER_BATCH_TOKENS // 17)


def end_memory_of_the_cpu() -> None:
    torch.empty(10**14)


def end_memory_of_numpy() -> None:
    np.empty(10**15)


def end_memory_of_a_gpu() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("end_memory", [end_memory_of_the_cpu, end_memory_of_numpy, end_memory_of_a_gpu])
@pytest.mark.parametrize("kind", ["text", "vision"])
def test_out_of_memory_is_the_builtin_error_and_keeps_no_tensor(
    kind: str, end_memory: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[weakref.ref[torch.Tensor]] = []

    def full(self: Towers, *_: torch.Tensor) -> torch.Tensor:
        activation = torch.ones(3)
        computed.append(weakref.ref(activation))
        end_memory()

    monkeypatch.setattr(Towers, kind, full)
    runner, ids = TorchRunner(towers("v1-tiny")), np.ones((2, 3), np.int64)
    with pytest.raises(MemoryError, match=r"memory|allocate") as caught:
        _ = runner.text(ids, ids) if kind == "text" else runner.images(np.zeros((1, 3, 64, 64), np.float32))
    assert caught.value.__context__ is None
    assert computed[0]() is None


def test_another_failure_of_torch_passes_through() -> None:
    with pytest.raises(InputError, match="pixel_values"):
        TorchRunner(towers("v1-tiny")).images(np.zeros((1, 3, 5, 5), np.float32))
