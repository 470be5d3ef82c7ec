"""The pages of the documentation, as docs/README.md lists them, the listings, and the code they show."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from scripts.docs.nav import DOCS, ROOT, all_pages, read_nav

FENCE = re.compile(r"^( *)```([\w-]*)[^\n]*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
PYTHON = ("python", "py")
SOURCES = [*(page.source for page in all_pages(read_nav())), *sorted(DOCS.glob("listings/*.md"))]
PAGES = {source.relative_to(ROOT).as_posix(): source for source in SOURCES}
"""By their paths in the repository. A listing may be for another site alone, and its programs are run all the same."""


def fences(page: Path) -> list[tuple[str, str]]:
    """Language and content of each block of code."""
    return [(language, content) for _, language, content in FENCE.findall(page.read_text("utf-8"))]


def programs(page: Path) -> list[str]:
    """The blocks of Python."""
    return [content for language, content in fences(page) if language in PYTHON]


def command_lines(page: Path) -> Iterator[list[str]]:
    """The words of each line that a shell would take, of blocks that are no other language; comments are left out."""
    for language, content in fences(page):
        if language in ("", "sh", "bash", "console"):
            for line in content.replace("\\\n", " ").splitlines():
                words = split(line.removeprefix("$ "))
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words:
                    yield words


def split(line: str) -> list[str]:
    """The words of a line; none where it is no command, as of what a command prints."""
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return []
