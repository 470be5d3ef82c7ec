"""What `make docs` makes of the pages: navigation, links, tables of the code, the reference, llms.txt."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.docs.links import BrokenLinkError, Linker
from scripts.docs.llms import make_list
from scripts.docs.nav import DOCS, ROOT, all_pages, read_nav
from tests.needs import skip_without

NAMES = {page.source: page.name for page in all_pages(read_nav())}
FORGE = "https://forge.example.com/us/jinaclip"


def rewrite(text: str, source: str, repository: str | None = None) -> str:
    path = ROOT / source
    return Linker(NAMES, repository).rewrite(text, path, NAMES[path])


def index(tmp_path: Path, line: str) -> Path:
    (tmp_path / "page.md").write_text("# A page\n")
    (tmp_path / "README.md").write_text(f"# All\n\n## Guides\n\n{line}\n")
    return tmp_path / "README.md"


def test_pages_of_one_name_have_one_address_each() -> None:
    assert len(set(NAMES.values())) == len(NAMES)
    assert NAMES[DOCS / "cache.md"] == "cache"
    assert NAMES[ROOT / "packages/langchain_jinaclip/README.md"] == "langchain"
    assert NAMES[DOCS / "decisions/0001-outcomes-are-values.md"] == "decisions/0001-outcomes-are-values"


def test_a_page_written_for_another_site_is_no_page_of_this_one() -> None:
    """Sphinx refuses a page without a title."""
    assert DOCS / "listings/llamaindex.md" in NAMES
    assert DOCS / "listings/haystack.md" not in NAMES
    for source in NAMES:
        assert re.match(r"(---\n.*?\n---\n\s*)?# ", source.read_text("utf-8"), re.DOTALL), source


def test_sections_have_addresses_that_no_page_has() -> None:
    assert not {section.name for section in read_nav()} & set(NAMES.values())


@pytest.mark.parametrize("line", ["- [A page](page.md)", "- A page: of which much is said", "- [No](no.md): page"])
def test_an_entry_of_another_form_or_of_no_file_is_refused(line: str, tmp_path: Path) -> None:
    assert read_nav(index(tmp_path, "- [A page](page.md): what it says"))[0].pages[0].about == "what it says"
    with pytest.raises(ValueError, match=r"README\.md: "):
        read_nav(index(tmp_path, line))


@pytest.mark.parametrize(
    ("source", "link", "ours"),
    [
        ("docs/start.md", "[a](cache.md#where-it-lies)", "[a](cache.md#where-it-lies)"),
        ("docs/start.md", "[a](../packages/langchain_jinaclip/README.md)", "[a](langchain.md)"),
        ("packages/langchain_jinaclip/README.md", "[a](../../docs/cache.md)", "[a](cache.md)"),
        ("docs/decisions/README.md", "[a](../cache.md)", "[a](../cache.md)"),
        ("docs/start.md", "[a](decisions/README.md)", "[a](decisions/index.md)"),
        ("docs/start.md", "[a](#there) [b](https://example.com/a.md)", "[a](#there) [b](https://example.com/a.md)"),
        ("docs/start.md", "![a picture](serve-page.png)", "![a picture](_files/serve-page.png)"),
        ("docs/start.md", "`a`\n```\n[a](no.md)\n```\n", "`a`\n```\n[a](no.md)\n```\n"),
        ("docs/start.md", "[the demo](../examples/demo.py)", "the demo (`examples/demo.py`)"),
        ("docs/start.md", "[demo.py](../examples/demo.py)", "`examples/demo.py`"),
    ],
)
def test_links_of_the_forge_become_links_of_the_site(source: str, link: str, ours: str) -> None:
    assert rewrite(link, source) == ours


def test_links_to_our_own_forge_become_links_of_the_site() -> None:
    """READMEs of packages, which an index shows alone, have them."""
    page = "packages/langchain_jinaclip/README.md"
    assert rewrite(f"[a]({FORGE}/blob/main/docs/cache.md#privacy)", page, FORGE) == "[a](cache.md#privacy)"
    assert rewrite("[a](../../examples/demo.py)", page, FORGE) == f"[a]({FORGE}/blob/main/examples/demo.py)"


@pytest.mark.parametrize("target", ["no.md", "../no/such.py", "../../outside.md"])
def test_a_link_to_nothing_is_refused(target: str) -> None:
    with pytest.raises(BrokenLinkError, match=r"docs/start\.md: .* is not there"):
        rewrite(f"see [this]({target})", "docs/start.md")


def test_the_table_of_layers_is_that_of_the_architecture() -> None:
    skip_without("griffe")
    from scripts.docs.generated import draw_layers, fill_marks
    from tests.test_architecture import LAYERS

    rows = [row.strip("| ").split(" | ") for row in draw_layers().splitlines()[2:]]
    assert [row[1].strip("`") for row in rows] == [name for layer in LAYERS for name in layer]
    clip = next(row for row in rows if row[1] == "`clip`")
    assert {"`cache`", "`call`", "`self_test`"} <= set(clip[3].split(", "))
    assert "`server`" not in clip[3]
    assert draw_layers() in fill_marks((DOCS / "how-it-works.md").read_text())


@pytest.mark.slow
def test_the_reference_has_every_public_name_with_its_signature() -> None:
    skip_without("griffe")
    import jinaclip
    from scripts.docs.api import api_pages

    pages = api_pages()
    for name in jinaclip.__all__:
        assert f"\n## {name}\n" in pages["api/jinaclip"]
    assert "def aembed_query(text: str) -> Coroutine[Any, Any, Vectors]" in pages["api/jinaclip"]
    assert 'class JinaClip(model: str = "jina-clip-v2", **options)' in pages["api/jinaclip"]
    assert "- `ConfigError`: the weight is out of range." in pages["api/jinaclip"]
    for package in ("langchain_jinaclip", "llamaindex_jinaclip", "haystack_jinaclip"):
        source = next(ROOT.glob(f"packages/{package}/src/{package}/__init__.py")).read_text()
        names = re.findall(r'"(\w+)"', source.split("__all__ = [")[1].split("]")[0])
        assert all(f"\n## {name}\n" in pages[f"api/{package}"] for name in names)


def test_the_list_for_programs_has_every_page_of_the_navigation() -> None:
    sections = read_nav()
    made = make_list(sections, (DOCS / "README.md").read_text())
    assert made.startswith("# jinaclip documentation\n\n> Texts and images in one vector space")
    assert re.findall(r"^- \[.*?\]\((.*?)\): .", made, re.M) == [f"{p.name}.md" for s in sections for p in s.pages]
