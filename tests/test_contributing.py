"""What is told to those who carry the project: paths, names and targets are there, and forms are what GitHub reads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = ["CONTRIBUTING.md", "docs/design.md", "docs/style.md"]
STEPS = re.findall(r"^\d\. (.*?)(?=^\d\. |^#|\Z)", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)\)")


def text_at(path: Path) -> str:
    """Of a file, or of all files of a folder."""
    if path.is_file():
        return path.read_text()
    return "\n".join(one.read_text() for one in path.rglob("*.py"))


def named_steps() -> list[str]:
    """Steps of the recipes that name something of the code."""
    return [step for step in STEPS if LINK.search(step) and re.search(r"`[A-Z]\w+`", step)]


@pytest.mark.parametrize("step", named_steps(), ids=lambda step: re.sub(r"\W+", "-", step)[:40])
def test_a_recipe_names_what_its_files_hold(step: str) -> None:
    held = "\n".join(text_at(ROOT / link) for link in LINK.findall(step))
    names = set(re.findall(r"`([A-Z]\w+)`", step)) - {"JinaClip", "NAME"}
    assert {name for name in names if not re.search(rf"\b{name}\b", held)} == set()


def test_there_are_recipes_for_all_that_can_be_added() -> None:
    titles = re.findall(r"^## Add an? (.+)$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert titles == ["wire", "engine", "vector store", "host", "model"]
    assert len(named_steps()) > 10


@pytest.mark.parametrize("page", PAGES)
def test_paths_in_code_are_there(page: str) -> None:
    """Those that links name are looked at with all other pages."""
    text = (ROOT / page).read_text()
    folders = "shared|packages|tests|docs|examples|scripts|benchmarks"
    for path in re.findall(rf"`((?:{folders})/[\w./]*)`", text):
        assert (ROOT / path).exists() or path.endswith("/NAME.py"), path


@pytest.mark.parametrize("page", PAGES)
def test_make_targets_are_there(page: str) -> None:
    targets = set(re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in re.findall(r"`make ([^`]+)`|^make (\S+)", (ROOT / page).read_text(), re.MULTILINE):
        assert set("".join(command).split()) <= targets


def test_every_page_leads_to_nothing_outside_the_repository() -> None:
    for page in PAGES:
        for link in LINK.findall((ROOT / page).read_text()):
            assert ((ROOT / page).parent / link).resolve().is_relative_to(ROOT), link


@pytest.mark.parametrize("form", ["bug", "idea"])
def test_a_form_has_what_github_asks_for(form: str) -> None:
    read = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").read_text())
    assert read["name"] and read["description"]
    fields = [part for part in read["body"] if part["type"] != "markdown"]
    assert any(part.get("validations", {}).get("required") for part in fields)
    assert len({part["id"] for part in fields}) == len(fields)
    assert all(part["attributes"]["label"] for part in fields)


def test_hooks_before_a_commit_run_from_the_environment_of_make() -> None:
    """So that their versions stand in requirements-dev.txt alone."""
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    assert all(hook["entry"].startswith(".venv/bin/python -m ") for hook in hooks)
    listed = (ROOT / "requirements-dev.txt").read_text() + (ROOT / "requirements-core-tests.txt").read_text()
    assert {hook["entry"].split()[2] for hook in hooks} <= set(re.findall(r"^([\w-]+)", listed, re.MULTILINE))
