"""The pages say what the code says, and no page has a program that no test runs."""

from __future__ import annotations

import importlib
import re
from dataclasses import fields
from pathlib import Path

import pytest

from jinaclip import ImagePolicy
from jinaclip import errors as tree
from jinaclip.hosts import EmbedderConfig
from tests.docs.pages import PAGES, programs

ROOT = Path(__file__).parents[1]
HERE = "tests/docs/test_programs.py"
RUN_BY = {
    "README.md": (3, HERE),
    "docs/bulk.md": (3, "tests/bulk/test_run_page.py", "tests/stores/test_bulk.py"),
    "docs/cache.md": (3, "tests/cache/test_page.py"),
    "docs/clouds.md": (4, "tests/wires/test_page.py"),
    "docs/compare.md": (1, HERE),
    "docs/engines.md": (1, "tests/local/test_export_command.py"),
    "docs/errors.md": (2, HERE),
    "docs/gpu.md": (1, HERE),
    "docs/how-it-works.md": (1, HERE),
    "docs/images.md": (2, HERE),
    "docs/listings/haystack.md": (1, "tests/examples/test_listings.py"),
    "docs/listings/llamaindex.md": (1, "tests/examples/test_listings.py"),
    "docs/options.md": (1, HERE),
    "docs/python.md": (4, HERE),
    "docs/retrieval.md": (2, HERE),
    "docs/serving.md": (1, HERE),
    "docs/spaces.md": (1, HERE),
    "docs/start.md": (2, HERE),
    "docs/stores.md": (16, HERE, "tests/stores/page.py", "tests/stores/test_bulk.py"),
    "docs/watching.md": (3, HERE, "tests/telemetry/test_tracing.py"),
    "examples/catalogue/checkpoint/README.md": (1, HERE),
    "packages/haystack_jinaclip/README.md": (6, "tests/haystack/test_readme.py"),
    "packages/langchain_jinaclip/README.md": (8, "tests/langchain/test_readme.py"),
    "packages/llama_index_embeddings_jinaclip/README.md": (1, HERE),
    "packages/llamaindex_jinaclip/README.md": (8, "tests/llamaindex/test_readme.py"),
    "shared/README.md": (3, HERE, "tests/api/test_testing.py"),
}
"""How many programs of Python a page has, and the tests that run them. Of docs/stores.md Weaviate's and Pinecone's
lines that open a store are only compiled: they dial a service. tests/docs/test_commands.py looks at commands."""
NOT_RUN = {
    "docs/evaluation.md": (2, "mteb downloads its data sets; tests/evaluation/test_mteb.py runs our model for it"),
}
"""Pages with programs that no test runs, and why."""
WITHOUT = {
    "CHANGELOG.md": "a list",
    "CODE_OF_CONDUCT.md": "no program",
    "CONTRIBUTING.md": "recipes, whose paths and names tests/test_contributing.py looks up",
    "SECURITY.md": "what is promised, not how to use it",
    "docs/README.md": "a list of pages",
    "docs/api.md": "a list; signatures are made from the code",
    "docs/balancers.md": "configurations of other programs, which are not here",
    "docs/decisions/README.md": "a list",
    "docs/design.md": "what is promised; the tests are its programs",
    "docs/glossary.md": "a list; below it is held against the code",
    "docs/listings/README.md": "how catalogues take entries",
    "docs/performance.md": "figures, of benchmarks/",
    "docs/reliability.md": "what was found by tests and soaks",
    "docs/releasing.md": "commands, which make release-check runs",
    "docs/scale.md": "figures, of benchmarks/ and a simulation",
    "docs/style.md": "how things are written",
    "docs/versions.md": "what is promised of versions",
}
"""Pages without a program of Python, and why. Each decision is one too."""


def table(page: str, title: str | None = None) -> list[list[str]]:
    """The rows of the table of a page, or of a section of it."""
    text = (ROOT / page).read_text("utf-8")
    section = text if title is None else re.split(r"\n##+ ", text.split(f"# {title}\n", 1)[1])[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_every_page_of_docs_is_listed_in_its_index() -> None:
    ours = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert ours <= PAGES.keys()


def test_no_page_is_left_out() -> None:
    """A new page or program has to say who runs it, or why nobody does."""
    listed = [*RUN_BY, *NOT_RUN, *WITHOUT]
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) == {page for page in PAGES if not page.startswith("docs/decisions/0")}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_the_programs_of_a_page_are_all_accounted_for(page: str) -> None:
    count, *_ = RUN_BY.get(page) or NOT_RUN.get(page) or (0,)
    assert len(programs(PAGES[page])) == count


@pytest.mark.parametrize("page", sorted(RUN_BY))
def test_the_tests_that_run_a_page_are_there_and_read_it(page: str) -> None:
    path = Path(page)
    for test in RUN_BY[page][1:]:
        text = (ROOT / str(test)).read_text("utf-8")
        assert page in text or (path.name in text and path.parent.name in text), f"{test} does not read {page}"


def test_the_option_table_lists_every_option_in_order() -> None:
    named = [row[0].strip("`") for row in table("docs/options.md")]
    assert named == [field.name for field in fields(EmbedderConfig)]


def test_the_option_table_gives_the_defaults_of_the_code() -> None:
    config = EmbedderConfig()
    for name, default, _ in table("docs/options.md"):
        if default.startswith("`") and default != "`ImagePolicy()`":
            assert repr(getattr(config, name.strip("`"))) == default.strip("`").replace('"', "'"), name


def test_the_table_of_policies_is_that_of_the_code() -> None:
    rows = [
        (name.strip("`"), default.strip("`").replace('"', "'"))
        for name, default, _ in table("docs/images.md", "Policies")
    ]
    assert rows == [(field.name, repr(field.default)) for field in fields(ImagePolicy)]


def test_the_words_of_the_glossary_are_in_the_code() -> None:
    """Those of its last column: names of the package, of members, of options, or of options with a value."""
    import jinaclip

    known = {*jinaclip.__all__, *dir(jinaclip.JinaClip), *(field.name for field in fields(EmbedderConfig))}
    known |= {f"Usage.{field.name}" for field in fields(jinaclip.Usage)}
    rows = table("docs/glossary.md")
    words = {row[2].strip("`").split("=")[0] for row in rows if row[2]}
    assert words <= known
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), key=str.lower)


def test_links_between_our_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("packages/*/README.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_error_table_names_every_error() -> None:
    names = {name for name in tree.__all__ if name.endswith("Error")} - {"JinaClipError", "APIError"}
    assert set(re.findall(r"`(\w+Error)`", " ".join(row[0] for row in table("docs/errors.md", "Errors")))) == names


@pytest.mark.parametrize("page", [*sorted(PAGES), "shared/README.md"])
def test_what_pages_import_from_us_is_there(page: str) -> None:
    for module, names in re.findall(r"^from (jinaclip[\w.]*) import (.+)$", (ROOT / page).read_text(), re.MULTILINE):
        if module != "jinaclip.mteb":  # which needs mteb
            found = importlib.import_module(module)
            assert [name for name in names.split(", ") if not hasattr(found, name)] == [], page
