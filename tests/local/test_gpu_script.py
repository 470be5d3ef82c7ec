"""scripts/gpu.py on a machine without a card: the same road, as far as it goes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "gpu.py"), *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a card")
def test_without_a_card_it_says_so_and_ends_with_2(tmp_path: Path) -> None:
    done = run(OUT=str(tmp_path))
    assert done.returncode == 2
    assert "no CUDA device" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_rehearsal_makes_what_it_needs_runs_the_tests_and_reports(tmp_path: Path) -> None:
    done = run("--rehearse", "--parts", "prepare,tests", OUT=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "cache"))
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


@pytest.mark.long
def test_the_whole_rehearsal_goes_well(tmp_path: Path) -> None:
    done = run("--rehearse", "--out", str(tmp_path / "report.md"))
    assert done.returncode == 0, (tmp_path / "report.md").read_text()
