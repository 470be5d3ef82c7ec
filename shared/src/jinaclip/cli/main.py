"""The command line: `python -m jinaclip evaluate`."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from jinaclip.clip import JinaClip
from jinaclip.config import EmbedderConfig
from jinaclip.errors import JinaClipError
from jinaclip.evaluation import evaluate

UNSPOKEN = ("api_key", "image_policy")
"""Options that a command line does not take: others can read it, and a policy is no word."""
NO_KEY = "keys are not taken from the command line, which others can read; set JINA_API_KEY in the environment"
KEY = re.compile(r"jina_\w{20,}")
KEY_OPTION = re.compile(r"(?:^|\s)--?[\w-]*key", re.IGNORECASE)
VECTORS = "vectors.sqlite"
INTERRUPTED = 130
"""What shells expect of a command that Ctrl-C ended."""
ABOUT = "Measures how well a model retrieves on your own data, and says which search and which width to use there."
FORMATS = """\
items: for each a line of JSON, or a row of Parquet; pictures are looked for beside the file
  {"id": 1, "text": "a midi dress with stripes", "image": "pictures/1.jpg",
   "categories": {"broad": "dress", "fine": "striped midi dress"},
   "attributes": {"colour": "red"}}
queries: what is of the same category is right
  {"text": "striped midi dress",
   "categories": {"broad": "dress", "fine": "striped midi dress"}}

The hosted API takes its key from JINA_API_KEY in the environment. With --out the vectors
are kept in that folder: what Ctrl-C interrupted goes on when it is run again, and other
options of evaluate are tried at no cost."""
MEANINGS = {
    "model": "jina-clip-v1 or -v2; with --backend local also a folder or a hub id",
    "backend": "the hosted API, or the weights on this machine",
    "dimensions": "width of the vectors",
    "normalized": "vectors at length 1; changes nothing here",
    "truncate": "cut texts over 8192 tokens instead of refusing them",
    "batch_size": "most items in one request or pass",
    "max_concurrency": "most requests in flight",
    "max_retries": "for each request",
    "timeout": "seconds for each attempt",
    "base_url": "host, prefix or full endpoint",
    "requests_per_minute": "of your tier, if you know it",
    "tokens_per_minute": "of your tier, if you know it",
    "token_budget": "tokens that may be spent; what would exceed them is not sent",
    "device": "cpu, cuda or mps",
    "dtype": "float32, bfloat16 or float16",
    "revision": "of the model at the hub",
    "image_resize": "how pictures come to the model's size",
    "image_quality": "1 to 100 sends JPEG; lossless if not given",
    "url_mode": "who downloads image addresses: this machine, or the service",
    "show_progress": "bars; drawn on a terminal if not given",
}


class Parser(argparse.ArgumentParser):
    """Never repeats a key that somebody put where it does not belong."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with a message."""
        super().error(NO_KEY if KEY.search(message) or KEY_OPTION.search(message) else message)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    given = vars(parser().parse_args(arguments))
    command = given.pop("command")
    try:
        with said():
            command(**given)
    except BrokenPipeError:  # whoever reads has seen enough; what Python flushes at the end goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (JinaClipError, OSError, sqlite3.Error) as error:
        print(f"error: {KEY.sub('jina_***', str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = f"run it again to go on from {Path(given['out']) / VECTORS}" if given["out"] else "nothing was kept"
        print(f"interrupted; {kept}", file=sys.stderr)
        return INTERRUPTED
    return 0


@contextmanager
def said() -> Iterator[None]:
    """Shows on standard error what the package has to say."""
    logger, handler = logging.getLogger("jinaclip"), logging.StreamHandler()
    level, logger.level = logger.level, logging.INFO
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def parser() -> argparse.ArgumentParser:
    """Commands and their options; those of JinaClip have its names and defaults."""
    whole = Parser(prog="python -m jinaclip", description="Text and image embeddings with jina-clip.")
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    own = commands.add_parser(
        "evaluate",
        help=ABOUT,
        description=ABOUT,
        epilog=FORMATS,
        usage="%(prog)s ITEMS QUERIES [--out FOLDER] [--model NAME] [--backend {api,local}] [options]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    own.set_defaults(command=run_evaluate)
    own.add_argument("items", metavar="ITEMS", help=".jsonl or .parquet: id, text, image, categories, attributes")
    own.add_argument("queries", metavar="QUERIES", help=".jsonl or .parquet: text, categories")
    own.add_argument("--out", metavar="FOLDER", help="for evaluation.md, tables as CSV, matryoshka.png and the vectors")
    own.add_argument("--weight", metavar="X", type=float, default=0.5, help="share of the text in the average (0.5)")
    own.add_argument("--pool", metavar="N", type=int, default=50, help="results that diversify chooses from (50)")
    own.add_argument("--clusters", metavar="N", type=int, default=5, help="kinds of pictures it tells apart (5)")
    own.add_argument("--resamples", metavar="N", type=int, default=1000, help="of the bootstrap (1000)")
    own.add_argument("--seed", metavar="N", type=int, default=0, help="of the bootstrap and of diversify (0)")
    add_embedder_options(own.add_argument_group("options of JinaClip"))
    return whole


def add_embedder_options(group: Any) -> None:
    """Every option of JinaClip that is a word or a number."""
    hints = get_type_hints(EmbedderConfig)
    for field in fields(EmbedderConfig):
        if field.name not in UNSPOKEN:
            told = field.default is not None and not isinstance(field.default, bool)
            text = MEANINGS[field.name] + (f" ({field.default})" if told else "")
            name = f"--{field.name.replace('_', '-')}"
            group.add_argument(name, default=argparse.SUPPRESS, help=text, **taken(hints[field.name]))


def taken(hint: Any) -> dict[str, Any]:
    """How argparse reads a value of this type."""
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    kinds = get_args(hint) or (hint,)
    if bool in kinds:
        return {"action": argparse.BooleanOptionalAction}
    kind = next((kind for kind in (int, float) if kind in kinds), str)
    return {"type": kind, "metavar": {int: "N", float: "X", str: "NAME"}[kind]}


def run_evaluate(items: str, queries: str, out: str | None, **given: Any) -> None:
    """Evaluates, writes the tables where asked, and prints them: even where they cannot be written, or nobody reads."""
    known = {field.name for field in fields(EmbedderConfig)}
    options = {"show_progress": sys.stderr.isatty(), **{name: x for name, x in given.items() if name in known}}
    rest = {name: value for name, value in given.items() if name not in known}
    with JinaClip(**options) as clip:
        found = evaluate(clip, items, queries, cache=Path(out) / VECTORS if out else None, **rest)
    try:
        for path in found.write(out) if out else []:
            print(f"wrote {path}", file=sys.stderr)
    finally:
        print(found.markdown(), flush=True)
