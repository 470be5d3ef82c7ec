"""The lines `pip install ...` of all pages, as they work today: `python scripts/install_lines.py` writes them.

While nothing is on a package index they install from a checkout. At the first release set PUBLISHED and run this: that
is the one change. `--check` changes nothing, and says which pages would change; `--published` takes PUBLISHED for True.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

PUBLISHED = False
ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/jinaclip/jinaclip"
PATHS = {
    "jinaclip": "./shared",
    "langchain-jinaclip": "./packages/langchain_jinaclip",
    "llamaindex-jinaclip": "./packages/llamaindex_jinaclip",
    "haystack-jinaclip": "./packages/haystack_jinaclip",
    "llama-index-embeddings-jinaclip": "./packages/llama_index_embeddings_jinaclip",
}
"""The five distributions, and where a checkout has them."""
NEEDS = {name: ("jinaclip",) for name in PATHS if name != "jinaclip"} | {
    "llama-index-embeddings-jinaclip": ("jinaclip", "llamaindex-jinaclip"),
}
"""Which of our own each one needs: pip must be given their folders, too."""
PAGES = ["*.md", "docs/**/*.md", "shared/README.md", "packages/*/README.md", "examples/**/*.py", "examples/**/*.ipynb"]
RECORDS = {"CHANGELOG.md", "decisions", "listings"}
"""Names of files and folders that say how things were, or how they will be once everything is published."""
ARGUMENT = r"""\\?"[^"\\\n]+\\?"|'[^'\n]+'|[\w./\[\],<>=~!-]+"""
COMMAND = re.compile(rf"(?<=pip install)(?: +(?:{ARGUMENT}))+")
NOTE = re.compile(r"(?<=<!-- installation -->\n).*?(?=<!-- /installation -->)", re.DOTALL)
NOTES = {
    False: f"Nothing is on a package index yet: run this in a checkout of [the repository]({REPOSITORY}).\n",
    True: "From PyPI:\n",
}


def pages() -> Iterator[Path]:
    """All pages with such lines."""
    for pattern in PAGES:
        for path in sorted(ROOT.glob(pattern)):
            if not RECORDS & {*path.relative_to(ROOT).parts}:
                yield path


def rewrite(text: str, *, published: bool) -> str:
    """A page with its commands and notes on installation in the form of today, or of after the release."""
    text = NOTE.sub(NOTES[published], text)
    return COMMAND.sub(lambda found: rewrite_command(found[0], published=published), text)


def rewrite_command(arguments: str, *, published: bool) -> str:
    """The arguments of `pip install` with our distributions by name, or by folder and with those that they need."""
    tokens = re.findall(ARGUMENT, arguments)
    own = {name: token for token in tokens if (name := name_of(token))}
    needed = {need for name in own for need in NEEDS.get(name, ())}
    if published:
        kept = [token for token in tokens if name_of(token) not in needed or "[" in token]
    else:
        kept = [*(PATHS[name] for name in PATHS if name in needed - own.keys()), *tokens]
    return "".join(f" {replace(token, published=published)}" for token in kept)


def name_of(token: str) -> str | None:
    """The distribution that an argument installs, if it is one of ours."""
    bare = token.strip("\\\"'").partition("[")[0]
    return next((name for name, path in PATHS.items() if bare in (name, path)), None)


def replace(token: str, *, published: bool) -> str:
    """An argument with the name for the folder, or the folder for the name; quotes and extras stay."""
    name = name_of(token)
    if name is None:
        return token
    old, new = (PATHS[name], name) if published else (name, PATHS[name])
    return token if new in token else token.replace(old, new)


def main(arguments: list[str] | None = None) -> int:
    """1 if pages differ and `--check` was given, else 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing")
    parser.add_argument("--published", action="store_true", default=PUBLISHED, help="as after the release")
    options = parser.parse_args(arguments)
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (new := rewrite(text, published=options.published)) != text:
            stale.append(page)
            if not options.check:
                page.write_text(new, encoding="utf-8")
    print(*(f"{'differs' if options.check else 'rewritten'}: {page.relative_to(ROOT)}" for page in stale), sep="\n")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
