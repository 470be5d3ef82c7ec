"""`llms.txt`, the list of all pages for programs that read, and the pages themselves as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.docs.nav import Section

LEFT_OUT = ("changes", "decisions/")
"""Of `llms-full.txt`: what was, and why, which is long and answers no question on use."""


def write_llms(sections: Sequence[Section], texts: Mapping[str, str], site: Path) -> None:
    """Writes llms.txt, llms-full.txt and a Markdown file beside each page."""
    for name, text in texts.items():
        (site / f"{name}.md").write_text(text, "utf-8")
    (site / "llms.txt").write_text(make_list(sections, texts["index"]), "utf-8")
    whole = [text for name, text in texts.items() if not name.startswith(LEFT_OUT)]
    (site / "llms-full.txt").write_text("\n\n".join(whole), "utf-8")


def make_list(sections: Sequence[Section], index: str) -> str:
    """Title, a summary, and the pages by section, as llmstxt.org has it."""
    title, summary = index.split("\n\n")[:2]
    quoted = "\n".join(f"> {line}" for line in summary.splitlines())
    return "\n\n".join([title, quoted, *map(_section, sections)]) + "\n"


def _section(section: Section) -> str:
    pages = "\n".join(f"- [{page.title}]({page.name}.md): {page.about}" for page in section.pages)
    return f"## {section.title}\n\n{pages}"
