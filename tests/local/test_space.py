"""The space of weights on this machine: of a folder its content, of a repository its commit."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jinaclip import JinaClip
from jinaclip.backends.local import source
from jinaclip.backends.local.source import FILES, FileState
from jinaclip.errors import CheckpointError
from jinaclip.specs import JINA_CLIP_V2, SPECS
from tests.local.test_folder import change_config, hub_cache

MOVED, PINNED = "b" * 40, JINA_CLIP_V2.revision


def of(model: object, **options: object) -> str:
    return JinaClip(str(model), backend="local", device="cpu", **options).space


def change_weights(folder: Path) -> None:
    """Other weights of the same size, written over the old ones: same file, same length, time set back."""
    path = folder / "model.safetensors"
    before = path.stat()
    weights = load_file(path)
    weights["logit_scale"] = np.asarray(weights["logit_scale"] + 1, weights["logit_scale"].dtype)
    save_file(weights, folder / "new")
    with path.open("r+b") as file:
        file.write((folder / "new").read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def replace_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] = np.asarray(weights["logit_scale"] + 1, weights["logit_scale"].dtype)
    save_file(weights, folder / "model.safetensors")


CHANGES: dict[str, Callable[[Path], object]] = {
    "weights in place": change_weights,
    "weights replaced": replace_weights,
    "preprocessing": lambda folder: change_config(folder, "preprocessor_config.json", mean=[0.5, 0.5, 0.5]),
    "config": lambda folder: change_config(folder, "config.json", logit_scale_init_value=3.0),
    "tokenizer": lambda folder: (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + "\n"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("settled", [True, False])
def test_a_folder_that_was_changed_in_place_is_another_space(
    own_folder: Path, change: Callable[[Path], object], settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "SETTLED_NS", -(2**62) if settled else 2**62)
    clip = JinaClip(str(own_folder), backend="local", device="cpu")
    before = clip.space
    change(own_folder)
    assert before != clip.space == of(own_folder)


def test_where_a_folder_lies_and_what_it_is_called_does_not_matter(own_folder: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(own_folder, tmp_path / "my shop \u00fc")
    assert of(copied) == of(own_folder)
    assert of(own_folder).startswith("checkpoint_64_")


def test_files_are_read_once(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "SETTLED_NS", -(2**62))
    names = {of(own_folder)}

    def refuse(path: Path) -> str:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(source, "_read_digest", refuse)
    names |= {of(own_folder), of(own_folder, dtype="bfloat16"), of(own_folder, batch_size=3)}
    assert len(names) == 1


def test_asking_for_it_loads_nothing(own_folder: Path) -> None:
    code = (
        "import sys; from jinaclip import JinaClip\n"
        "print(JinaClip(sys.argv[1], backend='local').space, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(own_folder)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [of(own_folder), "False"]


@pytest.mark.parametrize("change", [change_weights, replace_weights])
def test_what_was_loaded_never_goes_by_the_name_of_what_came_later(
    own_folder: Path, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "SETTLED_NS", 2**62)
    with JinaClip(str(own_folder), backend="local", device="cpu") as clip:
        clip.load()
        change(own_folder)
        with pytest.raises(CheckpointError, match=r"model\.safetensors was changed .* close\(\)"):
            _ = clip.space


def test_vectors_of_old_weights_never_go_by_the_name_of_new_ones(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object keeps the weights that it loaded; if nobody can tell their name any more, it says so."""
    monkeypatch.setattr(source, "SETTLED_NS", 2**62)
    old = JinaClip(str(own_folder), backend="local", device="cpu")
    name, vector = old.space, old.embed_query("a")
    replace_text_weights(own_folder)
    new = JinaClip(str(own_folder), backend="local", device="cpu")
    assert new.space != name
    assert not np.allclose(new.embed_query("a"), vector)
    np.testing.assert_array_equal(old.embed_query("a"), vector)
    with pytest.raises(CheckpointError, match=r"model\.safetensors was changed .* close\(\)"):
        _ = old.space
    old.close()
    assert old.space == new.space
    np.testing.assert_allclose(old.embed_query("a"), new.embed_query("a"), atol=1e-6)


def replace_text_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    changed = {name: value for name, value in weights.items() if name.startswith("text_model.") and value.ndim == 2}
    assert changed
    generator = np.random.default_rng(1)
    for name, value in changed.items():
        weights[name] = generator.permutation(value.ravel()).reshape(value.shape)
    save_file(weights, folder / "model.safetensors")


def test_a_name_once_known_stays_known_while_the_weights_are_loaded(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "SETTLED_NS", -(2**62))
    with JinaClip(str(own_folder), backend="local", device="cpu") as clip:
        clip.load()
        name = clip.space
        replace_weights(own_folder)
        assert clip.space == name != of(own_folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_is_named(own_folder: Path, name: str) -> None:
    clip = JinaClip(str(own_folder), backend="local", device="cpu")
    (own_folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        _ = clip.space


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_in_the_place_of_a_file_blocks_nobody(own_folder: Path) -> None:
    clip = JinaClip(str(own_folder), backend="local", device="cpu")
    (own_folder / "tokenizer.json").unlink()
    os.mkfifo(own_folder / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        _ = clip.space


def published_as(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes the content of a folder what was published as jina-clip-v2; gives the space of the hosted model."""
    preprocessing = json.loads((folder / "preprocessor_config.json").read_text())
    spec = dataclasses.replace(
        JINA_CLIP_V2,
        sha256=FileState.now(folder / "model.safetensors").digest(),
        dimensions=64,
        image_size=preprocessing["size"] if isinstance(preprocessing["size"], int) else preprocessing["size"][0],
    )
    monkeypatch.setitem(SPECS, "jina-clip-v2", spec)
    return JinaClip().space


def test_a_folder_with_the_published_files_is_the_published_space(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = published_as(own_folder, monkeypatch)
    assert of(own_folder) == of(shutil.copytree(own_folder, tmp_path / "elsewhere")) == hosted
    assert of(own_folder, image_resize="pad") == JinaClip(image_resize="pad").space


@pytest.mark.parametrize("change", ["weights in place", "preprocessing", "instruction"])
def test_published_weights_used_otherwise_are_another_space(
    own_folder: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = published_as(own_folder, monkeypatch)
    if change == "instruction":
        config = json.loads((own_folder / "config.json").read_text())
        config["text_config"]["hf_model_config_kwargs"]["task_instructions"]["retrieval.query"] = "Find: "
        (own_folder / "config.json").write_text(json.dumps(config))
    else:
        CHANGES[change](own_folder)
    assert of(own_folder) != hosted


def spaces_in_process(environment: dict[str, str], *options: dict[str, str]) -> list[str]:
    """Of each set of options, without a network; an error by its first word."""
    code = (
        "import json, sys; from jinaclip import JinaClip\n"
        "from jinaclip.errors import CheckpointError\n"
        "for options in json.loads(sys.argv[1]):\n"
        "    try: print(JinaClip(backend='local', device='cpu', **options).space)\n"
        "    except CheckpointError as error: print('refused:', error)"
    )
    command = [sys.executable, "-c", code, json.dumps(options)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.slow
def test_a_repository_is_named_by_its_commit(own_folder: Path, tmp_path: Path) -> None:
    environment = hub_cache(tmp_path, "someone/Tiny-Clip", MOVED, own_folder)
    unnamed, branch, commit = spaces_in_process(
        environment,
        {"model": "someone/Tiny-Clip"},
        {"model": "someone/Tiny-Clip", "revision": "main"},
        {"model": "someone/Tiny-Clip", "revision": MOVED},
    )
    assert unnamed == branch == commit
    assert unnamed.startswith("tiny_clip_64_")
    assert unnamed not in spaces_in_process(hub_cache(tmp_path / "later", "someone/Tiny-Clip", "c" * 40, own_folder),
                                            {"model": "someone/Tiny-Clip"})  # fmt: skip


@pytest.mark.slow
def test_another_revision_of_a_published_model_is_another_space(tmp_path: Path, own_folder: Path) -> None:
    environment = hub_cache(tmp_path, "jinaai/jina-clip-v2", MOVED, own_folder)
    model = {"model": "jina-clip-v2"}
    pinned, by_commit, moved, by_branch, unknown = spaces_in_process(
        environment,
        model,
        {**model, "revision": PINNED},
        {**model, "revision": MOVED},
        {**model, "revision": "main"},
        {**model, "revision": "next"},
    )
    assert pinned == by_commit == JinaClip().space
    assert moved == by_branch != pinned
    assert unknown.startswith("refused: nobody can tell yet which commit the revision 'next' of 'jinaai/jina-clip-v2'")


@pytest.mark.slow
def test_a_loaded_branch_keeps_the_commit_that_it_was(own_folder: Path, tmp_path: Path) -> None:
    environment = hub_cache(tmp_path, "someone/tiny-clip", MOVED, own_folder)
    code = (
        "import sys, pathlib; from jinaclip import JinaClip\n"
        "clip = JinaClip('someone/tiny-clip', backend='local', device='cpu')\n"
        "clip.load(); name = clip.space\n"
        "pathlib.Path(sys.argv[1]).write_text('d' * 40)\n"
        "print(clip.space == name)"
    )
    ref = tmp_path / "hub" / "models--someone--tiny-clip" / "refs" / "main"
    done = subprocess.run(
        [sys.executable, "-c", code, str(ref)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "True"


def test_device_and_dtype_change_the_fingerprint_alone(own_folder: Path) -> None:
    exact, narrow = (
        JinaClip(str(own_folder), backend="local", device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    assert exact.space == narrow.space
    assert exact.fingerprint != narrow.fingerprint
