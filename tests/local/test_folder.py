"""From a folder or the hub to a model: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jinaclip import ConfigError, JinaClip, MissingDependencyError, specs
from jinaclip.backends.local import model as model_module
from jinaclip.backends.local.source import FILES
from jinaclip.errors import CheckpointError
from tests.tiny import GOLDEN, byte_tokenizer

ROOT = Path(__file__).parents[2]


def open_folder(folder: Path, **options: object) -> JinaClip:
    clip = JinaClip(str(folder), backend="local", device="cpu", **options)
    clip.embed_query("load")
    return clip


def change_config(folder: Path, name: str = "config.json", **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.slow
def test_only_four_files_are_ever_opened(own_folder: Path) -> None:
    (own_folder / "modeling_clip.py").write_text("raise SystemExit('code of a checkpoint was run')")
    (own_folder / "pytorch_model.bin").write_bytes(b"\x80\x04not a pickle anybody should open")
    code = (
        "import sys; opened = set(); folder = sys.argv[1]\n"
        "sys.addaudithook(lambda name, args: opened.add(str(args[0])) if name == 'open' else None)\n"
        "from jinaclip import JinaClip\n"
        "JinaClip(folder, backend='local', device='cpu').self_test()\n"
        "print(sorted(path.removeprefix(folder + '/') for path in opened if path.startswith(folder)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(own_folder)], capture_output=True, text=True, check=True)
    allowed = {"config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"}
    assert set(eval(done.stdout)) <= allowed


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_a_missing_file_is_named(own_folder: Path, name: str) -> None:
    (own_folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        open_folder(own_folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_a_damaged_file_is_named(own_folder: Path, name: str, content: bytes) -> None:
    (own_folder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=name):
        open_folder(own_folder)


def test_a_tokenizer_of_another_vocabulary_is_refused(own_folder: Path) -> None:
    rows = json.loads((own_folder / "config.json").read_text())["text_config"]["hf_model_config_kwargs"]["vocab_size"]
    tokenizer = byte_tokenizer("v2", rows)
    tokenizer.add_tokens([f"extra{i}" for i in range(rows)])
    tokenizer.save(str(own_folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json.*word table"):
        open_folder(own_folder)


def test_pictures_of_another_size_than_the_towers_are_refused(own_folder: Path) -> None:
    change_config(own_folder, "preprocessor_config.json", size=99)
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json.*99"):
        open_folder(own_folder)


def test_weights_that_tell_nothing_apart_are_refused(own_folder: Path) -> None:
    weights = load_file(own_folder / "model.safetensors")
    weights["vision_model.norm.weight"] = np.zeros_like(weights["vision_model.norm.weight"])
    save_file(weights, own_folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="two different images"):
        open_folder(own_folder)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "../up", "~/nothing here"])
def test_what_is_neither_folder_nor_hub_id_is_refused_at_once(name: str) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        JinaClip(name, backend="local")


@pytest.mark.parametrize(("option", "value"), [("device", "tpu"), ("device", "cuda:99"), ("dtype", "int8")])
def test_an_impossible_device_or_type_is_named(own_folder: Path, option: str, value: str) -> None:
    with pytest.raises(ConfigError, match=option):
        JinaClip(str(own_folder), backend="local", **{option: value}).embed_query("a")


def test_a_changed_file_is_loaded_anew_whichever_it_is(own_folder: Path) -> None:
    with open_folder(own_folder) as before:
        change_config(own_folder, "preprocessor_config.json", mean=[0.9, 0.9, 0.9])
        with open_folder(own_folder) as after:
            gray = np.full((8, 8, 3), 128, np.uint8)
            assert not np.allclose(before.embed_image(gray), after.embed_image(gray))


def hub_cache(root: Path, repo: str, revision: str, folder: Path) -> dict[str, str]:
    """A hub cache that holds a folder as a repository, and the environment to use it without a network."""
    home = root / "hub" / f"models--{repo.replace('/', '--')}"
    shutil.copytree(folder, home / "snapshots" / revision)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(revision)
    return {**os.environ, "HF_HUB_CACHE": str(root / "hub"), "HF_HUB_OFFLINE": "1"}


def load_in_process(model: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from jinaclip import JinaClip\n"
        "print(*JinaClip(sys.argv[1], backend='local', device='cpu').self_test().problems)"
    )
    command = [sys.executable, "-c", code, model]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_repository_of_the_hub_loads_from_the_cache_offline(own_folder: Path, tmp_path: Path) -> None:
    environment = hub_cache(tmp_path, "someone/tiny-clip", "a" * 40, own_folder)
    done = load_in_process("someone/tiny-clip", environment)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done


@pytest.mark.slow
def test_a_published_model_must_have_the_published_bytes(own_folder: Path, tmp_path: Path) -> None:
    environment = hub_cache(tmp_path, "jinaai/jina-clip-v2", specs.JINA_CLIP_V2.revision, own_folder)
    done = load_in_process("jina-clip-v2", environment)
    assert "CheckpointError" in done.stdout
    assert "model.safetensors" in done.stdout and "SHA-256" in done.stdout


@pytest.mark.slow
def test_offline_without_the_files_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = load_in_process("jina-clip-v1", environment)
    assert "CheckpointError" in done.stdout and "HF_HUB_OFFLINE" in done.stdout


@pytest.mark.slow
def test_a_cache_filled_from_another_revision_says_which_one_is_wanted(own_folder: Path, tmp_path: Path) -> None:
    environment = hub_cache(tmp_path, "jinaai/jina-clip-v2", "b" * 40, own_folder)
    done = load_in_process("jina-clip-v2", environment)
    wanted = specs.JINA_CLIP_V2.revision
    assert f"at revision {wanted}" in done.stdout
    assert f"hf download jinaai/jina-clip-v2 {' '.join(FILES)} --revision {wanted}" in done.stdout


def test_the_licence_of_v2_is_told_once(own_folder: Path, monkeypatch, caplog: pytest.LogCaptureFixture) -> None:
    size = (own_folder / "model.safetensors").stat().st_size
    published = replace(specs.JINA_CLIP_V2, weights_bytes=size)
    monkeypatch.setitem(model_module.SPECS, "jina-clip-v2", published)
    with caplog.at_level(logging.WARNING, "jinaclip"):
        for dtype in ("float32", "bfloat16"):
            open_folder(own_folder, dtype=dtype)
    assert [record.getMessage().count("CC-BY-NC-4.0") for record in caplog.records] == [1]


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from jinaclip import JinaClip, MissingDependencyError\n"
        "try: JinaClip('jina-clip-v2', backend='local')\n"
        "except MissingDependencyError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "torch" in done.stdout and "jinaclip[local]" in done.stdout
    assert issubclass(MissingDependencyError, ImportError)


def test_the_goldens_themselves_have_no_tokenizer() -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        open_folder(GOLDEN / "v2-tiny")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("text_config", "hf_model_config_kwargs", {"num_hidden_layers": 10**9}),
        ("text_config", "hf_model_config_kwargs", {"task_instructions": 3}),
        ("text_config", "hf_model_config_kwargs", {"hidden_size": 2**62}),
        ("vision_config", "layers", 10**9),
        ("vision_config", "image_size", 10**30),
        ("vision_config", "width", -64),
    ],
)
def test_impossible_sizes_are_refused(own_folder: Path, section: str, key: str, value: object) -> None:
    config = json.loads((own_folder / "config.json").read_text())
    inner = config[section]
    inner[key] = {**inner[key], **value} if isinstance(value, dict) else value
    (own_folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError):
        open_folder(own_folder)


def test_a_pipe_in_the_place_of_a_config_blocks_nobody(own_folder: Path) -> None:
    (own_folder / "config.json").unlink()
    os.mkfifo(own_folder / "config.json")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        open_folder(own_folder)


def test_a_tokenizer_without_a_token_for_the_unknown_is_refused(own_folder: Path) -> None:
    from tokenizers import Tokenizer, models

    Tokenizer(models.WordLevel({"only": 0}, unk_token="[UNK]")).save(str(own_folder / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        open_folder(own_folder)


@pytest.mark.parametrize(
    ("key", "value"), [("std", [0, 1, 1]), ("std", [1e30] * 3), ("mean", ["x"] * 3), ("fill_color", 300)]
)
def test_impossible_preprocessing_is_refused(own_folder: Path, key: str, value: object) -> None:
    change_config(own_folder, "preprocessor_config.json", **{key: value})
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        open_folder(own_folder)
