"""What the five distributions say of themselves, and how pages say that they are installed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import jinaclip
from scripts.install_lines import NOTE, PATHS, PUBLISHED, REPOSITORY, main, rewrite

ROOT = Path(__file__).parents[2]
FOLDERS = {name: ROOT / path for name, path in PATHS.items()}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def read(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDERS[name] / "pyproject.toml").read_text())


def test_the_list_of_distributions_is_complete() -> None:
    found = [*ROOT.glob("packages/*/pyproject.toml"), ROOT / "shared" / "pyproject.toml"]
    assert {path.parent for path in found} == set(FOLDERS.values())
    assert [read(name)["project"]["name"] for name in PATHS] == list(PATHS)


@pytest.mark.parametrize("name", PATHS)
def test_the_version_stands_in_one_file(name: str) -> None:
    have = read(name)
    assert "version" not in have["project"] and have["project"]["dynamic"] == ["version"]
    assert (FOLDERS[name] / have["tool"]["hatch"]["version"]["path"]).resolve() == Path(jinaclip.__file__).resolve()


@pytest.mark.parametrize("name", PATHS)
def test_a_distribution_takes_any_of_ours_from_the_first_of_this_minor_version_to_the_next(name: str) -> None:
    project, version = read(name)["project"], Version(jinaclip.__version__)
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    ours = [one for group in groups for one in map(Requirement, group) if one.name in PATHS]
    assert bool(ours) == (name != "jinaclip")
    bounds = {f">={version.major}.{version.minor}.0", f"<{version.major}.{version.minor + 1}"}
    assert {frozenset(map(str, one.specifier)) for one in ours} <= {frozenset(bounds)}
    assert all(one.specifier.contains(version) for one in ours)


@pytest.mark.parametrize("name", PATHS)
def test_what_an_index_shows_is_there(name: str) -> None:
    project = read(name)["project"]
    assert project["authors"] and len(project["keywords"]) >= 5
    assert {"Homepage", "Documentation", "Repository", "Changelog", "Issues", "Security"} == set(project["urls"])
    core = read("jinaclip")["project"]
    assert project["urls"]["Repository"] == core["urls"]["Repository"] == REPOSITORY
    assert all(url.startswith(REPOSITORY) for url in project["urls"].values())
    assert project["requires-python"] == core["requires-python"]
    assert project["classifiers"] == core["classifiers"]


@pytest.mark.parametrize("name", PATHS)
def test_links_of_what_an_index_shows_are_absolute_and_lead_to_files_that_are_there(name: str) -> None:
    urls = [*LINK.findall((FOLDERS[name] / "README.md").read_text()), *read(name)["project"]["urls"].values()]
    assert [url for url in urls if not url.startswith(("https://", "#"))] == []
    for url in urls:
        if found := re.fullmatch(rf"{REPOSITORY}/(blob|tree)/main/([^#]+)(#.*)?", url):
            path = ROOT / found[2]
            assert path.is_file() if found[1] == "blob" else path.is_dir(), url


@pytest.mark.parametrize("name", PATHS)
def test_a_readme_says_first_how_to_install_the_package_and_shows_an_example(name: str) -> None:
    text = (FOLDERS[name] / "README.md").read_text()
    assert NOTE.search(text)
    install = text.index(f"pip install {name}\n") if PUBLISHED else text.index("pip install ./shared")
    assert text.index("<!-- /installation -->") < install < text.index("```python")


def test_every_line_that_installs_works_today(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, `python scripts/install_lines.py` writes the lines as they must be."""
    assert main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("checkout", "index"),
    [
        ("pip install ./shared", "pip install jinaclip"),
        ('`pip install "./shared[bulk,pdf]" lancedb`', '`pip install "jinaclip[bulk,pdf]" lancedb`'),
        ("pip install './shared[serve]' 'ray[serve]>=2.60'", "pip install 'jinaclip[serve]' 'ray[serve]>=2.60'"),
        (r"pip install \"./shared[local]\"`", r"pip install \"jinaclip[local]\"`"),
        ("pip install ./shared ./packages/haystack_jinaclip  # so", "pip install haystack-jinaclip  # so"),
        (
            'pip install ./shared ./packages/llamaindex_jinaclip "./packages/llama_index_embeddings_jinaclip[local]"',
            'pip install "llama-index-embeddings-jinaclip[local]"',
        ),
        (
            'pip install "./shared[pdf]" ./packages/langchain_jinaclip',
            'pip install "jinaclip[pdf]" langchain-jinaclip',
        ),
        ("pip install jina-haystack", "pip install jina-haystack"),
    ],
)
def test_a_line_has_two_forms(checkout: str, index: str) -> None:
    for text in (checkout, index):
        assert rewrite(text, published=False) == checkout
        assert rewrite(text, published=True) == index
