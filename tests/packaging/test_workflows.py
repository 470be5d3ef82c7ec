"""The workflows name what there is: our Pythons, distributions, suites and scripts."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import jinaclip
from scripts.install_lines import PATHS
from tests.packaging.conftest import ROOT

FOLDER = ROOT / ".github" / "workflows"
WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in FOLDER.glob("*.yml")}


def matrix(workflow: str, job: str) -> dict[str, Any]:
    return WORKFLOWS[workflow]["jobs"][job]["strategy"]["matrix"]


def test_the_matrix_has_the_pythons_and_systems_that_we_declare() -> None:
    project = tomllib.loads((ROOT / "shared" / "pyproject.toml").read_text())["project"]
    pythons = [found[1] for line in project["classifiers"] if (found := re.fullmatch(r".*Python :: (3\.\d+)", line))]
    assert matrix("ci", "core")["python"] == matrix("ci", "adapters")["python"] == pythons
    assert matrix("ci", "core")["os"] == ["ubuntu", "macos", "windows"]


def test_the_suites_are_those_of_the_scripts() -> None:
    code = "import sys; sys.path.insert(0, 'scripts'); from environments import SUITES; print(*SUITES)"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert matrix("ci", "lowest")["suite"] == found.split()
    assert [*matrix("ci", "core")["suite"], *matrix("ci", "adapters")["suite"]] == found.split()


def test_every_distribution_is_published_the_core_first() -> None:
    assert matrix("release", "publish")["project"] == list(PATHS)
    assert WORKFLOWS["release"]["jobs"]["publish"]["strategy"]["max-parallel"] == 1


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_a_workflow_may_read_and_its_actions_are_github_s_and_pypa_s(name: str) -> None:
    workflow, text = WORKFLOWS[name], (FOLDER / f"{name}.yml").read_text()
    assert workflow["permissions"] in ({}, {"contents": "read"})
    assert workflow["concurrency"]
    assert {action.split("/")[0] for action in re.findall(r"uses: (\S+)", text)} <= {"actions", "pypa"}
    assert [file for file in re.findall(r"scripts/\w+\.py", text) if not (ROOT / file).exists()] == []
    granted = {scope for job in workflow["jobs"].values() for scope in job.get("permissions", {})}
    assert granted <= {"contents", "id-token"} and ("id-token" in granted) == (name == "release")


@pytest.mark.parametrize(
    ("option", "value", "complaint"),
    [
        ("--repository", "https://github.com/somebody/else", "the metadata send people to"),
        ("--tag", f"v{jinaclip.__version__}.1", "is not v"),
    ],
)
@pytest.mark.slow
def test_a_release_is_refused(wheels: dict[str, Path], option: str, value: str, complaint: str) -> None:
    """Before anything is installed."""
    command = [sys.executable, "scripts/release_check.py", "--dist", next(iter(wheels.values())).parent, option, value]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert complaint in done.stderr
