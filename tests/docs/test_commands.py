"""Commands that pages print are taken by the parsers, makefiles and packages that they name."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from jinaclip.cli.main import make_parser
from tests.docs.pages import PAGES, ROOT, command_lines

TARGETS = set(re.findall(r"^([./a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
EXTRAS = {
    tomllib.loads(file.read_text())["project"]["name"]: set(
        tomllib.loads(file.read_text())["project"].get("optional-dependencies", {})
    )
    for file in [ROOT / "shared" / "pyproject.toml", *ROOT.glob("packages/*/pyproject.toml")]
}
"""Of each distribution."""
ALL = [(path, words) for path, page in PAGES.items() for words in command_lines(page)]


def lines(*starts: str) -> list[object]:
    """A case for each line that begins with one of these words."""
    found = {f"{path}: {' '.join(words)}": (path, words) for path, words in ALL if words[0].split("/")[-1] in starts}
    return [pytest.param(path, words, id=name[:90]) for name, (path, words) in found.items()]


@pytest.mark.parametrize(("path", "words"), lines("jinaclip"))
def test_the_command_takes_what_pages_give_it(
    path: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two sources are compared, the parser looks whether they are there."""
    monkeypatch.chdir(tmp_path)
    Path("old.toml").write_text('model = "jina-clip-v2"\n')
    for folder in ("jina-folder", "models/v2-int8"):
        Path(folder).mkdir(parents=True)
    make_parser().parse_args(words[1:])


@pytest.mark.parametrize(("path", "words"), lines("make"))
def test_make_has_the_targets_that_pages_name(path: str, words: list[str]) -> None:
    if words[1] != "-C":  # of another project
        assert words[1] in TARGETS


@pytest.mark.parametrize(("path", "words"), lines("python", "python3"))
def test_modules_and_files_that_pages_start_are_there(path: str, words: list[str]) -> None:
    if words[1] == "-m" and words[2] != "venv":
        assert find_spec(words[2]) is not None
    elif words[1] != "-m" and words[1] != "first.py":  # which the reader writes
        assert (ROOT / words[1]).exists()


@pytest.mark.parametrize(("path", "words"), lines("pip"))
def test_extras_that_pages_install_are_there(path: str, words: list[str]) -> None:
    for name, extras in re.findall(r"([\w./-]+)\[([\w,]+)\]", " ".join(words)):
        distribution = {"./shared": "jinaclip"}.get(name, Path(name).name.replace("_", "-"))
        if distribution in EXTRAS:
            assert set(extras.split(",")) <= EXTRAS[distribution]


def test_there_are_commands_to_look_at() -> None:
    """A change of how pages print them would leave nothing to test."""
    assert len(lines("jinaclip")) > 15
    assert len(lines("pip")) > 10
