"""The pages for the frameworks' catalogues: their programs run, and what they must say for the catalogue is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from jinaclip.specs import JINA_CLIP_V1, JINA_CLIP_V2
from jinaclip.testing.process import Server
from tests.langchain.test_embeddings import picture

ROOT = Path(__file__).parents[2]
LISTINGS = ROOT / "docs" / "listings"
"""docs/listings/haystack.md and docs/listings/llamaindex.md among them."""
PAGES = ["langchain-embeddings.mdx", "langchain-provider.mdx", "haystack.md", "llamaindex.md"]
MADE = re.compile(r"(JinaClipEmbeddings?|JinaClip\w*Embedder)\((.*?)\)")


def program(page: str) -> str:
    """All Python of a page, as one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (LISTINGS / page).read_text("utf-8"), re.DOTALL))


def at(code: str, url: str) -> str:
    """The program with another service than Jina's."""
    return MADE.sub(lambda made: f"{made[1]}({made[2]}{', ' * bool(made[2])}base_url={url!r})", code)


def front_matter(page: str) -> dict[str, Any]:
    """What stands between the dashes."""
    return yaml.safe_load((LISTINGS / page).read_text("utf-8").split("---\n")[1])


@pytest.mark.parametrize("page", PAGES)
def test_the_program_of_a_page_runs(page: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JINA_API_KEY", "jina_test_listings")
    for seed, name in enumerate(("dress.png", "coat.png")):
        picture(seed).save(name)
    names: dict[str, Any] = {}
    exec(at(program(page), server.url), names)
    assert len(names.get("found", [0])) == 1


def test_haystacks_page_has_what_its_catalogue_requires() -> None:
    has = front_matter("haystack.md")
    assert {"layout", "name", "description", "authors", "pypi", "repo", "type", "report_issue"} <= has.keys()
    assert has["layout"] == "integration"
    assert has["type"] == "Model Provider"
    assert all(author["name"] for author in has["authors"])


def test_haystacks_page_names_the_version_that_the_package_wants() -> None:
    (wanted,) = (name for name in project("haystack_jinaclip")["dependencies"] if name.startswith("haystack-ai"))
    oldest = wanted.removeprefix("haystack-ai>=").partition(",")[0]
    assert front_matter("haystack.md")["version"] == f"Haystack {oldest}"


def test_langchains_provider_page_names_the_widths_of_the_models() -> None:
    page = " ".join((LISTINGS / "langchain-provider.mdx").read_text("utf-8").split())
    assert f"vectors of {JINA_CLIP_V1.dimensions} numbers" in page
    assert f"vectors of {JINA_CLIP_V2.useful_dimensions} to {JINA_CLIP_V2.dimensions:,} numbers" in page
    assert f"up to {JINA_CLIP_V2.max_tokens:,} tokens" in page


def test_langchains_rows_name_classes_that_the_package_has() -> None:
    import langchain_jinaclip

    rows = yaml.safe_load((LISTINGS / "langchain-rows.yaml").read_text("utf-8"))["python"]
    for row in (row for component in rows.values() for row in component):
        assert hasattr(langchain_jinaclip, row["name"])
        assert row["pypi"] == project("langchain_jinaclip")["name"]


def test_the_package_of_llamahubs_name_says_what_it_brings() -> None:
    about = tomllib.loads((ROOT / "packages" / "llama_index_embeddings_jinaclip" / "pyproject.toml").read_text("utf-8"))
    assert about["tool"]["llamahub"]["import_path"] == "llama_index.embeddings.jinaclip"
    assert "from llama_index.embeddings.jinaclip import JinaClipEmbedding" in program("llamaindex.md")


def project(package: str) -> dict[str, Any]:
    """The table `project` of a package."""
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text("utf-8"))["project"]
