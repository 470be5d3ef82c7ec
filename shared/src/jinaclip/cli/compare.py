"""`jinaclip compare`: whether two sources of vectors are one space."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinaclip.cli.options import add_options, split_options
from jinaclip.cli.sources import read_source

ABOUT = "Says whether two sources of vectors are one space: the API and local weights, say, or old weights and new."
ONE_SPACE, TWO_SPACES, NOT_KNOWN = 0, 1, 2
WORDS = """\
A and B, each one of:
  api                                the hosted API
  local                              the published weights on this machine
  models/mine                        a folder of weights, or of jinaclip export
  http://host:8000                   a server
  local,device=cpu,dtype=bfloat16    options of JinaClip behind such a word
  model=org/name,backend=local       or options alone
  old.toml                           a file of options (or .json), which may hold a key
Options of JinaClip after the command count for both, unless a source says otherwise.

FILES: images and folders of them; .jsonl and .parquet with text, image or both in each
row; any other file is a text on each line. FILES stand before options. Without files a
small sample of the package.

Exit status: 0 one space, 1 two spaces, 2 not known: wrong arguments, or a source that
did not answer. No cache is read."""


class Described:
    """A source as it was described, and the options that it stands for."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.options = read_source(words)


def read_described(words: str) -> Described:
    """For `argparse`, whose messages call a type by its name."""
    return Described(words)


def add_command(commands: Any) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "compare",
        help=ABOUT,
        description=ABOUT,
        epilog=WORDS,
        usage="%(prog)s A B [FILES] [--limit N] [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run, failed=NOT_KNOWN)
    add = parser.add_argument
    add("a", metavar="A", type=read_described, help="one source of vectors; see below")
    add("b", metavar="B", type=read_described, help="the other")
    add("files", metavar="FILES", nargs="*", default=[], type=Path, help="texts and images of your own")
    add("--limit", metavar="N", type=int, default=100, help="most texts, and most images (100)")
    add_options(parser, left_out=("cache",))


def run(a: Described, b: Described, files: list[Path], limit: int, **options: Any) -> int:
    """Compares, prints what came of it, and says by the exit code whether it is one space."""
    from jinaclip.compare import Verdict, compare, read_sample

    sample = read_sample(files, limit=limit)
    shared = split_options(options)[0]
    ours, theirs = (make_clip(one, shared) for one in (a, b))
    comparison = compare(ours, theirs, sample, descriptions=(a.words, b.words), close=True)
    print(comparison, flush=True)
    codes = {Verdict.DIFFERENT: TWO_SPACES, Verdict.UNKNOWN: NOT_KNOWN}
    return codes.get(comparison.verdict, ONE_SPACE)


def make_clip(source: Described, shared: Mapping[str, Any]) -> Any:
    """A source, with the options that count for both where it has none of its own.

    Raises:
        ConfigError: an option is wrong; the message begins with the source.
    """
    from jinaclip.clip import JinaClip
    from jinaclip.errors import ConfigError

    try:
        return JinaClip(**{**shared, **source.options, "cache": False})
    except ConfigError as error:
        raise ConfigError(f"{source.words}: {error}") from None
