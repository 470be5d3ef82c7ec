"""The road to a GPU. With the marker `gpu` it runs on CUDA (`make gpu`); as "cpu" the same code runs everywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from jinaclip import JinaClip
from jinaclip.backends.local.preprocess import PreprocessConfig, byte_values, preprocess
from jinaclip.backends.local.runner import AsyncRunner
from jinaclip.backends.local.scheduler import Scheduler
from jinaclip.backends.local.towers import text_alibi
from jinaclip.backends.local.towers.cuda_runner import CudaRunner
from jinaclip.local import load_towers

from .abacus import Asker
from .goldens import GOLDEN, MODELS, error, expected, inputs, preprocessor_config, unit

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)
DEVICES = pytest.mark.parametrize("device", ["cpu", CUDA])
RAW = {"float32": 2e-3, "bfloat16": 0.25, "float16": 0.05}
"""Tolerances of raw values."""
COSINE = {"float32": 1 - 1e-5, "bfloat16": 0.999, "float16": 0.9999}
MIB = 2**20


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return request.param


def runner_of(model: str, device: str, dtype: str | None = None) -> CudaRunner:
    settings = PreprocessConfig.from_config(preprocessor_config(model))
    return CudaRunner(load_towers(GOLDEN / model, device=device, dtype=dtype), byte_values(settings))


def clip_of(folder: Path, device: str, **options: object) -> JinaClip:
    return JinaClip(str(folder), backend="local", device=device, cache=False, **options)


def photos(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (70 + n % 5, 90, 3), np.uint8) for n in range(count)]


def check_close(found: np.ndarray, wanted: np.ndarray, dtype: str) -> None:
    assert found.dtype == np.float32
    assert error(found, wanted) < RAW[dtype]
    assert (unit(found) * unit(wanted)).sum(axis=1).min() > COSINE[dtype]


# -- numbers


@pytest.mark.slow
@DEVICES
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_goldens_hold(model: str, dtype: str, device: str) -> None:
    runner = runner_of(model, device, dtype)
    for which in "abcd":
        ids = inputs(model)[f"ids_{which}"]
        check_close(runner.text(ids, np.ones_like(ids)), expected(model)[f"text_{which}"], dtype)
    check_close(runner.images(inputs(model)["pixel_values"]), expected(model)["image"], dtype)


@DEVICES
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_bare_weights_and_the_adapter_for_queries_differ_and_hold(dtype: str, device: str) -> None:
    ids = torch.from_numpy(inputs("v2-tiny")["ids_a"])
    found = {}
    for task, name in (("default", "text_a"), (None, "text_nolora_a")):
        towers = load_towers(GOLDEN / "v2-tiny", device=device, dtype=dtype, lora_task=task)
        found[task] = towers.text(ids).float().cpu().numpy()
        check_close(found[task], expected("v2-tiny")[name], dtype)
    assert error(found["default"], found[None]) > 0.01


@DEVICES
def test_bytes_are_normalised_on_the_device_as_on_this_side(model: str, device: str) -> None:
    runner, settings = runner_of(model, device, "float32"), PreprocessConfig.from_config(preprocessor_config(model))
    side = runner.image_size
    squares = np.random.default_rng(3).integers(0, 256, (5, side, side, 3), np.uint8)
    squares[0, 0, :] = 0
    squares[0, 1, :] = 255
    floats = np.stack([preprocess(square, settings) for square in squares])
    assert np.array_equal(runner.normalise(torch.from_numpy(squares).to(device)).cpu().numpy(), floats)
    assert error(runner.begin_images(squares)(), runner.images(floats)) < 1e-5


def test_patches_as_a_matrix_product_are_those_of_the_convolution(model: str) -> None:
    embed = load_towers(GOLDEN / model).assembly.vision.patch_embed
    pixels = torch.from_numpy(inputs(model)["pixel_values"])
    with torch.inference_mode():
        assert error(embed.multiply(pixels), embed(pixels)) < 2e-5


@DEVICES
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_texts_of_any_length_in_one_batch_have_the_vectors_that_each_has_alone(
    folder: Path, dtype: str, device: str
) -> None:
    texts = ["a", *("word " * n + str(n) for n in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89))]
    with clip_of(folder, device, dtype=dtype) as clip:
        together = clip.embed_documents(texts)
        alone = np.concatenate([clip.embed_documents([text]) for text in texts])
    assert (together * alone).sum(axis=1).min() > COSINE[dtype]


@pytest.mark.gpu
def test_8192_tokens_fit_and_are_those_of_the_cpu(folder: Path) -> None:
    texts = ["word " * 9000, *["word " * n for n in (100, 1600, 1500)]]
    with clip_of(folder, "cuda", truncate=True) as clip, clip_of(folder, "cpu", truncate=True) as exact:
        found, wanted = clip.embed_documents(texts), exact.embed_documents(texts)
    assert (found * wanted).sum(axis=1).min() > 0.99


@pytest.mark.gpu
@pytest.mark.parametrize("limit", [1, 5000])
def test_each_way_to_attend_to_long_texts_says_the_same(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused where this machine compiles it, block by block elsewhere, or all at once."""
    runner, ids = runner_of("v1-tiny", "cuda", "float32"), inputs("v1-tiny")["ids_d"]
    for name in ("MAX_BIAS", "CUDA_MAX_BIAS"):
        monkeypatch.setattr(text_alibi, name, limit)
    check_close(runner.text(ids, np.ones_like(ids)), expected("v1-tiny")["text_d"], "float32")
    monkeypatch.setattr(text_alibi, "_compiled_flex", lambda: None)
    check_close(runner.text(ids, np.ones_like(ids)), expected("v1-tiny")["text_d"], "float32")


@pytest.mark.gpu
def test_the_default_type_is_bfloat16_and_stays_close_to_the_cpu(folder: Path) -> None:
    texts, shown = ["a", "a few words", "many more words than before, " * 200], photos(8)
    with clip_of(folder, "cuda") as fast, clip_of(folder, "cpu") as exact:
        assert fast._backend._loaded().runner.towers.dtype == torch.bfloat16
        assert (fast.embed_documents(texts) * exact.embed_documents(texts)).sum(axis=1).min() > 0.99
        assert (fast.embed_images(shown) * exact.embed_images(shown)).sum(axis=1).min() > 0.99


@pytest.mark.gpu
def test_no_flag_of_the_process_is_changed(folder: Path) -> None:
    def flags() -> tuple[object, ...]:
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        return torch.get_float32_matmul_precision(), matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark

    before = flags()
    with clip_of(folder, "cuda") as clip:
        clip.embed_documents(["a"])
        clip.embed_images(photos(1))
    assert flags() == before


# -- passes ahead


@DEVICES
def test_passes_begun_one_after_another_give_what_each_gives_alone(model: str, device: str) -> None:
    runner = runner_of(model, device, "float32")
    assert isinstance(runner, AsyncRunner)
    ids = [inputs(model)[f"ids_{which}"] for which in "abcd"]
    ends: list[Callable[[], np.ndarray]] = [runner.begin_text(one, np.ones_like(one)) for one in ids]
    for which, end in zip("abcd", ends, strict=True):
        check_close(end(), expected(model)[f"text_{which}"], "float32")


@DEVICES
def test_overlapped_passes_of_a_scheduler_give_the_vectors_of_the_runner(model: str, device: str) -> None:
    runner, asker = runner_of(model, device, "float32"), Asker(batch_size=4)
    side = runner.image_size
    squares = np.random.default_rng(5).integers(0, 256, (40, side, side, 3), np.uint8)
    items = asker.images(40)
    for item in items:
        item.pixels = squares[item.index]
    scheduler = Scheduler([runner])
    scheduler.submit(items)
    asker.wait(rows=40)
    alone = np.concatenate([runner.begin_images(squares[n : n + 4])() for n in range(0, 40, 4)])
    assert error(np.stack([asker.rows[n] for n in range(40)]), alone) < 1e-5
    del scheduler


@DEVICES
def test_many_threads_get_their_own_vectors(folder: Path, device: str) -> None:
    with clip_of(folder, device, dtype="float32") as clip:
        texts = {n: [f"{'word ' * (n % 9)}{n} {i}" for i in range(12)] for n in range(8)}
        shown = {n: photos(3, n) for n in range(8)}
        wanted = {n: (clip.embed_documents(texts[n]), clip.embed_images(shown[n])) for n in texts}
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}

        def ask(n: int) -> None:
            found[n] = clip.embed_documents(texts[n]), clip.embed_images(shown[n])

        threads = [threading.Thread(target=ask, args=(n,)) for n in texts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for n, pair in wanted.items():
        assert error(found[n][0], pair[0]) < 1e-4
        assert error(found[n][1], pair[1]) < 1e-4


@pytest.mark.gpu
def test_streams_of_the_application_do_not_disturb(folder: Path) -> None:
    shown = photos(16)
    with clip_of(folder, "cuda", dtype="float32") as clip:
        wanted = clip.embed_images(shown)
        with torch.cuda.stream(torch.cuda.Stream()):
            busy = torch.randn(2000, 2000, device="cuda")
            for _ in range(20):
                busy = (busy @ busy).tanh()
            assert error(clip.embed_images(shown), wanted) < 1e-4
        assert torch.isfinite(busy).all()


# -- memory


@pytest.fixture
def little_memory() -> Iterator[Callable[[int], None]]:
    """Leaves this process so many bytes more of the card than it has now."""

    def leave(spare: int) -> None:
        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + spare) / whole)

    yield leave
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.gpu
def test_out_of_memory_halves_the_batch_until_it_fits(folder: Path, little_memory: Callable[[int], None]) -> None:
    texts = ["word " * 400 + str(n) for n in range(256)]
    with clip_of(folder, "cuda", dtype="float32") as clip:
        wanted = clip.embed_documents(texts)
        little_memory(64 * MIB)
        found = clip.embed_documents(texts)
        rooms = clip._backend._model.scheduler._worker.devices[0].rooms
        assert rooms.texts.now < clip._backend._model.runner.max_batch_tokens, "it never came to the end of memory"
    assert error(found, wanted) < 1e-4


@pytest.mark.gpu
def test_out_of_memory_is_the_builtin_error(little_memory: Callable[[int], None]) -> None:
    runner = runner_of("v2-tiny", "cuda", "float32")
    little_memory(8 * MIB)
    ids = np.full((512, 512), 5, np.int64)
    with pytest.raises(MemoryError, match="out of memory"):
        runner.begin_text(ids, np.ones_like(ids))()
    torch.cuda.set_per_process_memory_fraction(1.0)
    assert np.isfinite(runner.begin_text(ids[:1, :8], np.ones_like(ids[:1, :8]))()).all()


# -- several devices


@DEVICES
def test_two_devices_share_the_work_and_give_the_vectors_of_one(folder: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("has one card only")
    names = "cuda:0,cuda:1" if device == "cuda" else "cpu,cpu"
    texts = [f"{'word ' * (n % 5)}{n}" for n in range(100)]
    with clip_of(folder, device, dtype="float32") as one, clip_of(folder, names, dtype="float32") as two:
        assert error(two.embed_documents(texts), one.embed_documents(texts)) < 1e-4
        assert error(two.embed_images(photos(9)), one.embed_images(photos(9))) < 1e-4


@pytest.mark.gpu
def test_all_cards_are_every_one_that_is_there(folder: Path) -> None:
    with clip_of(folder, "cuda:all") as clip:
        clip.embed_query("a")
        names = [runner.device for runner in clip._backend._model.runners]
    assert names == [f"cuda:{n}" for n in range(torch.cuda.device_count())]


# -- compiled blocks


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.long), CUDA])
@pytest.mark.filterwarnings("ignore")  # of the compiler, about itself
def test_compiled_blocks_give_what_plain_ones_give(model: str, device: str) -> None:
    towers = load_towers(GOLDEN / model, device=device, dtype="bfloat16")
    ids = torch.from_numpy(inputs(model)["ids_a"])
    pixels = torch.from_numpy(inputs(model)["pixel_values"])
    wanted = towers.text(ids).float().cpu().numpy(), towers.vision(pixels).float().cpu().numpy()
    towers.compile()
    check_close(towers.text(ids).float().cpu().numpy(), wanted[0], "bfloat16")
    check_close(towers.vision(pixels).float().cpu().numpy(), wanted[1], "bfloat16")
