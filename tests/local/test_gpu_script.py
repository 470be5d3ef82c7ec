"""scripts/gpu.py on a machine without a card: the same road, as far as it goes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu.py"


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=3100, env=environment)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="has a card")
def test_without_a_card_it_says_so_and_ends_with_2(tmp_path: Path) -> None:
    done = run(OUT=str(tmp_path))
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_rehearsal_makes_what_it_needs_runs_the_tests_and_reports(tmp_path: Path) -> None:
    """By an interpreter that lacks what the suite needs and the engine does not, as that of a card may."""
    for name in ("starlette", "pytest_asyncio", "pybase64", "orjson"):
        (tmp_path / f"{name}.py").write_text("raise ImportError('not here')\n")
    folders = {"OUT": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    done = run("--rehearse", "--parts", "prepare,tests", **folders)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / "gpu-report.md").read_text()
    assert "the figures mean nothing" in report
    assert "passed" in report
    assert report.rstrip().endswith("All parts went well.")


@pytest.mark.slow
def test_a_part_that_comes_to_its_limit_is_named_and_the_code_is_1(tmp_path: Path) -> None:
    report = tmp_path / "here.md"
    done = run("--rehearse", "--parts", "tests", "--seconds", "1.5", "--out", str(report))
    assert done.returncode == 1
    assert "Failed: tests." in report.read_text()
    assert "its limit" in report.read_text()


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="sees other processes in /proc")
def test_who_ends_it_ends_the_part_under_way(tmp_path: Path) -> None:
    """A part that went on would keep the memory of the card."""
    command = [sys.executable, str(SCRIPT), "--rehearse", "--parts", "prepare", "--out", str(tmp_path / "report.md")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        assert "[1/1] prepare" in process.stderr.readline()
        process.terminate()
    assert process.returncode == 143
    assert not processes_with(str(tmp_path / "cache"))


def processes_with(text: str) -> list[str]:
    """Processes whose environment holds a text."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # of another user, or gone
            if text in environment.read_text(errors="replace"):
                found.append(environment.parent.name)
    return found


@pytest.mark.long
def test_the_whole_rehearsal_goes_well(tmp_path: Path) -> None:
    done = run("--rehearse", "--seconds", "3000", "--out", str(tmp_path / "report.md"))
    assert done.returncode == 0, (tmp_path / "report.md").read_text()
