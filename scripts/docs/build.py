"""Builds the site: gathers the pages in one folder, with links of the site, and has Sphinx make HTML, strictly."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from scripts.docs.api import write_pages
from scripts.docs.generated import fill_marks
from scripts.docs.links import FILES, Linker, find_repository
from scripts.docs.llms import write_llms
from scripts.docs.nav import DOCS, ROOT, Page, Section, all_pages, read_nav

SITE = ROOT / "site"
WORK = ROOT / "build" / "docs"


def gather(sections: Sequence[Section], folder: Path) -> dict[str, str]:
    """Writes the sources of the site into a new folder; gives the text of each page, by name."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = list(all_pages(sections))
    linker = Linker({page.source: page.name for page in pages}, find_repository())
    texts = {page.name: linker.rewrite(_read(page), page.source, page.name) for page in pages}
    for page in pages:
        _write(folder, page.name, texts[page.name] + _toctree([f"/{child.name}" for child in page.children]))
    for section in sections:
        _write(folder, section.name, _section_page(section))
    _write(folder, "index", texts["index"] + _toctree([f"/{section.name}" for section in sections]))
    texts |= write_pages(folder)
    (folder / FILES).mkdir()
    for picture in linker.pictures:
        shutil.copy(picture, folder / FILES)
    return texts


def _read(page: Page) -> str:
    text = page.source.read_text("utf-8")
    if text.startswith("---\n"):  # what a model hub reads
        text = text.split("\n---\n", 1)[1].lstrip()
    if not page.source.is_relative_to(DOCS):  # the title of a README says nothing beside others
        text = re.sub(r"\A# .*", f"# {page.title}", text)
    return fill_marks(text)


def _write(folder: Path, name: str, text: str) -> None:
    path = folder / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _section_page(section: Section) -> str:
    entries = "".join(f"- [{page.title}]({page.name}.md): {page.about}\n" for page in section.pages)
    names = [f"{page.title} </{page.name}>" for page in section.pages]
    return f"# {section.title}\n\n{entries}{_toctree(names)}"


def _toctree(names: Sequence[str]) -> str:
    """What Sphinx makes the navigation of; addresses count from the top."""
    if not names:
        return ""
    return "\n\n" + "\n".join(["```{toctree}", ":hidden:", "", *names, "```"]) + "\n"


def main() -> int:
    """The exit status of Sphinx, which a single warning makes an error."""
    sections = read_nav()
    texts = gather(sections, WORK / "source")
    shutil.rmtree(SITE, ignore_errors=True)
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--conf-dir", "scripts/docs", "-d", WORK / "doctrees"]
    command = [sys.executable, "-m", "sphinx", *options, WORK / "source", SITE]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status == 0:
        write_llms(sections, texts, SITE)
        print(f"{SITE / 'index.html'}")
    return status
