"""Links of pages: written for the forge, relative to the file, and turned here into links of the site."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

from scripts.docs.nav import ROOT

FENCE = re.compile(r"^( *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FILES = "_files"
"""The folder of the site with the pictures of pages."""


class BrokenLinkError(ValueError):
    """A link that leads to no file."""


def find_repository() -> str | None:
    """The address of the repository at its forge, or None while `[project.urls]` of the core does not name it."""
    project = tomllib.loads((ROOT / "shared" / "pyproject.toml").read_text("utf-8"))["project"]
    urls = {name.lower(): url for name, url in project.get("urls", {}).items()}
    return next((urls[name].rstrip("/") for name in ("repository", "source", "homepage") if name in urls), None)


class Linker:
    """Rewrites the links of one page after another."""

    def __init__(self, names: Mapping[Path, str], repository: str | None) -> None:
        self.names, self.repository = names, repository
        self.pictures: set[Path] = set()
        """What pages show, to be copied into the folder `FILES`."""

    def rewrite(self, text: str, source: Path, name: str) -> str:
        """A page with links that work in the site.

        Raises:
            BrokenLinkError: a link leads to no file of the repository.
        """

        def replace(link: re.Match[str]) -> str:
            return self._replace(link, source, name)

        parts = FENCE.split(text)
        return "".join(part if place % 2 else LINK.sub(replace, part) for place, part in enumerate(parts))

    def _replace(self, link: re.Match[str], source: Path, name: str) -> str:
        picture, text, target = link.groups()
        address, _, anchor = self._relative(target, source).partition("#")
        if not address or re.match(r"\w+:", address):
            return link[0]
        path = (source.parent / address).resolve()
        if not path.exists() or not path.is_relative_to(ROOT):
            raise BrokenLinkError(f"{source.relative_to(ROOT)}: {target} is not there")
        if path in self.names:
            return f"[{text}]({between(name, self.names[path] + '.md')}{'#' if anchor else ''}{anchor})"
        if picture:
            self.pictures.add(path)
            return f"![{text}]({between(name, f'{FILES}/{path.name}')})"
        return self._outside(text, path.relative_to(ROOT).as_posix())

    def _relative(self, target: str, source: Path) -> str:
        """Addresses of our own files at the forge, which READMEs on an index need, as relative ones."""
        for kind in ("blob", "tree"):
            start = f"{self.repository}/{kind}/main/"
            if target.startswith(start):
                return os.path.relpath(ROOT / target.removeprefix(start), source.parent)
        return target

    def _outside(self, text: str, path: str) -> str:
        if self.repository:
            return f"[{text}]({self.repository}/blob/main/{path})"
        return f"`{path}`" if text.strip("`") in path else f"{text} (`{path}`)"


def between(name: str, other: str) -> str:
    """The relative address of another page or file."""
    return os.path.relpath(other, Path(name).parent)
