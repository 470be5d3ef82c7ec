"""A folder of weights that holds an export of itself: what `engine="auto"` takes; goldens where torch is missing."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from jinaclip import JinaClip
from jinaclip.backends.local.engines import OWN_EXPORT
from tests.exported import exported
from tests.local.goldens import GOLDEN, MODELS, UNIT, error

pytestmark = pytest.mark.slow  # an export takes many seconds

TEXTS = ["a red dress", "ein rotes Kleid", "x"]


def folder_with(kind: str, version: str, to: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint of a version, with an export of some kind in it."""
    shutil.copytree(exported(version, tmp_path_factory).parent / "checkpoint", to)
    shutil.copytree(exported(kind, tmp_path_factory), to / OWN_EXPORT)
    return to


def open_folder(folder: Path, **options: object) -> JinaClip:
    return JinaClip(str(folder), backend="local", cache=False, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_with("v2", "v2", tmp_path_factory.mktemp("own") / "v2", tmp_path_factory)


def test_on_a_cpu_the_export_computes_and_the_vectors_and_their_space_stay(folder: Path) -> None:
    with (
        open_folder(folder, device="cpu") as clip,
        open_folder(folder, device="cpu", engine="torch") as towers,
        open_folder(folder / OWN_EXPORT) as graphs,
    ):
        assert clip.fingerprint == graphs.fingerprint != towers.fingerprint
        assert clip.space == towers.space
        assert error(clip.embed_queries(TEXTS), towers.embed_queries(TEXTS)) < UNIT


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"device": "cpu,cpu"}, {"engine": "torch"}], ids=str)
def test_what_only_torch_does_is_done_by_torch(options: dict[str, str], folder: Path) -> None:
    with open_folder(folder, **{"device": "cpu", **options}) as clip:
        clip.embed_query("a")
        assert type(clip._backend._model.runner).__name__ == "TorchRunner"


def test_engine_onnx_takes_the_export_of_a_folder_of_weights(folder: Path) -> None:
    with open_folder(folder, engine="onnx") as clip, open_folder(folder / OWN_EXPORT) as graphs:
        assert clip.fingerprint == graphs.fingerprint


def test_int8_is_never_taken_unasked(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = folder_with("v2-int8", "v2", tmp_path / "v2", tmp_path_factory)
    with open_folder(folder, device="cpu") as clip, open_folder(folder, device="cpu", engine="torch") as towers:
        assert clip.fingerprint == towers.fingerprint


def test_an_export_of_other_weights_is_not_used_and_a_warning_names_it(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_with("v1", "v2", tmp_path / "v2", tmp_path_factory)
    with caplog.at_level(logging.WARNING, "jinaclip"), open_folder(folder, device="cpu") as clip:
        assert clip.fingerprint == open_folder(folder, device="cpu", engine="torch").fingerprint
    assert f"{folder / OWN_EXPORT} was exported from other weights" in caplog.text


def run_without_torch(code: str) -> str:
    """What a program prints in a process that cannot import torch."""
    code = f"import sys; sys.modules['torch'] = None\nimport numpy as np\n{code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_folder_of_weights_with_its_export_needs_no_torch(folder: Path, tmp_path: Path) -> None:
    run_without_torch(
        "from jinaclip import JinaClip\n"
        f"clip = JinaClip({str(folder)!r}, backend='local', cache=False)\n"
        f"np.save({str(tmp_path / 'found.npy')!r}, clip.embed_queries({TEXTS!r}))\n"
    )
    with open_folder(folder, device="cpu", engine="torch") as towers:
        assert error(np.load(tmp_path / "found.npy"), towers.embed_queries(TEXTS)) < UNIT


@pytest.mark.parametrize("model", MODELS)
def test_without_torch_the_goldens_hold(model: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Known vectors of known token ids and pixels, by a process that cannot import torch."""
    folder, golden = exported(model[:2], tmp_path_factory), GOLDEN / model
    printed = run_without_torch(
        "from pathlib import Path\n"
        "from jinaclip.backends.local.onnx_folder import read_manifest\n"
        "from jinaclip.backends.local.onnx_runner import OnnxRunner, unit_distance\n"
        f"given, wanted = np.load({str(golden / 'inputs.npz')!r}), np.load({str(golden / 'expected.npz')!r})\n"
        f"runner = OnnxRunner(Path({str(folder)!r}), read_manifest(Path({str(folder)!r})))\n"
        "pairs = [(runner.images(given['pixel_values']), wanted['image'])]\n"
        "for which in 'abcd':\n"
        "    ids = given[f'ids_{which}']\n"
        "    pairs.append((runner.text(ids, np.ones_like(ids)), wanted[f'text_{which}']))\n"
        "print(len(pairs), max(unit_distance(*pair) for pair in pairs))\n"
    )
    count, distance = printed.split()
    assert int(count) == 5
    assert float(distance) < UNIT
