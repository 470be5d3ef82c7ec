"""Exports of the tiny checkpoints for every test, made once for all processes of a run: exporting takes seconds."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.needs import skip_without
from tests.tiny import make_checkpoint

BY_COMMAND = "v1"
"""The version that `jinaclip export` makes, in a process of its own; the other is made here."""
SAID = "said"
"""Beside what the command made: what it printed, its stdout and then its stderr."""
KINDS = {"v1": ("v1", False), "v2": ("v2", False), "v2-int8": ("v2", True)}


def exported(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder made by `jinaclip export`, for tests that only read it; the checkpoint is `checkpoint` beside it."""
    for module in ("torch", "onnxruntime", "onnxscript"):
        skip_without(module)
    from filelock import FileLock

    version, int8 = KINDS[kind]
    root = tmp_path_factory.getbasetemp()
    root = (root.parent if root.name.startswith("popen-gw") else root) / "exports"  # one for all processes of xdist
    root.mkdir(exist_ok=True)
    with FileLock(root / f"{version}.lock"):
        checkpoint = root / version / "checkpoint"
        if not checkpoint.exists():
            make_checkpoint(checkpoint, version)
        for made in [version, kind] if int8 else [version]:
            if not (root / version / made).exists():
                (round_weights if made != version else write)(root / version / version, checkpoint)
    return root / version / kind


def write(folder: Path, checkpoint: Path) -> None:
    """Exports a checkpoint."""
    if folder.name == BY_COMMAND:
        done = export_by_command(checkpoint, folder)
        assert done.returncode == 0, done.stderr
        (folder.parent / SAID).write_text(done.stdout + done.stderr)
        return
    from jinaclip.backends.local.export.run import export

    export(str(checkpoint), folder)


def export_by_command(checkpoint: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Runs `jinaclip export`."""
    command = [sys.executable, "-m", "jinaclip", "export", str(checkpoint), "--out", str(folder), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)


def round_weights(folder: Path, _: Path) -> None:
    """Makes the int8 of an exported folder beside it, which is quicker than to export it again."""
    from jinaclip.backends.local.export.quantize import quantize
    from jinaclip.backends.local.export.run import complete
    from jinaclip.backends.local.onnx_folder import TEXT_GRAPH, VISION_GRAPH, read_manifest

    made = copied(folder, folder.with_name(f"{folder.name}-int8"))
    for name in (TEXT_GRAPH, VISION_GRAPH):
        quantize(made / name)
    complete(replace(read_manifest(folder), precision="int8"), made)


def copied(folder: Path, to: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(folder, to)
