"""What pages there are, in which sections: read from docs/README.md, which lists them for people too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"
ENTRY = re.compile(r"- \[(?P<title>[^\]]+)\]\((?P<target>[^)#]+\.md)\): (?P<about>.+)")


@dataclass(frozen=True)
class Page:
    """A file in Markdown, and its address in the site without the ending."""

    title: str
    about: str
    source: Path
    name: str

    @property
    def children(self) -> list[Page]:
        """The other pages of a folder under docs/, where this is its README.md; pages for other sites have no title."""
        if self.source.name != "README.md" or self.source.parent.parent != DOCS:
            return []
        files = sorted(path for path in self.source.parent.glob("*.md") if path != self.source)
        others = [path for path in files if path.read_text("utf-8").startswith("# ")]
        return [Page("", "", path, name_of(path, "")) for path in others]


@dataclass(frozen=True)
class Section:
    """A heading of docs/README.md, and the pages below it."""

    title: str
    name: str
    pages: Sequence[Page]


def read_nav(index: Path = INDEX) -> list[Section]:
    """The sections of an index.

    Raises:
        ValueError: a line of a list is no entry, or a file that it names is not there.
    """
    sections = []
    for part in index.read_text("utf-8").split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        lines = [line for line in body.splitlines() if line.startswith("-")]
        sections.append(Section(title, slug(title), [_read_entry(line, index) for line in lines]))
    return sections


def _read_entry(line: str, index: Path) -> Page:
    found = ENTRY.fullmatch(line)
    if found is None:
        raise ValueError(f"{index}: {line!r} is not of the form '- [title](page.md): what it is about'")
    source = (index.parent / found["target"]).resolve()
    if not source.is_file():
        raise ValueError(f"{index}: there is no {found['target']}")
    return Page(found["title"], found["about"], source, name_of(source, found["title"]))


def name_of(source: Path, title: str) -> str:
    """Pages under docs/ keep their path; others, README files mostly, go by their title."""
    if not source.is_relative_to(DOCS):
        return slug(title)
    path = source.relative_to(DOCS).with_suffix("")
    return path.with_name("index").as_posix() if path.name == "README" else path.as_posix()


def slug(title: str) -> str:
    """`The project` gives `the-project`."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def all_pages(sections: Sequence[Section]) -> Iterator[Page]:
    """The pages of all sections and their children; the index is first."""
    yield Page("jinaclip", "", INDEX, "index")
    for section in sections:
        for page in section.pages:
            yield page
            yield from page.children
